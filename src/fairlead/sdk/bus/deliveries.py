# SPDX-License-Identifier: Apache-2.0
"""One message of a bus against the inbox, and the signed answer to it (interface, section 8); no broker here.

`open` verifies and reads a message, in the order of arrival; `apply` takes what was opened, in any thread.
Whatever comes of a message, its consumer settles it at the broker, for the relay alone times retries, and

    an answer     applied, duplicate, failed, rejected, chain, fence: the consumer sends it
    None          stale, or no delivery of our relay: nothing is said, so nothing counts as delivered

but where `apply` raises InboxError: then nothing was decided, and the consumer applies it again later.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from fairlead.core.answer import ANSWERS_HEADER, ARRAY, Stale
from fairlead.core.channel import ChannelId
from fairlead.core.codec import FENCE, STRUCTURED
from fairlead.core.event import Event
from fairlead.core.signature import ID, check_secret, verify
from fairlead.core.stamps import FenceStamps, Stamps, read_fence
from fairlead.errors import Problem, TooLarge, UnsupportedMediaType
from fairlead.sdk.bus.answer import BusAnswer
from fairlead.sdk.receiving.applying import Answered, Applier
from fairlead.sdk.receiving.deliveries import media_type_of, read_structured

log = logging.getLogger("fairlead.receiver")

ANSWER_PREFIX = "ack_"


@dataclass(frozen=True, slots=True)
class BusMessage:
    """What a broker handed over.

    Attributes:
        headers: `webhook-timestamp`, `webhook-signature` and `fairlead-answers` as they came, `webhook-id`
            from `message_id`; values of any type, for anybody may write into a queue.
        reply_to: the queue that waits for the answer; None where the message names none.
    """

    headers: Mapping[str, object]
    content_type: str | None
    body: bytes
    reply_to: str | None = None


# gc=False, as of whatever a delivery brings along: it is in no cycle, and thousands are held at once
class BusDelivery(msgspec.Struct, frozen=True, gc=False):
    """A message that our relay has signed.

    Attributes:
        id: its `webhook-id`.
        stamps: with the event; those of a fence without.
        secret: signs the answer; None where none can: the relay will hear nothing.
        joins: the answer may go together with others.
        lane: deliveries of one are applied in the order of arrival; a fence has one of its own.
    """

    id: str
    stamps: FenceStamps
    event: Event | None
    reply_to: str | None
    secret: str | None
    joins: bool
    lane: tuple[ChannelId, str | None]


def check_answering(secrets: Sequence[str], answer_secret: str | None) -> None:
    """Check that deliveries can not only be taken, but answered.

    Raises:
        ValueError: a `whpk_…` without `answer_secret`, or one that signs nothing; it is never shown.
    """
    if answer_secret is None and not all(secret.startswith("whsec_") for secret in secrets):
        raise ValueError(
            "secrets holds a whpk_, which cannot sign answers; on a bus give answer_secret too: "
            "the subscription's config.answer_secret"
        )
    if answer_secret is not None:
        if not answer_secret.startswith("whsec_"):
            raise ValueError("answer_secret does not begin with whsec_")
        check_secret(answer_secret)


class BusDeliveries:
    """Opens and applies the messages of one consumer.

    Args:
        secrets: the subscription's, as for `Receiver`.
        answer_secret: `whsec_…`; signs the answers to what a `whpk_…` verified.
        max_body_bytes: a greater body is not read.

    Raises:
        ValueError: see `check_answering`.
    """

    def __init__(
        self,
        applier: Applier,
        secrets: Sequence[str],
        answer_secret: str | None = None,
        *,
        max_body_bytes: int = 8 * 1024 * 1024,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_answering(secrets, answer_secret)
        self.applier = applier
        self._secrets, self._answer_secret = tuple(secrets), answer_secret
        self._max_body_bytes = max_body_bytes
        self._clock = clock
        self._arrivals: dict[ChannelId, tuple[int, int, int]] = {}

    def take(self, message: BusMessage) -> BusAnswer | None:
        """Open and apply one message. Raises as `apply`."""
        delivery = self.open(message)
        return None if delivery is None else self.apply(delivery)

    def open(self, message: BusMessage) -> BusDelivery | None:
        """Verify and read a message; None, and why in the log at ERROR, if no relay of ours has sent it.

        A signature holds however old it is: on a queue messages wait, and the chain refuses what is old.
        """
        headers = {name: value for name, value in message.headers.items() if isinstance(value, str)}
        try:
            delivery = self._read(message, headers)
        except Problem as problem:
            extra = {"id": str(headers.get(ID))[:200], "detail": problem.detail}
            log.error(
                "A message of the queue is no delivery of a relay; it was dropped: %s", problem, extra=extra
            )
            return None
        if isinstance(delivery.stamps, Stamps):
            self._watch(delivery.stamps)
        return delivery

    def apply(self, delivery: BusDelivery) -> BusAnswer | None:
        """Apply what was opened; the answer, or None if it is stale. Called from many threads at once.

        Raises:
            InboxError: the inbox cannot serve now; nothing was stored, nothing is to be settled yet.
        """
        event, stamps = delivery.event, delivery.stamps
        if event is not None and isinstance(stamps, Stamps):
            return self.answer(delivery, self.applier.apply(event, stamps))
        return self.answer(delivery, self.applier.fence(stamps))

    def answer(self, delivery: BusDelivery, answered: Answered) -> BusAnswer | None:
        """The answer that says what came of a delivery, or None if it is stale."""
        channel = delivery.stamps.channel
        if isinstance(answered, Stale):
            extra = {"subscription": channel.subscription, "partition": channel.partition, "id": delivery.id}
            log.info("A delivery of an epoch that is over was left out", extra=extra)
            return None
        if delivery.secret is None:
            return None
        id, body = ANSWER_PREFIX + delivery.id, answered.encode()
        return BusAnswer(id, channel.subscription, body, delivery.secret, delivery.reply_to, delivery.joins)

    def reconnected(self) -> None:
        """Another process may have had the queue meanwhile: what it took is not missing."""
        self._arrivals.clear()

    def _read(self, message: BusMessage, headers: Mapping[str, str]) -> BusDelivery:
        size = len(message.body)
        if size > self._max_body_bytes:
            limit = {"limit_bytes": self._max_body_bytes}
            raise TooLarge(f"the body has {size} bytes; {self._max_body_bytes} are taken", members=limit)
        secret = verify(self._secrets, headers, message.body, self._clock(), math.inf)
        media_type = media_type_of(message.content_type or "")
        stamps: FenceStamps
        event: Event | None = None
        if media_type == STRUCTURED:
            event, stamps = read_structured(message.body)
        elif media_type == FENCE:
            stamps = read_fence(message.body)
        else:
            raise UnsupportedMediaType(f"content-type {media_type!r}: on a bus come single events and fences")
        answers = secret if secret.startswith("whsec_") else self._answer_secret
        lane = (stamps.channel, None if event is None else event.key)
        joins = headers.get(ANSWERS_HEADER) == ARRAY
        return BusDelivery(headers[ID].strip(), stamps, event, message.reply_to, answers, joins, lane)

    def _watch(self, stamps: Stamps) -> None:
        """Rule 2: a jump of `seq` says early that the bus has lost something; the chain needs no hint."""
        if stamps.seq is None:
            return
        now = (stamps.generation, stamps.epoch, stamps.seq)
        before = self._arrivals.get(stamps.channel)
        self._arrivals[stamps.channel] = max(now, before or now)
        if before is not None and before[:2] == now[:2] and now[2] > before[2] + 1:
            extra = {
                "subscription": stamps.channel.subscription,
                "partition": stamps.channel.partition,
                "missed": now[2] - before[2] - 1,
            }
            log.warning("The bus lost deliveries; the relay will send them again", extra=extra)
