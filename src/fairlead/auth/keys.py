# SPDX-License-Identifier: Apache-2.0
"""API keys: `flk_` and 32 letters or digits, stored hashed, shown once (interface, section 6)."""

from __future__ import annotations

import asyncio
import binascii
import hmac
import logging
import os
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from fairlead.core.policy import Grant, Principal
from fairlead.errors import FairleadError, Unauthenticated
from fairlead.ports import ApiKey, Clock, Credentials, Keys

PREFIX = "flk_"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
LENGTH = 32
FRESH_SECONDS = 10.0
"""So long a key that was found is taken without asking the store again."""
TOUCH_SECONDS = 60.0
"""`last_used_at` is written at most so often."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Known:
    """A key that was found: whose it is, until when it counts as fresh, when its use was noted last."""

    key: ApiKey
    principal: Principal
    fresh_until: float
    touched: float


class KeyAuthenticator:
    """Logs callers in by `Authorization: Bearer flk_…`, or Basic with any user name and the key as password.

    Makes, lists and revokes keys too, and so knows whether authentication is configured: whether there is a
    `bootstrap_key`, or any key. Call `load` before anything else.

    Args:
        bootstrap_key: one key that may do everything.
        on_first_key: called when the first key is made, before anybody gets it.
        random_bytes: `os.urandom`, for keys and their ids.
    """

    def __init__(
        self,
        keys: Keys,
        clock: Clock,
        *,
        bootstrap_key: str | None = None,
        on_first_key: Callable[[], None] | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._bootstrap = None if bootstrap_key is None else digest_of(bootstrap_key)
        self._on_first_key = on_first_key
        self._random_bytes = random_bytes
        self._count = 0
        self._revoked = 0
        self._known: dict[bytes, _Known] = {}
        self._touching: set[asyncio.Task[None]] = set()

    @property
    def configured(self) -> bool:
        """Whether every call needs a login."""
        return self._bootstrap is not None or self._count > 0

    async def load(self) -> None:
        """Learn from the store whether there are keys. Raises StoreError."""
        self._count = len(await self._keys.keys())

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Whose key it is; None where the login is no API key.

        Raises:
            Unauthenticated: a key that is unknown, revoked or expired.
        """
        token = _token(credentials.headers.get("authorization", ""))
        if token is None:
            return None
        digest = digest_of(token)
        if self._bootstrap is not None and hmac.compare_digest(digest, self._bootstrap):
            return Principal("bootstrap", (Grant(("admin",)),))
        if not token.startswith(PREFIX):
            return None
        known = await self._find(digest)
        now = self._clock.now()
        if known.key.expires_at is not None and now >= known.key.expires_at:
            raise Unauthenticated(f"the API key {known.key.name!r} has expired; ask for a new one")
        if now - known.touched >= TOUCH_SECONDS:
            known.touched = now
            self._touch(known.key.id, now)
        return known.principal

    # -- making and revoking ---------------------------------------------------------------------------

    async def make(
        self, name: str, grants: Sequence[Grant], expires_at: float | None = None
    ) -> tuple[str, ApiKey]:
        """Store a new key; the key itself is in the answer and nowhere else.

        Args:
            expires_at: Unix seconds, None for never.
        """
        text = new_key(self._random_bytes)
        key = ApiKey(
            id="k-" + self._random_bytes(8).hex(),
            name=name,
            digest=digest_of(text),
            grants=tuple(grants),
            created_at=self._clock.now(),
            expires_at=expires_at,
        )
        await self._keys.add_key(key)
        first = not self.configured
        self._count += 1
        if first and self._on_first_key is not None:
            self._on_first_key()
        _log.info("API key made", extra={"key_id": key.id, "key_name": name})
        return text, key

    async def keys(self) -> list[ApiKey]:
        """Every key, by creation time."""
        return await self._keys.keys()

    async def revoke(self, id: str) -> bool:
        """Delete a key; calls with it are refused from now on. False where there was none."""
        if not await self._keys.delete_key(id):
            return False
        self._count -= 1
        self._revoked += 1
        self._known = {digest: known for digest, known in self._known.items() if known.key.id != id}
        _log.info("API key revoked", extra={"key_id": id})
        return True

    # -- how -------------------------------------------------------------------------------------------

    async def _find(self, digest: bytes) -> _Known:
        known = self._known.get(digest)
        now = self._clock.monotonic()
        if known is not None and now < known.fresh_until:
            return known
        revoked = self._revoked
        key = await self._keys.find_key(digest)
        if key is None:
            self._known.pop(digest, None)
            raise Unauthenticated("the API key is not known; it may have been revoked")
        touched = known.touched if known is not None else key.last_used_at or 0.0
        found = _Known(key, Principal(key.name, key.grants), now + FRESH_SECONDS, touched)
        if revoked == self._revoked:  # else it may have been read before it was revoked
            self._known[digest] = found
        return found

    def _touch(self, id: str, now: float) -> None:
        async def touch() -> None:
            try:
                await self._keys.touch_key(id, now)
            except FairleadError as error:  # a login does not fail for want of a note
                _log.warning("use of an API key not noted", extra={"key_id": id, "detail": str(error)})

        task = asyncio.get_running_loop().create_task(touch())
        self._touching.add(task)
        task.add_done_callback(self._touching.discard)


def new_key(random_bytes: Callable[[int], bytes]) -> str:
    """A fresh key of 32 evenly drawn letters and digits (190 bits)."""
    letters: list[str] = []
    fair = 256 - 256 % len(LETTERS)  # above it some letters would come more often
    while len(letters) < LENGTH:
        letters += [LETTERS[byte % len(LETTERS)] for byte in random_bytes(2 * LENGTH) if byte < fair]
    return PREFIX + "".join(letters[:LENGTH])


def digest_of(key: str) -> bytes:
    """What is stored of a key. It is as good as random, so one hash is enough; no salt, no stretching."""
    return blake2b(key.encode(), digest_size=32).digest()


def _token(authorization: str) -> str | None:
    """The key in an `Authorization` header, None where there is none of the two kinds."""
    scheme, _, value = authorization.strip().partition(" ")
    scheme, value = scheme.lower(), value.strip()
    if scheme == "bearer":
        return value or None
    if scheme != "basic":
        return None
    try:
        _, colon, password = b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Unauthenticated("the Basic login is not base64 of user:key in UTF-8") from None
    return password if colon and password else None
