# SPDX-License-Identifier: Apache-2.0
"""`fairlead subscriptions`: who gets what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fairlead.cli import output
from fairlead.cli.api import Api, path_of
from fairlead.cli.calling import Caller, calls_api
from fairlead.cli.status_command import compact, last_error


@click.group("subscriptions")
def command() -> None:
    """Say who gets which events, where and how."""


def _described(function: Any) -> Any:
    for option in (
        click.option("--config", metavar="JSON", help='members of `config`, such as \'{"timeout":"5s"}\''),
        click.option(
            "--filter", "filters", metavar="JSON", multiple=True, help="a filter; several must all pass"
        ),
        click.option("--type", "types", multiple=True, help="only events of this type; may be given again"),
        click.option("--source", help="only events of this source"),
        click.option(
            "--login-file",
            metavar="FILE",
            help="a file with user:password for the sink",
        ),
        click.option(
            "--settings", metavar="JSON", help='`protocolsettings`, such as \'{"exchange":"orders"}\''
        ),
        click.option(
            "--protocol", type=click.Choice(["HTTP", "AMQP"]), help="default: what the sink begins with"
        ),
        click.option("--sink", metavar="URL", help="where to deliver"),
    ):
        function = option(function)
    return function


@command.command("add")
@click.argument("name")
@_described
@click.option("--start", metavar="WHEN", help="now (default), beginning, or an RFC 3339 time")
@calls_api
def add(caller: Caller, name: str, **options: Any) -> None:
    """Add subscription NAME; it must not exist yet. Prints the signing secret, this once."""
    if not options["sink"]:
        raise click.UsageError("a subscription needs --sink URL")
    body = _changed({"id": name}, options)
    reply = caller.api.call("PUT", path_of("subscriptions", name), body, headers={"if-none-match": "*"})

    def added(item: dict[str, Any]) -> None:
        output.say(f"added {name}: {item['sink']}")
        for secret in ("secret", "answer_secret"):
            if item["config"].get(secret):
                output.say(f"{secret}: {item['config'][secret]}")
        if item["status"].get("public_key"):
            output.say(f"public key: {item['status']['public_key']}")

    caller.show(reply, added)


@command.command("set")
@click.argument("name")
@_described
@calls_api
def set_(caller: Caller, name: str, **options: Any) -> None:
    """Change subscription NAME; what is not named stays."""
    if not any(options.values()):
        raise click.UsageError("say what to change, such as --sink URL or --config JSON")
    path = path_of("subscriptions", name)
    reply = caller.api.call("GET", path)
    body = _changed(reply.document(), options)
    match = {"if-match": reply.headers["etag"]} if "etag" in reply.headers else {}
    caller.show(caller.api.call("PUT", path, body, headers=match), lambda _: output.say(f"changed {name}"))


def _changed(body: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """A subscription with what the options say in place of what it said."""
    if options["sink"]:
        body["sink"] = options["sink"]
    _point(body, options)
    if options["source"]:
        body["source"] = options["source"]
    if options["types"]:
        body["types"] = list(options["types"])
    if options["filters"]:
        body["filters"] = [_json("--filter", text) for text in options["filters"]]
    config = _json("--config", options["config"]) if options["config"] else {}
    if options.get("start"):
        config["start"] = options["start"]
    if config:
        body["config"] = {**body.get("config", {}), **config}
    return body


def _point(body: dict[str, Any], options: dict[str, Any]) -> None:
    """Protocol, settings and login of the sink."""
    usual = "AMQP" if body["sink"].startswith(("amqp://", "amqps://")) else "HTTP"
    protocol = options["protocol"] or (usual if options["sink"] else body.get("protocol", usual))
    if body.get("protocol", protocol) != protocol:
        body.pop("protocolsettings", None)  # those of another protocol
    body["protocol"] = protocol
    if options["settings"]:
        settings = _json("--settings", options["settings"])
        body["protocolsettings"] = {**body.get("protocolsettings", {}), **settings}
    if options["login_file"]:
        user, colon, password = _line("--login-file", options["login_file"]).partition(":")
        if not colon:
            raise click.BadParameter("expected user:password on one line", param_hint="--login-file")
        login = {"credentialtype": "PLAIN", "identifier": user, "secret": password}
        body["sinkcredential"] = login


def _line(option: str, file: str) -> str:
    try:
        return Path(file).read_text().strip()
    except OSError as error:
        raise click.BadParameter(f"{file}: {error.strerror or error}", param_hint=option) from None
    except ValueError:
        raise click.BadParameter(f"{file}: not text in UTF-8", param_hint=option) from None


def _json(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint=option) from None
    if not isinstance(value, dict):
        raise click.BadParameter("expected a JSON object", param_hint=option)
    return value


@command.command("list")
@click.option("--state", type=click.Choice(["active", "paused", "stopped", "disabled"]), help="only these")
@calls_api
def list_(caller: Caller, state: str | None) -> None:
    """List the subscriptions."""
    reply = caller.api.call("GET", "/subscriptions", query={"state": state, "limit": 1000})
    caller.show(
        reply,
        lambda page: output.table(
            ("subscription", "state", "sink", "source", "types", "filters"),
            [
                (
                    one["id"],
                    one["status"]["state"],
                    one["sink"],
                    one.get("source"),
                    ", ".join(one.get("types", ())) or None,
                    len(one.get("filters", ())) or None,
                )
                for one in page["items"]
            ],
            empty=f"no subscription is {state}"
            if state
            else "no subscription; add one with: fairlead subscriptions add NAME --sink URL",
        ),
    )


@command.command("show")
@click.argument("name")
@calls_api
def show(caller: Caller, name: str) -> None:
    """Show subscription NAME whole."""

    def shown(item: dict[str, Any]) -> None:
        status = item.pop("status")
        for member, value in item.items():
            if isinstance(value, dict):
                for key, inner in value.items():
                    output.say(f"{member}.{key}: {inner if isinstance(inner, str) else compact(inner)}")
            else:
                output.say(f"{member}: {value if isinstance(value, str) else compact(value)}")
        for key, value in status.items():
            text = (
                last_error(value) if key == "last_error" else output.when(value) if key == "since" else value
            )
            output.say(f"status.{key}: {text if isinstance(text, str) else compact(text)}")

    caller.show(caller.api.call("GET", path_of("subscriptions", name)), shown)


@command.command("remove", short_help="Remove subscription NAME and what waits for it.")
@click.argument("name")
@calls_api
def remove(caller: Caller, name: str) -> None:
    """Remove subscription NAME, what it holds and what is waiting for it. A queue at a broker stays there."""
    reply = caller.api.call("DELETE", path_of("subscriptions", name))
    caller.show(reply, lambda _: output.say(f"removed {name}"))


@command.command("pause")
@click.argument("name")
@calls_api
def pause(caller: Caller, name: str) -> None:
    """Pause subscription NAME; its events are kept."""
    reply = caller.api.call("POST", path_of("subscriptions", name, "pause"))
    caller.show(reply, lambda item: output.say(f"{name} is {item['status']['state']}"))


@command.command("resume")
@click.argument("name")
@calls_api
def resume(caller: Caller, name: str) -> None:
    """Make subscription NAME active again, whatever stopped it."""
    reply = caller.api.call("POST", path_of("subscriptions", name, "resume"))
    caller.show(reply, lambda item: output.say(f"{name} is {item['status']['state']}"))


@command.command("secret", short_help="Give subscription NAME a new signing secret.")
@click.argument("name")
@click.option("--secret", help="this one (default: the relay makes one)")
@calls_api
def secret(caller: Caller, name: str, secret: str | None) -> None:
    """Give subscription NAME a new signing secret; for `config.secret_overlap` both sign."""
    reply = caller.api.call("POST", path_of("subscriptions", name, "secret"), {"secret": secret})

    def rotated(answer: dict[str, Any]) -> None:
        output.say(f"secret: {answer['secret']}")
        silenced = answer.get("signs_no_more")
        if silenced == "earlier":
            output.say("no earlier one signs any more")
            return
        output.say(f"the one before signs too until {output.when(answer['previous_until'])}")
        if silenced == "oldest":
            output.say("the oldest that signed until now does so no more: there are too many")

    caller.show(reply, rotated)


def find(api: Api, name: str) -> dict[str, Any]:
    """Subscription `name` as the API shows it."""
    found: dict[str, Any] = api.call("GET", path_of("subscriptions", name)).document()
    return found
