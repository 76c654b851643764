# SPDX-License-Identifier: Apache-2.0
"""Query parameters: known ones only, each once, each of its kind; else `invalid-query` says which and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from fairlead.core.durations import nearest, parse_time
from fairlead.errors import Fault, InvalidQuery

Word = TypeVar("Word", bound=str)

MOST_ITEMS = 1000
_MOST_NUMBER = 2**63 - 1


class Query:
    """The parameters of one request.

    Args:
        raw: the query string as it came.
        known: the parameters that the call has.

    Raises:
        InvalidQuery: with every parameter that is unknown, given twice, or no percent-encoded UTF-8.
    """

    def __init__(self, raw: bytes, known: Sequence[str]) -> None:
        self._values: dict[str, str] = {}
        faults: list[Fault] = []
        for part in raw.split(b"&") if raw else ():
            if not part:
                continue
            name, _, value = part.partition(b"=")
            self._take(name, value, known, faults)
        if faults:
            raise InvalidQuery(f"query parameter {faults[0].query}: {faults[0].detail}", faults=faults)

    def _take(self, raw_name: bytes, raw_value: bytes, known: Sequence[str], faults: list[Fault]) -> None:
        name = unquote_to_bytes(raw_name.replace(b"+", b" ")).decode(errors="replace")
        try:
            value = unquote_to_bytes(raw_value.replace(b"+", b" ")).decode()
        except UnicodeDecodeError:
            faults.append(Fault(query=name, detail="is not percent-encoded UTF-8"))
            return
        if name not in known:
            meant = nearest(name, known)
            there = f"there are {', '.join(known)}" if known else "this call has none"
            faults.append(
                Fault(query=name, detail="is unknown", hint=f"did you mean {meant}?" if meant else there)
            )
        elif name in self._values:
            faults.append(Fault(query=name, detail="is given more than once"))
        else:
            self._values[name] = value

    def text(self, name: str) -> str | None:
        """The value as it is; None where it is not given."""
        return self._values.get(name)

    def integer(self, name: str, *, least: int = 0, most: int = _MOST_NUMBER) -> int | None:
        """A whole number within bounds."""
        value = self._values.get(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) < 20) or not least <= int(value) <= most:
            raise _wrong(name, value, f"must be a whole number from {least} to {most}")
        return int(value)

    def choice(self, name: str, options: Sequence[Word]) -> Word | None:
        """One of a few words."""
        value = self._values.get(name)
        for option in options:
            if value == option:
                return option
        if value is None:
            return None
        meant = nearest(value, options)
        hint = f"did you mean {meant}?" if meant else None
        raise _wrong(name, value, f"must be one of {', '.join(options)}", hint)

    def flag(self, name: str) -> bool:
        """`true` or `false`; false where it is not given."""
        return self.choice(name, ("true", "false")) == "true"

    def time(self, name: str) -> float | None:
        """An RFC 3339 time as Unix seconds; a `+` that was not percent-encoded is taken for one."""
        value = self._values.get(name)
        if value is None:
            return None
        try:
            return parse_time(value.replace(" ", "+"))
        except ValueError as error:
            raise _wrong(name, value, str(error)) from None

    @property
    def limit(self) -> int:
        """How many items a page has."""
        return self.integer("limit", least=1, most=MOST_ITEMS) or 100

    @property
    def after(self) -> str | None:
        """The page before's `next`."""
        return self._values.get("after")


def _wrong(name: str, value: str, detail: str, hint: str | None = None) -> InvalidQuery:
    fault = Fault(query=name, detail=detail, hint=hint)
    return InvalidQuery(f"query parameter {name} is {value[:100]!r}; it {detail}", faults=[fault])
