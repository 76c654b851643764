# SPDX-License-Identifier: Apache-2.0
"""The client's contract: TLS. Certificates are issued on the spot by an authority of the test's own."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from fairlead.drivers.tls import client_context
from fairlead.errors import ConfigError, SendFailed
from fairlead.testing.http_peer import (
    NO_CONTENT,
    ClientTests,
    Connection,
    Peer,
    Script,
    answering,
    closing,
    peer,
)

NAMES = {"a.example": ["127.0.0.1"], "b.example": ["127.0.0.1"]}


def server_context(certificate: trustme.LeafCert, *, clients_of: trustme.CA | None = None) -> ssl.SSLContext:
    """A server's context; with `clients_of` it takes only clients with a certificate of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if clients_of is not None:
        clients_of.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def trusting(authority: trustme.CA, folder: Path) -> Callable[[], ssl.SSLContext]:
    """What the client is given: the authority as a file, as a user names it in `ca_file`."""
    path = folder / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return lambda: client_context(ca_file=path)


def speaking_first(running: Peer) -> Script:
    """A script of a server that knows no TLS: it answers the handshake in plain words."""

    async def serve(connection: Connection) -> None:
        await connection.answer(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    return serve


class TlsTests(ClientTests):
    """Authorities, names, dates, our own certificate."""

    def fails(self, context: ssl.SSLContext, tls: Callable[[], ssl.SSLContext], host: str) -> SendFailed:
        """What one request to a server fails with; no connection of it is left open."""
        failures: list[SendFailed] = []

        async def main() -> None:
            client = self.client(NAMES, tls=tls)
            async with peer(answering(NO_CONTENT), context=context) as server, closing(client) as c:
                with pytest.raises(SendFailed) as raised:
                    await c.request("POST", server.url(host, scheme="https"), timeout_seconds=10)
                failures.append(raised.value)
                assert not server.requests

        self.run(main())
        return failures[0]

    def test_a_private_authority_is_trusted_by_its_file(self, tmp_path: Path) -> None:
        authority = trustme.CA()
        context = server_context(authority.issue_cert("a.example"))
        tls = trusting(authority, tmp_path)

        async def main() -> None:
            client = self.client(NAMES, tls=tls)
            async with peer(answering(NO_CONTENT), context=context) as server, closing(client) as c:
                for _ in range(3):
                    answer = await c.request(
                        "POST", server.url("a.example", scheme="https"), timeout_seconds=10
                    )
                    assert answer.status == 204
                assert server.opened == 1

        self.run(main())

    def test_the_name_of_an_address_is_the_address(self, tmp_path: Path) -> None:
        authority = trustme.CA()
        context = server_context(authority.issue_cert("127.0.0.1"))
        tls = trusting(authority, tmp_path)

        async def main() -> None:
            async with (
                peer(answering(NO_CONTENT), context=context) as server,
                closing(self.client(tls=tls)) as c,
            ):
                await c.request("POST", server.url(scheme="https"), timeout_seconds=10)

        self.run(main())

    def test_an_unknown_authority_is_refused(self, tmp_path: Path) -> None:
        context = server_context(trustme.CA().issue_cert("a.example"))
        failure = self.fails(context, trusting(trustme.CA(), tmp_path), "a.example")
        assert failure.kind == "tls"
        assert "certificate of a.example is not accepted" in failure.detail

    def test_another_name_is_refused(self, tmp_path: Path) -> None:
        authority = trustme.CA()
        context = server_context(authority.issue_cert("a.example"))
        failure = self.fails(context, trusting(authority, tmp_path), "b.example")
        assert failure.kind == "tls"
        assert "not valid for 'b.example'" in failure.detail

    def test_a_certificate_for_the_name_does_not_cover_its_address(self, tmp_path: Path) -> None:
        authority = trustme.CA()
        context = server_context(authority.issue_cert("a.example"))
        assert self.fails(context, trusting(authority, tmp_path), "127.0.0.1").kind == "tls"

    def test_an_expired_certificate_is_refused(self, tmp_path: Path) -> None:
        authority = trustme.CA()
        past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        leaf = authority.issue_cert("a.example", not_before=past, not_after=past + datetime.timedelta(days=1))
        failure = self.fails(server_context(leaf), trusting(authority, tmp_path), "a.example")
        assert failure.kind == "tls"
        assert failure.detail.endswith("certificate has expired")

    def test_our_certificate_is_shown_to_a_server_that_asks(self, tmp_path: Path) -> None:
        authority = trustme.CA()
        context = server_context(authority.issue_cert("a.example"), clients_of=authority)
        ours = tmp_path / "ours.pem"
        authority.issue_cert("relay.example").private_key_and_cert_chain_pem.write_to_path(ours)
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")

        async def main() -> None:
            client = self.client(
                NAMES, tls=lambda: client_context(ca_file=tmp_path / "ca.pem", cert_file=ours)
            )
            async with peer(answering(NO_CONTENT), context=context) as server, closing(client) as c:
                answer = await c.request("POST", server.url("a.example", scheme="https"), timeout_seconds=10)
                assert answer.status == 204

        self.run(main())

    def test_without_a_certificate_such_a_server_is_a_tls_failure(self, tmp_path: Path) -> None:
        authority = trustme.CA()
        context = server_context(authority.issue_cert("a.example"), clients_of=authority)
        failure = self.fails(context, trusting(authority, tmp_path), "a.example")
        # With TLS 1.3 the server says so after the handshake; a reset may overtake the alert.
        assert failure.kind in ("tls", "reset")

    def test_a_server_without_tls_is_a_tls_failure(self, tmp_path: Path) -> None:
        tls = trusting(trustme.CA(), tmp_path)

        async def main() -> None:
            async with peer(speaking_first) as server, closing(self.client(tls=tls)) as c:
                with pytest.raises(SendFailed, match="does not speak TLS on this port") as raised:
                    await c.request("POST", server.url(scheme="https"), timeout_seconds=10)
                assert raised.value.kind == "tls"

        self.run(main())

    def test_a_file_that_is_no_authority_is_named(self, tmp_path: Path) -> None:
        wrong = tmp_path / "wrong.pem"
        wrong.write_text("not a certificate")
        with pytest.raises(ConfigError, match=r"wrong\.pem .*certificate authority"):
            client_context(ca_file=wrong)
        with pytest.raises(ConfigError, match=r"absent\.pem .*no such file"):
            client_context(ca_file=tmp_path / "absent.pem")
        with pytest.raises(ConfigError, match=r"wrong\.pem"):
            client_context(cert_file=wrong)
