# SPDX-License-Identifier: Apache-2.0
"""Measures the speed table of the design (section 11): every row against its limit, in the same run."""
