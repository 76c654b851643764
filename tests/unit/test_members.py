# SPDX-License-Identifier: Apache-2.0
"""Reading what a user wrote: what is wrong is told, once, and nothing that follows from it."""

from __future__ import annotations

from fairlead.core.members import Members
from fairlead.errors import Fault


def test_a_member_is_told_wrong_once() -> None:
    faults: list[Fault] = []
    members = Members({"keys": 5, "other": True}, "", faults, ("keys", "other"))
    assert members.array("keys") == members.array("keys") == []
    members.fault("keys", "must be 1 to 9 strings")
    members.text("other")
    assert [(fault.pointer, fault.detail) for fault in faults] == [
        ("/keys", "must be an array"),
        ("/other", "must be a string"),
    ]


def test_what_is_no_object_misses_no_members() -> None:
    faults: list[Fault] = []
    Members({"event": 5}, "", faults, ("event",)).nested("event", ("source", "id")).required_text("id")
    assert [(fault.pointer, fault.detail) for fault in faults] == [("/event", "must be an object")]
