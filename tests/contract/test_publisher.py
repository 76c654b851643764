# SPDX-License-Identifier: Apache-2.0
"""Publishing through the outbox, against a real HTTP server in the relay's place (interface, section 11)."""

from __future__ import annotations

import asyncio
import logging
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fairlead import Event, EventRefused, OutboxFull, Publisher
from fairlead.core.codec import encode_structured
from fairlead.errors import InvalidEvent, OutboxClosed, OutboxError, StoreError, StoreNewer
from fairlead.sdk.publishing.forwarder import _TurnLock
from fairlead.sdk.publishing.outbox import Outbox
from fairlead.sdk.publishing.process import Pending
from fairlead.sdk.publishing.records import Decided, Receipt, RefusedEvent
from tests.contract.publishing import DEADLINE_SECONDS, Answer, StubRelay, problem, relay_at, until

WAIT = DEADLINE_SECONDS


@pytest.fixture
def relay() -> Iterator[StubRelay]:
    with relay_at() as relay:
        yield relay


def publisher_at(place: Path, url: str, **options: Any) -> Publisher:
    return Publisher(url, outbox=place / "outbox.db", **options)


def event(n: int, **more: Any) -> Event:
    return Event(f"a-{n}", "/heat", "org.example.state", subject="k1", data={"n": n}, **more)


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def test_stored_returns_at_once_and_the_event_arrives(tmp_path: Path, relay: StubRelay) -> None:
    with publisher_at(tmp_path, relay.url) as publisher:
        receipt = publisher.publish(event(1))
        assert (receipt.id, receipt.partition, receipt.position, receipt.duplicate) == (
            "a-1",
            None,
            None,
            None,
        )
        assert publisher.flush(WAIT) == 0
        (got,) = relay.accepted
        assert got == {
            "specversion": "1.0", "id": "a-1", "source": "/heat", "type": "org.example.state",
            "subject": "k1", "datacontenttype": "application/json", "data": {"n": 1},
        }  # fmt: skip


def test_accepted_returns_the_place_in_the_log(tmp_path: Path, relay: StubRelay) -> None:
    with publisher_at(tmp_path, relay.url) as publisher:
        first = publisher.publish(event(1), wait="accepted", timeout=WAIT)
        again = publisher.publish(event(1), wait="accepted", timeout=WAIT)
    assert (first.partition, first.position, first.duplicate) == (5, 1, False)
    assert (again.position, again.duplicate) == (1, True)


def test_requests_are_batches_with_the_key_as_bearer(tmp_path: Path, relay: StubRelay) -> None:
    with publisher_at(tmp_path, f"{relay.url}/base/", api_key="flk_x") as publisher:
        publisher.publish(event(1), wait="accepted", timeout=WAIT)
    path, headers, _ = relay.requests[0]
    assert path == "/base/events"
    assert headers["content-type"] == "application/cloudevents-batch+json"
    assert headers["authorization"] == "Bearer flk_x"


def test_what_was_published_while_the_relay_was_down_arrives_in_order(tmp_path: Path) -> None:
    port = closed_port()
    with publisher_at(tmp_path, f"http://127.0.0.1:{port}") as publisher:
        for n in range(50):
            publisher.publish(event(n))
        until(lambda: publisher.status().last_error is not None)
        status = publisher.status()
        assert status.waiting == 50
        assert status.oldest is not None
        assert "cannot be reached" in str(status.last_error)
        with relay_at(port=port) as relay:
            assert publisher.flush(WAIT) == 0
            assert relay.ids == [f"a-{n}" for n in range(50)]
        assert publisher.status().last_error is None


def test_what_an_earlier_publisher_left_goes_out_by_itself(tmp_path: Path, relay: StubRelay) -> None:
    with publisher_at(tmp_path, f"http://127.0.0.1:{closed_port()}") as publisher:
        publisher.publish(event(1))
    with publisher_at(tmp_path, relay.url):
        until(lambda: relay.ids == ["a-1"])


def test_a_mapping_gets_id_source_and_time(tmp_path: Path, relay: StubRelay) -> None:
    with publisher_at(tmp_path, relay.url, source="/nova") as publisher:
        receipt = publisher.publish({"type": "t", "data": 1}, wait="accepted", timeout=WAIT)
    (got,) = relay.accepted
    assert (got["source"], got["id"], got["data"]) == ("/nova", receipt.id, 1)
    assert got["time"].endswith("Z")


def test_an_event_that_is_none_is_refused_before_it_is_stored(tmp_path: Path, relay: StubRelay) -> None:
    with publisher_at(tmp_path, relay.url) as publisher:
        with pytest.raises(InvalidEvent):
            publisher.publish({"type": "t"})
        with pytest.raises(ValueError, match="stored"):
            publisher.publish(event(1), wait="delivered")  # type: ignore[arg-type]
        assert publisher.status().waiting == 0


def test_data_leave_as_the_bytes_they_were(tmp_path: Path, relay: StubRelay) -> None:
    with publisher_at(tmp_path, relay.url) as publisher:
        binary = Event("b", "/s", "t", data=b"\x00\xff")
        text = Event("t", "/s", "t", data="grüße", datacontenttype="text/plain")
        for one in (binary, text):
            publisher.publish(one, wait="accepted", timeout=WAIT)
    assert relay.accepted[0]["data_base64"] == "AP8="
    assert relay.accepted[1]["data"] == "grüße"


# -- many at once --------------------------------------------------------------------------------------------


def test_threads_share_commits_and_each_keeps_its_order(tmp_path: Path, relay: StubRelay) -> None:
    with publisher_at(tmp_path, relay.url) as publisher:

        def publish(name: str) -> None:
            for n in range(40):
                publisher.publish(Event(f"{name}-{n}", "/s", "t", subject=name))

        threads = [threading.Thread(target=publish, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert publisher.flush(WAIT) == 0
    for name in "abcd":
        assert [id for id in relay.ids if id.startswith(name)] == [f"{name}-{n}" for n in range(40)]


def test_publish_async_stores_many_at_once_in_order(tmp_path: Path, relay: StubRelay) -> None:
    async def main(publisher: Publisher) -> None:
        await asyncio.gather(*(publisher.publish_async(event(n)) for n in range(200)))
        receipt = await publisher.publish_async(event(200), wait="accepted", timeout=WAIT)
        assert receipt.position == 201

    with publisher_at(tmp_path, relay.url) as publisher:
        asyncio.run(main(publisher))
    assert relay.ids == [f"a-{n}" for n in range(201)]


def test_a_batch_holds_at_most_a_thousand_events(tmp_path: Path) -> None:
    with publisher_at(tmp_path, f"http://127.0.0.1:{closed_port()}") as publisher:
        asyncio.run(gather_published(publisher, 2100))
    with relay_at() as relay, publisher_at(tmp_path, relay.url) as publisher:
        assert publisher.flush(WAIT) == 0
    assert [len(batch) for _, _, batch in relay.requests] == [1000, 1000, 100]


async def gather_published(publisher: Publisher, count: int) -> None:
    await asyncio.gather(*(publisher.publish_async(event(n)) for n in range(count)))


def test_a_batch_holds_at_most_eight_mebibytes(tmp_path: Path) -> None:
    with publisher_at(tmp_path, f"http://127.0.0.1:{closed_port()}") as publisher:
        for n in range(10):
            publisher.publish(Event(f"a-{n}", "/s", "t", data="x" * 1_000_000))
    with relay_at() as relay, publisher_at(tmp_path, relay.url) as publisher:
        assert publisher.flush(WAIT) == 0
    assert [len(batch) for _, _, batch in relay.requests] == [8, 2]
    assert all(int(headers["content-length"]) <= 8 * 1024 * 1024 for _, headers, _ in relay.requests)


# -- refused -------------------------------------------------------------------------------------------------


def poison(*ids: str, status: int = 400, name: str = "invalid-event") -> Any:
    def script(batch: list[dict[str, Any]]) -> Answer | None:
        bad = [index for index, one in enumerate(batch) if one["id"] in ids]
        errors = [{"index": index, "detail": "no good"} for index in bad]
        return problem(status, name, detail="the batch holds bad events", errors=errors) if bad else None

    return script


@pytest.mark.parametrize(
    ("status", "name"), [(400, "invalid-event"), (409, "event-conflict"), (413, "too-large")]
)
def test_refused_events_step_aside_and_the_others_go_on_in_order(
    tmp_path: Path, relay: StubRelay, caplog: pytest.LogCaptureFixture, status: int, name: str
) -> None:
    relay.script = poison("a-1", "a-3", status=status, name=name)
    seen: list[RefusedEvent] = []
    with publisher_at(tmp_path, relay.url, on_refused=seen.append) as publisher:
        asyncio.run(gather_published(publisher, 5))
        with caplog.at_level(logging.ERROR):
            assert publisher.flush(WAIT) == 0
        assert relay.ids == ["a-0", "a-2", "a-4"]
        refused = publisher.refused()
        assert [one.event.id for one in refused] == ["a-1", "a-3"]
        assert refused[0].problem["type"] == f"urn:fairlead:problem:{name}"
        assert [error["detail"] for error in refused[0].problem["errors"]] == ["no good"]
        assert refused[0].event.data == {"n": 1}
        assert publisher.status().refused == 2
    assert [one.id for one in seen] == [one.id for one in refused]
    assert "refused table" in caplog.text


def test_accepted_raises_what_the_relay_refused(tmp_path: Path, relay: StubRelay) -> None:
    relay.script = poison("a-1")
    with publisher_at(tmp_path, relay.url) as publisher:
        with pytest.raises(EventRefused, match="the batch holds bad events") as caught:
            publisher.publish(event(1), wait="accepted", timeout=WAIT)
        assert publisher.refused()[0].id == caught.value.refused_id


def test_a_refused_event_can_be_tried_again_or_thrown_away(tmp_path: Path, relay: StubRelay) -> None:
    relay.script = poison("a-1", "a-2")
    with publisher_at(tmp_path, relay.url) as publisher:
        for n in (1, 2, 3):
            publisher.publish(event(n))
        assert publisher.flush(WAIT) == 0
        first, second = publisher.refused()
        relay.script = lambda batch: None
        publisher.retry_refused(first.id)
        publisher.discard_refused(second.id)
        assert publisher.flush(WAIT) == 0
        assert publisher.refused() == []
        assert relay.ids == ["a-3", "a-1"]
        with pytest.raises(KeyError):
            publisher.retry_refused(second.id)
        with pytest.raises(KeyError):
            publisher.discard_refused(second.id)


def test_a_refusal_that_names_no_event_is_narrowed_down_to_it(tmp_path: Path, relay: StubRelay) -> None:
    def script(batch: list[dict[str, Any]]) -> Answer | None:
        return (413, {}, "a proxy's page") if any(one["id"] == "a-5" for one in batch) else None

    relay.script = script
    with publisher_at(tmp_path, relay.url) as publisher:
        asyncio.run(gather_published(publisher, 8))
        assert publisher.flush(WAIT) == 0
        assert [one.event.id for one in publisher.refused()] == ["a-5"]
    assert relay.ids == [f"a-{n}" for n in (0, 1, 2, 3, 4, 6, 7)]


def test_a_callback_that_raises_stops_nothing(
    tmp_path: Path, relay: StubRelay, caplog: pytest.LogCaptureFixture
) -> None:
    def callback(refused: RefusedEvent) -> None:
        raise ValueError("mine")

    relay.script = poison("a-1")
    with publisher_at(tmp_path, relay.url, on_refused=callback) as publisher:
        for n in (1, 2):
            publisher.publish(event(n))
        assert publisher.flush(WAIT) == 0
    assert relay.ids == ["a-2"]
    assert "on_refused raised" in caplog.text


# -- kept and tried again ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 502, 503, 507, 302])
def test_any_other_answer_keeps_the_events_and_their_order(
    tmp_path: Path, relay: StubRelay, status: int
) -> None:
    answers: list[Answer] = [problem(status, "x", detail="not now")] * 2

    def script(batch: list[dict[str, Any]]) -> Answer | None:
        return answers.pop() if answers else None

    relay.script = script
    with publisher_at(tmp_path, relay.url) as publisher:
        for n in range(3):
            publisher.publish(event(n))
        until(lambda: publisher.flush(0.05) == 0)
        assert publisher.refused() == []
    assert relay.ids == ["a-0", "a-1", "a-2"]


def test_a_wait_for_accepted_that_runs_out_says_why_and_keeps_the_event(
    tmp_path: Path, relay: StubRelay
) -> None:
    relay.script = lambda batch: problem(401, "unauthenticated", detail="the key has expired")
    with publisher_at(tmp_path, relay.url) as publisher:
        publisher.publish(event(1))
        until(lambda: publisher.status().last_error is not None)
        with pytest.raises(TimeoutError, match="401: the key has expired"):
            publisher.publish(event(2), wait="accepted", timeout=0.05)
        assert publisher.status().waiting == 2

        async def main() -> None:
            with pytest.raises(TimeoutError, match="401: the key has expired"):
                await publisher.publish_async(event(3), wait="accepted", timeout=0.05)

        asyncio.run(main())
        assert publisher.flush(0) == 3


def test_a_200_of_something_that_is_no_relay_lets_go_of_nothing(tmp_path: Path, relay: StubRelay) -> None:
    relay.script = lambda batch: (202, {}, {"accepted": []})
    with publisher_at(tmp_path, relay.url) as publisher:
        publisher.publish(event(1))
        until(lambda: publisher.status().last_error is not None)
        assert "relay" in str(publisher.status().last_error)
        assert publisher.status().waiting == 1


def test_a_kept_connection_that_the_relay_closed_is_opened_anew(tmp_path: Path) -> None:
    relay = StubRelay()
    with relay_at(relay) as first, publisher_at(tmp_path, first.url) as publisher:
        publisher.publish(event(1), wait="accepted", timeout=WAIT)
        relay.script = lambda batch: (503, {"connection": "close"}, {})
        publisher.publish(event(2))
        until(lambda: publisher.status().last_error is not None)
        relay.script = lambda batch: None
        until(lambda: publisher.flush(0.05) == 0)
    assert relay.ids == ["a-1", "a-2"]


# -- bounds and the end --------------------------------------------------------------------------------------


def fill(publisher: Publisher) -> int:
    for n in range(1000):
        try:
            publisher.publish(event(n))
        except OutboxFull:
            return n
    raise AssertionError("it never got full")


def test_a_full_outbox_refuses_and_takes_again_when_there_is_room(tmp_path: Path) -> None:
    port = closed_port()
    with publisher_at(tmp_path, f"http://127.0.0.1:{port}", max_bytes=1000) as publisher:
        stored = fill(publisher)
        with pytest.raises(OutboxFull, match="max_bytes is 1000"):
            publisher.publish(event(stored))
        assert publisher.status().waiting == stored
        assert publisher.status().size_bytes <= 1000
        with relay_at(port=port) as relay:
            assert publisher.flush(WAIT) == 0
            publisher.publish(event(99), wait="accepted", timeout=WAIT)
            assert len(relay.accepted) == stored + 1
        assert publisher.status().size_bytes == 0


def test_a_closed_publisher_says_so(tmp_path: Path, relay: StubRelay) -> None:
    publisher = publisher_at(tmp_path, relay.url)
    publisher.close()
    publisher.close()
    with pytest.raises(OutboxClosed):
        publisher.publish(event(1))


def test_closing_tells_those_who_wait_that_the_event_is_stored(tmp_path: Path) -> None:
    publisher = publisher_at(tmp_path, f"http://127.0.0.1:{closed_port()}")
    errors: list[BaseException] = []

    def publish() -> None:
        try:
            publisher.publish(event(1), wait="accepted")
        except OutboxClosed as error:
            errors.append(error)

    thread = threading.Thread(target=publish)
    thread.start()
    until(lambda: publisher.status().waiting == 1)
    publisher.close()
    thread.join(WAIT)
    assert "stored" in str(errors[0])


def test_closing_does_not_wait_for_a_relay_that_does_not_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        publisher = publisher_at(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}")
        publisher.publish(event(1))
        connection, _ = silent.accept()
        assert connection.recv(10)
        publisher.close()
        connection.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("relay.example", "http://host:port"),
        ("ftp://relay.example", "http://host:port"),
        ("https://me:secret@relay.example", "api_key"),
        ("https://relay.example?x=1", "query"),
    ],
)
def test_a_url_that_is_no_relays_is_refused(tmp_path: Path, url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        publisher_at(tmp_path, url)


def test_an_outbox_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere/outbox\.db"):
        Publisher("http://127.0.0.1:1", outbox=tmp_path / "nowhere" / "outbox.db")


def test_an_outbox_stays_where_it_was_when_the_process_changes_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fairlead.drivers.sqlite.room._PLENTY_SECONDS", 0.0)
    (elsewhere := tmp_path / "elsewhere").mkdir()
    with relay_at() as relay, Publisher(relay.url) as publisher:
        publisher.publish(event(1))
        monkeypatch.chdir(elsewhere)  # as every daemon does
        publisher.publish(event(2))
        assert publisher.flush(WAIT) == 0
        assert relay.ids == ["a-1", "a-2"]
    assert list(elsewhere.iterdir()) == []


def test_an_outbox_that_somebody_removed_is_named(tmp_path: Path, relay: StubRelay) -> None:
    with publisher_at(tmp_path, relay.url) as publisher:
        (tmp_path / "outbox.db").unlink()
        with pytest.raises(OutboxError, match=r"outbox\.db: No such file or directory; see that the"):
            publisher.publish(event(1))


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_an_outbox_that_somebody_replaced_is_named(
    tmp_path: Path, relay: StubRelay, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr("fairlead.drivers.sqlite.room._PLENTY_SECONDS", 0.0)
    file = tmp_path / f"outbox.db{suffix}"
    with publisher_at(tmp_path, relay.url) as publisher:
        publisher.publish(event(1))
        (tmp_path / "other").touch()
        (tmp_path / "other").replace(file)
        with pytest.raises(
            OutboxError, match=rf"outbox\.db{suffix} was removed or replaced while it was in use"
        ):
            publisher.publish(event(2))


def test_only_its_owner_may_read_the_outbox(tmp_path: Path, relay: StubRelay) -> None:
    with publisher_at(tmp_path, relay.url):
        assert (tmp_path / "outbox.db").stat().st_mode & 0o077 == 0


def test_an_outbox_of_an_older_version_is_used_and_keeps_what_waits(tmp_path: Path, relay: StubRelay) -> None:
    with publisher_at(tmp_path, "http://127.0.0.1:9") as publisher:
        publisher.publish(event(1))
    with closing(sqlite3.connect(tmp_path / "outbox.db")) as file:
        file.executescript("DROP TABLE lost; UPDATE fairlead_outbox SET version = 1;")
    with publisher_at(tmp_path, relay.url) as publisher:
        publisher.note_lost(1, "why")
        assert publisher.flush(WAIT) == 0
        lost = publisher.status().lost
        assert lost is not None
        assert (lost.count, lost.reason) == (1, "why")
    assert relay.ids == ["a-1"]
    with closing(sqlite3.connect(tmp_path / "outbox.db")) as file:
        file.execute("UPDATE fairlead_outbox SET version = 99")
        file.commit()
    with pytest.raises(StoreNewer, match="has version 99"):
        publisher_at(tmp_path, relay.url)


def test_what_two_processes_set_aside_is_set_aside_once(tmp_path: Path) -> None:
    one, other = (Outbox(tmp_path / "outbox.db", 1024**2) for _ in range(2))
    one.append([(event(n), encode_structured(event(n)), True) for n in (1, 2)])
    refused, accepted = other.head(10, 1024**2)
    outcomes: list[Decided] = [(refused, {"title": "no"}), (accepted, Receipt("a-2", 1, 1, False))]
    assert one.settle(outcomes) == 2
    before = one.status(None)
    assert other.settle(outcomes) == 2, "it was sent by both: one had lost its turn meanwhile"
    assert other.status(None) == before
    assert (before.waiting, before.refused) == (0, 1)
    assert one.discard_refused(refused.seq)
    assert other.settle(outcomes) == 2
    assert other.refused() == [], "what was thrown away stays away"
    one.close()
    other.close()


def test_callers_that_wait_together_share_commits_and_all_are_stored(
    tmp_path: Path, relay: StubRelay
) -> None:
    with publisher_at(tmp_path, relay.url) as publisher:
        process = publisher._process()
        append, sizes = process.outbox.append, []

        def counted(events: Any) -> Any:
            sizes.append(len(events))
            return append(events)

        process.outbox.append = counted  # type: ignore[method-assign]
        with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as file:
            file.execute("BEGIN IMMEDIATE")
            callers = [threading.Thread(target=publisher.publish, args=(event(n),)) for n in range(30)]
            for caller in callers:
                caller.start()
            until(lambda: len(process._queue) == 29, "one of them leads and waits for the file")
            file.execute("ROLLBACK")
            for caller in callers:
                caller.join()
        assert sizes == [1, 29]
        assert publisher.flush(WAIT) == 0
    assert sorted(relay.ids) == sorted(f"a-{n}" for n in range(30))


class Interrupting(threading.Event):
    """Whoever waits for it is interrupted when it is set."""

    def wait(self, timeout: float | None = None) -> bool:
        super().wait(timeout)
        raise KeyboardInterrupt


def test_a_caller_interrupted_when_it_was_to_lead_lets_another_lead(tmp_path: Path, relay: StubRelay) -> None:
    with publisher_at(tmp_path, relay.url) as publisher:
        process = publisher._process()
        interrupted = Pending(event(2), encode_structured(event(2)), False, turn=Interrupting())

        def commit() -> None:
            with pytest.raises(KeyboardInterrupt):
                process.commit(interrupted)

        with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as file:
            file.execute("BEGIN IMMEDIATE")
            callers = [threading.Thread(target=publisher.publish, args=(event(1),))]
            callers += [threading.Thread(target=commit)]
            callers += [threading.Thread(target=publisher.publish, args=(event(3),))]
            for queued, caller in enumerate(callers):
                caller.start()
                until(lambda queued=queued: process._led and len(process._queue) == queued)  # type: ignore[misc]
            file.execute("ROLLBACK")
            for caller in callers:
                caller.join(WAIT)
                assert not caller.is_alive()
        assert interrupted.stored.result(WAIT) == 2, "stored, though who published was interrupted"
        assert publisher.flush(WAIT) == 0
    assert relay.ids == ["a-1", "a-2", "a-3"]


def test_where_no_thread_can_be_started_an_event_is_refused_and_the_next_ones_are_stored(
    tmp_path: Path, relay: StubRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, behind = threading.Thread.start, threading.Thread(target=lambda: publisher.publish(event(2)))

    def refuse(thread: threading.Thread) -> None:
        if not thread.name.startswith("fairlead-outbox"):
            start(thread)
            return
        if not behind.ident:  # somebody else publishes, and waits for whoever leads
            start(behind)
            until(lambda: len(publisher._process()._queue) == 2)
        raise RuntimeError("can't start new thread")

    async def publish() -> None:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OutboxError, match="no thread") as refused:
            await publisher.publish_async(event(1))
        assert not isinstance(refused.value, OutboxClosed)
        monkeypatch.undo()
        await asyncio.gather(*(asyncio.wait_for(publisher.publish_async(event(n)), WAIT) for n in (3, 4)))

    with publisher_at(tmp_path, relay.url) as publisher:
        asyncio.run(publish())
        behind.join(WAIT)
        publisher.publish(event(5), wait="accepted", timeout=WAIT)
    assert relay.ids == ["a-2", "a-3", "a-4", "a-5"]


def test_where_no_thread_can_be_started_that_forwards_events_are_stored_and_go_with_the_next(
    tmp_path: Path, relay: StubRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        publisher = publisher_at(tmp_path, relay.url)
        publisher.publish(event(1))
        assert "no thread can be started that forwards them" in (publisher.status().last_error or "")
    with publisher:
        publisher.publish(event(2))
        assert publisher.flush(WAIT) == 0
    assert relay.ids == ["a-1", "a-2"]


def test_one_thread_forwards_whoever_else_starts_it(
    tmp_path: Path, relay: StubRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    made: list[threading.Thread] = []

    class Meanwhile(threading.Thread):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            made.append(self)
            if len(made) == 1:
                publisher.flush(0)  # of another thread, while this one starts the forwarder

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        publisher = publisher_at(tmp_path, relay.url)
    with publisher:
        with monkeypatch.context() as slow:
            slow.setattr(threading, "Thread", Meanwhile)
            publisher.flush(0)
        assert [thread.name for thread in made] == ["fairlead-publisher"]
        publisher.publish(event(1))
        assert publisher.flush(WAIT) == 0


def test_publishers_are_made_in_several_threads(tmp_path: Path) -> None:
    def make(thread: int) -> list[_TurnLock]:
        return [_TurnLock(str(tmp_path / f"{thread}-{number}")) for number in range(200)]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(make, range(4)))
    finally:
        sys.setswitchinterval(interval)
