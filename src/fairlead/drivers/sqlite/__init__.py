# SPDX-License-Identifier: Apache-2.0
"""SQLite files: one process's own (`file.py`), or shared by several (`local.py`)."""
