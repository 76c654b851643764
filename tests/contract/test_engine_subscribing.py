# SPDX-License-Identifier: Apache-2.0
"""Making, changing and ending subscriptions."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from math import inf

import pytest

from fairlead.core.subscription import DeliveryOptions, Matching, Secrets, Subscription, Target
from fairlead.engine.commands.handshakes import REFUSED
from fairlead.engine.commands.secrets import MOST_PREDECESSORS
from fairlead.errors import (
    Forbidden,
    ForbiddenSink,
    HandshakeRefused,
    InvalidRequest,
    InvalidSubscription,
    NotFound,
    RevisionMismatch,
    SubscriptionExists,
)
from tests.contract.engine_scene import ANYONE, NOW, Scene, play, principal, subscription

DAY = 86_400.0
NO_SECRETS = Secrets("")
SHAKING = Target("https://console.example/hook", handshake="required")


def test_a_secret_is_made_where_none_was_given_and_shown_once() -> None:
    async def scenario(scene: Scene) -> None:
        put = await scene.subscribing.create(ANYONE, subscription(secrets=NO_SECRETS))
        assert put.created
        assert put.secret_shown == {"secret"}
        assert put.subscription.secrets.current.startswith("whsec_")
        again = await scene.subscribing.create(ANYONE, put.subscription, replace=True)
        assert (again.created, again.secret_shown) == (False, frozenset())

    play(scenario)


def test_a_given_secret_is_not_shown() -> None:
    async def scenario(scene: Scene) -> None:
        put = await scene.subscribing.create(ANYONE, subscription())
        assert put.secret_shown == frozenset()

    play(scenario)


def test_who_verifies_by_a_public_key_gets_an_answer_secret_too() -> None:
    async def scenario(scene: Scene) -> None:
        asked = subscription(secrets=NO_SECRETS, options=DeliveryOptions(signature="v1a"))
        put = await scene.subscribing.create(ANYONE, asked)
        assert put.secret_shown == {"secret", "answer_secret"}
        assert put.subscription.secrets.current.startswith("whsk_")
        assert (put.subscription.secrets.answer or "").startswith("whsec_")

    play(scenario)


def test_every_target_is_checked_and_a_refusal_stores_nothing() -> None:
    async def scenario(scene: Scene) -> None:
        targets = (Target("https://one.example/"), Target("https://two.example/"))
        await scene.subscribed(targets=targets)
        assert scene.sender.checked == [target.sink for target in targets]
        for refusal in (ForbiddenSink("no"), HandshakeRefused("no")):
            scene.sender.refusal = refusal
            with pytest.raises(type(refusal)):
                await scene.subscribed("other")
        with pytest.raises(NotFound):
            await scene.subscribing.get(ANYONE, "other")

    play(scenario)


def test_a_sink_may_lower_the_rate() -> None:
    async def scenario(scene: Scene) -> None:
        scene.sender.rate = 2.0
        made = await scene.subscribed()
        assert made.options.rate_per_second == 2.0
        slower = await scene.subscribed("slow", options=DeliveryOptions(rate_per_second=1.0))
        assert slower.options.rate_per_second == 1.0

    play(scenario)


def test_a_taken_id_is_refused_unless_it_is_to_be_replaced() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        with pytest.raises(SubscriptionExists):
            await scene.subscribing.create(ANYONE, subscription())
        with pytest.raises(SubscriptionExists):
            await scene.subscribing.create(ANYONE, subscription(), replace=True, only_if_absent=True)

    play(scenario)


def test_a_replacement_that_changes_nothing_keeps_the_revision() -> None:
    async def scenario(scene: Scene) -> None:
        made = await scene.subscribed()
        same = await scene.subscribed()
        assert (made.revision, same.revision) == (1, 1)
        changed = await scene.subscribed(matching=Matching(types=("a",)))
        assert changed.revision == 2
        assert scene.still.told[-1] == ("adopt", "console", 2, "active")
        assert scene.sender.checked == ["https://console.example/hook"], (
            "an unchanged target is not asked again"
        )

    play(scenario)


def test_a_filter_that_is_not_in_force_yet_is_pending() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        scene.still.in_force = False
        asked = subscription(matching=Matching(types=("a",)))
        put = await scene.subscribing.create(ANYONE, asked, replace=True)
        assert put.pending

    play(scenario)


def test_only_the_revision_that_if_match_names_is_replaced() -> None:
    async def scenario(scene: Scene) -> None:
        asked = subscription(matching=Matching(types=("a",)))
        with pytest.raises(RevisionMismatch):
            await scene.subscribing.create(ANYONE, asked, replace=True, if_match=1)
        await scene.subscribed()
        await scene.subscribing.create(ANYONE, asked, replace=True, if_match=1)
        with pytest.raises(RevisionMismatch):
            await scene.subscribing.create(ANYONE, asked, replace=True, if_match=1)

    play(scenario)


def test_what_was_parsed_against_an_older_revision_does_not_bring_old_secrets_back() -> None:
    async def scenario(scene: Scene) -> None:
        made = await scene.subscribed()
        wanted = replace(made, matching=Matching(types=("a",)))
        await scene.subscribing.rotate_secret(ANYONE, "console")
        with pytest.raises(RevisionMismatch):
            await scene.subscribing.create(ANYONE, wanted, replace=True)

    play(scenario)


@pytest.mark.parametrize("options", [DeliveryOptions(receiver="library"), DeliveryOptions(settles="confirm")])
def test_receiver_and_settles_change_only_with_a_replay(options: DeliveryOptions) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        with pytest.raises(InvalidSubscription) as caught:
            await scene.subscribed(options=options)
        assert "replay" in (caught.value.faults[0].hint or "")

    play(scenario)


def test_a_limited_login_subscribes_only_to_what_its_grants_cover() -> None:
    async def scenario(scene: Scene) -> None:
        who = principal("subscribe", sources=("/heat*",), types=("a", "b"))
        covered = (
            Matching(source="/heat", types=("a",)),
            Matching(types=("a", "b"), filters=({"exact": {"source": "/heat/1"}},)),
        )
        for number, matching in enumerate(covered):
            await scene.subscribing.create(who, subscription(f"ok-{number}", matching=matching))
        uncovered = (
            Matching(),
            Matching(source="/heat"),
            Matching(types=("a",)),
            Matching(source="/nova", types=("a",)),
            Matching(source="/heat", types=("a", "c")),
            Matching(types=("a",), filters=({"prefix": {"source": "/heat"}},)),
        )
        for matching in uncovered:
            with pytest.raises(Forbidden):
                await scene.subscribing.create(who, subscription("no", matching=matching))

    play(scenario)


def test_without_a_grant_nothing_is_told_not_even_whether_it_exists() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        who = principal("read", "subscribe", "operate", subscriptions=("mine*",))
        for id in ("console", "nothing"):
            with pytest.raises(Forbidden):
                await scene.subscribing.get(who, id)
            with pytest.raises(Forbidden):
                await scene.subscribing.delete(who, id)
            with pytest.raises(Forbidden):
                await scene.subscribing.pause(who, id)
            with pytest.raises(Forbidden):
                await scene.subscribing.rotate_secret(who, id)
        await scene.subscribed("mine-1")
        page = await scene.subscribing.list(who)
        assert [one.id for one in page.items] == ["mine-1"]

    play(scenario)


def test_the_list_goes_by_id_and_page() -> None:
    async def scenario(scene: Scene) -> None:
        for id in ("c", "a", "b"):
            await scene.subscribed(id)
        await scene.subscribing.pause(ANYONE, "b")
        first = await scene.subscribing.list(ANYONE, limit=2)
        second = await scene.subscribing.list(ANYONE, limit=2, after=first.next)
        assert [one.id for page in (first, second) for one in page.items] == ["a", "b", "c"]
        assert second.next is None
        paused = await scene.subscribing.list(ANYONE, state="paused")
        assert [one.id for one in paused.items] == ["b"]

    play(scenario)


def test_pause_and_resume_can_be_repeated_and_resume_leads_to_active_from_anywhere() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        for _ in range(2):
            paused = await scene.subscribing.pause(ANYONE, "console")
            assert (paused.state, paused.reason) == ("paused", "operator")
        for state in ("paused", "stopped", "disabled", "active"):
            await scene.store.subscriptions.set_state("console", state, "x", NOW)
            resumed = await scene.subscribing.resume(ANYONE, "console")
            assert resumed.state == "active"
        with pytest.raises(NotFound):
            await scene.subscribing.pause(ANYONE, "nothing")

    play(scenario)


def test_delete_stops_sending_first_and_the_generation_is_never_reused() -> None:
    async def scenario(scene: Scene) -> None:
        made = await scene.subscribed()
        await scene.subscribing.delete(ANYONE, "console")
        assert scene.still.told[-1] == ("drop", "console")
        with pytest.raises(NotFound):
            await scene.subscribing.delete(ANYONE, "console")
        assert (await scene.subscribed()).generation > made.generation

    play(scenario)


def test_after_a_rotation_both_secrets_sign_until_the_overlap_ends() -> None:
    async def scenario(scene: Scene) -> None:
        before = (await scene.subscribed()).secrets.current
        rotation = await scene.subscribing.rotate_secret(ANYONE, "console")
        after = (await scene.subscribing.get(ANYONE, "console")).secrets
        assert after.in_force(NOW) == (rotation.secret, before)
        assert (rotation.previous_until, rotation.silenced) == (NOW + DAY, None)
        assert after.in_force(NOW + DAY) == (rotation.secret,)

    play(scenario)


def test_rotations_within_the_overlap_keep_every_promise_of_the_ones_before() -> None:
    async def scenario(scene: Scene) -> None:
        first = (await scene.subscribed()).secrets.current
        second = await scene.subscribing.rotate_secret(ANYONE, "console")
        scene.clock.at += 60
        third = await scene.subscribing.rotate_secret(ANYONE, "console")  # its answer was lost, say
        fourth = await scene.subscribing.rotate_secret(ANYONE, "console", first)
        after = (await scene.subscribing.get(ANYONE, "console")).secrets
        assert after.in_force(NOW + 60) == (first, third.secret, second.secret)
        assert (third.previous_until, fourth.previous_until) == (NOW + 60 + DAY, NOW + 60 + DAY)

    play(scenario)


def test_each_predecessor_signs_until_its_own_time() -> None:
    async def scenario(scene: Scene) -> None:
        first = (await scene.subscribed()).secrets.current
        second = await scene.subscribing.rotate_secret(ANYONE, "console")
        scene.clock.at += 60
        third = await scene.subscribing.rotate_secret(ANYONE, "console")
        after = (await scene.subscribing.get(ANYONE, "console")).secrets
        assert after.in_force(NOW + 60) == (third.secret, second.secret, first)
        assert after.in_force_until(NOW + 60) == NOW + DAY
        assert after.in_force(NOW + DAY) == (third.secret, second.secret)
        assert after.in_force_until(NOW + DAY) == NOW + DAY + 60
        assert after.in_force(NOW + DAY + 60) == (third.secret,)
        assert after.in_force_until(NOW + DAY + 60) == inf

    play(scenario)


def test_of_more_secrets_than_receivers_take_the_oldest_signs_no_more() -> None:
    async def scenario(scene: Scene) -> None:
        made = [(await scene.subscribed()).secrets.current]
        silenced = []
        for _ in range(MOST_PREDECESSORS + 1):
            scene.clock.at += 1
            rotation = await scene.subscribing.rotate_secret(ANYONE, "console")
            made.append(rotation.secret)
            silenced.append(rotation.silenced)
        after = (await _get(scene)).secrets
        assert after.in_force(scene.clock.at) == tuple(reversed(made[1:]))
        assert silenced == [None] * MOST_PREDECESSORS + ["oldest"]

    play(scenario)


def test_without_an_overlap_no_earlier_secret_is_worth_anything() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        await scene.subscribing.rotate_secret(ANYONE, "console")  # both of these have leaked
        options = DeliveryOptions(secret_overlap_seconds=0)
        await scene.subscribed(options=options)
        fresh = await scene.subscribing.rotate_secret(ANYONE, "console")
        assert (await _get(scene)).secrets.in_force(scene.clock.at) == (fresh.secret,)
        assert (fresh.previous_until, fresh.silenced) == (scene.clock.at, "earlier")

    play(scenario)


def test_a_given_secret_is_taken_if_it_is_one() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed()
        given = "whsec_" + "QUJD" * 8
        assert (await scene.subscribing.rotate_secret(ANYONE, "console", given)).secret == given
        with pytest.raises(InvalidRequest) as caught:
            await scene.subscribing.rotate_secret(ANYONE, "console", "hunter2")
        assert "hunter2" not in str(caught.value)

    play(scenario)


def test_another_secret_in_a_replacement_takes_over_as_in_a_rotation() -> None:
    async def scenario(scene: Scene) -> None:
        before = (await scene.subscribed()).secrets.current
        given = "whsec_" + "QUJD" * 8
        after = await scene.subscribed(secrets=Secrets(given))
        assert after.secrets.in_force(NOW) == (given, before)

    play(scenario)


def test_consent_is_renewed_after_a_day_and_a_refusal_disables() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed(targets=(SHAKING,))
        await scene.subscribed("plain")
        scene.sender.checked.clear()
        await scene.handshakes.renew()
        assert scene.sender.checked == []
        scene.clock.at += DAY
        await scene.handshakes.renew()
        await scene.handshakes.renew()
        assert scene.sender.checked == [SHAKING.sink]
        scene.clock.at += DAY
        scene.sender.refusal = HandshakeRefused("no", members={"answered": False})
        await scene.handshakes.renew()
        assert (await _get(scene)).state == "active", "nobody answered: that is no refusal"
        scene.sender.refusal = HandshakeRefused("no")
        await scene.handshakes.renew()
        disabled = await _get(scene)
        assert (disabled.state, disabled.reason) == ("disabled", REFUSED)
        assert scene.still.told[-1] == ("adopt", "console", 1, "disabled")
        assert (await scene.subscribing.resume(ANYONE, "console")).state == "active"

    play(scenario)


def test_sinks_that_take_their_time_are_asked_side_by_side() -> None:
    async def scenario(scene: Scene) -> None:
        names = ["one", "two", "three"]
        for name in names:
            await scene.subscribed(name, targets=(SHAKING,))
        scene.clock.at += DAY
        all_asked = asyncio.Barrier(len(names))

        async def check(target: Target, subscription: Subscription) -> float | None:
            await all_asked.wait()
            return 3.0

        scene.sender.check = check  # type: ignore[method-assign]
        async with asyncio.timeout(10):
            await scene.handshakes.renew()
        assert [(await _get(scene, name)).options.rate_per_second for name in names] == [3.0] * 3

    play(scenario)


def test_a_renewed_consent_may_lower_the_rate() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.subscribed(targets=(SHAKING,))
        scene.clock.at += DAY
        scene.sender.rate = 3.0
        await scene.handshakes.renew()
        assert (await _get(scene)).options.rate_per_second == 3.0

    play(scenario)


def test_ids_made_here_are_ids() -> None:
    async def scenario(scene: Scene) -> None:
        made = [scene.subscribing.new_id() for _ in range(3)]
        assert len(set(made)) == 3
        assert all(len(id) <= 63 and id.replace("-", "").isalnum() for id in made)

    play(scenario)


async def _get(scene: Scene, name: str = "console") -> Subscription:
    return await scene.subscribing.get(ANYONE, name)
