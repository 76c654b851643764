# SPDX-License-Identifier: Apache-2.0
"""Every source of a relay: they start after its node, and stop before it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from fairlead.engine.sourcing.consumer import Consumer
from fairlead.engine.sourcing.inlet import Inlet
from fairlead.telemetry import family


class Sources:
    """The sources, in the order of the configuration; there may be none.

    Attributes:
        by_name: each, to take its rejects again.
    """

    def __init__(self, consumers: Sequence[Consumer] = ()) -> None:
        self._consumers = tuple(consumers)
        self.by_name: Mapping[str, Inlet] = {
            inlet.name: inlet for consumer in self._consumers for inlet in consumer.inlets
        }

    def start(self) -> None:
        """Take what is there and what comes."""
        for consumer in self._consumers:
            consumer.start()

    async def stop(self) -> None:
        """Finish what is in hand, acknowledge it, let go of the queues. Idempotent."""
        await asyncio.gather(*(consumer.stop() for consumer in self._consumers))

    def status(self) -> list[dict[str, Any]]:
        """How each is doing; see `Inlet.status`."""
        return [inlet.status() for inlet in self.by_name.values()]

    def metrics_text(self) -> str:
        """The numbers in Prometheus' text format; "" where there are no sources."""
        if not self.by_name:
            return ""
        statuses = self.status()

        def samples(member: str) -> list[tuple[dict[str, str], float]]:
            return [({"source": one["name"]}, one[member]) for one in statuses]

        up = [({"source": one["name"]}, float(one["state"] == "up")) for one in statuses]
        return "".join(
            (
                family("fairlead_source_up", "gauge", "Whether messages of a source are taken.", up),
                family(
                    "fairlead_source_accepted_total", "counter", "Events of a source.", samples("accepted")
                ),
                family(
                    "fairlead_source_duplicates_total",
                    "counter",
                    "Events of a source that the log held already.",
                    samples("duplicates"),
                ),
                family(
                    "fairlead_source_rejected_total", "counter", "Messages of a source.", samples("rejected")
                ),
            )
        )
