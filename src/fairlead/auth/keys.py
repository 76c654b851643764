# SPDX-License-Identifier: Apache-2.0
"""API keys: made, shown once, kept hashed, asked for at every call (design, section 8; interface, section 6).

A key is `flk_` and 32 letters or digits, 190 bits of randomness: a plain SHA-256 of it cannot be searched, so
it needs no salt and no slow hash. It comes as `Authorization: Bearer flk_…`, or as the password of Basic.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import logging
import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass

from fairlead.core.policy import Grant, Principal
from fairlead.errors import Fault, StoreBusy, StoreError, StoreFull, Unauthenticated
from fairlead.ports import ApiKey, Clock, Credentials, Keys

PREFIX = "flk_"
LENGTH = 32
CACHE_SECONDS = 5.0
TOUCH_SECONDS = 60.0
MOST_CACHED = 10_000

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_KEY = re.compile(r"flk_[A-Za-z0-9]{32}")
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Known:
    """A key that was found a moment ago."""

    key: ApiKey
    principal: Principal
    looked_up_at: float
    touched_at: float


class ApiKeys:
    """The keys of a store, and the authenticator that knows them.

    A key that was found is remembered for `CACHE_SECONDS`, so that another node's revocation counts after
    that; a revocation through this object counts at once.

    Args:
        bootstrap_key: one more key, of the configuration, that may do everything.
        random_bytes: `os.urandom`.

    Raises:
        ValueError: `bootstrap_key` does not look like a key.
    """

    def __init__(
        self,
        keys: Keys,
        clock: Clock,
        *,
        random_bytes: Callable[[int], bytes],
        bootstrap_key: str | None = None,
    ) -> None:
        if bootstrap_key is not None and not is_key(bootstrap_key):
            raise ValueError(f"must be {PREFIX} and {LENGTH} letters or digits")
        self._keys = keys
        self._clock = clock
        self._random_bytes = random_bytes
        self._bootstrap = None if bootstrap_key is None else digest_of(bootstrap_key)
        self._known: dict[bytes, _Known] = {}
        self._version = 0
        self._any: bool | None = None
        self._any_asked_at = float("-inf")

    async def configured(self) -> bool:
        """Whether authentication is configured: by the bootstrap key, or because a key exists."""
        if self._bootstrap is not None:
            return True
        now = self._clock.monotonic()
        if self._any is None or now - self._any_asked_at > CACHE_SECONDS:
            version = self._version
            found = bool(await self._keys.keys())
            if version != self._version:
                return await self.configured()
            self._any, self._any_asked_at = found, now
        return self._any

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Whoever holds the key that was presented; None where it is no API key at all.

        Raises:
            Unauthenticated: a key that there is not, or no longer.
        """
        presented = presented_key(credentials.headers.get("authorization"))
        if presented is None:
            return None
        digest = digest_of(presented)
        if self._bootstrap is not None and hmac.compare_digest(digest, self._bootstrap):
            return BOOTSTRAP
        known = await self._find(digest)
        if known is None:
            raise _refused("the API key is unknown or was revoked")
        now = self._clock.now()
        if known.key.expires_at is not None and now >= known.key.expires_at:
            raise _refused(f"the API key {known.key.name!r} has expired")
        if now - known.touched_at >= TOUCH_SECONDS:
            known.touched_at = now
            await self._touch(known.key.id, now)
        return known.principal

    async def add(self, name: str, grants: tuple[Grant, ...], expires_at: float | None) -> tuple[ApiKey, str]:
        """Make a key; the second value is the key itself, which is not kept."""
        text = new_key(self._random_bytes)
        id = "k-" + self._random_bytes(8).hex()
        key = ApiKey(id, name, digest_of(text), grants, self._clock.now(), expires_at)
        await self._keys.add_key(key)
        self._forget()
        _log.info("API key made", extra={"key": id, "key_name": name})
        return key, text

    async def list(self) -> list[ApiKey]:
        """Every key of the store."""
        return await self._keys.keys()

    async def revoke(self, id: str) -> bool:
        """Delete a key; whether there was one. No call that comes in later is let in with it."""
        found = await self._keys.delete_key(id)
        self._forget()
        if found:
            _log.info("API key revoked", extra={"key": id})
        return found

    async def _find(self, digest: bytes) -> _Known | None:
        now = self._clock.monotonic()
        known = self._known.get(digest)
        if known is not None and now - known.looked_up_at <= CACHE_SECONDS:
            return known
        version = self._version
        key = await self._keys.find_key(digest)
        if key is None or not hmac.compare_digest(key.digest, digest):
            self._known.pop(digest, None)
            return None
        touched_at = known.touched_at if known is not None else key.last_used_at or float("-inf")
        found = _Known(key, Principal(key.name, key.grants), now, touched_at)
        if version == self._version:  # else a key was revoked meanwhile: ask again next time
            if len(self._known) >= MOST_CACHED:
                self._known.clear()
            self._known[digest] = found
        return found

    async def _touch(self, id: str, now: float) -> None:
        """Note the use; a store that cannot is no reason to refuse a good key."""
        try:
            await self._keys.touch_key(id, now)
        except (StoreBusy, StoreFull, StoreError) as error:
            _log.warning("use of an API key not noted", extra={"key": id, "detail": str(error)})

    def _forget(self) -> None:
        self._version += 1
        self._known.clear()
        self._any = None


BOOTSTRAP = Principal("bootstrap", (Grant(("admin",)),))
"""Whoever holds `[auth] bootstrap_key`."""


def new_key(random_bytes: Callable[[int], bytes]) -> str:
    """A new key, every character equally likely."""
    text = ""
    while len(text) < LENGTH:
        # Bytes beyond a multiple of 62 would favour some characters.
        text += "".join(_ALPHABET[byte % 62] for byte in random_bytes(LENGTH) if byte < 248)
    return PREFIX + text[:LENGTH]


def is_key(text: str) -> bool:
    """Whether a text looks like a key."""
    return _KEY.fullmatch(text) is not None


def digest_of(key: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).digest()


def presented_key(authorization: str | None) -> str | None:
    """The key of an `Authorization` header; None where it presents something else.

    Raises:
        Unauthenticated: it begins like a key and is none.
    """
    scheme, _, value = (authorization or "").strip().partition(" ")
    value = value.strip()
    if scheme.lower() == "basic":
        value = _password(value)
    elif scheme.lower() != "bearer":
        return None
    if not value.startswith(PREFIX):
        return None
    if not is_key(value):
        raise _refused(f"the API key is malformed: a key is {PREFIX} and {LENGTH} letters or digits")
    return value


def _password(value: str) -> str:
    try:
        return b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def _refused(detail: str) -> Unauthenticated:
    hint = "POST /keys makes one, `fairlead keys add` too"
    fault = Fault(header="authorization", detail="is not accepted", hint=hint)
    return Unauthenticated(detail, faults=[fault])
