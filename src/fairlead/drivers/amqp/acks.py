# SPDX-License-Identifier: Apache-2.0
"""Which deliveries of a channel are done with, and in how few words that is told to the broker."""

from __future__ import annotations


class Acks:
    """The tags of one channel: 1, 2, 3 … as they were delivered.

    A broker closes the channel of whoever names a tag twice, also where an acknowledgement of several ends at
    one that it has had.
    """

    def __init__(self) -> None:
        self._next = 1  # the lowest tag that is not told
        self._told: set[int] = set()  # above it
        self._due: set[int] = set()

    def ack(self, tag: int) -> bool:
        """Note that a delivery is done with; whether it is the first that waits to be told."""
        if tag < self._next or tag in self._told:
            return False
        first = not self._due
        self._due.add(tag)
        return first

    def nack(self, tag: int) -> bool:
        """Note that a delivery is told to be refused; False where it was told, or is due, as done with."""
        if tag < self._next or tag in self._told or tag in self._due:
            return False
        self._told.add(tag)
        return True

    def due(self) -> list[tuple[int, bool]]:
        """Take what is to be told: tags, and whether it is for all below too."""
        due, told = self._due, self._told
        words: list[tuple[int, bool]] = []
        tag = last = self._next
        count = 0
        while tag in due or tag in told:
            if tag in due:
                due.remove(tag)
                last = tag
                count += 1
            else:
                told.remove(tag)
            tag += 1
        self._next = tag
        if count:
            words.append((last, count > 1))
        words += [(tag, False) for tag in sorted(due)]
        told |= due
        due.clear()
        return words
