# SPDX-License-Identifier: Apache-2.0
"""Standard Webhooks signatures, checked against the vectors and the `standardwebhooks` package."""

from __future__ import annotations

from base64 import b64decode, b64encode
from datetime import UTC, datetime

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.signature import (
    Signer,
    check_secret,
    new_secret,
    new_signing_key,
    public_key,
    sign,
    verify,
)
from fairlead.errors import InvalidSecret, SignatureError, Unauthenticated

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SIGNING_KEY = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
ID, TIME, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
V1 = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
V1A = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
OTHER = new_secret(b"o" * 32)

ids = st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True)
secrets = st.binary(min_size=24, max_size=64).map(new_secret)
signing_keys = st.binary(min_size=32, max_size=32).map(new_signing_key)


def headers(signature: str = V1, *, id: str = ID, time: object = TIME) -> dict[str, str]:
    return {"webhook-id": id, "webhook-timestamp": str(time), "webhook-signature": signature}


def refused(named: dict[str, str], *, now: float = TIME, secret: str = SECRET, body: bytes = BODY) -> str:
    with pytest.raises(SignatureError) as caught:
        verify([secret], named, body, now)
    assert isinstance(caught.value, Unauthenticated)
    assert caught.value.status == 401
    return caught.value.detail


def test_the_shared_vector_is_signed_as_everybody_signs_it() -> None:
    assert sign(SECRET, ID, TIME, BODY) == V1
    assert verify([SECRET], headers(), BODY, TIME) == SECRET


def test_the_ed25519_vector_of_svix_is_signed_as_svix_signs_it() -> None:
    assert sign(SIGNING_KEY, ID, TIME, BODY) == V1A
    assert verify([public_key(SIGNING_KEY)], headers(V1A), BODY, TIME) == public_key(SIGNING_KEY)
    assert verify([SIGNING_KEY], headers(V1A), BODY, TIME) == SIGNING_KEY


@given(secrets, ids, st.text(st.characters(codec="utf-8")))
def test_the_standardwebhooks_package_signs_the_same_and_takes_ours(secret: str, id: str, text: str) -> None:
    webhook = standardwebhooks.Webhook(secret)
    now = datetime.now(UTC)
    seconds = int(now.timestamp())
    ours = sign(secret, id, seconds, text.encode())
    assert webhook.sign(id, now, text) == ours
    webhook.verify(b'{"a":1}', headers(sign(secret, id, seconds, b'{"a":1}'), id=id, time=seconds))
    verify([secret], headers(webhook.sign(id, now, "{}"), id=id, time=seconds), b"{}", seconds)


@given(st.lists(secrets | signing_keys, min_size=1, max_size=3, unique=True), ids, st.binary(max_size=50))
def test_during_a_rotation_each_secret_verifies_what_all_signed(
    some: list[str], id: str, body: bytes
) -> None:
    signature = Signer(some).header(id, TIME, body)
    assert signature.split() == [sign(secret, id, TIME, body) for secret in some]
    for secret in some:
        assert verify([OTHER, secret], headers(signature, id=id), body, TIME) == secret


def test_names_of_headers_may_have_any_case() -> None:
    verify([SECRET], {name.title(): value for name, value in headers().items()}, BODY, TIME)


@pytest.mark.parametrize("signature", ["v2,x " + V1, f"nonsense {V1}", f"v1,AAAA {V1A} {V1}", f"  {V1}  "])
def test_other_versions_and_other_signatures_beside_a_good_one_do_no_harm(signature: str) -> None:
    verify([SECRET], headers(signature), BODY, TIME)


@pytest.mark.parametrize(
    "signature",
    [
        V1[3:],
        V1.replace("v1,", "v1a,"),
        V1A,
        "v1,",
        "v1",
        ",",
        V1[:-1],
        V1.swapcase(),
        V1.replace(",", ", "),
        "v1a,!!!!",
        "v1,é",
    ],
)
def test_a_signature_that_is_not_the_secret_s_is_refused(signature: str) -> None:
    assert refused(headers(signature)).startswith("webhook-signature ")
    assert refused(headers(signature), secret=public_key(new_signing_key(b"k" * 32))).startswith(
        "webhook-signature "
    )


def test_nothing_that_was_signed_can_be_changed() -> None:
    assert "fits none" in refused(headers(), body=BODY + b" ")
    assert "fits none" in refused(headers(id=ID + "x"))
    assert "fits none" in refused(headers(time=TIME + 1))
    assert "fits none" in refused(headers(), secret=OTHER)


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_missing_header_is_named(missing: str, value: str | None) -> None:
    named = headers() | {missing: value or ""}
    if value is None:
        del named[missing]
    assert refused(named) == f"{missing} is missing"


@pytest.mark.parametrize("time", ["now", "1614265330.5", "-1", "+1", "1_0", "١٦١٤٢٦٥٣٣٠", "9" * 16, "0x10"])
def test_a_timestamp_is_whole_unix_seconds(time: str) -> None:
    assert refused(headers(time=time)).startswith("webhook-timestamp is not ")


def test_a_timestamp_is_taken_within_the_tolerance_either_way() -> None:
    for now in (TIME - 300, TIME + 300.0):
        verify([SECRET], headers(), BODY, now)
    verify([SECRET], headers(), BODY, TIME + 1e6, tolerance_seconds=1e6)
    assert refused(headers(), now=TIME + 301).startswith(
        "webhook-timestamp is 301 s in the past; at most 300 s"
    )
    assert "in the future" in refused(headers(), now=TIME - 301)


def test_an_id_with_a_full_stop_could_be_read_in_two_ways_and_is_refused() -> None:
    same_bytes = sign(SECRET, "a", TIME, f"{TIME}.x".encode())
    assert "full stop" in refused(headers(same_bytes, id=f"a.{TIME}"), body=b"x")
    for id in ("a.b", ""):
        with pytest.raises(ValueError, match="webhook-id"):
            sign(SECRET, id, TIME, BODY)


# -- secrets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [24, 32, 64])
def test_a_new_secret_has_the_bytes_it_was_given(length: int) -> None:
    secret = new_secret(b"x" * length)
    assert b64decode(secret.removeprefix("whsec_")) == b"x" * length
    check_secret(secret)


def test_a_new_signing_key_has_its_public_key_behind_it() -> None:
    key = new_signing_key(b"x" * 32)
    raw = b64decode(key.removeprefix("whsk_"))
    assert raw[:32] == b"x" * 32
    assert b64encode(raw[32:]).decode() == public_key(key).removeprefix("whpk_")
    alone = "whsk_" + b64encode(b"x" * 32).decode()
    assert public_key(alone) == public_key(key)
    assert sign(alone, "a", 1, b"") == sign(key, "a", 1, b"")


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("", "begins with whsec_"),
        ("hunter2", "begins with whsec_"),
        (b64encode(b"x" * 32).decode(), "begins with whsec_"),
        ("whsec_", "24 to 64 bytes"),
        ("whsec_" + b64encode(b"x" * 23).decode(), "24 to 64 bytes in base64, this one 23"),
        ("whsec_" + b64encode(b"x" * 65).decode(), "24 to 64 bytes in base64, this one 65"),
        ("whsec_" + b64encode(b"x" * 32).decode().rstrip("="), "base64"),
        ("whsec_ü", "base64"),
        ("whsk_" + b64encode(b"x" * 33).decode(), "32 or 64 bytes"),
        ("whsk_" + b64encode(b"x" * 64).decode(), "do not belong together"),
        ("whpk_" + b64encode(b"x" * 32).decode(), "only verifies"),
    ],
)
def test_a_secret_that_cannot_sign_is_refused_without_being_shown(secret: str, said: str) -> None:
    for use in (lambda: check_secret(secret), lambda: Signer([secret]), lambda: sign(secret, "a", 1, b"")):
        with pytest.raises(InvalidSecret, match=said) as caught:
            use()
        assert len(secret) < 8 or secret[6:] not in str(caught.value)
        assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("secret", ["", "hunter2", "whpk_AAAA", "whsec_AAAA"])
def test_a_secret_that_cannot_verify_is_refused_as_such(secret: str) -> None:
    with pytest.raises(InvalidSecret):
        verify([secret], headers(), BODY, TIME)


def test_secrets_are_made_of_enough_randomness() -> None:
    for length in (0, 23, 65):
        with pytest.raises(InvalidSecret):
            new_secret(b"x" * length)
    for length in (0, 31, 64):
        with pytest.raises(InvalidSecret):
            new_signing_key(b"x" * length)
    with pytest.raises(InvalidSecret):
        public_key(SECRET)
    with pytest.raises(InvalidSecret, match="at least one"):
        Signer([])
