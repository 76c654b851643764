# SPDX-License-Identifier: Apache-2.0
"""JSON as the text that came: taken apart without being read, bounded, and refused where it is ambiguous.

Values that are passed on are never parsed: no number, member or spelling of theirs changes.
"""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from itertools import accumulate, count
from operator import sub
from typing import Any

import msgspec

from fairlead.core.attributes import shown
from fairlead.core.pointer import pointer_to
from fairlead.errors import Fault, InvalidEvent, MalformedJson

MAX_LEVELS = 128

_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_read = msgspec.json.Decoder().decode
_read_text = msgspec.json.Decoder(str).decode
_split_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_split_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_strings = re.compile(rb'"(?:[^"\\]|\\.)*+"')
_open_and_close = bytes.maketrans(b"[]{}", b"\2\0\2\0")
_not_brackets = bytes(set(range(256)) - set(b"[]{}"))
_lone_surrogate = re.compile(
    rb"\\u(?:[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..\\u)[dD][c-fC-F])"
)


class _Name(str):
    """A member's name that equals only itself, so that a second member of that name is not lost."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


_split_all = msgspec.json.Decoder(dict[_Name, msgspec.Raw], dec_hook=lambda _, name: _Name(name)).decode


def check_utf8(text: bytes) -> None:
    """Refuse what is not UTF-8. Raises MalformedJson."""
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError as error:
            raise MalformedJson(
                f"the body is not UTF-8: byte {error.start} is 0x{text[error.start]:02x}",
                faults=[Fault(pointer="", detail="must be UTF-8", hint="encode the JSON text as UTF-8")],
            ) from error


def members(text: bytes) -> dict[str, msgspec.Raw]:
    """The members of one JSON object, each with its value's text, of one name the last.

    The caller has checked the UTF-8, and calls `refuse_repetition` unless it knows that there is none.

    Raises:
        MalformedJson: not JSON.
        InvalidEvent: another value than an object.
    """
    try:
        return _split_object(text)
    except msgspec.ValidationError as error:
        _refuse_broken(text)
        raise InvalidEvent(
            "an event is a JSON object",
            faults=[Fault(pointer="", detail="must be an object", hint="send one event as {…}")],
        ) from error
    except _ERRORS as error:
        raise malformed(text, error) from error


def refuse_repetition(text: bytes, different: int) -> None:
    """Refuse an object, `members` of which found so many `different` names, if it has more members than that.

    Raises:
        InvalidEvent: with one fault for each name that stands there more than once.
    """
    every = [str(name) for name in _split_all(text)]
    if len(every) == different:
        return
    twice = sorted({name for name in every if every.count(name) > 1})
    what, hint = "stands there more than once", "give each member once"
    raise InvalidEvent(
        f"{shown(twice[0])} {what}",
        faults=[Fault(pointer=pointer_to(name), detail=what, hint=hint) for name in twice],
    )


def items(text: bytes) -> list[msgspec.Raw]:
    """The texts of a JSON array's items; the caller has checked the UTF-8.

    Raises:
        MalformedJson: not JSON.
        InvalidEvent: another value than an array.
    """
    try:
        return _split_array(text)
    except msgspec.ValidationError as error:
        _refuse_broken(text)
        raise InvalidEvent(
            "a batch is a JSON array of events",
            faults=[Fault(pointer="", detail="must be an array", hint="send [{…},{…}], or one event alone")],
        ) from error
    except _ERRORS as error:
        raise malformed(text, error) from error


def read_string(text: bytes | msgspec.Raw) -> str | None:
    """The string that a text is, or None where it is another value."""
    try:
        return _read_text(text)
    except _ERRORS:
        return None


def value_of(text: bytes) -> Any:
    """Any value as Python's; numbers beyond a float's or int's range come as `decimal.Decimal`."""
    try:
        return _read(text)
    except msgspec.ValidationError:
        return json.loads(text, parse_float=_number, parse_int=_number)


def check_value(text: bytes, where: str = "/data") -> None:
    """Check that a whole text is one JSON value in UTF-8 of at most 128 levels.

    Raises:
        MalformedJson: it is not; `where` is the fault's pointer.
    """
    check_utf8(text)
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except _ERRORS as error:
        raise malformed(text, error, where) from error
    check_levels(text, where)


def _refuse_broken(text: bytes) -> None:
    """Refuse what is not JSON, which the first byte of a text does not say. Raises MalformedJson."""
    with suppress(RecursionError):
        try:
            msgspec.json.decode(text, type=msgspec.Raw)
        except msgspec.DecodeError as error:
            raise malformed(text, error) from error


def check_levels(text: bytes, where: str = "/data") -> None:
    """Refuse JSON nested beyond 128 levels. Raises MalformedJson with `where` as the fault's pointer."""
    if len(text) > 2 * MAX_LEVELS and text.count(b"[") + text.count(b"{") > MAX_LEVELS and _too_deep(text):
        raise _nested(where)


def same_value(one: bytes, other: bytes) -> bool:
    """Whether two JSON texts hold the same value: numbers compare exactly, true is not 1."""
    return _equal(*(json.loads(text, parse_float=_exact, parse_int=_exact) for text in (one, other)))


def malformed(text: bytes, error: Exception, where: str = "") -> MalformedJson:
    """The problem of a text that is no JSON, with the place of the first thing wrong."""
    if isinstance(error, RecursionError):
        return _nested(where)
    hint = None
    detail = str(error).removeprefix("JSON is malformed: ")
    if text.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        detail, hint = "begins with a byte-order mark", "send UTF-8 without a byte-order mark"
    elif _lone_surrogate.search(text):
        detail, hint = r"a \u escape is half of a surrogate pair", "write the other half too"
    elif not text.strip():
        detail = "is empty"
    elif detail == "Input data was truncated":
        detail = "ends in the middle"
    elif re.search(rb"[:\[,]\s*(?:NaN|-?Infinity)\b", text):
        detail, hint = f"NaN and Infinity are not JSON: {detail}", "send null, or a string"
    fault = Fault(pointer=where, detail=detail, hint=hint)
    return MalformedJson(f"the body is not JSON: {detail}", faults=[fault])


def _nested(where: str) -> MalformedJson:
    detail = f"is nested deeper than {MAX_LEVELS} levels"
    hint = "flatten it, or send it as data_base64"
    return MalformedJson(f"the JSON {detail}", faults=[Fault(pointer=where, detail=detail, hint=hint)])


def _too_deep(text: bytes) -> bool:
    """Whether brackets stand more than 128 deep: an opening one counts 2, each one 1 less."""
    brackets = _strings.sub(b"", text).translate(_open_and_close, _not_brackets)
    return bool(brackets) and max(map(sub, accumulate(brackets), count(1))) > MAX_LEVELS


def _number(text: str) -> int | float | Decimal | str:
    try:
        number = int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:  # more digits than Python converts
        return _exact(text)
    return number if math.isfinite(number) else _exact(text)


def _exact(text: str) -> Decimal | str:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent of 19 digits: equal where it is spelt the same
        return text


def _equal(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)
