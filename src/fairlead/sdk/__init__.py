# SPDX-License-Identifier: Apache-2.0
"""What users put at the two ends: `publishing/`; `receiving/` with `inbox/` and `bus/`; `openstack/`."""
