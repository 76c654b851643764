# SPDX-License-Identifier: Apache-2.0
"""What the notification driver needs of OpenStack's libraries: its base class, options, and their JSON.

Imported in a service's process only, which has these libraries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oslo_config import cfg
from oslo_messaging.notify.notifier import Driver
from oslo_serialization import jsonutils

__all__ = ["Driver", "Options", "json_of", "read_options"]

GROUP = "fairlead"
OPTIONS: Sequence[Any] = (
    cfg.StrOpt(
        "url",
        help="The relay's address: https://relay.example, or http://127.0.0.1:3247 on this host. Required.",
    ),
    cfg.StrOpt(
        "outbox",
        help="The file that keeps notifications until the relay has them. Every process of the service on a "
        "host shares it; they need to write its directory. Default: /var/lib/<project>/fairlead-outbox.db, "
        "where <project> is the service's name, for example heat.",
    ),
    cfg.StrOpt(
        "max_size",
        default="1GiB",
        help="How much waiting and refused notifications may take in the outbox together: a number with B, "
        "KiB, MiB or GiB. Beyond it notifications are lost, counted, and logged as errors.",
    ),
    cfg.StrOpt(
        "api_key_file",
        help="A file that holds an API key of the relay which may publish (fairlead keys add NAME --may "
        "publish). Read when a process begins to publish. Default: no login.",
    ),
    cfg.StrOpt(
        "ca_file",
        help="Further certificate authorities for https, PEM. Default: the system's alone.",
    ),
    cfg.StrOpt(
        "source",
        help="The source of every event, a URI-reference such as /openstack/heat. Default: made of each "
        "notification's publisher_id, compute.node-1 is /openstack/compute/node-1. Leave it out where the "
        "relay reads this service's queues too, or what comes both ways is two events.",
    ),
    cfg.DictOpt(
        "keys",
        default={},
        help="Where a notification names its resource, in addition to the built-in table: prefixes of event "
        "types with a JSON Pointer into the payload, for example dns.zone.:/id,cluster.:/cluster/uuid.",
    ),
)


@dataclass(frozen=True, slots=True)
class Options:
    """`[fairlead]` of a service's configuration, as it was written; None where nothing was."""

    url: str | None
    outbox: str | None
    max_size: str
    api_key_file: str | None
    ca_file: str | None
    source: str | None
    keys: Mapping[str, str]
    project: str | None


def read_options(conf: Any) -> Options:
    """Register the group in a service's configuration and read it; `project` is the service's name."""
    conf.register_opts(OPTIONS, group=GROUP)
    options = {option.name: conf.fairlead[option.name] for option in OPTIONS}
    return Options(**options, project=conf.project)


def json_of(notification: Mapping[str, Any]) -> bytes:
    """The notification as `messagingv2` writes it; raises whatever OpenStack's encoder raises."""
    return bytes(jsonutils.dump_as_bytes(notification))


def list_options() -> list[tuple[str, list[Any]]]:
    """For `oslo-config-generator --namespace fairlead`."""
    return [(GROUP, list(OPTIONS))]
