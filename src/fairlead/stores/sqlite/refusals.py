# SPDX-License-Identifier: Apache-2.0
"""What the writer tells callers that it cannot serve, and what they can do about it."""

from __future__ import annotations

from fairlead.errors import StoreBusy, StoreError, StoreFailed, StoreFull

_FULL_RETRY_SECONDS = 10
_BUSY_RETRY_SECONDS = 1


def failed(error: BaseException) -> StoreFailed:
    """The error that ends serving."""
    failure = StoreFailed(
        f"the store cannot be written: {error}; nothing more is accepted or delivered. "
        "Check the disk, then start again: what was acknowledged is read back from it"
    )
    failure.__cause__ = error
    return failure


def again(error: StoreError) -> StoreError:
    """The same error anew: one instance raised twice would drag every caller's traceback along."""
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy


def full() -> StoreFull:
    return StoreFull(
        "the disk has no room left but the reserve that deliveries need; free some or lower [retention] keep",
        retry_after_seconds=_FULL_RETRY_SECONDS,
    )


def busy() -> StoreBusy:
    return StoreBusy(
        "another program has kept the store locked for longer than store_options.busy_timeout; try again",
        retry_after_seconds=_BUSY_RETRY_SECONDS,
    )
