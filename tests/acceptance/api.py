# SPDX-License-Identifier: Apache-2.0
"""The relay's API as a test calls it: one connection per call, whatever the answer."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

CALL_SECONDS = 60.0
STRUCTURED = "application/cloudevents+json"
OUTSIDE = ("filters", "source", "types", "protocolsettings", "sinkcredential")
BATCH = "application/cloudevents-batch+json"


@dataclass(frozen=True)
class Answer:
    """What the relay said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    def must(self, *statuses: int) -> Any:
        """The document of an answer that must have one of these statuses."""
        assert self.status in statuses, f"{self.status}: {self.body[:2000]!r}"
        return self.document if self.body else None


def event(number: int, key: str = "k1", **more: Any) -> dict[str, Any]:
    """One event of the resource `key`."""
    return {
        "specversion": "1.0",
        "id": f"{key}-{number}",
        "source": "/heat",
        "type": "org.example.state",
        "subject": key,
        "datacontenttype": "application/json",
        "data": {"n": number},
        **more,
    }


class Api:
    """Calls of one relay, as whoever `authorization` says."""

    def __init__(self, port: int, authorization: str | None = None) -> None:
        self.port = port
        self.authorization = authorization

    def call(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        **query: object,
    ) -> Answer:
        """One call. Raises OSError or HTTPException where no answer came."""
        given = {name: value for name, value in query.items() if value is not None}
        target = f"{path}?{urlencode(given)}" if given else path
        body = document if isinstance(document, bytes) or document is None else json.dumps(document).encode()
        sent = {"content-type": "application/json"} if body is not None else {}
        if self.authorization is not None:
            sent["authorization"] = self.authorization
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=CALL_SECONDS)
        try:
            connection.request(method, target, body, {**sent, **(headers or {})})
            answer = connection.getresponse()
            return Answer(
                answer.status,
                {name.lower(): value for name, value in answer.getheaders()},
                answer.read(),
            )
        finally:
            connection.close()

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Every item of a list, page after page."""
        after: str | None = None
        while True:
            page = self.call("GET", path, limit=1000, after=after, **query).must(200)
            yield from page["items"]
            after = page["next"]
            if after is None:
                return

    # -- what tests say often ------------------------------------------------------------------------------

    def publish(self, *events: dict[str, Any]) -> list[dict[str, Any]]:
        """Publish events as one batch, once; what was accepted."""
        answer = self.call("POST", "/events", list(events), headers={"content-type": BATCH})
        accepted: list[dict[str, Any]] = answer.must(202)["accepted"]
        return accepted

    def offer(self, one: dict[str, Any]) -> Answer:
        """Publish one event, whatever the answer."""
        return self.call("POST", "/events", one, headers={"content-type": STRUCTURED})

    def subscribe(self, name: str, sink: str, **config: Any) -> dict[str, Any]:
        """Make or replace a subscription; its `config` may hold `filters`, `source`, `types` too."""
        outside = {name: config.pop(name) for name in OUTSIDE if name in config}
        protocol = "AMQP" if sink.startswith("amqp") else "HTTP"
        document = {"id": name, "sink": sink, "protocol": protocol, "config": config, **outside}
        made: dict[str, Any] = self.call("PUT", f"/subscriptions/{name}", document).must(200, 201)
        return made

    def status(self, name: str) -> dict[str, Any]:
        """The `status` of a subscription."""
        status: dict[str, Any] = self.call("GET", f"/subscriptions/{name}").must(200)["status"]
        return status

    def channels(self, name: str) -> list[dict[str, Any]]:
        """Over which target each channel of a subscription delivers."""
        page = self.call("GET", f"/subscriptions/{name}/channels").must(200)
        return list(page["items"])

    def lanes(self, name: str, state: str | None = None) -> list[dict[str, Any]]:
        """The held and parked lanes of a subscription."""
        return list(self.items(f"/subscriptions/{name}/lanes", state=state))

    def drained(self, name: str) -> bool:
        """Whether everything that was accepted for a subscription has been settled."""
        return bool(self.status(name)["lag_events"] == 0)
