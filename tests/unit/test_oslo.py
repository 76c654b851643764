# SPDX-License-Identifier: Apache-2.0
"""OpenStack notifications as events: both envelopes, resources, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.oslo import event_of, source_of
from fairlead.core.oslo_keys import BUILT_IN, KeyTable
from fairlead.core.pointer import parse_pointer, value_at
from fairlead.errors import InvalidEvent

CONTEXT = {
    "_context_user": "admin",
    "_context_auth_token": "gAAAAA-token",
    "_context_password": "hunter2",
    "_context_request_id": "req-1",
    "_context": {"auth_token": "gAAAAA-token"},
    "_unique_id": "862052c7d6fa400284def78701b14fa2",
    "_msg_id": None,
}
# As oslo.messaging 18.3.1 sent it, with the payload of Heat's engine.
HEAT: dict[str, Any] = {
    "message_id": "ac43bd28-7b2f-4a64-9d9e-8f3d8f6f1f00",
    "publisher_id": "orchestration.host1",
    "event_type": "orchestration.stack.create.error",
    "priority": "ERROR",
    "payload": {
        "tenant_id": "t-1",
        "user_id": "fred",
        "user_identity": "u-1",
        "username": "fred",
        "stack_identity": "3f1b6d0e-9a3e-4d7c-9a51-7e2f6f1f9b11",
        "stack_name": "fred",
        "state": "CREATE_FAILED",
        "state_reason": "Resource CREATE failed: \u00fc",
        "create_at": "2026-11-22T14:07:50Z",
        "updated_at": None,
        "tags": None,
    },
    "timestamp": "2026-11-22 14:07:50.953760",
}
NOVA = {
    "message_id": "m-2",
    "publisher_id": "nova-compute:compute.example.org",
    "event_type": "instance.create.start",
    "priority": "INFO",
    "payload": {
        "nova_object.name": "InstanceActionPayload",
        "nova_object.data": {"uuid": "178b0921-8f85-4257-88b6-2e743b5a975c", "state": "building"},
    },
    "timestamp": "2026-11-22 14:07:51",
}


def v1(notification: object) -> bytes:
    return json.dumps(notification).encode()


def v2(notification: object, version: object = "2.0") -> bytes:
    return json.dumps({"oslo.version": version, "oslo.message": json.dumps(notification)}).encode()


def read(body: bytes, keys: KeyTable | None = None, source: str | None = None) -> Any:
    return event_of(body, "application/json", keys or KeyTable(), source=source)


def test_a_stack_notification_of_heat() -> None:
    event = read(v2(HEAT | CONTEXT))
    assert dict(event.attributes) == {
        "specversion": "1.0",
        "id": HEAT["message_id"],
        "source": "/openstack/orchestration/host1",
        "type": "orchestration.stack.create.error",
        "subject": HEAT["payload"]["stack_identity"],
        "partitionkey": HEAT["payload"]["stack_identity"],
        "time": "2026-11-22T14:07:50.953760Z",
        "priority": "error",
        "datacontenttype": "application/json",
    }
    assert event.data == HEAT
    assert event.key == HEAT["payload"]["stack_identity"]


def test_a_versioned_notification_of_nova() -> None:
    event = read(v2(NOVA))
    assert event.key == event.subject == "178b0921-8f85-4257-88b6-2e743b5a975c"
    assert event.source == "/openstack/nova-compute/compute.example.org"
    assert event.time == "2026-11-22T14:07:51Z"


def test_both_envelopes_give_the_same_event() -> None:
    assert read(v1(HEAT | CONTEXT)) == read(v2(HEAT)) == read(v2(CONTEXT | {"_unique_id": "another"} | HEAT))
    reordered = dict(reversed(list(HEAT.items())))
    assert read(v1(HEAT)).same_as(read(v1(reordered)))


def test_start_and_error_of_one_stack_have_one_key() -> None:
    start = HEAT | {"message_id": "m-1", "event_type": "orchestration.stack.create.start", "priority": "INFO"}
    assert read(v2(start)).key == read(v2(HEAT)).key


@pytest.mark.parametrize("envelope", [v1, v2])
def test_nothing_of_the_context_is_kept(envelope: Any) -> None:
    for notification in (HEAT | CONTEXT, HEAT | CONTEXT | {"payload": {"rate": float("nan")}}):
        event = read(envelope(notification))
        whole = event.head + (event.payload or b"")
        for secret in (b"gAAAAA", b"hunter2", b"req-1", b"_context", b"_unique_id"):
            assert secret not in whole


def test_data_keep_their_spelling() -> None:
    body = json.dumps(HEAT | {"payload": "@"}).replace('"@"', '{"n": 1.10, "big": 12345678901234567890123}')
    event = read(body.encode())
    assert b'{"n": 1.10, "big": 12345678901234567890123}' in (event.payload or b"")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "half \ud800 a pair"])
def test_what_only_python_writes_is_kept_as_text(value: object) -> None:
    notification = HEAT | {"payload": {"stack_identity": "s-1", "value": value}}
    event = read(v2(notification | CONTEXT))
    assert event.key == "s-1"
    assert event.datacontenttype == "text/plain"
    assert json.dumps(json.loads(event.data)) == json.dumps(notification)
    assert event == read(v1(notification))


def test_nested_beyond_our_levels_is_kept_as_text() -> None:
    deep: Any = "end"
    for _ in range(200):
        deep = [deep]
    event = read(v1(HEAT | {"payload": deep}))
    assert json.loads(event.data)["payload"] == deep


# -- resources -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event_type", "payload", "key"),
    [
        ("orchestration.autoscaling.start", {"stack_identity": "s"}, "s"),
        ("compute.instance.create.end", {"instance_id": "i"}, "i"),
        ("compute_task.build_instances", {"instance_id": "i"}, "i"),
        ("compute_task.build_instances.error", {"nova_object.data": {"instance_uuid": "i"}}, "i"),
        ("scheduler.create_volume", {"volume_id": "v"}, "v"),
        ("volume.attach.start", {"volume_id": "v", "snapshot_id": "no"}, "v"),
        ("volume.usage", {"nova_object.data": {"volume_id": "v"}}, "v"),
        ("snapshot.create.end", {"volume_id": "no", "snapshot_id": "s"}, "s"),
        ("backup.create.end", {"volume_id": "no", "backup_id": "b"}, "b"),
        ("network.create.start", {"network": {"name": "n"}}, None),
        ("network.create.end", {"network": {"id": "n"}}, "n"),
        ("port.delete.end", {"port_id": "p"}, "p"),
        ("port.update.start", {"port": {"admin_state_up": True}, "id": "p"}, "p"),
        ("image.update", {"id": "g"}, "g"),
        ("image.member.create", {"image_id": "g", "member_id": "no"}, "g"),
        ("identity.project.created", {"resource_info": "p"}, "p"),
        ("identity.authenticate", {"target": {"id": "t"}}, "t"),
        ("unknown.thing", {"id": "x"}, None),
        ("orchestration.stack.create.end", "text", None),
        ("orchestration.stack.create.end", {"stack_identity": ""}, None),
        ("orchestration.stack.create.end", {"stack_identity": None}, None),
        ("orchestration.stack.create.end", {"stack_identity": "a\nb"}, None),
        ("orchestration.stack.create.end", {"stack_identity": True}, None),
        ("orchestration.stack.create.end", {"stack_identity": 7}, "7"),
    ],
)
def test_the_resource_of_an_event_type(event_type: str, payload: object, key: str | None) -> None:
    event = read(v2(HEAT | {"event_type": event_type, "payload": payload}))
    assert event.attributes.get("partitionkey") == event.subject == key
    assert event.key == (key or "/openstack/orchestration/host1")


def test_a_table_of_ones_own_comes_first_and_the_longest_prefix_wins() -> None:
    keys = KeyTable(
        {"compute.": "/tenant_id", "compute.instance.exists": "/payload/host", "": "/publisher_id"}
    )
    payload = {"instance_id": "i", "tenant_id": "t", "host": "h"}
    found = [
        keys.key_of(kind, {"payload": payload, "publisher_id": "p"})
        for kind in ("compute.x", "x", "volume.x")
    ]
    assert found == ["t", "p", "p"]
    assert keys.key_of("compute.instance.exists", {"payload": payload}) == "h"
    assert keys.key_of("compute.instance.exists", {"payload": {"instance_id": "i"}}) == "i"


@pytest.mark.parametrize("pointer", ["", "instance_id", "/a~2b", "/a~"])
def test_what_is_no_pointer_is_refused_by_name(pointer: str) -> None:
    with pytest.raises(ValueError, match=r'the key of "compute\." is .* must be a JSON Pointer'):
        KeyTable({"compute.": pointer})


def test_pointers_are_those_of_rfc_6901() -> None:
    document = {"a/b": {"m~n": [{"x": 1}, None]}, "": 0, "7": "seven"}
    found = [
        value_at(document, parse_pointer(p))
        for p in ("/a~1b/m~0n/0/x", "/", "/7", "/a~1b/m~0n/01", "/a~1b/x")
    ]
    assert found == [1, 0, "seven", None, None]


def test_every_built_in_pointer_is_one() -> None:
    for prefix, pointer in BUILT_IN:
        assert prefix
        assert parse_pointer(pointer)


# -- source, time, priority ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("publisher_id", "source"),
    [
        ("orchestration.host1", "/openstack/orchestration/host1"),
        ("volume.node-1.example.org@lvm#pool a", "/openstack/volume/node-1.example.org@lvm%23pool%20a"),
        ("nova-compute:node", "/openstack/nova-compute/node"),
        ("heat", "/openstack/heat"),
        ("identity.", "/openstack/identity"),
        ("a/b.../c", "/openstack/a%2Fb/..%2Fc"),
        ("", "/openstack"),
        (None, "/openstack"),
        (7, "/openstack"),
    ],
)
def test_the_source_of_a_publisher(publisher_id: object, source: str) -> None:
    assert source_of(publisher_id) == source
    assert read(v1(HEAT | {"publisher_id": publisher_id})).source == source
    assert read(v1(HEAT | {"publisher_id": publisher_id}), source="/mine").source == "/mine"


@given(st.text())
def test_every_publisher_has_a_source(publisher_id: str) -> None:
    assert read(v1(HEAT | {"publisher_id": publisher_id})).source.startswith("/openstack")


@pytest.mark.parametrize(
    ("timestamp", "time"),
    [
        ("2026-11-22T14:07:50+01:00", "2026-11-22T14:07:50+01:00"),
        ("2026-11-22 14:07:50", "2026-11-22T14:07:50Z"),
        ("2026-02-30 14:07:50", None),
        ("yesterday", None),
        (1795359000, None),
        (None, None),
    ],
)
def test_the_time_of_a_timestamp(timestamp: object, time: str | None) -> None:
    event = read(v1(HEAT | {"timestamp": timestamp}))
    assert event.time == time
    assert event.data["timestamp"] == timestamp


def test_a_priority_that_is_none_is_left_out() -> None:
    assert "priority" not in read(v1({k: v for k, v in HEAT.items() if k != "priority"})).attributes


# -- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "is no JSON of the type application/json"),
        (b"\xff\xfe\x00", "is no JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "must be an object"),
        (b"{}", "/message_id is missing"),
        (v1({"method": "build", "args": {}}), "/message_id is missing"),
        (v1(HEAT | {"message_id": 7}), "/message_id must be a string"),
        (v1(HEAT | {"message_id": "a\x01b"}), r"must not hold U\+0001"),
        (v1(HEAT | {"event_type": None}), "/event_type is missing"),
        (v1({k: v for k, v in HEAT.items() if k != "payload"}), "/payload is missing"),
        (v2(HEAT, "3.0"), '/oslo.version must be "2.0", and is "3.0"'),
        (v2(HEAT, 2.0), "/oslo.version must be"),
        (
            json.dumps({"oslo.version": "2.0", "oslo.message": HEAT}).encode(),
            "/oslo.message must be a string",
        ),
        (json.dumps({"oslo.version": "2.0", "oslo.message": "no"}).encode(), "is no JSON"),
        (
            json.dumps({"oslo.version": "2.0", "oslo.message": "[]"}).encode(),
            "/oslo.message must hold an object",
        ),
    ],
)
def test_what_is_no_notification_is_refused_with_the_reason(body: bytes, why: str) -> None:
    with pytest.raises(InvalidEvent, match=why):
        read(body)


@given(
    st.binary()
    | st.recursive(st.none() | st.booleans() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_whatever_comes_is_an_event_or_refused(body: bytes) -> None:
    try:
        read(body)
    except InvalidEvent:
        return


@given(
    st.dictionaries(
        st.sampled_from([*HEAT, "oslo.version", "oslo.message", "_context_x"]),
        st.none() | st.text() | st.integers() | st.floats() | st.dictionaries(st.text(), st.text()),
    )
)
def test_whatever_its_members_are_it_is_an_event_or_refused(members: dict[str, Any]) -> None:
    for envelope in (v1, v2):
        try:
            event = read(envelope(HEAT | members))
        except InvalidEvent:
            continue
        assert event.id == (HEAT | members)["message_id"]
