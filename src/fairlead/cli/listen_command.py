# SPDX-License-Identifier: Apache-2.0
"""`fairlead listen`: a receiver that prints what arrives and checks its order."""

from __future__ import annotations

import base64
import os
import signal
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click
from rich.markup import escape

from fairlead.cli import output
from fairlead.cli.api import Api, RefusedError, path_of
from fairlead.cli.calling import Caller, calls_api
from fairlead.cli.listening import Listener, Server
from fairlead.cli.order import Standing
from fairlead.cli.status_command import compact
from fairlead.drivers.amqp.message import Broker, check_queue
from fairlead.errors import PortInUse
from fairlead.sdk.bus.deliveries import check_answering

DEFAULT_PORT = 3248
_LOOPBACK = ("http://127.0.0.1:", "http://localhost:", "http://[::1]:")


@click.command("listen")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=DEFAULT_PORT, show_default=True, help="0: any free one"
)
@click.option(
    "--secret", "secrets", multiple=True, help="take only what is signed with this; may be given again"
)
@click.option(
    "--fail", type=click.FloatRange(0, 1), default=0.0, help="the share of deliveries to fail, such as 0.1"
)
@click.option(
    "--subscribe", metavar="NAME", help="make subscription NAME deliver here; it stays when this ends"
)
@click.option("--source", help="with --subscribe: only events of this source")
@click.option("--type", "types", multiple=True, help="with --subscribe: only events of this type")
@click.option("--library", is_flag=True, help="answer as the receiver library does, with an inbox")
@click.option(
    "--inbox", metavar="FILE", help="with --library: keep the inbox in this file (default: nowhere)"
)
@click.option(
    "--amqp",
    metavar="URL",
    help="with --library: also take a queue of this broker, amqps://user:pw@host/vhost",
)
@click.option("--queue", metavar="NAME", help="with --amqp: the queue, fairlead.<subscription>.<shard>")
@click.option(
    "--answer-secret",
    metavar="SECRET",
    help="with --amqp: sign answers with this where --secret is a whpk_; the subscription's answer_secret",
)
@click.option("--count", type=click.IntRange(1), help="end after so many events")
@partial(calls_api, json_help="print each event as it came, one JSON document a line")
def command(
    caller: Caller,
    *,
    port: int,
    secrets: tuple[str, ...],
    fail: float,
    subscribe: str | None,
    library: bool,
    inbox: str | None,
    amqp: str | None,
    queue: str | None,
    answer_secret: str | None,
    count: int | None,
    source: str | None,
    types: tuple[str, ...],
) -> int:
    """Receive events, print them, and check that every resource's events come in order.

    Ends 1 if the order was broken.
    """
    _check_usage(subscribe, bool(source or types), library=library, inbox=inbox, signed=bool(secrets))
    _check_bus(amqp, queue, answer_secret, secrets if library else ())
    if subscribe is not None and not secrets:
        secrets = ("whsec_" + base64.b64encode(os.urandom(24)).decode(),)
    stop = threading.Event()
    try:
        show = _shown(caller.as_json, count, stop)
        listener = Listener(show, secrets, fail, library, inbox, answer_secret, output.note, stop)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--secret") from None
    server = _server_at(port, listener)
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    threading.Thread(target=server.serve_forever, name="listen", daemon=True).start()
    try:
        if subscribe is not None:
            wanted = {"source": source, "types": list(types), "receiver": "library" if library else "plain"}
            _subscribe(caller.api, subscribe, server.url, secrets[0], wanted)
        if amqp is not None and queue is not None:
            listener.consume(amqp, queue, caller.api.url, stop)
        output.note(f"listening at {server.url}" + (f" for {subscribe}" if subscribe else "") + "; ^C ends")
        while not stop.wait(3600):
            pass
        if isinstance(listener.failure, OSError):
            raise listener.failure
        if listener.failure is not None:
            raise click.ClickException(str(listener.failure))
    finally:
        server.shutdown()
        server.server_close()
        listener.close()
    return _summed_up(listener, subscribe)


def _check_usage(
    subscribe: str | None, chooses: bool, *, library: bool, inbox: str | None, signed: bool
) -> None:
    if subscribe is None and chooses:
        raise click.UsageError("--source and --type say what to subscribe to: give --subscribe NAME too")
    if inbox is not None and not library:
        raise click.UsageError("--inbox is the library's: give --library too")
    if library and not (signed or subscribe):
        raise click.UsageError("--library verifies signatures: give --secret, or --subscribe NAME")


def _check_bus(
    amqp: str | None, queue: str | None, answer_secret: str | None, secrets: Sequence[str]
) -> None:
    if (amqp is None) != (queue is None):
        raise click.UsageError("--amqp and --queue belong together")
    if amqp is None or queue is None:
        if answer_secret is not None:
            raise click.UsageError("--answer-secret signs answers on a bus: give --amqp and --queue too")
        return
    if not secrets:
        raise click.UsageError("--amqp takes signed deliveries: give --library and --secret")
    for option, check in (
        ("--amqp", partial(Broker.of, amqp)),
        ("--queue", partial(check_queue, queue)),
        ("--answer-secret", partial(check_answering, secrets, answer_secret)),
    ):
        try:
            check()
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint=option) from None


def _server_at(port: int, listener: Listener) -> Server:
    try:
        return Server(listener, "127.0.0.1", port)
    except OSError as error:
        listener.close()
        raise PortInUse(
            f"port {port} cannot be listened on: {error.strerror}; choose another with --port"
        ) from None


def _subscribe(api: Api, name: str, url: str, secret: str, wanted: dict[str, Any]) -> None:
    """Point subscription `name` here; one that delivers to another machine is left alone."""
    path = path_of("subscriptions", name)
    try:
        body = api.call("GET", path).document()
    except RefusedError as refused:
        if refused.status != 404:
            raise
        body = {"protocol": "HTTP"}
    if body.get("sink") and not body["sink"].startswith(_LOOPBACK):
        raise click.ClickException(
            f"subscription {name} delivers to {body['sink']}; choose another name, or remove it first"
        )
    body["sink"] = url
    if wanted["source"]:
        body["source"] = wanted["source"]
    if wanted["types"]:
        body["types"] = wanted["types"]
    body["config"] = {**body.get("config", {}), "secret": secret, "receiver": wanted["receiver"]}
    api.call("PUT", path, body)


def _shown(
    as_json: bool, count: int | None, stop: threading.Event
) -> Callable[[dict[str, Any], Standing], None]:
    console = output.out()
    marks = {"new": "", "again": "[dim] (again)[/]", "broken": "[bold red] OUT OF ORDER[/]"}
    left = [count]

    def show(event: dict[str, Any], standing: Standing) -> None:
        if left[0] is not None and left[0] <= 0:
            return
        if as_json:
            output.document(event)
        else:
            subject = f" {event['subject']}" if event.get("subject") else ""
            place = _text(f"{event.get('flpartition', '?')}:{event.get('flpos', '?')}")
            type_, about = _text(str(event.get("type"))), _text(f"{event.get('source')}{subject}")
            data = _text(compact(event["data"])) if "data" in event else ""
            console.print(f"[dim]{place:>8}[/]  [bold]{type_}[/]  {about}  {data}{marks[standing]}")
        if left[0] is not None:
            left[0] -= 1
            if left[0] <= 0:
                stop.set()

    return show


def _text(sent: str) -> str:
    return escape(output.visible(sent))


def _summed_up(listener: Listener, subscribed: str | None) -> int:
    faults = listener.order.faults
    taken = output.counted(listener.taken, "event")
    counts = f"{taken}, {listener.failed} failed on request, {listener.refused} refused"
    output.note(f"{counts}, order {'broken' if faults else 'kept'}")
    for fault in faults[:20]:
        output.note(f"  {fault}")
    if subscribed:
        output.note(
            f"subscription {subscribed} stays and its events are kept; end it with: "
            f"fairlead subscriptions remove {subscribed}"
        )
    return 1 if faults else 0
