# SPDX-License-Identifier: Apache-2.0
"""Private RabbitMQ nodes: own ports, own epmd, own files; each a child of the test, killed by its own id.

A node takes about ten seconds to start, so tests that do not harm it share one (`rabbitmq`) and have a
virtual host each; those that kill, restart or configure one ask `rabbitmq_nodes` for their own.
"""

from __future__ import annotations

import itertools
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.acceptance.waiting import free_port, refused, until

COMMANDS = Path("/usr/lib/rabbitmq/lib/rabbitmq_server-3.10.8/sbin")
START_SECONDS = 120.0
"""How long a node may take until it serves; eight to fifteen are usual."""

_VHOSTS_AT_ONCE = 12
_ADD_VHOST = (
    'rabbit_vhost:add(<<"NAME">>, <<"test">>),'
    "rabbit_auth_backend_internal:set_permissions("
    '<<"guest">>, <<"NAME">>, <<".*">>, <<".*">>, <<".*">>, <<"test">>),'
)

_numbers = itertools.count(1)


def installed() -> bool:
    """Whether there is a RabbitMQ to start."""
    return (COMMANDS / "rabbitmq-server").exists()


class Epmd:
    """Erlang's port mapper as our own child: one started by a node would outlive it."""

    def __init__(self) -> None:
        self.port = free_port()
        arguments = ["epmd", "-port", str(self.port), "-address", "127.0.0.1"]
        self._process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: not refused(self.port), "epmd listens")

    def stop(self) -> None:
        """End it; idempotent."""
        self._process.kill()
        self._process.wait()


class RabbitNode:
    """One node, not started yet.

    Args:
        config: further lines of `rabbitmq.conf`.
        plugins: names to enable.
        advanced: the text of `advanced.config`.
        tls: certificate authority, certificate and key (PEM files): it then listens on `tls_port` too.
        name: the node's name before `@localhost`; made unique where it is left out.
        epmd: shared with the other nodes of a cluster; its own otherwise.
        cookie: shared by the nodes of a cluster.
    """

    def __init__(
        self,
        *,
        config: Sequence[str] = (),
        plugins: Sequence[str] = (),
        advanced: str = "",
        tls: tuple[Path, Path, Path] | None = None,
        name: str | None = None,
        epmd: Epmd | None = None,
        cookie: str = "FAIRLEADTESTS",
    ) -> None:
        self.name = f"{name or f'f{os.getpid()}n{next(_numbers)}'}@localhost"
        self.port, self.tls_port, self._dist_port = free_port(), free_port(), free_port()
        self._own_epmd = epmd is None
        self._epmd = epmd or Epmd()
        self._user = "rabbitmq" if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self._vhosts: list[str] = []
        self._base = Path(tempfile.mkdtemp(prefix="fairlead-rabbitmq-"))
        lines = [f"listeners.tcp.1 = 127.0.0.1:{self.port}", "log.console = true", "log.file = false"]
        if tls is not None:
            lines += self._tls_lines(tls)
        self._write(".erlang.cookie", cookie, mode=0o400)
        self._write("rabbitmq.conf", "\n".join([*lines, *config, ""]))
        self._write("enabled_plugins", f"[{','.join(plugins)}].\n")
        self._write("env.conf", "")
        if advanced:
            self._write("advanced.config", advanced)
        self._give(self._base)

    def _tls_lines(self, files: tuple[Path, Path, Path]) -> list[str]:
        names = ("cacertfile", "certfile", "keyfile")
        for name, path in zip(names, files, strict=True):
            self._write(f"{name}.pem", path.read_text())
        return [
            f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}",
            *(f"ssl_options.{name} = {self._base / f'{name}.pem'}" for name in names),
            "ssl_options.verify = verify_peer",
            "ssl_options.fail_if_no_peer_cert = false",
            "ssl_options.versions.1 = tlsv1.3",
            "ssl_options.versions.2 = tlsv1.2",
        ]

    def _write(self, name: str, text: str, *, mode: int = 0o600) -> None:
        path = self._base / name
        path.write_text(text)
        path.chmod(mode)
        self._give(path)

    def _give(self, path: Path) -> None:
        if self._user is not None:
            owner = pwd.getpwnam(self._user)
            os.chown(path, owner.pw_uid, owner.pw_gid)

    @property
    def _environment(self) -> dict[str, str]:
        base = self._base
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(base),
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_CONF_ENV_FILE": f"{base}/env.conf",
            "RABBITMQ_MNESIA_BASE": f"{base}/mnesia",
            "RABBITMQ_LOG_BASE": f"{base}/log",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{base}/enabled_plugins",
            "RABBITMQ_CONFIG_FILE": f"{base}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{base}/advanced.config",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_PID_FILE": f"{base}/pid",
            "RABBITMQ_FEATURE_FLAGS_FILE": f"{base}/ff",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{base}/gen",
            "ERL_EPMD_PORT": str(self._epmd.port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def _identity(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user, "group": self._user, "extra_groups": []}

    # -- its life ------------------------------------------------------------------------------------------

    @property
    def runs(self) -> bool:
        """Whether it has been started, and not killed since."""
        return self._process is not None

    def begin(self) -> None:
        """Start it without waiting: the nodes of a cluster wait for each other."""
        assert self._process is None, "it runs"
        with (self._base / "console").open("ab") as console:
            self._process = subprocess.Popen(
                [COMMANDS / "rabbitmq-server"],
                env=self._environment,
                cwd=self._base,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                **self._identity(),
            )

    def ready(self) -> Self:
        """Wait until it serves: it accepts connections long before."""
        until(self._serves, self._why_not, START_SECONDS)
        return self

    def start(self) -> Self:
        """Start it and wait until it serves."""
        self.begin()
        return self.ready()

    def kill(self) -> None:
        """`kill -9` of the node with all its processes; back when nobody listens any more. Idempotent."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            until(lambda: refused(self.port), "the killed node is gone")  # its port outlives it by a moment

    def restart(self) -> Self:
        """Kill it if it runs, and start it again with what is on its disk."""
        self.kill()
        return self.start()

    def pause(self) -> None:
        """Stop all its processes in their tracks (`SIGSTOP`): connections stand, and nothing answers."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it and remove its files; idempotent."""
        self.kill()
        if self._own_epmd:
            self._epmd.stop()
        shutil.rmtree(self._base, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _serves(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._why_not()
        with socket.socket() as probe:
            probe.settimeout(5)
            try:
                probe.connect(("127.0.0.1", self.port))
                probe.sendall(b"AMQP\x00\x00\x09\x01")
                return probe.recv(1) == b"\x01"
            except OSError:
                return False

    @property
    def said(self) -> str:
        """Its log since it was made."""
        return (self._base / "console").read_text(errors="replace")

    def _why_not(self) -> str:
        return f"RabbitMQ serves at {self.port}; it said\n{self.said[-3000:]}"

    # -- what operators do ---------------------------------------------------------------------------------

    def ctl(self, *arguments: str) -> str:
        """`rabbitmqctl`; half a second to a second. Its output."""
        done = subprocess.run(
            [COMMANDS / "rabbitmqctl", "--node", self.name, *arguments],
            env=self._environment,
            cwd=self._base,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=START_SECONDS,
            **self._identity(),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    def running(self) -> int:
        """How many nodes of its cluster run."""
        return len(json.loads(self.ctl("cluster_status", "--formatter", "json"))["running_nodes"])

    def add_vhost(self, name: str | None = None) -> str:
        """A new virtual host in which `guest` may do everything; its name."""
        if name is not None:
            self.ctl("eval", _ADD_VHOST.replace("NAME", name) + "ok.")
            return name
        if not self._vhosts:  # a call takes a second, whatever it makes
            names = [f"v{next(_numbers)}" for _ in range(_VHOSTS_AT_ONCE)]
            self.ctl("eval", "".join(_ADD_VHOST.replace("NAME", name) for name in names) + "ok.")
            self._vhosts = names
        return self._vhosts.pop(0)

    def add_user(self, user: str, password: str, vhost: str | None = None, *may: str) -> None:
        """A user; with `vhost` he may there what `may` names (configure, write, read), or everything."""
        self.ctl("add_user", user, password)
        if vhost is not None:
            self.ctl("set_permissions", "-p", vhost, user, *(may or (".*", ".*", ".*")))

    def block_publishers(self) -> None:
        """Raise the memory alarm: whoever publishes is blocked."""
        self.ctl("set_vm_memory_high_watermark", "0.0001")

    def unblock_publishers(self) -> None:
        """Take the alarm back."""
        self.ctl("set_vm_memory_high_watermark", "0.6")

    def url(self, vhost: str = "", *, tls: bool = False, port: int | None = None) -> str:
        """Its address, without user information."""
        if tls:
            return f"amqps://localhost:{port or self.tls_port}/{vhost}"
        return f"amqp://127.0.0.1:{port or self.port}/{vhost}"


class RabbitNodes:
    """Makes nodes and ends them all."""

    def __init__(self) -> None:
        self._nodes: list[RabbitNode] = []
        self._epmds: list[Epmd] = []

    def node(self, **options: Any) -> RabbitNode:
        """A started node of one's own; options as for `RabbitNode`."""
        node = RabbitNode(**options)
        self._nodes.append(node)
        return node.start()

    def cluster(self, size: int = 3, *, config: Sequence[str] = ()) -> list[RabbitNode]:
        """Nodes that have formed a cluster; about half a minute."""
        epmd = Epmd()
        self._epmds.append(epmd)
        names = [f"c{os.getpid()}n{next(_numbers)}" for _ in range(size)]
        form = "cluster_formation"
        lines = [f"{form}.peer_discovery_backend = classic_config"]
        lines += [f"{form}.classic_config.nodes.{at} = {name}@localhost" for at, name in enumerate(names, 1)]
        nodes = [RabbitNode(config=[*lines, *config], name=name, epmd=epmd) for name in names]
        self._nodes += nodes
        for node in nodes:
            node.begin()
        for node in nodes:
            node.ready()
        first = nodes[0]
        until(lambda: first.running() >= size, "the cluster forms", START_SECONDS)
        return nodes

    def stop(self) -> None:
        """End every node and port mapper."""
        for node in self._nodes:
            node.stop()
        for epmd in self._epmds:
            epmd.stop()


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitNode]:
    """A node that every test may use and none may harm; take a virtual host of your own from it."""
    with RabbitNode() as node:
        yield node


@pytest.fixture(scope="session")
def one_mortal_rabbitmq() -> Iterator[RabbitNode]:
    """The node behind `mortal_rabbitmq`."""
    with RabbitNode() as node:
        yield node


@pytest.fixture
def mortal_rabbitmq(one_mortal_rabbitmq: RabbitNode) -> Iterator[RabbitNode]:
    """A node that tests may kill, pause and block, one after the other; each finds it well."""
    node = one_mortal_rabbitmq
    if not node.runs:
        node.start()
    yield node
    if node.runs:
        node.resume()
        node.unblock_publishers()


@pytest.fixture
def rabbitmq_nodes() -> Iterator[RabbitNodes]:
    """Nodes of one's own, to kill and to configure."""
    nodes = RabbitNodes()
    try:
        yield nodes
    finally:
        nodes.stop()


def settled_declares() -> None:
    """Wait until a kill spares queues just declared.

    A quorum queue killed within half a second of its declaration stays unusable after the restart
    (RabbitMQ 3.10: its registration reaches the disk every 500 ms). What is tested is what comes later; there
    is no condition to poll for, so this is the one place that waits for a time.
    """
    threading.Event().wait(2.0)
