# SPDX-License-Identifier: Apache-2.0
"""Plain JSON messages as events: each attribute is a literal, or stands somewhere in the message.

How the two are told apart (interface, section 9): what begins with `#/` is a JSON Pointer; what begins with
`/` is one too, but for `source`, where it is a literal (`/heat`); everything else is a literal, and so is
the text of `{ literal = "…" }` whatever it begins with.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.core.attributes import AttributeValue, check_attributes, is_json_type, shown
from fairlead.core.event import Event
from fairlead.core.json_text import check_value, value_of
from fairlead.core.pointer import Steps, parse_pointer, value_at
from fairlead.core.source_message import SourceMessage
from fairlead.errors import Fault, InvalidEvent


class Pointer(msgspec.Struct, frozen=True):
    """Where in a message a value stands (RFC 6901)."""

    text: str
    steps: Steps

    def find(self, document: Any) -> Any:
        """The value there; None where there is nothing, or null."""
        return value_at(document, self.steps)

    @classmethod
    def of(cls, text: str) -> Pointer:
        """Raises ValueError, as `parse_pointer`."""
        return cls(text, parse_pointer(text))


Part = str | Pointer


class JsonMapping(msgspec.Struct, frozen=True):
    """Where each attribute comes from.

    Attributes:
        doubtful: a literal `source` as a pointer: where a message has a value there, it is not clear which
            of the two was meant, and that message is refused.
    """

    source: Part
    type: Part
    subject: Part | None = None
    id: Pointer | None = None
    time: Pointer | None = None
    doubtful: Pointer | None = None

    def event_of(self, message: SourceMessage) -> Event:
        """The event of a message: the same for each copy of it, whenever it comes.

        The id is what `id` points to, else the message's `message_id`. The data is the body as it came.

        Raises:
            MalformedJson: the body is not JSON in UTF-8.
            InvalidEvent: what a pointer needs is not there, there is no id, or CloudEvents refuses a value.
        """
        check_value(message.body, "")
        document = value_of(message.body)
        self._check_source(document)
        attributes: dict[str, AttributeValue] = {
            "specversion": "1.0",
            "id": self._id(document, message.message_id),
            "source": _text("source", self.source, document),
            "type": _text("type", self.type, document),
        }
        if self.subject is not None:
            attributes["subject"] = _text("subject", self.subject, document)
        if self.time is not None and self.time.find(document) is not None:
            attributes["time"] = _text("time", self.time, document)
        content_type = message.content_type
        declared = content_type if content_type and is_json_type(content_type) else "application/json"
        attributes["datacontenttype"] = declared
        check_attributes(attributes)
        return Event.of(attributes, message.body.strip(b" \t\r\n"), "json")

    def _check_source(self, document: Any) -> None:
        if self.doubtful is not None and isinstance(self.doubtful.find(document), str):
            detail = (
                f'the message has a text at "{self.doubtful.text}", so source may mean that, or just itself'
            )
            hint = f'write source = "#{self.doubtful.text}" or source = {{ literal = "{self.source}" }}'
            raise InvalidEvent(
                f"{detail}; {hint}", faults=[Fault(pointer=self.doubtful.text, detail=detail, hint=hint)]
            )

    def _id(self, document: Any, message_id: str | None) -> str:
        if self.id is not None and self.id.find(document) is not None:
            return _text("id", self.id, document)
        if message_id:
            return message_id
        where = "" if self.id is None else f'there is nothing at "{self.id.text}", and '
        raise InvalidEvent(
            f"{where}the message has no message_id: without an id, a repeat of it would be another event",
            faults=[
                Fault(
                    pointer="" if self.id is None else self.id.text,
                    detail="no id is to be found",
                    hint="have the sender set message_id, or point id to what tells one message from another",
                )
            ],
        )


def json_mapping(
    *, source: object, type: object, subject: object = None, id: object = None, time: object = None
) -> JsonMapping:
    """The mapping that a configuration writes; see `part`.

    Raises:
        ValueError: its text begins with the key that cannot be understood.
    """
    parts = {"source": source, "type": type, "subject": subject, "id": id, "time": time}
    read = {name: part(name, value) for name, value in parts.items() if value is not None}
    doubtful = None
    if isinstance(source, str) and source.startswith("/"):
        try:
            doubtful = Pointer.of(source)
        except ValueError:
            doubtful = None  # it cannot be taken for one
    return JsonMapping(**read, doubtful=doubtful)  # type: ignore[arg-type]  # `part` lets id and time be pointers only


def part(name: str, value: object) -> Part:
    """One attribute of the mapping: a literal or a pointer.

    Raises:
        ValueError: it is neither, or a literal for an attribute that differs from message to message.
    """
    read = _part(name, value)
    if isinstance(read, str) and name in ("id", "time"):
        raise ValueError(f'{name}: must be a JSON Pointer such as "/{name}": it differs with each message')
    if isinstance(read, str):
        try:
            check_attributes({"specversion": "1.0", "id": "-", "source": "-", "type": "-", name: read})
        except InvalidEvent as problem:
            raise ValueError(f"{name}: {problem.faults[0].detail}") from None
    return read


def _part(name: str, value: object) -> Part:
    if isinstance(value, dict) and value.keys() == {"literal"} and isinstance(value["literal"], str):
        return value["literal"]
    if not isinstance(value, str) or not value:
        raise ValueError(
            f'{name}: must be a text, a JSON Pointer such as "/instance/id", or {{ literal = "…" }}'
        )
    if value.startswith("#/") or (value.startswith("/") and name != "source"):
        try:
            return Pointer.of(value.removeprefix("#"))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return value


def _text(name: str, part: Part, document: Any) -> str:
    """What an attribute is in this message; whole numbers are written in digits."""
    if isinstance(part, str):
        return part
    value = part.find(document)
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    what = "there is nothing" if value is None else f"there is {shown(value)}"
    detail = f"{what}, and {name} needs a text that is not empty, or a whole number"
    raise InvalidEvent(f'at "{part.text}" {detail}', faults=[Fault(pointer=part.text, detail=detail)])
