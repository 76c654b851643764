# SPDX-License-Identifier: Apache-2.0
"""What holds for every test: a blocked event loop fails it, and in CI a skipped test is a failed one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.effort import examples
from tests.loop_guard import guarded
from tests.servers.rabbitmq import mortal_rabbitmq, one_mortal_rabbitmq, rabbitmq, rabbitmq_nodes

__all__ = ["mortal_rabbitmq", "one_mortal_rabbitmq", "rabbitmq", "rabbitmq_nodes"]  # fixtures of every test

IN_CI = os.environ.get("CI") == "true"
TESTS = Path(__file__).parent
LOOP_IS_VIRTUAL = TESTS / "simulation"
"""There the loop runs the store's writer itself, in virtual time: blocking is the point."""

# No test asserts a duration, hypothesis's neither.
settings.register_profile(
    "fairlead",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=examples(100),
)
settings.load_profile("fairlead")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "soak: takes long; only `make soak` runs it")
    config.addinivalue_line("markers", "may_block(why): this test's own loop may call what blocks")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long ones, unless they were asked for (`make soak`, or `-m soak`)."""
    if os.environ.get("SOAK") or "soak" in (config.option.markexpr or ""):
        return
    long = [item for item in items if item.get_closest_marker("soak")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


@pytest.fixture(autouse=True)
def blocked_loop_detector(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail where Fairlead's own code blocks a running event loop."""
    virtual = LOOP_IS_VIRTUAL in request.path.parents
    if virtual or request.node.get_closest_marker("may_block"):
        yield
        return
    with guarded():
        yield


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    """In CI a skipped test fails the run: what was not run was not proved."""
    yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if IN_CI and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
