# SPDX-License-Identifier: Apache-2.0
"""Putting other code in the place of ours for a while."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any
from unittest.mock import patch

Patch = tuple[AbstractContextManager[Any], ...]
"""Context managers that, entered together, are one change."""


def instead(owner: Any, name: str, other: Any) -> Patch:
    """`other` in the place of an attribute."""
    return (patch.object(owner, name, other),)


def around(owner: Any, name: str, wrapper: Callable[..., Any]) -> Patch:
    """A function called with the original and its arguments, in the place of a function."""
    original = getattr(owner, name)

    @wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        return wrapper(original, *arguments, **named)

    return instead(owner, name, wrapped)


def statement(statements: dict[str, str], name: str, sql: str) -> Patch:
    """Another SQL statement under a name."""
    return (patch.dict(statements, {name: sql}),)
