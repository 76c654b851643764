# SPDX-License-Identifier: Apache-2.0
"""The attributes that the relay puts on a delivery, as the receiver reads them (design, section 6).

On the wire they are CloudEvents Strings of decimal digits, for CloudEvents integers have 32 bits only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from operator import itemgetter
from typing import Annotated, TypeVar

import msgspec

from fairlead.core.attributes import AttributeValue
from fairlead.core.channel import ChannelId
from fairlead.errors import Fault, InvalidEvent, MalformedJson

T = TypeVar("T")
Digits = Annotated[str, msgspec.Meta(pattern=r"^(0|[1-9][0-9]{0,17})$")]


# gc=False, as of whatever a delivery brings along: it is in no cycle, and thousands are held at once
class FenceStamps(msgspec.Struct, frozen=True, gc=False):
    """What a fence delivery carries, and every event too.

    Attributes:
        channel: `flsubscription` and `flpartition`.
        generation, epoch: compared as a pair.
        floor: everything at or below is settled: the receiver may forget it.
    """

    channel: ChannelId
    generation: int
    epoch: int
    floor: int


class Stamps(FenceStamps, frozen=True, gc=False):
    """What an event's delivery carries.

    Attributes:
        pos: the event's position; strictly increasing within a key.
        prev: the greatest unsettled position of the same key below `pos`, else 0.
        seq: 1, 2, 3 … per channel and epoch on a bus; None over REST.
        skipped: positions of the key that were skipped just before `pos`, at most 32, newest last.
    """

    pos: int
    prev: int
    seq: int | None = None
    skipped: tuple[int, ...] = ()

    def attributes(self) -> dict[str, str]:
        """The stamps as the CloudEvents attributes they came as; what does not apply is left out."""
        named = {
            "flsubscription": self.channel.subscription,
            "flpartition": str(self.channel.partition),
            "flpos": str(self.pos),
            "flprev": str(self.prev),
            "flgeneration": str(self.generation),
            "flepoch": str(self.epoch),
            "flfloor": str(self.floor),
        }
        if self.seq is not None:
            named["flseq"] = str(self.seq)
        if self.skipped:
            named["flskipped"] = " ".join(map(str, self.skipped))
        return named


class _Fence(msgspec.Struct, frozen=True):
    flsubscription: Annotated[str, msgspec.Meta(min_length=1)]
    flpartition: Digits
    flgeneration: Digits
    flepoch: Digits
    flfloor: Digits


class _Event(_Fence, frozen=True):
    flpos: Digits
    flprev: Digits
    flseq: Digits | None = None
    flskipped: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,18}( [0-9]{1,18}){0,31}$")] | None = None


def read_stamps(body: bytes) -> Stamps:
    """The stamps of one event in the JSON format.

    Raises:
        MalformedJson: the body is not JSON.
        InvalidEvent: a stamp is missing or not decimal digits: this is no delivery of a relay.
    """
    return _event(_decode(body, _one))


def stamps_among(attributes: Mapping[str, AttributeValue]) -> Stamps | None:
    """The stamps among the attributes of one event, where they are as relays mostly write them.

    None is for `read_stamps` to tell: one is missing or wrong, or the event has skips before it.
    """
    if "flskipped" in attributes:
        return None
    try:
        subscription, *required = _named(attributes)
        numbers = " ".join((*required, attributes.get("flseq", "0")))  # type: ignore[arg-type]  # else TypeError
    except (KeyError, TypeError):
        return None
    if not subscription or not isinstance(subscription, str) or not _seven_numbers(numbers):
        return None
    partition, generation, epoch, floor, pos, prev, seq = map(int, numbers.split())
    channel = ChannelId(subscription, partition)
    return Stamps(channel, generation, epoch, floor, pos, prev, seq if "flseq" in attributes else None)


def read_batch_stamps(body: bytes) -> list[Stamps]:
    """The stamps of each event of a batch, in order. Raises as `read_stamps`."""
    return [_event(stamps) for stamps in _decode(body, _many)]


def read_fence(body: bytes) -> FenceStamps:
    """The stamps of a fence delivery. Raises as `read_stamps`."""
    return FenceStamps(*_fence(_decode(body, _fence_only)))


def _fence(raw: _Fence) -> tuple[ChannelId, int, int, int]:
    channel = ChannelId(raw.flsubscription, int(raw.flpartition))
    return channel, int(raw.flgeneration), int(raw.flepoch), int(raw.flfloor)


def _event(raw: _Event) -> Stamps:
    return Stamps(
        *_fence(raw),
        pos=int(raw.flpos),
        prev=int(raw.flprev),
        seq=None if raw.flseq is None else int(raw.flseq),
        skipped=tuple(map(int, raw.flskipped.split())) if raw.flskipped else (),
    )


def _decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        hint = "a Receiver takes structured deliveries of a relay; set the subscription's mode to structured"
        raise InvalidEvent(
            f"the delivery lacks the relay's attributes: {error}",
            faults=[Fault(detail=str(error), hint=hint)],
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedJson(f"the body is not JSON: {error}") from error


_named = itemgetter("flsubscription", "flpartition", "flgeneration", "flepoch", "flfloor", "flpos", "flprev")
_seven_numbers = re.compile(r"(?:0|[1-9][0-9]{0,17})(?: (?:0|[1-9][0-9]{0,17})){6}").fullmatch
_one = msgspec.json.Decoder(_Event)
_many = msgspec.json.Decoder(list[_Event])
_fence_only = msgspec.json.Decoder(_Fence)
