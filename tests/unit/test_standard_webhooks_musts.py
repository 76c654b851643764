# SPDX-License-Identifier: Apache-2.0
"""What Standard Webhooks 1.0.0 asks of signatures: the names quote the rule."""

from __future__ import annotations

import hmac
import re
from base64 import b64decode, b64encode

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fairlead.core import signature
from fairlead.core.signature import Signer, new_secret, new_signing_key, public_key, sign, verify
from fairlead.errors import InvalidSecret, SignatureError

OLD, NEW, KEY = new_secret(b"o" * 24), new_secret(b"n" * 64), new_signing_key(b"k" * 32)
NOW, BODY = 1_674_087_231, b'{"type": "contact.created"}'


def headers(value: str, *, id: str = "msg_1", timestamp: int = NOW) -> dict[str, str]:
    return {"webhook-id": id, "webhook-timestamp": str(timestamp), "webhook-signature": value}


def test_the_headers_are_webhook_id_webhook_timestamp_and_webhook_signature() -> None:
    assert list(headers("")) == [signature.ID, signature.TIMESTAMP, signature.SIGNATURE]


def test_the_content_to_be_signed_is_id_timestamp_and_payload_delimited_by_full_stops() -> None:
    public = Ed25519PublicKey.from_public_bytes(b64decode(public_key(KEY).removeprefix("whpk_")))
    public.verify(b64decode(sign(KEY, "msg_1", NOW, BODY).removeprefix("v1a,")), b"msg_1.%d." % NOW + BODY)


def test_the_payload_sent_is_the_same_as_the_payload_signed() -> None:
    with pytest.raises(SignatureError):
        verify([NEW], headers(sign(NEW, "msg_1", NOW, BODY)), BODY.replace(b": ", b":"), NOW)


def test_the_id_must_not_include_any_full_stop() -> None:
    with pytest.raises(ValueError, match="full stop"):
        sign(NEW, "msg.1", NOW, BODY)
    with pytest.raises(SignatureError, match="full stop"):
        verify([NEW], headers("v1,x", id="msg.1"), BODY, NOW)


def test_the_timestamp_of_the_attempt_is_whole_unix_seconds_and_signed() -> None:
    with pytest.raises(SignatureError):
        verify([NEW], headers(sign(NEW, "msg_1", NOW, BODY), timestamp=NOW + 1), BODY, NOW)
    with pytest.raises(SignatureError, match="whole Unix seconds"):
        verify([NEW], headers("v1,x") | {"webhook-timestamp": f"{NOW}.0"}, BODY, NOW)


def test_a_retry_has_the_same_id_and_a_new_timestamp_and_both_verify() -> None:
    for timestamp in (NOW, NOW + 60):
        verify([NEW], headers(sign(NEW, "msg_1", timestamp, BODY), timestamp=timestamp), BODY, timestamp)


def test_symmetric_is_hmac_sha256_identified_by_v1_with_a_secret_of_24_to_64_bytes_prefixed_with_whsec() -> (
    None
):
    assert re.fullmatch(r"v1,[A-Za-z0-9+/]{43}=", sign(OLD, "msg_1", NOW, BODY))
    for length in (23, 65):
        with pytest.raises(InvalidSecret, match="24 to 64 bytes"):
            sign("whsec_" + b64encode(b"x" * length).decode(), "msg_1", NOW, BODY)


def test_asymmetric_is_ed25519_identified_by_v1a_with_keys_prefixed_with_whsk_and_whpk() -> None:
    value = sign(KEY, "msg_1", NOW, BODY)
    assert re.fullmatch(r"v1a,[A-Za-z0-9+/]{86}==", value)
    assert KEY.startswith("whsk_")
    assert public_key(KEY).startswith("whpk_")
    assert verify([public_key(KEY)], headers(value), BODY, NOW)


def test_the_public_key_verifies_and_cannot_sign() -> None:
    with pytest.raises(InvalidSecret, match="only verifies"):
        sign(public_key(KEY), "msg_1", NOW, BODY)
    other = Ed25519PublicKey.from_public_bytes(b64decode(public_key(new_signing_key(b"j" * 32))[5:]))
    with pytest.raises(InvalidSignature):
        other.verify(b64decode(sign(KEY, "msg_1", NOW, BODY)[4:]), b"msg_1.%d." % NOW + BODY)


def test_the_signature_header_is_a_list_delimited_by_spaces() -> None:
    assert Signer([NEW, KEY]).header("msg_1", NOW, BODY) == " ".join(
        [sign(NEW, "msg_1", NOW, BODY), sign(KEY, "msg_1", NOW, BODY)]
    )


def test_during_a_rotation_the_sender_signs_with_old_and_new_and_either_receiver_accepts() -> None:
    value = Signer([NEW, OLD]).header("msg_1", NOW, BODY)
    assert verify([OLD], headers(value), BODY, NOW) == OLD
    assert verify([NEW], headers(value), BODY, NOW) == NEW
    assert verify([OLD, NEW], headers(sign(NEW, "msg_1", NOW, BODY)), BODY, NOW) == NEW


def test_signatures_of_an_unknown_version_are_passed_over() -> None:
    verify([NEW], headers("v9,abc " + sign(NEW, "msg_1", NOW, BODY)), BODY, NOW)


def test_a_signature_is_not_taken_for_one_of_another_version() -> None:
    code = sign(NEW, "msg_1", NOW, BODY).removeprefix("v1,")
    with pytest.raises(SignatureError):
        verify([NEW, KEY], headers(f"v1a,{code}"), BODY, NOW)


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []
    real = hmac.compare_digest

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    value = sign(NEW, "msg_1", NOW, BODY)
    verify([NEW], headers(value), BODY, NOW)
    assert compared == [(value, value)]


def test_timestamps_are_verified_within_a_tolerance_to_prevent_replay_attacks() -> None:
    named = headers(sign(NEW, "msg_1", NOW, BODY))
    verify([NEW], named, BODY, NOW + 300)
    for now in (NOW + 301, NOW - 301):
        with pytest.raises(SignatureError, match="webhook-timestamp"):
            verify([NEW], named, BODY, now)
