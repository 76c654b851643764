# SPDX-License-Identifier: Apache-2.0
"""Every scenario by its name."""

from __future__ import annotations

from collections.abc import Callable

from fairlead.testing.simulation.scenarios import REST_SCENARIOS
from fairlead.testing.simulation.scenarios_bus import BUS_SCENARIOS
from fairlead.testing.simulation.world import World

SCENARIOS: dict[str, Callable[[], World]] = {**REST_SCENARIOS, **BUS_SCENARIOS}
