# SPDX-License-Identifier: Apache-2.0
"""The notification driver for oslo.messaging: `notify.py` first."""
