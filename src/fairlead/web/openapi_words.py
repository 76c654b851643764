# SPDX-License-Identifier: Apache-2.0
"""JSON Schema 2020-12 in few words: what the shapes of the interface are made of."""

from __future__ import annotations

from typing import Any, get_args

from fairlead.core.outcome import OutcomeKind
from fairlead.core.subscription import State

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
ANY_TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}
TIME: Schema = {"type": "string", "format": "date-time", "examples": ["2026-11-22T10:00:00Z"]}
DURATION: Schema = {
    "type": "string",
    "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$",
    "examples": ["15s", "3d"],
}
SIZE: Schema = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(B|KiB|MiB|GiB|TiB)?$", "examples": ["1MiB"]}
ID: Schema = {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,62}$", "examples": ["console"]}


def ref(name: str) -> Schema:
    """A component by name."""
    return {"$ref": f"#/components/schemas/{name}"}


def words(*names: str) -> Schema:
    """One of a few words."""
    return {"type": "string", "enum": list(names)}


def array(items: Schema, **bounds: int) -> Schema:
    return {"type": "array", "items": items, **bounds}


def or_null(schema: Schema) -> Schema:
    if {"type": "null"} in schema.get("anyOf", ()):
        return schema
    return {"anyOf": [schema, {"type": "null"}]}


def closed(required: str, **members: Schema) -> Schema:
    """What a caller sends: unknown members are refused, and null stands for one that is absent."""
    needed = required.split()
    taken = {name: one if name in needed else or_null(one) for name, one in members.items()}
    return {**shown(required, **taken), "additionalProperties": False}


def exactly_one(*names: str) -> Schema:
    """One of these members is there, and the others are not, or null."""
    there = [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in names]
    return {"oneOf": there}


def shown(required: str, **members: Schema) -> Schema:
    """What the relay answers; `required` are names parted by spaces. More members may come."""
    return {"type": "object", "properties": members, **({"required": required.split()} if required else {})}


def page(item: Schema, **further: Schema) -> Schema:
    """A list (interface, section 1)."""
    return shown("items next", items=array(item), next=or_null(TEXT), **further)


OUTCOME = words(*get_args(OutcomeKind))
STATE = words(*get_args(State))
STATUS_CODE = or_null({"type": "integer", "minimum": 100, "maximum": 599})
