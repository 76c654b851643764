# SPDX-License-Identifier: Apache-2.0
"""What must hold of what goes out, looked at as it does, on both transports.

EPOCH     a (generation, epoch) is on a wire before it is committed, or after the node that sends has used
          a newer one
TARGET    an epoch that is in force goes to another target than was committed with it
FLIGHT    two requests of one lane are under way, or a message while a request is
SEQ       on a bus: not 1, 2, 3 … per channel and epoch
OFF       the channel leaves a bus that it must not leave (`failover` is `off`)
WAIT      it leaves a bus where events of the same key wait that it counts as settled (`failover` is `wait`)
WINDOW    more is published and not answered than the window holds: so much would be sent twice by a switch
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fairlead.core.answer import AnswerDocument, parse_answers
from fairlead.core.channel import Fence
from fairlead.core.subscription import Subscription
from fairlead.errors import InvalidRequest
from fairlead.ports import Delivery, Parcel
from fairlead.testing.simulation.checker import Checker

IMPOSSIBLE = 10**17
Lane = tuple[str, float, int, str]
Flow = tuple[str, float, int, int, int]
"""A node's, a subscription's (by when it was made), a partition's, in one generation and epoch."""


@dataclass(slots=True)
class Window:
    """What one flow has published and not been answered for: `flseq` to key, position and time."""

    seq: int = 0
    out: dict[int, tuple[str, int, float]] = field(default_factory=dict)

    def publish(self, seq: int, key: str, position: int, now: float) -> None:
        """One more; what of its key was published from there on is given up with it."""
        self.seq = seq
        self._keep(lambda number, place: place[0] != key or place[1] < position)
        self.out[seq] = (key, position, now)

    def forget(self, before: float) -> None:
        """What was published before then is given up, and with it all of its key."""
        late = {key for key, _, at in self.out.values() if at < before}
        self._keep(lambda number, place: place[0] not in late)

    def answered(self, answer: AnswerDocument) -> None:
        """An answer to the flow's own epoch; where it is a failure, nothing of its key is under way."""
        failed = answer.result not in ("applied", "duplicate")
        self._keep(
            lambda number, place: number > (answer.seq or 0) and not (failed and place[0] == answer.key)
        )

    def applied(self, key: str | None, up_to: int) -> None:
        """Of a key everything up to a position is applied."""
        self._keep(lambda number, place: place[0] != key or place[1] > up_to)

    def _keep(self, wanted: Callable[[int, tuple[str, int, float]], bool]) -> None:
        self.out = {number: place for number, place in self.out.items() if wanted(number, place)}


class WireChecker:
    """Watches what every node sends.

    Args:
        waiting: key and position of what waits at the broker, of a partition and generation.
        window: how many publishes of a channel may be under way.
        patience_seconds: after so long without an answer a publish is given up.
        now: seconds.
    """

    def __init__(
        self,
        checker: Checker,
        violated: Callable[[str], None],
        *,
        waiting: Callable[[int, int], list[tuple[str, int]]],
        window: int,
        patience_seconds: float,
        now: Callable[[], float],
    ) -> None:
        self._checker = checker
        self._waiting = waiting
        self._most = window
        self._patience_seconds = patience_seconds
        self._now = now
        self._violated = violated
        self._flows: dict[Flow, Window] = {}
        self._newest: dict[tuple[str, float, int], tuple[int, int]] = {}
        self._told: dict[tuple[str, int, int, str], int] = {}
        self._requested: dict[tuple[int, int], set[int]] = {}
        self._flights: dict[Lane, int] = {}

    def sending(self, node: str, delivery: Delivery, *, published: bool) -> None:
        """A delivery goes out: it is published, or else requested."""
        fence = delivery.fence
        channel, made_at = fence.channel, delivery.subscription.created_at
        for parcel in delivery.parcels:
            flights = self._flights.get(lane := _lane(node, delivery, parcel), 0)
            if flights and (parcel.prev == 0 or published):
                place = f"{channel.partition}:{parcel.entry.position}"
                self._violated(f"FLIGHT {place} goes out while a request of its lane is under way")
            if parcel.prev == 0 and not published:
                self._flights[lane] = flights + 1
        state = self._checker.channels.get(channel.partition)
        if state is None or state.made_at != made_at:
            return
        ours, stored = (fence.generation, fence.epoch), (state.generation, state.epoch)
        if ours > stored:
            self._violated(f"EPOCH {channel.partition}: {ours} is on a wire, and {stored} is committed")
        newest = self.knows(node, delivery.subscription, fence)
        if ours < newest and published:
            self._violated(f"EPOCH {channel.partition}: {node} goes back from {newest} to {ours}")
        if ours == stored and delivery.parcels and fence.target != state.target:
            self._violated(
                f"TARGET {channel.partition}: {ours} goes to {fence.target}, committed for {state.target}"
            )

        if delivery.subscription.options.settles == "confirm" and ours == stored and not published:
            self._check_leave(delivery)

    def knows(self, node: str, subscription: Subscription, fence: Fence) -> tuple[int, int]:
        """A node has used an epoch, or committed it; the newest it has."""
        flow = (node, subscription.created_at, fence.channel.partition)
        ours = (fence.generation, fence.epoch)
        newest = self._newest[flow] = max(ours, self._newest.get(flow, ours))
        return newest

    def _check_leave(self, delivery: Delivery) -> None:
        """A plain consumer's channel sends a request, and not a message."""
        fence, policy = delivery.fence, delivery.subscription.options.failover
        partition = fence.channel.partition
        if policy == "off":
            self._violated(f"OFF {partition}: a request goes out; {fence}")
        requested = self._requested.setdefault((partition, fence.generation), set())
        requested.update(parcel.entry.position for parcel in delivery.parcels)
        requested |= {
            pos for past, pos in self._checker.channels[partition].skips if past == fence.generation
        }
        if policy == "wait":
            sent = {parcel.entry.key: parcel.entry.position for parcel in delivery.parcels}
            for key, position in self._waiting(partition, fence.generation):
                if position < sent.get(key, 0) and position not in requested:
                    what = f"{partition}:{sent[key]} goes over REST, and {position} waits in the queue"
                    self._violated(f"WAIT {what}")

    def landed(self, node: str, delivery: Delivery) -> None:
        """A request has ended."""
        for parcel in delivery.parcels:
            if parcel.prev == 0:
                self._flights[_lane(node, delivery, parcel)] -= 1

    def publishing(self, node: str, delivery: Delivery) -> None:
        """A delivery goes to the broker."""
        fence = delivery.fence
        partition = fence.channel.partition
        if not delivery.parcels or delivery.subscription.options.settles == "confirm":
            return
        flow = (node, delivery.subscription.created_at, partition, fence.generation, fence.epoch)
        window = self._flows.setdefault(flow, Window())
        if delivery.seq != window.seq + 1:
            self._violated(f"SEQ {partition}: {delivery.seq} follows {window.seq} in epoch {fence.epoch}")
        (parcel,) = delivery.parcels
        key, position = parcel.entry.key, parcel.entry.position
        told = self._told.get((node, partition, fence.generation, key), 0)
        window.publish(window.seq + 1, key, position, self._now())
        window.applied(key, told)  # it was answered for while it was made ready
        window.forget(self._now() - self._patience_seconds)
        if len(window.out) > self._most:
            self._violated(f"WINDOW {partition}: {len(window.out)} are under way in epoch {fence.epoch}")

    def hearing(self, node: str, body: bytes) -> None:
        """An answer has come to a node; only what it frees is noted. A forged one claims the impossible."""
        try:
            answers = parse_answers(body)
        except InvalidRequest:
            return
        for answer in answers:
            if (answer.applied or 0) < IMPOSSIBLE:
                self._heard(node, answer)

    def _heard(self, node: str, answer: AnswerDocument) -> None:
        place = (node, answer.partition, answer.generation, answer.key or "")
        self._told[place] = max(answer.applied or 0, self._told.get(place, 0))
        for flow, window in self._flows.items():
            if flow[0] != node or flow[2] != answer.partition or flow[3] != answer.generation:
                continue
            if flow[4] == answer.epoch:
                window.answered(answer)
            if answer.applied is not None:
                window.applied(answer.key, answer.applied)


def _lane(node: str, delivery: Delivery, parcel: Parcel) -> Lane:
    made_at = delivery.subscription.created_at
    return node, made_at, delivery.fence.channel.partition, parcel.entry.key
