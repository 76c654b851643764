# SPDX-License-Identifier: Apache-2.0
"""What the members of a subscription demand of each other (interface, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fairlead.core.members import Members
from fairlead.core.subscription import DeliveryOptions, Secrets, Signature, Subscription, Target

_REPLAY_HINT = "POST /subscriptions/{}/replay with it: it changes only together with a replay"


def agreed_options(
    config: Members,
    options: DeliveryOptions,
    targets: Sequence[Target],
    secrets: Secrets,
    previous: Subscription | None,
) -> DeliveryOptions:
    """The options with what follows from targets and secrets; contradictions are noted as faults."""
    options = _settling(config, options, targets)
    options = replace(options, signature=_signature(config, options, secrets))
    _check_structured(config, options, targets)
    if previous is not None:
        for name in ("receiver", "settles"):
            before, after = getattr(previous.options, name), getattr(options, name)
            if before != after:
                detail = f"is {_shown(before)} and cannot become {_shown(after)} here"
                config.fault(name, detail, _REPLAY_HINT.format(previous.id))
    return options


def _settling(config: Members, options: DeliveryOptions, targets: Sequence[Target]) -> DeliveryOptions:
    on_bus = any(target.protocol == "AMQP" for target in targets)
    if not on_bus:
        if "settles" in config:
            config.fault("settles", "is for AMQP targets only", "leave it out")
        return replace(options, settles=None)
    settles = options.settles or "applied"
    if settles == "applied":
        if options.receiver == "plain" and "receiver" in config and "settles" in config:
            config.fault("receiver", 'must be "library" where settles is "applied"')
        if any(target.mode != "structured" for target in targets):
            config.fault("settles", '"applied" needs mode "structured" on every target')
        return replace(options, settles=settles, receiver="library")
    if options.receiver == "library":
        config.fault("settles", '"confirm" is for receivers without the library', 'use "applied"')
    return replace(options, settles=settles)


def _signature(config: Members, options: DeliveryOptions, secrets: Secrets) -> Signature:
    """The kind of the secret there is; what was asked for where the relay is to make one."""
    if not secrets.current:
        return options.signature
    kind: Signature = "v1a" if secrets.current.startswith("whsk_") else "v1"
    if "signature" in config and options.signature != kind:
        prefix = "whsk_" if options.signature == "v1a" else "whsec_"
        detail = f'is "{kind}" by the secret there is'
        config.fault("signature", detail, f"give a config.secret that begins with {prefix}")
    return kind


def _check_structured(config: Members, options: DeliveryOptions, targets: Sequence[Target]) -> None:
    """Batches and the chain exist in structured mode only (interface, section 7)."""
    for at, target in enumerate(targets):
        place = f"/config/route/{at - 1}/protocolsettings/mode" if at else "/protocolsettings/mode"
        if target.mode == "structured":
            continue
        if options.batch is not None:
            config.fault("batch", f'needs mode "structured"; {place} is "{target.mode}"', "or null")
        if options.receiver == "library" and options.settles is None:
            config.fault("receiver", f'"library" needs mode "structured"; {place} is "{target.mode}"')
    if options.failover != "wait" and "failover" in config and options.settles != "confirm":
        config.fault("failover", 'is for settles "confirm" only', "leave it out")


def _shown(value: str | None) -> str:
    return "null" if value is None else f'"{value}"'
