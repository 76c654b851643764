# SPDX-License-Identifier: Apache-2.0
"""Events from queues: what is taken, in which order, and what becomes of what cannot be."""
