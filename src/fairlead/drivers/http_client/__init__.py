# SPDX-License-Identifier: Apache-2.0
"""The HTTP/1.1 client that delivers: `client.py` first."""
