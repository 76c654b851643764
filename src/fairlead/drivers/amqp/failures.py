# SPDX-License-Identifier: Apache-2.0
"""The client library's exceptions as one error with a sentence for people."""

from __future__ import annotations

import re
import ssl

import pika.exceptions

from fairlead.core.failover import LOGIN_REFUSED
from fairlead.drivers.amqp.message import Place
from fairlead.drivers.tls import describe_tls_error
from fairlead.errors import BrokerFailed, BrokerFailure

_KINDS: dict[int, BrokerFailure] = {403: "forbidden", 404: "missing", 405: "mismatch", 406: "mismatch"}
_ASKS = "does it ask for a certificate of ours? We log in by user and password, and send none"
_REPLY = re.compile(r"\((\d+)\) ['\"](.*)['\"]", re.DOTALL)


def connecting(error: BaseException | None, place: Place, address: str, user: str) -> BrokerFailed:
    """Why there is no connection to `address`, one of the addresses of `place`."""
    host = place.endpoint.host
    shown = str(place.endpoint) if host == address else f"{place.endpoint} ({address})"
    asks = f"; {_ASKS}" if place.endpoint.tls else ""
    if isinstance(error, ssl.SSLError):
        detail = describe_tls_error(error, host).replace("http://", "amqp://")
        return BrokerFailed("away", f"{detail}{asks if 'alert handshake failure' in detail else ''}")
    if isinstance(error, pika.exceptions.ProbableAuthenticationError | pika.exceptions.AuthenticationError):
        detail = f"{shown} {LOGIN_REFUSED} of user {user!r}; check its name and password"
        return BrokerFailed("forbidden", detail)
    if isinstance(error, pika.exceptions.ConnectionClosed | pika.exceptions.ProbableAccessDeniedError):
        words = _words(error)
        detail = (
            f"{shown} does not let user {user!r} into the virtual host {place.vhost!r}: {words}; "
            "check the path of the address, and the user's permissions there"
        )
        return BrokerFailed("forbidden", detail)
    if isinstance(error, pika.exceptions.IncompatibleProtocolError):
        port = "the broker's port?" if place.endpoint.tls else "the broker's port, or its one for amqps:// ?"
        return BrokerFailed("away", f"{shown} does not speak AMQP 0-9-1; is it {port}")
    if isinstance(error, pika.exceptions.StreamLostError):
        detail = f"{shown} closed the connection before it said a word; is the broker up?"
        return BrokerFailed("away", f"{detail}{asks}")
    if isinstance(error, ConnectionRefusedError):
        return BrokerFailed("away", f"connection refused by {shown}")
    if isinstance(error, TimeoutError):
        return BrokerFailed("away", f"{shown} did not answer in time")
    if isinstance(error, OSError):
        reason = error.strerror or str(error) or f"it was broken off{asks}"
        return BrokerFailed("away", f"no connection to {shown}: {reason}")
    return BrokerFailed("away", f"{shown} closed the connection while it was being made")


def ended(error: BaseException | None, where: str) -> BrokerFailed:
    """Why an open connection ended."""
    if isinstance(error, pika.exceptions.ConnectionClosedByBroker):
        return BrokerFailed("away", f"{where} closed the connection: {_words(error)}")
    if isinstance(error, pika.exceptions.ConnectionClosedByClient):
        return BrokerFailed("away", f"the connection to {where} was closed")
    if isinstance(error, pika.exceptions.AMQPHeartbeatTimeout):
        return BrokerFailed("away", f"nothing came from {where} for too long")
    return BrokerFailed("away", f"the connection to {where} broke")


def on_channel(error: BaseException | None, where: str) -> BrokerFailed:
    """Why a channel ended; a broker closes it instead of answering what it will not do."""
    if isinstance(error, BrokerFailed):
        return error
    if isinstance(error, pika.exceptions.ChannelClosedByBroker):
        return BrokerFailed(_KINDS.get(error.reply_code, "failed"), f"{where} says: {_words(error)}")
    if isinstance(error, pika.exceptions.ChannelClosedByClient):
        return BrokerFailed("away", f"the channel to {where} was closed")
    return ended(error, where)


def _words(error: BaseException) -> str:
    """The broker's own. Of a connection that was not open yet the library keeps them as text."""
    code, text = getattr(error, "reply_code", None), getattr(error, "reply_text", None)
    if code is None:
        kept = _REPLY.search(str(error.args[0] if error.args else ""))
        if kept is None:
            return "it closed the connection"
        code, text = kept.groups()
    return f"{code} {str(text)[:300]}".rstrip(". ")
