# SPDX-License-Identifier: Apache-2.0
"""What a receiver answers, without any framework around it (interface, section 7)."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from fairlead import Receiver, Reject
from fairlead.core.answer import parse_answer, parse_results, parse_stale
from fairlead.core.signature import new_signing_key, public_key
from fairlead.errors import InboxBusy
from fairlead.sdk.inbox.port import Transaction
from fairlead.sdk.inbox.sqlite_inbox import SqliteInbox, SqliteTransaction
from fairlead.testing.receiver_kit import BATCH, FENCE, STRUCTURED, ReceiverKit, SignedRequest
from tests.contract.receiving import OTHER_SECRET, SECRET, Taken, event, kit, receiver_at, send

PROBLEM = "application/problem+json"
DEADLINE_SECONDS = 30.0


@pytest.fixture
def taken() -> Taken:
    return Taken()


@pytest.fixture
def receiver(tmp_path: Path, taken: Taken) -> Iterator[Receiver]:
    receiver = receiver_at(tmp_path, taken)
    yield receiver
    receiver.close()


def test_an_applied_event_is_answered_with_its_answer(receiver: Receiver, taken: Taken) -> None:
    reply = send(receiver, kit().deliver(event()))
    assert reply.status == 200
    assert json.loads(reply.body) == {
        "subscription": "test", "partition": 0, "generation": 1, "epoch": 1,
        "key": "/heat k1", "result": "applied", "applied": 1,
    }  # fmt: skip
    assert taken.numbers == [1]


def test_the_handler_sees_the_event_as_it_came_with_the_relays_attributes(
    receiver: Receiver, taken: Taken
) -> None:
    send(receiver, kit().deliver(event(flavor="vanilla")))
    (got,) = taken.events
    assert (got.id, got.data, got.key) == ("a-1", {"n": 1}, "/heat k1")
    assert got.extensions["flavor"] == "vanilla"
    assert (got.extensions["flpos"], got.extensions["flgeneration"]) == ("1", "1")


def test_the_handler_is_told_which_events_were_skipped(receiver: Receiver, taken: Taken) -> None:
    relay = kit()
    send(receiver, relay.deliver(event(), structs.replace(relay.stamp(event()), pos=9, skipped=(4, 7))))
    assert taken.events[0].extensions["flskipped"] == "4 7"


def test_a_repeated_delivery_is_answered_again_and_not_handled(receiver: Receiver, taken: Taken) -> None:
    relay = kit()
    request = relay.deliver(event())
    send(receiver, request)
    reply = send(receiver, relay.again(request))
    assert reply.status == 200
    assert (parse_answer(reply.body).result, parse_answer(reply.body).applied) == ("duplicate", 1)
    assert taken.numbers == [1]


def test_an_old_copy_after_newer_events_is_a_duplicate(receiver: Receiver, taken: Taken) -> None:
    relay = kit()
    old = relay.deliver(event(1))
    for request in (old, relay.deliver(event(2)), relay.deliver(event(3))):
        send(receiver, request)
    assert parse_answer(send(receiver, old).body).applied == 3
    assert taken.numbers == [1, 2, 3]


def test_an_event_whose_predecessor_is_missing_is_425_until_it_has_come(
    receiver: Receiver, taken: Taken
) -> None:
    relay = kit()
    first, second = relay.deliver(event(1)), relay.deliver(event(2))
    reply = send(receiver, second)
    assert (reply.status, reply.headers["content-type"]) == (425, PROBLEM)
    answer = parse_answer(reply.body)
    assert (answer.result, answer.applied, answer.type) == ("chain", 0, "urn:fairlead:problem:chain")
    assert [send(receiver, request).status for request in (first, second)] == [200, 200]
    assert taken.numbers == [1, 2]


def test_other_resources_do_not_wait_for_a_missing_event(receiver: Receiver, taken: Taken) -> None:
    relay = kit()
    assert send(receiver, relay.out_of_chain(event(1, "k1"))).status == 425
    assert send(receiver, relay.deliver(event(2, "k2"))).status == 200
    assert taken.numbers == [2]


def test_an_older_epoch_is_409_with_the_inboxs_pair(receiver: Receiver, taken: Taken) -> None:
    relay = kit()
    late = relay.deliver(event(1))
    send(receiver, relay.fence())
    reply = send(receiver, late)
    assert (reply.status, reply.headers["content-type"]) == (409, PROBLEM)
    stale = parse_stale(reply.body)
    assert (stale.generation, stale.epoch) == (1, 2)
    assert taken.numbers == []


def test_a_new_generation_handles_the_same_events_anew(receiver: Receiver, taken: Taken) -> None:
    relay = kit()
    send(receiver, relay.deliver(event(1)))
    relay.replay()
    assert send(receiver, relay.deliver(event(1))).status == 200
    assert taken.numbers == [1, 1]


def test_the_floor_stands_in_for_what_was_pruned(receiver: Receiver, taken: Taken) -> None:
    relay = kit()
    request = relay.deliver(event(1))
    send(receiver, request)
    relay.floor = 7
    send(receiver, relay.fence())
    relay.epoch = 2
    earlier = structs.replace(relay.stamp(event()), pos=1)
    answer = parse_answer(send(receiver, relay.deliver(event(1), earlier)).body)
    assert (answer.result, answer.applied) == ("duplicate", 7)


def test_reject_is_422_with_its_reason(receiver: Receiver, taken: Taken) -> None:
    taken.fail = lambda n: Reject("no such stack")
    reply = send(receiver, kit().deliver(event()))
    answer = parse_answer(reply.body)
    assert (reply.status, answer.result, answer.applied, answer.detail) == (
        422,
        "rejected",
        0,
        "no such stack",
    )


def test_any_other_error_is_503_and_the_event_comes_again(
    receiver: Receiver, taken: Taken, caplog: pytest.LogCaptureFixture
) -> None:
    taken.fail = lambda n: ValueError("password=hunter2")
    relay = kit()
    request = relay.deliver(event())
    with caplog.at_level(logging.ERROR):
        reply = send(receiver, request)
    answer = parse_answer(reply.body)
    assert (reply.status, answer.result, answer.applied) == (503, "failed", 0)
    assert reply.headers["retry-after"] == "1"
    assert b"hunter2" not in reply.body
    assert "will come again" in caplog.text
    taken.fail = lambda n: None
    assert send(receiver, relay.again(request)).status == 200
    assert taken.numbers == [1]


def test_a_failed_handler_leaves_the_new_epoch_in_force(receiver: Receiver, taken: Taken) -> None:
    relay = kit()
    zombie = relay.deliver(event(1))
    assert zombie.stamps is not None
    taken.fail = lambda n: ValueError("later")
    assert send(receiver, relay.deliver(event(1), structs.replace(zombie.stamps, epoch=2))).status == 503
    taken.fail = lambda n: None
    assert send(receiver, zombie).status == 409


def test_a_fence_is_answered_without_key_and_applied(receiver: Receiver, taken: Taken) -> None:
    reply = send(receiver, kit().fence())
    assert (reply.status, json.loads(reply.body)) == (
        200, {"subscription": "test", "partition": 0, "generation": 1, "epoch": 2, "result": "fence"},
    )  # fmt: skip
    assert taken.numbers == []


def test_an_old_fence_is_stale(receiver: Receiver) -> None:
    relay = kit()
    old = relay.fence()
    send(receiver, relay.fence())
    assert send(receiver, old).status == 409


# -- batches -----------------------------------------------------------------------------------------------


def results(body: bytes) -> list[tuple[int, int]]:
    return [(result.position, result.status) for result in parse_results(body)]


def test_a_batch_is_answered_per_event_each_with_its_answer(receiver: Receiver, taken: Taken) -> None:
    reply = send(receiver, kit().batch([event(1), event(2, "k2"), event(3)]))
    assert (reply.status, results(reply.body)) == (207, [(1, 200), (2, 200), (3, 200)])
    assert [parse_answer(bytes(one.answer)).applied for one in parse_results(reply.body)] == [1, 2, 3]
    assert taken.numbers == [1, 2, 3]


def test_a_key_stops_at_its_first_failure_and_other_keys_go_on(receiver: Receiver, taken: Taken) -> None:
    taken.fail = lambda n: ValueError("later") if n == 2 else None
    batch = [event(1), event(2), event(3), event(4, "k2")]
    reply = send(receiver, kit().batch(batch))
    assert results(reply.body) == [(1, 200), (2, 503), (4, 200)]
    failed = parse_results(reply.body)[1]
    assert (failed.retry_after, parse_answer(bytes(failed.answer)).result) == (1, "failed")
    assert taken.numbers == [1, 4]


def test_a_batch_of_an_old_epoch_is_stale_event_by_event(receiver: Receiver) -> None:
    relay = kit()
    batch = relay.batch([event(1), event(2, "k2")])
    send(receiver, relay.fence())
    reply = send(receiver, batch)
    assert results(reply.body) == [(1, 409), (2, 409)]
    assert parse_stale(bytes(parse_results(reply.body)[0].answer)).epoch == 2


def test_an_empty_batch_is_answered_with_no_results(receiver: Receiver) -> None:
    assert results(send(receiver, kit().batch([])).body) == []


# -- who may speak -----------------------------------------------------------------------------------------


def test_what_was_changed_on_its_way_is_401(receiver: Receiver, taken: Taken) -> None:
    relay = kit()
    reply = send(receiver, relay.tampered(relay.deliver(event())))
    assert (reply.status, json.loads(reply.body)["type"]) == (401, "urn:fairlead:problem:unauthenticated")
    assert "www-authenticate" in reply.headers
    assert taken.numbers == []


def test_what_is_older_than_five_minutes_is_401(receiver: Receiver) -> None:
    relay = kit()
    assert send(receiver, relay.expired(relay.deliver(event()))).status == 401


def test_a_delivery_without_signature_is_401(receiver: Receiver) -> None:
    request = kit().deliver(event())
    bare = replace(request, headers={"content-type": STRUCTURED})
    assert send(receiver, bare).status == 401


def test_any_of_the_secrets_in_force_may_have_signed(tmp_path: Path, taken: Taken) -> None:
    receiver = Receiver(taken, secrets=[OTHER_SECRET, SECRET], inbox=tmp_path / "inbox.db")
    assert send(receiver, kit().deliver(event(1))).status == 200
    assert send(receiver, ReceiverKit(OTHER_SECRET, subscription="o").deliver(event(2))).status == 200
    receiver.close()


def test_an_asymmetric_signature_is_verified_with_the_public_key(tmp_path: Path, taken: Taken) -> None:
    signing_key = new_signing_key(b"k" * 32)
    receiver = Receiver(taken, secrets=[public_key(signing_key)], inbox=tmp_path / "inbox.db")
    relay = ReceiverKit(signing_key)
    request = relay.deliver(event())
    assert request.headers["webhook-signature"].startswith("v1a,")
    assert send(receiver, relay.tampered(request)).status == 401
    assert send(receiver, request).status == 200
    receiver.close()


@pytest.mark.parametrize("secrets", [[], "whsec_x", ["hunter2"], ["whsec_not base64"], ["whpk_c2hvcnQ="]])
def test_a_receiver_without_a_usable_secret_is_not_made(secrets: list[str]) -> None:
    with pytest.raises(ValueError, match=r"secrets|whsec_|whpk_"):
        Receiver(Taken(), secrets=secrets)


# -- what is not a delivery ----------------------------------------------------------------------------------


def resigned(request: SignedRequest, body: bytes, content_type: str) -> SignedRequest:
    headers = {**request.headers, "content-type": content_type}
    return kit().again(SignedRequest("POST", headers, body))


def test_another_content_type_is_415_and_names_those_that_work(receiver: Receiver) -> None:
    request = kit().deliver(event())
    reply = send(receiver, resigned(request, request.body, "application/json"))
    assert (reply.status, json.loads(reply.body)["supported"]) == (415, [STRUCTURED, BATCH, FENCE])


def test_an_event_without_the_relays_attributes_is_400_and_says_what_to_do(receiver: Receiver) -> None:
    body = b'{"specversion":"1.0","id":"a","source":"/s","type":"t"}'
    reply = send(receiver, resigned(kit().deliver(event()), body, STRUCTURED))
    assert reply.status == 400
    assert "structured" in json.loads(reply.body)["errors"][0]["hint"]


def test_a_body_that_is_not_json_is_400(receiver: Receiver) -> None:
    reply = send(receiver, resigned(kit().deliver(event()), b"{", STRUCTURED))
    assert (reply.status, json.loads(reply.body)["type"]) == (400, "urn:fairlead:problem:malformed-json")


def test_a_batch_of_two_channels_is_400(receiver: Receiver) -> None:
    relay, other = kit(), ReceiverKit(SECRET, subscription="other")
    body = b"[" + relay.deliver(event()).body + b"," + other.deliver(event()).body + b"]"
    assert send(receiver, resigned(relay.deliver(event()), body, BATCH)).status == 400


def test_a_body_over_the_limit_is_413(tmp_path: Path, taken: Taken) -> None:
    receiver = receiver_at(tmp_path, taken, max_body_bytes=100)
    reply = send(receiver, kit().deliver(event()))
    assert (reply.status, json.loads(reply.body)["limit_bytes"]) == (413, 100)
    receiver.close()


def test_other_methods_are_405_with_allow(receiver: Receiver) -> None:
    reply = receiver.handle("GET", {}, b"")
    assert (reply.status, reply.headers["allow"]) == (405, "OPTIONS, POST, PUT, PATCH")


def test_the_handshake_consents_to_any_origin_and_rate_unless_told_otherwise(receiver: Receiver) -> None:
    ask = {"webhook-request-origin": "relay.example", "webhook-request-rate": "120"}
    reply = receiver.handle("OPTIONS", ask, b"")
    assert (reply.headers["webhook-allowed-origin"], reply.headers["webhook-allowed-rate"]) == ("*", "*")


def test_the_handshake_names_the_origin_and_the_rate_it_was_given(tmp_path: Path, taken: Taken) -> None:
    receiver = receiver_at(tmp_path, taken, allowed_origins=["relay.example"], allowed_rate=60)
    ask = {"webhook-request-origin": "relay.example", "webhook-request-rate": "120"}
    reply = receiver.handle("OPTIONS", ask, b"")
    assert reply.headers["webhook-allowed-origin"] == "relay.example"
    assert reply.headers["webhook-allowed-rate"] == "60"
    refused = receiver.handle("OPTIONS", {"webhook-request-origin": "evil.example"}, b"")
    assert "webhook-allowed-origin" not in refused.headers


# -- side by side --------------------------------------------------------------------------------------------


def test_a_caller_that_leaves_before_its_delivery_begins_takes_no_slot_along(
    receiver: Receiver, taken: Taken
) -> None:
    async def main() -> None:
        process, busy = receiver._process(), threading.Event()
        for _ in range(receiver.concurrency):
            process.workers.submit(busy.wait)
        for _ in range(receiver.concurrency):
            leaving = asyncio.create_task(receiver.handle_async("POST", {}, b""))
            await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        busy.set()
        assert (await receiver.handle_async("POST", {}, b"")).status == 401

    asyncio.run(main())


def test_beyond_the_concurrency_it_answers_429(tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def handler(event: object, transaction: object) -> None:
        entered.set()
        assert leave.wait(DEADLINE_SECONDS)

    receiver = receiver_at(tmp_path, handler, concurrency=1)
    relay = kit()
    first = threading.Thread(target=send, args=(receiver, relay.deliver(event(1))))
    first.start()
    assert entered.wait(DEADLINE_SECONDS)
    second = relay.deliver(event(2, "k2"))
    reply = send(receiver, second)
    assert (reply.status, reply.headers["retry-after"]) == (429, "1")
    leave.set()
    first.join(DEADLINE_SECONDS)
    assert send(receiver, second).status == 200
    receiver.close()


def test_a_copy_that_comes_while_the_first_is_handled_waits_and_is_a_duplicate(tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()
    calls: list[int] = []

    def handler(event: object, transaction: object) -> None:
        calls.append(1)
        entered.set()
        assert leave.wait(DEADLINE_SECONDS)

    receiver = receiver_at(tmp_path, handler)
    request = kit().deliver(event())
    answers: list[str | None] = []

    def deliver() -> None:
        answers.append(parse_answer(send(receiver, request).body).result)

    threads = [threading.Thread(target=deliver) for _ in range(2)]
    threads[0].start()
    assert entered.wait(DEADLINE_SECONDS)
    threads[1].start()
    leave.set()
    for thread in threads:
        thread.join(DEADLINE_SECONDS)
    assert sorted(filter(None, answers)) == ["applied", "duplicate"]
    assert len(calls) == 1
    receiver.close()


def test_a_generation_that_begins_under_a_handler_makes_it_stale(tmp_path: Path) -> None:
    relay = kit()
    receiver: Receiver

    def handler(event: object, transaction: object) -> None:
        relay.generation = 2
        assert send(receiver, relay.fence()).status == 200

    receiver = receiver_at(tmp_path, handler)
    reply = send(receiver, relay.deliver(event()))
    assert reply.status == 409
    assert parse_stale(reply.body).generation == 2
    receiver.close()


def test_a_key_locked_for_too_long_is_503_that_counts_as_no_attempt(tmp_path: Path, taken: Taken) -> None:
    inbox = SqliteInbox(tmp_path / "inbox.db", lock_wait_seconds=0.1)
    receiver = Receiver(taken, secrets=[SECRET], inbox=inbox)
    request = kit().deliver(event())
    assert request.stamps is not None
    held = inbox.begin(request.stamps.channel, event().key)
    reply = send(receiver, request)
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert "result" not in json.loads(reply.body)
    held.rollback()
    assert send(receiver, request).status == 200
    receiver.close()


# -- effects in the inbox's database ------------------------------------------------------------------------


def test_what_the_handler_writes_commits_with_the_inbox_or_not_at_all(tmp_path: Path) -> None:
    def handler(event: object, transaction: SqliteTransaction) -> None:
        n = event.data["n"]  # type: ignore[attr-defined]
        transaction.execute("CREATE TABLE IF NOT EXISTS mine (n INTEGER)")
        transaction.execute("INSERT INTO mine VALUES (?)", (n,))
        if n == 2:
            raise ValueError("after the insert")

    receiver = receiver_at(tmp_path, handler)
    relay = kit()
    assert [send(receiver, relay.deliver(event(n))).status for n in (1, 2)] == [200, 503]
    inbox = receiver.inbox
    assert isinstance(inbox, SqliteInbox)
    reader = inbox.begin(relay.channel, event().key)
    assert (reader.applied, reader.execute("SELECT n FROM mine").fetchall()) == (1, [(1,)])
    reader.rollback()
    receiver.close()


def test_an_async_handler_writes_through_run(tmp_path: Path) -> None:
    def insert(transaction: SqliteTransaction, n: int) -> None:
        transaction.execute("CREATE TABLE IF NOT EXISTS mine (n INTEGER)")
        transaction.execute("INSERT INTO mine VALUES (?)", (n,))

    async def handler(event: object, transaction: SqliteTransaction) -> None:
        await transaction.run(insert, event.data["n"])  # type: ignore[attr-defined]

    receiver = receiver_at(tmp_path, handler)
    relay = kit()
    assert send(receiver, relay.deliver(event(1))).status == 200
    inbox = receiver.inbox
    assert isinstance(inbox, SqliteInbox)
    reader = inbox.begin(relay.channel, event().key)
    assert reader.execute("SELECT n FROM mine").fetchall() == [(1,)]
    reader.rollback()
    receiver.close()


def test_a_handler_that_could_not_get_the_file_is_not_to_blame(tmp_path: Path) -> None:
    def handler(event: object, transaction: Transaction) -> None:
        raise InboxBusy("another handler writes")

    receiver = receiver_at(tmp_path, handler)
    reply = send(receiver, kit().deliver(event()))
    assert (reply.status, json.loads(reply.body)["type"]) == (503, "urn:fairlead:problem:overloaded")
    receiver.close()


def test_an_inbox_that_cannot_be_used_is_503_and_says_which_file(tmp_path: Path, taken: Taken) -> None:
    (tmp_path / "inbox.db").write_text("hello, I am a text file, longer than the header of a database " * 9)
    receiver = receiver_at(tmp_path, taken)
    reply = send(receiver, kit().deliver(event()))
    assert (reply.status, json.loads(reply.body)["type"]) == (503, "urn:fairlead:problem:overloaded")
    assert "inbox.db" in json.loads(reply.body)["detail"]
    receiver.close()


def test_a_handler_that_only_looks_async_fails_with_the_reason_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def real(event: object, transaction: object) -> None: ...

    def seems_sync(event: object, transaction: object) -> object:
        return real(event, transaction)

    receiver = receiver_at(tmp_path, seems_sync)
    assert send(receiver, kit().deliver(event())).status == 503
    assert "async def" in caplog.text
    receiver.close()
