# SPDX-License-Identifier: Apache-2.0
"""The JSON of subscriptions: what is read, what is shown, what is refused (interface, section 4)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.durations import format_duration, format_size, format_time
from fairlead.core.subscription import DeliveryOptions, Predecessor, Secrets, Start, Subscription
from fairlead.core.subscription_config import check_defaults
from fairlead.core.subscription_format import parse, render
from fairlead.core.subscription_record import from_record, matching_from_json, matching_to_json, to_record
from fairlead.errors import InvalidFilter, InvalidSubscription, Problem

NOW = 1_795_359_000.0
SECRET = "whsec_" + b64encode(bytes(24)).decode()
OTHER_SECRET = "whsec_" + b64encode(bytes(range(32))).decode()
SIGNING_KEY = "whsk_" + b64encode(bytes(32)).decode()
SINK = {"sink": "https://console.example/hook", "protocol": "HTTP"}


def read(
    document: object,
    *,
    id: str = "console",
    previous: Subscription | None = None,
    defaults: Mapping[str, Any] | None = None,
    id_made: bool = False,
) -> Subscription:
    return parse(document, id=id, previous=previous, defaults=defaults or {}, now=NOW, id_made=id_made)


def refused(document: object, **arguments: Any) -> dict[str | None, str]:
    """Every fault of a document by its pointer, hints appended."""
    with pytest.raises(Problem) as caught:
        read(document, **arguments)
    return {fault.pointer: f"{fault.detail} ({fault.hint})" for fault in caught.value.faults}


def sink(**members: Any) -> dict[str, Any]:
    return {**SINK, **members}


def config(**members: Any) -> dict[str, Any]:
    return sink(config=members)


def settings(**members: Any) -> dict[str, Any]:
    return sink(protocolsettings=members)


# -- round trips --------------------------------------------------------------------------------------------

SECONDS = st.integers(1, 60_000).map(lambda milliseconds: format_duration(milliseconds / 1000))
NAMES = st.text("abcxyz.-", min_size=1, max_size=8)
FILTERS = st.sampled_from(
    [{"exact": {"type": "a"}}, {"not": {"sql": "EXISTS x"}}, {"any": [{"prefix": {"a": "b"}}]}]
)


def targets() -> st.SearchStrategy[dict[str, Any]]:
    credential = st.builds(
        lambda name: {"credentialtype": "PLAIN", "identifier": name, "secret": "s3cret"}, NAMES
    ) | st.just({"credentialtype": "ACCESSTOKEN", "accesstoken": "t0ken", "accesstokentype": "bearer"})
    http = st.fixed_dictionaries(
        {},
        optional={
            "method": st.sampled_from(["POST", "PUT", "PATCH"]),
            "mode": st.sampled_from(["structured", "binary", "bare"]),
            "handshake": st.sampled_from(["none", "required"]),
            "headers": st.dictionaries(st.sampled_from(["X-Env", "Accept", "x-y"]), NAMES),
        },
    )
    return st.fixed_dictionaries(
        {"sink": NAMES.map(lambda name: f"https://a.example:8443/{name}?x=1"), "protocol": st.just("HTTP")},
        optional={"protocolsettings": http, "sinkcredential": credential},
    )


def configs() -> st.SearchStrategy[dict[str, Any]]:
    retry = {
        "first": st.just("1ms"), "factor": st.floats(1, 1000), "max": SECONDS,
        "give_up_after": st.none() | SECONDS,
        "max_attempts": st.none() | st.integers(1, 99), "jitter": st.sampled_from(["full", "none"]),
        "max_retry_after": SECONDS,
    }  # fmt: skip
    return st.fixed_dictionaries(
        {},
        optional={
            "route": st.lists(targets(), max_size=3),
            "retry": st.fixed_dictionaries({}, optional=retry),
            "on_exhausted": st.sampled_from(["park", "skip", "stop"]),
            "rejected_statuses": st.lists(st.integers(400, 409), max_size=4),
            "start": st.sampled_from(["now", "beginning"]) | st.integers(0, 10**9).map(format_time),
            "concurrency": st.integers(1, 10_000),
            "rate": st.none() | st.floats(0.001, 1e6),
            "timeout": SECONDS,
            "ack_persist": st.sampled_from(["before_next", "lazy"]),
            "secret": st.sampled_from([SECRET, SIGNING_KEY]),
            "secret_overlap": SECONDS,
        },
    )


DOCUMENTS = st.builds(
    lambda target, rest, config: {**rest, **target, "config": config},
    targets(),
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.just("console"),
            "source": NAMES,
            "types": st.lists(NAMES, max_size=3),
            "filters": st.lists(FILTERS, max_size=3),
            "status": st.just({"state": "paused"}),
        },
    ),
    configs(),
)


@given(DOCUMENTS)
def test_what_is_shown_can_be_put_back_and_changes_nothing(document: dict[str, Any]) -> None:
    subscription = read(document)
    assert read(render(subscription, {"state": "active"}), previous=subscription) == subscription


@given(DOCUMENTS)
def test_a_record_keeps_everything(document: dict[str, Any]) -> None:
    subscription = replace(
        read(document),
        secrets=Secrets(SECRET, (Predecessor(OTHER_SECRET, NOW + 0.123456),), SECRET),
        reason="x",
        generation=2**45,
    )
    assert from_record(to_record(subscription)) == subscription
    assert to_record(from_record(to_record(subscription))) == to_record(subscription)
    assert matching_from_json(matching_to_json(subscription.matching)) == subscription.matching


@given(DOCUMENTS)
def test_no_secret_is_ever_shown_unasked(document: dict[str, Any]) -> None:
    document = {**document, "config": {**document["config"], "secret": SECRET}}
    shown = str(render(read(document), {}))
    for secret in ("s3cret", "t0ken", SECRET):
        assert secret not in shown


def test_a_secret_is_shown_where_it_was_made() -> None:
    subscription = replace(read(SINK), secrets=Secrets(SECRET, answer=OTHER_SECRET))
    assert render(subscription, {}, show={"secret"})["config"]["secret"] == SECRET
    assert "answer_secret" not in render(subscription, {}, show={"secret"})["config"]
    both = render(subscription, {}, show={"secret", "answer_secret"})
    assert both["config"]["answer_secret"] == OTHER_SECRET


def test_config_is_shown_whole_with_the_documented_defaults() -> None:
    assert render(read(SINK), {"state": "active"}) == {
        "id": "console",
        "sink": "https://console.example/hook",
        "protocol": "HTTP",
        "protocolsettings": {"method": "POST", "headers": {}, "mode": "structured", "handshake": "none"},
        "config": {
            "route": [],
            "retry": {
                "first": "1s", "factor": 2, "max": "5m", "give_up_after": "3d", "max_attempts": None,
                "jitter": "full", "max_retry_after": "1d",
            },
            "on_exhausted": "park", "rejected_statuses": [400, 413, 415, 422], "start": "now",
            "concurrency": 64, "rate": None, "batch": None, "timeout": "15s", "ack_persist": "before_next",
            "secret_overlap": "1d",
            "receiver": "plain", "signature": "v1", "settles": None, "failover": "wait",
        },
        "status": {"state": "active"},
    }  # fmt: skip


# -- defaults of [delivery] ---------------------------------------------------------------------------------


def test_delivery_defaults_hold_where_the_document_is_silent() -> None:
    defaults = {"timeout": "20s", "retry": {"first": "2s"}, "batch": {"max_events": 7}, "rate": 5}
    options = read(config(retry={"max": "10m"}, rate=None), defaults=defaults).options
    assert (options.timeout_seconds, options.rate_per_second) == (20, None)
    assert (options.retry.first_seconds, options.retry.max_seconds) == (2, 600)
    assert options.batch is not None
    assert options.batch.max_events == 7
    assert read(config(batch=None), defaults=defaults).options.batch is None


def test_wrong_defaults_are_told() -> None:
    faults = check_defaults({"timeout": "x", "route": [], "retry": {"fist": "1s"}})
    assert {fault.pointer for fault in faults} == {"/timeout", "/route", "/retry/fist"}
    assert check_defaults({}) == []
    assert check_defaults({"rejected_statuses": (400, 413)}) == []


@pytest.mark.parametrize(
    ("retry", "first", "longest"),
    [
        ({"max": "100ms"}, 0.1, 0.1),
        ({"first": "10m"}, 600, 600),
        ({"first": "1ms", "max": "2ms"}, 0.001, 0.002),
    ],
)
def test_a_wait_that_was_asked_for_wins_over_a_default(
    retry: dict[str, str], first: float, longest: float
) -> None:
    policy = read(config(retry=retry)).options.retry
    assert (policy.first_seconds, policy.max_seconds) == (first, longest)


# -- faults -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [None, [], "x", 1, True])
def test_a_subscription_is_an_object(document: object) -> None:
    assert refused(document) == {"": "must be an object (None)"}


def test_every_fault_is_told_at_once_and_filters_too() -> None:
    document = sink(
        sorce="/x", types=[1], filters=[{"sql": "("}], config={"timeout": "soon", "retry": {"fctor": 1}}
    )
    found = refused(document)
    assert list(found) == ["/sorce", "/types/0", "/config/retry/fctor", "/config/timeout", "/filters/0/sql"]
    assert "did you mean source?" in found["/sorce"]
    assert "did you mean factor?" in found["/config/retry/fctor"]
    with pytest.raises(InvalidSubscription, match="and 4 more"):
        read(document)


def test_filters_alone_have_a_problem_of_their_own() -> None:
    with pytest.raises(InvalidFilter):
        read(sink(filters=[{"sql": "("}]))


@pytest.mark.parametrize(
    ("document", "pointer", "hint"),
    [
        (sink(timeout="5s"), "/timeout", "it belongs to /config/timeout"),
        (sink(mode="bare"), "/mode", "it belongs to /protocolsettings/mode"),
        (sink(sinkCredential={}), "/sinkCredential", "did you mean sinkcredential?"),
        (settings(header={}), "/protocolsettings/header", "did you mean headers?"),
        (config(batch={"max_event": 1}), "/config/batch/max_event", "did you mean max_events?"),
        (config(route=[sink(config={})]), "/config/route/0/config", "there are sink"),
        (config(**{"a/b~c": 1}), "/config/a~1b~0c", "there are route"),
    ],
)
def test_an_unknown_member_is_refused_with_the_nearest_place(
    document: dict[str, Any], pointer: str, hint: str
) -> None:
    found = refused(document)
    assert list(found) == [pointer]
    assert hint in found[pointer]


@pytest.mark.parametrize("id", ["", "A", "-a", "a_b", "a" * 64, "ä", "a\n", "a/b"])
def test_an_id_that_is_none_is_refused(id: str) -> None:
    assert "lower-case letters" in refused(SINK, id=id)["/id"]


@pytest.mark.parametrize("id", ["a", "0", "a-b-1", "a" * 63])
def test_an_id_is_letters_digits_and_hyphens(id: str) -> None:
    assert read(SINK, id=id).id == id


def test_the_id_in_a_put_must_be_the_paths_and_is_ignored_in_a_post() -> None:
    assert "must be 'console'" in refused(sink(id="other"))["/id"]
    assert read(sink(id="console")).id == "console"
    assert read(sink(id=["ignored"]), id="s-1", id_made=True).id == "s-1"


def test_status_is_ignored() -> None:
    assert read(sink(status="anything")) == read(SINK)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://user:pass@a.example/", "sinkcredential"),
        ("https://user@a.example/", "sinkcredential"),
        ("https://a.example/ x", "white space"),
        ("https://a.example/\r\nX: y", "control characters"),
        ("https://a.example/\x00", "control characters"),
        ("ftp://a.example/", "scheme"),
        ("/hook", "scheme"),
        ("a.example", "scheme"),
        ("https://", "host"),
        ("https://a.example:99999/", "URL"),
        ("https://a.example/#part", "fragment"),
        ("amqps://mq.example/vh", "must begin with http:// or https://"),
        ("", "not empty"),
        (7, "must be a string"),
        (None, "is missing"),
    ],
)
def test_a_sink_that_cannot_be_called_is_refused(url: object, words: str) -> None:
    found = refused({"protocol": "HTTP", "sink": url})
    assert words in found["/sink"]
    assert "pass" not in str(found)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9000/hook", "https://a.example", "https://[::1]:8443/x?y=1%20", "http://localhost/"],
)
def test_a_sink_is_kept_as_it_was_written(url: str) -> None:
    assert read({"sink": url, "protocol": "HTTP"}).targets[0].sink == url


def test_the_protocol_is_required_and_its_case_matters() -> None:
    assert 'add "protocol": "HTTP"' in refused({"sink": SINK["sink"]})["/protocol"]
    assert 'did you mean "HTTP"?' in refused({**SINK, "protocol": "http"})["/protocol"]
    assert "HTTP" in refused({**SINK, "protocol": "KAFKA"})["/protocol"]


@pytest.mark.parametrize(
    "name",
    [
        "Host", "connection", "Content-Type", "content-length", "Transfer-Encoding", "te", "UPGRADE",
        "expect",
        "User-Agent", "webhook-id", "Webhook-Anything", "ce-id", "CE-x",
    ],
)  # fmt: skip
def test_headers_that_the_relay_sets_are_refused(name: str) -> None:
    assert "set by the relay" in refused(settings(headers={name: "x"}))[f"/protocolsettings/headers/{name}"]


@pytest.mark.parametrize("name", ["", "a b", "a:b", "ä", "a\r\n", "a\x00"])
def test_what_is_no_header_name_is_refused(name: str) -> None:
    assert "no header name" in refused(settings(headers={name: "x"}))[f"/protocolsettings/headers/{name}"]


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\x00", "\x7f", "\x85", " a", "€", 1, None, "a" * 9999])
def test_what_is_no_header_value_is_refused(value: object) -> None:
    assert "control characters" in refused(settings(headers={"X": value}))["/protocolsettings/headers/X"]


def test_a_header_is_there_once_and_authorization_has_one_origin() -> None:
    assert "twice" in refused(settings(headers={"X-A": "1", "x-a": "2"}))["/protocolsettings/headers/x-a"]
    credential = {"credentialtype": "PLAIN", "identifier": "a", "secret": "b"}
    both = {**settings(headers={"authorization": "x"}), "sinkcredential": credential}
    assert "sinkcredential" in refused(both)["/protocolsettings/headers"]


@pytest.mark.parametrize(
    ("credential", "pointer"),
    [
        ({}, "/credentialtype"),
        ({"credentialtype": "plain"}, "/credentialtype"),
        ({"credentialtype": "REFRESHTOKEN"}, "/credentialtype"),
        ({"credentialtype": "PLAIN", "secret": "x"}, "/identifier"),
        ({"credentialtype": "PLAIN", "identifier": "x"}, "/secret"),
        ({"credentialtype": "PLAIN", "identifier": "a:b", "secret": "x"}, "/identifier"),
        ({"credentialtype": "PLAIN", "identifier": "a", "secret": "x\n"}, "/secret"),
        ({"credentialtype": "PLAIN", "identifier": "a", "secret": "x", "accesstoken": "y"}, "/accesstoken"),
        ({"credentialtype": "ACCESSTOKEN"}, "/accesstoken"),
        ({"credentialtype": "ACCESSTOKEN", "accesstoken": "a b"}, "/accesstoken"),
        ({"credentialtype": "ACCESSTOKEN", "accesstoken": "a", "accesstokentype": "mac"}, "/accesstokentype"),
        (
            {"credentialtype": "ACCESSTOKEN", "accesstoken": "a", "accesstokenexpiresutc": "soon"},
            "/accesstokenexpiresutc",
        ),
        ({"credentialtype": "PLAIN", "identifier": "a", "secret": "x", "pasword": "y"}, "/pasword"),
    ],
)  # fmt: skip
def test_a_wrong_credential_is_refused(credential: dict[str, Any], pointer: str) -> None:
    assert list(refused(sink(sinkcredential=credential))) == [f"/sinkcredential{pointer}"]


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"timeout": "0s"}, "/timeout"), ({"timeout": 5}, "/timeout"), ({"timeout": "2h"}, "/timeout"),
        ({"concurrency": 0}, "/concurrency"), ({"concurrency": True}, "/concurrency"),
        ({"concurrency": 10**40}, "/concurrency"), ({"rate": 0}, "/rate"), ({"rate": "5"}, "/rate"),
        ({"rate": False}, "/rate"), ({"batch": []}, "/batch"),
        ({"batch": {"max_bytes": "1MB"}}, "/batch/max_bytes"),
        ({"batch": {"max_events": 0}}, "/batch/max_events"),
        ({"batch": {"max_wait": "2m"}}, "/batch/max_wait"),
        ({"on_exhausted": "drop"}, "/on_exhausted"), ({"ack_persist": 1}, "/ack_persist"),
        ({"rejected_statuses": [200]}, "/rejected_statuses/0"),
        ({"rejected_statuses": [410]}, "/rejected_statuses/0"),
        ({"rejected_statuses": ["400"]}, "/rejected_statuses/0"),
        ({"rejected_statuses": 400}, "/rejected_statuses"),
        ({"retry": {"first": "0s"}}, "/retry/first"), ({"retry": {"first": "1h", "max": "1m"}}, "/retry/max"),
        ({"retry": {"factor": 0.5}}, "/retry/factor"),
        ({"retry": {"max_attempts": 0}}, "/retry/max_attempts"),
        ({"retry": {"give_up_after": "0s"}}, "/retry/give_up_after"),
        ({"retry": {"jitter": "some"}}, "/retry/jitter"),
        ({"start": "Now"}, "/start"), ({"start": 5}, "/start"), ({"start": "2026-11-22"}, "/start"),
        ({"secret": "x"}, "/secret"), ({"secret": "whsec_" + "A" * 8}, "/secret"), ({"secret": 5}, "/secret"),
        ({"secret": "whsec_not base64"}, "/secret"), ({"secret": "whpk_" + "A" * 44}, "/secret"),
        ({"secret": "whsk_" + b64encode(bytes(64)).decode()}, "/secret"),  # two halves of different keys
        ({"answer_secret": SIGNING_KEY}, "/answer_secret"), ({"receiver": "libary"}, "/receiver"),
        ({"settles": "confirm"}, "/settles"), ({"settles": "applied"}, "/settles"),
        ({"failover": "off"}, "/failover"),
        ({"signature": "v2"}, "/signature"), ({"secret": SECRET, "signature": "v1a"}, "/signature"),
        ({"route": {}}, "/route"), ({"route": [None]}, "/route/0"), ({"route": [SINK] * 8}, "/route"),
        ({"secret_overlap": "-1s"}, "/secret_overlap"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused_at_its_place(members: dict[str, Any], pointer: str) -> None:
    found = refused(config(**members))
    assert f"/config{pointer}" in found
    assert "whsec_A" not in str(found)


@pytest.mark.parametrize("wrong", [5, "x", "whsec_" + "A" * 8, SIGNING_KEY])
def test_an_answer_secret_is_told_to_be_what_is_taken(wrong: object) -> None:
    found = refused(config(answer_secret=wrong))
    assert "whsec_" in found["/config/answer_secret"]
    assert "whsk_" not in found["/config/answer_secret"]


@pytest.mark.parametrize("mode", ["binary", "bare"])
def test_batches_and_the_library_need_structured_mode_on_every_target(mode: str) -> None:
    other = {"protocolsettings": {"mode": mode}}
    for document in (sink(**other), config(route=[sink(**other)])):
        for name, asked in (("batch", {}), ("receiver", "library")):
            wanted = {**document, "config": {**document.get("config", {}), name: asked}}
            assert 'mode "structured"' in refused(wanted)[f"/config/{name}"]
    assert read(config(batch={}, receiver="library")).guarantee == "chained"


@pytest.mark.parametrize(
    ("document", "guarantee"),
    [
        (SINK, "first-run-ordered"),
        (settings(mode="binary"), "at-least-once"),
        (settings(mode="bare"), "at-least-once"),
        (config(receiver="library"), "chained"),
        (config(route=[settings(mode="bare")]), "at-least-once"),
    ],
)
def test_the_guarantee_follows_from_receiver_and_mode(document: dict[str, Any], guarantee: str) -> None:
    assert read(document).guarantee == guarantee


def test_signature_follows_the_secret_that_is_given() -> None:
    assert read(config(secret=SIGNING_KEY)).options.signature == "v1a"
    assert read(config(secret=SECRET)).options.signature == "v1"
    assert read(config(signature="v1a")).options.signature == "v1a"
    assert read(config(signature="v1a")).secrets.current == ""


# -- AMQP ---------------------------------------------------------------------------------------------------

BUS = {"sink": "amqps://mq.example/vh", "protocol": "AMQP"}


def test_an_amqp_target_has_every_setting_with_its_effective_value() -> None:
    (target,) = read(BUS).targets
    assert target.settings == {
        "exchange": "fairlead", "routing_key": "console", "queue": None, "address": None, "addresses": [],
        "shards": 1, "mode": "structured", "declare": True,
    }  # fmt: skip
    names = {"exchange": "e", "routing_key": "r", "queue": "q", "address": "a"}
    rest = {"declare": False, "shards": 4, "addresses": ["amqps://two.example"], "mode": "structured"}
    _, second = read(config(route=[{**BUS, "protocolsettings": {**names, **rest}}])).targets
    assert second.settings == {**names, **rest}


def test_a_bus_settles_by_answers_of_the_library_unless_the_confirm_is_asked_for() -> None:
    options = read(BUS).options
    assert (options.settles, options.receiver) == ("applied", "library")
    options = read({**BUS, "config": {"settles": "confirm"}}).options
    assert (options.settles, options.receiver, options.failover) == ("confirm", "plain", "wait")


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({**BUS, "sink": "https://a.example"}, "/sink"),
        ({**BUS, "sink": "amqp://guest:guest@mq.example"}, "/sink"),
        ({**BUS, "sink": "amqps://mq.example/vh?heartbeat=5"}, "/sink"),
        ({**BUS, "protocolsettings": {"addresses": ["amqps://x/?y"]}}, "/protocolsettings/addresses/0"),
        ({**BUS, "sinkcredential": {"credentialtype": "ACCESSTOKEN", "accesstoken": "t"}}, "/sinkcredential"),
        ({**BUS, "protocolsettings": {"method": "POST"}}, "/protocolsettings/method"),
        ({**BUS, "protocolsettings": {"shards": 0}}, "/protocolsettings/shards"),
        ({**BUS, "protocolsettings": {"mode": "bare"}}, "/protocolsettings/mode"),
        ({**BUS, "protocolsettings": {"declare": "no"}}, "/protocolsettings/declare"),
        ({**BUS, "protocolsettings": {"addresses": ["https://x"]}}, "/protocolsettings/addresses/0"),
        ({**BUS, "protocolsettings": {"addresses": ["amqps://x"] * 17}}, "/protocolsettings/addresses"),
        ({**BUS, "protocolsettings": {"queue": "q" * 251}}, "/protocolsettings/queue"),
        ({**BUS, "protocolsettings": {"queue": ""}}, "/protocolsettings/queue"),
        ({**BUS, "protocolsettings": {"exchange": "amq.direct"}}, "/protocolsettings/exchange"),
        ({**BUS, "config": {"settles": "applied", "receiver": "plain"}}, "/config/receiver"),
        ({**BUS, "config": {"settles": "confirm", "receiver": "library"}}, "/config/settles"),
        ({**BUS, "config": {"failover": "off"}}, "/config/failover"),
        ({**BUS, "protocolsettings": {"mode": "binary"}}, "/config/settles"),
    ],
)
def test_amqp_settings_are_checked(document: dict[str, Any], pointer: str) -> None:
    assert set(refused(document)) == {pointer}


def test_the_number_of_shards_is_fixed_at_creation() -> None:
    first = read({**BUS, "protocolsettings": {"shards": 2}})
    more = {**BUS, "protocolsettings": {"shards": 3}}
    assert set(refused(more, previous=first)) == {"/protocolsettings/shards"}
    read({**BUS, "protocolsettings": {"shards": 2, "exchange": "other"}}, previous=first)
    read({**BUS, "sink": "amqps://elsewhere.example", "protocolsettings": {"shards": 3}}, previous=first)


def test_amqp_with_confirm_may_be_binary_and_choose_its_failover() -> None:
    confirm = {"settles": "confirm", "failover": "off"}
    subscription = read({**BUS, "protocolsettings": {"mode": "binary"}, "config": confirm})
    assert (subscription.targets[0].mode, subscription.options.failover) == ("binary", "off")
    assert subscription.guarantee == "broker-has-it"


# -- replacing ----------------------------------------------------------------------------------------------


def kept_sink(url: str = SINK["sink"], **members: Any) -> dict[str, Any]:
    return {
        "sink": url,
        "protocol": "HTTP",
        "protocolsettings": {"headers": {"X-Token": "***"}},
        "sinkcredential": {"credentialtype": "PLAIN", "identifier": "fairlead"},
        **members,
    }


@pytest.fixture
def before() -> Subscription:
    document = kept_sink(
        protocolsettings={"headers": {"X-Token": "t0ken"}},
        sinkcredential={"credentialtype": "PLAIN", "identifier": "fairlead", "secret": "s3cret"},
        config={"secret": SECRET, "answer_secret": OTHER_SECRET, "start": "beginning"},
    )
    return replace(read(document), revision=3, generation=7, state="paused", created_at=1.0, since=2.0)


def test_absent_write_only_members_are_kept(before: Subscription) -> None:
    after = read(kept_sink(source="/new"), previous=before)
    assert after.targets == before.targets
    assert after.secrets == before.secrets
    assert after.matching.source == "/new"
    identity = (after.revision, after.generation, after.state, after.created_at, after.since)
    assert identity == (3, 7, "paused", 1.0, 2.0)


def test_everything_else_is_replaced_whole(before: Subscription) -> None:
    after = read(SINK, previous=before)
    assert after.targets[0].credential is None
    assert after.targets[0].headers == {}
    assert after.options == DeliveryOptions()


def test_start_is_ignored_once_there_is_a_subscription(before: Subscription) -> None:
    assert read(kept_sink(config={"start": "nonsense"}), previous=before).start == Start("beginning")


def test_kept_headers_are_found_in_any_case_and_written_anew(before: Subscription) -> None:
    document = kept_sink(protocolsettings={"headers": {"x-token": "***", "X-New": "1"}})
    assert read(document, previous=before).targets[0].headers == {"x-token": "t0ken", "X-New": "1"}


def test_kept_values_need_something_to_keep(before: Subscription) -> None:
    assert list(refused(kept_sink())) == ["/protocolsettings/headers/X-Token", "/sinkcredential/secret"]
    document = kept_sink(sinkcredential={"credentialtype": "PLAIN", "identifier": "somebody"})
    assert list(refused(document, previous=before)) == ["/sinkcredential/secret"]


def test_secrets_do_not_follow_a_sink_to_another_host(before: Subscription) -> None:
    found = refused(kept_sink("https://elsewhere.example/hook"), previous=before)
    assert list(found) == ["/protocolsettings/headers/X-Token", "/sinkcredential/secret"]
    assert "stays on its host" in found["/sinkcredential/secret"]
    assert read(kept_sink("https://console.example/other"), previous=before).targets[0].headers


def test_the_login_of_a_broker_does_not_follow_to_further_addresses() -> None:
    login = {"credentialtype": "PLAIN", "identifier": "fairlead"}
    nodes = {"addresses": ["amqps://two.example/vh"]}
    first = {**BUS, "sinkcredential": {**login, "secret": "s3cret"}, "protocolsettings": nodes}
    stored = read(first)
    kept = {**BUS, "sinkcredential": login}
    for addresses in ([], ["amqps://two.example/other"]):
        after = read({**kept, "protocolsettings": {"addresses": addresses}}, previous=stored)
        assert (after.targets[0].credential or {})["secret"] == "s3cret"
    for addresses in (["amqps://elsewhere.example"], ["amqps://two.example", "amqps://elsewhere.example"]):
        found = refused({**kept, "protocolsettings": {"addresses": addresses}}, previous=stored)
        assert list(found) == ["/sinkcredential/secret"]


def test_a_target_takes_its_secrets_along_when_the_route_is_reordered(before: Subscription) -> None:
    first = {"sink": "https://first.example", "protocol": "HTTP"}
    after = read({**first, "config": {"route": [kept_sink()]}}, previous=before)
    assert after.targets[1] == before.targets[0]


def test_a_new_secret_takes_the_place_of_the_old_one(before: Subscription) -> None:
    after = read(kept_sink(config={"secret": OTHER_SECRET}), previous=before)
    assert after.secrets == Secrets(OTHER_SECRET, answer=OTHER_SECRET)


def test_the_kind_of_signature_changes_with_the_secret_only(before: Subscription) -> None:
    found = refused(kept_sink(config={"signature": "v1a"}), previous=before)
    assert "whsk_" in found["/config/signature"]
    after = read(kept_sink(config={"signature": "v1a", "secret": SIGNING_KEY}), previous=before)
    assert after.options.signature == "v1a"


def test_receiver_changes_only_with_a_replay(before: Subscription) -> None:
    found = refused(kept_sink(config={"receiver": "library"}), previous=before)
    assert 'is "plain" and cannot become "library"' in found["/config/receiver"]
    assert "POST /subscriptions/console/replay" in found["/config/receiver"]


# -- the MUSTs of CloudEvents Subscriptions (reference/webhook-peers.md, 5.6) --------------------------------


def test_sink_and_protocol_are_required() -> None:
    assert list(refused({})) == ["/protocol", "/sink"]


def test_source_if_present_is_not_empty_and_types_hold_no_empty_string() -> None:
    assert list(refused(sink(source=""))) == ["/source"]
    assert list(refused(sink(types=["a", ""]))) == ["/types/1"]
    assert read(sink(source=None, types=None, filters=None)).matching == read(SINK).matching


def test_secrets_are_write_only() -> None:
    credential = {"credentialtype": "ACCESSTOKEN", "accesstoken": "t0ken", "accesstokentype": "Bearer"}
    shown = render(read(sink(sinkcredential=credential)), {})
    assert shown["sinkcredential"] == {"credentialtype": "ACCESSTOKEN", "accesstokentype": "Bearer"}


def test_half_a_surrogate_pair_is_refused() -> None:
    assert "surrogate" in refused(sink(types=["\ud800"]))[""]


@given(st.integers(2**10, 2**30))
def test_sizes_are_shown_as_they_are_read(size_bytes: int) -> None:
    shown = render(read(config(batch={"max_bytes": format_size(size_bytes)})), {})
    batch = {"max_events": 100, "max_bytes": format_size(size_bytes), "max_wait": "5ms"}
    assert shown["config"]["batch"] == batch
