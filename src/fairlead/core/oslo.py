# SPDX-License-Identifier: Apache-2.0
"""An OpenStack notification as an event: the same event by whichever way it came.

The driver `fairlead` and a source that reads `notifications.*` queues both call `event_of`. A service that
uses both therefore has each event once: same source, id, key and data, which the relay knows as a duplicate.

| attribute                 | from                                                                  |
|---------------------------|-----------------------------------------------------------------------|
| `id`                      | `message_id`                                                          |
| `source`                  | `publisher_id`: `compute.node-1` is `/openstack/compute/node-1`       |
| `type`                    | `event_type`, as it is                                                |
| `time`                    | `timestamp`, which is UTC                                             |
| `subject`, `partitionkey` | the resource (`KeyTable`); absent where it is not known               |
| `priority`                | `priority`, in lower case                                             |
| data                      | the notification without the request's context and what transports add |
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from fairlead.core import json_text
from fairlead.core.attributes import AttributeValue, check_attributes, shown
from fairlead.core.durations import parse_time
from fairlead.core.event import Event
from fairlead.core.oslo_keys import KeyTable
from fairlead.core.payload import Form
from fairlead.errors import Fault, InvalidEvent, MalformedJson

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.\d{1,9})?)(Z|[+-]\d\d:\d\d)?", re.ASCII)
_SEPARATOR = re.compile(r"[.:]")
_encode = msgspec.json.Encoder().encode


def event_of(
    body: bytes,
    content_type: str | None,
    keys: KeyTable,
    *,
    source: str | None,
) -> Event:
    """The event of one message of a notification queue, in either envelope of oslo.messaging.

    Version 1 is the notification itself, version 2 `{"oslo.version": "2.0", "oslo.message": "<JSON>"}`.
    Members that begin with `_` (the request's context with its logins, and the transport's own) are left out.
    A notification with NaN, Infinity or half a surrogate pair, which Python writes and JSON has not, is kept
    as it is in data of the type `text/plain`.

    Args:
        content_type: named in the error of what is not JSON; nothing depends on it.
        source: every event's `source`; None to make it of `publisher_id`.

    Raises:
        InvalidEvent: not a notification; the message says why, and no more of the content than one value.
    """
    if not isinstance(document := _read(body, content_type), dict):
        raise _refused("", f"must be an object, and is {shown(document)}")
    if "oslo.message" in document or "oslo.version" in document:
        body = _inner(document)
        if not isinstance(document := _read(body, content_type), dict):
            raise _refused("/oslo.message", "must hold an object")
    id, event_type = (_required(document, name) for name in ("message_id", "event_type"))
    if "payload" not in document:
        raise _refused("/payload", "is missing")
    key = keys.key_of(event_type, document)
    content_type, payload, form = _data(body, document)
    attributes: dict[str, AttributeValue | None] = {
        "specversion": "1.0",
        "id": id,
        "source": source or source_of(document.get("publisher_id")),
        "type": event_type,
        "subject": key,
        "time": _time(document.get("timestamp")),
        "datacontenttype": content_type,
        "partitionkey": key,
        "priority": _priority(document.get("priority")),
    }
    present = {name: value for name, value in attributes.items() if value is not None}
    check_attributes(present)
    return Event.of(present, payload, form)


def source_of(publisher_id: object) -> str:
    """The `source` of a publisher: `/openstack/<service>/<host>`, or as much of it as there is.

    The service ends at the first `.` or `:`, as in `compute.node-1` or `nova-compute:node-1`.
    """
    if not isinstance(publisher_id, str) or not publisher_id:
        return "/openstack"
    service, *host = _SEPARATOR.split(publisher_id, maxsplit=1)
    parts = [quote(part, safe="@:", errors="replace") for part in (service, *host) if part]
    return "/".join(["/openstack", *parts])


def _read(body: bytes, content_type: str | None) -> Any:
    try:
        return json.loads(body)  # takes NaN and half surrogate pairs, as Python's publishers write them
    except (ValueError, RecursionError) as error:
        of_type = "" if content_type is None else f" of the type {content_type[:100]}"
        detail = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise _refused("", f"is no JSON{of_type}: {detail}") from None


def _inner(document: Mapping[str, Any]) -> bytes:
    version, text = document.get("oslo.version"), document.get("oslo.message")
    if not isinstance(version, str) or version.partition(".")[0] != "2":
        raise _refused("/oslo.version", f'must be "2.0", and is {shown(version)}')
    if not isinstance(text, str):
        raise _refused("/oslo.message", f"must be a string, and is {shown(text)}")
    return text.encode(errors="surrogatepass")


def _required(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        was = "is missing" if value is None else f"must be a string that is not empty, and is {shown(value)}"
        raise _refused(f"/{name}", was)
    return value


def _data(body: bytes, document: Mapping[str, Any]) -> tuple[str, bytes, Form]:
    """The content type and the data: the members as they were written, less those that begin with `_`."""
    try:
        json_text.check_value(body)
    except MalformedJson:
        kept = {name: value for name, value in document.items() if not name.startswith("_")}
        try:
            return "text/plain", json.dumps(kept).encode(), "text"
        except RecursionError:
            raise _refused("", "is nested too deeply") from None
    members = json_text.members(body)
    kept = {name: value for name, value in members.items() if not name.startswith("_")}
    return "application/json", _encode(kept), "json"


def _time(timestamp: object) -> str | None:
    """`timestamp` as RFC 3339; what is no time stays in the data alone."""
    match = _TIME.fullmatch(timestamp) if isinstance(timestamp, str) else None
    if match is None:
        return None
    time = f"{match[1]}T{match[2]}{match[3] or 'Z'}"
    try:
        parse_time(time)
    except ValueError:
        return None
    return time


def _priority(priority: object) -> str | None:
    return priority.lower() if isinstance(priority, str) and priority.isprintable() and priority else None


def _refused(pointer: str, detail: str) -> InvalidEvent:
    fault = Fault(pointer=pointer, detail=detail)
    return InvalidEvent(f"not an OpenStack notification: {pointer or 'the body'} {detail}", faults=[fault])
