# SPDX-License-Identifier: Apache-2.0
"""Imagefactory's HTTP PUT callbacks as events (interface, section 6).

Imagefactory sends each status of an image once, ignores the answer and never tries again. So what cannot be
understood is kept as a reject, and what is answered 204 is on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b

import msgspec

from fairlead.bridges.imagefactory_secrets import TooManySecrets, redact, redact_blindly
from fairlead.core.attributes import check_attributes
from fairlead.core.event import Event
from fairlead.core.json_text import check_value, value_of
from fairlead.core.log import Appended
from fairlead.core.payload import check_coding
from fairlead.core.policy import Principal
from fairlead.engine.ingest import Ingest
from fairlead.engine.reject_ids import RejectIds
from fairlead.engine.sourcing.inlet import reason_of
from fairlead.errors import Fault, Forbidden, InvalidEvent, MalformedJson, UnsupportedMediaType
from fairlead.ports import Clock, Reject, Store

SOURCE = "/imagefactory"
OBJECTS = ("base_image", "target_image", "provider_image")
SAME_STATUS = {"completed": "complete", "pushing": "building"}
PATH_HEADER = ":path"
_UNKEPT = frozenset({"authorization", "proxy-authorization", "cookie"})
_LOCKS = 64


class Last(msgspec.Struct, frozen=True):
    """What is remembered of an image and path: the last body, its event, and the event before that one."""

    digest: str
    event: str
    before: str


class ImagefactoryBridge:
    """Takes callbacks.

    Args:
        random_bytes: `os.urandom`, for the ids of rejects.
    """

    source = SOURCE

    def __init__(
        self, ingest: Ingest, store: Store, clock: Clock, *, random_bytes: Callable[[int], bytes]
    ) -> None:
        self._ingest = ingest
        self._store = store
        self._clock = clock
        self._reject_ids = RejectIds(random_bytes)
        self._locks = [asyncio.Lock() for _ in range(_LOCKS)]

    async def take(
        self, principal: Principal, path: str, headers: Mapping[str, str], body: bytes
    ) -> Sequence[Appended]:
        """Translate a callback and store it; on disk on return.

        Args:
            path: what follows `/bridges/imagefactory/`, raw: double slashes and escapes as they came.

        Raises:
            MalformedJson, InvalidEvent: not a callback; it was kept as a reject.
            UnsupportedMediaType: it is compressed; a reject says so, without the body.
            Forbidden, StoreFull, StoreBusy, Overloaded, Stopping: as `Ingest.accept`.
        """
        _require(principal)
        try:
            check_coding(headers.get("content-encoding", ""))
            callback = read_callback(path, body)
        except (MalformedJson, InvalidEvent, UnsupportedMediaType) as problem:
            hides = isinstance(problem, TooManySecrets | UnsupportedMediaType)  # credentials, from us as well
            kept = b"" if hides else redact_blindly(body)
            await self._keep(path, headers, kept, len(body), reason_of(problem))
            raise
        return await self._store_callback(principal, callback)

    async def keep_beginning(
        self, principal: Principal, path: str, headers: Mapping[str, str], body: bytes, size_bytes: int
    ) -> None:
        """Keep the beginning of a callback that is too large, as a reject. Raises Forbidden."""
        _require(principal)
        reason = f"the body has {size_bytes} bytes; only the first {len(body)} are kept (limits.event_bytes)"
        await self._keep(path, headers, redact_blindly(body, cut=True), size_bytes, reason)

    async def take_again(self, principal: Principal, reject: Reject) -> Sequence[Appended]:
        """Translate a reject anew; the caller deletes it. Raises as `take`, and keeps nothing."""
        callback = read_callback(reject.headers.get(PATH_HEADER, ""), reject.body)
        return await self._store_callback(principal, callback)

    async def _store_callback(self, principal: Principal, callback: Callback) -> Sequence[Appended]:
        remembered_as = f"{callback.path}\0{callback.image}"
        # One at a time per image and path: the id of each depends on the one before.
        async with self._locks[hash(remembered_as) % _LOCKS]:
            note = await self._store.note("imagefactory", remembered_as)
            last = following(callback, None if note is None else msgspec.json.decode(note, type=Last))
            # Stored before the event: a note without its event costs nothing, but after an event without its
            # note a return to the state before it would look like a repeat and be lost.
            await self._store.note("imagefactory", remembered_as, msgspec.json.encode(last).decode())
            return await self._ingest.accept(principal, [callback.event(last.event)])

    async def _keep(
        self, path: str, headers: Mapping[str, str], body: bytes, size_bytes: int, reason: str
    ) -> None:
        now = self._clock.now()
        kept = {name: value for name, value in headers.items() if name not in _UNKEPT}
        id = self._reject_ids.next(now)
        reject = Reject(id, SOURCE, now, reason, {PATH_HEADER: path, **kept}, body, size_bytes)
        await self._store.rejects.add_reject(reject)


class Callback(msgspec.Struct, frozen=True):
    """One callback, understood and without its secrets.

    Attributes:
        path: as it came, raw.
        kind: `target_image` and the like.
        image: Imagefactory's id of it.
        status: in lower case, in one spelling.
        body: the JSON text, credentials in callback URLs replaced.
    """

    path: str
    kind: str
    image: str
    status: str
    body: bytes

    @property
    def digest(self) -> str:
        """Tells one body from another."""
        return blake2b(self.body, digest_size=16).hexdigest()

    def event(self, id: str) -> Event:
        """The event, under an id."""
        return Event.of(self.attributes(id), self.body, "json")

    def attributes(self, id: str) -> dict[str, str | int | bool]:
        """The event's attributes."""
        return {
            "specversion": "1.0",
            "id": id,
            "source": SOURCE,
            "type": f"org.imagefactory.{self.kind}.{self.status}",
            "subject": self.image,
            "datacontenttype": "application/json",
            "imagefactorypath": self.path,
        }


def read_callback(path: str, body: bytes) -> Callback:
    """Understand a callback.

    Raises:
        MalformedJson: not JSON. InvalidEvent: not an object with one image that has an id and a status.
    """
    check_value(body, "")
    document = value_of(body)
    kind = next(iter(document)) if isinstance(document, dict) and len(document) == 1 else None
    if kind not in OBJECTS or not isinstance(document[kind], dict):
        raise _invalid("", f"must be an object with one object in it, {', '.join(OBJECTS)}")
    image, status = document[kind].get("id"), document[kind].get("status")
    if not isinstance(image, str) or not image:
        raise _invalid(f"/{kind}/id", "must be a string that is not empty")
    if not isinstance(status, str) or not (status.isascii() and status.replace("_", "").isalnum()):
        raise _invalid(f"/{kind}/status", "must be a word, such as COMPLETE")
    lowered = status.lower()
    callback = Callback(path, kind, image, SAME_STATUS.get(lowered, lowered), redact(body, document))
    check_attributes(callback.attributes("-"))
    return callback


def following(callback: Callback, last: Last | None) -> Last:
    """What is to be remembered after a callback: its event's id is in it.

    A repeat of the last body has the last event's id, and so is a duplicate; any other body gets an id that
    no event of this image and path had before, also when that state was there already.
    """
    if last is not None and last.digest == callback.digest:
        before = last.before
    else:
        before = "" if last is None else last.event
    return Last(callback.digest, event_id(callback.path, callback.body, before), before)


def event_id(path: str, body: bytes, before: str) -> str:
    """BLAKE2b-128 in hex of path, redacted body and the event before, each followed by a zero byte."""
    return blake2b(b"%b\0%b\0%b\0" % (path.encode(), body, before.encode()), digest_size=16).hexdigest()


def _require(principal: Principal) -> None:
    """Refuse a stranger before anything of his is kept."""
    if not principal.may("publish", source=SOURCE):
        raise Forbidden(f"{principal.name!r} may not publish from source {SOURCE!r}")


def _invalid(pointer: str, detail: str) -> InvalidEvent:
    fault = Fault(pointer=pointer, detail=detail)
    return InvalidEvent(f"not a callback of Imagefactory: {pointer or 'the body'} {detail}", faults=[fault])
