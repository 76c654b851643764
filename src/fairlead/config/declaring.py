# SPDX-License-Identifier: Apache-2.0
"""Declaring a setting: how a dataclass field does, and the row of the table it becomes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, field, fields
from typing import Any, NamedTuple, TypeVar

from fairlead.config.kinds import Kind

T = TypeVar("T")
REQUIRED = MISSING


def setting(kind: Kind[T], default: object, doc: str, *, key: str | None = None, secret: bool = False) -> T:
    """A dataclass field that is a setting; `default` as TOML writes it, None for none."""
    made: T = field(
        default=kind.parse(default), metadata={"kind": kind, "doc": doc, "key": key, "secret": secret}
    )
    return made


def required(kind: Kind[T], doc: str) -> T:
    """A dataclass field that is a setting and must be given."""
    made: T = field(metadata={"kind": kind, "doc": doc, "key": None, "secret": False})
    return made


class Setting(NamedTuple):
    """One row of the table.

    Attributes:
        table: the TOML table, "" for the top level, dotted where nested.
        key: the key in it.
        path: the attribute names that lead from a `Config` to the value.
        default: the value when nothing is given, as the relay uses it; `REQUIRED` where it must be.
        section: what its table is for, in one sentence.
    """

    table: str
    key: str
    kind: Kind[Any]
    default: Any
    doc: str
    secret: bool
    path: tuple[str, ...]
    section: str

    @property
    def name(self) -> str:
        """`[limits] event_bytes`, or just the key at the top level."""
        return f"[{self.table}] {self.key}" if self.table else self.key

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return "_".join(["FAIRLEAD", *filter(None, self.table.split(".")), self.key]).upper()

    def of(self, config: object) -> Any:
        """Its value in `config`."""
        value: Any = config
        for name in self.path:
            value = getattr(value, name)
        return value


def rows_of(of: Any, tables: tuple[str, ...] = ()) -> Iterator[Setting]:
    """The settings of a dataclass, those of its nested tables after its own."""
    nested = []
    for one in fields(of):
        kind = one.metadata.get("kind")
        if "array" in one.metadata:
            continue  # tables that may be there many times have settings of their own
        if kind is None:
            nested.append(one)
            continue
        key = one.metadata["key"] or one.name
        yield Setting(
            ".".join(tables),
            key,
            kind,
            one.default if one.default_factory is MISSING else one.default_factory(),
            one.metadata["doc"],
            one.metadata["secret"],
            (*tables, one.name),
            (of.__doc__ or "").split(". ")[0].rstrip(".") + ".",
        )
    for one in nested:
        yield from rows_of(one.default_factory, (*tables, one.name))
