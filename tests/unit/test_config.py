# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501 -- messages are quoted whole
"""The configuration: what is read from where, and what is said of every mistake (interface, section 9)."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.config import (
    SETTINGS,
    Config,
    Listen,
    Loaded,
    delivery_defaults,
    load,
    parse_listen,
    store_path,
)
from fairlead.config.rendering import MASK, to_json, to_toml
from fairlead.core.subscription import DeliveryOptions
from fairlead.core.subscription_format import parse
from fairlead.errors import ConfigError

INTERFACE = {
    "store": "sqlite:///fairlead.db", "listen": "127.0.0.1:3247",
    "store_options.disk_reserve": "64MiB", "store_options.busy_timeout": "5s",
    "limits.event_bytes": "1MiB", "limits.request_bytes": "8MiB", "limits.batch_events": 1000,
    "limits.log_bytes": None, "limits.connections": 1024, "limits.header_bytes": "64KiB",
    "limits.request_timeout": "30s",
    "retention.keep": "7d", "retention.max_age": None, "retention.max_bytes": None, "retention.attempts": "7d",
    "breaker.failures": 10, "breaker.probe_every": "5s", "breaker.probe_max": "5m",
    "egress.allow": [], "egress.ca_file": None, "egress.dns_ttl": "30s",
    "webhook.origin": None, "auth.bootstrap_key": None, "log.level": "info", "log.format": "text",
    "shutdown.grace": "20s",
    "delivery.on_exhausted": "park", "delivery.rejected_statuses": [400, 413, 415, 422],
    "delivery.concurrency": 64, "delivery.rate": None, "delivery.batch": None, "delivery.timeout": "15s",
    "delivery.ack_persist": "before_next", "delivery.receiver": "plain", "delivery.signature": "v1",
    "delivery.settles": None, "delivery.failover": "wait", "delivery.secret_overlap": "1d",
    "delivery.retry.first": "1s", "delivery.retry.factor": 2, "delivery.retry.max": "5m",
    "delivery.retry.give_up_after": "3d", "delivery.retry.max_attempts": None, "delivery.retry.jitter": "full",
    "delivery.retry.max_retry_after": "1d",
}  # fmt: skip
BEYOND = {  # what the interface does not list: the clocks of the fail-over that it describes
    "failover.confirm_late": "5s", "failover.suspect": "5s", "failover.return_after": "30s",
    "failover.return_max": "10m", "failover.probe_every": "5s",
}  # fmt: skip
KEY = "flk_" + "a" * 32


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(text: str) -> None:
    Path("fairlead.toml").write_text(text)


def loaded(
    text: str | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
) -> Loaded:
    if text is not None:
        written(text)
    return load(flags=flags, environment=environment or {})


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(text)
    return str(caught.value)


def test_every_key_and_default_is_the_interface_s() -> None:
    table = {f"{row.table}.{row.key}".lstrip("."): row.kind.show(row.default) for row in SETTINGS}
    assert table == INTERFACE | BEYOND


def test_every_setting_says_what_it_is() -> None:
    for row in SETTINGS:
        assert row.doc.endswith(".")
        assert row.kind.name
        assert row.variable == "FAIRLEAD_" + "_".join([*filter(None, row.table.split(".")), row.key]).upper()
    assert len({row.variable for row in SETTINGS}) == len(SETTINGS)


def test_without_anything_the_defaults_hold() -> None:
    result = loaded()
    assert result == Loaded(Config(), {}, (), None)
    assert result.config.listen == Listen("127.0.0.1", 3247)


def test_flags_come_before_environment_before_file_before_default() -> None:
    file = 'listen = "127.0.0.1:1"\n[log]\nlevel = "debug"\n'
    assert str(loaded(file).config.listen) == "127.0.0.1:1"
    environment = {"FAIRLEAD_LISTEN": "127.0.0.1:2", "FAIRLEAD_LOG_LEVEL": "error"}
    both = loaded(file, environment)
    assert (str(both.config.listen), both.config.log.level) == ("127.0.0.1:2", "error")
    all_three = loaded(file, environment, {"--listen": "127.0.0.1:3"})
    assert str(all_three.config.listen) == "127.0.0.1:3"
    assert all_three.origins == {"listen": "--listen", "[log] level": "FAIRLEAD_LOG_LEVEL"}


def test_the_origin_of_a_value_in_the_file_is_its_line() -> None:
    assert loaded("# here\n[limits]\n\nbatch_events = 7\n").origins == {
        "[limits] batch_events": "fairlead.toml:4"
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[limits]\nevent_byte = "1MiB"', "fairlead.toml:2: [limits] event_byte: unknown key; did you mean event_bytes?"),
        ("\n[limit]\nx = 1", "fairlead.toml:2: [limit]: unknown table; did you mean [limits]?"),
        ('keep = "3d"', "fairlead.toml:1: keep: unknown key; it belongs under [retention]"),
        ("[delivery.retry]\nfist = 1", "fairlead.toml:2: [delivery.retry] fist: unknown key; did you mean first?"),
        ("limits = 3", "fairlead.toml:1: [limits]: must be a table; write its keys under a line [limits]"),
        ("[limits]\nconnections = 'many'",
         'fairlead.toml:2: [limits] connections: "many": must be a whole number from 1 to 100000'),
        ("[limits]\nconnections = true", "fairlead.toml:2: [limits] connections: true: must be a whole number from 1"),
        ("[limits]\nevent_bytes = '1 MB'", 'fairlead.toml:2: [limits] event_bytes: "1 MB": must be a size such as'),
        ("[shutdown]\ngrace = 20", 'fairlead.toml:2: [shutdown] grace: 20: must be a duration such as "250ms"'),
        ("[log]\nlevel = 'loud'", 'fairlead.toml:2: [log] level: "loud": must be "debug" or "info" or'),
        ("[egress]\nallow = '10.0.0.0/8'", 'fairlead.toml:2: [egress] allow: "10.0.0.0/8": must be a list of texts'),
        ("[egress]\nallow = ['::1', '10.0.0.0/99']", 'fairlead.toml:2: [egress] allow: ["::1", "10.0.0.0/99"]: must hold CIDRs'),
        ("[egress]\nallow = ['http://a/']", 'fairlead.toml:2: [egress] allow: ["http://a/"]: must hold CIDRs and host'),
        ("[webhook]\norigin = 'http://a/'", 'fairlead.toml:2: [webhook] origin: "http://a/": must be a host name such as'),
        ("[delivery]\nbatch = { max_event = 1 }",
         "fairlead.toml:2: [delivery] batch: { max_event = 1 }: max_event is unknown in it"),
        ("delivery.timeout = '0s'", 'fairlead.toml:1: [delivery] timeout: "0s": must be at least 1ms'),
        ("[delivery.retry]\nmax = '1ms'", 'fairlead.toml:2: [delivery.retry] max: must not be below first, "1s"'),
        ("listen = '3247'", 'fairlead.toml:1: listen: "3247": must be an address and a port such as'),
        ("store = 'postgres://x'", 'fairlead.toml:1: store: "postgres://x": must be "sqlite:///fairlead.db"'),
        ("[auth]\nbootstrap_key = 17", "fairlead.toml:2: [auth] bootstrap_key: the value (not shown): must be flk_ and 32"),
        ("a = ", "fairlead.toml:1: not TOML: "),
        ("[log]\nlevel = 'info'\nlevel = 'info'", "fairlead.toml:3: not TOML: "),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_named_with_its_line_and_what_to_write(text: str, line: str) -> None:
    assert complaint(text).startswith(line)


def test_every_mistake_is_named_not_only_the_first() -> None:
    written("[limits]\nconnectoins = 1\n[log]\nlevel = 1\n")
    with pytest.raises(ConfigError) as caught:
        loaded()
    assert len(caught.value.hints) == 1
    assert caught.value.hints[0].startswith("fairlead.toml:4: [log] level: 1: ")


def test_a_named_file_must_exist_and_be_text() -> None:
    with pytest.raises(ConfigError, match=r"elsewhere\.toml: there is no such file"):
        load(file="elsewhere.toml", environment={})
    with pytest.raises(ConfigError, match="there is no such file"):
        load(environment={"FAIRLEAD_CONFIG": "nowhere.toml"})
    Path("fairlead.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        loaded()


def test_a_variable_that_names_no_setting_is_a_warning_with_the_nearest() -> None:
    result = loaded(environment={"FAIRLEAD_LIMITS_EVENT_BYTE": "1", "FAIRLEAD_SECRET": "x", "HOME": "/"})
    assert result.warnings == (
        "FAIRLEAD_LIMITS_EVENT_BYTE: no setting has this variable; did you mean FAIRLEAD_LIMITS_EVENT_BYTES?",
    )


def test_a_bad_variable_is_named() -> None:
    with pytest.raises(ConfigError, match=r'^FAIRLEAD_LIMITS_BATCH_EVENTS: "x": must be a whole number'):
        loaded(environment={"FAIRLEAD_LIMITS_BATCH_EVENTS": "x"})


def test_variables_say_lists_numbers_and_none() -> None:
    config = loaded(
        environment={
            "FAIRLEAD_EGRESS_ALLOW": "10.0.0.0/8, console.example",
            "FAIRLEAD_DELIVERY_REJECTED_STATUSES": "400,422",
            "FAIRLEAD_DELIVERY_RETRY_MAX_ATTEMPTS": "none",
            "FAIRLEAD_DELIVERY_BATCH": '{"max_events": 10}',
            "FAIRLEAD_LIMITS_BATCH_EVENTS": "5",
            "FAIRLEAD_LOG_FORMAT": "",
        }
    ).config
    assert config.egress.allow == ("10.0.0.0/8", "console.example")
    assert config.delivery.rejected_statuses == (400, 422)
    assert config.delivery.batch == {"max_events": 10}
    assert config.limits.batch_events == 5
    assert config.log.format == "text"


def test_a_small_event_limit_is_allowed_but_not_silently() -> None:
    (warning,) = loaded('[limits]\nevent_bytes = "2KiB"').warnings
    assert "2KiB is less than the 64KiB" in warning


def test_the_delivery_defaults_are_those_of_a_subscription_that_says_nothing() -> None:
    document = {"id": "s", "sink": "https://a.example/", "protocol": "HTTP"}
    made = parse(document, id="s", previous=None, defaults=delivery_defaults(Config()), now=0.0)
    assert made.options == DeliveryOptions()


def test_shown_as_toml_it_can_be_read_back_as_the_same_configuration() -> None:
    environment = {"FAIRLEAD_EGRESS_ALLOW": "10.0.0.0/8", "FAIRLEAD_DELIVERY_RETRY_MAX": "10m"}
    first = loaded('[limits]\nlog_bytes = "1GiB"\n', environment)
    again = loaded(to_toml(first))
    assert again.config == first.config
    assert "fairlead.toml:2" in to_toml(first)


def test_defaults_are_shown_as_comments_that_would_mean_the_same() -> None:
    text = to_toml(loaded())
    assert max(len(line) for line in text.splitlines() if " = " not in line) <= 80
    shown = "\n".join(
        line.removeprefix("# ") if " = " in line and "(" not in line else line for line in text.splitlines()
    )
    assert loaded(shown).config == Config()
    assert tomllib.loads(text) is not None


def test_secrets_are_masked() -> None:
    result = loaded(f'[auth]\nbootstrap_key = "{KEY}"')
    assert KEY not in to_toml(result)
    assert KEY not in str(to_json(result))
    assert f'bootstrap_key = "{MASK}"' in to_toml(result)


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:3247", "127.0.0.1", 3247, True),
        ("[::1]:0", "::1", 0, True),
        ("localhost:80", "localhost", 80, True),
        ("0.0.0.0:1", "0.0.0.0", 1, False),
        ("relay.example:1", "relay.example", 1, False),
    ],
)
def test_addresses_to_listen_on(text: str, host: str, port: int, loopback: bool) -> None:
    listen = parse_listen(text)
    assert (listen.host, listen.port, listen.is_loopback, str(listen)) == (host, port, loopback, text)


@pytest.mark.parametrize(
    "text", ["", ":80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "::1:80", "a:70000", "a b:1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be an address"):
        parse_listen(text)


def test_store_urls_are_relative_with_three_slashes_and_absolute_with_four() -> None:
    assert store_path("sqlite:///fairlead.db") == "fairlead.db"
    assert store_path("sqlite:////var/lib/fairlead/a%20b.db") == "/var/lib/fairlead/a b.db"


@pytest.mark.parametrize(
    "url", ["", "sqlite://", "sqlite:///", "sqlite:///a/", "sqlite:///a?b", "postgres://a/b"]
)
def test_what_is_no_store_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must"):
        store_path(url)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text())
def test_any_text_as_a_file_is_read_or_refused(text: str) -> None:
    Path("any.toml").write_text(text, encoding="utf-8", errors="replace", newline="")
    with contextlib.suppress(ConfigError):
        load(file="any.toml", environment={})
