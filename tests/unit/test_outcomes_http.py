# SPDX-License-Identifier: Apache-2.0
"""The table of outcomes (design, section 5): every row, for plain receivers, library, batches, fences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.answer import AnswerDocument, AnswerResult, Result, Stale, encode_results
from fairlead.core.channel import ChannelId, Fence
from fairlead.core.outcome import Outcome
from fairlead.core.outcomes_http import Judged, Reply, judge, outcome_of_failure, retry_after
from fairlead.core.subscription import DeliveryOptions
from fairlead.errors import SendFailed

FENCE = Fence(ChannelId("console", 5), lease=1, generation=1795359000123, epoch=7)
PLAIN = DeliveryOptions()
LIBRARY = DeliveryOptions(receiver="library")


class Item(NamedTuple):
    key: str
    position: int


ITEM = Item("/heat k1", 41)
NOW = 1795359012.0


def answer(result: AnswerResult, applied: int | None = 41, **changes: object) -> bytes:
    members: dict[str, object] = {
        "subscription": "console",
        "partition": 5,
        "generation": FENCE.generation,
        "epoch": FENCE.epoch,
        "key": None if result == "fence" else "/heat k1",
        "result": result,
        "applied": None if result == "fence" else applied,
    }
    if result == "chain":
        members["type"] = "urn:fairlead:problem:chain"
    return AnswerDocument(**(members | changes)).encode()  # type: ignore[arg-type]  # a test's shorthand


def one(reply: Reply, options: DeliveryOptions = PLAIN) -> Outcome:
    (outcome,) = judge(reply, [ITEM], fence=FENCE, options=options, batch=False).outcomes
    assert outcome.status == reply.status
    return outcome


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 207, 299])
def test_any_2xx_of_a_plain_receiver_is_delivered(status: int) -> None:
    assert one(Reply(status, b"whatever")) == Outcome("delivered", status)


@pytest.mark.parametrize(
    "status", [300, 301, 302, 304, 307, 308, 401, 403, 404, 408, 418, 429, 500, 502, 503, 504, 599]
)
def test_3xx_and_other_4xx_and_5xx_are_unavailable(status: int) -> None:
    outcome = one(Reply(status))
    assert outcome.kind == "unavailable"
    assert str(status) in outcome.detail
    assert not outcome.shows_target_alive


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_what_the_receiver_rejects_is_rejected(status: int) -> None:
    assert one(Reply(status)).kind == "rejected"


def test_which_statuses_reject_can_be_configured() -> None:
    options = DeliveryOptions(rejected_statuses=frozenset({404, 410}))
    assert one(Reply(404), options).kind == "rejected"
    assert one(Reply(410), options).kind == "rejected"
    assert one(Reply(400), options).kind == "unavailable"


def test_410_is_gone() -> None:
    assert one(Reply(410)).kind == "gone"


@pytest.mark.parametrize("status", [429, 503])
def test_429_and_503_with_retry_after_are_throttled(status: int) -> None:
    outcome = one(Reply(status, retry_after_seconds=30.0))
    assert (outcome.kind, outcome.retry_after_seconds) == ("throttled", 30.0)
    assert one(Reply(500, retry_after_seconds=30.0)).kind == "unavailable"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("30", 30.0),
        ("0", 0.0),
        ("86400000", 86_400_000.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("99999999999999999999", None),
        ("Sun, 22 Nov 2026 13:50:42 GMT", 30.0),
        ("Sunday, 22-Nov-26 13:50:42 GMT", 30.0),
        ("Sun Nov 22 13:50:42 2026", 30.0),
        ("Sun, 22 Nov 2026 13:00:00 GMT", 0.0),
        ("Sun, 99 Nov 2026 13:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, 1795355412.0) == seconds


@given(st.text())
def test_any_retry_after_is_read_or_ignored(value: str) -> None:
    seconds = retry_after(value, NOW)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize("options", [PLAIN, LIBRARY])
def test_409_is_stale_only_with_our_problem_type(options: DeliveryOptions) -> None:
    outcome = one(Reply(409, Stale.of(FENCE.generation, 9).encode()), options)
    assert (outcome.kind, outcome.generation, outcome.epoch) == ("stale", FENCE.generation, 9)
    for body in (b"", b"{}", b"not json", b'{"type":"about:blank","generation":1,"epoch":2}', b"\xff"):
        assert one(Reply(409, body), options).kind == "unavailable"


def test_425_is_chain_only_with_our_problem_type() -> None:
    for options in (PLAIN, LIBRARY):
        assert one(Reply(425, answer("chain", 38)), options).kind == "chain"
        for body in (
            b"",
            b"{}",
            b'{"type":"about:blank"}',
            b'{"type":"urn:fairlead:problem:chain"}',
            b'{"type":"urn:fairlead:problem:chain","title":"An earlier event is missing","status":425}',
            answer("failed", 38, type="urn:fairlead:problem:chain"),
        ):
            assert one(Reply(425, body), options).kind == "unavailable"
    assert one(Reply(425, answer("chain", 38)), LIBRARY).applied == 38


@pytest.mark.parametrize("result", ["applied", "duplicate"])
def test_the_librarys_answer_delivers_and_says_what_is_applied(result: AnswerResult) -> None:
    verdict = judge(Reply(200, answer(result, 44)), [ITEM], fence=FENCE, options=LIBRARY, batch=False)
    assert verdict == Judged((Outcome("delivered", 200, applied=44),), heard=True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"ok",
        b"{}",
        answer("applied", 40),
        answer("applied", subscription="other"),
        answer("applied", partition=4),
        answer("applied", generation=1),
        answer("applied", key="/heat k2"),
        answer("failed"),
        answer("fence"),
    ],
)
def test_a_2xx_of_the_library_without_the_answer_to_this_delivery_is_unavailable(body: bytes) -> None:
    assert one(Reply(200, body), LIBRARY).kind == "unavailable"


def test_an_answer_of_an_older_epoch_settles_but_is_not_heard() -> None:
    verdict = judge(Reply(200, answer("applied", epoch=6)), [ITEM], fence=FENCE, options=LIBRARY, batch=False)
    assert verdict.outcomes[0].kind == "delivered"
    assert not verdict.heard


def test_a_failed_handler_is_one_attempt_whatever_the_headers_say() -> None:
    outcome = one(Reply(503, answer("failed", 40, detail="no route\nto host"), 3600.0), LIBRARY)
    assert (outcome.kind, outcome.failed, outcome.applied) == ("unavailable", True, 40)
    assert outcome.retry_after_seconds is None
    assert outcome.detail == "the handler failed: no route to host"
    assert outcome.shows_target_alive


def test_a_rejecting_handler_is_rejected_whatever_the_statuses_configured() -> None:
    options = DeliveryOptions(receiver="library", rejected_statuses=frozenset())
    outcome = one(Reply(422, answer("rejected", 40, detail="no such stack")), options)
    assert (outcome.kind, outcome.applied) == ("rejected", 40)
    assert outcome.detail == "the handler rejected it: no such stack"


def test_a_busy_library_throttles() -> None:
    assert one(Reply(429, b"{}", 1.0), LIBRARY).kind == "throttled"


def test_a_plain_receiver_is_never_taken_for_the_library() -> None:
    assert one(Reply(503, answer("failed", 99))).failed is False
    assert one(Reply(200, answer("applied", 99))).applied is None
    assert one(Reply(425, answer("chain", 99))).applied is None


# -- batches -----------------------------------------------------------------------------------------------

ITEMS = [Item("a", 1), Item("b", 2), Item("a", 3), Item("b", 4)]


def batch(reply: Reply, options: DeliveryOptions = PLAIN) -> list[str]:
    verdict = judge(reply, ITEMS, fence=FENCE, options=options, batch=True)
    assert len(verdict.outcomes) == len(ITEMS)
    return [outcome.kind for outcome in verdict.outcomes]


def results(statuses: Mapping[int, int], partition: int = 5) -> Reply:
    return Reply(
        207, encode_results([Result(partition=partition, position=p, status=s) for p, s in statuses.items()])
    )


@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_2xx_but_207_settles_a_plain_batch(status: int) -> None:
    assert batch(Reply(status)) == ["delivered"] * 4


def test_a_207_tells_the_events_apart_and_stops_each_run_at_its_first_failure() -> None:
    assert batch(results({1: 204, 2: 503, 3: 200, 4: 204})) == [
        "delivered",
        "unavailable",
        "delivered",
        "unavailable",
    ]
    assert batch(results({1: 422, 2: 204, 3: 204, 4: 410})) == [
        "rejected",
        "delivered",
        "unavailable",
        "gone",
    ]
    assert batch(results({2: 204})) == ["unavailable", "delivered", "unavailable", "unavailable"]
    assert batch(results({1: 204, 2: 204, 3: 204, 4: 204}, partition=4)) == ["unavailable"] * 4


def test_a_207_may_throttle_one_event() -> None:
    body = b'{"results":[{"partition":5,"position":1,"status":503,"retry_after":30}]}'
    outcome = judge(Reply(207, body), ITEMS, fence=FENCE, options=PLAIN, batch=True).outcomes[0]
    assert (outcome.kind, outcome.retry_after_seconds) == ("throttled", 30.0)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"results":[{}]}', b"x", b'{"results":[{"partition":-1}]}']
)
def test_a_207_that_cannot_be_read_settles_nothing(body: bytes) -> None:
    for options in (PLAIN, LIBRARY):
        assert batch(Reply(207, body), options) == ["unavailable"] * 4


def test_another_status_counts_for_the_first_event_of_each_run() -> None:
    assert batch(Reply(503, retry_after_seconds=5.0)) == [
        "throttled",
        "throttled",
        "unavailable",
        "unavailable",
    ]
    assert batch(Reply(410)) == ["gone", "gone", "unavailable", "unavailable"]
    stale = Stale.of(FENCE.generation, 9).encode()
    assert batch(Reply(409, stale), LIBRARY) == ["stale", "stale", "unavailable", "unavailable"]


def test_no_event_is_given_up_because_its_batch_was_rejected() -> None:
    verdict = judge(Reply(413), ITEMS, fence=FENCE, options=PLAIN, batch=True)
    assert [outcome.kind for outcome in verdict.outcomes] == ["unavailable"] * 4
    assert "one by one" in verdict.outcomes[0].detail
    alone = judge(Reply(413), ITEMS[:1], fence=FENCE, options=PLAIN, batch=True)
    assert alone.outcomes[0].kind == "rejected"


def test_the_library_answers_for_each_event_of_a_batch() -> None:
    body = encode_results(
        [
            Result(partition=5, position=1, status=200, answer=msgspec.Raw(answer("applied", 1, key="a"))),
            Result(partition=5, position=2, status=503, answer=msgspec.Raw(answer("failed", 0, key="b"))),
            Result(partition=5, position=3, status=200, answer=msgspec.Raw(answer("applied", 3, key="a"))),
            Result(partition=5, position=4, status=425, answer=msgspec.Raw(answer("chain", 0, key="b"))),
        ]
    )
    verdict = judge(Reply(207, body), ITEMS, fence=FENCE, options=LIBRARY, batch=True)
    assert [outcome.kind for outcome in verdict.outcomes] == [
        "delivered",
        "unavailable",
        "delivered",
        "unavailable",
    ]
    assert [outcome.failed for outcome in verdict.outcomes] == [False, True, False, False]
    assert verdict.heard
    assert batch(Reply(200), LIBRARY) == ["unavailable"] * 4


# -- fences, failures, words ---------------------------------------------------------------------------------


def test_a_fence_is_heard_by_its_answer_only() -> None:
    def fence(reply: Reply) -> Judged:
        return judge(reply, [], fence=FENCE, options=LIBRARY, batch=False)

    heard = fence(Reply(200, answer("fence")))
    assert heard.heard
    assert heard.outcomes[0].kind == "delivered"
    for reply in (
        Reply(200),
        Reply(204),
        Reply(200, answer("fence", generation=1)),
        Reply(200, answer("applied")),
    ):
        silent = fence(reply)
        assert silent.outcomes[0].kind == "unavailable"
        assert not silent.heard
    assert fence(Reply(409, Stale.of(FENCE.generation, 9).encode())).outcomes[0].kind == "stale"


@pytest.mark.parametrize("kind", ["refused", "timeout", "tls", "dns", "reset", "protocol"])
def test_a_request_without_an_answer_is_unavailable(kind: str) -> None:
    outcome = outcome_of_failure(SendFailed(kind, "why"))  # type: ignore[arg-type]  # listed above
    assert outcome == Outcome("unavailable", detail="why")


def test_a_guarded_address_is_forbidden() -> None:
    assert outcome_of_failure(SendFailed("forbidden", "why")) == Outcome("forbidden", detail="why")


def test_the_detail_repeats_a_problems_words_in_one_short_line_and_no_other_body() -> None:
    problem = json.dumps({"title": "Bad", "detail": "no\r\nsuch\x1b[31m stack " + "x" * 500}).encode()
    detail = one(Reply(400, problem)).detail
    assert detail.startswith("answered 400 Bad Request: no such [31m stack xxx")
    assert len(detail) < 250
    assert "secret" not in one(Reply(500, b"<html>secret</html>")).detail


def test_the_detail_says_what_to_do_where_it_is_known() -> None:
    assert "redirects are not followed" in one(Reply(301)).detail
    assert "secret" in one(Reply(401)).detail
    assert "path" in one(Reply(404)).detail
    assert one(Reply(599)).detail == "answered 599"


@given(st.integers(100, 599), st.binary(max_size=200), st.sampled_from([PLAIN, LIBRARY]), st.booleans())
def test_any_answer_gives_one_outcome_per_event(
    status: int, body: bytes, options: DeliveryOptions, is_batch: bool
) -> None:
    items = ITEMS if is_batch else [ITEM]
    verdict = judge(Reply(status, body), items, fence=FENCE, options=options, batch=is_batch)
    assert len(verdict.outcomes) == len(items)
