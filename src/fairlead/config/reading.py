# SPDX-License-Identifier: Apache-2.0
"""Reading the configuration: flags before environment before file before default (interface, section 9).

Every fault of the file is found, not only the first, each with its line.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.config.declaring import Setting
from fairlead.config.kinds import written
from fairlead.config.lines import Place, line_of
from fairlead.config.settings import SETTINGS, Config, delivery_defaults
from fairlead.config.source_reading import ARRAY, doubts, read_sources
from fairlead.config.sources import SourceConfig
from fairlead.core.durations import format_size, nearest
from fairlead.core.subscription_config import check_defaults
from fairlead.errors import ConfigError, Fault

DEFAULT_FILE = "fairlead.toml"
CLOUDEVENTS_LEAST_BYTES = 64 * 1024
CLIENT_VARIABLES = ("FAIRLEAD_CONFIG", "FAIRLEAD_URL", "FAIRLEAD_API_KEY", "FAIRLEAD_SECRET")
"""Variables that are no settings of the relay: its file, the command line's address and key, and the secret
that the receivers of the documentation read."""

_BY_TABLE: dict[str, dict[str, Setting]] = {}
for _row in SETTINGS:
    _BY_TABLE.setdefault(_row.table, {})[_row.key] = _row
_TABLES = tuple(name for name in _BY_TABLE if name)
_TOML_LINE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)\Z")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration with where it came from.

    Attributes:
        origins: per setting's name, `file:line`, the variable or the flag that gave it; no defaults.
        warnings: one line each; nothing in them stops the relay.
        file: the file that was read, None where there was none.
    """

    config: Config
    origins: Mapping[str, str]
    warnings: tuple[str, ...]
    file: str | None


@dataclass(frozen=True, slots=True)
class _Given:
    """One value that somebody gave for a setting."""

    row: Setting
    value: object
    origin: str
    file: str | None = None
    line: int | None = None


def load(
    *, file: str | None = None, flags: Mapping[str, str] | None = None, environment: Mapping[str, str]
) -> Loaded:
    """Read the configuration.

    Args:
        file: the file named by a flag; without it `FAIRLEAD_CONFIG`, then `fairlead.toml` if it is there.
        flags: values by flag (`--store`, `--listen`).
        environment: the process's environment.

    Raises:
        ConfigError: the first fault; `hints` are the further ones as lines.
    """
    faults: list[ConfigError] = []
    named = file or environment.get("FAIRLEAD_CONFIG") or None
    path = named or DEFAULT_FILE
    given: dict[str, _Given] = {}
    source = _source(path, required=named is not None)
    sources: tuple[SourceConfig, ...] = ()
    if source is not None:
        document = _document(path, source, faults)
        if ARRAY in document:
            sources = read_sources(document.pop(ARRAY), path, source, faults)
        given |= {one.row.name: one for one in _from_table(document, (), path, source, faults)}
    warnings: list[str] = []
    given |= {one.row.name: one for one in _from_environment(environment, faults, warnings)}
    given |= {one.row.name: one for one in _from_flags(flags or {})}
    values = {name: value for name, one in given.items() if (value := _parsed(one, faults)) is not _INVALID}
    if faults:
        raise ConfigError(faults[0].message, faults[0].file, faults[0].line, tuple(map(str, faults[1:])))
    settings = {given[name].row.path: value for name, value in values.items()}
    config: Config = dataclasses.replace(_built(Config, settings), sources=sources)
    if disagreements := [_disagreement(fault, given) for fault in check_defaults(delivery_defaults(config))]:
        raise disagreements[0]
    origins = {name: one.origin for name, one in given.items()}
    return Loaded(config, origins, (*warnings, *_doubts(config)), path if source is not None else None)


def _source(path: str, *, required: bool) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        if not required:
            return None
        raise ConfigError("there is no such file; name another, or leave it out", path) from None
    except UnicodeDecodeError:
        raise ConfigError("the file is not UTF-8 text", path) from None
    except OSError as error:
        raise ConfigError(f"the file cannot be read: {error.strerror}", path) from None


def _document(path: str, source: str, faults: list[ConfigError]) -> dict[str, Any]:
    try:
        return tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        found = _TOML_LINE.search(str(error))
        line = int(found[1]) if found and found[1] else source.count("\n") + 1
        faults.append(ConfigError(f"not TOML: {_TOML_LINE.sub('', str(error))}", path, line))
        return {}


def _from_table(
    content: Mapping[str, Any], tables: tuple[str, ...], path: str, source: str, faults: list[ConfigError]
) -> Iterator[_Given]:
    table = ".".join(tables)
    rows = _BY_TABLE.get(table, {})
    for key, value in content.items():
        line = line_of(source, Place(tables, key))
        inner = ".".join((*tables, key))
        if inner in _BY_TABLE and isinstance(value, dict):
            yield from _from_table(value, (*tables, key), path, source, faults)
        elif key in rows:
            yield _Given(rows[key], value, f"{path}:{line}" if line else path, path, line)
        else:
            faults.append(ConfigError(_unknown(table, key, value), path, line))


def _unknown(table: str, key: str, value: object) -> str:
    """What to say of a key that is no setting, with the nearest one that is."""
    inner = f"{table}.{key}".lstrip(".")
    if inner in _BY_TABLE:
        return f"[{inner}]: must be a table; write its keys under a line [{inner}]"
    within = [name.removeprefix(f"{table}.") for name in _TABLES if not table or name.startswith(f"{table}.")]
    if isinstance(value, dict | list) and not table:
        guess = nearest(key, [*within, ARRAY])
        meant = f"[[{guess}]]" if guess == ARRAY else f"[{guess}]"
        return f"[{key}]: unknown table" + (f"; did you mean {meant}?" if guess else "")
    guess = nearest(key, [*_BY_TABLE.get(table, {}), *within])
    if guess:
        hint = f"; did you mean {guess}?"
    else:
        elsewhere = [name for name, rows in _BY_TABLE.items() if key in rows and name]
        hint = f"; it belongs under [{elsewhere[0]}]" if len(elsewhere) == 1 else ""
    return f"{f'[{table}] ' if table else ''}{key}: unknown key{hint}"


def _from_environment(
    environment: Mapping[str, str], faults: list[ConfigError], warnings: list[str]
) -> Iterator[_Given]:
    rows = {row.variable: row for row in SETTINGS}
    for name, text in sorted(environment.items()):
        if not name.startswith("FAIRLEAD_") or name in CLIENT_VARIABLES:
            continue
        if name.startswith("FAIRLEAD_SOURCE_"):
            warnings.append(f"{name}: sources are set in the file only, under [[source]]")
        elif name not in rows:
            guess = nearest(name, [*rows, *CLIENT_VARIABLES])
            hint = f"; did you mean {guess}?" if guess else ""
            warnings.append(f"{name}: no setting has this variable{hint}")
        elif text:  # an empty variable is how container tools say "not set"
            row = rows[name]
            try:
                yield _Given(row, row.kind.read_text(text), name)
            except ValueError as error:
                faults.append(ConfigError(f"{name}: {_shown(row, text)}: {error}"))


def _from_flags(flags: Mapping[str, str]) -> Iterator[_Given]:
    for flag, text in flags.items():
        yield _Given(_BY_TABLE[""][flag.lstrip("-")], text, flag)


_INVALID = object()


def _parsed(one: _Given, faults: list[ConfigError]) -> Any:
    try:
        return one.row.kind.parse(one.value)
    except ValueError as error:
        where = one.row.name if one.file else one.origin
        message = f"{where}: {_shown(one.row, one.value)}: {error}"
        faults.append(ConfigError(message, one.file, one.line))
        return _INVALID


def _shown(row: Setting, value: object) -> str:
    """A value in an error message, never a secret."""
    return "the value (not shown)" if row.secret else written(value)


def _disagreement(fault: Fault, given: Mapping[str, _Given]) -> ConfigError:
    """A value of `[delivery]` that no subscription could have: what its members demand of each other."""
    *tables, key = ["delivery", *(fault.pointer or "").strip("/").split("/")]
    name = f"[{'.'.join(tables)}] {key}"
    one = given.get(name) or next(iter(given.values()))
    hint = f" ({fault.hint})" if fault.hint else ""
    return ConfigError(f"{name}: {fault.detail}{hint}", one.file, one.line)


def _built(of: Any, values: Mapping[tuple[str, ...], object]) -> Any:
    """An instance of a settings dataclass with `values` by path in place of its defaults."""
    here = {path[0]: value for path, value in values.items() if len(path) == 1}
    nested: dict[str, dict[tuple[str, ...], object]] = {}
    for path, value in values.items():
        if len(path) > 1:
            nested.setdefault(path[0], {})[path[1:]] = value
    factories = {one.name: one.default_factory for one in dataclasses.fields(of)}
    return of(**here, **{name: _built(factories[name], inner) for name, inner in nested.items()})


def _doubts(config: Config) -> Sequence[str]:
    """What is allowed and still probably not meant."""
    found = []
    limits = config.limits
    if limits.event_bytes < CLOUDEVENTS_LEAST_BYTES:
        found.append(
            f"[limits] event_bytes: {format_size(limits.event_bytes)} is less than the 64KiB that CloudEvents"
            " asks every relay to take"
        )
    if limits.request_bytes < limits.event_bytes:
        found.append("[limits] request_bytes: is less than event_bytes, so no event of that size can arrive")
    return [*found, *doubts(config.sources)]
