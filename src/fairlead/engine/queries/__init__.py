# SPDX-License-Identifier: Apache-2.0
"""What people and programs ask of the relay; nothing here changes anything."""
