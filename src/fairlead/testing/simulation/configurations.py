# SPDX-License-Identifier: Apache-2.0
"""What a simulated world is made of: the configurations by name, like those of the protocol's model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Operation = Literal[
    "skip", "retry", "release", "replay", "replay-key", "replay-time", "replay-event", "undo", "filter",
    "recreate", "pause", "options", "far-replay", "far-replay-key", "far-skip", "far-release",
]  # fmt: skip
OPERATIONS: tuple[Operation, ...] = (
    "skip",
    "retry",
    "release",
    "replay",
    "replay-key",
    "replay-time",
    "replay-event",
    "filter",
    "recreate",
    "pause",
    "options",
)
FAR: tuple[Operation, ...] = ("far-replay", "far-replay-key", "far-skip", "far-release")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One kind of world.

    Attributes:
        receiver: see `receivers`.
        route: the subscription's targets, in order of preference.
        settles, failover: see the interface; `confirm` with `plain` only.
        shards, consumers: how many queues, and how many processes of the receiver at each.
        joined: a process sends the answers of one moment in one message.
        late: copies come late, and requests outlive their relay's patience.
        repeated: how many requests some proxy repeats, if `late`.
        zombie: a second node takes the leases while the first lives on; the store is shared then.
        crash: relays are killed and stopped; disk: the store's disk makes trouble.
        attempts: after so many a lane is parked or skipped.
        regress: no older event may run after a newer one.
        keep_seconds: settled events are deleted after that. Retention takes turns with the operators of its
            own node only, so not where others replay.
        max_age_seconds: unsettled events are deleted after that, on record.
    """

    receiver: Literal["lib", "split", "ext", "plain", "pos"] = "lib"
    route: tuple[Literal["bus", "rest"], ...] = ("rest",)
    settles: Literal["applied", "confirm"] = "applied"
    failover: Literal["wait", "switch", "off"] = "wait"
    shards: int = 1
    consumers: int = 2
    joined: bool = False
    late: bool = True
    repeated: float = 0.08
    zombie: bool = False
    crash: bool = True
    disk: bool = True
    lazy: bool = False
    batch: int = 1
    exhausted: Literal["park", "skip", "stop"] = "park"
    attempts: int | None = 3
    filters: bool = True
    poison: bool = True
    gone: bool = False
    operations: tuple[Operation, ...] = OPERATIONS
    regress: bool = False
    max_age_seconds: float | None = None
    keep_seconds: float = 6.0
    events: int = 16
    keys: int = 3
    partitions: int = 2
    chaos_seconds: float = 12.0

    @property
    def bus(self) -> bool:
        """Whether there is a broker."""
        return "bus" in self.route

    @property
    def leaves_the_bus(self) -> bool:
        """Whether a bus that is gone is replaced by REST."""
        return "rest" in self.route and (self.settles == "applied" or self.failover == "switch")


_REST = Configuration()
_PLAIN = replace(_REST, receiver="plain", filters=False)
_CALM_PLAIN = replace(_PLAIN, late=False, regress=True, operations=("skip", "retry", "release", "pause"))

_ALL = replace(
    _REST, route=("bus", "rest"), zombie=True, disk=False, lazy=True, operations=(*OPERATIONS, *FAR),
    keep_seconds=1e6,
)  # fmt: skip
_BUS = replace(_ALL, route=("bus",))
_ONE_NODE = replace(_REST, route=("bus", "rest"), lazy=True)
_CONFIRM = replace(_ONE_NODE, receiver="plain", settles="confirm", filters=False, lazy=False)

CONFIGURATIONS: dict[str, Configuration] = {
    "rest": _REST,
    "rest-lazy": replace(_REST, lazy=True),
    "rest-skip": replace(_REST, exhausted="skip", attempts=1),
    "batch": replace(_REST, batch=4, lazy=True, keys=2),
    "split": replace(_REST, receiver="split", batch=4, lazy=True, keys=2),
    "ext": replace(_REST, receiver="ext", exhausted="skip", attempts=2),
    "ext-repeats": replace(_REST, receiver="ext", repeated=0.5, keys=1, partitions=1, operations=()),
    "calm": replace(_REST, crash=False, disk=False),
    "stop": replace(_REST, exhausted="stop", gone=True, poison=False),
    "prune": replace(_REST, operations=(), filters=False, exhausted="skip", attempts=1),
    "filters": replace(_REST, operations=("filter",), keys=1, poison=False, lazy=True, events=24),
    "replays": replace(
        _REST, filters=False, operations=("replay", "replay-key", "replay-time", "replay-event", "recreate")
    ),
    "undo": replace(
        _REST, filters=False, exhausted="skip", attempts=1, operations=("undo", "undo", "skip", "retry")
    ),
    "breaker": replace(_PLAIN, attempts=None, operations=(), late=False, partitions=1),
    "retention": replace(_REST, max_age_seconds=5.0, operations=("skip", "release", "replay"), filters=False),
    "zombie": replace(
        _REST, zombie=True, disk=False, lazy=True, operations=(*OPERATIONS, *FAR), keep_seconds=1e6
    ),
    "far": replace(_REST, zombie=True, disk=False, filters=False, operations=FAR, keep_seconds=1e6),
    "zombie-filters": replace(
        _REST, zombie=True, disk=False, operations=("filter",), keys=1, partitions=1, poison=False, lazy=True
    ),
    "zombie-ext": replace(_REST, zombie=True, disk=False, receiver="ext"),
    "pos": replace(_PLAIN, receiver="pos", exhausted="skip", attempts=1, batch=3, lazy=True),
    "plain": replace(_PLAIN, batch=3, lazy=True),
    "plain-next": _CALM_PLAIN,
    # on a bus, with REST behind it or before it
    "all": _ALL,
    "all-next": replace(_ALL, lazy=False, shards=2),
    "all-skip": replace(_ALL, exhausted="skip", attempts=1),
    "all-batch": replace(_ALL, batch=3, route=("rest", "bus")),
    "all-joined": replace(_ALL, joined=True),
    "bus": _BUS,
    "bus-ext": replace(_ALL, receiver="ext", exhausted="skip", attempts=2),
    "bus-one-node": replace(_ONE_NODE, shards=2),
    "bus-calm-ops": replace(_ONE_NODE, crash=False, disk=False),
    "bus-prune": replace(_ONE_NODE, operations=(), filters=False, exhausted="skip", attempts=1),
    "bus-filters": replace(
        _ALL, operations=("filter",), keys=1, partitions=1, crash=False, poison=False, events=24
    ),
    "bus-replays": replace(
        _ONE_NODE,
        filters=False,
        operations=("replay", "replay-key", "replay-time", "replay-event", "recreate"),
    ),
    "bus-undo": replace(
        _ONE_NODE, filters=False, exhausted="skip", attempts=1, operations=("undo", "undo", "skip", "retry")
    ),
    "confirm-wait": _CONFIRM,
    "confirm-switch": replace(_CONFIRM, failover="switch"),
    "confirm-off": replace(_CONFIRM, failover="off", lazy=True, exhausted="skip", attempts=1),
    "bus-settle": replace(_BUS, operations=(), filters=False, zombie=False, crash=False),
}
