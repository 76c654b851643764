# SPDX-License-Identifier: Apache-2.0
"""The SQLite store: one file, one writer thread, one process."""
