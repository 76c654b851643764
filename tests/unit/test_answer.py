# SPDX-License-Identifier: Apache-2.0
"""The documents between receiver and relay survive the trip, and nothing else is taken for one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.answer import (
    AnswerDocument,
    Result,
    Stale,
    encode_results,
    parse_answer,
    parse_answers,
    parse_results,
    parse_stale,
)
from fairlead.core.attributes import OURS
from fairlead.core.channel import ChannelId
from fairlead.core.stamps import Stamps, read_batch_stamps, read_fence, read_stamps, stamps_among
from fairlead.errors import InvalidEvent, InvalidRequest, MalformedJson

numbers = st.integers(0, 10**18 - 1)
texts = st.text(st.characters(codec="utf-8"), min_size=1)
answers = st.builds(
    AnswerDocument,
    subscription=texts,
    partition=numbers,
    generation=numbers,
    epoch=numbers,
    seq=st.none() | numbers,
    key=texts,
    result=st.sampled_from(["applied", "duplicate", "failed", "rejected", "chain"]),
    applied=numbers,
    detail=st.none() | texts,
)
stamps = st.builds(
    Stamps,
    channel=st.builds(ChannelId, texts, numbers),
    generation=numbers,
    epoch=numbers,
    floor=numbers,
    pos=numbers,
    prev=numbers,
    seq=st.none() | numbers,
    skipped=st.lists(numbers, max_size=32).map(tuple),
)


@given(answers)
def test_an_answer_reads_back_as_it_was_written(answer: AnswerDocument) -> None:
    assert parse_answer(answer.encode()) == answer
    assert parse_answers(b"[" + answer.encode() + b"," + answer.encode() + b"]") == [answer, answer]


@given(answers, numbers)
def test_a_result_carries_its_answer_untouched(answer: AnswerDocument, position: int) -> None:
    result = Result(partition=5, position=position, status=200, answer=msgspec.Raw(answer.encode()))
    (back,) = parse_results(encode_results([result]))
    assert (back.position, parse_answer(bytes(back.answer))) == (position, answer)


def test_a_result_without_an_answer_is_anybodys() -> None:
    (result,) = parse_results(b'{"results":[{"partition":5,"position":41,"status":503,"retry_after":30}]}')
    assert (result.status, result.retry_after, bytes(result.answer)) == (503, 30, b"")


@given(numbers, numbers)
def test_a_stale_problem_reads_back(generation: int, epoch: int) -> None:
    stale = parse_stale(Stale.of(generation, epoch).encode())
    assert (stale.generation, stale.epoch) == (generation, epoch)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"ok", b"[]", b"{}", b"\xff", b"null",
        b'{"subscription":"c","partition":5,"generation":1,"epoch":1,"result":"applied"}',
        b'{"subscription":"c","partition":-1,"generation":1,"epoch":1,"result":"fence"}',
        b'{"subscription":"c","partition":5,"generation":1,"epoch":1,"result":"done","key":"k","applied":1}',
    ],
)  # fmt: skip
def test_what_is_no_answer_is_not_taken_for_one(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not an answer"):
        parse_answer(body)


def test_a_409_of_somebody_else_is_not_stale() -> None:
    with pytest.raises(InvalidRequest, match="not a stale problem"):
        parse_stale(b'{"type":"urn:fairlead:problem:wrong-state","generation":1,"epoch":2}')


@pytest.mark.parametrize("epoch", [10**18, 2**63, 10**40])
def test_a_number_that_no_store_can_hold_is_not_believed(epoch: int) -> None:
    with pytest.raises(InvalidRequest, match="not a stale problem"):
        parse_stale(Stale.of(1, epoch).encode())


@given(stamps)
def test_stamps_read_back_from_the_attributes_they_are(one: Stamps) -> None:
    body = msgspec.json.encode({"specversion": "1.0", **one.attributes(), "data": {"n": 1}})
    assert read_stamps(body) == one
    assert read_batch_stamps(b"[" + body + b"," + body + b"]") == [one, one]
    fence = read_fence(body)
    assert (fence.channel, fence.generation, fence.epoch, fence.floor) == (
        one.channel, one.generation, one.epoch, one.floor,
    )  # fmt: skip


@pytest.mark.parametrize("value", ["", "-1", "+1", "01", "1.0", " 1", "1e3", "\u0661", "9" * 19, 7, None])
def test_a_stamp_that_is_not_decimal_digits_is_refused(value: object) -> None:
    good = Stamps(ChannelId("c", 0), 1, 1, 0, pos=1, prev=0).attributes()
    with pytest.raises(InvalidEvent, match="lacks the relay's attributes"):
        read_stamps(msgspec.json.encode({**good, "flpos": value}))


odd = st.sampled_from(
    ["", " ", "0", "1 2", " 1", "1 ", "01", "-1", "\u0661", "9" * 18, "9" * 19, 7, None, True]
)


ours = st.sampled_from(sorted(OURS))


@given(stamps, st.dictionaries(ours, odd, max_size=3), st.sets(ours))
def test_stamps_found_among_attributes_are_those_of_the_body(
    one: Stamps, changed: dict[str, str | int], left_out: set[str]
) -> None:
    attributes = {
        name: value for name, value in {**one.attributes(), **changed}.items() if name not in left_out
    }
    found = stamps_among(attributes)
    assert found is None or found == read_stamps(msgspec.json.encode(attributes))


@given(stamps)
def test_stamps_are_found_among_attributes_unless_there_are_skips(one: Stamps) -> None:
    assert stamps_among({"id": "a-1", **one.attributes()}) == (None if one.skipped else one)


def test_what_is_not_json_has_no_stamps() -> None:
    with pytest.raises(MalformedJson):
        read_stamps(b"{")
