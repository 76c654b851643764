# SPDX-License-Identifier: Apache-2.0
"""The interface as an OpenAPI 3.1 document, made from the table of calls and the table of errors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from fairlead import errors as e
from fairlead.core.codec import BATCH
from fairlead.core.problem import MEDIA_TYPE
from fairlead.errors import Problem
from fairlead.version import __version__
from fairlead.web.openapi_calls import CALLS, PATH_PARAMETERS, Call
from fairlead.web.openapi_schemas import SCHEMAS
from fairlead.web.openapi_words import TEXT, Schema, array, ref

EVERYWHERE: tuple[type[Problem], ...] = (
    e.InvalidHeader, e.InvalidQuery, e.ForeignHost, e.ForeignOrigin, e.HeadersTooLarge, e.RequestTimeout,
    e.Overloaded, e.Internal,
)  # fmt: skip
"""What any call may answer: it comes before the call itself, or is a defect."""
LOGGED_IN: tuple[type[Problem], ...] = (e.Unauthenticated, e.Forbidden)
_TAGS = {
    "events": "Publishing and looking at events",
    "subscriptions": "Who wants which events, where and how",
    "keys": "API keys",
    "rejects": "What could not be taken",
    "bridges": "Callbacks of other products",
    "relay": "The relay itself",
}


@cache
def openapi_document() -> dict[str, Any]:
    """The document; complete, and the same for every relay of this version."""
    paths: dict[str, dict[str, Any]] = {}
    for call in CALLS:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fairlead",
            "version": __version__,
            "summary": "Ordered, durable, authenticated notifications between the components of a platform",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "security": [{"bearer": []}, {"basic": []}, {}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "an API key, flk_…"},
                "basic": {"type": "http", "scheme": "basic", "description": "the key as password"},
            },
        },
    }


def _operation(call: Call) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(call),
        "summary": call.summary,
        "tags": [_tag(call.path)],
        "parameters": _parameters(call),
        "responses": _responses(call),
    }
    if call.takes is not None:
        operation["requestBody"] = {"required": not call.optional_body, "content": _content(call, call.takes)}
    if not call.login:
        operation["security"] = [{}]
    return operation


def _operation_id(call: Call) -> str:
    return re.sub(r"[^a-z]+", "_", f"{call.method} {call.path}".lower()).strip("_")


def _tag(path: str) -> str:
    noun = path.split("/")[1]
    return noun if noun in _TAGS else "relay"


def _parameters(call: Call) -> list[dict[str, Any]]:
    parameters = []
    for name in re.findall(r"{(\w+)}", call.path):
        prefix = next((one for one in PATH_PARAMETERS if call.path.startswith(one)), "")
        schema = PATH_PARAMETERS[prefix] if prefix.endswith(f"{{{name}}}") else TEXT
        parameters.append({"name": name, "in": "path", "required": True, "schema": schema})
    for place, named in (("query", call.query), ("header", call.headers)):
        for name, schema in (named or {}).items():
            parameters.append({"name": name, "in": place, "schema": schema})
    return parameters


def _content(call: Call, schema: Schema) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for media in call.media:
        batch = media == BATCH
        example = [call.example] if batch else call.example
        content[media] = {"schema": array(schema) if batch else schema, "example": example}
    return content


def _responses(call: Call) -> dict[str, Any]:
    responses = {str(status): _answer(status, schema) for status, schema in call.answers.items()}
    errors = (*call.errors, *EVERYWHERE, *(LOGGED_IN if call.login else ()))
    by_status: dict[int, list[type[Problem]]] = {}
    for error in dict.fromkeys(errors):
        by_status.setdefault(422 if _still_rejected(call, error) else error.status, []).append(error)
    for status, kinds in sorted(by_status.items()):
        responses.setdefault(str(status), _problem(status, kinds))
    return responses


def _still_rejected(call: Call, error: type[Problem]) -> bool:
    """A reject that is replayed was refused with 400 before; now there is no request to mend: 422."""
    return call.path.startswith("/rejects") and error is e.InvalidEvent


def _answer(status: int, schema: Schema | str | None) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": _PHRASES[status], "headers": {"X-Request-Id": {"schema": TEXT}}}
    if isinstance(schema, str):
        answer["content"] = {schema: {"schema": {"type": "string"}}}
    elif schema is not None:
        answer["content"] = {"application/json": {"schema": schema}}
        if schema == ref("Subscription"):
            answer["headers"]["ETag"] = {"schema": TEXT}
    if status == 201:
        answer["headers"]["Location"] = {"schema": TEXT}
    return answer


def _problem(status: int, kinds: Iterable[type[Problem]]) -> dict[str, Any]:
    kinds = list(kinds)
    headers: dict[str, Any] = {"X-Request-Id": {"schema": TEXT}}
    if status == 401:
        headers["WWW-Authenticate"] = {"schema": TEXT}
    if status in (429, 503, 507):
        headers["Retry-After"] = {"schema": {"type": "integer", "minimum": 0}}
    examples = {
        kind.type: {
            "value": {
                "type": f"{e.PROBLEM_URN}{kind.type}",
                "title": kind.title,
                "status": status,
                "detail": kind.title,
                "request_id": "19ab0c51f3e-2a",
            }
        }
        for kind in kinds
    }
    return {
        "description": "; ".join(f"`{kind.type}`: {kind.title}" for kind in kinds),
        "headers": headers,
        "content": {MEDIA_TYPE: {"schema": ref("Problem"), "examples": examples}},
    }


_PHRASES = {
    200: "Done",
    201: "Made",
    202: "Taken",
    204: "Done; nothing to say",
    503: "Not ready",
}
