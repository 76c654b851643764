# SPDX-License-Identifier: Apache-2.0
"""Standard Webhooks 1.0 signatures: `v1` (HMAC-SHA256) and `v1a` (Ed25519).

What is signed is `{webhook-id}.{webhook-timestamp}.{body}`: the bytes that are sent, and the attempt's time.

| secret   | holds                                    | signs | verifies |
|----------|------------------------------------------|-------|----------|
| `whsec_` | 24 to 64 random bytes                    | `v1`  | `v1`     |
| `whsk_`  | an Ed25519 seed, mostly with its public key (64 bytes) | `v1a` | `v1a` |
| `whpk_`  | an Ed25519 public key (32 bytes)         |       | `v1a`    |
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fairlead.errors import Fault, InvalidSecret, SignatureError

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
TOLERANCE_SECONDS = 300

_SHARED, _PRIVATE, _PUBLIC = "whsec_", "whsk_", "whpk_"


class Signer:
    """Signs deliveries with one or, during a rotation, several secrets; keys are prepared once.

    Args:
        secrets: `whsec_…` or `whsk_…`, newest first.

    Raises:
        InvalidSecret: a secret cannot sign; the message says why and never holds it.
    """

    __slots__ = ("_sign",)

    def __init__(self, secrets: Iterable[str]) -> None:
        self._sign = [_signing(secret) for secret in secrets]
        if not self._sign:
            raise InvalidSecret("a delivery needs at least one secret to be signed with")

    def header(self, message_id: str, timestamp: int, body: bytes) -> str:
        """The value of `webhook-signature`: one signature per secret, separated by spaces.

        Args:
            message_id: the `webhook-id`, the same on each retry.
            timestamp: the `webhook-timestamp`: whole Unix seconds of this attempt.
            body: the bytes that are sent.

        Raises:
            ValueError: `message_id` holds a full stop or nothing; a signature could be read in two ways.
        """
        if "." in message_id or not message_id:
            raise ValueError(f"a webhook-id holds no full stop and is not empty: {message_id!r}")
        content = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
        return " ".join([sign(content) for sign in self._sign])


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """One signature, `v1,…` or `v1a,…`. Arguments and errors as `Signer` and its `header`."""
    return Signer([secret]).header(message_id, timestamp, body)


def verify(
    secrets: Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    now: float,
    tolerance_seconds: float = TOLERANCE_SECONDS,
) -> str:
    """Check that a message was signed, with any of the secrets, at about `now`; compared in constant time.

    Args:
        secrets: `whsec_…`, `whpk_…` or `whsk_…`; during a rotation several.
        headers: of the request; names in any case.
        now: Unix seconds.
        tolerance_seconds: how far `webhook-timestamp` may be from `now`, either way; `math.inf` where a
            message may wait in a queue.

    Returns:
        the secret that verified it.

    Raises:
        SignatureError: a header is missing or malformed, the time is too far off, or no signature fits.
        InvalidSecret: a secret is not one.
    """
    named = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp = _header(named, ID), _header(named, TIMESTAMP)
    if "." in message_id:
        raise _refused(ID, "holds a full stop: what is signed could be read in two ways")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 15):
        raise _refused(TIMESTAMP, "is not whole Unix seconds")
    if abs(now - int(timestamp)) > tolerance_seconds:
        late = "in the past" if int(timestamp) < now else "in the future"
        detail = f"is {abs(now - int(timestamp)):.0f} s {late}; at most {tolerance_seconds:.0f} s are taken"
        raise _refused(TIMESTAMP, detail, "set both clocks by NTP; never send an old signature again")
    content = f"{message_id}.{timestamp}.".encode() + body
    signatures = [one.partition(",") for one in _header(named, SIGNATURE).split()]
    for secret in secrets:
        version, fits = _verifying(secret)
        for given, _, text in signatures:
            if given == version and fits(content, text):
                return secret
    hint = "check the secret, and that the body is verified as it came"
    raise _refused(SIGNATURE, "fits none of the secrets", hint)


def check_secret(secret: str) -> None:
    """Check that a secret can sign. Raises InvalidSecret, saying why without showing it."""
    _signing(secret)


def check_verifying(secret: str) -> None:
    """Check that a secret can verify. Raises InvalidSecret, saying why without showing it."""
    _verifying(secret)


def new_secret(random_bytes: bytes) -> str:
    """A `whsec_…` of 24 to 64 random bytes. Raises InvalidSecret for another number of them."""
    secret = _SHARED + b64encode(random_bytes).decode()
    check_secret(secret)
    return secret


def new_signing_key(random_bytes: bytes) -> str:
    """A `whsk_…` of 32 random bytes. Raises InvalidSecret for another number of them."""
    if len(random_bytes) != 32:
        raise InvalidSecret(f"an Ed25519 key is made of 32 random bytes, not of {len(random_bytes)}")
    public = Ed25519PrivateKey.from_private_bytes(random_bytes).public_key().public_bytes_raw()
    return _PRIVATE + b64encode(random_bytes + public).decode()


def public_key(signing_key: str) -> str:
    """The `whpk_…` with which a receiver verifies what a `whsk_…` signs. Raises InvalidSecret."""
    if not signing_key.startswith(_PRIVATE):
        raise InvalidSecret(f"only a {_PRIVATE} has a public key")
    return _PUBLIC + b64encode(_private_key(signing_key).public_key().public_bytes_raw()).decode()


@lru_cache(maxsize=256)
def _signing(secret: str) -> Callable[[bytes], str]:
    if secret.startswith(_SHARED):
        prepared = hmac.new(_shared_key(secret), digestmod="sha256")

        def sign_shared(content: bytes) -> str:
            code = prepared.copy()
            code.update(content)
            return "v1," + b64encode(code.digest()).decode()

        return sign_shared
    if secret.startswith(_PRIVATE):
        key = _private_key(secret)
        return lambda content: "v1a," + b64encode(key.sign(content)).decode()
    if secret.startswith(_PUBLIC):
        raise InvalidSecret(f"a {_PUBLIC} only verifies; give the {_PRIVATE} to sign")
    raise _unknown()


@lru_cache(maxsize=256)
def _verifying(secret: str) -> tuple[str, Callable[[bytes, str], bool]]:
    """The version of signature that a secret verifies, and how."""
    if secret.startswith(_SHARED):
        sign_shared = _signing(secret)
        return "v1", lambda content, text: hmac.compare_digest(sign_shared(content), f"v1,{text}")
    if secret.startswith(_PRIVATE):
        key = _private_key(secret).public_key()
    elif secret.startswith(_PUBLIC):
        key = Ed25519PublicKey.from_public_bytes(_bytes_of(secret, _PUBLIC, (32,)))
    else:
        raise _unknown()

    def fits(content: bytes, text: str) -> bool:
        try:
            key.verify(a2b_base64(text, strict_mode=True), content)
        except (InvalidSignature, ValueError):
            return False
        return True

    return "v1a", fits


def _shared_key(secret: str) -> bytes:
    return _bytes_of(secret, _SHARED, range(24, 65))


def _private_key(secret: str) -> Ed25519PrivateKey:
    """The key of a `whsk_…`: the seed alone or, as other libraries write it, before its public key."""
    seed = _bytes_of(secret, _PRIVATE, (32, 64))
    key = Ed25519PrivateKey.from_private_bytes(seed[:32])
    if seed[32:] not in (b"", key.public_key().public_bytes_raw()):
        raise InvalidSecret(f"the two halves of the {_PRIVATE} do not belong together; copy it again")
    return key


def _bytes_of(secret: str, prefix: str, lengths: Sequence[int]) -> bytes:
    try:
        raw = a2b_base64(secret.removeprefix(prefix), strict_mode=True)
    except ValueError:
        raise InvalidSecret(f"what follows {prefix} is not padded base64; copy the whole secret") from None
    if len(raw) not in lengths:
        wanted = f"{lengths[0]} to {lengths[-1]}" if len(lengths) > 2 else " or ".join(map(str, lengths))
        raise InvalidSecret(f"a {prefix} holds {wanted} bytes in base64, this one {len(raw)}")
    return raw


def _unknown() -> InvalidSecret:
    return InvalidSecret(
        f"a secret begins with {_SHARED} or {_PRIVATE}; one that only verifies, with {_PUBLIC}"
    )


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "").strip()
    if not value:
        raise _refused(name, "is missing", "the sender signs as Standard Webhooks says")
    if not value.isascii():
        raise _refused(name, "is not ASCII")
    return value


def _refused(header: str, detail: str, hint: str | None = None) -> SignatureError:
    return SignatureError(f"{header} {detail}", faults=[Fault(header=header, detail=detail, hint=hint)])
