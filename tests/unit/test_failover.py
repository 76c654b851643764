# SPDX-License-Identifier: Apache-2.0
"""Which target a channel uses (design, section 6, "Relay"): `core/failover` and `core/target_health`."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fairlead.core.failover import Failover, FailoverRules, Policy
from fairlead.core.target_health import Transport

RULES = FailoverRules()
AMQP, HTTP = 0, 1


class Steered:
    """A channel whose fences are committed at once."""

    def __init__(
        self,
        transports: tuple[Transport, ...] = ("amqp", "http"),
        *,
        proves: bool = True,
        policy: Policy = "switch",
    ) -> None:
        self.now = 1000.0
        self.failover = Failover(transports, 0, RULES, proves=proves, policy=policy, now=self.now)
        self.deaf: set[int] = set()  # targets on which no receiver answers
        self.went: list[tuple[int, str]] = []

    def link(self, up: bool, detail: str = "the broker closed the connection", target: int = AMQP) -> None:
        self.failover.link(target, up, "" if up else detail, self.now)

    def look(self, *, drained: bool = True) -> None:
        asked = self.failover.probe_due(self.now)
        if asked is not None and asked not in self.deaf:
            self.failover.replied(self.now)
        switch = self.failover.decide(self.now, drained=drained)
        if switch is not None:
            self.failover.arrived(switch, self.now)
            self.went.append((switch.target, switch.reason))

    def wait(self, seconds: float, *, drained: bool = True) -> None:
        """Time passes; the engine looks twice a second."""
        until = self.now + seconds
        while self.now < until:
            self.now += 0.5
            self.look(drained=drained)

    @property
    def state(self) -> str:
        return self.failover.state


def on_bus(**options: object) -> Steered:
    made = Steered(**options)  # type: ignore[arg-type]
    made.now += 0.1
    made.link(True)
    made.look()
    assert made.state == "bus"
    return made


def test_a_channel_on_a_bus_begins_suspect_and_waits_for_its_link() -> None:
    made = Steered()
    assert made.state == "suspect"
    assert not made.failover.may_send
    made.now += 1
    made.link(True)
    made.look()
    assert made.state == "bus"
    assert made.failover.may_send
    assert made.failover.reason == "first choice", "it has not been ill"
    made.link(False)
    made.now += 1
    made.link(True)
    made.look()
    assert made.failover.reason == "well again"


def test_a_bus_that_does_not_come_up_is_left_after_a_while() -> None:
    made = Steered()
    made.wait(RULES.suspect_seconds + 1)
    assert (made.state, made.failover.target) == ("rest", HTTP)


def test_a_connection_that_comes_back_soon_costs_a_new_epoch_and_no_switch() -> None:
    made = on_bus()
    made.link(False)
    assert made.state == "suspect"
    made.wait(2)
    made.link(True)
    made.look()
    assert made.state == "bus"
    assert made.failover.switches == 0


def test_a_broken_bus_is_left_and_returned_to_once_it_has_been_well_for_long_enough() -> None:
    made = on_bus()
    made.link(False, "connection refused")
    made.wait(RULES.suspect_seconds + 1)
    assert made.failover.target == HTTP
    assert made.failover.reason == "connection refused"
    made.link(True)
    made.wait(RULES.return_after_seconds - 2)
    assert made.failover.target == HTTP
    made.wait(5)
    assert (made.state, made.failover.target) == ("bus", AMQP)
    assert made.failover.switches == 2


def test_a_bus_over_which_nobody_answers_is_not_returned_to() -> None:
    made = on_bus()
    made.deaf = {AMQP}
    made.failover.trouble("no receiver has answered for 15 s", made.now)
    made.wait(RULES.suspect_seconds + 1)
    assert made.failover.target == HTTP
    made.wait(600)
    assert made.failover.target == HTTP
    made.deaf = set()
    made.wait(2 * RULES.return_max_seconds)
    assert made.failover.target == AMQP


def test_trouble_while_the_link_is_up_needs_an_answer_and_not_just_a_link() -> None:
    made = on_bus()
    made.failover.trouble("the broker refused a publish", made.now)
    assert made.state == "suspect"
    made.wait(1)
    assert (made.state, made.failover.target) == ("bus", AMQP), "the probe was answered"


def test_a_drain_waits_for_what_is_in_flight() -> None:
    made = on_bus()
    made.link(False)
    made.wait(6)
    made.link(True)
    made.wait(RULES.return_after_seconds + 5, drained=False)
    assert (made.state, made.failover.target) == ("drain", HTTP)
    assert not made.failover.may_send
    made.look()
    assert made.failover.target == AMQP


def test_a_drain_is_given_up_when_the_bus_fails_again() -> None:
    made = on_bus()
    made.link(False)
    made.wait(6)
    made.link(True)
    made.wait(RULES.return_after_seconds + 5, drained=False)
    made.link(False)
    made.look(drained=False)
    assert (made.state, made.failover.may_send) == ("rest", True)


def test_neither_works_the_channel_waits_and_goes_on_with_whichever_is_back() -> None:
    made = on_bus()
    made.link(False)
    made.wait(6)
    made.failover.breaker(True, "answered 503", made.now)
    made.look()
    assert made.state == "waiting"
    assert made.failover.may_send, "the breaker's probes go on"
    made.link(True)
    made.wait(1)
    assert (made.state, made.failover.target) == ("bus", AMQP)


def test_a_rest_target_that_answers_again_is_no_switch() -> None:
    made = on_bus()
    made.link(False)
    made.wait(6)
    switches = made.failover.switches
    made.failover.breaker(True, "answered 503", made.now)
    made.failover.breaker(False, "", made.now)
    assert (made.state, made.failover.switches) == ("rest", switches)


def test_row_35_a_broker_that_flaps_every_five_seconds_for_ten_minutes_costs_at_most_six_switches() -> None:
    made = on_bus()
    for turn in range(120):
        made.link(turn % 2 == 1)
        made.wait(5)
    assert made.failover.switches <= 6
    made.link(True)
    made.wait(3 * RULES.return_max_seconds)
    assert (made.state, made.failover.target) == ("bus", AMQP)


def test_each_return_waits_longer_until_a_long_calm() -> None:
    made = on_bus()
    waits = []
    for _ in range(4):
        made.link(False)
        made.wait(6)
        made.link(True)
        begun = made.now
        while made.failover.target == HTTP:
            made.wait(0.5)
        waits.append(made.now - begun)
    assert waits == sorted(waits)
    assert waits[-1] >= 4 * waits[0]
    made.wait(2 * RULES.return_max_seconds)
    made.link(False)
    made.wait(6)
    made.link(True)
    made.wait(RULES.return_after_seconds + 5)
    assert made.failover.target == AMQP


def test_without_another_target_the_channel_stays_and_says_why() -> None:
    made = on_bus(transports=("amqp",))
    made.deaf = {AMQP}
    made.failover.trouble("no receiver has answered for 15 s", made.now)
    made.wait(1000)
    assert (made.state, made.failover.reason) == ("suspect", "no receiver has answered for 15 s")
    assert made.went == [(0, "first choice")]
    made.link(False, "connection refused")
    made.wait(1)
    assert made.state == "waiting"
    made.link(True)
    made.wait(1)
    assert made.state == "bus"


def test_probes_become_rare() -> None:
    made = on_bus(transports=("amqp",))
    made.deaf = {AMQP}
    made.failover.trouble("no receiver has answered for 15 s", made.now)
    asked = 0
    for _ in range(7200):
        made.now += 0.5
        asked += made.failover.probe_due(made.now) is not None
    assert 5 <= asked <= 20


@pytest.mark.parametrize(
    ("policy", "empty", "target"), [("off", True, AMQP), ("wait", False, AMQP), ("wait", True, HTTP)]
)
def test_where_the_confirm_settles_the_subscriber_says_whether_to_leave(
    policy: Policy, empty: bool, target: int
) -> None:
    made = on_bus(proves=False, policy=policy)
    made.failover.trouble("the broker does not confirm", made.now)
    if made.failover.wants_depth and empty:
        made.failover.queue_is_empty()
    made.wait(RULES.suspect_seconds + 1)
    assert made.failover.target == target
    assert made.failover.may_send


def test_an_empty_queue_says_nothing_while_the_broker_takes_no_messages() -> None:
    made = on_bus(proves=False, policy="wait")
    made.link(False, "takes no messages (low on memory)")
    assert not made.failover.wants_depth
    made.wait(RULES.suspect_seconds + 1)
    assert (made.state, made.failover.wants_depth) == ("waiting", False)
    made.link(True)
    made.look()
    assert (made.state, made.failover.target) == ("bus", AMQP)


def test_of_two_rest_targets_the_better_one_is_tried_again_later() -> None:
    made = Steered(("http", "http"))
    assert made.state == "rest"
    made.failover.breaker(True, "connection refused", made.now)
    made.look()
    assert made.failover.target == 1
    made.wait(3 * RULES.return_after_seconds)
    assert made.failover.target == 0


def test_of_two_buses_the_other_one_takes_over_and_the_first_one_comes_back() -> None:
    made = Steered(("amqp", "amqp"))
    made.link(True)
    made.link(True, target=1)
    made.wait(5)
    assert (made.state, made.failover.target) == ("bus", 0)
    made.link(False)
    made.wait(RULES.suspect_seconds + 1)
    assert (made.state, made.failover.target) == ("bus", 1)
    made.link(True)
    made.wait(3 * RULES.return_after_seconds)
    assert (made.state, made.failover.target) == ("bus", 0)


def test_a_reply_on_the_bus_in_use_proves_nothing_of_another_one() -> None:
    made = Steered(("amqp", "amqp"))
    made.deaf = {1}
    made.link(True)
    made.link(True, target=1)
    made.wait(120)
    made.failover.trouble("no receiver has answered", made.now)
    made.wait(120)
    assert {target for target, _ in made.went} == {0}


class Anything(RuleBasedStateMachine):
    """Whatever happens, in whatever order: what holds of every state."""

    @initialize(
        transports=st.sampled_from([("amqp",), ("amqp", "http"), ("http", "amqp"), ("amqp", "amqp", "http")]),
        proves=st.booleans(),
        policy=st.sampled_from(["wait", "switch", "off"]),
    )
    def begin(self, transports: tuple[Transport, ...], proves: bool, policy: Policy) -> None:
        self.now = 0.0
        self.transports = transports
        self.up = [one == "http" for one in transports]
        self.policy: Policy = "switch" if proves else policy
        self.failover = Failover(transports, 0, RULES, proves=proves, policy=self.policy, now=0.0)

    @rule(seconds=st.floats(0.01, 60))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(place=st.integers(0, 2), up=st.booleans())
    def a_link_changes(self, place: int, up: bool) -> None:
        if place < len(self.transports) and self.transports[place] == "amqp":
            self.up[place] = up
            self.failover.link(place, up, "" if up else "gone", self.now)

    @rule()
    def trouble(self) -> None:
        self.failover.trouble("something", self.now)

    @rule()
    def an_answer(self) -> None:
        self.failover.answered(self.now)

    @rule()
    def a_reply(self) -> None:
        self.failover.replied(self.now)

    @rule(is_open=st.booleans())
    def the_breaker(self, is_open: bool) -> None:
        self.failover.breaker(is_open, "503", self.now)

    @rule()
    def a_probe(self) -> None:
        target = self.failover.probe_due(self.now)
        if target is not None:
            assert self.transports[target] == "amqp"
            assert self.up[target]

    @precondition(lambda self: self.failover.wants_depth)
    @rule()
    def the_queue_is_empty(self) -> None:
        self.failover.queue_is_empty()

    @rule(drained=st.booleans(), committed=st.booleans())
    def look(self, drained: bool, committed: bool) -> None:
        before = self.failover.target
        switch = self.failover.decide(self.now, drained=drained)
        if switch is None:
            return
        assert self.up[switch.target], "nobody goes to a target that is down"
        if self.policy == "off" and self.transports[before] == "amqp":
            assert switch.target <= before, "a bus is left for home only"
        if committed:
            self.failover.arrived(switch, self.now)
            state: Literal["bus", "rest"] = "bus" if self.transports[switch.target] == "amqp" else "rest"
            assert self.failover.state == state

    @invariant()
    def nothing_goes_to_a_bus_that_is_down(self) -> None:
        failover = self.failover
        if failover.may_send and failover.on_bus:
            assert self.up[failover.target]
            assert failover.state == "bus"


TestAnything = Anything.TestCase


# -- what keeps a target from being of use -------------------------------------------------------------------


def obstacle(made: Steered, after: float = 0.0) -> str:
    return made.failover.health.obstacle(AMQP, made.now + after, RULES.confirm_late_seconds)


def test_the_obstacle_of_a_bus_is_what_is_known_last() -> None:
    made, late = on_bus(), RULES.confirm_late_seconds
    health = made.failover.health
    made.failover.trouble("silence", made.now)
    assert obstacle(made, 2 * late) == "", "not asked yet, nothing is known"
    health.asked(AMQP, made.now)
    assert obstacle(made) == "", "it may take its time"
    assert obstacle(made, late) == "the broker does not confirm what it was given"
    health.told(AMQP, "it did not take it", made.now)
    assert obstacle(made) == "it did not take it"
    health.told(AMQP, "", made.now)
    assert obstacle(made) == "", "so may a receiver"
    assert obstacle(made, late) == "no receiver has answered"
    health.replied(made.now)
    assert obstacle(made, 2 * late) == ""
    made.link(False, "connection refused")
    assert obstacle(made) == "connection refused"


def test_what_was_asked_over_a_link_that_is_gone_is_no_obstacle_of_the_next() -> None:
    made, late = on_bus(), RULES.confirm_late_seconds
    made.failover.health.asked(AMQP, made.now)
    made.link(False)
    made.link(True)
    assert obstacle(made, 2 * late) == ""
