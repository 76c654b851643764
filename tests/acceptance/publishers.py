# SPDX-License-Identifier: Apache-2.0
"""Publishers that know nothing but: send it again until there is a 202."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Self

from tests.acceptance.api import BATCH
from tests.acceptance.history import Acknowledged
from tests.acceptance.waiting import DEADLINE_SECONDS, PAUSE_SECONDS, until

Event = dict[str, Any]


class Publisher:
    """A thread that sends batches one after the other, each until it is accepted.

    Attributes:
        acknowledged: what the relay answered 202 for.
        sent_again: how many requests had to be repeated.
        ended: set to have no further batch sent.
    """

    def __init__(self, port: int, batches: Iterable[Sequence[Event]]) -> None:
        self.acknowledged: list[Acknowledged] = []
        self.sent_again = 0
        self.failure: BaseException | None = None
        self._port = port
        self._batches = batches
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> Self:
        self._thread.start()
        return self

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Send no further batch; the last one stays unsent if the relay does not take it."""
        self.ended.set()
        self._thread.join()
        self.check()

    def finish(self, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until everything is accepted."""
        until(lambda: self.done, "everything is published", deadline_seconds)
        self.check()

    def check(self) -> None:
        """Raise what the relay refused."""
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            for batch in self._batches:
                while not self._send(connection, json.dumps(batch).encode()):
                    if self.ended.wait(PAUSE_SECONDS):
                        return
                    self.sent_again += 1
                if self.ended.is_set():
                    return
        except BaseException as failure:
            self.failure = failure
        finally:
            connection.close()

    def _send(self, connection: http.client.HTTPConnection, body: bytes) -> bool:
        try:
            connection.request("POST", "/events", body, {"content-type": BATCH})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return False
        if answer.status != 202:
            assert answer.status in (429, 503, 507), f"{answer.status}: {content[:2000]!r}"
            return False
        self.acknowledged += [Acknowledged.of(one) for one in json.loads(content)["accepted"]]
        return True
