# SPDX-License-Identifier: Apache-2.0
"""Subscriptions: make, change, pause, resume, delete, rotate secrets (interface, section 4)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fairlead.core.policy import Principal
from fairlead.core.subscription import Secrets, State, Subscription
from fairlead.engine.commands.secrets import Silenced, check_secret, complete, signed_as, silenced, succeed
from fairlead.engine.commands.target_checks import TargetChecks
from fairlead.engine.finding import find_subscription, no_subscription
from fairlead.engine.pages import Page, from_cursor, to_cursor
from fairlead.engine.permissions import may_see, require, require_coverage, require_sight
from fairlead.engine.retention.turn import Turn
from fairlead.errors import Fault, InvalidSubscription, RevisionMismatch, SubscriptionExists
from fairlead.ports import Bus, Clock, Sender, Store
from fairlead.telemetry import Telemetry

if TYPE_CHECKING:
    from fairlead.engine.sending.dispatcher import Dispatcher

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Put:
    """What came of making or replacing a subscription.

    Attributes:
        created: 201 rather than 200.
        pending: its filter is not in force yet, the old one is: 202 with `filter_pending`.
        secret_shown: the write-only members that the answer shows, this once: made by the relay.
    """

    subscription: Subscription
    created: bool
    pending: bool = False
    secret_shown: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Rotation:
    """A new secret; the one before it signs too until `previous_until` (Unix seconds).

    `silenced`: the earlier secrets that sign no more.
    """

    secret: str
    previous_until: float
    answer_secret: str | None = None
    silenced: Silenced | None = None


class Subscribing:
    """What subscribers do. Every call needs a grant and raises Forbidden without one.

    Args:
        random_bytes: `os.urandom`, for secrets and ids.
        turn: held while a channel gets a place in the log, so that retention does not delete under it.
    """

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        sender: Sender,
        clock: Clock,
        telemetry: Telemetry,
        *,
        random_bytes: Callable[[int], bytes],
        turn: Turn,
        bus: Bus | None = None,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._telemetry = telemetry
        self._random_bytes = random_bytes
        self._turn = turn
        self._targets = TargetChecks(sender, bus)

    def new_id(self) -> str:
        """An id for a subscription that was given none."""
        return "s-" + self._random_bytes(10).hex()

    async def create(
        self,
        principal: Principal,
        subscription: Subscription,
        *,
        replace: bool = False,
        only_if_absent: bool = False,
        if_match: int | None = None,
    ) -> Put:
        """Make a subscription or, with `replace`, replace the one of that id whole.

        Without a secret the relay makes one, or keeps the one there is. What changes nothing keeps the
        revision. A new filter is in force on return for every event accepted later, unless `pending`.

        Args:
            subscription: as `subscription_format.parse` gives it, against the one there is now.
            only_if_absent: `If-None-Match: *`.
            if_match: the revision that `If-Match` names.

        Raises:
            SubscriptionExists: taken, and not to be replaced. RevisionMismatch: not `if_match`, or somebody
            changed it meanwhile. InvalidSubscription: `receiver` or `settles` differs (needs a replay).
            ForbiddenSink, HandshakeRefused: a target may not be called, or did not consent.
        """
        require(principal, "subscribe", subscription=subscription.id)
        require_coverage(principal, subscription)
        previous = await self._store.subscriptions.get(subscription.id)
        if previous is not None and (only_if_absent or not replace):
            raise SubscriptionExists(
                f"there is a subscription {subscription.id!r} already; "
                "PUT without If-None-Match replaces it, "
                f"fairlead subscriptions set {subscription.id} changes it"
            )
        if if_match is not None and (previous is None or previous.revision != if_match):
            raise _mismatch(subscription.id, if_match, previous)
        if previous is None:
            return await self._make(subscription)
        return await self._replace(previous, subscription)

    async def get(self, principal: Principal, id: str) -> Subscription:
        """Raises NotFound, Forbidden."""
        require_sight(principal, id)
        return await find_subscription(self._store, id)

    async def list(
        self, principal: Principal, *, state: State | None = None, limit: int = 100, after: str | None = None
    ) -> Page[Subscription]:
        """The subscriptions that the principal may see, by id. Raises InvalidQuery for a foreign `after`."""
        last = from_cursor(after, str)
        found = [
            one
            for one in await self._store.subscriptions.all()
            if (last is None or one.id > last)
            and (state is None or one.state == state)
            and may_see(principal, one.id)
        ]
        return Page(found[:limit], to_cursor(found[limit - 1].id) if len(found) > limit else None)

    async def delete(self, principal: Principal, id: str) -> None:
        """Delete it, also while something is in flight; its generation is never reused. Raises NotFound."""
        require(principal, "subscribe", subscription=id)
        await find_subscription(self._store, id)
        if not await self._store.subscriptions.delete(id):
            raise no_subscription(id)
        await self._dispatcher.drop(id)  # after it: a store that refuses leaves it served
        self._telemetry.deliveries.forget(id)
        _log.info("subscription deleted", extra={"subscription": id, "by": principal.name})

    async def pause(self, principal: Principal, id: str) -> Subscription:
        """Stop sending and keep events; repeatable. Raises NotFound."""
        return await self._enter(principal, id, "paused", "operator")

    async def resume(self, principal: Principal, id: str) -> Subscription:
        """Be active, from any state; repeatable. Raises NotFound."""
        return await self._enter(principal, id, "active", None)

    async def rotate_secret(self, principal: Principal, id: str, secret: str | None = None) -> Rotation:
        """Sign with a new secret, and with the one before it too for `secret_overlap`.

        Args:
            secret: `whsec_…` or `whsk_…`; None has the relay make one.

        Raises:
            InvalidRequest: `secret` is not one. NotFound.
        """
        require(principal, "subscribe", subscription=id)
        if secret is not None:
            check_secret(secret)
        subscription = await find_subscription(self._store, id)
        before = subscription.secrets
        given = Secrets(secret or "", answer=before.answer)
        fresh, shown = complete(given, subscription.options.signature, self._random_bytes)
        overlap = subscription.options.secret_overlap_seconds
        now = self._clock.now()
        secrets = succeed(before, fresh.current, now=now, overlap_seconds=overlap, answer=fresh.answer)
        options = signed_as(subscription.options, secrets.current)
        rotated = replace(subscription, secrets=secrets, options=options)
        try:
            stored = await self._store.subscriptions.replace(rotated, subscription.revision)
        except RevisionMismatch:  # changed meanwhile: it is the secret that stands now which is succeeded
            return await self.rotate_secret(principal, id, secret)
        await self._dispatcher.adopt(stored)
        _log.info("secret rotated", extra={"subscription": id, "by": principal.name})
        until = secrets.predecessors[0].until if secrets.predecessors else now
        answer = secrets.answer if "answer_secret" in shown else None
        return Rotation(secrets.current, until, answer, silenced(before, secrets, now))

    # -- how -------------------------------------------------------------------------------------------

    async def _make(self, subscription: Subscription) -> Put:
        secrets, shown = complete(subscription.secrets, subscription.options.signature, self._random_bytes)
        subscription = replace(subscription, secrets=secrets, state="active", reason=None, revision=1)
        subscription = await self._targets.checked(subscription, None)
        now = self._clock.now()
        subscription = replace(subscription, since=now, created_at=now)
        async with self._turn.moving():
            stored = await self._store.subscriptions.create(subscription, int(now * 1000))
        in_force = await self._dispatcher.adopt(stored)
        _log.info("subscription made", extra={"subscription": stored.id, "generation": stored.generation})
        return Put(stored, True, not in_force, shown)

    async def _replace(self, previous: Subscription, wanted: Subscription) -> Put:
        _refuse_what_needs_a_replay(previous, wanted)
        if wanted.created_at == previous.created_at and wanted.revision != previous.revision:
            raise _changed(previous)  # it was parsed against a revision that is gone, secrets and all
        merged = replace(
            previous,
            matching=wanted.matching,
            targets=wanted.targets,
            options=wanted.options,
            secrets=self._kept(previous, wanted),
        )
        if merged == previous:
            pending = any(view.pending_filter for view in self._dispatcher.views(previous.id))
            return Put(previous, False, pending)
        merged = await self._targets.checked(merged, previous)
        stored = await self._store.subscriptions.replace(merged, previous.revision)
        in_force = await self._dispatcher.adopt(stored)
        _log.info("subscription replaced", extra={"subscription": stored.id, "revision": stored.revision})
        return Put(stored, False, not in_force)

    def _kept(self, previous: Subscription, wanted: Subscription) -> Secrets:
        """The secrets after a replacement: absent ones stay, another one takes over as in a rotation."""
        before, given = previous.secrets, wanted.secrets
        answer = given.answer or before.answer
        if not given.current or given.current == before.current:
            return replace(before, answer=answer)
        overlap = wanted.options.secret_overlap_seconds
        return succeed(before, given.current, now=self._clock.now(), overlap_seconds=overlap, answer=answer)

    async def _enter(self, principal: Principal, id: str, state: State, reason: str | None) -> Subscription:
        require(principal, "subscribe", "operate", subscription=id)
        subscription = await find_subscription(self._store, id)
        if subscription.state == state:
            return subscription
        subscription = await self._store.subscriptions.set_state(id, state, reason, self._clock.now())
        await self._dispatcher.adopt(subscription)
        extra = {"subscription": id, "state": state, "by": principal.name}
        _log.info("subscription entered a state", extra=extra)
        return subscription


def _refuse_what_needs_a_replay(previous: Subscription, wanted: Subscription) -> None:
    faults = [
        Fault(
            detail=f"cannot change from {before!r} to {after!r} in place",
            pointer=f"/config/{name}",
            hint=f"POST /subscriptions/{previous.id}/replay with {name!r} changes it together with a replay",
        )
        for name, before, after in (
            ("receiver", previous.options.receiver, wanted.options.receiver),
            ("settles", previous.options.settles, wanted.options.settles),
        )
        if before != after
    ]
    if faults:
        raise InvalidSubscription(f"{faults[0].pointer} {faults[0].detail}", faults=faults)


def _mismatch(id: str, if_match: int, previous: Subscription | None) -> RevisionMismatch:
    if previous is None:
        return RevisionMismatch(f"there is no subscription {id!r}, so it is not at revision {if_match}")
    return RevisionMismatch(
        f"subscription {id!r} is at revision {previous.revision}, not {if_match}; read it again",
        members={"revision": previous.revision},
    )


def _changed(previous: Subscription) -> RevisionMismatch:
    return RevisionMismatch(
        f"subscription {previous.id!r} was changed meanwhile, to revision {previous.revision}; read it again",
        members={"revision": previous.revision},
    )
