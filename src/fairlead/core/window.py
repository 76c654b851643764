# SPDX-License-Identifier: Apache-2.0
"""What of one channel is under way on a bus: published, and not answered for (design, section 6). Pure.

`flseq` counts the publishes of an epoch: 1, 2, 3 … A broker's confirm only says that it has the message; an
event leaves the window by an answer, or because it is given up as lost and published again.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from fairlead.core.log import Entry


class Sent(msgspec.Struct, eq=False):
    """One publish.

    Attributes:
        prev: the `flprev` it carried.
        attempt: its number as its lane's head, from 1.
        started: monotonic seconds.
        confirmed: the broker has said that it has it.
    """

    seq: int
    entry: Entry
    prev: int
    attempt: int
    started: float
    confirmed: bool = False


class Window:
    """At most `capacity` publishes, by `flseq`; everything in it belongs to one epoch.

    Attributes:
        last_seq: of the last publish of the epoch; 0 before the first.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.last_seq = 0
        self._sent: OrderedDict[int, Sent] = OrderedDict()
        self._unconfirmed: OrderedDict[int, Sent] = OrderedDict()
        self._by_key: dict[str, dict[int, Sent]] = {}

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def has_room(self) -> bool:
        return len(self._sent) < self.capacity

    @property
    def keys(self) -> list[str]:
        """The keys of which something is under way."""
        return list(self._by_key)

    def number(self) -> int:
        """The next `flseq`, for a publish that another keeps."""
        self.last_seq += 1
        return self.last_seq

    def admit(self, entry: Entry, prev: int, attempt: int, now: float) -> Sent:
        """One more is published, under the next `flseq`."""
        sent = Sent(self.number(), entry, prev, attempt, now)
        self._sent[sent.seq] = self._unconfirmed[sent.seq] = sent
        self._by_key.setdefault(entry.key, {})[entry.position] = sent
        return sent

    def covers(self, key: str, position: int) -> bool:
        """Whether that event is under way."""
        return position in self._by_key.get(key, ())

    def confirm(self, sent: Sent) -> None:
        """The broker has it. A publish that is under way no more changes nothing."""
        sent.confirmed = True
        if self._unconfirmed.get(sent.seq) is sent:
            del self._unconfirmed[sent.seq]

    def take(self, seq: int, key: str) -> Sent | None:
        """An answer came to a publish of a key: it is under way no more; None if it was not."""
        sent = self._sent.get(seq)
        if sent is None or sent.entry.key != key:
            return None
        self._remove(sent)
        return sent

    def settle(self, key: str, up_to: int) -> list[Sent]:
        """Take every publish of a key at or below a position that an answer says is applied."""
        settled = [sent for position, sent in self._by_key.get(key, {}).items() if position <= up_to]
        for sent in settled:
            self._remove(sent)
        return settled

    def is_present(self, sent: Sent) -> bool:
        """Whether this very publish is under way."""
        return self._sent.get(sent.seq) is sent

    def forget(self, key: str) -> None:
        """Nothing of a key counts as under way any more."""
        for sent in list(self._by_key.get(key, {}).values()):
            self._remove(sent)

    def begin(self) -> None:
        """A new epoch: nothing is under way, and `flseq` starts at 1."""
        self.last_seq = 0
        self._sent.clear()
        self._unconfirmed.clear()
        self._by_key.clear()

    def started_before(self, moment: float) -> list[Sent]:
        """What was published at or before a moment, oldest first."""
        found = []
        for sent in self._sent.values():
            if sent.started > moment:
                break
            found.append(sent)
        return found

    @property
    def oldest(self) -> float | None:
        """When the oldest publish under way was made; None if nothing is."""
        return next((sent.started for sent in self._sent.values()), None)

    @property
    def oldest_unconfirmed(self) -> float | None:
        """When the oldest publish was made that the broker has not confirmed; None if there is none."""
        return next((sent.started for sent in self._unconfirmed.values()), None)

    def _remove(self, sent: Sent) -> None:
        del self._sent[sent.seq]
        self._unconfirmed.pop(sent.seq, None)
        of_key = self._by_key[sent.entry.key]
        if of_key.get(sent.entry.position) is sent:
            del of_key[sent.entry.position]
        if not of_key:
            del self._by_key[sent.entry.key]
