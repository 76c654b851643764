# SPDX-License-Identifier: Apache-2.0
"""The parsed form of a CESQL expression, before it is compiled. Columns count characters from 1."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Literal:
    value: str | int | bool
    column: int


@dataclass(frozen=True, slots=True)
class Attribute:
    """A context attribute, in lower case."""

    name: str
    column: int


@dataclass(frozen=True, slots=True)
class Exists:
    name: str
    column: int


@dataclass(frozen=True, slots=True)
class Unary:
    """`NOT x` or `-x`."""

    operator: str
    operand: Node
    column: int


@dataclass(frozen=True, slots=True)
class Binary:
    """A comparison, an arithmetic operation or `XOR`; `<>` is written `!=`."""

    operator: str
    left: Node
    right: Node
    column: int


@dataclass(frozen=True, slots=True)
class Chain:
    """`a AND b AND c …`, or with OR: one node however long, so that long lists stay flat."""

    operator: str
    operands: tuple[Node, ...]
    column: int


@dataclass(frozen=True, slots=True)
class Like:
    operand: Node
    pattern: str
    negated: bool
    column: int


@dataclass(frozen=True, slots=True)
class In:
    operand: Node
    members: tuple[Node, ...]
    negated: bool
    column: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function's name in upper case and its arguments."""

    name: str
    arguments: tuple[Node, ...]
    column: int


Node = Literal | Attribute | Exists | Unary | Binary | Chain | Like | In | Call
