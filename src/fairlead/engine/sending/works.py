# SPDX-License-Identifier: Apache-2.0
"""What everything that sends shares."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from fairlead.core.channel import ChannelId
from fairlead.engine.revisions import Revisions
from fairlead.engine.sending.flusher import Flusher
from fairlead.engine.settings import EngineSettings
from fairlead.ports import Bus, Clock, Sender, Store
from fairlead.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Works:
    """The world and the tools of one node's owners and subscribers.

    Attributes:
        damage: channels that cannot be read, and why; for people.
        bus: the way to brokers, if there is one.
    """

    store: Store
    sender: Sender
    clock: Clock
    settings: EngineSettings
    random: Random
    telemetry: Telemetry
    revisions: Revisions
    flusher: Flusher
    damage: dict[ChannelId, str]
    bus: Bus | None = None
