# SPDX-License-Identifier: Apache-2.0
"""The small parts of the HTTP interface: queries, hosts and origins, routes, entity tags, bodies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import (
    ForeignHost,
    ForeignOrigin,
    InvalidHeader,
    InvalidQuery,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    Unauthenticated,
)
from fairlead.web.access import Access, is_loopback, is_loopback_peer
from fairlead.web.body import Disconnected, read_beginning, read_body
from fairlead.web.limits import BodyLimits
from fairlead.web.query import Query
from fairlead.web.request import Body, Request
from fairlead.web.response import NO_CONTENT, Response
from fairlead.web.router import Route, Router

# -- queries ----------------------------------------------------------------------------------------------


def test_query_parameters_are_decoded() -> None:
    query = Query(b"key=%2Fheat+k1&&type=t%C3%A9", ("key", "type", "source"))
    assert (query.text("key"), query.text("type"), query.text("source")) == ("/heat k1", "té", None)


@pytest.mark.parametrize(
    ("raw", "name", "hint"),
    [
        (b"surce=/a", "surce", "did you mean source?"),
        (b"zzz=1", "zzz", "there are source, limit, after, at, follow, state"),
        (b"source=a&source=b", "source", None),
        (b"source=%ff", "source", None),
    ],
)
def test_a_parameter_that_is_not_there_twice_or_garbled_is_named(
    raw: bytes, name: str, hint: str | None
) -> None:
    with pytest.raises(InvalidQuery) as caught:
        Query(raw, ("source", "limit", "after", "at", "follow", "state"))
    (fault,) = caught.value.faults
    assert (fault.query, fault.hint) == (name, hint)


@pytest.mark.parametrize(
    ("raw", "ask"),
    [
        (b"limit=0", "limit"),
        (b"limit=1001", "limit"),
        (b"limit=ten", "limit"),
        (b"limit=", "limit"),
        (b"limit=%D9%A1", "limit"),
        (b"limit=" + b"9" * 5000, "limit"),
    ],
)
def test_a_limit_is_a_number_within_bounds(raw: bytes, ask: str) -> None:
    with pytest.raises(InvalidQuery) as caught:
        _ = Query(raw, (ask,)).limit
    assert caught.value.faults[0].query == ask


def test_kinds_of_parameters() -> None:
    query = Query(
        b"follow=true&state=held&at=2026-11-22T11:00:00+01:00&limit=7", ("follow", "state", "at", "limit")
    )
    assert query.flag("follow")
    assert query.choice("state", ("held", "parked")) == "held"
    assert query.time("at") == 1795341600.0
    assert query.limit == 7
    wrong = Query(b"follow=1&state=hold&at=noon", ("follow", "state", "at"))
    with pytest.raises(InvalidQuery):
        wrong.flag("follow")
    with pytest.raises(InvalidQuery):
        wrong.choice("state", ("held", "parked"))
    with pytest.raises(InvalidQuery):
        wrong.time("at")


@given(st.binary(max_size=60))
def test_no_query_string_is_a_defect(raw: bytes) -> None:
    with contextlib.suppress(InvalidQuery):
        Query(raw, ("source", "id"))


# -- hosts and origins ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:3247", "127.0.0.1", "127.8.9.1:80", "[::1]", "[::1]:3247", "a.localhost"]
)
def test_loopback_hosts(host: str) -> None:
    assert is_loopback(host.encode())


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example@127.0.0.1",
        "127.0.0.1/evil",
        "localhost:port",
        "0.0.0.0",
        "10.0.0.1",
        "[::ffff:10.0.0.1]",
        "[",
        "127.0.0.1, evil.example",
        "\xff",
    ],
)
def test_other_hosts(host: str) -> None:
    assert not is_loopback(host.encode("latin-1"))


def test_loopback_peers() -> None:
    assert is_loopback_peer(("127.0.0.1", 1))
    assert is_loopback_peer(("::1", 1, 0, 0))
    assert not is_loopback_peer(("192.0.2.1", 1))
    assert not is_loopback_peer(None)
    assert not is_loopback_peer(("/run/socket",))


def access(*, loopback: bool = True, configured: bool = False) -> Access:
    async def is_configured() -> bool:
        return configured

    return Access([], is_configured, loopback=loopback)


def test_while_no_login_is_asked_for_the_host_must_be_loopback() -> None:
    for host in (None, b"evil.example"):
        with pytest.raises(ForeignHost):
            access().check_browser(host, None, is_open=True)
        access().check_browser(host, None, is_open=False)
    access().check_browser(b"127.0.0.1:3247", None, is_open=True)


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:4000",
        "file://",
        "http://127.0.0.1",
        "",
        "http://[",
        "app://x",
    ],
)
@pytest.mark.parametrize("is_open", [True, False])
def test_pages_of_other_origins_are_refused_with_or_without_a_login(origin: str, is_open: bool) -> None:
    with pytest.raises(ForeignOrigin):
        access().check_browser(b"127.0.0.1:3247", origin.encode(), is_open=is_open)


def test_a_page_of_the_relay_itself_may_call() -> None:
    access().check_browser(b"127.0.0.1:3247", b"http://127.0.0.1:3247", is_open=True)
    access().check_browser(b"relay.example", b"https://relay.example", is_open=False)
    access().check_browser(b"relay.example:80", b"http://Relay.Example", is_open=False)


def test_a_relay_that_others_can_reach_is_never_open() -> None:
    async def scene() -> None:
        assert await access().open()
        assert not await access(configured=True).open()
        assert not await access(loopback=False).open()
        with pytest.raises(Unauthenticated):
            await access(loopback=False).principal({})

    asyncio.run(scene())


# -- routes -----------------------------------------------------------------------------------------------


async def handler(_: Request) -> Response:
    return NO_CONTENT


ROUTER = Router(
    [
        Route("GET", "/things", handler),
        Route("POST", "/things", handler),
        Route("DELETE", "/things/{id}", handler),
        Route("POST", "/things/{id}/pause", handler),
        Route("PUT", "/bridges/{name}/{path...}", handler),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "template", "params"),
    [
        ("GET", "/things", "/things", {}),
        ("HEAD", "/things", "/things", {}),
        ("DELETE", "/things/a%2Fb%20c", "/things/{id}", {"id": "a/b c"}),
        ("POST", "/things/pause/pause", "/things/{id}/pause", {"id": "pause"}),
        ("PUT", "/bridges/x/a//b%2F/", "/bridges/{name}/{path...}", {"name": "x", "path": "a//b%2F/"}),
    ],
)
def test_a_call_is_found_by_method_and_path(
    method: str, path: str, template: str, params: dict[str, str]
) -> None:
    route, found = ROUTER.find(method, path.encode())
    assert (route.template, found) == (template, params)


@pytest.mark.parametrize(
    "path", ["/", "/thing", "/things/", "/things/a/", "/things/a/b", "/bridges/x", "//things"]
)
def test_other_paths_are_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        ROUTER.find("GET", path.encode())


def test_other_methods_are_told_which_there_are() -> None:
    with pytest.raises(MethodNotAllowed) as caught:
        ROUTER.find("PATCH", b"/things")
    assert caught.value.headers == {"Allow": "GET, HEAD, POST"}
    with pytest.raises(MethodNotAllowed) as caught:
        ROUTER.find("GET", b"/things/a")
    assert caught.value.headers == {"Allow": "DELETE"}


@given(st.binary(max_size=40))
def test_no_path_is_a_defect(path: bytes) -> None:
    with pytest.raises((NotFound, MethodNotAllowed)):
        ROUTER.find("PATCH", b"/" + path)


# -- requests ---------------------------------------------------------------------------------------------


def request(*parts: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> Request:
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": at < len(parts) - 1}
        for at, part in enumerate(parts)
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return Request("POST", "/x", b"/x", b"", headers, dict(headers), receive, "r", BodyLimits())


@pytest.mark.parametrize(
    ("tag", "revisions"),
    [(b'"3"', [3]), (b'"3", "5"', [3, 5]), (b"*", []), (b'W/"3"', [0]), (b'"x"', [0]), (b" * ", [])],
)
def test_entity_tags_name_revisions(tag: bytes, revisions: list[int]) -> None:
    assert request(headers=[(b"if-match", tag)]).revisions(b"if-match") == revisions


@pytest.mark.parametrize("tag", [b"3", b'"3', b"", b'"3" "4"', b"*, *"])
def test_what_is_no_entity_tag_is_refused(tag: bytes) -> None:
    with pytest.raises(InvalidHeader):
        request(headers=[(b"if-match", tag)]).revisions(b"if-match")


def test_no_header_is_no_condition() -> None:
    assert request().revisions(b"if-match") is None


def test_bodies_are_bounded_by_what_they_say_and_by_what_they_are() -> None:
    async def scene() -> None:
        assert await request(b"ab", b"cd").body(4) == b"abcd"
        for parts in ((b"abcde",), (b"abc", b"de")):
            with pytest.raises(TooLarge) as caught:
                await request(*parts).body(4)
            assert caught.value.members == {"limit_bytes": 4}
        with pytest.raises(TooLarge):
            await request(headers=[(b"content-length", b"5")]).body(4)
        with pytest.raises(Disconnected):
            await request().body()
        with pytest.raises(Disconnected):
            await read_beginning(request().receive, None, keep_bytes=1, most_bytes=1)
        half = request(b"ab", b"cd")
        await half.receive()
        await half.receive()
        with pytest.raises(Disconnected):
            await read_body(half.receive, None, 10)

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("parts", "declared", "expected"),
    [
        ((b"abc",), None, (b"abc", 3)),
        ((b"abc", b"def"), None, (b"abcd", 6)),
        ((b"abc", b"def", b"ghi"), b"9", (b"abcd", 9)),
        ((b"abcdef", b"ghijkl", b"mno"), None, (b"abcd", 12)),
    ],
)
def test_the_beginning_of_a_body_is_kept_and_its_size_told(
    parts: tuple[bytes, ...], declared: bytes | None, expected: tuple[bytes, int]
) -> None:
    async def scene() -> None:
        receive = request(*parts).receive
        assert await read_beginning(receive, declared, keep_bytes=4, most_bytes=8) == expected

    asyncio.run(scene())


def test_every_fault_of_a_body_is_told() -> None:
    body = Body({"nme": 1, "state": "hold"}, ("name", "state"))
    assert body.one_of("state", ("held", "parked")) is None
    body.whole("must have a name")
    with pytest.raises(InvalidRequest) as caught:
        body.check()
    assert [(fault.pointer, fault.hint) for fault in caught.value.faults] == [
        ("/nme", "did you mean name?"),
        ("/state", 'did you mean "held"?'),
        ("", None),
    ]
