# SPDX-License-Identifier: Apache-2.0
"""What CloudEvents 1.0 asks of context attributes: names, types and syntax.

See "Context Attributes" and "Type System" in the specification.

`check_attributes` is on the path of every event: each attribute is first tried against one cheap, sufficient
test, and only what fails it is looked at closely.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import cast
from unicodedata import category

import msgspec

from fairlead.core.pointer import pointer_to
from fairlead.errors import Fault, InvalidEvent

AttributeValue = str | int | bool

REQUIRED = ("id", "source", "specversion", "type")
OPTIONAL = ("subject", "time", "datacontenttype", "dataschema")
OURS = frozenset(
    f"fl{name}"
    for name in ("subscription", "partition", "generation", "epoch", "seq", "pos", "prev", "floor", "skipped")
)
"""The attributes that the relay puts on a delivery (design, section 6)."""

_REQUIRED = frozenset(REQUIRED)

_PLAIN = r"A-Za-z0-9\-._~!$&'()*+,;="
_PCHAR = rf"(?:[{_PLAIN}:@/]++|%[0-9A-Fa-f]{{2}})"
_IP_LITERAL = rf"\[(?:[0-9A-Fa-f:.]+|[vV][0-9A-Fa-f]+\.[{_PLAIN}:]+)\]"
_HOST = rf"(?:{_IP_LITERAL}|(?:[{_PLAIN}]|%[0-9A-Fa-f]{{2}})*+)"
_USER = rf"(?:(?:[{_PLAIN}:]|%[0-9A-Fa-f]{{2}})*+@)?"
_AUTHORITY = rf"//{_USER}{_HOST}(?::[0-9]*+)?(?:/{_PCHAR}*+)?"
_TAIL = rf"(?:\?(?:{_PCHAR}|\?)*+)?(?:\#(?:{_PCHAR}|\?)*+)?"
_URI_TEXT = rf"[A-Za-z][A-Za-z0-9+\-.]*+:(?:{_AUTHORITY}|(?!//){_PCHAR}*+){_TAIL}"
_RELATIVE_TEXT = rf"(?:{_AUTHORITY}|(?!//|[^/?\#:]*+:){_PCHAR}*+){_TAIL}"
_TOKEN = r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+"  # noqa: S105 - RFC 9110's word for it


def _remembered(matches: Callable[[str], re.Match[str] | None]) -> Callable[[str], re.Match[str] | None]:
    """The same answers, kept for short values: sources and media types come again with every event."""
    kept = lru_cache(maxsize=1024)(matches)
    return lambda value: kept(value) if len(value) <= 256 else matches(value)


_is_name = re.compile(r"[a-z0-9]+").fullmatch
_is_uri = re.compile(_URI_TEXT).fullmatch
_is_uri_reference = _remembered(re.compile(rf"(?!\Z)(?:{_RELATIVE_TEXT}|{_URI_TEXT})").fullmatch)
_is_media_type = _remembered(
    re.compile(
        rf'{_TOKEN}/{_TOKEN}(?:[ \t]*;(?:[ \t]*{_TOKEN}=(?:{_TOKEN}|"(?:[ !#-\[\]-~]|\\[ -~])*+"))?)*[ \t]*'
    ).fullmatch
)
_DATE = (
    r"(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    r"|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    r"|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
)
_is_time = re.compile(
    rf"{_DATE}[Tt](?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
    r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
).fullmatch
_JSON_TYPE = re.compile(r"[^/;]+/(?:[^;]*\+)?json[ \t]*(?:;|\Z)", re.IGNORECASE).match


def check_attributes(attributes: Mapping[str, object]) -> None:
    """Check every context attribute of one event; `specversion` must be among them.

    Raises:
        InvalidEvent: with one fault per attribute that CloudEvents 1.0 refuses, missing ones last.
    """
    hoped = cast("Mapping[str, str]", attributes)
    try:
        # Whatever is printable holds no control character, surrogate or noncharacter.
        plain = "".join(hoped.values()).isprintable()
    except TypeError:
        plain = False
    found = []
    for name, value in hoped.items():
        if plain:
            syntax = _SYNTAX.get(name)
            if syntax(value) if syntax is not None else name in OURS or (_is_name(name) and name != "data"):
                continue
        problem = _look_closely(name, value)
        if problem is not None:
            found.append((name, value, *problem))
    missing = [] if attributes.keys() >= _REQUIRED else [name for name in REQUIRED if name not in attributes]
    if found or missing:
        raise _invalid(found, missing)


def is_json_type(content_type: str | None) -> bool:
    """Whether a media type declares JSON: `*/json`, `*/*+json`, or none at all (JSON format, 3.1.1)."""
    return content_type is None or _JSON_TYPE(content_type) is not None


def canonical(value: AttributeValue) -> str:
    """The canonical string of an attribute's value (CloudEvents 1.0, "Type System")."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def shown(value: object) -> str:
    """A value as JSON for a message, cut to 60 characters."""
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError):
        text = repr(type(value).__name__) if not isinstance(value, str) else ascii(value)
    return text if len(text) <= 60 else text[:59] + "…"


_SYNTAX: dict[str, Callable[[str], object]] = {
    "specversion": "1.0".__eq__,
    "id": len,
    "source": _is_uri_reference,
    "type": len,
    "subject": len,
    "time": _is_time,
    "datacontenttype": _is_media_type,
    "dataschema": _is_uri,  # a fragment too: schemas are named by one, and section 4.3 alone would forbid it
    "partitionkey": len,
}
"""The attributes with a syntax of their own, all Strings; each answers truly for a value that has it."""

_EXPECTED = {
    "specversion": ('must be "1.0"', "set specversion to 1.0"),
    "source": (
        "must be a URI-reference (RFC 3986)",
        "percent-encode what a URI may not hold: a space is %20",
    ),
    "time": ("must be an RFC 3339 time", "write it like 2026-11-22T10:00:00Z"),
    "datacontenttype": ("must be a media type (RFC 2046)", "write it like application/json"),
    "dataschema": ("must be an absolute URI (RFC 3986)", "begin it with its scheme, like https://"),
}


def _look_closely(name: str, value: object) -> tuple[str, str | None] | None:
    """What is wrong with one attribute and what to do about it; None if it is right after all."""
    if name == "data" or not _is_name(name):
        return _wrong_name(name)
    if not isinstance(value, str):
        return _wrong_type(name, value)
    syntax = _SYNTAX.get(name)
    if not value and syntax is not None:
        return "must not be empty", None if name in REQUIRED else f"leave {name} out instead"
    for character in value:
        if not character.isprintable() and _forbidden(character):
            hint = "leave out control characters, lone surrogates and noncharacters"
            return f"must not hold U+{ord(character):04X}", hint
    return None if syntax is None or syntax(value) else _EXPECTED[name]


def _wrong_name(name: str) -> tuple[str, str | None]:
    lower = re.sub(r"[^a-z0-9]", "", name.lower())
    hint = f"call it {lower}" if lower and lower not in ("data", name) else None
    if name == "data":
        return "must not be the name of an attribute", hint
    return "is no attribute name: only the letters a to z and the digits 0 to 9 are", hint


def _wrong_type(name: str, value: object) -> tuple[str, str | None] | None:
    if name in _SYNTAX:
        numeral = isinstance(value, bool | int | float)
        return "must be a string", f'write it as "{shown(value)}"' if numeral else None
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        hint = "write a number that large as a string"
        return None if -(2**31) <= value < 2**31 else ("must be an integer of 32 bits", hint)
    if isinstance(value, float):
        return "must be a whole number without fraction and exponent", f'write it as "{shown(value)}"'
    return "must be a string, an integer or a boolean", "put structured values into data"


def _forbidden(character: str) -> bool:
    """Whether the type system refuses it in a String: control characters, surrogates, noncharacters."""
    code = ord(character)
    return category(character) in ("Cc", "Cs") or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def _invalid(found: Sequence[tuple[str, object, str, str | None]], missing: list[str]) -> InvalidEvent:
    faults = [Fault(pointer=pointer_to(name), detail=what, hint=hint) for name, _, what, hint in found]
    faults += [
        Fault(pointer=pointer_to(name), detail="is missing", hint=f"every event needs {', '.join(REQUIRED)}")
        for name in missing
    ]
    if not found:
        return InvalidEvent(f"{missing[0]} is missing", faults=faults)
    name, value, what, _ = found[0]
    if name == "specversion" and isinstance(value, str):
        return InvalidEvent(f"specversion is {shown(value)}; this relay speaks 1.0", faults=faults)
    return InvalidEvent(f"{shown(name)[1:-1]} is {shown(value)}; it {what}", faults=faults)
