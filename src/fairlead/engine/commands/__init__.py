# SPDX-License-Identifier: Apache-2.0
"""What subscribers and operators tell the relay to do."""
