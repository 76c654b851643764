# SPDX-License-Identifier: Apache-2.0
"""`Receiver` over HTTP: `receiver.py` first, then `applying.py`."""
