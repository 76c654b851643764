# SPDX-License-Identifier: Apache-2.0
"""TLS of the connections that we open: certificates and names are always checked."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from fairlead.errors import ConfigError


def client_context(
    *,
    ca_file: str | Path | None = None,
    cert_file: str | Path | None = None,
    key_file: str | Path | None = None,
    alpn: Sequence[str] = ("http/1.1",),
) -> ssl.SSLContext:
    """A context that trusts the system's authorities and those in `ca_file` (PEM).

    Reads files; call it off the event loop.

    Args:
        cert_file: our own certificate with its chain (PEM), for servers that ask for one.
        key_file: its key (PEM); None if it is in `cert_file`.
        alpn: the protocols that are offered; none for those that have no name there.

    Raises:
        ConfigError: a file cannot be read or does not hold what it should.
    """
    context = ssl.create_default_context()
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(
                f"{ca_file} holds no certificate authority in PEM form ({_reason(error)}); "
                "set ca_file to a file with -----BEGIN CERTIFICATE----- in it"
            ) from None
    if cert_file is not None:
        try:
            context.load_cert_chain(cert_file, key_file)
        except OSError as error:
            raise ConfigError(
                f"{cert_file} with key {key_file or cert_file} cannot be used ({_reason(error)}); "
                "expected a certificate and its own unencrypted key in PEM form"
            ) from None
    return context


def describe_tls_error(error: OSError, host: str) -> str:
    """One sentence of what went wrong with TLS to `host`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {host} is not accepted: {error.verify_message.rstrip('.')}"
    reason = _reason(error)
    if "alert" in reason and ("certificate" in reason or "unknown ca" in reason):
        return f"{host} does not accept our certificate: {reason}"
    if "wrong version number" in reason or "record layer failure" in reason:
        return f"{host} does not speak TLS on this port; is the sink http:// ?"
    return f"TLS with {host} failed: {reason}"


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return str(reason).lower().replace("_", " ")
