# SPDX-License-Identifier: Apache-2.0
"""What the command line makes of an answer, without a relay."""

from __future__ import annotations

import io
import json
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from fairlead.cli import output
from fairlead.cli.api import RefusedError
from fairlead.cli.lanes_command import skip
from fairlead.cli.listen_command import _shown
from fairlead.cli.listening import MOST_LETTERS, MOST_REASONS, Listener, Server
from fairlead.cli.replay_command import command as replay
from fairlead.cli.send_command import _point_at_lines
from fairlead.cli.status_command import outcome

SECRET = "whsec_" + "A" * 32
STRUCTURED = {"content-type": "application/cloudevents+json"}


@contextmanager
def served() -> Iterator[tuple[str, int]]:
    """Where a listener can be reached; at the end every request has been dealt with."""
    listener = Listener(lambda *_: None)
    server = Server(listener, "127.0.0.1", 0)
    server.daemon_threads = False  # so that closing waits for them
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield ("127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        listener.close()


def test_no_line_of_a_table_ends_in_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(
        ("subscription", "lag", "last error"),
        [("demo", 2, "refused " * 20), ("other", 10, None), ("戸口", None, "x")],
        empty="none",
    )
    assert capsys.readouterr().out.splitlines() == [
        "subscription  lag  last error",
        "demo            2  " + ("refused " * 20).rstrip(),
        "other          10  -",
        "戸口            -  x",
    ]


ERROR = "2026-11-29T10:00:00Z unavailable 503: answered 503 Service Unavailable, and the reasons for that"


def _be_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))


def test_on_a_terminal_a_table_is_no_wider_than_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _be_a_terminal(monkeypatch, 60)
    output.table(
        ("subscription", "state", "held", "last error"),
        [
            ("demo", "active (the broker at mq.example is away)", 2, ERROR),
            ("other", "active", 10, "2026-11-29 gone"),
        ],
        empty="none",
    )
    assert capsys.readouterr().out.splitlines() == [
        "subscription  state                         held  last error",
        "demo          active (the broker at            2",
        "              mq.example is away)",
        "    2026-11-29T10:00:00Z unavailable 503: answered 503",
        "    Service Unavailable, and the reasons for that",
        "other         active                          10",
        "    2026-11-29 gone",
    ]


def test_a_table_that_fits_a_terminal_is_one_line_a_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _be_a_terminal(monkeypatch, 60)
    output.table(("name", "last error"), [("demo", "x" * 54), ("two", "y")], empty="none")
    assert capsys.readouterr().out.splitlines() == ["name  last error", "demo  " + "x" * 54, "two   y"]


def test_a_column_of_nothing_but_dashes_is_no_column_of_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("name", "last error"), [("demo", None)], empty="none")
    assert capsys.readouterr().out == "name  last error\ndemo  -\n"


def test_a_refused_line_is_named_once_and_by_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    fault = {"index": 1, "pointer": "/type", "detail": "is missing", "hint": "every event needs one"}
    problem = {"title": "No event", "detail": "event 1: type is missing", "errors": [fault]}
    refused = RefusedError(400, problem, json.dumps(problem).encode(), None)
    _point_at_lines(refused, [4, 7])
    output.problem(refused)
    said = capsys.readouterr().err
    assert said == "refused: No event (400)\n  line 7: /type: is missing (every event needs one)\n"


def test_an_outcome_reads_the_same_everywhere() -> None:
    assert outcome({"outcome": "unavailable", "status": 503, "detail": "busy"}) == "unavailable 503: busy"
    assert outcome({"outcome": "unavailable", "status": None, "detail": "refused"}) == "unavailable: refused"
    assert outcome({"outcome": "gone", "status": 410, "detail": ""}) == "gone 410"
    assert outcome(None) is None


@pytest.mark.parametrize("library", [False, True])
def test_a_listener_says_once_why_it_refuses(library: bool) -> None:
    told: list[str] = []
    listener = Listener(lambda *_: None, [SECRET], library=library, tell=told.append)
    try:
        for _ in range(2):
            assert listener.answer("POST", {}, b"{}")[0] == 401
    finally:
        listener.close()
    assert listener.refused == 2
    (line,) = told
    assert line.startswith("refused: ")
    assert "webhook-id" in line


def test_a_listener_counts_what_is_refused_for_ever_new_reasons() -> None:
    told: list[str] = []
    listener = Listener(lambda *_: None, tell=told.append)
    try:
        for number in range(3 * MOST_REASONS):
            assert listener.answer("POST", STRUCTURED, b"[" * number + b"," * MOST_LETTERS)[0] == 400
    finally:
        listener.close()
    assert listener.refused == 3 * MOST_REASONS
    assert len(set(told)) == len(told) == MOST_REASONS
    assert told[-1].endswith("; what is refused for other reasons is only counted")


@pytest.mark.parametrize("body", [b"3", b"[[1]]", b'{"flpos":"x"}', b'{"flprev":1e999}', b"[" * 100_000])
def test_a_listener_refuses_what_is_no_event(body: bytes) -> None:
    told: list[str] = []
    listener = Listener(lambda *_: None, tell=told.append)
    try:
        assert listener.answer("POST", STRUCTURED, body)[0] == 400
    finally:
        listener.close()
    assert len(told) == listener.refused == 1


@pytest.mark.parametrize("library", [False, True])
def test_a_listener_says_what_it_fails_on_request(library: bool) -> None:
    told: list[str] = []
    listener = Listener(lambda *_: None, [SECRET], fail=1, library=library, tell=told.append)
    try:
        for id in ("demo_1_5_41", "demo_1_5_42", "demo_1_5_41"):
            assert listener.answer("POST", {"webhook-id": id}, b"{}")[0] == 503
    finally:
        listener.close()
    assert told == [f"failed on request: demo_1_5_4{last}" for last in "121"]


@pytest.mark.parametrize("length", ["²", "9" * 5000, "-1"])
def test_a_listener_answers_a_length_that_is_none(length: str, capfd: pytest.CaptureFixture[str]) -> None:
    with served() as address, socket.create_connection(address) as peer:
        peer.sendall(f"POST / HTTP/1.1\r\ncontent-length: {length}\r\n\r\n".encode("latin-1"))
        assert peer.recv(1000).startswith(b"HTTP/1.1 413 ")
    assert capfd.readouterr().err == ""


def test_a_listener_is_silent_where_a_peer_is_gone(capfd: pytest.CaptureFixture[str]) -> None:
    with served() as address, socket.create_connection(address) as peer:
        peer.sendall(b"POST / HTTP/1.1\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        assert peer.recv(1000).startswith(b"HTTP/1.1 100 ")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end
    assert capfd.readouterr().err == ""


def test_what_others_have_sent_drives_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    sent = "\x1b[2Jgone\x9b1m\r\nnext"
    output.note(sent)
    output.table(["error"], [[sent]], empty="none")
    output.problem(RefusedError(400, {"title": sent, "detail": sent}, b"", None))
    show = _shown(False, None, threading.Event())
    show({"type": sent, "source": sent, "subject": sent, "flpos": sent, "data": sent}, "new")
    said = "".join(capsys.readouterr())
    assert "\\x1b[2Jgone\\x9b1m" in said
    assert not any(letter in said for letter in "\x1b\x9b\r")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("variable", "plain"), [("1", True), ("", False)])
def test_no_color_leaves_nothing_but_text(
    monkeypatch: pytest.MonkeyPatch, variable: str, plain: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", variable)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout", results := _Terminal())
    monkeypatch.setattr("sys.stderr", notes := _Terminal())
    output.table(("subscription", "state"), [("demo", "stopped")], empty="none")
    with output.err().status("measuring"):
        pass
    assert plain != ("\x1b" in results.getvalue())
    assert plain != ("\x1b" in notes.getvalue())


@pytest.mark.parametrize("position", ["0", "5:0", ":17", "5:", "-1", "9" * 5000, "0" * 5000 + "1"])
def test_a_position_that_is_none_is_refused(position: str) -> None:
    ended = CliRunner().invoke(skip, ["demo", "--key", "k", f"--position={position}"])
    assert ended.exit_code == 2
    assert "is not P:N or N such as 5:17 or 17" in ended.output


@pytest.mark.parametrize("position", ["5", ":17", "5:", "5:-1", "5:" + "9" * 5000, "9" * 5000 + ":1"])
def test_a_place_that_is_none_is_refused(position: str) -> None:
    ended = CliRunner().invoke(replay, ["demo", f"--position={position}"])
    assert ended.exit_code == 2
    assert "is not P:N such as 5:17" in ended.output
