# SPDX-License-Identifier: Apache-2.0
"""The checker (design, section 12): always the same, whatever was done to the processes.

Per (subscription, generation, key) what was applied is strictly increasing and prefix-complete, and every
acknowledged publish is applied, held, parked or skipped on record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.acceptance.api import Api

Key = tuple[int, str]
"""A partition and an ordering key in it."""


@dataclass(frozen=True)
class Applied:
    """One event that took effect at a receiver."""

    subscription: str
    generation: int
    partition: int
    key: str
    position: int
    id: str


@dataclass(frozen=True)
class Acknowledged:
    """One event that the relay has answered 202 for."""

    source: str
    id: str
    partition: int
    position: int

    @classmethod
    def of(cls, accepted: Mapping[str, Any]) -> Acknowledged:
        """From an item of the 202."""
        return cls(accepted["source"], accepted["id"], accepted["partition"], accepted["position"])


@dataclass(frozen=True)
class Log:
    """What the relay says that it has accepted, in order."""

    places: Mapping[tuple[str, str], tuple[int, int]]
    lanes: Mapping[Key, Sequence[int]]

    @classmethod
    def read(cls, api: Api) -> Log:
        """The whole log, over the API; a hole in a partition's positions is an error."""
        places: dict[tuple[str, str], tuple[int, int]] = {}
        lanes: dict[Key, list[int]] = defaultdict(list)
        last: dict[int, int] = defaultdict(int)
        for item in api.items("/events"):
            one, partition, position = item["event"], item["partition"], item["position"]
            assert position == last[partition] + 1, f"partition {partition} jumps to {position}"
            last[partition] = position
            assert (one["source"], one["id"]) not in places, f"{one['id']} is in the log twice"
            places[one["source"], one["id"]] = partition, position
            lanes[partition, item["key"]].append(position)
        return cls(places, lanes)


@dataclass(frozen=True)
class Excused:
    """What a subscription need not have applied: the heads of lanes that wait, and what was skipped."""

    heads: Mapping[Key, int] = field(default_factory=dict)
    skipped: frozenset[tuple[int, int]] = frozenset()

    @classmethod
    def read(cls, api: Api, subscription: str) -> Excused:
        """As the API says it."""
        lanes, skips = api.lanes(subscription), api.items(f"/subscriptions/{subscription}/skips")
        return cls(
            {(lane["partition"], lane["key"]): lane["head"]["position"] for lane in lanes},
            frozenset((skip["partition"], skip["position"]) for skip in skips),
        )


def check_acknowledged(acknowledged: Iterable[Acknowledged], log: Log) -> None:
    """Each is in the log, where the relay said."""
    for one in acknowledged:
        place = log.places.get((one.source, one.id))
        assert place == (one.partition, one.position), f"{one} was acknowledged, but is at {place}"


def check_applied(
    applied: Iterable[Applied], log: Log, *, excused: Excused | None = None, once: bool, complete: bool = True
) -> None:
    """One subscription to everything, in the newest generation that its receiver saw.

    Args:
        once: each took effect once (the library), not at least once with every first time in order (plain).
        complete: all that is not excused has been applied.
    """
    excused = excused or Excused()
    lanes: dict[tuple[int, int, str], list[int]] = defaultdict(list)
    for one in applied:
        assert log.places.get(("/heat", one.id), (one.partition, one.position)) == (
            one.partition,
            one.position,
        ), f"{one} is not where the log has it"
        lanes[one.generation, one.partition, one.key].append(one.position)
    for (generation, partition, key), positions in lanes.items():
        wanted = [pos for pos in log.lanes[partition, key] if (partition, pos) not in excused.skipped]
        first_times = positions if once else list(dict.fromkeys(positions))
        assert first_times == wanted[: len(first_times)], (
            f"{key!r} in generation {generation}: applied {positions}, the log has {wanted}"
        )
    newest = max((generation for generation, _, _ in lanes), default=0)
    for (partition, key), logged in log.lanes.items() if complete else ():
        done = set(lanes.get((newest, partition, key), ()))
        head = excused.heads.get((partition, key))
        missing = [
            pos
            for pos in logged
            if pos not in done and (partition, pos) not in excused.skipped and (head is None or pos < head)
        ]
        assert not missing, f"{key!r}: {missing} were neither applied nor held, parked or skipped"


def repeats(positions: Sequence[object]) -> int:
    """How many came again."""
    return len(positions) - len(set(positions))
