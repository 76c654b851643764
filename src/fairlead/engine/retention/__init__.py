# SPDX-License-Identifier: Apache-2.0
"""What the log forgets, and when."""
