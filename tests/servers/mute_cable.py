# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy in which what clients say can be kept from the server: it talks on and hears nothing."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

_CHUNK_BYTES = 64 * 1024


class MuteCable:
    """Forwards connections to a port of this machine, until `mute` in one direction only.

    Attributes:
        port: where clients connect.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._heard = threading.Event()
        self._heard.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def mute(self) -> None:
        """From now on nothing of what clients send arrives; what the server sends does."""
        self._heard.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._heard.set()
        for one in (self._listener, *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target_port))
                self._sockets += [client, server]
                for source, drain, muted in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pump, args=(source, drain, muted), daemon=True).start()

    def _pump(self, source: socket.socket, drain: socket.socket, muted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                if muted and not self._heard.is_set():
                    continue  # lost on the way, as if it had never been sent
                drain.sendall(data)
        with suppress(OSError):
            drain.shutdown(socket.SHUT_RDWR)
