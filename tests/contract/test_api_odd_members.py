# SPDX-License-Identifier: Apache-2.0
"""Every member of a subscription that exists with every odd value: refused or taken, never a 500."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.contract.api_scene import play, relay

AT = "/subscriptions/s"
SECRET = "whsec_" + b64encode(bytes(32)).decode()
WHOLE: dict[str, Any] = {
    "id": "s", "source": "/heat", "types": ["org.example.state"],
    "filters": [{"any": [{"prefix": {"subject": "stack-"}}, {"sql": "EXISTS partitionkey"}]}],
    "sink": "http://127.0.0.1:9/hook", "protocol": "HTTP",
    "protocolsettings": {
        "method": "POST", "headers": {"X-Env": "prod"}, "mode": "structured", "handshake": "none",
    },
    "sinkcredential": {"credentialtype": "PLAIN", "identifier": "fairlead", "secret": "s3cret"},
    "config": {
        "route": [{"sink": "http://127.0.0.1:9/other", "protocol": "HTTP", "protocolsettings": {}}],
        "retry": {
            "first": "1s", "factor": 2, "max": "5m", "give_up_after": "3d", "max_attempts": None,
            "jitter": "full", "max_retry_after": "1d",
        },
        "on_exhausted": "park", "rejected_statuses": [400], "start": "now", "concurrency": 64, "rate": None,
        "batch": {"max_events": 100, "max_bytes": "1MiB", "max_wait": "5ms"}, "timeout": "15s",
        "ack_persist": "before_next", "secret": SECRET, "answer_secret": SECRET, "secret_overlap": "1d",
        "receiver": "plain", "signature": "v1", "settles": None, "failover": "wait",
    },
    "status": {},
}  # fmt: skip
ODD: list[Any] = [None, True, 0, 5, -1, 1.5, 10**30, "", "x", "\x00", [], [1], [[]], {}, {"a": 1}]


def places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where a value has members and elements, at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in items:
        yield (*at, name)
        yield from places(one, (*at, name))


def with_odd(place: tuple[str | int, ...], odd: Any) -> dict[str, Any]:
    document = deepcopy(WHOLE)
    inner: Any = document
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = odd
    return document


@pytest.mark.parametrize(
    "member", sorted({*WHOLE} - {"config"}) + [f"config/{one}" for one in WHOLE["config"]]
)
def test_an_odd_value_is_refused_or_taken(tmp_path: Path, member: str) -> None:
    top = tuple(member.split("/"))

    async def scene() -> None:
        async with relay(tmp_path) as api:
            assert (await api.call("PUT", AT, WHOLE)).status == 201
            for place in places(WHOLE):
                if place[: len(top)] != top:
                    continue
                for odd in ODD:
                    got = await api.call("PUT", AT, with_odd(place, odd))
                    assert got.status in (200, 202, 422), (place, odd, got.body)
                    if got.status == 422:
                        assert got.json["errors"], (place, odd)
                    assert (await api.call("PATCH", AT, with_odd(place, odd))).status == 405

    play(scene())


@pytest.mark.parametrize("name", ["secret", "answer_secret"])
@pytest.mark.parametrize("odd", [True, 5, "", "x", [1], {}])
def test_what_is_no_secret_is_refused_at_its_place(tmp_path: Path, name: str, odd: Any) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            for status in (201, 200):  # of a new one, and of one that exists
                document = with_odd(("config", name), odd)
                problem = (await api.call("PUT", AT, document)).problem(422, "invalid-subscription")
                assert [one["pointer"] for one in problem["errors"]] == [f"/config/{name}"]
                assert (await api.call("PUT", AT, WHOLE)).status == status

    play(scene())
