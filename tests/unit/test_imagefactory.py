# SPDX-License-Identifier: Apache-2.0
"""What becomes of Imagefactory's callbacks, from the bytes that its own CallbackWorker sends."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.bridges.imagefactory import Callback, Last, event_id, following, read_callback
from fairlead.bridges.imagefactory_secrets import MOST_SECRETS, credentials, redact, redact_blindly
from fairlead.errors import InvalidEvent, MalformedJson, Problem

PATH = "tim/target_images//42"

# As sent by imagefactory's CallbackWorker through httplib2, without Accept, ASCII-escaped.
BUILDING = (
    b'{"base_image": {"_type": "BaseImage", "id": "11111111-1111-4111-8111-111111111111", "status":'
    b' "BUILDING", "parameters": {"callbacks": ["http://127.0.0.1:5998/tim/target_images//42"]},'
    b' "properties": {}, "icicle": null, "percent_complete": 0, "status_detail": {"activity":'
    b' "Initializing image prior to Cloud/OS customization", "error": null}, "template":'
    b' "<template><name>f</name></template>"}}'
)
COMPLETE = (
    b'{"base_image": {"_type": "BaseImage", "id": "11111111-1111-4111-8111-111111111111", "status":'
    b' "COMPLETE", "parameters": {"callbacks": ["http://127.0.0.1:5998/tim/target_images//42"]},'
    b' "properties": {}, "icicle": null, "percent_complete": 50, "status_detail": {"activity": "Base'
    b' Image build complete", "error": null}, "template": "<template><name>f</name></template>"}}'
)
FAILED_TARGET = (
    b'{"target_image": {"_type": "TargetImage", "id": "22222222-2222-4222-8222-222222222222",'
    b' "status": "FAILED", "target": "ec2", "parameters": {"callbacks": []}, "properties": {},'
    b' "icicle": null, "percent_complete": 0, "status_detail": {"activity": "Target Image build'
    b' failed with exception", "error": "boom"}, "template": ""}}'
)
PUSHED = (
    b'{"provider_image": {"_type": "ProviderImage", "id": "33333333-3333-4333-8333-333333333333",'
    b' "status": "COMPLETE", "identifier_on_provider": "ami-0123", "parameters": null, "properties":'
    b' {}, "percent_complete": 0, "icicle": null, "provider": "{\\"name\\":\\"ec2-us-east-1\\"}",'
    b' "provider_account_identifier": "acct", "status_detail": {"activity": "Provider Image build'
    b' complete", "error": null}, "template": null}}'
)


def image(status: str = "BUILDING", **members: Any) -> bytes:
    return json.dumps({"target_image": {"id": "i", "status": status, **members}}).encode()


def told(body: bytes, last: Last | None = None, path: str = PATH) -> Last:
    return following(read_callback(path, body), last)


# -- the event --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "type_", "subject"),
    [
        (BUILDING, "org.imagefactory.base_image.building", "11111111-1111-4111-8111-111111111111"),
        (COMPLETE, "org.imagefactory.base_image.complete", "11111111-1111-4111-8111-111111111111"),
        (FAILED_TARGET, "org.imagefactory.target_image.failed", "22222222-2222-4222-8222-222222222222"),
        (PUSHED, "org.imagefactory.provider_image.complete", "33333333-3333-4333-8333-333333333333"),
    ],
)
def test_the_bytes_that_imagefactory_sends_become_an_event(body: bytes, type_: str, subject: str) -> None:
    event = read_callback(PATH, body).event("e-1")
    assert dict(event.attributes) == {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/imagefactory",
        "type": type_,
        "subject": subject,
        "datacontenttype": "application/json",
        "imagefactorypath": PATH,
    }
    assert event.payload == body
    assert event.key == f"/imagefactory {subject}"


@pytest.mark.parametrize(
    ("status", "shown"),
    [("NEW", "new"), ("COMPLETED", "complete"), ("PUSHING", "building"), ("DELETEFAILED", "deletefailed")],
)
def test_states_have_one_spelling(status: str, shown: str) -> None:
    assert read_callback(PATH, image(status)).status == shown


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", MalformedJson),
        (b"nonsense", MalformedJson),
        (b'{"base_image": ' + b"[" * 200 + b"]" * 200 + b"}", MalformedJson),
        (b"[]", InvalidEvent),
        (b"{}", InvalidEvent),
        (b'{"image": {"id": "i", "status": "COMPLETE"}}', InvalidEvent),
        (b'{"base_image": {"id": "i", "status": "NEW"}, "target_image": {}}', InvalidEvent),
        (b'{"base_image": "i"}', InvalidEvent),
        (b'{"base_image": {"status": "NEW"}}', InvalidEvent),
        (b'{"base_image": {"id": 7, "status": "NEW"}}', InvalidEvent),
        (b'{"base_image": {"id": "", "status": "NEW"}}', InvalidEvent),
        (b'{"base_image": {"id": "i\\n", "status": "NEW"}}', InvalidEvent),
        (b'{"base_image": {"id": "i"}}', InvalidEvent),
        (b'{"base_image": {"id": "i", "status": "half done"}}', InvalidEvent),
        (b'{"base_image": {"id": "i", "status": ""}}', InvalidEvent),
    ],
)
def test_what_is_no_callback_is_refused_with_the_place(body: bytes, error: type[Problem]) -> None:
    with pytest.raises(error) as caught:
        read_callback(PATH, body)
    assert caught.value.faults
    assert all(fault.pointer is not None for fault in caught.value.faults)


# -- the id -----------------------------------------------------------------------------------------------


def test_the_id_is_made_of_path_body_and_the_event_before() -> None:
    expected = blake2b(PATH.encode() + b"\0" + BUILDING + b"\0" + b"before\0", digest_size=16).hexdigest()
    assert event_id(PATH, BUILDING, "before") == expected


def test_a_repeat_is_the_same_event_and_a_return_to_an_earlier_state_is_not() -> None:
    first = told(BUILDING)
    assert told(BUILDING, first) == first
    second = told(COMPLETE, first)
    assert told(COMPLETE, second).event == second.event != first.event
    again = told(BUILDING, second)
    assert again.event not in (first.event, second.event)
    assert told(BUILDING, again) == again


def test_a_note_without_its_event_loses_nothing() -> None:
    """The relay died between the two: the next callback is still a new event, the same one still the same."""
    first = told(BUILDING)
    lost = told(COMPLETE, first)
    assert told(COMPLETE, lost).event == lost.event
    assert told(BUILDING, lost).event != first.event


def test_images_and_paths_have_histories_of_their_own() -> None:
    assert told(BUILDING, path="a//b").event != told(BUILDING, path="a/b").event


@given(st.lists(st.sampled_from([BUILDING, COMPLETE, image("NEW")]), max_size=20))
def test_every_change_is_one_new_event(bodies: list[bytes]) -> None:
    last: Last | None = None
    ids: list[str] = []
    for body in bodies:
        last = told(body, last)
        ids.append(last.event)
    changes = sum(before != after for before, after in zip([None, *bodies], bodies, strict=False))
    assert len(set(ids)) == changes


# -- secrets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("http://relay.example/x", []),
        ("http://relay.example:8080/a@b", []),
        ("http://relay.example/find?who=a:b@c", []),
        ("http://[::1]:80/a@b", []),
        ("http://u:p@relay.example/x", ["u:p"]),
        ("https://u:p%40ss@relay.example:443/x", ["u:p%40ss"]),
        ("http://u:p@ss@relay.example/x", ["u:p@ss"]),
        ("http://token@relay.example/x", ["token"]),
        ("http://u:p/w@relay.example/x", ["u:p/w"]),
        ("debug", []),
    ],
)
def test_credentials_are_found_as_people_write_them(url: str, secrets: list[str]) -> None:
    assert credentials(url) == secrets


def callback(parameters: Any, **members: Any) -> Callback:
    return read_callback(PATH, image(parameters=parameters, **members))


def test_credentials_in_callback_urls_are_masked_and_nothing_else_changes() -> None:
    urls = ["http://heat:s3cret@relay.example/bridges//x", "http://other.example/a@b"]
    body = image(parameters={"callbacks": urls}, template="mail root@example or http://repo:pw@mirror/")
    read = read_callback(PATH, body)
    assert read.body == body.replace(b"heat:s3cret@", b"***@")


def test_a_secret_is_masked_wherever_else_it_stands() -> None:
    url = "http://heat:s3cret@relay.example/x"
    read = callback({"callbacks": [url]}, status_detail={"error": f"cannot reach {url}"})
    assert b"s3cret" not in read.body
    assert read.body.count(b"***@relay.example") == 2


@pytest.mark.parametrize(
    "spelling",
    [
        b"http:\\/\\/heat:s3cret@relay.example",
        b"http://heat:s3\\u0063ret@relay.example",
        b"http://heat:s3cret\\u0040relay.example",
    ],
)
def test_a_secret_that_is_spelt_with_escapes_is_masked_too(spelling: bytes) -> None:
    body = b'{"base_image":{"id":"i","status":"NEW","parameters":{"callbacks":["%b"]}}}' % spelling
    data = json.loads(read_callback(PATH, body).body)
    assert data["base_image"]["parameters"]["callbacks"] == ["http://***@relay.example"]


def test_callbacks_are_looked_for_at_any_depth() -> None:
    read = callback({"nested": [{"callbacks": "http://u:p@h/"}]})
    assert b"u:p@" not in read.body


def test_a_secret_at_the_cut_of_a_body_is_masked_too() -> None:
    assert redact_blindly(b'["http://u:s3cr', cut=True) == b'["http://***@'
    assert redact_blindly(b'["http://h/s3cr', cut=True) == b'["http://h/s3cr'


def test_what_cannot_be_understood_is_masked_blindly() -> None:
    kept = redact_blindly(b'{"callbacks": ["http://u:p@ss@h/x", "http:\\/\\/u:p@h", "http://h/a@b"')
    assert kept == b'{"callbacks": ["http://***@h/x", "http:\\/\\/***@h", "http://h/a@b"'


@given(st.text(min_size=1, max_size=20))
def test_no_password_survives(password: str) -> None:
    secret = f"secret-{password}-secret".replace("@", "%40").replace("?", "%3f").replace("#", "%23")
    secret = "".join(character for character in secret if not character.isspace() and character > " ")
    document = {"target_image": {"id": "i", "status": "NEW", "callbacks": [f"http://u:{secret}@h/x"]}}
    for body in (
        json.dumps(document).encode(),
        json.dumps(document, ensure_ascii=False).encode("utf-8", "ignore"),
    ):
        try:
            decoded = json.loads(body)
        except ValueError:
            continue
        assert "secret-" not in json.dumps(json.loads(redact(body, decoded)))


@pytest.mark.parametrize("spelling", [b"http://u:p@h", b"http://u\\u003ap@h"])
def test_a_number_that_no_float_holds_is_kept_beside_a_secret(spelling: bytes) -> None:
    body = b'{"target_image":{"id":"i","status":"NEW","n":1E+999,"callbacks":["%b"]}}' % spelling
    read = read_callback(PATH, body).body
    assert b":1E+999," in read
    assert b"***@h" in read


def test_more_secrets_than_can_be_looked_for_are_refused() -> None:
    urls = [f"http://u{number}:p@h" for number in range(MOST_SECRETS + 1)]
    with pytest.raises(InvalidEvent, match="64 are the most"):
        callback({"callbacks": urls})
    assert b":p@" not in callback({"callbacks": urls[1:]}).body


@pytest.mark.parametrize("long", ["https://u:p@h/" + "a:://" * 50_000, "https://" + "a:://" * 50_000])
def test_a_url_without_end_is_read_through_once(long: str) -> None:
    """Or nobody else were served meanwhile."""
    masked = long.replace("u:p@", "***@")
    assert callback({"callbacks": [long]}).body == image(parameters={"callbacks": [masked]})
