# SPDX-License-Identifier: Apache-2.0
"""Showing the configuration: as commented TOML, as JSON, and as the reference page. Secrets are masked."""

from __future__ import annotations

import textwrap
from itertools import groupby

from fairlead.config.declaring import REQUIRED, Setting
from fairlead.config.kinds import written
from fairlead.config.reading import Loaded
from fairlead.config.settings import SETTINGS, Config
from fairlead.config.sources import SOURCE_SETTINGS, SourceConfig

MASK = "***"


def to_toml(loaded: Loaded) -> str:
    """The effective configuration as TOML that says of each key what it is and where its value came from.

    Defaults stand as comments, so the text can be kept as a file without freezing them.
    """
    lines = [f"# Fairlead's effective configuration (file: {loaded.file or 'none'})"]
    for table, rows in groupby(SETTINGS, key=lambda row: row.table):
        members = list(rows)
        lines += ["", *_comment(members[0].section), f"[{table}]"] if table else [""]
        for row in members:
            lines += _commented(row, loaded)
    for source in loaded.config.sources:
        lines += ["", f"# {SOURCE_SETTINGS[0].section}", "[[source]]", *_source_lines(source)]
    return "\n".join(line for line, _ in groupby(lines)) + "\n"


def _source_lines(source: SourceConfig) -> list[str]:
    """One source: what differs from the defaults, and the defaults as comments; its table of keys last."""
    lines = []
    for row in SOURCE_SETTINGS:
        value = row.of(source)
        if row.key != "keys":
            line = f"{row.key} = {written(row.kind.show(value))}"
            lines.append(f"# {line}" if value == row.default else line)
    if source.keys:
        lines.append("[source.keys]")
        lines += [f"{written(prefix)} = {written(pointer)}" for prefix, pointer in source.keys.items()]
    return lines


def _commented(row: Setting, loaded: Loaded) -> list[str]:
    origin = loaded.origins.get(row.name)
    facts = [_plain(row.kind.name), *([_plain(row.kind.unit)] if row.kind.unit else [])]
    about = f"{row.doc} ({'; '.join(facts)}; default {written(row.kind.show(row.default))})"
    lines = _comment(_plain(about))
    value = written(_shown(row, loaded.config))
    lines.append(f"{row.key} = {value}  # from {origin}" if origin else f"# {row.key} = {value}")
    return lines


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 78)]


def to_json(loaded: Loaded) -> dict[str, object]:
    """`{"file":…,"settings":[{"name","value","default","origin","variable"}],"sources":[{…}],"warnings":[…]}`."""
    return {
        "file": loaded.file,
        "settings": [
            {
                "name": f"{row.table}.{row.key}".lstrip("."),
                "value": _shown(row, loaded.config),
                "default": row.kind.show(row.default),
                "origin": loaded.origins.get(row.name, "default"),
                "variable": row.variable,
            }
            for row in SETTINGS
        ],
        "sources": [
            {row.key: row.kind.show(row.of(source)) for row in SOURCE_SETTINGS}
            for source in loaded.config.sources
        ],
        "warnings": list(loaded.warnings),
    }


def reference() -> str:
    """The body of `docs/reference/configuration.md`: one table per TOML table, from the same rows."""
    parts = []
    for table, rows in groupby(SETTINGS, key=lambda row: row.table):
        members = list(rows)
        parts.append(f"## `[{table}]`\n\n{members[0].section}\n" if table else "## Top level\n")
        parts.append("| key | type | unit | default | environment | meaning |\n|---|---|---|---|---|---|")
        parts += [
            f"| `{row.key}` | {row.kind.name} | {row.kind.unit} | `{written(row.kind.show(row.default))}` "
            f"| `{row.variable}` | {row.doc} |"
            for row in members
        ]
        parts.append("")
    parts += ["## `[[source]]`\n", SOURCE_SETTINGS[0].section + " It needs `fairlead[amqp]`.\n"]
    parts.append("| key | type | unit | default | meaning |\n|---|---|---|---|---|")
    for row in SOURCE_SETTINGS:
        default = "needed" if row.default is REQUIRED else f"`{written(row.kind.show(row.default))}`"
        parts.append(f"| `{row.key}` | {row.kind.name} | {row.kind.unit} | {default} | {row.doc} |")
    return "\n".join(parts)


def _shown(row: Setting, config: Config) -> object:
    value = row.of(config)
    return MASK if row.secret and value is not None else row.kind.show(value)


def _plain(text: str) -> str:
    return text.replace("`", "")
