# SPDX-License-Identifier: Apache-2.0
"""Pages of lists, and the opaque cursors between them (interface, section 1)."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from fairlead.errors import Fault, InvalidQuery

Item = TypeVar("Item")
Shape = TypeVar("Shape")
Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A number in a cursor: one that a store can hold, whoever wrote the cursor."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page: its items, the cursor of the page after it (None: there is none), and further members."""

    items: list[Item]
    next: str | None = None
    members: dict[str, Any] = field(default_factory=dict)


def to_cursor(place: object) -> str:
    """A place in a list as an opaque text."""
    return urlsafe_b64encode(msgspec.json.encode(place)).rstrip(b"=").decode()


def from_cursor(cursor: str | None, shape: type[Shape]) -> Shape | None:
    """The place that `to_cursor` made a text of; None for None.

    Raises:
        InvalidQuery: no list gave this cursor.
    """
    if cursor is None:
        return None
    try:
        return msgspec.json.decode(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=shape)
    except ValueError as error:
        hint = "pass `next` of the page before, or leave it out"
        fault = Fault(detail="is not a cursor of this list", query="after", hint=hint)
        raise InvalidQuery("after is not a cursor of this list", faults=[fault]) from error
