# SPDX-License-Identifier: Apache-2.0
"""What the command line makes of an answer, without a relay."""

from __future__ import annotations

import json

import pytest

from fairlead.cli import output
from fairlead.cli.api import RefusedError
from fairlead.cli.listening import Listener
from fairlead.cli.send_command import _point_at_lines
from fairlead.cli.status_command import outcome

SECRET = "whsec_" + "A" * 32


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
    reasons: list[str] = []
    listener = Listener(lambda *_: None, [SECRET], library=library, refuse=reasons.append)
    try:
        for _ in range(2):
            assert listener.answer("POST", {}, b"{}")[0] == 401
    finally:
        listener.close()
    assert listener.refused == 2
    (reason,) = reasons
    assert "webhook-id" in reason
