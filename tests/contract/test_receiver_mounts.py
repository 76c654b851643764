# SPDX-License-Identifier: Apache-2.0
"""A receiver in every place it can be mounted, called as a relay calls it; real servers where there are."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.validate import validator

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Route

from fairlead import Event, Receiver
from fairlead.core.answer import parse_answer
from fairlead.testing.receiver_kit import (
    Response,
    SignedRequest,
    call_asgi,
    call_asgi_async,
    call_wsgi,
)
from tests.contract.receiving import Taken, event, kit, receiver_at

DEADLINE_SECONDS = 30.0
Call = Callable[[SignedRequest], Response]


def django_app(receiver: Receiver) -> Any:
    import django
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.urls import path

    from fairlead.sdk.receiving.django import view

    if not settings.configured:
        settings.configure(
            SECRET_KEY="for tests",
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF="tests.contract.receiving",
            MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
            DATA_UPLOAD_MAX_MEMORY_SIZE=100_000,
        )
        django.setup()
    from tests.contract import receiving

    receiving.urlpatterns[:] = [path("hook", view(receiver))]
    from django.urls import clear_url_caches

    clear_url_caches()
    return WSGIHandler()


def mounted(name: str, receiver: Receiver) -> Call:
    if name == "asgi":
        return lambda request: call_asgi(receiver.asgi, request)
    if name == "starlette":
        starlette = Starlette(routes=[Route("/hook", receiver.asgi)])
        return lambda request: call_asgi(starlette, request, "/hook")
    if name == "fastapi":
        fastapi = FastAPI()
        fastapi.add_route("/hook", receiver.asgi)  # type: ignore[arg-type]  # any ASGI application will do
        return lambda request: call_asgi(fastapi, request, "/hook")
    if name == "django":
        django = django_app(receiver)
        return lambda request: call_wsgi(django, request, "/hook")
    return lambda request: call_wsgi(receiver.wsgi, request)


@pytest.fixture(params=["asgi", "starlette", "fastapi", "django", "wsgi"])
def mount(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["sync", "async"])
def flavour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def handler_of(flavour: str, taken: Taken) -> Any:
    async def handle(event: Event, transaction: object) -> None:
        await asyncio.sleep(0)
        taken(event, transaction)

    return taken if flavour == "sync" else handle


def test_every_mount_takes_events_in_order_and_once(tmp_path: Path, mount: str, flavour: str) -> None:
    taken = Taken()
    receiver = receiver_at(tmp_path, handler_of(flavour, taken))
    call, relay = mounted(mount, receiver), kit()
    first, second, third = (relay.deliver(event(n)) for n in (1, 2, 3))
    statuses = [call(request).status for request in (first, third, second, first, third)]
    assert statuses == [200, 425, 200, 200, 200]
    assert taken.numbers == [1, 2, 3]
    receiver.close()


def test_every_mount_passes_problems_and_headers_through(tmp_path: Path, mount: str) -> None:
    receiver = receiver_at(tmp_path, Taken(), concurrency=4)
    call, relay = mounted(mount, receiver), kit()
    refused = call(relay.tampered(relay.deliver(event())))
    assert (refused.status, refused.headers["content-type"]) == (401, "application/problem+json")
    handshake = SignedRequest("OPTIONS", {"webhook-request-origin": "relay.example"}, b"")
    assert call(handshake).headers["webhook-allowed-origin"] == "*"
    assert call(relay.batch([event(1), event(2)])).status == 207
    assert call(SignedRequest("GET", {}, b"")).status == 405
    receiver.close()


def test_every_mount_refuses_a_body_over_its_limit(tmp_path: Path, mount: str) -> None:
    receiver = receiver_at(tmp_path, Taken(), max_body_bytes=100_000)
    request = kit().deliver(event(subject="k" * 200_000))
    refused = mounted(mount, receiver)(request)
    assert (refused.status, refused.json["limit_bytes"]) == (413, 100_000)
    receiver.close()


def test_a_wsgi_receiver_keeps_to_the_standard(tmp_path: Path) -> None:
    receiver = receiver_at(tmp_path, Taken())
    checked: Any = validator(receiver.wsgi)
    environ_of: dict[str, Any] = {}

    def capture(environ: dict[str, Any], start_response: Any) -> Any:
        environ_of.update(environ)
        return checked(environ, start_response)

    with wsgi_server(capture) as port:
        assert over_http(port, kit().deliver(event())).status == 200
    receiver.close()


def test_an_async_handler_runs_on_the_servers_loop(tmp_path: Path) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def handler(event: Event, transaction: object) -> None:
        loops.append(asyncio.get_running_loop())

    async def main(receiver: Receiver) -> None:
        assert (await call_asgi_async(receiver.asgi, kit().deliver(event()))).status == 200
        assert loops == [asyncio.get_running_loop()]

    receiver = receiver_at(tmp_path, handler)
    asyncio.run(main(receiver))
    receiver.close()


def test_a_client_that_goes_away_before_its_body_is_complete_is_not_answered(tmp_path: Path) -> None:
    taken = Taken()
    receiver = receiver_at(tmp_path, taken)

    async def main() -> list[Any]:
        messages = [
            {"type": "http.request", "body": b"{", "more_body": True},
            {"type": "http.disconnect"},
        ]
        sent: list[Any] = []

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        await receiver.asgi({"type": "http", "method": "POST", "headers": []}, receive, send)
        return sent

    assert asyncio.run(main()) == []
    receiver.close()


# -- real servers --------------------------------------------------------------------------------------------


class ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        return


@contextmanager
def wsgi_server(app: Any) -> Iterator[int]:
    server = make_server("127.0.0.1", 0, app, server_class=ThreadingServer, handler_class=QuietHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def asgi_server(app: Any) -> Iterator[int]:
    config = uvicorn.Config(app, port=0, log_level="critical", lifespan="on", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not server.started:
        assert time.monotonic() < deadline
        thread.join(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def over_http(port: int, request: SignedRequest) -> Response:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    try:
        connection.request(request.method, "/hook", request.body, dict(request.headers))
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Response(response.status, headers, response.read())
    finally:
        connection.close()


@pytest.mark.parametrize("server", [asgi_server, wsgi_server])
def test_parallel_deliveries_over_real_http_stay_in_order_per_resource(
    tmp_path: Path, flavour: str, server: Any
) -> None:
    taken = Taken()
    receiver = receiver_at(tmp_path, handler_of(flavour, taken))
    relay = kit()
    lanes = {key: [relay.deliver(event(n, key)) for n in range(8)] for key in ("k1", "k2", "k3", "k4")}

    def play(port: int, requests: list[SignedRequest]) -> None:
        for request in requests:
            assert over_http(port, request).status == 200
            assert parse_answer(over_http(port, request).body).result == "duplicate"

    with server(receiver.asgi if server is asgi_server else receiver.wsgi) as port:
        threads = [threading.Thread(target=play, args=(port, requests)) for requests in lanes.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for key in lanes:
        assert [one.data["n"] for one in taken.events if one.subject == key] == list(range(8))
    receiver.close()


def test_the_end_of_the_servers_life_closes_the_inbox(tmp_path: Path) -> None:
    receiver = receiver_at(tmp_path, Taken())
    with asgi_server(receiver.asgi) as port:
        assert over_http(port, kit().deliver(event())).status == 200
    assert not (tmp_path / "inbox.db-wal").exists()  # the last connection takes it away


def test_a_body_without_a_length_is_taken_where_the_server_marks_its_end(tmp_path: Path) -> None:
    receiver = receiver_at(tmp_path, Taken())
    request = kit().deliver(event())
    with asgi_server(receiver.asgi) as port:
        chunked = replace(request, headers={**request.headers, "transfer-encoding": "chunked"})
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
        connection.request("POST", "/hook", iter([chunked.body]), dict(request.headers), encode_chunked=True)
        assert connection.getresponse().status == 200
        connection.close()
