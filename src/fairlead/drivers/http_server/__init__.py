# SPDX-License-Identifier: Apache-2.0
"""The HTTP/1.1 server: `server.py` first; uvicorn with limits, and faster."""
