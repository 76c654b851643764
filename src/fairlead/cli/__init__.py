# SPDX-License-Identifier: Apache-2.0
"""The command line (interface, section 10). `main` is what `fairlead` and `python -m fairlead` run."""

from __future__ import annotations

from fairlead.cli.program import main

__all__ = ["main"]
