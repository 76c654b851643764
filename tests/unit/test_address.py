# SPDX-License-Identifier: Apache-2.0
"""URLs are read one way only, and a host that spells an address is that address."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.address import Endpoint, literal_address, normal_host, parse_url


@pytest.mark.parametrize(
    ("url", "endpoint", "authority", "target"),
    [
        ("https://A.Example/hook?x=1#top", ("a.example", 443, True), "a.example", "/hook?x=1"),
        ("http://a.example:8080", ("a.example", 8080, False), "a.example:8080", "/"),
        ("https://a.example:443/", ("a.example", 443, True), "a.example", "/"),
        ("https://a.example.?q", ("a.example", 443, True), "a.example", "/?q"),
        ("http://[::1]:8080/x", ("::1", 8080, False), "[::1]:8080", "/x"),
        ("https://[2001:DB8::0:1]/", ("2001:db8::1", 443, True), "[2001:db8::1]", "/"),
        ("http://0x7f.1/", ("127.0.0.1", 80, False), "127.0.0.1", "/"),
        (
            "https://b\u00fccher.example/\u00fc?\u00e9",
            ("xn--bcher-kva.example", 443, True),
            None,
            "/%C3%BC?%C3%A9",
        ),
        ("https://a.example/%2F//b", ("a.example", 443, True), "a.example", "/%2F//b"),
        ("amqps://mq.example/vh", ("mq.example", 5671, True), "mq.example", "/vh"),
        ("amqp://mq.example", ("mq.example", 5672, False), "mq.example", "/"),
    ],
)
def test_a_url_is_read_in_parts(
    url: str, endpoint: tuple[str, int, bool], authority: str | None, target: str
) -> None:
    parts = parse_url(url)
    assert parts.endpoint == Endpoint(*endpoint)
    assert parts.target == target
    assert authority is None or parts.authority == authority


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "scheme"),
        ("a.example/hook", "scheme"),
        ("file:///etc/passwd", "scheme is 'file'"),
        ("https:///hook", "needs a host"),
        ("https://", "needs a host"),
        ("https://user:secret@a.example/", "sinkcredential"),
        ("https://@a.example/", "sinkcredential"),
        ("https://a.example\\@b.example/", "backslash"),
        ("https://a.example /", "white space"),
        ("https://a.exa\nmple/", "white space"),
        ("https://a.example:99999/", "not a URL"),
        ("https://a.example:x/", "not a URL"),
        ("https://a.example:0/", "port is 0"),
        ("https://[::1/", "not a URL"),
        ("https://[fe80::1%25eth0]/", "."),
        ("https://1.2.3.4.5/", "none"),
        ("https://256.1.1.1/", "none"),
        ("https://0x100000000/", "none"),
        ("https://1.2.08/", "none"),
        ("https://a..b/", "neither"),
        ("https://-a.example/", "neither"),
        ("https://a%2eexample/", "neither"),
        ("https://" + "a" * 64 + ".example/", "neither"),
    ],
)
def test_what_is_no_url_says_why(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_url(url)


def test_a_secret_in_a_url_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="user information") as raised:
        parse_url("https://user:hunter2@a.example/")
    assert "hunter2" not in str(raised.value)


NUMBER = st.one_of(
    st.integers(0, 2**32 + 5).map(str),
    st.integers(0, 2**32 + 5).map(hex),
    st.integers(0, 2**32 + 5).map(lambda n: f"0{n:o}"),
    st.integers(0, 300).map(str),
)


@given(st.lists(NUMBER, min_size=1, max_size=5).map(".".join))
def test_a_host_of_numbers_is_the_address_that_the_c_library_reads(host: str) -> None:
    try:
        expected = ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        with pytest.raises(ValueError, match="none"):
            literal_address(host)
    else:
        assert literal_address(host) == expected


@given(st.ip_addresses())
def test_every_address_is_its_own_literal(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    spelled = f"[{address}]" if address.version == 6 else str(address)
    assert literal_address(spelled) == address
    assert normal_host(spelled) == str(address)


@given(st.text(max_size=80))
def test_any_text_is_a_url_or_a_value_error(text: str) -> None:
    for url in (text, f"https://{text}"):
        try:
            parts = parse_url(url)
        except ValueError:
            continue
        assert parts.endpoint.host.isascii()
        assert parts.target.isascii()
        assert "\r" not in parts.target + parts.authority
