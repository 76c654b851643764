# SPDX-License-Identifier: Apache-2.0
"""Lanes, sentence by sentence of the design's section 5. Random histories are in `test_lanes_machine.py`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fairlead.core.channel import Progress
from fairlead.core.outcome import Outcome
from fairlead.core.queues import Run
from fairlead.core.retry import RetryPolicy
from fairlead.core.subscription import DeliveryOptions
from tests.unit.lanes_world import DOWN, REJECTED, WALL, World

THROTTLED = Outcome("throttled", 503, retry_after_seconds=60.0)
STEADY = RetryPolicy(first_seconds=10.0, jitter="none", give_up_after_seconds=None)
LAZY = DeliveryOptions(ack_persist="lazy", retry=STEADY)


def world(
    keys: str, options: DeliveryOptions = LAZY, *, read_ahead: int = 100, failures: int = 10_000
) -> World:
    """A log with one event of each of `keys`, in that order, read."""
    made = World(options, read_ahead=read_ahead, failures=failures)
    for key in keys:
        made.append(key)
    made.read()
    return made


def started(made: World, *, max_events: int = 1) -> Run:
    run = made.send(max_events=max_events)
    assert run is not None
    return run


def sent(made: World) -> list[int]:
    """Send and deliver whatever may be, flushing in between; the positions in the order they went."""
    positions: list[int] = []
    for _ in range(100):
        made.turn_pages()
        run = made.send()
        if run is not None:
            positions += [entry.position for entry in run.entries]
            made.answer(run)
        elif made.lanes.changed:
            made.flush()
        else:
            return positions
    raise AssertionError("sends for ever")


def failed(made: World, key: str = "a", outcome: Outcome = DOWN) -> None:
    """Send the head of the next ready lane, which is `key`'s; it fails."""
    run = started(made)
    assert run.key == key
    made.answer(run, outcome)


# -- order and concurrency -------------------------------------------------------------------------------


def test_different_keys_are_in_flight_at_once_and_one_key_never_twice() -> None:
    made = world("aabb")
    assert [started(made).key, started(made).key] == ["a", "b"]
    assert made.send() is None


def test_the_next_event_of_a_key_follows_its_success() -> None:
    made = world("aab")
    assert sent(made) == [1, 3, 2]


def test_a_failed_lane_is_held_and_the_others_go_on() -> None:
    made = world("aabab")
    failed(made)
    assert sent(made) == [3, 5]
    held = made.held["a"]
    assert (held.head_pos, held.attempt, held.state) == (1, 1, "held")
    assert made.progress == Progress(5, 5)  # the hold covers what is not delivered: it keeps nothing back
    assert not made.lanes.queues.open  # its queue is dropped


def test_a_held_lane_is_read_again_up_to_scan_pos_at_its_time_and_its_row_goes_with_its_last() -> None:
    made = world("aabab")
    failed(made)
    assert sent(made) == [3, 5]
    assert made.lanes.pages(made.now + 9.9, 16) == []
    assert made.lanes.next_due(made.now) == 10.0
    made.now = 10.0
    assert sent(made) == [1, 2, 4]
    assert made.held == {}
    assert made.progress == Progress(5, 5)


def test_what_comes_while_a_lane_is_held_waits_behind_it() -> None:
    made = world("a")
    failed(made)
    made.append("a")
    made.read()
    assert sent(made) == []
    made.now = 10.0
    assert sent(made) == [1, 2]


def test_what_a_hold_does_not_cover_yet_is_not_sent_from_its_page() -> None:
    made = world("a")
    failed(made)
    made.append("a")  # beyond scan_pos
    made.now = 10.0
    made.turn_pages()
    made.answer(started(made))
    assert made.send() is None
    made.read()
    assert sent(made) == [2]


# -- retries ---------------------------------------------------------------------------------------------


def test_each_failure_of_the_head_is_one_attempt_and_the_wait_doubles() -> None:
    made = world("a")
    waits = []
    for _ in range(4):
        made.turn_pages()
        failed(made)
        due = made.lanes.next_due(made.now)
        assert due is not None
        waits.append(due - made.now)
        made.now = due
    made.flush()
    assert waits == [10.0, 20.0, 40.0, 80.0]
    assert made.held["a"].attempt == 4


def test_a_success_forgets_the_failures_before_it() -> None:
    made = world("aa")
    failed(made)
    made.now = 10.0
    made.turn_pages()
    made.answer(started(made))
    made.turn_pages()
    failed(made)
    assert made.lanes.next_due(made.now) == made.now + 10.0


def test_throttling_is_obeyed_in_full_and_counts_as_no_attempt() -> None:
    made = world("a", replace(LAZY, retry=replace(STEADY, max_attempts=1)))
    for _ in range(3):
        failed(made, outcome=THROTTLED)
        due = made.lanes.next_due(made.now)
        assert due == made.now + 60.0
        made.now = due
        made.turn_pages()
    made.flush()
    assert (made.held["a"].attempt, made.held["a"].state) == (0, "held")


@pytest.mark.parametrize("status", [429, 503])
def test_a_throttling_target_that_asks_for_no_wait_gets_the_schedules(status: int) -> None:
    made = world("a", replace(LAZY, retry=replace(STEADY, max_attempts=1)))
    pauses = []
    for _ in range(7):
        failed(made, outcome=Outcome("throttled", status, retry_after_seconds=0.0))
        due = made.lanes.next_due(made.now)
        assert due is not None
        pauses.append(due - made.now)
        made.now = due
        made.turn_pages()
    made.flush()
    assert pauses == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]
    assert (made.held["a"].attempt, made.held["a"].state) == (0, "held")


def test_the_next_event_of_a_throttled_lane_begins_its_schedule_anew() -> None:
    made = world("aa")
    for _ in range(3):
        failed(made, outcome=Outcome("throttled", 503, retry_after_seconds=0.0))
        made.now = made.lanes.next_due(made.now) or 0.0
        made.turn_pages()
    made.answer(started(made))
    failed(made, outcome=Outcome("throttled", 503, retry_after_seconds=0.0))
    assert made.lanes.next_due(made.now) == made.now + 10.0


def test_give_up_after_runs_on_while_throttled() -> None:
    made = world("a", replace(LAZY, retry=replace(STEADY, give_up_after_seconds=100.0)))
    for _ in range(3):
        failed(made, outcome=THROTTLED)
        made.now += 60.0
        made.turn_pages()
    made.flush()
    assert made.held["a"].state == "parked"


@pytest.mark.parametrize(("status", "slows"), [(429, True), (503, False)])
def test_a_429_slows_the_whole_subscription(status: int, slows: bool) -> None:
    made = world("a")
    verdict = made.answer(started(made), Outcome("throttled", status, retry_after_seconds=60.0))
    assert verdict.slow_down_until == (60.0 if slows else None)


def test_a_429_that_asks_for_no_wait_slows_the_subscription_for_a_second() -> None:
    made = world("a")
    verdict = made.answer(started(made), Outcome("throttled", 429, retry_after_seconds=0.0))
    assert verdict.slow_down_until == 1.0


def test_what_the_library_says_has_failed_is_an_attempt_whatever_its_headers() -> None:
    made = world("a")
    failed(made, outcome=Outcome("unavailable", 503, failed=True, retry_after_seconds=60.0))
    made.flush()
    assert made.held["a"].attempt == 1
    assert made.lanes.next_due(made.now) == 60.0


def test_out_of_chain_is_sent_again_without_an_attempt() -> None:
    made = world("a")
    failed(made, outcome=Outcome("chain", 425))
    made.flush()
    assert made.held["a"].attempt == 0
    made.now = 10.0
    assert sent(made) == [1]


# -- retries used up -------------------------------------------------------------------------------------


def test_park_stops_the_lane_and_keeps_its_events() -> None:
    made = world("aab", replace(LAZY, retry=replace(STEADY, max_attempts=1)))
    failed(made)
    assert sent(made) == [3]
    assert made.held["a"].state == "parked"
    made.now = 1e6
    assert sent(made) == []
    assert made.lanes.next_due(made.now) is None
    assert made.owed() == [1, 2]


def test_rejected_is_used_up_at_once() -> None:
    made = world("a")
    failed(made, outcome=REJECTED)
    made.flush()
    assert made.held["a"].state == "parked"


def test_skip_is_on_record_before_the_lane_goes_on() -> None:
    made = world("aa", replace(LAZY, on_exhausted="skip"))
    failed(made, outcome=REJECTED)
    made.now = 100.0
    made.turn_pages()
    assert made.send() is None
    assert made.lanes.floor() == 0
    flush = made.snapshot()
    assert [(skip.position, skip.reason, skip.at) for skip in flush.skips] == [(1, "exhausted", WALL)]
    made.turn_pages()
    assert made.send() is None  # not yet committed
    assert made.lanes.floor() == 0
    made.store()
    assert made.lanes.floor() == 1
    assert sent(made) == [2]


def test_a_skip_whose_commit_fails_is_no_skip() -> None:
    made = world("aa", replace(LAZY, on_exhausted="skip"))
    failed(made, outcome=REJECTED)
    made.snapshot()
    made.refuse()
    assert made.lanes.floor() == 0
    made.crash()
    made.read()
    assert sent(made) == [1, 2]


def test_stop_says_so_and_the_lane_begins_afresh_afterwards() -> None:
    made = world("a", replace(LAZY, on_exhausted="stop"))
    verdict = made.answer(started(made), REJECTED)
    assert verdict.stop == REJECTED
    made.flush()
    assert made.held["a"].attempt == 0
    assert sent(made) == [1]


# -- the operator ----------------------------------------------------------------------------------------


def test_a_retry_tries_a_parked_head_now_and_a_success_lets_the_lane_go_on() -> None:
    made = world("aa")
    failed(made, outcome=REJECTED)
    assert made.lanes.paging.poke(["a"], None, made.now) == 1
    assert sent(made) == [1, 2]


def test_a_retry_that_fails_leaves_a_parked_lane_parked() -> None:
    made = world("a")
    failed(made, outcome=REJECTED)
    assert made.lanes.paging.poke(None, "parked", made.now) == 1
    made.turn_pages()
    failed(made)
    made.flush()
    assert made.held["a"].state == "parked"
    assert made.held["a"].last == DOWN


def test_a_retry_that_meets_a_429_slows_the_subscription_and_stays_parked() -> None:
    made = world("a")
    failed(made, outcome=REJECTED)
    made.lanes.paging.poke(None, "parked", made.now)
    made.turn_pages()
    verdict = made.answer(started(made), Outcome("throttled", 429, retry_after_seconds=60.0))
    made.flush()
    assert verdict.slow_down_until == 60.0
    assert made.held["a"].state == "parked"


def test_a_retry_that_fails_leaves_a_held_lane_its_schedule() -> None:
    made = world("a")
    failed(made)
    made.now = 4.0
    assert made.lanes.paging.poke(["a", "unknown"], None, made.now) == 1
    made.turn_pages()
    failed(made)
    made.flush()
    assert (made.held["a"].attempt, made.held["a"].ready_at) == (1, WALL + 10.0)


# -- slow answers ----------------------------------------------------------------------------------------


def test_a_lane_in_flight_for_two_seconds_keeps_low_water_back_no_longer() -> None:
    made = world("aab")
    run = started(made)
    made.answer(started(made))
    made.lanes.demote(1.9, 2.0)
    made.flush()
    assert made.progress.low_water == 0
    made.lanes.demote(2.0, 2.0)
    made.flush()
    assert made.progress == Progress(3, 3)
    assert made.held["a"].state == "slow"
    assert made.send() is None  # it is still in flight
    assert made.lanes.pages(100.0, 16) == []
    made.answer(run)
    assert sent(made) == [2]
    assert made.held == {}


def test_the_retry_of_a_slow_lane_counts_from_the_end_of_its_attempt() -> None:
    made = world("a")
    run = started(made)
    made.lanes.demote(2.0, 2.0)
    made.now = 15.0
    made.answer(run, DOWN)
    made.flush()
    assert (made.held["a"].state, made.held["a"].attempt) == ("held", 1)
    assert made.lanes.next_due(made.now) == 25.0


def test_a_crash_while_an_answer_is_slow_sends_it_again() -> None:
    made = world("a")
    started(made)
    made.now = 2.0
    made.lanes.demote(made.now, 2.0)
    made.flush()
    made.crash()
    assert sent(made) == [1]


def test_a_busy_lane_that_fills_the_read_ahead_lets_the_others_past() -> None:
    made = world("aaaaaaabbac", read_ahead=6)
    run = started(made)
    made.read()
    assert made.lanes.cursor == 6
    assert not made.lanes.wants_more
    made.lanes.demote(0.5, 2.0)
    made.read()
    assert made.lanes.cursor == 11
    made.flush()
    assert made.held["a"].state == "slow"
    assert made.progress == Progress(7, 11, ((10, 10),))
    assert [started(made).key, started(made).key] == ["b", "c"]
    made.answer(run)
    assert sent(made) == [2, 3, 4, 5, 6, 7, 10]
    made.flush()
    assert "a" not in made.held


def test_lanes_that_share_a_full_read_ahead_keep_their_places() -> None:
    made = world("abcabcabc", read_ahead=6)
    for _ in range(3):
        started(made)
    made.lanes.demote(0.5, 2.0)
    made.flush()
    assert made.held == {}


# -- the breaker -----------------------------------------------------------------------------------------


def test_an_open_breaker_stops_scanning_and_the_others_keep_their_place() -> None:
    made = world("abc", failures=2)
    made.append("d")
    failed(made, "a")
    failed(made, "b")
    assert made.lanes.breaker.is_open
    assert not made.lanes.wants_more
    assert made.send() is None
    assert list(made.lanes.queues.open) == [3]
    assert made.lanes.next_due(made.now) == 5.0


def test_probes_go_one_at_a_time_and_take_the_lanes_in_turn() -> None:
    made = world("abcd", failures=2)
    failed(made, "a")
    failed(made, "b")
    probed = []
    for _ in range(5):
        due = made.lanes.next_due(made.now)
        assert due is not None
        made.now = due
        made.turn_pages()
        run = started(made)
        assert made.send() is None
        probed.append(run.key)
        made.answer(run, DOWN)
    assert probed == ["c", "d", "a", "b", "c"]


def test_a_probe_that_is_answered_sets_everybody_free_at_once() -> None:
    made = world("abc", failures=2)
    failed(made, "a")
    failed(made, "b")
    made.now = 5.0
    made.answer(started(made))
    assert not made.lanes.breaker.is_open
    assert sorted(sent(made)) == [1, 2]


def test_a_dead_target_costs_no_holds_beyond_those_that_failed() -> None:
    made = world("abcdef", failures=2)
    failed(made, "a")
    failed(made, "b")
    made.flush()
    assert set(made.held) == {"a", "b"}


def test_a_page_is_read_as_a_probe_only_when_no_other_lane_could_be_one() -> None:
    made = world("ab", failures=2)
    failed(made, "a")
    failed(made, "b")
    made.now = 11.0
    assert len(made.lanes.pages(made.now, 16)) == 1


def test_the_only_lane_opens_the_breaker_alone_and_one_of_several_does_not() -> None:
    alone = world("a", replace(LAZY, retry=replace(STEADY, factor=1.0)), failures=3)
    beside = world("ba", replace(LAZY, retry=replace(STEADY, factor=1.0)), failures=3)
    started(beside)  # b's answer takes its time
    for made in (alone, beside):
        for _ in range(3):
            made.turn_pages()
            failed(made)
            made.now += 10.0
    assert alone.lanes.breaker.is_open
    assert not beside.lanes.breaker.is_open


def test_behind_one_lane_that_fails_for_ever_the_next_one_is_found() -> None:
    made = world("a", replace(LAZY, retry=replace(STEADY, factor=1.0)), failures=1)
    failed(made, "a")
    assert made.lanes.breaker.is_open
    for key in "aabcd":
        made.append(key)
    made.read()
    assert made.lanes.breaker.is_open
    assert list(made.lanes.queues.open) == [4], "b is there to be probed, and the breaker is still open"


# -- what is stored --------------------------------------------------------------------------------------


def test_before_next_waits_for_the_flush_that_stores_the_settlement() -> None:
    made = world("aa", DeliveryOptions())
    made.answer(started(made))
    assert made.lanes.urgent
    assert made.send() is None
    made.snapshot()
    assert made.send() is None
    made.store()
    assert started(made).entries[0].position == 2


def test_lazy_does_not_wait() -> None:
    made = world("aa")
    made.answer(started(made))
    assert not made.lanes.urgent
    assert started(made).entries[0].position == 2


def test_nothing_hurries_for_a_lane_that_has_nothing_more_until_it_has() -> None:
    made = world("a", DeliveryOptions())
    made.answer(started(made))
    assert not made.lanes.urgent
    made.append("a")
    made.read()
    assert made.lanes.urgent


def test_nothing_is_sent_after_a_refused_flush_until_one_is_stored() -> None:
    made = world("ab")
    made.answer(started(made))
    made.snapshot()
    made.refuse()
    assert made.lanes.changed
    assert made.send() is None
    assert made.lanes.pages(made.now, 16) == []
    assert made.lanes.next_due(made.now) is None
    made.flush()
    assert started(made).key == "b"


def test_after_a_crash_nothing_is_sent_before_everything_up_to_scan_pos_was_read_again() -> None:
    made = world("abab")
    made.answer(started(made))
    run = started(made)
    made.answer(run)
    made.flush()
    made.append("c")
    made.crash()
    made.read(1)
    assert made.send() is None
    made.read()
    assert sent(made) == [3, 4, 5]


def test_a_load_keeps_what_was_settled_and_not_stored() -> None:
    made = world("aab")
    failed(made, "a")
    made.flush()
    made.now = 10.0
    made.turn_pages()
    while (run := made.send()) is not None:
        made.answer(run)
    assert made.owed() == []
    made.reload()  # the store still holds `a` at 1 and knows nothing of 3
    made.read()
    made.flush()
    assert sent(made) == []
    assert made.held == {}


def test_a_load_whose_progress_lags_keeps_what_was_settled_beyond_it() -> None:
    made = world("a")
    made.flush()
    for _ in range(2):
        made.append("b")
    made.read()
    assert sorted(sent_without_flush(made)) == [1, 2, 3]
    made.reload()
    made.read(1)
    made.flush()  # knows of 1 only
    made.read()
    assert sent(made) == []


def sent_without_flush(made: World) -> list[int]:
    positions = []
    while (run := made.send()) is not None:
        positions.append(run.entries[0].position)
        made.answer(run)
    return positions


# -- batches ---------------------------------------------------------------------------------------------


def test_a_run_holds_one_lanes_events_in_order_up_to_its_bounds() -> None:
    made = world("aabaaa")
    run = started(made, max_events=3)
    assert [entry.position for entry in run.entries] == [1, 2, 4]
    made.answer(run)
    small = made.send(max_events=9, max_bytes=1)
    assert small is not None
    assert [entry.position for entry in small.entries] == [3]  # one at least


def test_what_is_applied_before_the_failure_settles_and_the_rest_comes_again() -> None:
    made = world("aaaa")
    made.answer(started(made, max_events=4), DOWN, good=2)
    made.flush()
    assert made.held["a"].head_pos == 3
    made.now = 10.0
    assert sent(made) == [3, 4]


def test_a_head_that_does_not_fit_keeps_its_place_for_the_next_batch() -> None:
    made = world("abc")
    small = made.lanes.next(made.now, max_bytes=1, at_least_one=False)
    assert small is None
    assert started(made).key == "a"


def test_a_throttled_batch_goes_one_by_one_too() -> None:
    made = world("aa")
    made.answer(started(made, max_events=9), THROTTLED)
    made.now = 60.0
    made.turn_pages()
    assert len(started(made, max_events=9).entries) == 1


def test_after_a_failure_in_a_batch_the_lane_goes_one_by_one_until_it_passes() -> None:
    made = world("aaaaa")
    made.answer(started(made, max_events=9), DOWN)
    sizes = []
    for _ in range(3):
        made.now += 10.0
        made.turn_pages()  # in pages of two
        run = started(made, max_events=9)
        sizes.append(len(run.entries))
        made.answer(run)
    assert sizes == [1, 1, 2]


# -- memory ----------------------------------------------------------------------------------------------


def test_read_ahead_bounds_what_is_in_memory_whatever_the_backlog() -> None:
    made = world("abcdefgh" * 50, read_ahead=8)
    assert len(made.lanes.queues.open) == 8
    assert made.lanes.cursor == 8
    assert not made.lanes.wants_more
    made.answer(started(made))
    assert made.lanes.wants_more
    assert not made.lanes.wants_page  # not for one entry: a quarter must be free
    made.drain()
