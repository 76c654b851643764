# SPDX-License-Identifier: Apache-2.0
"""One CloudEvents 1.0 event, its ordering key, its partition and its digest (design, sections 2 and 3).

`Event` is what users build and handlers get; `fairlead.core.codec` reads and writes it. The data stay the
bytes that came: `payload` with its `form`; `data` decodes them on demand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import msgspec

from fairlead.core import json_text
from fairlead.core.attributes import OPTIONAL, REQUIRED, AttributeValue, canonical, check_attributes
from fairlead.core.payload import Form, payload_of

_DEFINED = frozenset({*REQUIRED, *OPTIONAL})
_encode = msgspec.json.Encoder().encode
_decode_attributes = msgspec.json.Decoder(dict[str, AttributeValue]).decode


class Event:
    """One CloudEvents 1.0 event; immutable.

    Args:
        id, source, type: the required attributes, not empty.
        subject, time, datacontenttype, dataschema: the optional ones; `time` is RFC 3339.
        data: bytes stay binary; a str under a content type that is not JSON stays text; anything else must be
            JSON and `datacontenttype` then defaults to `application/json`.
        extensions: further attributes: lower-case letters and digits; str, int (32 bits) or bool.

    Raises:
        InvalidEvent: with one fault per attribute that CloudEvents 1.0 refuses.
    """

    __slots__ = ("_attributes", "_digest", "_form", "_head", "_payload", "_size")

    _attributes: Mapping[str, AttributeValue]
    _payload: bytes | None
    _form: Form
    _head: bytes | None
    _digest: bytes | None
    _size: int | None

    def __init__(  # noqa: PLR0917 - the order is promised (interface, section 11)
        self,
        id: str,
        source: str,
        type: str,
        subject: str | None = None,
        time: str | None = None,
        data: Any = None,
        datacontenttype: str | None = None,
        dataschema: str | None = None,
        **extensions: AttributeValue,
    ) -> None:
        payload, form, content_type = payload_of(data, datacontenttype)
        optional = {
            "subject": subject,
            "time": time,
            "datacontenttype": content_type,
            "dataschema": dataschema,
            **extensions,
        }
        attributes: dict[str, AttributeValue] = {"specversion": "1.0"}
        attributes |= {"id": id, "source": source, "type": type}
        attributes |= {name: value for name, value in optional.items() if value is not None}
        check_attributes(attributes)
        self._attributes = attributes
        self._payload = payload
        self._form = form
        self._head = self._digest = self._size = None

    @classmethod
    def of(
        cls,
        attributes: Mapping[str, AttributeValue],
        payload: bytes | None,
        form: Form,
    ) -> Event:
        """The event of attributes that were checked before; nothing is checked again.

        Args:
            attributes: every context attribute, `specversion` among them, none of them ours.
            payload: the data's bytes: JSON text, UTF-8 text or anything; None for no data.
            form: how the JSON format writes them: `data` as it is, `data` as a string, `data_base64`.
        """
        event = cls.__new__(cls)
        event._attributes = attributes
        event._payload = payload
        event._form = form
        event._head = event._digest = event._size = None
        return event

    @classmethod
    def from_row(cls, head: bytes, payload: bytes | None, form: Form) -> Event:
        """The event of a log row; `msgspec.DecodeError` where `head` is damaged."""
        event = cls.__new__(cls)
        event._attributes = _decode_attributes(head)
        event._payload = payload
        event._form = form
        event._head = head
        event._digest = None
        event._size = len(head) if payload is None else len(head) + len(payload)
        return event

    # -- attributes ------------------------------------------------------------------------------------

    @property
    def attributes(self) -> Mapping[str, AttributeValue]:
        """Every context attribute by name, `specversion` among them; read-only."""
        return MappingProxyType(self._attributes)

    @property
    def id(self) -> str:
        return str(self._attributes["id"])

    @property
    def source(self) -> str:
        return str(self._attributes["source"])

    @property
    def type(self) -> str:
        return str(self._attributes["type"])

    @property
    def subject(self) -> str | None:
        return self._text("subject")

    @property
    def time(self) -> str | None:
        return self._text("time")

    @property
    def datacontenttype(self) -> str | None:
        return self._text("datacontenttype")

    @property
    def dataschema(self) -> str | None:
        return self._text("dataschema")

    @property
    def extensions(self) -> dict[str, AttributeValue]:
        """The attributes that CloudEvents 1.0 does not define."""
        return {name: value for name, value in self._attributes.items() if name not in _DEFINED}

    def _text(self, name: str) -> str | None:
        value = self._attributes.get(name)
        return None if value is None else str(value)

    @property
    def key(self) -> str:
        """The ordering key (design, section 2)."""
        partition_key = self._attributes.get("partitionkey")
        if partition_key is not None:
            return str(partition_key)
        subject = self._attributes.get("subject")
        return self.source if subject is None else f"{self._attributes['source']} {subject}"

    @property
    def head(self) -> bytes:
        """The attributes as one JSON object, in the order in which they came."""
        head = self._head
        if head is None:
            head = self._head = _encode(self._attributes)
        return head

    # -- data ------------------------------------------------------------------------------------------

    @property
    def payload(self) -> bytes | None:
        """The data as the bytes that came; None for no data."""
        return self._payload

    @property
    def size(self) -> int:
        """Bytes of the attributes as JSON and of the data."""
        size = self._size
        if size is None:
            size = self._size = len(self.head) + len(self._payload or b"")
        return size

    @property
    def form(self) -> Form:
        return self._form

    @property
    def data(self) -> Any:
        """The data decoded: JSON as Python values, text as str, anything else as bytes; None for no data.

        JSON numbers that neither int nor float can hold come as `decimal.Decimal`.
        """
        if self._payload is None:
            return None
        if self._form == "json":
            return json_text.value_of(self._payload)
        return self._payload.decode() if self._form == "text" else self._payload

    # -- identity --------------------------------------------------------------------------------------

    @property
    def digest(self) -> bytes:
        """BLAKE2b-128 of the attributes in name order and of the data's bytes (design, section 3)."""
        digest = self._digest
        if digest is None:
            attributes, payload = self._attributes, self._payload
            template, values_of = _digested(None if payload is None else self._form, *attributes)
            values = values_of(attributes)
            try:
                "".join(values)
            except TypeError:  # an integer or a boolean is among them
                values = tuple(map(canonical, values))
            named = (template % values).encode()
            digest = blake2b(named if payload is None else named + payload, digest_size=16).digest()
            self._digest = digest
        return digest

    def same_as(self, other: Event) -> bool:
        """Whether `other` says the same: equal attributes, and equal bytes or, of two JSON texts, values.

        The form does not count: an event may come again in another content mode.
        """
        if self.digest == other.digest:
            return True
        if self._canonical() != other._canonical():
            return False
        one, two = self._payload or b"", other._payload or b""
        both_json = self._form == other._form == "json" and one != b"" != two
        return one == two or (both_json and json_text.same_value(one, two))

    def _canonical(self) -> dict[str, str]:
        return {name: canonical(value) for name, value in self._attributes.items()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Event(id={self.id!r}, source={self.source!r}, type={self.type!r}, subject={self.subject!r})"


@lru_cache(maxsize=256)
def _digested(form: Form | None, *names: str) -> tuple[str, Callable[[Mapping[str, Any]], tuple[Any, ...]]]:
    """What of attributes of these names is digested, with a place for each value; the values in this order.

    No value holds a zero byte, so names and values cannot run into each other. Few sets of names are in use.
    """
    ordered = sorted(names)
    template = "".join([f"{name}\0%s\0" for name in ordered])
    return template if form is None else f"{template}{form}\0", itemgetter(*ordered)


def partition_of(key: str, partitions: int) -> int:
    """The partition of an ordering key: BLAKE2b-256's first 8 bytes, big-endian, modulo `partitions`."""
    return int.from_bytes(blake2b(key.encode(), digest_size=32).digest()[:8], "big") % partitions
