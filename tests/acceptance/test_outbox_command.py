# SPDX-License-Identifier: Apache-2.0
"""`fairlead outbox`: what waits at a publisher, seen from outside while it runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fairlead import Event, Publisher
from tests.acceptance.relay_process import Done, run
from tests.contract.publishing import Answer, StubRelay, problem, relay_at, until


def event(number: int) -> Event:
    return Event(f"a-{number}", "/heat", "t", subject="k", data={"n": number})


def refuses_the_second(batch: list[dict[str, Any]]) -> Answer | None:
    faults = [{"index": at, "detail": "no"} for at, one in enumerate(batch) if one["id"] == "a-2"]
    return problem(400, "invalid-event", detail="it is not taken", errors=faults) if faults else None


def shown(outbox: Path, *more: str) -> Done:
    return run("outbox", str(outbox), *more, folder=outbox.parent)


def test_it_shows_what_waits_and_what_was_lost(tmp_path: Path) -> None:
    outbox = tmp_path / "outbox.db"
    with Publisher("http://127.0.0.1:9", outbox=outbox) as publisher:
        publisher.publish(event(1))
        publisher.publish(event(2))
        publisher.note_lost(3, "the outbox was full")
        publisher.note_lost(4, "it was full still")
        done = shown(outbox)
        lines = done.out.splitlines()
        assert done.code == 0
        assert lines[0].startswith("waiting: 2, the oldest for ")
        assert lines[1] == "refused: 0"
        assert lines[3].startswith("lost: 7, the last at 20")
        assert lines[3].endswith(": it was full still")
        document = shown(outbox, "--json").document
        assert (document["waiting"], document["refused"], document["lost"]["count"]) == (2, [], 7)
        assert document["size_bytes"] == publisher.status().size_bytes
        assert publisher.publish(event(3)).id == "a-3", "the publisher goes on"


def test_it_shows_what_the_relay_refused(tmp_path: Path) -> None:
    outbox = tmp_path / "outbox.db"
    with (
        relay_at(StubRelay(script=refuses_the_second)) as relay,
        Publisher(relay.url, outbox=outbox) as publisher,
    ):
        for number in (1, 2, 3):
            publisher.publish(event(number))
        until(lambda: publisher.status().refused == 1)
        assert publisher.flush(30) == 0
        lines = shown(outbox).out.splitlines()
        assert lines[0] == "waiting: 0"
        assert lines[-1] == "refused 2: a-2 of /heat: it is not taken"
        (refused,) = shown(outbox, "--json").document["refused"]
        assert (refused["refused_id"], refused["id"]) == (2, "a-2")
        assert refused["problem"]["title"] == "invalid-event"


def test_what_is_no_outbox_ends_6_and_nothing_is_made(tmp_path: Path) -> None:
    done = shown(tmp_path / "none.db")
    assert done.code == 6
    assert "none.db: No such file or directory" in done.err
    (tmp_path / "text").write_text("no database, and long enough to be looked at as one" * 10)
    done = shown(tmp_path / "text")
    assert done.code == 6
    assert "text cannot be opened as a Fairlead file" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_another_user_is_told_whose_it_is(tmp_path: Path) -> None:
    outbox, owner = Path("/etc/passwd"), 0
    if os.geteuid() == 0:
        outbox, owner = tmp_path / "outbox.db", 65534
        outbox.touch()
        os.chown(outbox, owner, owner)
    done = run("outbox", str(outbox), folder=tmp_path)
    assert done.code == 6
    assert f"{outbox} belongs to user {owner}; run this as that user: sudo -u '#{owner}'" in done.err
    assert len(list(tmp_path.iterdir())) == (owner != 0), "nothing was made beside it"
