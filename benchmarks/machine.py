# SPDX-License-Identifier: Apache-2.0
"""The processes of a measurement: nginx as the sink, wrk as the load, the relay itself. All on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEADLINE_SECONDS = 300.0
BATCH = 10
"""Events in a request where a row publishes in batches too, as `Publisher` and the OpenStack driver do."""

NGINX_CONF = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}/body; client_max_body_size 16m;
  keepalive_requests 100000000;
  proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location /hook {{ return 204; }}
    location /count {{ stub_status; }}
  }}
}}
"""

WRK_SCRIPT = """
-- {batch} events a request, {keys} keys in turn; every event has an id of its own
local thread_number = 0
function setup(thread) thread:set("number", thread_number); thread_number = thread_number + 1 end
local n = 0
local pad = string.rep("x", {pad})
function event()
  n = n + 1
  return string.format('{{"specversion":"1.0","id":"{run}-%d-%d","source":"/bench",'
    .. '"type":"org.example.state","subject":"key-%d",'
    .. '"datacontenttype":"application/json","data":{{"n":%d,"pad":"%s"}}}}',
    number, n, n % {keys}, n, pad)
end
function request()
  if {batch} == 1 then
    return wrk.format("POST", "/events", {{["content-type"] = "application/cloudevents+json"}}, event())
  end
  local events = {{}}
  for place = 1, {batch} do events[place] = event() end
  local body = "[" .. table.concat(events, ",") .. "]"
  return wrk.format("POST", "/events", {{["content-type"] = "application/cloudevents-batch+json"}}, body)
end
function done(summary, latency, requests)
  local failed = summary.errors
  io.write(string.format('RESULT {{"requests":%d,"seconds":%f,"errors":%d}}\\n', summary.requests,
    summary.duration / 1e6, failed.status + failed.connect + failed.read + failed.write))
end
"""


def in_batches(batch: int) -> str:
    """What a measure's name says of how its events were published."""
    return "" if batch == 1 else f"; published {batch} a request"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(
    condition: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS, pause_seconds: float = 0.005
) -> None:
    """Poll until a condition holds; a benchmark that waits in vain says for what."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(pause_seconds)


@dataclass(frozen=True)
class Sink:
    """An nginx that takes everything and counts."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def requests(self) -> int:
        """How many requests were answered, without the ones that asked for this number."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/count") as answer:
            text = answer.read().decode()
        Sink.asked[self.port] = Sink.asked.get(self.port, 0) + 1
        return int(text.split("\n")[2].split()[2]) - Sink.asked[self.port]

    asked = dict[int, int]()


@contextlib.contextmanager
def sink(folder: Path) -> Iterator[Sink]:
    port = free_port()
    home = folder / f"nginx-{port}"
    home.mkdir(parents=True)
    (home / "nginx.conf").write_text(NGINX_CONF.format(folder=home, port=port))
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    process = subprocess.Popen([nginx, "-c", str(home / "nginx.conf"), "-p", str(home)])
    try:
        until(lambda: connects(port), "nginx")
        yield Sink(port)
    finally:
        process.terminate()
        process.wait()


@dataclass
class RelayProcess:
    """A relay of its own with its store in `folder`."""

    process: subprocess.Popen[bytes]
    url: str
    started_at: float

    def publish(self, event: object) -> None:
        self.call("POST", "/events", event, "application/cloudevents+json")

    def call(
        self, method: str, path: str, document: object | None = None, type: str = "application/json"
    ) -> Any:
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(
            self.url + path, data=body, method=method, headers={"content-type": type}
        )
        with urllib.request.urlopen(request) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def subscribe(self, name: str, url: str, **members: object) -> None:
        self.call("PUT", f"/subscriptions/{name}", {"sink": url, "protocol": "HTTP", **members})

    def rss_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(match[1]) / 1024 if match else 0.0

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.process.pid)


@contextlib.contextmanager
def relay(
    folder: Path, *, store: str = "bench.db", wait: bool = True, program: str = "fairlead"
) -> Iterator[RelayProcess]:
    """A relay in `folder`; `program` is a module that runs `fairlead` in its own way."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    started_at = time.monotonic()
    command = [sys.executable, "-m", program, "serve"]
    command += ["--store", f"sqlite:///{folder / store}", "--listen", f"127.0.0.1:{port}"]
    with (folder / "relay.log").open("ab") as log:
        env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=env)
    try:
        if wait:
            until(lambda: connects(port), "the relay")
        yield RelayProcess(process, f"http://127.0.0.1:{port}", started_at)
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class Load:
    """What was published, and whether it was taken: `errors` counts requests."""

    events: int
    seconds: float
    errors: int


def wrk(
    relay_url: str,
    folder: Path,
    *,
    seconds: int,
    keys: int = 1000,
    body_bytes: int = 600,
    connections: int = 64,
    batch: int = 1,
) -> Load:
    """Publish as fast as so many connections get their answers, `batch` events in a request."""
    script = folder / "load.lua"
    pad = max(body_bytes - 190, 0)
    script.write_text(WRK_SCRIPT.format(keys=keys, run=time.monotonic_ns(), pad=pad, batch=batch))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), relay_url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    result = json.loads(next(line[7:] for line in output.splitlines() if line.startswith("RESULT ")))
    return Load(result["requests"] * batch, result["seconds"], result["errors"])


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
