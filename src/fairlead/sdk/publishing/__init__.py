# SPDX-License-Identifier: Apache-2.0
"""`Publisher` and its durable outbox: `publisher.py` first."""
