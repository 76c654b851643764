# SPDX-License-Identifier: Apache-2.0
"""A request as the API's calls see it: who, what, and a body that is read within bounds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from fairlead.core.json_text import check_value, malformed, value_of
from fairlead.core.members import Members
from fairlead.core.payload import check_charset, check_coding
from fairlead.core.policy import ANYONE, Principal
from fairlead.errors import Fault, InvalidHeader, InvalidRequest, UnsupportedMediaType
from fairlead.web.access import is_loopback, is_loopback_peer
from fairlead.web.body import Receive, read_body
from fairlead.web.limits import BodyLimits
from fairlead.web.query import Query, Word

_SUPPORTED = ["application/json"]
_JSON = re.compile(rb"application/(?:[^;]+\+)?json\s*(?:;|\Z)", re.IGNORECASE)
_TAG = re.compile(r'"([0-9]{1,18})"')


class Request(msgspec.Struct, eq=False):
    """One call.

    Attributes:
        params: the path's variable segments, decoded.
        headers: as they came, names in lower case; `named` has one value of each.
        client: address and port of the other end.
        principal: who calls; calls that need no login see `ANYONE`.
    """

    method: str
    path: str
    raw_path: bytes
    query_string: bytes
    headers: Sequence[tuple[bytes, bytes]]
    named: Mapping[bytes, bytes]
    receive: Receive
    id: str
    limits: BodyLimits
    client: Sequence[object] | None = None
    principal: Principal = ANYONE
    params: dict[str, str] = {}

    def header(self, name: bytes) -> bytes | None:
        """The header of that name."""
        return self.named.get(name)

    @property
    def texts(self) -> dict[str, str]:
        """One value of each header, as text."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.named.items()}

    @property
    def local(self) -> bool:
        """Whether it came over loopback, and its Host says so too: a proxy here passes others on."""
        return is_loopback_peer(self.client) and is_loopback(self.named.get(b"host", b""))

    def query(self, *known: str) -> Query:
        """The query parameters, of which the call has `known`. Raises InvalidQuery."""
        return Query(self.query_string, known)

    async def body(self, limit_bytes: int | None = None) -> bytes:
        """The body, as it was sent.

        Raises:
            UnsupportedMediaType: it is compressed.
            TooLarge, Disconnected: as `read_body`.
        """
        coding = self.named.get(b"content-encoding")
        if coding is not None:
            check_coding(coding.decode("latin-1"))
        limit = self.limits.request_bytes if limit_bytes is None else limit_bytes
        return await read_body(self.receive, self.header(b"content-length"), limit)

    async def json(self, *, optional: bool = False) -> Any:
        """The body decoded from JSON; {} for none where it is `optional`.

        Raises:
            UnsupportedMediaType: another content type or charset.
            MalformedJson: not JSON in UTF-8, or nested too deep.
            TooLarge, Disconnected: as `body`.
        """
        body = await self.body()
        if not body and optional:
            return {}
        content_type = self.header(b"content-type")
        if content_type is None or not _JSON.match(content_type):
            shown = "missing" if content_type is None else repr(content_type.decode(errors="replace")[:100])
            raise UnsupportedMediaType(
                f"the content-type is {shown}; this call takes application/json",
                members={"supported": _SUPPORTED},
            )
        check_charset(content_type.decode("latin-1"), _SUPPORTED)
        check_value(body, "")
        try:
            value = value_of(body)
            if b"\\u" in body:  # the store, like UTF-8, has no place for half a surrogate pair
                json.dumps(value, ensure_ascii=False, default=str).encode()
        except (ValueError, RecursionError) as error:
            raise malformed(body, error) from error
        return value

    async def members(self, known: Iterable[str], *, optional: bool = False) -> Body:
        """The body's members, of which the call has `known`. Raises as `json`."""
        return Body(await self.json(optional=optional), known)

    def revisions(self, name: bytes) -> list[int] | None:
        """The revisions that `If-Match` or `If-None-Match` lists; [] for `*`; None where it is absent.

        A tag that the relay never gave (a weak one, say) matches nothing: it counts as revision 0.

        Raises:
            InvalidHeader: it holds no entity tags.
        """
        value = self.header(name)
        if value is None:
            return None
        text = value.decode("latin-1").strip()
        if text == "*":
            return []
        tags = [tag.strip() for tag in text.split(",")]
        if not all(re.fullmatch(r'(?:W/)?"[!#-~\x80-\xff]*"', tag) for tag in tags):
            shown = name.decode()
            hint = 'copy the ETag, quotes and all: "3"'
            fault = Fault(header=shown, detail="must be * or entity tags", hint=hint)
            raise InvalidHeader(f"{shown} is {text[:100]!r}; it must be * or entity tags", faults=[fault])
        return [int(match[1]) if (match := _TAG.fullmatch(tag)) else 0 for tag in tags]


class Body(Members):
    """The members of a body that is neither an event nor a subscription; `check` refuses what was wrong."""

    def __init__(self, document: object, known: Iterable[str]) -> None:
        super().__init__(document, "", [], known)

    def whole(self, detail: str, hint: str | None = None) -> None:
        """Note what is wrong with the body as a whole."""
        self.faults.append(Fault(detail=detail, pointer="", hint=hint))

    def one_of(self, name: str, options: Sequence[Word]) -> Word | None:
        """One of a few words; None where it is absent, or a fault was noted."""
        if name in self:
            chosen = self.choice(name, options, "")
            return next((option for option in options if option == chosen), None)
        return None

    def check(self) -> None:
        """Raises InvalidRequest with every fault that was noted."""
        if self.faults:
            first = self.faults[0]
            detail = f"{first.pointer or 'the body'} {first.detail}"
            raise InvalidRequest(detail, faults=self.faults)
