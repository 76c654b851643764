# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document: valid, complete, and true of what the relay serves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

from fairlead.errors import problems
from fairlead.web.openapi import openapi_document
from tests.contract.api_scene import play, relay

DOCUMENT = openapi_document()
OPERATIONS = [
    (method, path, operation)
    for path, calls in DOCUMENT["paths"].items()
    for method, operation in calls.items()
]


def _resolved(schema: Any) -> dict[str, Any]:
    """A schema that can be checked against by itself."""
    return {**schema, "components": DOCUMENT["components"]}


def _refs(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for member in node.values():
            yield from _refs(member)
    elif isinstance(node, list):
        for item in node:
            yield from _refs(item)


def test_it_is_openapi_3_1() -> None:
    jsonschema.Draft202012Validator(OPENAPI_31).validate(DOCUMENT)
    assert DOCUMENT["openapi"].startswith("3.1")


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_every_schema_is_one(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(DOCUMENT["components"]["schemas"][name])


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    known = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert set(_refs(DOCUMENT)) == known


def test_a_secret_can_be_changed_in_any_state() -> None:
    paths = DOCUMENT["paths"]
    for operation in (paths["/subscriptions/{id}/secret"]["post"], paths["/subscriptions/{id}"]["put"]):
        assert "wrong-state" not in str(operation["responses"])


def test_it_names_every_call_and_no_other(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api:
            assert (await api.get("/openapi.json")).json == DOCUMENT
            assert "put" in DOCUMENT["paths"]["/bridges/imagefactory/{path}"]
            app = api.server._app
            assert app is not None
            served = {(one.method, one.template.replace("...}", "}")) for one in app.router.routes}
            assert {(method.upper(), path) for method, path, _ in OPERATIONS} == served
            for method, path, operation in OPERATIONS:
                (route,) = [
                    one
                    for one in app.router.routes
                    if (one.method, one.template.replace("...}", "}")) == (method.upper(), path)
                ]
                assert route.login == ("security" not in operation), (method, path)

    play(scene())


@pytest.mark.parametrize(
    ("method", "path", "operation"), OPERATIONS, ids=lambda one: one if isinstance(one, str) else ""
)
def test_every_call_is_described_whole(method: str, path: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"} == {
        part.strip("{}") for part in path.split("/") if part.startswith("{")
    }
    assert any(status.startswith("2") for status in operation["responses"])
    for status, response in operation["responses"].items():
        assert response["description"]
        assert "X-Request-Id" in response["headers"]
        if not status.startswith(("2", "503")):
            assert "application/problem+json" in response["content"]


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(names)) == len(names)


def test_every_example_is_one_of_its_schema() -> None:
    checked = 0
    for _, _, operation in OPERATIONS:
        for content in operation.get("requestBody", {}).get("content", {}).values():
            jsonschema.Draft202012Validator(_resolved(content["schema"])).validate(content["example"])
            checked += 1
        for response in operation["responses"].values():
            for content in response.get("content", {}).values():
                for example in content.get("examples", {}).values():
                    jsonschema.Draft202012Validator(_resolved(content["schema"])).validate(example["value"])
                    checked += 1
    assert checked > len(OPERATIONS)


def test_every_problem_that_the_relay_can_answer_is_named() -> None:
    told = {
        name
        for _, _, operation in OPERATIONS
        for response in operation["responses"].values()
        for content in response.get("content", {}).values()
        for name in content.get("examples", {})
    }
    every = {
        one.type
        for one in vars(problems).values()
        if isinstance(one, type) and issubclass(one, problems.Problem)
    }
    only_of_receivers = {"chain", "stale"}
    not_yet = {"rate-limited"}
    assert every - told - only_of_receivers - not_yet == {"method-not-allowed"}
