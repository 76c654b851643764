# SPDX-License-Identifier: Apache-2.0
"""`Receiver` on a message bus: `consuming.py` first."""
