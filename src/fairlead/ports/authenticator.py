# SPDX-License-Identifier: Apache-2.0
"""The port to whoever knows logins (design, section 8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from fairlead.core.policy import Principal


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller presented, as the authenticators need it: header names in lower case."""

    headers: Mapping[str, str] = field(default_factory=dict)


class Authenticator(Protocol):
    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """A principal, or None (not mine).

        Raises:
            Unauthenticated: mine, and bad.
        """
