# SPDX-License-Identifier: Apache-2.0
"""What passes between us and a broker: where it is, what is published and consumed, what is put in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import unquote, urlsplit

import msgspec

from fairlead.core.address import Endpoint, parse_url

MOST_NAME_BYTES = 255
ResultKind = Literal["confirmed", "unroutable", "refused", "lost", "impossible"]

NOT_YET = "not connected yet"
"""Why a session or a consumer is down before its first try has ended: nothing is wrong so far."""


@dataclass(frozen=True, slots=True)
class Broker:
    """One broker or cluster, and as whom; equal ones may share a session.

    Attributes:
        addresses: `amqp(s)://host[:port][/vhost]` without user information, tried in turn.
        heartbeat_seconds: a connection on which nothing came for so long is given up.
        connect_timeout_seconds: for each address, until the login is done.
        ca_file: further certificate authorities (PEM).
        most_body_bytes: a message with a greater body comes without it, and with a fault; None for no bound.
    """

    addresses: tuple[str, ...]
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    heartbeat_seconds: int = 10
    connect_timeout_seconds: float = 5.0
    ca_file: str | None = None
    most_body_bytes: int | None = None

    @classmethod
    def of(cls, url: str, *, ca_file: str | None = None) -> Self:
        """The broker of one URL as users write them, `amqps://user:password@host/vhost`.

        Raises:
            ValueError: it is no such URL; the message never holds the password.
        """
        try:
            parts = urlsplit(url)
            user, password = parts.username, parts.password
        except ValueError:
            raise ValueError("not a URL; expected amqps://user:password@host/vhost") from None
        place = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        where(place)
        if user is None:
            return cls((place,), ca_file=ca_file)
        return cls((place,), unquote(user), unquote(password or ""), ca_file=ca_file)


class Place(NamedTuple):
    """One address of a broker: what is connected to, and the virtual host there."""

    endpoint: Endpoint
    vhost: str


def where(address: str) -> Place:
    """Where an address leads; no path, or `/`, is the virtual host `/`.

    Raises:
        ValueError: it is no address of a broker.
    """
    url = parse_url(address)
    if url.scheme not in ("amqp", "amqps"):
        raise ValueError(f"the scheme is {url.scheme!r}; a broker's address begins with amqp:// or amqps://")
    if "?" in url.target:
        raise ValueError("the address of a broker has no query")
    return Place(url.endpoint, unquote(url.target.removeprefix("/")) or "/")


def check_queue(name: str) -> None:
    """Check that AMQP can name a queue so. Raises ValueError."""
    size = len(name.encode())
    if size > MOST_NAME_BYTES:
        raise ValueError(f"has {size} bytes; AMQP takes {MOST_NAME_BYTES}")


# gc=False, as of whatever a delivery brings along: it is in no cycle, and thousands are held at once
class Message(msgspec.Struct, frozen=True, gc=False):
    """One message; what is published is always persistent.

    `headers` of a received one may hold any type that AMQP has; their names are as they came.
    """

    body: bytes
    content_type: str | None = None
    message_id: str | None = None
    reply_to: str | None = None
    headers: Mapping[str, Any] = {}


class Incoming(Message, frozen=True, gc=False):
    """A message that a consumer got.

    Attributes:
        tag, attachment: which delivery it is, for `Consumer.ack`.
        fault: why the headers could not be read, and are empty; "" where they could.
    """

    exchange: str = ""
    routing_key: str = ""
    redelivered: bool = False
    tag: int = 0
    attachment: int = 0
    fault: str = ""


class Result(msgspec.Struct, frozen=True):
    """What became of a publish.

    Attributes:
        kind: `confirmed`: the broker has it, on disk · `unroutable`: returned, no queue is bound · `refused`:
            the broker said no · `lost`: the connection or its channel ended before it said anything, or
            there is none · `impossible`: AMQP cannot carry this message, and others it can.
        detail: one sentence for people; never a secret.
    """

    kind: ResultKind
    detail: str = ""


CONFIRMED = Result("confirmed")


@dataclass(frozen=True, slots=True)
class Topology:
    """A queue, and how messages get into it.

    Attributes:
        queue: durable, quorum, without any limit that could lose a message.
        exchange: durable, direct; "" is the default exchange, in which every queue is bound by its name.
        routing_key: binds the queue in `exchange`.
        single_active: at most one consumer at a time is served.
        create: put in place what is missing. Otherwise both must be there, whatever their arguments; a
            binding cannot be asked for: a message that finds no queue comes back as unroutable.
    """

    queue: str
    exchange: str = ""
    routing_key: str = ""
    single_active: bool = True
    create: bool = True
