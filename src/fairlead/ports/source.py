# SPDX-License-Identifier: Apache-2.0
"""The port to queues that events are taken from (design, sections 3 and 9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from fairlead.core.source_message import SourceMessage


class Received(msgspec.Struct, frozen=True):
    """One message that is here and not yet acknowledged.

    Attributes:
        attachment: grows whenever messages may come again: what came under a smaller number and is not
            acknowledged will.
        ticket: the adapter's, to acknowledge by.
        redelivered: the broker says that somebody may have had it before.
    """

    message: SourceMessage
    attachment: int = 0
    ticket: object = None
    redelivered: bool = False


class SourceHealth(msgspec.Struct, frozen=True):
    """Whether messages can come at this moment.

    Attributes:
        detail: why not, one sentence with what to do, never a secret; "" while it is up.
        begins: it is on its way up, and nothing is wrong so far.
    """

    up: bool
    detail: str = ""
    begins: bool = False


class Source(Protocol):
    """One queue, kept up by itself from `open` to `close`: it connects again and again, for ever.

    Every method is for the event loop's thread and, but for `close`, returns at once.
    """

    @property
    def health(self) -> SourceHealth: ...

    def open(self, take: Callable[[Received], None], changed: Callable[[], None]) -> None:
        """Begin: messages go to `take` in the queue's order, `changed` is called when the health changes.

        There are never more unacknowledged messages of one attachment than the source's prefetch.
        """

    def acknowledge(self, received: Received) -> None:
        """The message is done with, and the broker may forget it.

        After the connection in which it came has ended this does nothing: the message comes again.
        """

    async def close(self) -> None:
        """Take no more, send the acknowledgements that were given, let go; idempotent.

        What was not acknowledged stays in the queue, in its place.
        """
