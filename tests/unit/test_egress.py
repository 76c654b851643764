# SPDX-License-Identifier: Apache-2.0
"""Which addresses may be called: default deny, and every refusal says which line would allow it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.address import IpAddress
from fairlead.core.egress import EgressPolicy, kind_of, unwrapped
from fairlead.errors import ConfigError, ForbiddenSink

PUBLIC = ["93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "172.32.0.1", "100.128.0.1"]
FORBIDDEN = [
    ("127.0.0.1", "loopback"),
    ("127.255.255.255", "loopback"),
    ("::1", "loopback"),
    ("10.0.0.1", "private"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.168.1.1", "private"),
    ("100.64.0.1", "private"),
    ("fc00::1", "private"),
    ("fec0::1", "private"),
    ("169.254.1.1", "link-local"),
    ("fe80::1", "link-local"),
    ("169.254.169.254", "metadata"),
    ("100.100.100.200", "metadata"),
    ("168.63.129.16", "metadata"),
    ("fd00:ec2::254", "metadata"),
    ("0.0.0.0", "reserved"),
    ("::", "reserved"),
    ("192.0.2.1", "reserved"),
    ("198.18.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("2001:db8::1", "reserved"),
    ("2001::1", "reserved"),
    ("224.0.0.1", "multicast"),
    ("ff02::1", "multicast"),
    ("::ffff:127.0.0.1", "loopback"),
    ("::ffff:169.254.169.254", "metadata"),
    ("::7f00:1", "loopback"),
    ("64:ff9b::a00:1", "private"),
    ("2002:7f00:1::", "loopback"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed_over_tls(address: str) -> None:
    EgressPolicy().check_address(address, "a.example")
    EgressPolicy().check_address(address, address)


@pytest.mark.parametrize(("address", "kind"), FORBIDDEN)
def test_other_addresses_are_refused_and_named(address: str, kind: str) -> None:
    with pytest.raises(ForbiddenSink, match=f"a.example .* is a {kind} address") as raised:
        EgressPolicy().check_address(address, "a.example")
    assert "[egress] allow = [" in raised.value.detail
    assert raised.value.faults[0].pointer == "/sink"


@pytest.mark.parametrize(("address", "kind"), FORBIDDEN)
def test_the_line_in_the_refusal_allows_the_address(address: str, kind: str) -> None:
    with pytest.raises(ForbiddenSink) as raised:
        EgressPolicy(["x.example"]).check_address(address, "a.example", tls=False)
    line = raised.value.detail.partition("[egress] allow = [")[2].partition("]")[0]
    entries = [entry.strip('"') for entry in line.split(", ")]
    assert entries[0] == "x.example"
    EgressPolicy(entries).check_address(address, "a.example", tls=False)


@pytest.mark.parametrize("address", PUBLIC)
def test_without_tls_a_public_address_needs_a_name(address: str) -> None:
    with pytest.raises(ForbiddenSink, match="without TLS; use https or amqps"):
        EgressPolicy().check_address(address, "a.example", tls=False)
    EgressPolicy(["a.example"]).check_address(address, "a.example", tls=False)
    EgressPolicy(["0.0.0.0/0", "::/0"]).check_address(address, "b.example", tls=False)


def test_a_host_name_opens_private_and_loopback_but_never_link_local_or_metadata() -> None:
    policy = EgressPolicy(["A.internal."])
    for address in ("10.0.0.1", "127.0.0.1", "fd00::1"):
        policy.check_address(address, "a.internal", tls=False)
        with pytest.raises(ForbiddenSink):
            policy.check_address(address, "b.internal")
    for address in ("169.254.0.1", "169.254.169.254", "fe80::1", "::ffff:169.254.169.254"):
        with pytest.raises(ForbiddenSink):
            policy.check_address(address, "a.internal")


def test_a_cidr_opens_what_lies_in_it_and_mapped_spellings_of_it() -> None:
    policy = EgressPolicy(["10.1.0.0/16", "169.254.169.254", "fd00::/8"])
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "169.254.169.254", "fd12::1"):
        policy.check_address(address, "a.example", tls=False)
    for address in ("10.2.0.1", "169.254.169.253", "127.0.0.1"):
        with pytest.raises(ForbiddenSink):
            policy.check_address(address, "a.example")


def test_loopback_needs_no_name_while_that_is_allowed() -> None:
    policy = EgressPolicy(loopback_allowed=True)
    policy.check_url("http://127.0.0.1:8080/hook")
    policy.check_address("::1", "localhost", tls=False)
    with pytest.raises(ForbiddenSink):
        policy.check_address("10.0.0.1", "a.example")
    policy.loopback_allowed = False
    with pytest.raises(ForbiddenSink):
        policy.check_url("http://127.0.0.1:8080/hook")


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::ffff:127.0.0.1]", "[::1]"]
)
def test_a_literal_in_a_url_is_checked_in_every_spelling(host: str) -> None:
    with pytest.raises(ForbiddenSink, match="loopback"):
        EgressPolicy().check_url(f"https://{host}/hook")


def test_a_name_in_a_url_waits_for_its_addresses() -> None:
    assert EgressPolicy().check_url("http://a.example/hook").endpoint.host == "a.example"


@pytest.mark.parametrize("url", ["", "hook", "ftp://a.example/", "https://u:p@a.example/"])
def test_what_is_no_sink_is_a_forbidden_sink_with_the_reason(url: str) -> None:
    with pytest.raises(ForbiddenSink, match="the sink cannot be used: ") as raised:
        EgressPolicy().check_url(url)
    assert raised.value.faults[0].pointer == "/sink"


@pytest.mark.parametrize(
    "entry", ["10.0.0.0/33", "http://a.example", "a.example:80", "", "a b", "*.example", "1.2.3.4.5"]
)
def test_an_entry_that_names_nothing_is_a_config_error(entry: str) -> None:
    with pytest.raises(ConfigError, match="neither a CIDR nor a host name"):
        EgressPolicy([entry])


@given(st.ip_addresses())
def test_every_address_has_one_kind_and_unwrapping_ends(address: IpAddress) -> None:
    inner = unwrapped(address)
    assert unwrapped(inner) == inner
    if kind_of(inner) == "public":
        EgressPolicy().check_address(str(address), "a.example")
    else:
        with pytest.raises(ForbiddenSink):
            EgressPolicy().check_address(str(address), "a.example")


@given(st.ip_addresses(v=4))
def test_what_python_calls_private_is_never_public_here(address: IpAddress) -> None:
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast:
        assert kind_of(address) != "public"
