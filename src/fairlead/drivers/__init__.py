# SPDX-License-Identifier: Apache-2.0
"""The only modules that import libraries for input and output; each knows nothing of the relay around it."""
