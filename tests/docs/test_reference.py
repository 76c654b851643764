# SPDX-License-Identifier: Apache-2.0
"""Nothing that a user meets is undocumented, generated pages are fresh, and links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from fairlead.cli.program import COMMANDS, EXITS, program
from fairlead.config import SETTINGS
from fairlead.errors import Problem
from fairlead.web.openapi_schemas import SCHEMAS
from tests.docs.pages import PAGES, ROOT, name_of

REFERENCE = ROOT / "docs" / "reference"
METRIC = re.compile(r'"(fairlead_[a-z_]+)"')
LINK = re.compile(r"\]\(([^)\s]+)\)")


def writer() -> ModuleType:
    """scripts/write_reference.py, which is no package."""
    spec = importlib.util.spec_from_file_location("write_reference", ROOT / "scripts" / "write_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def all_problems(of: type[Problem] = Problem) -> set[type[Problem]]:
    return {kind for below in of.__subclasses__() for kind in {below, *all_problems(below)}}


@pytest.mark.parametrize("page", ["configuration.md", "cli.md"])
def test_the_generated_pages_are_what_the_code_says(page: str) -> None:
    assert (REFERENCE / page).read_text() == writer().PAGE_MAKERS[page](), "run: make docs"


def test_every_setting_is_documented() -> None:
    text = (REFERENCE / "configuration.md").read_text()
    for row in SETTINGS:
        assert f"| `{row.key}` |" in text
        assert f"`{row.variable}`" in text


def test_every_command_is_documented_and_says_what_it_does() -> None:
    text = (REFERENCE / "cli.md").read_text()
    context = click.Context(program, info_name="fairlead")
    seen = {context_.command_path: command for command, context_ in writer().commands(program, context)}
    assert {f"fairlead {name}" for name in COMMANDS} <= set(seen)
    for path, command in seen.items():
        assert f"## `{path}`" in text
        assert command.help, path
        for parameter in command.params:
            assert isinstance(parameter, click.Argument) or parameter.help, f"{path} {parameter.name}"


def test_every_json_document_that_no_call_answers_is_described_by_its_members() -> None:
    context = click.Context(program, info_name="fairlead")
    for command, context_ in writer().commands(program, context):
        for parameter in command.params:
            if isinstance(parameter, click.Option) and "--json" in parameter.opts:
                said = parameter.help or ""
                assert said.startswith("print ") or re.fullmatch(r"one JSON document: \{.+\}", said), (
                    context_.command_path
                )


def test_only_who_looks_at_where_to_serve_is_asked() -> None:
    context = click.Context(program, info_name="fairlead")
    asked = {
        context_.command_path
        for command, context_ in writer().commands(program, context)
        if any("--listen" in parameter.opts for parameter in command.params)
    }
    assert asked == {"fairlead serve", "fairlead config show", "fairlead config check"}


def test_every_problem_type_is_documented_with_its_status() -> None:
    text = (REFERENCE / "problems.md").read_text()
    for kind in all_problems():
        assert f"| `{kind.type}` | {kind.status} |" in text, kind


def members(schema: Any) -> Iterator[str]:
    """The names of the members that a schema has, at whatever depth."""
    if isinstance(schema, dict):
        yield from schema.get("properties", ())
        for part in schema.values():
            yield from members(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from members(part)


@pytest.mark.parametrize("name", sorted(SCHEMAS.keys() - {"Event"}))  # its members are those of CloudEvents
def test_the_interface_names_every_member(name: str) -> None:
    text = (REFERENCE / "interface.md").read_text()
    words = set(re.findall(r"[a-z_0-9]+", text))
    assert set(members(SCHEMAS[name])) - words == set()


def test_every_metric_is_documented() -> None:
    text = (REFERENCE / "metrics.md").read_text()
    source = ROOT / "src" / "fairlead"
    modules = [source / "telemetry.py", *(source / "engine").rglob("*.py")]
    named = {name for path in modules for name in METRIC.findall(path.read_text())}
    assert {name for name in named if f"| `{name}` |" not in text} == set()
    assert {name for name in re.findall(r"^\| `(fairlead_\w+)`", text, re.MULTILINE)} == named


def test_every_exit_code_is_documented() -> None:
    text = (ROOT / "docs" / "how-to" / "retry-and-operate.md").read_text()
    for code in EXITS:
        assert re.search(rf"\b{code} [a-z]", text), code


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if "://" in link:
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), f"{name_of(page)}: {link}"
        if heading:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w-]", "", one.lower().replace(" ", "-")) for one in headings}


def test_every_example_is_named_on_a_page() -> None:
    text = "".join(page.read_text() for page in PAGES)
    for folder in (ROOT / "examples").iterdir():
        assert f"examples/{folder.name}" in text


def test_every_page_is_reached_from_the_index() -> None:
    reached, waiting = set(), [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        links = (link.partition("#")[0] for link in LINK.findall(page.read_text()) if "://" not in link)
        waiting += [(page.parent / link).resolve() for link in links if link]
    assert {name_of(page) for page in PAGES if "docs" in page.parts} <= {
        name_of(page) for page in reached if page.is_relative_to(ROOT)
    }


@pytest.mark.parametrize("page", ["explanation/design.md", "reference/interface.md"])
def test_every_section_that_is_cited_is_there(page: str) -> None:
    name = Path(page).stem
    there = set(re.findall(r"^## (\d+)\.", (ROOT / "docs" / page).read_text(), re.MULTILINE))
    sources = [path for folder in ("src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    cited: dict[str, Path] = {}
    for path in sources:
        for numbers in re.findall(rf"{name}, sections? (\d+(?:(?:, | and )\d+)*)", path.read_text()):
            cited |= dict.fromkeys(re.findall(r"\d+", numbers), path)
    assert len(cited) > 5
    assert not {number: path for number, path in cited.items() if number not in there}
