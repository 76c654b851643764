# SPDX-License-Identifier: Apache-2.0
"""What an operator wrote in `[fairlead]` of an OpenStack service's configuration, checked."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from fairlead.core.attributes import check_attributes, shown
from fairlead.core.durations import parse_size
from fairlead.core.oslo_keys import KeyTable
from fairlead.drivers.http_sync import HttpOrigin
from fairlead.drivers.oslo import Options
from fairlead.errors import ConfigError, InvalidEvent


class Place(NamedTuple):
    """Where notifications are kept and go to; drivers with an equal one share a `Publisher`."""

    url: str
    outbox: str
    max_bytes: int
    api_key: str | None
    ca_file: str | None


def place_of(options: Options) -> Place:
    """Raises ConfigError: an option is missing or wrong; the message names it and says what is expected."""
    if options.url is None:
        raise _wrong("url", "is missing; give the relay's address, such as https://relay.example")
    try:
        HttpOrigin(options.url, timeout_seconds=1.0, ca_file=options.ca_file)
    except ValueError as error:
        raise _wrong("url", str(error)) from None
    except OSError as error:  # of ssl too
        raise _wrong("ca_file", f"{options.ca_file} cannot be used: {error.strerror or error}") from None
    return Place(options.url, _outbox(options), _max_bytes(options), _api_key(options), options.ca_file)


def keys_of(options: Options) -> KeyTable:
    """Raises ConfigError: an entry of `keys` leads nowhere."""
    try:
        return KeyTable(options.keys)
    except ValueError as error:
        raise _wrong("keys", str(error)) from None


def source_of(options: Options) -> str | None:
    """Raises ConfigError: `source` is not what CloudEvents 1.0 takes."""
    if options.source is None:
        return None
    try:
        check_attributes({"specversion": "1.0", "id": "-", "type": "-", "source": options.source})
    except InvalidEvent as error:
        raise _wrong("source", error.detail) from None
    return options.source


def _outbox(options: Options) -> str:
    if options.outbox is not None:
        return options.outbox
    if options.project is None:
        raise _wrong("outbox", "is missing; give a file in a directory that the service may write")
    return f"/var/lib/{options.project}/fairlead-outbox.db"


def _max_bytes(options: Options) -> int:
    try:
        return parse_size(options.max_size)
    except ValueError as error:
        raise _wrong("max_size", f"is {shown(options.max_size)}; it {error}") from None


def _api_key(options: Options) -> str | None:
    if options.api_key_file is None:
        return None
    try:
        key = Path(options.api_key_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise _wrong("api_key_file", f"{options.api_key_file} cannot be read: {reason}") from None
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise _wrong("api_key_file", f"{options.api_key_file} must hold one API key and nothing else")
    return key


def _wrong(option: str, what: str) -> ConfigError:
    return ConfigError(f"[fairlead] {option}: {what}")
