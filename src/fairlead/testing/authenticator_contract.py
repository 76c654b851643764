# SPDX-License-Identifier: Apache-2.0
"""The suite that every authenticator passes unchanged.

    class TestMyLogins(AuthenticatorContract):
        @asynccontextmanager
        async def logins(self) -> AsyncIterator[Logins]:
            yield Logins(MyAuthenticator(…), good={"authorization": "…"}, bad=[{"authorization": "…"}])

The three answers are the contract: a principal, None (not mine), Unauthenticated (mine, and bad).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import pytest

from fairlead.errors import Unauthenticated
from fairlead.ports import Authenticator, Credentials

Headers = Mapping[str, str]

FOREIGN: Sequence[Headers] = (
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": "Bearer "},
    {"authorization": "Digest username=x"},
    {"authorization": "\u00e4\u00ff"},
    {"authorization": "Basic !!!"},
    {"authorization": "Basic /w=="},
    {"authorization": "Basic Og=="},
    {"cookie": "session=1"},
)
"""What nobody takes for a login of his."""


@dataclass(frozen=True)
class Logins:
    """An authenticator, and what it is to say to whom.

    Attributes:
        good: headers of a caller that it knows.
        bad: headers that are its kind of login and must be refused.
        name: of the principal that `good` logs in.
        secrets: texts that no error may show.
    """

    authenticator: Authenticator
    good: Headers
    bad: Sequence[Headers]
    name: str
    secrets: Sequence[str] = field(default=())


class AuthenticatorContract:
    """Subclass it, name the subclass `Test…`, and say what it is about."""

    def logins(self) -> AbstractAsyncContextManager[Logins]:
        """An authenticator that is ready, for one test."""
        raise NotImplementedError

    def test_it_knows_its_callers_again_and_again(self) -> None:
        async def scene() -> None:
            async with self.logins() as logins:
                for _ in range(3):
                    principal = await logins.authenticator.authenticate(Credentials(logins.good))
                    assert principal is not None
                    assert principal.name == logins.name

        asyncio.run(scene())

    @pytest.mark.parametrize("headers", FOREIGN)
    def test_what_is_not_its_kind_of_login_is_left_to_others(self, headers: Headers) -> None:
        async def scene() -> None:
            async with self.logins() as logins:
                assert await logins.authenticator.authenticate(Credentials(headers)) is None

        asyncio.run(scene())

    def test_its_own_kind_of_login_is_refused_where_it_is_bad_and_told_without_its_secret(self) -> None:
        async def scene() -> None:
            async with self.logins() as logins:
                for headers in logins.bad:
                    with pytest.raises(Unauthenticated) as refused:
                        await logins.authenticator.authenticate(Credentials(headers))
                    shown = repr((refused.value.detail, refused.value.faults, refused.value.members))
                    assert not [secret for secret in logins.secrets if secret in shown]

        asyncio.run(scene())

    def test_a_refusal_does_not_stick_to_those_who_come_after(self) -> None:
        async def scene() -> None:
            async with self.logins() as logins:
                for headers in logins.bad:
                    with pytest.raises(Unauthenticated):
                        await logins.authenticator.authenticate(Credentials(headers))
                    assert await logins.authenticator.authenticate(Credentials(logins.good)) is not None

        asyncio.run(scene())

    def test_many_log_in_at_once(self) -> None:
        async def scene() -> None:
            async with self.logins() as logins:
                good = Credentials(logins.good)
                principals = await asyncio.gather(
                    *(logins.authenticator.authenticate(good) for _ in range(50))
                )
                assert {principal.name for principal in principals if principal is not None} == {logins.name}
                assert None not in principals

        asyncio.run(scene())
