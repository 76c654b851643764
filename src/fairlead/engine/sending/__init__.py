# SPDX-License-Identifier: Apache-2.0
"""Deliveries: what is sent, when, and what came of it."""
