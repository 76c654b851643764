# SPDX-License-Identifier: Apache-2.0
"""The root of the error tree; the tree itself is drawn in `fairlead.errors`."""

from __future__ import annotations


class FairleadError(Exception):
    """Root of all errors that Fairlead raises on purpose."""
