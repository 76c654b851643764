# SPDX-License-Identifier: Apache-2.0
"""What is done to a store from outside: check it, compact it, tell it that it was restored."""

from __future__ import annotations

from fairlead.drivers.sqlite_file import Connection


def damages(connection: Connection) -> list[str]:
    """Every damage found, one line each; empty when sound. Reads everything."""
    return [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
