# SPDX-License-Identifier: Apache-2.0
"""The contract of the HTTP client, as tests: whoever delivers through another client runs them unchanged.

    class TestMyClient(HttpClientContract):
        def client(self, names=None, *, allow=…, tls=…, limits=…, ttl_seconds=…): ...
        def run_loop(self, main): uvloop.run(main)

Real servers on loopback, real TLS; needs pytest and trustme.
"""

from __future__ import annotations

from fairlead.testing.http_client_bounds import BoundsTests
from fairlead.testing.http_client_guard import GuardTests
from fairlead.testing.http_client_tls import TlsTests
from fairlead.testing.http_client_wire import WireTests


class HttpClientContract(GuardTests, BoundsTests, WireTests, TlsTests):
    """Every promise of `fairlead.drivers.http_client.client.HttpClient`."""
