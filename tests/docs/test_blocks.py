# SPDX-License-Identifier: Apache-2.0
"""Every command and code block of the documentation is executed, in order, page by page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import NOT_RUN, PAGES, ROOT, blocks_of, name_of
from tests.docs.session import Session, seen_in_order, starts_relay
from tests.servers.rabbitmq import RabbitNode

RUN = {"console", "bash", "python", "toml"}
READ = {"text", "mermaid", "json"}
REASONS = {"changes the system", "needs Docker"}
BROKER = "127.0.0.1:5672"
STOPS_BROKER, STARTS_BROKER = "sudo rabbitmqctl stop_app", "sudo rabbitmqctl start_app"
CONTRIBUTORS = {"CONTRIBUTING.md"}  # its three commands are what runs this test
WITH_BLOCKS = [page for page in PAGES if any(blocks_of(page)) and name_of(page) not in CONTRIBUTORS]


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name_of)
def test_a_reader_who_does_what_the_page_says_gets_what_it_says(
    page: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    blocks = list(blocks_of(page))
    session = Session(tmp_path)
    stops = any(STOPS_BROKER in block.text for block in blocks)
    if stops or any(BROKER in block.text for block in blocks):
        node: RabbitNode = request.getfixturevalue("mortal_rabbitmq" if stops else "rabbitmq")
        session.lend(BROKER, node.port)
        session.act(STOPS_BROKER, lambda: node.ctl("stop_app"))
        session.act(STARTS_BROKER, lambda: node.ctl("start_app"))
    try:
        if not starts_relay(blocks) and any(one.language in ("console", "bash", "python") for one in blocks):
            session.start_relay()
        for block in blocks:
            try:
                session.do(block)
            except AssertionError as error:
                raise AssertionError(f"{block}: {error}") from None
    finally:
        unwell = session.close()
    assert not unwell


def test_the_first_example_may_be_run_again(tmp_path: Path) -> None:
    (example,) = [block.text for block in blocks_of(ROOT / "README.md") if block.language == "python"]
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", example],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert "order.shipped o-17" in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_in_a_language_that_is_run_or_says_why_not(page: Path) -> None:
    for block in blocks_of(page):
        assert block.language in RUN | READ, f"{block}: {block.language!r} is not run"
        if block.info:
            assert block.info.removeprefix(NOT_RUN) in REASONS, f"{block}: {block.info}"
        if block.language == "json":
            json.loads(block.text)


def test_expected_output_is_found_in_order_and_an_ellipsis_is_anything() -> None:
    said = ["one   two", "three", "four 4"]
    assert seen_in_order(["one two", "four …"], said)
    assert seen_in_order([], said)
    assert not seen_in_order(["three", "one two"], said)
    assert not seen_in_order(["five"], said)
