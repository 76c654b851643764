# SPDX-License-Identifier: Apache-2.0
"""Where no bus is configured nothing of it is loaded; where its library is missing, whoever asks is told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.acceptance.api import event
from tests.acceptance.bus_route import SOON
from tests.acceptance.history import Log, check_applied
from tests.acceptance.processes import RelayProcess
from tests.acceptance.sinks import Sink
from tests.acceptance.waiting import until
from tests.contract.receiving import SECRET

LOADS = """
import sys
from fairlead.cli import main
try:
    main()
finally:
    print("of the library is loaded:", [name for name in sys.modules if name.startswith("pika")])
"""
WITHOUT = "import sys; sys.modules['pika'] = None; from fairlead.cli import main; main()"
PIP = "pip install 'fairlead[amqp]'"


def relay_by(place: Path, program: str) -> RelayProcess:
    """A relay started by a program of our own."""
    relay = RelayProcess(place, SOON)
    relay.command[: relay.command.index("serve")] = [sys.executable, "-c", program]
    return relay


def with_a_bus(sink: Sink) -> dict[str, Any]:
    """A subscription over a bus that is not there, with REST behind it."""
    route = [{"sink": sink.url, "protocol": "HTTP"}]
    config = {"receiver": "plain", "settles": "confirm", "failover": "switch", "secret": SECRET}
    sinks = {"sink": "amqp://127.0.0.1:9/", "protocol": "AMQP"}
    return {"id": "bus", **sinks, "config": {"route": route, **config}}


def test_with_rest_alone_nothing_of_the_library_is_loaded(tmp_path: Path, sink: Sink) -> None:
    with relay_by(tmp_path, LOADS) as relay:
        relay.api.subscribe("console", sink.url)
        relay.api.publish(event(1), event(2))
        until(lambda: relay.api.drained("console"), "it delivers")
        relay.api.call("GET", "/subscriptions/console/channels").must(200)
        assert relay.api.call("GET", "/metrics").status == 200
        relay.stop()
        assert "of the library is loaded: []" in relay.said, relay.said


def test_without_the_library_rest_works_and_whoever_asks_for_a_bus_is_told_what_to_install(
    tmp_path: Path, sink: Sink
) -> None:
    with relay_by(tmp_path, WITHOUT) as relay:
        relay.api.subscribe("console", sink.url)
        relay.api.publish(event(1), event(2))
        until(lambda: relay.api.drained("console"), "it delivers")
        problem = relay.api.call("PUT", "/subscriptions/bus", with_a_bus(sink)).must(422)
        assert problem["type"] == "urn:fairlead:problem:invalid-subscription"
        assert PIP in problem["detail"]
        assert problem["errors"][0]["pointer"] == "/protocol"
        check_applied(sink.history, Log.read(relay.api), once=False)


def test_a_store_with_a_bus_in_it_serves_without_the_library(tmp_path: Path, sink: Sink) -> None:
    with RelayProcess(tmp_path) as relay:
        relay.api.call("PUT", "/subscriptions/bus", with_a_bus(sink)).must(201)
    with relay_by(tmp_path, WITHOUT) as relay:
        relay.api.publish(event(1), event(2))
        until(lambda: relay.api.drained("bus"), lambda: f"REST has it: {relay.api.channels('bus')}")
        used = [one for one in relay.api.channels("bus") if one["target"] == 1]
        assert used
        assert all(PIP in one["reason"] for one in used), used
        check_applied(sink.history, Log.read(relay.api), once=False)
