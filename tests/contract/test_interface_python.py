# SPDX-License-Identifier: Apache-2.0
"""Interface, section 11: the names, parameters and defaults that programs of others are written against."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

import fairlead
from fairlead import Event, EventRefused, OutboxFull, Publisher, Receiver, Reject, Relay
from fairlead.sdk.inbox.port import Inbox, Transaction


def parameters(of: Any) -> dict[str, Any]:
    """Parameters by name with their defaults, `...` where there is none."""
    found = inspect.signature(of).parameters.values()
    return {one.name: ... if one.default is one.empty else one.default for one in found if one.name != "self"}


def test_the_package_exports_what_is_promised() -> None:
    assert {"Event", "Publisher", "Receiver", "Relay", "OutboxFull", "EventRefused", "Reject"} <= set(
        fairlead.__all__
    )
    assert issubclass(OutboxFull, fairlead.FairleadError)
    assert issubclass(EventRefused, fairlead.FairleadError)
    assert issubclass(Reject, Exception)


def test_an_event_is_made_and_frozen_as_promised() -> None:
    assert list(parameters(Event))[:7] == [
        "id",
        "source",
        "type",
        "subject",
        "time",
        "data",
        "datacontenttype",
    ]
    one = Event("a", "/s", "t", "k", data={"n": 1}, flavor="m1")
    assert (one.id, one.source, one.type, one.subject, one.data) == ("a", "/s", "t", "k", {"n": 1})
    assert one.extensions["flavor"] == "m1"
    with pytest.raises(AttributeError):
        one.id = "b"  # type: ignore[misc]


def test_a_publisher_has_the_parameters_and_calls_that_are_promised(tmp_path: Path) -> None:
    given = parameters(Publisher)
    assert list(given)[:4] == ["url", "outbox", "source", "api_key"]
    assert (given["outbox"], given["source"], given["api_key"]) == ("outbox.db", None, None)
    assert given["max_bytes"] > 0
    assert given["on_refused"] is None
    for publish in (Publisher.publish, Publisher.publish_async):
        assert parameters(publish) == {"event": ..., "wait": "stored", "timeout": None}
    assert inspect.iscoroutinefunction(Publisher.publish_async)
    assert list(parameters(Publisher.flush)) == ["timeout"]
    for name in ("refused", "retry_refused", "discard_refused", "status", "close"):
        assert callable(getattr(Publisher, name))
    publisher = Publisher("http://127.0.0.1:9", tmp_path / "outbox.db", source="/s")
    try:
        receipt = publisher.publish({"id": "a", "source": "/s", "type": "t"})
        shown = (receipt.id, receipt.partition, receipt.position, receipt.duplicate)
        assert shown == ("a", None, None, None)
        status = publisher.status()
        assert status.oldest is not None
        assert (status.waiting, status.refused) == (1, 0)
        assert publisher.refused() == []
        assert publisher.flush(0.01) == 1
    finally:
        publisher.close()


def test_a_receiver_has_the_parameters_and_mounts_that_are_promised(tmp_path: Path) -> None:
    given = parameters(Receiver)
    assert given["handler"] is ...
    assert (given["inbox"], given["relay_url"], given["answer_secret"], given["concurrency"]) == (
        "inbox.db",
        None,
        None,
        64,
    )
    assert (list(given["allowed_origins"]), given["allowed_rate"]) == (["*"], None)
    receiver = Receiver(
        lambda event, transaction: None, secrets=["whsec_" + "QUFB" * 11], inbox=tmp_path / "inbox.db"
    )
    try:
        assert callable(receiver.asgi)
        assert callable(receiver.wsgi)
        assert list(parameters(Receiver.consume))[:2] == ["amqp_url", "queue"]
        inspect.signature(receiver.consume).bind("amqps://broker", "fairlead.console.0")
    finally:
        receiver.close()


def test_the_inbox_is_a_port_of_one_call_and_its_transaction_has_what_is_promised() -> None:
    assert list(parameters(Inbox.begin)) == ["channel", "key"]
    members = {name for name in dir(Transaction) if not name.startswith("_")} | set(
        Transaction.__annotations__
    )
    assert {"fence", "floor", "applied", "record", "commit", "rollback"} <= members


def test_a_relay_of_ones_own_has_the_calls_that_are_promised() -> None:
    assert next(iter(parameters(Relay))) == "store"
    assert list(parameters(Relay.subscribe))[:2] == ["id", "to"]
    for name in ("start", "stop", "publish", "__aenter__", "__aexit__"):
        assert inspect.iscoroutinefunction(getattr(Relay, name)), name
