# SPDX-License-Identifier: Apache-2.0
"""Credentials in Imagefactory's callback URLs, which every body echoes: taken out before anything is kept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from fairlead.core.json_text import value_of
from fairlead.errors import Fault, InvalidEvent

MASK = "***@"
MOST_SECRETS = 64
"""How many a body's callback URLs may have: each is looked for in all of it, and everybody else waits."""

_encode = msgspec.json.Encoder(decimal_format="number").encode

_USER_INFORMATION = re.compile(
    r"(?<=://)([^/?#\s@]*(?:@[^/?#\s@]*)*)@|(?<=://)([^/:?#\s@\[]+:(?!\d+(?:[/?#]|\Z))\S*)@"
)
_AT_THE_CUT = re.compile(rb'(?<=://)[^/?#\s"@]+\Z|(?<=:\\/\\/)[^/?#\s"@]+\Z')
_IN_BYTES = re.compile(rb'(?<=://)[^/?#\s"@]*(?:@[^/?#\s"@]*)*@|(?<=:\\/\\/)[^/?#\s"@]*(?:@[^/?#\s"@]*)*@')


class TooManySecrets(InvalidEvent):
    """A body with so many credentials that they were not looked for: it must not be kept."""


def redact(body: bytes, document: Any) -> bytes:
    """A callback's JSON text, `user:password@` of every callback URL replaced by `***@` wherever it stands.

    Everything else stays as the bytes that came, unless a secret is spelt with escapes: then the text is
    written anew.

    Args:
        document: the body, decoded.

    Raises:
        TooManySecrets: its callback URLs have more than `MOST_SECRETS`.
    """
    secrets = {secret for url in _callbacks(document) for secret in credentials(url)}
    if not secrets:
        return body
    if len(secrets) > MOST_SECRETS:
        detail = f"has callback URLs with {len(secrets)} user informations; {MOST_SECRETS} are the most"
        raise TooManySecrets(f"the body {detail}", faults=[Fault(pointer="", detail=detail)])
    by_length = sorted(secrets, key=len, reverse=True)
    for secret in by_length:
        for spelling in {json.dumps(secret), json.dumps(secret, ensure_ascii=False)}:
            body = body.replace(f"{spelling[1:-1]}@".encode(), MASK.encode())
    left = value_of(body)
    every = "\n".join(_texts(left))
    if any(f"{secret}@" in every for secret in secrets):
        body = _encode(_without(left, by_length))
    return body


def redact_blindly(body: bytes, *, cut: bool = False) -> bytes:
    """A body that cannot be understood, without what looks like credentials in a URL.

    Args:
        cut: it is only the beginning of a body, and may end within them.
    """
    masked = _IN_BYTES.sub(MASK.encode(), body)
    return _AT_THE_CUT.sub(MASK.encode(), masked) if cut else masked


def credentials(url: str) -> list[str]:
    """The user information of a URL; also of one whose password has a slash, as people write them."""
    found = []
    for word in url.split():
        before, at, _ = word.rpartition("@")  # behind the last one no search would end before the word does
        found += [match[1] or match[2] for match in _USER_INFORMATION.finditer(before + at)]
    return [one for one in found if one and one != MASK[:-1]]


def _callbacks(value: Any, *, inside: bool = False) -> Iterator[str]:
    """Every string under a member `callbacks`, at any depth."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _callbacks(member, inside=inside or name == "callbacks")
    elif isinstance(value, list):
        for item in value:
            yield from _callbacks(item, inside=inside)
    elif inside and isinstance(value, str):
        yield value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from _texts(member)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _without(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, dict):
        return {_without(name, secrets): _without(member, secrets) for name, member in value.items()}
    if isinstance(value, list):
        return [_without(item, secrets) for item in value]
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(f"{secret}@", MASK)
    return value
