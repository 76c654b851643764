# SPDX-License-Identifier: Apache-2.0
"""What every store does with subscriptions, keys, rejects and notes: the rest of `fairlead.ports`."""

from __future__ import annotations

from dataclasses import replace

from fairlead.core.channel import ChannelFlush, ChannelId, FilterRevision, Progress
from fairlead.core.log import PAGE_BYTES
from fairlead.core.policy import Grant
from fairlead.core.retry import RetryPolicy
from fairlead.core.subscription import BatchOptions, DeliveryOptions, Matching, Predecessor, Secrets, Target
from fairlead.errors import FairleadError, Fenced, NotFound, RevisionMismatch, StoreError, SubscriptionExists
from fairlead.ports import ApiKey, Reject, Store
from fairlead.testing.store_examples import NOW, NOW_MS, Lane, StoreMaker, event, on_store, run, subscription

EVERYTHING = subscription(
    "full",
    start=NOW,
    matching=Matching(
        "/heat", ("a", "b"), ({"any": [{"prefix": {"subject": "stack-"}}, {"sql": "EXISTS x"}]},)
    ),
    targets=(
        Target(
            "amqps://mq.example/vh",
            "AMQP",
            settings={"exchange": "fairlead", "shards": 2},
            credential={"credentialtype": "PLAIN", "identifier": "u", "secret": "s"},
        ),
        Target(
            "https://x.example", headers={"X-Env": "prod"}, mode="binary", handshake="required", method="PUT"
        ),
    ),
    options=DeliveryOptions(
        retry=RetryPolicy(first_seconds=2.5, give_up_after_seconds=None, max_attempts=3, jitter="none"),
        on_exhausted="skip",
        rejected_statuses=frozenset({400, 499}),
        rate_per_second=1.5,
        batch=BatchOptions(7, 8, 0.25),
        receiver="library",
        settles="applied",
    ),
    secrets=Secrets("whsk_a", (Predecessor("whsec_b", NOW + 0.125),), "whsec_c"),
)


async def raises(expected: type[FairleadError], call: object) -> FairleadError:
    """The error of an awaitable that must raise it."""
    try:
        await call  # type: ignore[misc]
    except expected as error:
        return error
    raise AssertionError(f"{expected.__name__} was not raised")


class SubscriptionsContract:
    """What was asked for."""

    def test_a_subscription_comes_back_as_it_was_asked_for(self, make_store: StoreMaker) -> None:
        async def create(store: Store) -> None:
            made = await store.subscriptions.create(EVERYTHING, NOW_MS)
            assert made == replace(EVERYTHING, revision=1, generation=NOW_MS, since=NOW, created_at=NOW)
            assert await store.subscriptions.get("full") == made

        async def look(store: Store) -> None:
            made = replace(EVERYTHING, revision=1, generation=NOW_MS, since=NOW, created_at=NOW)
            assert await store.subscriptions.all() == [made]
            assert await store.subscriptions.get("nobody") is None

        run(make_store, create)
        run(make_store, look)

    @on_store
    async def test_an_id_is_given_once(self, store: Store) -> None:
        await store.subscriptions.create(subscription("b"), NOW_MS)
        await store.subscriptions.create(subscription("a"), NOW_MS)
        await raises(SubscriptionExists, store.subscriptions.create(subscription("b"), NOW_MS))
        assert [one.id for one in await store.subscriptions.all()] == ["a", "b"]

    @on_store
    async def test_a_subscription_starts_where_it_asked_to(self, store: Store) -> None:
        partition = (await store.log.append([event(1), event(2)], NOW))[0].entry.partition
        await store.log.append([event(3), event(4)], NOW + 10)
        await store.log.prune(partition, [1])
        for id, start in (("now", "now"), ("beginning", "beginning"), ("time", NOW + 5), ("later", NOW + 99)):
            await store.subscriptions.create(subscription(id, start=start), NOW_MS)
        states = await store.channels.take_all("node-1")
        begun = {
            s.fence.channel.subscription: s.progress for s in states if s.fence.channel.partition == partition
        }
        assert begun == {
            "now": Progress(4, 4),
            "beginning": Progress(1, 1),
            "time": Progress(2, 2),
            "later": Progress(4, 4),
        }
        assert {s.progress for s in states if s.fence.channel.partition != partition} == {Progress(0, 0)}
        assert {s.filters for s in states} == {(FilterRevision(1, 1),)}
        assert {s.fence.generation for s in states} == {NOW_MS}

    @on_store
    async def test_a_replacement_is_a_new_revision_of_what_was_read(self, store: Store) -> None:
        made = await store.subscriptions.create(subscription(), NOW_MS)
        wanted = Matching(types=("x",))
        second = await store.subscriptions.replace(
            replace(made, matching=wanted, revision=77, state="paused"), 1
        )
        assert second == replace(made, matching=wanted, revision=2)
        third = await store.subscriptions.replace(replace(second, targets=(Target("https://y.example"),)), 2)
        assert await store.subscriptions.get("console") == third
        assert [await store.subscriptions.matching("console", n) for n in (1, 2, 3)] == [
            Matching(),
            wanted,
            wanted,
        ]
        await raises(RevisionMismatch, store.subscriptions.replace(made, 2))
        await raises(NotFound, store.subscriptions.replace(subscription("nobody"), 1))
        await raises(NotFound, store.subscriptions.matching("nobody", 1))

    @on_store
    async def test_a_state_is_entered_with_its_time_and_fences_the_channels(self, store: Store) -> None:
        one = await Lane.of(store)
        stopped = await store.subscriptions.set_state("console", "stopped", "exhausted", NOW + 5)
        assert (stopped.state, stopped.reason, stopped.since) == ("stopped", "exhausted", NOW + 5)
        (refusal,) = await store.channels.flush([ChannelFlush(one.state.fence, Progress(1, 1))])
        assert isinstance(refusal, Fenced)
        fence = (await one.reload()).fence
        again = await store.subscriptions.set_state("console", "stopped", "by hand", NOW + 9)
        assert (again.reason, again.since) == ("by hand", NOW + 5)
        assert await store.subscriptions.get("console") == again
        assert (await one.reload()).fence == fence
        replaced = await store.subscriptions.replace(
            replace(again, state="active", reason=None), again.revision
        )
        assert (replaced.state, replaced.reason) == ("stopped", "by hand")
        await raises(NotFound, store.subscriptions.set_state("nobody", "active", None, NOW))

    @on_store
    async def test_what_is_made_anew_is_newer_than_what_was_deleted(self, store: Store) -> None:
        one = await Lane.of(store)
        await one.flush(
            Progress(1, 5),
            holds=(one.hold(2),),
            skips=(one.skip(1),),
            attempts=(one.attempt(1), one.attempt(1, 2)),
        )
        await store.subscriptions.create(subscription("other"), NOW_MS)
        assert await store.subscriptions.delete("console")
        assert not await store.subscriptions.delete("console")
        assert await store.channels.holds("console", None, None, 9) == []
        assert await store.channels.skips("console", None, 9) == []
        assert await store.attempts.attempts("console") == []
        assert [s.id for s in await store.subscriptions.all()] == ["other"]
        again = await store.subscriptions.create(subscription(start="now"), 5)
        assert again.generation == NOW_MS + 1
        state = await store.channels.load(one.channel)
        assert state is not None
        assert (state.fence.generation, state.progress, state.holds) == (NOW_MS + 1, Progress(5, 5), ())

    @on_store
    async def test_a_filter_is_kept_as_long_as_an_event_needs_it(self, store: Store) -> None:
        one = await Lane.of(store)
        made = await store.subscriptions.get("console")
        assert made is not None
        await store.subscriptions.replace(replace(made, matching=Matching("/a")), 1)
        for partition in range(store.log.partitions):
            state = await store.channels.load(ChannelId("console", partition))
            assert state is not None
            start = 4 if partition == one.partition else 1
            await store.channels.flush([ChannelFlush(state.fence, filter=FilterRevision(start, 2))])
        await store.log.prune(one.partition, [1, 2])
        assert (await one.reload()).filters == (FilterRevision(1, 1), FilterRevision(4, 2))
        assert await store.subscriptions.matching("console", 1) == Matching()
        await store.log.prune(one.partition, [3, 4])
        assert (await one.reload()).filters == (FilterRevision(4, 2),)
        await raises(NotFound, store.subscriptions.matching("console", 1))
        assert await store.subscriptions.matching("console", 2) == Matching("/a")


class AccessContract:
    """Keys, rejects, notes, and the store itself."""

    @on_store
    async def test_keys_are_found_by_digest(self, store: Store) -> None:
        grants = (Grant(("publish",), sources=("/heat*",)), Grant(("admin",)))
        key = ApiKey("k2", "heat", b"\x01" * 32, grants, NOW, NOW + 90)
        older = ApiKey("k1", "old", b"\x02" * 32, (), NOW - 1)
        await store.keys.add_key(key)
        await store.keys.add_key(older)
        assert await store.keys.keys() == [older, key]
        assert await store.keys.find_key(b"\x01" * 32) == key
        assert await store.keys.find_key(b"\x03" * 32) is None
        await store.keys.touch_key("k2", NOW + 5)
        await store.keys.touch_key("k2", NOW + 4)
        assert await store.keys.find_key(b"\x01" * 32) == replace(key, last_used_at=NOW + 5)
        assert await store.keys.delete_key("k2")
        assert not await store.keys.delete_key("k2")
        assert await store.keys.keys() == [older]

    @on_store
    async def test_rejects_are_kept_for_people(self, store: Store) -> None:
        first = Reject("r1", "imagefactory", NOW, "not JSON", {"content-type": "text/plain"}, b"\x00\xff", 2)
        second = Reject("r2", "nova", NOW, "too large", {}, b"", 9_000_000)
        for reject in (second, first):
            await store.rejects.add_reject(reject)
        assert await store.rejects.rejects(None, None, 10) == [first, second]
        assert await store.rejects.rejects("nova", None, 10) == [second]
        assert await store.rejects.rejects(None, "r1", 10) == [second]
        assert await store.rejects.rejects(None, None, 1) == [first]
        assert await store.rejects.reject("r1") == first
        assert await store.rejects.delete_reject("r1")
        assert not await store.rejects.delete_reject("r1")
        assert await store.rejects.reject("r1") is None

    @on_store
    async def test_a_reject_of_the_same_message_is_found_by_its_id_and_content(self, store: Store) -> None:
        id, other = 'm "1" \u00fc', 'm "2" \u00fc'
        kept = Reject("r1", "nova", NOW, "no", {"a": "b", ":id": id, "c": "d"}, b"body", 9)
        await store.rejects.add_reject(kept)
        again = replace(kept, id="r2", received_at=NOW + 1, reason="not", headers={":id": id, "x-count": "1"})
        assert await store.rejects.has_like(again, ":id")
        for unlike in (
            replace(again, source="heat"),
            replace(again, headers={":id": other}),
            replace(again, headers={":id": id[:-1]}),
            replace(again, body=b"bodY"),
            replace(again, size_bytes=8),
        ):
            assert not await store.rejects.has_like(unlike, ":id")
        quoting = {":id": other, "said": f'":id":"{id}"', ":id2": id}
        await store.rejects.add_reject(replace(kept, id="r3", source="heat", headers=quoting))
        assert not await store.rejects.has_like(replace(again, source="heat"), ":id")

    @on_store
    async def test_a_page_of_rejects_is_bounded_by_bytes_too(self, store: Store) -> None:
        for number in range(5):
            reject = Reject(f"r{number}", "nova", NOW, "no", {}, bytes(PAGE_BYTES // 2), PAGE_BYTES // 2)
            await store.rejects.add_reject(reject)
        found = await store.rejects.rejects(None, None, 1000)
        assert [one.id for one in found] == ["r0", "r1"]
        assert [one.id for one in await store.rejects.rejects(None, "r3", 1000)] == ["r4"]

    @on_store
    async def test_rejects_are_pruned_by_age_the_oldest_first(self, store: Store) -> None:
        for number in range(5):
            await store.rejects.add_reject(Reject(f"r{number}", "nova", NOW + number, "no", {}, b"", 0))
        assert await store.rejects.prune_rejects(NOW + 3, 2) == 2
        assert await store.rejects.prune_rejects(NOW + 3, 2) == 1
        assert await store.rejects.prune_rejects(NOW + 3, 2) == 0
        assert [one.id for one in await store.rejects.rejects(None, None, 10)] == ["r3", "r4"]

    def test_a_note_is_remembered(self, make_store: StoreMaker) -> None:
        async def write(store: Store) -> None:
            assert await store.note("/imagefactory", "i 1", "first") is None
            assert await store.note("/imagefactory", "i 1", "second") == "first"
            assert await store.note("/imagefactory", "i 2") is None

        async def read(store: Store) -> None:
            assert await store.note("/imagefactory", "i 1") == "second"

        run(make_store, write)
        run(make_store, read)

    @on_store
    async def test_a_sound_store_has_no_damage_to_tell(self, store: Store) -> None:
        one = await Lane.of(store)
        await one.flush(Progress(1, 5, ((3, 5),)), holds=(one.hold(2),), attempts=(one.attempt(1),))
        assert await store.check() == []

    @on_store
    async def test_commits_are_timed_for_whoever_asks(self, store: Store) -> None:
        seconds: list[float] = []
        store.time_commits(seconds.append)
        await store.log.append([event(1)], NOW)
        await store.log.append([event(2)], NOW)
        assert seconds
        assert min(seconds) > 0

    @on_store
    async def test_closing_is_idempotent_and_answers_what_was_asked_before(self, store: Store) -> None:
        await store.log.append([event(1)], NOW)
        await store.close()
        await store.close()
        await raises(StoreError, store.log.append([event(2)], NOW))
