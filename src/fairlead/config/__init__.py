# SPDX-License-Identifier: Apache-2.0
"""The relay's configuration: one TOML file, environment variables and flags (interface, section 9).

`load` reads it, `Config` holds it, `settings.SETTINGS` is the one table of every key.
"""

from __future__ import annotations

from fairlead.config.places import Listen, parse_listen, store_path
from fairlead.config.reading import Loaded, load
from fairlead.config.settings import SETTINGS, Config, delivery_defaults

__all__ = [
    "SETTINGS",
    "Config",
    "Listen",
    "Loaded",
    "delivery_defaults",
    "load",
    "parse_listen",
    "store_path",
]
