# SPDX-License-Identifier: Apache-2.0
"""Which resource an OpenStack notification is about: a table of event types, which one can extend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairlead.core.attributes import shown
from fairlead.core.pointer import Steps, parse_pointer, value_at

BUILT_IN = (
    # Heat
    ("orchestration.", "/stack_identity"),
    # Nova: the older notifications, the scheduler's among them, and the versioned ones
    ("compute.", "/instance_id"),
    ("compute_task.", "/instance_id"),
    ("compute_task.", "/nova_object.data/instance_uuid"),
    ("scheduler.", "/instance_id"),
    ("instance.", "/nova_object.data/uuid"),
    ("server_group.", "/nova_object.data/uuid"),
    ("aggregate.", "/nova_object.data/uuid"),
    ("flavor.", "/nova_object.data/flavorid"),
    ("service.", "/nova_object.data/uuid"),
    # Cinder
    ("volume.", "/volume_id"),
    ("volume.usage", "/nova_object.data/volume_id"),
    ("replication.", "/volume_id"),
    ("scheduler.", "/volume_id"),
    ("snapshot.", "/snapshot_id"),
    ("backup.", "/backup_id"),
    ("group.", "/group_id"),
    ("group_snapshot.", "/group_snapshot_id"),
    ("consistencygroup.", "/consistencygroup_id"),
    ("cgsnapshot.", "/cgsnapshot_id"),
    # Neutron: its create.start knows no id yet
    *(
        (f"{kind}.", pointer)
        for kind in ("network", "subnet", "port", "router", "floatingip", "security_group")
        for pointer in (f"/{kind}/id", f"/{kind}_id", "/id")
    ),
    # Glance
    ("image.", "/id"),
    ("image.send", "/image_id"),
    ("image.member.", "/image_id"),
    # Keystone: its own notifications, and CADF
    ("identity.", "/resource_info"),
    ("identity.", "/target/id"),
    # Ironic
    ("baremetal.", "/ironic_object.data/uuid"),
)
"""Prefix of the event type → JSON Pointer into the payload."""


class KeyTable:
    """Finds the resource: the longest prefix first whose pointer leads to a text or a whole number.

    Args:
        own: prefix of the event type → JSON Pointer; of equal prefixes they come before the built-in ones.
            A pointer is tried in the payload and then in the whole notification, so `/stack_identity` and
            `/payload/stack_identity` say the same.

    Raises:
        ValueError: a pointer is none; the message names the entry.
    """

    def __init__(self, own: Mapping[str, str] | None = None) -> None:
        entries = [*(own or {}).items(), *BUILT_IN]
        entries.sort(key=lambda entry: -len(entry[0]))
        self._entries = [(prefix, _steps(prefix, pointer)) for prefix, pointer in entries]

    def key_of(self, event_type: str, notification: Mapping[str, Any]) -> str | None:
        """The id of the resource that a notification is about; None where the table does not say."""
        for prefix, steps in self._entries:
            if event_type.startswith(prefix):
                for document in (notification.get("payload"), notification):
                    key = _key(value_at(document, steps))
                    if key is not None:
                        return key
        return None


def _key(value: Any) -> str | None:
    if isinstance(value, str):
        return value if value and value.isprintable() else None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _steps(prefix: str, pointer: str) -> Steps:
    try:
        return parse_pointer(pointer)
    except ValueError as error:
        raise ValueError(f"the key of {shown(prefix)} is {shown(pointer)}; it {error}") from None
