# SPDX-License-Identifier: Apache-2.0
"""The client library's exceptions as one error with a sentence for people."""

from __future__ import annotations

import socket
import ssl

import pika.exceptions
from pika.adapters.utils import connection_workflow as workflow

from fairlead.drivers.amqp_message import Place
from fairlead.drivers.tls import describe_tls_error
from fairlead.errors import BrokerFailed, BrokerFailure

_KINDS: dict[int, BrokerFailure] = {403: "forbidden", 404: "missing", 405: "mismatch", 406: "mismatch"}


def connecting(error: BaseException | None, place: Place, address: str, user: str) -> BrokerFailed:
    """Why there is no connection to `address`, one of the addresses of `place`."""
    cause = _innermost(error)
    host = place.endpoint.host
    shown = str(place.endpoint) if host == address else f"{place.endpoint} ({address})"
    if isinstance(cause, ssl.SSLError):
        return BrokerFailed("away", describe_tls_error(cause, host).replace("http://", "amqp://"))
    if isinstance(cause, pika.exceptions.ProbableAuthenticationError | pika.exceptions.AuthenticationError):
        detail = f"{shown} does not accept the login of user {user!r}; check its name and password"
        return BrokerFailed("forbidden", detail)
    if isinstance(cause, pika.exceptions.ConnectionClosed | pika.exceptions.ProbableAccessDeniedError):
        words = _words(cause)
        detail = (
            f"{shown} does not let user {user!r} into the virtual host {place.vhost!r}: {words}; "
            "check the path of the address, and the user's permissions there"
        )
        return BrokerFailed("forbidden", detail)
    if isinstance(cause, pika.exceptions.IncompatibleProtocolError):
        return BrokerFailed("away", f"{shown} does not speak AMQP 0-9-1; is it the broker's port?")
    if isinstance(cause, ConnectionRefusedError):
        return BrokerFailed("away", f"connection refused by {shown}")
    if isinstance(cause, TimeoutError | workflow.AMQPConnectorStackTimeout | socket.timeout):
        return BrokerFailed("away", f"{shown} did not answer in time")
    if isinstance(cause, OSError):
        return BrokerFailed("away", f"no connection to {shown}: {cause.strerror or cause}")
    return BrokerFailed("away", f"{shown} closed the connection while it was being made")


def ended(error: BaseException | None, where: str) -> BrokerFailed:
    """Why an open connection ended."""
    cause = _innermost(error)
    if isinstance(cause, pika.exceptions.ConnectionClosedByBroker):
        return BrokerFailed("away", f"{where} closed the connection: {_words(cause)}")
    if isinstance(cause, pika.exceptions.ConnectionClosedByClient):
        return BrokerFailed("away", f"the connection to {where} was closed")
    if isinstance(cause, pika.exceptions.AMQPHeartbeatTimeout):
        return BrokerFailed("away", f"nothing came from {where} for too long")
    return BrokerFailed("away", f"the connection to {where} broke")


def on_channel(error: BaseException | None, where: str) -> BrokerFailed:
    """Why a channel ended; a broker closes it instead of answering what it will not do."""
    cause = _innermost(error)
    if isinstance(cause, BrokerFailed):
        return cause
    if isinstance(cause, pika.exceptions.ChannelClosedByBroker):
        return BrokerFailed(_KINDS.get(cause.reply_code, "failed"), f"{where} says: {_words(cause)}")
    if isinstance(cause, pika.exceptions.ChannelClosedByClient):
        return BrokerFailed("away", f"the channel to {where} was closed")
    return ended(cause, where)


def _words(error: BaseException) -> str:
    code, text = getattr(error, "reply_code", None), getattr(error, "reply_text", None)
    if code is None:
        return "it closed the connection"
    return f"{code} {str(text)[:300]}".rstrip(". ")


def _innermost(error: BaseException | None) -> BaseException | None:
    """The library wraps causes in causes: the last attempt's own exception."""
    while error is not None:
        if isinstance(error, workflow.AMQPConnectionWorkflowFailed):
            error = error.exceptions[-1]
        elif isinstance(error, workflow.AMQPConnectorPhaseErrorBase):
            error = error.exception
        elif (
            type(error) is pika.exceptions.AMQPConnectionError
            and error.args
            and isinstance(error.args[0], BaseException)
        ):
            error = error.args[0]
        else:
            return error
    return None
