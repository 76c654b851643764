# SPDX-License-Identifier: Apache-2.0
"""Why there is no connection to a broker, in a sentence that leads to the cause."""

from __future__ import annotations

import errno
import ssl

import pika.exceptions
import pytest

from fairlead.drivers.amqp.failures import connecting
from fairlead.drivers.amqp.message import where

ASKS = "does it ask for a certificate of ours?"
LOST = pika.exceptions.StreamLostError("Stream connection lost: ConnectionResetError")
ALERT = ssl.SSLError(1, "[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure (_ssl.c:1006)")
OLD = ssl.SSLError(1, "[SSL: UNSUPPORTED_PROTOCOL] unsupported protocol (_ssl.c:1006)")
OTHER = pika.exceptions.IncompatibleProtocolError("a web server")


def told(error: Exception, scheme: str = "amqps") -> str:
    return connecting(error, where(f"{scheme}://mq.example/vh"), "mq.example", "relay").detail


@pytest.mark.parametrize("error", [LOST, ALERT, ConnectionAbortedError()])
def test_a_broker_that_breaks_off_over_tls_may_want_a_certificate(error: Exception) -> None:
    assert ASKS in told(error)
    assert not told(error).startswith("no connection to mq.example:5671: ;")


@pytest.mark.parametrize("error", [OLD, OSError(errno.EHOSTUNREACH, "No route to host"), TimeoutError()])
def test_what_has_another_reason_does_not(error: Exception) -> None:
    assert ASKS not in told(error)


def test_without_tls_there_is_no_certificate_to_ask_for() -> None:
    assert told(LOST, "amqp").endswith("closed the connection before it said a word; is the broker up?")
    assert told(ConnectionAbortedError(), "amqp") == "no connection to mq.example:5672: it was broken off"


def test_a_port_that_speaks_something_else_may_be_the_one_for_tls() -> None:
    assert "its one for amqps:// ?" in told(OTHER, "amqp")
    assert "amqps" not in told(OTHER)
