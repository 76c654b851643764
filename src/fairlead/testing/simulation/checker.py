# SPDX-License-Identifier: Apache-2.0
"""What must hold, looked at from outside: at every commit, every delivery, every effect.

    ORDER     per (generation, key) applied positions strictly increase
    DOUBLE    the library applied a position twice in one generation
    GAP       a position was applied before an earlier one that is owed and not skipped on record
    UNWANTED  a position was applied that no filter in force since it was accepted passes
    SETTLED   a delivery says that a position is settled which was neither applied nor skipped on record
    STORE     the same, of the durable state at each commit
    OWED      a replay forgets something that is still owed
    ACCEPT    an acknowledged event is not in the log, or its place is not what was said
    NEXT      (`before_next`) a delivery went out before what it follows was stored as settled
    LIVE      after the faults heal, something owed is neither applied, skipped nor parked
    REGRESS   (receivers without library, only where asked) an older event ran after a newer one
    DEFECT    an exception that nobody took

What goes out is looked at in `wires` too.

Owed: an event whose type passes every filter in force since it was accepted (a filter is in force when the
call that set it has returned), at or above its generation's start. A delivery of the library's zombie may
say what it likes: only what is current is held to SETTLED.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fairlead.core.stamps import Stamps
from fairlead.drivers.sqlite.file import Connection
from fairlead.ports import Delivery
from fairlead.testing.simulation.durable import (
    Channel,
    Logged,
    Place,
    Run,
    owner_of,
    read_channels,
    read_log,
)


class Violation(Exception):  # it is what the model calls it
    """What must not be; the first word is its name."""


@dataclass(frozen=True, slots=True)
class Strictness:
    """What is asked of the receiver's kind.

    Attributes:
        once: no event twice, none late. outside: but the last event of a key may repeat.
        regress: no older event after a newer one. before_next: see NEXT.
    """

    once: bool = True
    outside: bool = False
    regress: bool = False
    before_next: bool = False


class Checker:
    """Watches one subscription `name`; `violations` are told through `violated`, the first one counts."""

    def __init__(self, name: str, strictness: Strictness, violated: Callable[[str], None]) -> None:
        self.log: dict[Place, Logged] = {}
        self.heads: dict[int, int] = {}
        self.channels: dict[int, Channel] = {}
        self.runs: dict[tuple[int, int], Run] = {}
        self.wanted: list[int] = [3]
        self.owner = ""
        self._name = name
        self._strict = strictness
        self.violated = violated
        self._seen: object = None
        self._missing: set[Place] = set()

    # -- filters ---------------------------------------------------------------------------------------

    def filter_asked(self, kinds: int) -> None:
        """A filter may come into force from now on."""
        self.wanted.append(kinds)
        for logged in self.log.values():
            logged.must = logged.must and bool(logged.kind & kinds)
            logged.may = logged.may or bool(logged.kind & kinds)

    def filter_in_force(self, kinds: int) -> None:
        """The call that set it has returned."""
        self.wanted = [kinds]

    def made_anew(self, kinds: int) -> None:
        """The subscription is made, maybe not for the first time: nothing before counts."""
        self.wanted = [kinds]
        for logged in self.log.values():
            logged.must = logged.may = bool(logged.kind & kinds)

    def replayed(self, generation: int, stretches: Iterable[tuple[int, int, int]], key: str | None) -> None:
        """A replay has returned: what it says it sends again is owed."""
        for partition, first, last in stretches:
            if partition in self.channels and self.channels[partition].generation < generation:
                self.violated(f"OWED {partition}: a replay began no generation {generation}")
            run = self.runs.get((partition, generation))
            for position in range(first, last + 1):
                if (
                    run is not None
                    and position in run.exempt
                    and key in (None, self.log[partition, position].key)
                ):
                    self.violated(f"OWED {partition}:{position} was to be sent again in {generation}")

    # -- the store -------------------------------------------------------------------------------------

    def committed(self, connection: Connection) -> None:
        """Look at the durable state after a commit."""
        self._read_log(connection)
        self.owner = owner_of(connection)
        seen = (channels := read_channels(connection, self._name), self._missing)
        if seen == self._seen:
            return
        self._seen = seen
        if not channels:
            self.channels.clear()
        for partition, state in channels.items():
            before, self.channels[partition] = self.channels.get(partition), state
            self._check_state(partition, state, before)
            self._check_missing(partition, state)
        for place in self._missing:
            self.log[place].gone = True

    def _read_log(self, connection: Connection) -> None:
        found = read_log(connection)
        self._missing = self.log.keys() - {(partition, position) for partition, position, *_ in found}
        for partition, position, key, kind, id in found:
            if position <= self.heads.get(partition, 0):
                continue
            if position != self.heads.get(partition, 0) + 1:
                self.violated(f"ACCEPT {partition}:{position} follows {self.heads.get(partition, 0)}")
            self.heads[partition] = position
            number = int(kind[-1])
            self.log[partition, position] = Logged(
                key, number, id,
                all(number & one for one in self.wanted), any(number & one for one in self.wanted),
            )  # fmt: skip

    def _check_state(self, partition: int, state: Channel, before: Channel | None) -> None:
        for _, position in sorted(state.skips):
            if (partition, position) not in self.log:
                self.violated(f"STORE {partition}:{position} is skipped on record, and no such event is")
        run = self.runs.get((partition, state.generation))
        if run is None or run.made_at != state.made_at:
            run = self.runs[partition, state.generation] = Run(state.generation, state.made_at)
            run.exempt = {
                position
                for position, logged in self.positions(partition)
                if state.settles(position, logged.key)
            }
            if before is not None and before.made_at == state.made_at:
                for position in self._owed(partition, before):
                    skipped = (before.generation, position) in state.skips  # by the same commit, just before
                    if position in run.exempt and not skipped:
                        self.violated(f"OWED {partition}:{position} is forgotten by a replay")
            return
        for position in self._owed(partition, state):
            logged = self.log[partition, position]
            if state.settles(position, logged.key):
                what = f"STORE {partition}:{position} of {logged.key!r} is stored as settled, not applied"
                self.violated(f"{what}; {state}")

    def _check_missing(self, partition: int, state: Channel) -> None:
        """What was deleted must not be owed; from then on nobody can."""
        for position in self._owed(partition, state):
            if (partition, position) in self._missing:
                self.violated(f"STORE {partition}:{position} was deleted, and neither applied nor skipped")

    # -- what is owed ----------------------------------------------------------------------------------

    def positions(self, partition: int) -> Iterable[tuple[int, Logged]]:
        """The log of one partition, ascending."""
        for position in range(1, self.heads.get(partition, 0) + 1):
            yield position, self.log[partition, position]

    def _owed(self, partition: int, state: Channel) -> list[int]:
        """What a channel in its present generation has yet to see applied or skipped."""
        run = self.runs[partition, state.generation]
        return [
            position
            for position, logged in self.positions(partition)
            if logged.must
            and not logged.gone
            and position not in run.applied
            and position not in run.exempt
            and (state.generation, position) not in state.skips
        ]

    def outstanding(self, poison: str | None) -> list[str]:
        """What is still to be done before everything is as it should be; see LIVE."""
        left = []
        for partition, state in self.channels.items():
            for position in self._owed(partition, state):
                key = self.log[partition, position].key
                held = key in state.holds and state.holds[key] <= position
                if not held or key != poison:
                    left.append(f"{partition}:{position} of {key!r} is owed; {state}")
            if state.low_water < self.heads.get(partition, 0):
                left.append(f"{partition}: low_water {state.low_water} stays below the head; {state}")
            left += [f"{partition}: a hold of {key!r} stays" for key in state.holds if key != poison]
        return left

    # -- deliveries and effects ------------------------------------------------------------------------

    def sending(self, node: str, delivery: Delivery) -> None:
        """A request or a message goes out."""
        partition = delivery.fence.channel.partition
        state = self.channels.get(partition)
        fence = delivery.fence
        if (
            state is None
            or node != self.owner
            or (fence.generation, fence.epoch) != (state.generation, state.epoch)
        ):
            return
        first = {parcel.entry.key: parcel for parcel in reversed(delivery.parcels)}
        owed = self._owed(partition, state)
        for position in owed:
            if position <= delivery.floor:
                self.violated(
                    f"SETTLED {partition}:{position} is at or below floor {delivery.floor}, not applied"
                )
        for key, parcel in first.items():
            for position in owed:
                if (
                    parcel.prev < position < parcel.entry.position
                    and self.log[partition, position].key == key
                ):
                    what = f"prev {parcel.prev} of {parcel.entry.position}"
                    self.violated(f"SETTLED {partition}:{position} by {what}")
            if delivery.seq is None:
                self._check_next(partition, state, parcel.entry.position, key)

    def _check_next(self, partition: int, state: Channel, position: int, key: str) -> None:
        run = self.runs[partition, state.generation]
        if not self._strict.before_next:
            return
        for earlier in run.history.get(key, ()):
            if earlier < position and not state.settles(earlier, key):
                self.violated(
                    f"NEXT {partition}:{position} went out before {earlier} was stored as settled; {state}"
                )

    def applied(self, stamps: Stamps, key: str) -> None:
        """The receiver's handler had its effect."""
        partition, position = stamps.channel.partition, stamps.pos
        run = self.runs.get((partition, stamps.generation))
        logged = self.log.get((partition, position))
        if run is None or logged is None or logged.key != key:
            self.violated(f"ACCEPT {partition}:{position} of {key!r} was never accepted as such")
            return
        history = run.history.setdefault(key, [])
        last = history[-1] if history else 0
        self._check_repeat(run, partition, position, last)
        if position not in run.applied:
            self._check_first(run, partition, position, logged)
        history.append(position)
        run.applied.add(position)

    def _check_repeat(self, run: Run, partition: int, position: int, last: int) -> None:
        strict = self._strict
        if position in run.applied and strict.once and not (strict.outside and position == last):
            self.violated(f"DOUBLE {partition}:{position} in generation {run.generation}")
        if position < last and strict.once:
            self.violated(f"ORDER {partition}:{position} after {last} in generation {run.generation}")
        if position < last and strict.regress:
            self.violated(f"REGRESS {partition}:{position} after {last} in generation {run.generation}")

    def _check_first(self, run: Run, partition: int, position: int, logged: Logged) -> None:
        state = self.channels.get(partition, Channel())
        current = run.made_at == state.made_at  # of a subscription that was made anew since, nothing is known
        if current and not logged.may:
            self.violated(f"UNWANTED {partition}:{position} passes no filter that was in force")
        for earlier, other in self.positions(partition):
            if earlier >= position:
                break
            if (
                other.key == logged.key
                and other.must
                and not other.gone
                and earlier not in run.applied
                and earlier not in run.exempt
                and (run.generation, earlier) not in state.skips
                and current
            ):
                self.violated(f"GAP {partition}:{position} applied before {earlier} of {logged.key!r}")
