# SPDX-License-Identifier: Apache-2.0
"""The notification driver `fairlead` of oslo.messaging: notifications go into a durable outbox.

    [oslo_messaging_notifications]
    driver = fairlead

    [fairlead]
    url = https://relay.example

A notification is on disk when `notify` returns, and a thread forwards it to the relay. What cannot be stored
is lost, for a service must not stop; oslo.messaging swallows what drivers raise, so it is logged as an error
here and counted: in `FairleadDriver.status()` and, where it can be written, in the outbox.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairlead.core.oslo import event_of
from fairlead.drivers.oslo import Driver, json_of, read_options
from fairlead.errors import FairleadError, OutboxError
from fairlead.sdk.openstack.losses import Losses
from fairlead.sdk.openstack.settings import Place, keys_of, place_of, source_of
from fairlead.sdk.publishing.publisher import Publisher
from fairlead.sdk.publishing.records import OutboxStatus

log = logging.getLogger("fairlead.oslo")

TRY_AGAIN_SECONDS = 1.0

_publishers: dict[Place, Publisher] = {}


@dataclass(frozen=True, slots=True)
class DriverStatus:
    """How the driver stands in this process.

    Attributes:
        lost: notifications that could not be stored since the driver was loaded.
        error: why none can be stored at the moment, as far as is known; None where they can.
        outbox: how it stands, over all processes that share it; None while it cannot be opened.
    """

    lost: int
    error: str | None
    outbox: OutboxStatus | None


class FairleadDriver(Driver):  # type: ignore[misc]  # oslo.messaging ships no types
    """Loaded by oslo.messaging, once per Notifier; those with equal options share one `Publisher`.

    A mistake in `[fairlead]`, or an outbox that cannot be opened, is logged as an error when it is loaded and
    again with what is lost by it; it does not raise, or oslo.messaging would leave the driver out and say no
    more. Opening is tried again with later notifications.
    """

    def __init__(self, conf: Any, topics: Any, transport: Any) -> None:
        super().__init__(conf, topics, transport)
        self._options = read_options(conf)
        self._publisher: Publisher | None = None
        self._losses = Losses(self._note)
        self._failure: str | None = None
        self._try_at = 0.0
        try:
            self._opened()
        except (FairleadError, OSError) as error:
            log.error("Notifications cannot be stored: %s", error)

    def notify(self, ctxt: Any, msg: Mapping[str, Any], priority: str, retry: int) -> None:
        """Store one notification: on disk on return, or logged and counted as lost. Never raises.

        Args:
            ctxt: the request's context; nothing of it is kept.
            priority: the one in `msg`.
            retry: it is for drivers that connect in here.
        """
        try:
            publisher = self._publisher or self._opened()
            publisher.publish(event_of(json_of(msg), None, self._keys, source=self._source))
        except Exception as error:  # whatever it is: the service goes on, and its operator is told
            self._losses.add(msg, error)
        else:
            self._losses.over()

    def status(self) -> DriverStatus:
        """How it stands; for a health check within the service."""
        try:
            outbox = None if self._publisher is None else self._publisher.status()
        except FairleadError as error:
            return DriverStatus(self._losses.count, str(error), None)
        return DriverStatus(self._losses.count, self._losses.last_error or self._failure, outbox)

    def _opened(self) -> Publisher:
        """The publisher, opened now; a failure is remembered for a second.

        Raises:
            ConfigError: an option is wrong.
            StoreError: the outbox cannot be used.
            OutboxError: neither could be less than a second ago.
        """
        if self._failure is not None and time.monotonic() < self._try_at:
            raise OutboxError(self._failure)
        try:
            self._keys, self._source = keys_of(self._options), source_of(self._options)
            self._publisher = _publisher_at(place_of(self._options))
        except Exception as error:
            self._failure, self._try_at = str(error), time.monotonic() + TRY_AGAIN_SECONDS
            raise
        self._failure = None
        return self._publisher

    def _note(self, count: int, reason: str) -> None:
        if self._publisher is None:
            raise OutboxError("it is not open")
        self._publisher.note_lost(count, reason)


def _publisher_at(place: Place) -> Publisher:
    publisher = _publishers.get(place)
    if publisher is None:
        publisher = Publisher(
            place.url, place.outbox, None, place.api_key, max_bytes=place.max_bytes, ca_file=place.ca_file
        )
        if _publishers.setdefault(place, publisher) is not publisher:  # of two threads one wins
            publisher.close()
    return _publishers[place]
