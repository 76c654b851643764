# SPDX-License-Identifier: Apache-2.0
"""The durable inbox: `port.py` says what one is, the others are the one on SQLite."""
