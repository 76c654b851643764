# SPDX-License-Identifier: Apache-2.0
"""What keeps a channel from the targets that it prefers, said to people: in the log, and where one looks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from fairlead.core.failover import Failover
from fairlead.core.target_health import SILENCE
from fairlead.engine.sending.links import Links

if TYPE_CHECKING:
    from fairlead.engine.sending.owner import Owner

_log = logging.getLogger(__name__)


class Obstacle(NamedTuple):
    """Something keeps `target` from being of use; `why` is "" where nothing is known to."""

    target: int
    why: str


class Obstacles:
    """One channel's. Why it left a target was told then; what keeps it from there may be something else."""

    def __init__(self, owner: Owner, links: Links) -> None:
        self._owner = owner
        self._links = links
        self._said = ""
        self._waited = False  # when that was said

    def shown(self, failover: Failover) -> str:
        """What there is at this moment, if that is not the reason why the channel is where it is; else ""."""
        why = self._first(failover).why
        return "" if failover.reason.startswith(why) else self._in_full(failover)

    def say(self, failover: Failover) -> None:
        """Log once, until the channel is on its bus again, why it waits for it, or does not return to it.

        Where it went elsewhere, the link says that a bus is away, and the switch why it was left.
        """
        target, why = self._first(failover)
        waits, up = target == failover.target, self._links.health(target).up
        told = not waits and (not up or failover.reason.startswith(why))
        extra = {**self._owner.channel._asdict(), "target": target}
        if why and not told:
            detail = self._in_full(failover)
            if detail != self._said and (up or not self._said):  # away, it is tried again and again
                self._said, self._waited = detail, waits
                what = "a channel waits for its bus" if waits else "a bus that is up is of no use"
                _log.warning(what, extra={**extra, "detail": detail})
        elif self._said and failover.state == "bus":
            self._said = ""
            if self._waited:  # else its return is said
                _log.info("a channel has its bus again", extra=extra)

    def _first(self, failover: Failover) -> Obstacle:
        """Of the targets before the one in use, and up to it once it has been of no use for a while."""
        works = self._owner.works
        now, rules = works.clock.monotonic(), works.settings.failover
        in_doubt = failover.state == "suspect" and now < failover.since + rules.suspect_seconds
        stands_still = failover.state in ("suspect", "waiting") and not in_doubt
        for target in range(failover.target + stands_still):
            if why := failover.health.obstacle(target, now, rules.confirm_late_seconds):
                return Obstacle(target, why)
        return Obstacle(failover.target, "")

    def _in_full(self, failover: Failover) -> str:
        """With what the link knows of it."""
        target, why = self._first(failover)
        deaf = self._links.health(target).deaf if why == SILENCE else ""
        return "; ".join(filter(None, (why, deaf)))
