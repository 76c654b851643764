# SPDX-License-Identifier: Apache-2.0
"""The client's contract: where it connects to, and that it goes nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fairlead.core.egress import EgressPolicy
from fairlead.drivers.http_client.client import HttpClient
from fairlead.drivers.resolver import Resolver
from fairlead.errors import SendFailed
from fairlead.testing.http_peer import NO_CONTENT, ClientTests, answering, closing, once, peer

SPELLINGS_OF_LOOPBACK = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f.1",
    "0x7f000001",
    "0177.0.0.1",
    "127.0.0.1.",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "\uff11\uff12\uff17.0.0.1",
]


class GuardTests(ClientTests):
    """Addresses, names, redirects, proxies."""

    def test_a_name_leads_to_the_address_it_was_resolved_to(self) -> None:
        async def main() -> None:
            async with (
                peer(answering(NO_CONTENT)) as server,
                closing(self.client({"a.example": ["127.0.0.1"]})) as c,
            ):
                answer = await c.request("POST", server.url("a.example"), body=b"{}", timeout_seconds=10)
                assert answer.status == 204
                assert f"host: a.example:{server.port}\r\n".encode() in server.requests[0][0]

        self.run(main())

    @pytest.mark.parametrize("host", SPELLINGS_OF_LOOPBACK)
    def test_no_spelling_of_loopback_gets_through(self, host: str) -> None:
        async def main() -> None:
            async with peer(answering(NO_CONTENT)) as server, closing(self.client(allow=["a.example"])) as c:
                with pytest.raises(SendFailed) as raised:
                    await c.request("POST", server.url(host), timeout_seconds=10)
                assert raised.value.kind == "forbidden"
                assert "egress" in raised.value.detail
                assert server.opened == 0

        self.run(main())

    @pytest.mark.parametrize(
        "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1", "fd00::1"]
    )
    def test_a_name_that_resolves_to_a_forbidden_address_is_refused(self, address: str) -> None:
        async def main() -> None:
            async with closing(self.client({"a.example": [address]}, allow=["b.example"])) as c:
                with pytest.raises(SendFailed) as raised:
                    await c.request("POST", "https://a.example/hook", timeout_seconds=10)
                assert raised.value.kind == "forbidden"
                assert address in raised.value.detail

        self.run(main())

    def test_a_name_that_changes_its_mind_is_checked_again(self) -> None:
        """DNS rebinding: allowed first, then the metadata address; an open connection does not help it."""
        names = {"a.example": ["127.0.0.1"]}

        async def main() -> None:
            client = self.client(names, allow=["a.example"], ttl_seconds=0.0)
            async with peer(answering(NO_CONTENT)) as server, closing(client) as c:
                await c.request("POST", server.url("a.example"), timeout_seconds=10)
                names["a.example"] = ["169.254.169.254"]
                with pytest.raises(SendFailed) as raised:
                    await c.request("POST", server.url("a.example"), timeout_seconds=10)
                assert raised.value.kind == "forbidden"
                assert len(server.requests) == 1

        self.run(main())

    def test_a_connection_is_not_used_again_when_its_name_has_moved(self) -> None:
        names: dict[str, Sequence[str]] = {"a.example": ["127.0.0.1"]}

        async def main() -> None:
            client = self.client(names, allow=["a.example"], ttl_seconds=0.0)
            async with peer(answering(NO_CONTENT)) as server, closing(client) as c:
                await c.request("POST", server.url("a.example"), timeout_seconds=10)
                names["a.example"] = ["::1"]  # nobody listens there
                with pytest.raises(SendFailed):
                    await c.request("POST", server.url("a.example"), timeout_seconds=10)
                assert len(server.requests) == 1

        self.run(main())

    def test_a_name_is_resolved_once_for_many_requests(self) -> None:
        asked: list[str] = []

        async def lookup(host: str, port: int) -> Sequence[str]:
            asked.append(host)
            return ["127.0.0.1"]

        async def main() -> None:
            client = HttpClient(Resolver(EgressPolicy(["a.example"]), lookup=lookup))
            async with peer(once(NO_CONTENT)) as server, closing(client) as c:
                for _ in range(5):
                    await c.request("POST", server.url("a.example"), timeout_seconds=10)
                assert asked == ["a.example"]

        self.run(main())

    def test_an_address_that_does_not_answer_is_passed_over(self) -> None:
        async def main() -> None:
            client = self.client({"a.example": ["::1", "127.0.0.1"]}, allow=["a.example"])
            async with peer(once(NO_CONTENT)) as server, closing(client) as c:
                for _ in range(2):
                    answer = await c.request("POST", server.url("a.example"), timeout_seconds=10)
                    assert answer.status == 204

        self.run(main())

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_is_an_answer_and_is_not_followed(self, status: int) -> None:
        async def main() -> None:
            async with peer(answering(NO_CONTENT)) as other:
                target = other.url().encode()
                moved = b"HTTP/1.1 %d Moved\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n" % (status, target)
                async with peer(answering(moved)) as server, closing(self.client()) as c:
                    answer = await c.request("POST", server.url(), body=b"{}", timeout_seconds=10)
                    assert answer.status == status
                    assert other.opened == 0

        self.run(main())

    def test_proxies_in_the_environment_do_not_count(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main() -> None:
            async with peer(answering(NO_CONTENT)) as proxy, peer(answering(NO_CONTENT)) as server:
                for name in ("http_proxy", "https_proxy", "all_proxy"):
                    monkeypatch.setenv(name, proxy.url(path=""))
                    monkeypatch.setenv(name.upper(), proxy.url(path=""))
                async with closing(self.client()) as c:
                    await c.request("POST", server.url(), timeout_seconds=10)
                assert (proxy.opened, server.opened) == (0, 1)

        self.run(main())

    def test_a_name_without_an_address_is_a_dns_failure(self) -> None:
        async def main() -> None:
            async with closing(self.client({})) as c:
                with pytest.raises(SendFailed, match=r"a\.example cannot be resolved") as raised:
                    await c.request("POST", "https://a.example/", timeout_seconds=10)
                assert raised.value.kind == "dns"

        self.run(main())

    def test_a_closed_port_is_refused_by_name(self) -> None:
        async def main() -> None:
            async with peer(answering(NO_CONTENT)) as server:
                url = server.url()
            async with closing(self.client()) as c:
                with pytest.raises(SendFailed, match=r"connection refused by 127\.0\.0\.1:") as raised:
                    await c.request("POST", url, timeout_seconds=10)
                assert raised.value.kind == "refused"

        self.run(main())

    @pytest.mark.parametrize(
        ("url", "headers"),
        [
            ("http://127.0.0.1/a b", []),
            ("http://127.0.0.1/\r\nx: y", []),
            ("http://user:secret@127.0.0.1/", []),
            ("ftp://127.0.0.1/", []),
            ("http://1.2.3.4.5/", []),
            ("http://127.0.0.1/", [("x", "a\r\ny: b")]),
            ("http://127.0.0.1/", [("x y", "a")]),
        ],
    )
    def test_what_cannot_be_sent_is_refused_before_anything_is(
        self, url: str, headers: list[tuple[str, str]]
    ) -> None:
        async def main() -> None:
            async with closing(self.client()) as c:
                with pytest.raises(ValueError, match=r"."):
                    await c.request("POST", url, headers=headers, timeout_seconds=10)

        self.run(main())
