# SPDX-License-Identifier: Apache-2.0
"""A relay and a sink for each test of the fault matrix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.power import Disk
from tests.acceptance.processes import RelayProcess
from tests.acceptance.sinks import Sink, sink_at


@pytest.fixture
def sink() -> Iterator[Sink]:
    """Takes everything until a test says otherwise."""
    with sink_at() as sink:
        yield sink


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelayProcess]:
    """A running relay."""
    with RelayProcess(tmp_path) as relay:
        yield relay


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """The disk under the store of `watched_relay`."""
    (tmp_path / "store").mkdir()
    return Disk(tmp_path / "store", tmp_path)


@pytest.fixture
def watched_relay(tmp_path: Path, disk: Disk) -> Iterator[RelayProcess]:
    """A running relay that can be killed at a named point of its store's writing."""
    store = tmp_path / "store" / "fairlead.db"
    with RelayProcess(tmp_path, store=store, environment=disk.environment) as relay:
        yield relay
