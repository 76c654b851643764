# SPDX-License-Identifier: Apache-2.0
"""What the relay met: a store that cannot serve, a lost lease, an address it may not use, a bad setting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fairlead.errors.root import FairleadError


class InvalidSecret(FairleadError, ValueError):
    """A signing secret that is not one; the message says why and never holds it."""


class StoreError(FairleadError):
    """The store cannot serve; the message says which file, what is wrong and what to do."""


class StoreLocked(StoreError):
    """Another process has the store open."""


class StoreForeign(StoreError):
    """The file is not a Fairlead store."""


class StoreNewer(StoreError):
    """The store was written by a newer Fairlead."""


class StoreCorrupt(StoreError):
    """A row or page does not hold what was written."""


class StoreFailed(StoreError):
    """A commit or fsync failed; what the disk holds is unknown and serving must end."""


class Fenced(FairleadError):
    """A fenced write met a newer channel: nothing of it was stored; read the channel again."""


class LeaseLost(Fenced):
    """A fenced write by a node that no longer owns the partition: nothing was stored; stop."""


SendFailure = Literal["refused", "timeout", "tls", "dns", "reset", "protocol", "forbidden"]


class SendFailed(FairleadError):
    """A request of ours got no answer.

    Args:
        kind: refused (no connection), timeout (the deadline passed), tls (handshake or certificate), dns (the
            host has no address), reset (closed before the answer's end), protocol (not HTTP/1.1, or too much
            of it), forbidden (the egress policy; nothing was sent).
        detail: one sentence for people; never a secret.
    """

    def __init__(self, kind: SendFailure, detail: str) -> None:
        super().__init__(detail)
        self.kind: SendFailure = kind
        self.detail = detail


BrokerFailure = Literal["away", "forbidden", "missing", "mismatch", "failed"]


class BrokerFailed(FairleadError):
    """A broker did not do what was asked.

    Args:
        kind: away (no connection, or it ended, or no answer in time), forbidden (login, virtual host or
            permission), missing (no such queue or exchange), mismatch (it exists and is another), failed.
        detail: one sentence for people, with the broker's own words; never a secret.
    """

    def __init__(self, kind: BrokerFailure, detail: str) -> None:
        super().__init__(detail)
        self.kind: BrokerFailure = kind
        self.detail = detail


@dataclass(eq=False)
class ConfigError(FairleadError):
    """A setting that cannot be used; prints as `fairlead.toml:12: [limits] event_byte: unknown key; …`."""

    message: str
    file: str | None = None
    line: int | None = None
    hints: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        where = (
            f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        )
        return where + self.message


class PortInUse(FairleadError):
    """The address to listen on is taken by another process."""
