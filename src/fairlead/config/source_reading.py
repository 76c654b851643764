# SPDX-License-Identifier: Apache-2.0
"""Reading `[[source]]`: every fault of every table, each with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fairlead.config.declaring import REQUIRED
from fairlead.config.kinds import written
from fairlead.config.lines import line_in_array
from fairlead.config.sources import (
    MAPPED,
    SOURCE_SETTINGS,
    SourceConfig,
    leaves_the_machine_in_the_clear,
)
from fairlead.core.durations import nearest
from fairlead.errors import ConfigError

ARRAY = "source"

_ROWS = {row.key: row for row in SOURCE_SETTINGS}
_LOGIN = re.compile(r"//[^/?#]*@")


def read_sources(
    tables: object, path: str, source: str, faults: list[ConfigError]
) -> tuple[SourceConfig, ...]:
    """The sources of a document's member `source`; what is wrong with them is appended to `faults`."""
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        line = line_in_array(source, ARRAY, 0, None)
        faults.append(ConfigError("[[source]]: write each source under a line [[source]]", path, line))
        return ()
    read = []
    for at, table in enumerate(tables):
        found = [
            ConfigError(f"[[source]] {message}", path, line_in_array(source, ARRAY, at, key))
            for key, message in _faults(table)
        ]
        faults += found
        if not found:
            values = {key: _ROWS[key].kind.parse(value) for key, value in table.items()}
            read.append(SourceConfig(**values))
    names = [one.get("name") for one in tables]
    for at, name in enumerate(names):
        if isinstance(name, str) and name in names[:at]:
            line = line_in_array(source, ARRAY, at, "name")
            message = f"[[source]] name: {written(name)}: another source has this name"
            faults.append(ConfigError(message, path, line))
    return tuple(read)


def doubts(sources: tuple[SourceConfig, ...]) -> Iterator[str]:
    """What is allowed and still probably not meant."""
    for one in sources:
        if leaves_the_machine_in_the_clear(one.url):
            yield f"[[source]] {one.name}: {one.url} is not encrypted: who is on the way reads the login too"


def _faults(table: Mapping[str, Any]) -> Iterator[tuple[str | None, str]]:
    """Each with the key it is about."""
    format = table.get("format", "cloudevents")
    for key, value in table.items():
        row = _ROWS.get(key)
        if row is None:
            guess = nearest(key, _ROWS)
            yield key, f"{key}: unknown key" + (f"; did you mean {guess}?" if guess else "")
            continue
        try:
            row.kind.parse(value)
        except ValueError as error:
            yield _place(key, error), f"{key}: {_shown(value)}: {error}"
        if key in MAPPED and format in ("cloudevents", "oslo"):
            yield key, f'{key}: is for format = "json"; this source is {written(format)}'
        elif key == "keys" and format in ("cloudevents", "json"):
            yield key, f'keys: is for format = "oslo"; this source is {written(format)}'
    for row in SOURCE_SETTINGS:
        if row.default is REQUIRED and row.key not in table:
            yield None, f"{row.key}: is missing; every source needs name, url and queue"
    if format == "json":
        for key in ("source", "type"):
            if table.get(key) in (None, "none"):
                yield None, f'{key}: is missing; format = "json" needs source and type'


def _place(key: str, error: ValueError) -> str:
    """The key's line; of `keys` the line of the entry that is at fault."""
    entry = re.match(r'"(.*)": ', str(error)) if key == "keys" else None
    return f"{key}.{entry[1]}" if entry else key


def _shown(value: object) -> str:
    """A value in an error message, never with a login."""
    return _LOGIN.sub("//***@", written(value))
