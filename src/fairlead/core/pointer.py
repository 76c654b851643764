# SPDX-License-Identifier: Apache-2.0
"""JSON Pointers (RFC 6901): how a fault or a configuration names a value inside a document."""

from __future__ import annotations

import re
from typing import Any

Steps = tuple[str, ...]

_BAD_ESCAPE = re.compile(r"~(?![01])")
_INDEX = re.compile(r"0|[1-9][0-9]*")


def pointer_to(name: str) -> str:
    """The pointer to a member of a document; after another pointer, to a member of what that leads to."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def parse_pointer(text: str) -> Steps:
    """The member names and indexes that a pointer steps through.

    Raises:
        ValueError: not a pointer to something inside a document; the message says what one looks like.
    """
    if not text.startswith("/") or _BAD_ESCAPE.search(text):
        raise ValueError('must be a JSON Pointer such as "/instance/id"; in a name ~ is ~0 and / is ~1')
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in text[1:].split("/"))


def value_at(document: Any, steps: Steps) -> Any:
    """The value that a pointer leads to; None where it leads to nothing, or to null."""
    value = document
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and _INDEX.fullmatch(step) and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value
