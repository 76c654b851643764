# SPDX-License-Identifier: Apache-2.0
"""`[[source]]`: the queues that events are taken from (interface, section 9)."""

from __future__ import annotations

import ipaddress
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from fairlead.config.declaring import Setting, required, rows_of, setting
from fairlead.config.kinds import Kind, boolean, choice, integer, matching, optional, text
from fairlead.core.address import parse_url
from fairlead.core.json_mapping import JsonMapping, json_mapping, part
from fairlead.core.pointer import parse_pointer
from fairlead.drivers.amqp.message import check_queue
from fairlead.errors import ConfigError

FORMATS = ("cloudevents", "json", "oslo")
MAPPED = ("source", "type", "subject", "id", "time")
"""The keys of `format = "json"`."""


def _parse_url(value: object) -> str:
    wanted = 'must be the address of a broker such as "amqps://mq.example/vhost"'
    if not isinstance(value, str):
        raise ValueError(wanted)
    try:
        if "@" in urlsplit(value).netloc:
            raise ValueError(
                "must not hold a login; write user:password into a file and name that in credential_file"
            )
        url = parse_url(value)
    except ValueError as error:
        raise ValueError(str(error) if "credential_file" in str(error) else f"{wanted}: {error}") from None
    if url.scheme not in ("amqp", "amqps") or "?" in url.target or "#" in value:
        raise ValueError(wanted)
    return value


def _parse_queue(value: object) -> str:
    name = text.parse(value)
    check_queue(name)
    return name


def _part(name: str) -> Kind[object]:
    def parse(value: object) -> object:
        try:
            part(name, value)
        except ValueError as error:
            raise ValueError(str(error).removeprefix(f"{name}: ")) from None
        return value

    expected = "JSON Pointer" if name in ("id", "time") else "text or JSON Pointer"
    return Kind(expected, "", parse, lambda value: value)


def _parse_keys(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError('must be a table such as { "compute.instance." = "/instance_id" }')
    for prefix, pointer in value.items():
        try:
            parse_pointer(pointer if isinstance(pointer, str) else "")
        except ValueError as error:
            raise ValueError(f'"{prefix}": {error}') from None
    return dict(value)


queue_name: Kind[str] = Kind("text", "", _parse_queue, lambda value: value)
broker_url: Kind[str] = Kind("broker URL", "", _parse_url, lambda value: value)
resource_keys: Kind[dict[str, str]] = Kind("table of JSON Pointers", "", _parse_keys, lambda value: value)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """A queue that events are taken from. Write `[[source]]` once for each; in the file only."""

    name: str = required(
        matching("name", "[a-z0-9][a-z0-9-]{0,62}", "small letters, digits and hyphens, at most 63"),
        "What it is called in metrics, in `doctor` and as the `source` of its rejects; no two have the same.",
    )
    url: str = required(
        broker_url,
        "The broker: `amqps://host[:port][/vhost]`, or `amqp://` without TLS; no login in it.",
    )
    queue: str = required(
        queue_name, "The queue. For OpenStack one source for each: `notifications.info` and so on."
    )
    credential_file: str | None = setting(
        optional(text),
        None,
        "A file with one line, `user:password`, that others may not read. Without it `guest:guest`,"
        " which brokers take from their own machine only.",
    )
    format: str = setting(
        choice(*FORMATS),
        "cloudevents",
        "What a message is: `cloudevents` (structured, binary, JSON batch), `json` (any JSON text, mapped by"
        " the five keys below), `oslo` (OpenStack's notifications, both envelopes).",
    )
    prefetch: int = setting(
        integer("messages", least=1, most=10_000),
        256,
        "The most messages that are here and not yet acknowledged; it bounds memory.",
    )
    declare: bool = setting(
        boolean,
        False,
        "Make the queue if it is missing: durable, quorum, one active consumer. Otherwise it must be there.",
    )
    source: object = setting(
        optional(_part("source")),
        None,
        "`json`, needed there: the event's `source`, itself (`/heat`, `urn:x`) or where it stands"
        " (`#/instance/region`).",
    )
    type: object = setting(
        optional(_part("type")),
        None,
        "`json`, needed there: the event's `type`, itself or where it stands (`/what` or `#/what`);"
        ' a literal that begins so is `{ literal = "/what" }`.',
    )
    subject: object = setting(
        optional(_part("subject")), None, "`json`: the resource, itself or where it stands (`/instance/id`)."
    )
    id: object = setting(
        optional(_part("id")),
        None,
        "`json`: where the id stands; without it, or where nothing is there, the property `message_id`."
        " A message without either is rejected: a repeat of it would be another event.",
    )
    time: object = setting(optional(_part("time")), None, "`json`: where the time stands (RFC 3339).")
    keys: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "kind": resource_keys,
            "doc": "`oslo`, as a table `[source.keys]`: beginning of the event type → JSON Pointer in the"
            " payload to the resource; comes before the built-in table.",
            "key": None,
            "secret": False,
        },
    )

    def mapping(self) -> JsonMapping:
        """The mapping of `format = "json"`. Raises ValueError where it lacks what it needs."""
        return json_mapping(
            source=self.source, type=self.type, subject=self.subject, id=self.id, time=self.time
        )


SOURCE_SETTINGS: tuple[Setting, ...] = tuple(rows_of(SourceConfig))


def read_credential(path: str) -> tuple[str, str]:
    """User and password of a credential file. Blocks.

    Raises:
        ConfigError: it cannot be read, or is not one line `user:password`; never says what is in it.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").rstrip("\r\n").split("\n")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    user, colon, password = lines[0].partition(":") if len(lines) == 1 else ("", "", "")
    if not (user and colon and password):
        raise ConfigError(f"{path} must hold one line, user:password (its content is not shown)")
    return user, password


def read_logins(sources: Sequence[SourceConfig]) -> dict[str, tuple[str, str] | None]:
    """User and password by the source's name; None for one without a credential file. Blocks.

    Raises:
        ConfigError: as `read_credential`, with the source's name.
    """
    logins: dict[str, tuple[str, str] | None] = {}
    for source in sources:
        path = source.credential_file
        try:
            logins[source.name] = None if path is None else read_credential(path)
        except ConfigError as error:
            raise ConfigError(f"[[source]] {source.name}: credential_file: {error.message}") from None
    return logins


def credential_doubts(sources: Sequence[SourceConfig]) -> Iterator[str]:
    """A line for each credential file that every user of the machine may read or change. Blocks."""
    for source in sources:
        path = source.credential_file
        if path is not None and is_open_to_all(path):
            yield f"[[source]] {source.name}: every user of this machine may read {path}: chmod 600 {path}"


def is_open_to_all(path: str) -> bool:
    """Whether users who have nothing to do with the file may read or change it. Blocks."""
    return bool(Path(path).stat().st_mode & (stat.S_IROTH | stat.S_IWOTH))


def leaves_the_machine_in_the_clear(url: str) -> bool:
    """Whether a broker's address has neither TLS nor a loopback host."""
    parsed = parse_url(url)
    if parsed.scheme != "amqp" or parsed.endpoint.host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(parsed.endpoint.host).is_loopback
    except ValueError:
        return True
