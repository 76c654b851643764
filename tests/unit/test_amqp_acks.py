# SPDX-License-Identifier: Apache-2.0
"""What a consumer tells the broker of its deliveries: each one once, whatever the order it is done in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairlead.drivers.amqp.acks import Acks


class Broker:
    """Reads the words as AMQP 0-9-1 does, and as strictly as RabbitMQ."""

    def __init__(self, deliveries: int) -> None:
        self.unsettled = set(range(1, deliveries + 1))

    def hears(self, words: list[tuple[int, bool]]) -> None:
        for tag, multiple in words:
            assert tag in self.unsettled, "it closes the channel: unknown delivery tag"
            self.unsettled -= {one for one in self.unsettled if one == tag or (multiple and one < tag)}


steps = st.lists(st.tuples(st.sampled_from(["ack", "nack", "tell"]), st.integers(1, 20)), max_size=60)


@given(steps)
def test_every_delivery_is_told_once_and_none_that_is_not_done(steps: list[tuple[str, int]]) -> None:
    acks, broker = Acks(), Broker(20)
    done: set[int] = set()
    for what, tag in steps:
        if what == "tell":
            broker.hears(acks.due())
            assert broker.unsettled == set(range(1, 21)) - done
        elif what == "nack":
            if acks.nack(tag):
                broker.hears([(tag, False)])
                done.add(tag)
        else:
            acks.ack(tag)
            done.add(tag)
    broker.hears(acks.due())
    assert broker.unsettled == set(range(1, 21)) - done


def test_many_in_order_are_one_word() -> None:
    acks = Acks()
    assert acks.ack(1)
    assert not [acks.ack(tag) for tag in range(2, 1001) if acks.ack(tag)]
    assert acks.due() == [(1000, True)]
    assert acks.due() == []


def test_what_lies_beyond_a_gap_does_not_wait_for_it() -> None:
    acks = Acks()
    for tag in (3, 5):
        acks.ack(tag)
    assert acks.due() == [(3, False), (5, False)]
    for tag in (1, 2, 4, 6):
        acks.ack(tag)
    assert acks.due() == [(6, True)]
