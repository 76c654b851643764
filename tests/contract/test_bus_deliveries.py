# SPDX-License-Identifier: Apache-2.0
"""Messages of a bus against the inbox, without a broker: what is applied, what is answered, what is not."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.core.answer import AnswerDocument, parse_answer
from fairlead.core.signature import new_signing_key, public_key, verify
from fairlead.errors import InboxBusy, Reject
from fairlead.sdk.bus.answer import BusAnswer, signed
from fairlead.sdk.bus.deliveries import BusDeliveries, BusMessage
from fairlead.sdk.inbox.sqlite_inbox import SqliteInbox
from fairlead.sdk.receiving.applying import Applier
from fairlead.sdk.receiving.handler import BackgroundLoop, caller
from fairlead.testing.receiver_kit import ReceiverKit, bus_message
from tests.contract.receiving import OTHER_SECRET, SECRET, Taken, event

NOW = 1795359000.0


@pytest.fixture
def taken() -> Taken:
    return Taken()


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[SqliteInbox]:
    inbox = SqliteInbox(tmp_path / "inbox.db", lock_wait_seconds=0.1)
    yield inbox
    inbox.close()


@pytest.fixture
def bus(inbox: SqliteInbox, taken: Taken) -> BusDeliveries:
    return bus_of(inbox, taken)


def bus_of(inbox: SqliteInbox, taken: Taken, *secrets: str, **options: Any) -> BusDeliveries:
    applier = Applier(inbox, caller(taken, None, BackgroundLoop()))
    return BusDeliveries(applier, secrets or (SECRET,), clock=lambda: NOW, **options)


def kit(secret: str = SECRET, **options: Any) -> ReceiverKit:
    return ReceiverKit(secret, bus=True, clock=lambda: NOW, **options)


def read(answer: BusAnswer | None, secret: str = SECRET) -> AnswerDocument:
    """What an answer says, once its signature and its id are as the relay wants them."""
    assert answer is not None
    headers = signed(answer.secret, answer.id, answer.body, NOW)
    assert verify([secret], headers, answer.body, NOW) == secret
    assert headers["webhook-id"].startswith("ack_")
    return parse_answer(answer.body)


@pytest.mark.parametrize(
    ("header", "joins"),
    [({"fairlead-answers": "array"}, True), ({}, False), ({"fairlead-answers": "2"}, False)],
)
def test_an_answer_joins_others_only_where_the_delivery_says_that_its_relay_takes_that(
    bus: BusDeliveries, header: dict[str, object], joins: bool
) -> None:
    message = bus_message(kit().deliver(event()))
    answer = bus.take(replace(message, headers={**message.headers, **header}))
    assert answer is not None
    assert answer.joins is joins


@pytest.mark.parametrize("reason", ["\udcff is no text", "x" * 3_000_000], ids=["surrogate", "long"])
def test_whatever_a_handler_says_its_answer_can_be_sent(
    bus: BusDeliveries, taken: Taken, reason: str
) -> None:
    taken.fail = lambda n: Reject(reason)
    answer = read(bus.take(bus_message(kit().deliver(event()))))
    assert answer.result == "rejected"
    assert 0 < len(answer.detail or "") <= 2000


# -- what the relay sends ----------------------------------------------------------------------------------


def test_an_event_is_applied_and_answered_with_what_is_applied(bus: BusDeliveries, taken: Taken) -> None:
    answer = bus.take(bus_message(kit().deliver(event()), "replies"))
    assert answer is not None
    assert (answer.id, answer.reply_to, answer.subscription) == ("ack_test_1_0_1", "replies", "test")
    assert json.loads(answer.body) == {
        "subscription": "test", "partition": 0, "generation": 1, "epoch": 1, "seq": 1, "key": "/heat k1",
        "result": "applied", "applied": 1,
    }  # fmt: skip
    assert read(answer).result == "applied"
    assert taken.numbers == [1]


def test_a_message_that_waited_for_a_year_is_applied(bus: BusDeliveries, taken: Taken) -> None:
    old = ReceiverKit(SECRET, bus=True, clock=lambda: NOW - 365 * 86_400)
    assert read(bus.take(bus_message(old.deliver(event())))).result == "applied"


def test_a_duplicate_is_answered_again_and_not_handled(bus: BusDeliveries, taken: Taken) -> None:
    message = bus_message(kit().deliver(event()))
    assert [read(bus.take(message)).result for _ in range(2)] == ["applied", "duplicate"]
    assert taken.numbers == [1]


def test_what_is_out_of_chain_is_answered_and_not_handled(bus: BusDeliveries, taken: Taken) -> None:
    answer = read(bus.take(bus_message(kit().out_of_chain(event()))))
    assert (answer.result, answer.applied, answer.seq) == ("chain", 0, 2)
    assert taken.numbers == []


def test_a_handler_that_fails_is_answered_and_the_event_may_come_again(
    bus: BusDeliveries, taken: Taken
) -> None:
    message = bus_message(kit().deliver(event()))
    taken.fail = lambda n: ValueError("later")
    assert read(bus.take(message)).result == "failed"
    taken.fail = lambda n: None
    assert read(bus.take(message)).result == "applied"


def test_what_the_handler_rejects_is_answered_with_its_reason(bus: BusDeliveries, taken: Taken) -> None:
    taken.fail = lambda n: Reject("not for us")
    answer = read(bus.take(bus_message(kit().deliver(event()))))
    assert (answer.result, answer.detail) == ("rejected", "not for us")


def test_what_is_stale_is_neither_applied_nor_answered(bus: BusDeliveries, taken: Taken) -> None:
    relay = kit()
    bus.take(bus_message(relay.fence()))
    assert bus.take(bus_message(relay.stale(event()))) is None
    assert taken.numbers == []


def test_a_fence_is_answered_and_locks_older_epochs_out(bus: BusDeliveries, taken: Taken) -> None:
    relay = kit()
    late = bus_message(relay.deliver(event()))
    answer = read(bus.take(bus_message(relay.fence())))
    assert (answer.result, answer.epoch, answer.key, answer.applied) == ("fence", 2, None, None)
    assert bus.take(late) is None
    assert taken.numbers == []


def test_an_old_copy_that_arrives_after_rest_has_delivered_more_is_a_duplicate(
    bus: BusDeliveries, taken: Taken
) -> None:
    relay = kit()
    first, second = (bus_message(relay.deliver(event(n))) for n in (1, 2))
    bus.take(first)
    bus.take(second)
    assert read(bus.take(first)).applied == 2
    assert taken.numbers == [1, 2]


def test_an_inbox_that_is_busy_leaves_the_delivery_to_be_applied_again(
    inbox: SqliteInbox, bus: BusDeliveries, taken: Taken
) -> None:
    request = kit().deliver(event())
    assert request.stamps is not None
    held = inbox.begin(request.stamps.channel, event().key)
    delivery = bus.open(bus_message(request))
    assert delivery is not None
    with pytest.raises(InboxBusy):
        bus.apply(delivery)
    held.rollback()
    assert read(bus.apply(delivery)).result == "applied"


def test_lanes_are_those_of_the_keys_and_a_fence_has_its_own(bus: BusDeliveries) -> None:
    relay = kit()
    requests = [relay.deliver(event(1, "k1")), relay.deliver(event(2, "k2")), relay.fence()]
    lanes = [delivery.lane for one in requests if (delivery := bus.open(bus_message(one)))]
    assert lanes == [(relay.channel, "/heat k1"), (relay.channel, "/heat k2"), (relay.channel, None)]


# -- signatures ---------------------------------------------------------------------------------------------


def test_the_secret_that_verified_the_delivery_signs_the_answer(inbox: SqliteInbox, taken: Taken) -> None:
    bus = bus_of(inbox, taken, SECRET, OTHER_SECRET)
    read(bus.take(bus_message(kit(OTHER_SECRET).deliver(event()))), OTHER_SECRET)


def test_an_asymmetric_delivery_is_answered_with_the_answer_secret(inbox: SqliteInbox, taken: Taken) -> None:
    signing_key = new_signing_key(b"k" * 32)
    bus = bus_of(inbox, taken, public_key(signing_key), answer_secret=OTHER_SECRET)
    read(bus.take(bus_message(kit(signing_key).deliver(event()))), OTHER_SECRET)


def test_a_public_key_without_an_answer_secret_is_refused(inbox: SqliteInbox, taken: Taken) -> None:
    with pytest.raises(ValueError, match="answer_secret"):
        bus_of(inbox, taken, public_key(new_signing_key(b"k" * 32)))


@pytest.mark.parametrize("wrong", ["foo", new_signing_key(b"k" * 32), "whsec_Zm9v"])
def test_an_answer_secret_that_signs_nothing_is_refused(inbox: SqliteInbox, taken: Taken, wrong: str) -> None:
    with pytest.raises(ValueError, match="whsec_") as refused:
        bus_of(inbox, taken, SECRET, answer_secret=wrong)
    assert wrong not in str(refused.value)


def test_each_answer_is_signed_at_the_time_it_is_sent(bus: BusDeliveries) -> None:
    answer = bus.take(bus_message(kit().deliver(event())))
    assert answer is not None


# -- what is no delivery -------------------------------------------------------------------------------------


def good() -> BusMessage:
    return bus_message(kit().deliver(event()))


def answered_before(bus: BusDeliveries) -> BusMessage:
    """The receiver's own answer, signed with the same secret, put into its queue."""
    answer = bus.take(bus_message(kit(subscription="other").deliver(event(7))))
    assert answer is not None
    return BusMessage(
        signed(answer.secret, answer.id, answer.body, NOW), "application/cloudevents+json", answer.body
    )


NOT_OURS = {
    "unsigned": lambda: replace(good(), headers={}),
    "without message_id": lambda: replace(good(), headers={**good().headers, "webhook-id": None}),
    "headers of wrong types": lambda: replace(
        good(), headers={"webhook-id": 7, "webhook-timestamp": 1, "webhook-signature": [b"v1"], "x": 6}
    ),
    "of a stranger": lambda: bus_message(kit(OTHER_SECRET).deliver(event())),
    "tampered with": lambda: bus_message(kit().tampered(kit().deliver(event()))),
    "another id": lambda: replace(good(), headers={**good().headers, "webhook-id": "test_1_0_2"}),
    "another type": lambda: replace(good(), content_type="application/json"),
    "no type": lambda: replace(good(), content_type=None),
    "a batch": lambda: bus_message(kit().batch([event()])),
    "empty": lambda: BusMessage({}, None, b""),
}


@pytest.mark.parametrize("name", NOT_OURS)
def test_what_no_relay_has_sent_is_dropped_with_the_reason_in_the_log(
    name: str, bus: BusDeliveries, taken: Taken, caplog: pytest.LogCaptureFixture
) -> None:
    assert bus.take(NOT_OURS[name]()) is None
    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert "no delivery of a relay" in record.message
    assert SECRET not in caplog.text
    assert taken.numbers == []


def test_an_answer_put_into_the_queue_is_no_delivery(bus: BusDeliveries, taken: Taken) -> None:
    message = answered_before(bus)
    assert bus.take(message) is None
    assert taken.numbers == [7]


def test_a_body_over_the_limit_is_dropped(
    inbox: SqliteInbox, taken: Taken, caplog: pytest.LogCaptureFixture
) -> None:
    assert bus_of(inbox, taken, max_body_bytes=100).take(good()) is None
    assert "100 are taken" in caplog.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", "x"]),
        st.none() | st.text() | st.binary() | st.integers() | st.lists(st.text()),
    ),
    st.none() | st.text() | st.sampled_from(["application/cloudevents+json"]),
    st.binary(),
)
def test_no_message_whatever_it_holds_raises(
    bus: BusDeliveries, headers: dict[str, object], content_type: str | None, body: bytes
) -> None:
    assert bus.take(BusMessage(headers, content_type, body)) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary() | st.text().map(str.encode), st.sampled_from(["cloudevents", "vnd.fairlead.fence"]))
def test_no_body_whatever_it_holds_raises_even_if_it_is_signed(
    bus: BusDeliveries, body: bytes, kind: str
) -> None:
    request = kit().deliver(event())
    forged = replace(
        request, headers={**request.headers, "content-type": f"application/{kind}+json"}, body=body
    )
    assert bus.take(bus_message(kit().again(forged))) is None


# -- the hint of `seq` ---------------------------------------------------------------------------------------


def missed(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [record.missed for record in caplog.records if hasattr(record, "missed")]


def test_a_jump_of_seq_is_said_once(bus: BusDeliveries, caplog: pytest.LogCaptureFixture) -> None:
    relay = kit()
    messages = [bus_message(relay.deliver(event(n, f"k{n}"))) for n in range(5)]
    for n in (0, 3, 1, 4):
        bus.open(messages[n])
    assert missed(caplog) == [2]


def test_a_new_epoch_or_connection_begins_to_count_afresh(
    bus: BusDeliveries, caplog: pytest.LogCaptureFixture
) -> None:
    relay = kit()
    bus.open(bus_message(relay.deliver(event(1))))
    relay.fence()
    relay.deliver(event(2))
    bus.open(bus_message(relay.deliver(event(3))))
    bus.reconnected()
    relay.deliver(event(4))
    bus.open(bus_message(relay.deliver(event(5))))
    assert missed(caplog) == []
