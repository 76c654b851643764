# SPDX-License-Identifier: Apache-2.0
"""Reading the members of a JSON object that a user wrote: every fault is noted, none raised.

A member that is absent, or null where null has no meaning of its own, has its default: clients in many
languages write null for "not set". A faulty one has its default too, so that reading goes on and all faults
are told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from fairlead.core.durations import MAX_DURATION_SECONDS, format_duration, nearest, parse_duration, parse_size
from fairlead.core.pointer import pointer_to
from fairlead.errors import Fault

T = TypeVar("T")


class Members:
    """The members of one object at `pointer` (RFC 6901); anything but an object is one fault, of no members.

    Args:
        faults: where faults are noted, in reading order; shared by the whole document.
        known: the members it may have; any other is a fault with the nearest known name.
        elsewhere: names that belong to another place, with the pointer of that place.
    """

    def __init__(
        self,
        document: object,
        pointer: str,
        faults: list[Fault],
        known: Iterable[str],
        *,
        elsewhere: Mapping[str, str] | None = None,
    ) -> None:
        self.pointer = pointer
        self.faults = faults
        self._values: Mapping[str, Any] = {}
        self._is_object = isinstance(document, dict)
        self._faulty: set[str] = set()
        if not isinstance(document, dict):
            faults.append(Fault(detail="must be an object", pointer=pointer))
            return
        self._values = document
        names = list(known)
        for name in document:
            if name not in names:
                self.fault(name, "is not a member here", _hint(name, names, elsewhere or {}))

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def given(self, name: str) -> bool:
        """Whether the member is there, be it null."""
        return name in self._values

    def raw(self, name: str) -> Any:
        """The member as it came, None where it is not."""
        return self._values.get(name)

    def names(self) -> list[str]:
        """The members that are there, in order."""
        return list(self._values)

    def at(self, name: str) -> str:
        """The pointer of a member."""
        return self.pointer + pointer_to(name)

    def fault(self, name: str, detail: str, hint: str | None = None) -> None:
        """Note that a member is wrong, once: what a fault brings along is none, and of no object none is."""
        if self._is_object and name not in self._faulty:
            self._faulty.add(name)
            self.faults.append(Fault(detail=detail, pointer=self.at(name), hint=hint))

    # -- values ----------------------------------------------------------------------------------------

    def text(self, name: str, default: str | None = None) -> str | None:
        """A string that is not empty and holds no control character."""
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            self.fault(name, "must be a string")
            return default
        if not value or any(ord(character) < 32 or ord(character) == 127 for character in value):
            self.fault(name, "must be a string that is not empty and holds no control characters")
            return default
        return value

    def required_text(self, name: str) -> str:
        """As `text`; "" and a fault where it is absent."""
        if name not in self:
            self.fault(name, "is missing")
        return self.text(name) or ""

    def choice(self, name: str, options: Sequence[str], default: str) -> str:
        """One of a few words, in their spelling."""
        value = self._values.get(name)
        if value is None:
            return default
        if value in options and isinstance(value, str):
            return value
        meant = nearest(value, options) if isinstance(value, str) else None
        words = " or ".join(f'"{option}"' for option in options)
        self.fault(name, f"must be {words}", f'did you mean "{meant}"?' if meant else None)
        return default

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._values.get(name)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        self.fault(name, "must be true or false")
        return default

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number within bounds."""
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.fault(name, f"must be a whole number from {least} to {most}")
            return default
        return value

    def number(self, name: str, default: float, least: float, most: float) -> float:
        """A number within bounds."""
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            self.fault(name, f"must be a number from {least:g} to {most:g}")
            return default
        return float(value)

    def duration(
        self, name: str, default: float, *, least: float = 0.0, most: float = MAX_DURATION_SECONDS
    ) -> float:
        """A duration such as `"15s"` within bounds, in seconds."""
        seconds = self._parsed(name, parse_duration, default)
        if not least <= seconds <= most:
            bounds = f'from "{format_duration(least)}" to "{format_duration(most)}"'
            self.fault(name, f"must be a duration {bounds}")
            return default
        return seconds

    def size(self, name: str, default: int, least: int, most: int) -> int:
        """A size such as `"1MiB"` within bounds, in bytes."""
        size_bytes = self._parsed(name, parse_size, default)
        if not least <= size_bytes <= most:
            self.fault(name, f"must be a size from {least} to {most} bytes")
            return default
        return size_bytes

    def array(self, name: str) -> list[Any]:
        """An array, empty where there is none; a tuple is one too, for what configuration has read."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, list | tuple):
            self.fault(name, "must be an array")
            return []
        return list(value or ())

    def nested(self, name: str, known: Iterable[str]) -> Members:
        """An object's own members; empty where there is none."""
        value = self._values.get(name)
        return Members({} if value is None else value, self.at(name), self.faults, known)

    def _parsed(self, name: str, parse: Callable[[str], T], default: T) -> T:
        value = self._values.get(name)
        if value is None:
            return default
        try:
            return parse(value if isinstance(value, str) else "")
        except ValueError as error:
            self.fault(name, str(error))
            return default


def _hint(name: str, known: Sequence[str], elsewhere: Mapping[str, str]) -> str:
    if name in elsewhere:
        return f"it belongs to {elsewhere[name]}"
    if not known:
        return "leave it out: there are none"
    meant = nearest(name, known)
    return f"did you mean {meant}?" if meant else f"there are {', '.join(known)}"
