# SPDX-License-Identifier: Apache-2.0
"""`fairlead serve`: run the relay until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import click

from fairlead import wiring
from fairlead.cli import logs, output
from fairlead.cli.api import DEFAULT_URL
from fairlead.cli.configured import reads_config
from fairlead.config import Loaded
from fairlead.drivers.http_server.server import new_event_loop

MOST_FILES = 65_536  # what macOS takes, too
YOUNG_OBJECTS = 50_000
_log = logging.getLogger("fairlead.serve")


@click.command("serve")
@reads_config
def command(loaded: Loaded) -> None:
    """Run the relay in the foreground; SIGTERM, Ctrl-C and a terminal that closes stop it gracefully.

    Prints one line when it is ready. What was accepted survives a kill at any moment.
    """
    with contextlib.closing(logs.set_up(loaded.config.log.level, loaded.config.log.format)) as lines:
        _allow_many_connections()
        for line in loaded.warnings:
            _log.warning("configuration", extra={"detail": line})
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_serve(loaded, lines.say))


async def _serve(loaded: Loaded, note: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if name is not signal.SIGHUP or signal.getsignal(name) is not signal.SIG_IGN:  # as nohup has it
            loop.add_signal_handler(name, _told_to_stop, stop, name)
    relay = wiring.Server(loaded.config)
    await relay.start()
    try:
        subscriptions = await relay.count_subscriptions()
        announced = (loaded, relay, subscriptions, note)
        # Nobody waits for who reads it, who may not: standard output may be a pipe that is full.
        threading.Thread(target=_announce, args=announced, name="fairlead-ready", daemon=True).start()
        _collect_garbage_rarely()
        ends = [asyncio.ensure_future(one.wait()) for one in (stop, relay.node.failed)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
    finally:
        await relay.stop()
    if relay.node.failure is not None:
        raise relay.node.failure


def _told_to_stop(stop: asyncio.Event, signal_: signal.Signals) -> None:
    if stop.is_set() and signal_ is signal.SIGHUP:
        return  # a terminal that closes may say so twice
    if stop.is_set():  # asked twice: the user does not want to wait
        _log.warning("stopping at once", extra={"signal": signal_.name})
        logging.shutdown()
        os._exit(128 + signal_)
    _log.info("stopping", extra={"signal": signal_.name})
    stop.set()


def _announce(loaded: Loaded, relay: wiring.Server, subscriptions: int, note: Callable[[str], None]) -> None:
    """The ready line, and for people how to send and receive a first notification."""
    store, url = loaded.config.store, relay.url
    ready = f"fairlead ready at {url} (store {store}, {subscriptions} subscriptions)"
    try:
        output.say_unbuffered(ready)
    except OSError as error:
        _log.warning("standard output: %s", error.strerror, extra={"unsaid": ready})
    program = _program()
    if relay.needs_login:  # with a key that is not here to sinks that are not known: no example would work
        note(f"  every call needs an API key; {program} keys add makes one")
        return
    where = "" if url == DEFAULT_URL else f" --url {url}"
    note(f"  receive:  {program} listen --subscribe demo{where}")
    example = """--source /demo --subject door-1 --type opened --data '{"by":"me"}'"""
    note(f"  send:     {program} send {example}{where}")


def _allow_many_connections() -> None:
    """As many open files as the system lets us have: every connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(hard, MOST_FILES) if hard != resource.RLIM_INFINITY else MOST_FILES
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _collect_garbage_rarely() -> None:
    """Look for cyclic garbage where it may be, and not at all where it is not.

    An event makes none: its objects go when the last reference does. By Python's defaults the collector would
    look for it all the same after every 700 new objects, a few events, and now and then go through every
    module and every event in memory: 8 % of the relay's time, in pauses of 25 ms.
    """
    gc.collect()
    gc.freeze()  # what is here now stays as long as the process
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)


def _program() -> str:
    """How to call this program from the working directory."""
    if shutil.which("fairlead"):
        return "fairlead"
    here = Path(sys.argv[0]).absolute()
    return str(here.relative_to(Path.cwd())) if here.is_relative_to(Path.cwd()) else str(here)
