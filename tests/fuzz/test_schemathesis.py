# SPDX-License-Identifier: Apache-2.0
"""The whole interface against what a generator makes of its own description: no 500, no hang, no surprise.

Every call is answered, and with a status, headers, a content type and a body that the OpenAPI document names.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from fairlead import wiring
from fairlead.config import Config, Listen
from fairlead.config.settings import Auth
from fairlead.core.egress import EgressPolicy
from fairlead.core.outcome import Outcome
from fairlead.core.subscription import Subscription, Target
from fairlead.drivers.http_server.server import new_event_loop
from fairlead.ports import Answer, Delivery
from fairlead.web.openapi import openapi_document

KEY = "flk_" + "F" * 32
ANSWER_SECONDS = 20.0
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
schema = schemathesis.openapi.from_dict(openapi_document())


class DeadEnd:
    """A sender that reaches nobody: what is generated must not leave this machine."""

    def __init__(self, policy: EgressPolicy) -> None:
        self._policy = policy

    async def send(self, delivery: Delivery) -> Answer:
        unavailable = Outcome("unavailable", None, "a dead end")
        return Answer(tuple(unavailable for _ in delivery.parcels), 0, time.time())

    async def check(self, target: Target, subscription: Subscription) -> float | None:
        if target.protocol == "HTTP":
            self._policy.check_url(target.sink)
        return None

    async def close(self) -> None: ...


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A relay on a thread of its own, a subscription and an event in it."""
    folder = tmp_path_factory.mktemp("fuzz")
    config = Config(
        store=f"sqlite:////{str(folder).lstrip('/')}/relay.db",
        listen=Listen("127.0.0.1", 0),
        auth=Auth(bootstrap_key=KEY),
    )
    ready: Future[str] = Future()
    loop = new_event_loop()
    ending = asyncio.Event()

    async def serve() -> None:
        server = wiring.Server(config)
        await server.start()
        ready.set_result(server.url)
        await ending.wait()
        await server.stop()

    patch = pytest.MonkeyPatch()
    patch.setattr(wiring, "http_sender", lambda _config, policy, _clock: DeadEnd(policy))
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    yield ready.result(timeout=30)
    loop.call_soon_threadsafe(ending.set)
    thread.join(timeout=60)
    assert not thread.is_alive(), "the relay does not stop"
    loop.close()
    patch.undo()


@schema.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_call_answers_as_it_is_described(case: Any, url: str) -> None:
    if isinstance(case.query, dict):
        case.query.pop("follow", None)  # it waits, as it should
    response = case.call(
        base_url=url,
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=ANSWER_SECONDS,
        allow_redirects=False,
    )
    case.validate_response(response, checks=CHECKS)
    assert response.headers["x-request-id"]
