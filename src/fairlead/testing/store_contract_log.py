# SPDX-License-Identifier: Apache-2.0
"""What every store's log does: `fairlead.ports.Log`."""

from __future__ import annotations

import asyncio

from fairlead.core.event import partition_of
from fairlead.core.log import EventQuery
from fairlead.errors import EventConflict
from fairlead.ports import Store
from fairlead.testing.store_examples import NOW, StoreMaker, event, lane, on_store, run, subscription


async def conflict_of(store: Store, *events: object) -> EventConflict:
    """The refusal of an append that must be refused."""
    try:
        await store.log.append(events, NOW)  # type: ignore[arg-type]
    except EventConflict as conflict:
        return conflict
    raise AssertionError("the append was not refused")


class LogContract:
    """Positions, duplicates, reading, searching, pruning."""

    @on_store
    async def test_positions_are_gapless_and_in_order_in_every_partition(self, store: Store) -> None:
        requests = [[event(10 * r + n, f"k{n}") for n in range(10)] for r in range(20)]
        answers = await asyncio.gather(*(store.log.append(request, NOW) for request in requests))
        heads = await store.log.heads()
        assert sum(heads.values()) == 200
        assert set(heads) == set(range(store.log.partitions))
        for partition, head in heads.items():
            page = await store.log.read(partition, 0, 1000)
            assert [entry.position for entry in page] == list(range(1, head + 1))
        for request, answer in zip(requests, answers, strict=True):
            assert [a.entry.event for a in answer] == request
            assert [a.entry.partition for a in answer] == [
                partition_of(e.key, store.log.partitions) for e in request
            ]

    @on_store
    async def test_the_same_event_again_is_a_duplicate_with_its_first_position(self, store: Store) -> None:
        one, two = event(1), event(2)
        (first,) = await store.log.append([one], NOW)
        again, other, inside = await store.log.append([one, two, two], NOW + 1)
        assert (again.entry.position, again.duplicate) == (first.entry.position, True)
        assert again.entry.accepted_at == NOW
        assert (other.entry.position, other.duplicate) == (2, False)
        assert (inside.entry.position, inside.duplicate) == (2, True)

    @on_store
    async def test_requests_that_share_a_commit_see_each_others_events(self, store: Store) -> None:
        answers = await asyncio.gather(*(store.log.append([event(1)], NOW) for _ in range(50)))
        assert sorted(answer.duplicate for (answer,) in answers) == [False] + [True] * 49
        assert {answer.entry.position for (answer,) in answers} == {1}

    def test_duplicates_are_known_after_the_store_was_opened_again(self, make_store: StoreMaker) -> None:
        async def before(store: Store) -> None:
            await store.log.append([event(1)], NOW)

        async def after(store: Store) -> None:
            again, other = await store.log.append([event(1), event(2)], NOW)
            assert (again.duplicate, other.duplicate, other.entry.position) == (True, False, 2)

        run(make_store, before)
        run(make_store, after)

    @on_store
    async def test_json_spelt_otherwise_is_the_same_event(self, store: Store) -> None:
        await store.log.append([event(1, data=b'{"a": 1, "b": [true]}')], NOW)
        (again,) = await store.log.append([event(1, data=b'{"b":[true],"a":1.0}')], NOW)
        assert again.duplicate
        assert again.entry.event.payload == b'{"a": 1, "b": [true]}'

    @on_store
    async def test_other_content_under_the_same_id_is_a_conflict(self, store: Store) -> None:
        await store.log.append([event(1), event(2)], NOW)
        conflict = await conflict_of(store, event(3), event(1, data=b"2"), event(2), event(2, type="other"))
        assert [fault.index for fault in conflict.faults] == [1, 3]
        single = await conflict_of(store, event(1, data=None))
        assert [fault.index for fault in single.faults] == [0]

    @on_store
    async def test_a_batch_is_all_or_nothing_and_uses_no_position_up(self, store: Store) -> None:
        await store.log.append([event(1)], NOW)
        refused, accepted = await asyncio.gather(
            store.log.append([event(2), event(3), event(1, data=b"2")], NOW),
            store.log.append([event(4)], NOW),
            return_exceptions=True,
        )
        assert isinstance(refused, EventConflict)
        assert not isinstance(accepted, BaseException)
        assert accepted[0].entry.position == 2
        assert [a.entry.position for a in await store.log.append([event(5)], NOW)] == [3]

    @on_store
    async def test_an_id_under_another_key_is_another_event(self, store: Store) -> None:
        answer = await store.log.append(
            [event(1, "k1"), event(1, "k2"), event(1, "k1", partitionkey="p")], NOW
        )
        assert [a.duplicate for a in answer] == [False, False, False]
        assert [a.entry.key for a in answer] == [lane("k1"), lane("k2"), "p"]
        found = await store.log.search(EventQuery(source="/heat", id="a-1"))
        assert {entry.key for entry in found} == {lane("k1"), lane("k2"), "p"}

    @on_store
    async def test_nothing_appended_is_nothing_stored(self, store: Store) -> None:
        assert await store.log.append([], NOW) == []
        assert set((await store.log.heads()).values()) == {0}

    @on_store
    async def test_events_come_back_as_they_came(self, store: Store) -> None:
        events = [
            event(1, data=b'{"n":1.50,"z":"\xc3\xa4", "n2":12345678901234567890}'),
            event(2, data=None),
            event(3, data=b"\x00\xff", form="binary", datacontenttype="application/octet-stream"),
            event(4, data="grüße\n".encode(), form="text", datacontenttype="text/plain"),
            event(5, data=b"", form="binary", time="2026-11-22T10:00:00.123456789+02:00", flavor="x"),
        ]
        partition = (await store.log.append(events, NOW))[0].entry.partition
        page = await store.log.read(partition, 0, 10)
        assert [(e.event.head, e.event.payload, e.event.form) for e in page] == [
            (e.head, e.payload, e.form) for e in events
        ]
        assert [e.event for e in page] == events
        assert {(e.key, e.accepted_at, e.partition) for e in page} == {(lane(), NOW, partition)}

    @on_store
    async def test_pages_and_lanes_are_read_within_their_bounds(self, store: Store) -> None:
        keys = ("k1", "k1", "k2", "k1", "k2", "k1")
        shared = [event(n, key, partitionkey=f"same {key}") for n, key in enumerate(keys, 1)]
        appended = await store.log.append(shared, NOW)
        one = appended[0].entry
        mine = [a.entry.position for a in appended if a.entry.key == one.key]
        lane_of = store.log.read_lane
        assert [e.position for e in await lane_of(one.partition, one.key, 1, 99, 99)] == mine
        assert [e.position for e in await lane_of(one.partition, one.key, mine[1], mine[2], 99)] == mine[1:3]
        assert [e.position for e in await lane_of(one.partition, one.key, 1, 99, 2)] == mine[:2]
        assert await lane_of(one.partition, one.key, mine[-1] + 1, 99, 9) == []
        assert [e.position for e in await store.log.read(one.partition, 1, 2)] == [2, 3]
        assert await store.log.read(one.partition, 99, 9) == []

    @on_store
    async def test_the_first_position_since_a_time_is_found_even_if_the_clock_went_back(
        self, store: Store
    ) -> None:
        partition = (await store.log.append([event(1)], NOW))[0].entry.partition
        await store.log.append([event(2)], NOW + 100)
        await store.log.append([event(3)], NOW + 50)
        for since, position in (
            (0.0, 1),
            (NOW, 1),
            (NOW + 1, 2),
            (NOW + 60, 2),
            (NOW + 100, 2),
            (NOW + 101, 4),
        ):
            first = await store.log.first_at(since)
            assert first[partition] == position
            assert all(first[other] == 1 for other in first if other != partition)

    @on_store
    async def test_a_search_is_by_any_attribute_in_order_and_in_pages(self, store: Store) -> None:
        events = [event(n, f"k{n % 3}", type="odd" if n % 2 else "even") for n in range(30)]
        for number, one in enumerate(events):
            await store.log.append([one], NOW + number)
        search = store.log.search
        assert [e.event.id for e in await search(EventQuery(key=lane("k1")))] == [
            f"a-{n}" for n in range(1, 30, 3)
        ]
        assert {e.event.id for e in await search(EventQuery(type="odd", subject="k0"))} == {
            f"a-{n}" for n in range(30) if n % 3 == 0 and n % 2
        }
        assert len(await search(EventQuery(accepted_after=NOW + 25))) == 4
        assert await search(EventQuery(source="/nova")) == []
        assert [e.event.id for e in await search(EventQuery(source="/heat", id="a-7"))] == ["a-7"]
        assert await search(EventQuery(source="/heat", id="a-7", type="even")) == []
        assert await search(EventQuery(key=lane("k1"), source="/heat", id="a-2")) == []
        seen: list[tuple[int, int]] = []
        while page := await search(EventQuery(limit=7, after=tuple(dict(seen).items()))):
            assert len(page) <= 7
            seen += [(entry.partition, entry.position) for entry in page]
        assert seen == sorted(set(seen))
        assert len(seen) == 30

    def test_pruning_deletes_events_and_never_gives_a_position_again(self, make_store: StoreMaker) -> None:
        async def prune(store: Store) -> None:
            partition = (await store.log.append([event(n) for n in (1, 2, 3)], NOW))[0].entry.partition
            assert await store.log.prune(partition, [1, 77]) == 1
            assert (await store.log.oldest())[partition] == 2
            assert [e.position for e in await store.log.read(partition, 0, 9)] == [2, 3]
            assert await store.log.prune(partition, [2, 3]) == 2
            assert (await store.log.oldest())[partition] == 4
            assert (await store.log.heads())[partition] == 3

        async def go_on(store: Store) -> None:
            (again,) = await store.log.append([event(1)], NOW)
            assert (again.entry.position, again.duplicate) == (4, False)

        run(make_store, prune)
        run(make_store, go_on)

    @on_store
    async def test_the_size_grows_with_the_log(self, store: Store) -> None:
        before = await store.log.size_bytes()
        await store.log.append([event(n, data=b'"' + b"x" * 100_000 + b'"') for n in range(10)], NOW)
        assert await store.log.size_bytes() > before + 900_000

    @on_store
    async def test_filters_that_nothing_kept_needs_are_forgotten(self, store: Store) -> None:
        assert await store.subscriptions.create(subscription(), 1)
        partition = (await store.log.append([event(n) for n in (1, 2, 3)], NOW))[0].entry.partition
        assert await store.log.prune(partition, [1, 2, 3]) == 3
        assert await store.subscriptions.matching("console", 1)
