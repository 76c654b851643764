# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501 -- messages are quoted whole
"""`[[source]]`: the queues that events are taken from, and what is said of every mistake (interface, 9)."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.config import load
from fairlead.config.reading import Loaded
from fairlead.config.rendering import reference, to_json, to_toml
from fairlead.config.sources import SOURCE_SETTINGS, SourceConfig, is_open_to_all, read_credential
from fairlead.core.json_mapping import json_mapping
from fairlead.errors import ConfigError

BASIC = '[[source]]\nname = "legacy"\nurl = "amqp://127.0.0.1/vh"\nqueue = "in"\n'
JSON = BASIC + 'format = "json"\nsource = "/legacy"\ntype = "/what"\nid = "/id"\n'
OSLO = BASIC + 'format = "oslo"\n[source.keys]\n"dns.zone." = "/id"\n'


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(text: str, environment: dict[str, str] | None = None) -> Loaded:
    Path("fairlead.toml").write_text(text)
    return load(environment=environment or {})


def complaints(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(text)
    return [str(caught.value), *caught.value.hints]


def test_a_source_needs_its_name_its_broker_and_its_queue() -> None:
    (source,) = loaded(BASIC).config.sources
    assert source == SourceConfig(name="legacy", url="amqp://127.0.0.1/vh", queue="in")
    assert (source.format, source.prefetch, source.declare, source.credential_file) == (
        "cloudevents", 256, False, None,
    )  # fmt: skip


def test_there_may_be_many_and_each_has_its_own_keys() -> None:
    text = OSLO + BASIC.replace("legacy", "other") + 'credential_file = "c"\nprefetch = 1\ndeclare = true\n'
    first, second = loaded(text).config.sources
    assert (first.keys, first.format) == ({"dns.zone.": "/id"}, "oslo")
    assert (second.keys, second.credential_file, second.prefetch, second.declare) == ({}, "c", 1, True)
    (mapped,) = loaded(JSON).config.sources
    assert mapped.mapping() == json_mapping(source="/legacy", type="/what", id="/id")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[[source]]\nname = 'x'", "fairlead.toml:1: [[source]] url: is missing; every source needs name, url and"),
        (BASIC + "queu = 'x'", "fairlead.toml:5: [[source]] queu: unknown key; did you mean queue?"),
        (BASIC + BASIC.replace("legacy", "b") + "prefech = 1",
         "fairlead.toml:9: [[source]] prefech: unknown key; did you mean prefetch?"),
        (BASIC.replace('"in"', f'"{"q" * 256}"'), f'fairlead.toml:4: [[source]] queue: "{"q" * 256}": has 256 bytes; AMQP'),
        (BASIC + "prefetch = 0", "fairlead.toml:5: [[source]] prefetch: 0: must be a whole number from 1"),
        (BASIC + "declare = 'yes'", 'fairlead.toml:5: [[source]] declare: "yes": must be true or false'),
        (BASIC + "format = 'xml'", 'fairlead.toml:5: [[source]] format: "xml": must be "cloudevents" or "json" or'),
        (BASIC.replace("legacy", "/x"), 'fairlead.toml:2: [[source]] name: "/x": must be small letters, digits'),
        (BASIC.replace("amqp:", "http:"), "fairlead.toml:3: [[source]] url: \"http://127.0.0.1/vh\": must be the address"),
        (BASIC.replace("127", "u:secret@127"), 'fairlead.toml:3: [[source]] url: "amqp://***@127.0.0.1/vh": must not hold a login'),
        (BASIC + BASIC, 'fairlead.toml:6: [[source]] name: "legacy": another source has this name'),
        (BASIC + "source = '/x'", 'fairlead.toml:5: [[source]] source: is for format = "json"; this source is "cloudevents"'),
        (BASIC + "[source.keys]\n'a.' = '/b'", 'fairlead.toml:5: [[source]] keys: is for format = "oslo"'),
        (BASIC + "format = 'json'\ntype = 't'", "fairlead.toml:1: [[source]] source: is missing; format = \"json\" needs"),
        (JSON.replace('"/id"', '"fixed"'), 'fairlead.toml:8: [[source]] id: "fixed": must be a JSON Pointer such as "/id"'),
        (JSON.replace('"/legacy"', '"a b"'), 'fairlead.toml:6: [[source]] source: "a b": must be a URI-reference'),
        (OSLO.replace('"/id"', '"id"'), 'fairlead.toml:7: [[source]] keys: { "dns.zone." = "id" }: "dns.zone.": must be a JSON'),
        ("[source]\nname = 'x'", "fairlead.toml:1: [[source]]: write each source under a line [[source]]"),
        ("a = 1\nsource = [1]", "fairlead.toml:2: [[source]]: write each source under a line [[source]]"),
        ("source = [{ name = 'x', url = 'amqp://a', queue = 1 }]", "fairlead.toml:1: [[source]] queue: 1: must be a text"),
        ("[[sources]]\nname = 'x'", "fairlead.toml:1: [sources]: unknown table; did you mean [[source]]?"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line_and_what_to_write(text: str, line: str) -> None:
    found = complaints(text)
    assert any(one.startswith(line) for one in found), found
    assert "secret" not in str(found)


def test_every_mistake_of_every_source_is_named() -> None:
    text = BASIC + "queu = 1\n" + BASIC.replace("legacy", "b") + "prefetch = 0\n[limits]\nconnections = 0\n"
    assert len(complaints(text)) == 3


def test_the_environment_does_not_reach_into_sources() -> None:
    (warning,) = loaded(BASIC, {"FAIRLEAD_SOURCE_URL": "amqp://other"}).warnings
    assert warning == "FAIRLEAD_SOURCE_URL: sources are set in the file only, under [[source]]"


def test_a_login_in_the_clear_is_allowed_but_not_silently() -> None:
    (warning,) = loaded(BASIC.replace("127.0.0.1", "mq.example")).warnings
    assert warning.startswith("[[source]] legacy: amqp://mq.example/vh is not encrypted")
    for safe in ("amqps://mq.example", "amqp://localhost", "amqp://[::1]:5673/"):
        assert loaded(BASIC.replace("amqp://127.0.0.1/vh", safe)).warnings == ()


@pytest.mark.parametrize(
    "text", [BASIC, JSON, OSLO, BASIC + OSLO.replace("legacy", "b") + BASIC.replace("legacy", "c")]
)
def test_shown_as_toml_it_can_be_read_back_as_the_same(text: str) -> None:
    first = loaded(text)
    assert loaded(to_toml(first)).config == first.config


def test_shown_as_json_every_key_is_there() -> None:
    shown = to_json(loaded(OSLO))["sources"]
    assert isinstance(shown, list)
    (source,) = shown
    assert source.keys() == {row.key for row in SOURCE_SETTINGS}
    assert source["keys"] == {"dns.zone.": "/id"}


def test_the_reference_names_every_key() -> None:
    page = reference()
    assert all(f"| `{row.key}` | {row.kind.name}" in page for row in SOURCE_SETTINGS)
    assert "| `queue` | text |  | needed |" in page


# -- the credential's file -----------------------------------------------------------------------------------


def test_a_credential_is_one_line_of_user_and_password(tmp_path: Path) -> None:
    path = tmp_path / "credential"
    path.write_text("relay:a:b c\n")
    assert read_credential(str(path)) == ("relay", "a:b c")
    path.chmod(0o600)
    assert not is_open_to_all(str(path))
    path.chmod(0o644)
    assert is_open_to_all(str(path))


@pytest.mark.parametrize(
    "content", [b"", b"sesame", b":sesame", b"sesame:", b"a:sesame\nb:c", b"sesame:\xff"]
)
def test_what_is_no_credential_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "credential"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="credential") as caught:
        read_credential(str(path))
    assert "sesame" not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_credential(str(tmp_path / "missing"))
