# SPDX-License-Identifier: Apache-2.0
"""Ids of rejects, by which they are listed: in the order in which they came."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from fairlead.engine.reject_ids import RejectIds

MOMENTS = st.lists(st.floats(1.7e9, 1.7e9 + 0.01), min_size=2)


@given(MOMENTS)
def test_ids_rise_within_a_millisecond_and_when_the_clock_goes_back(moments: list[float]) -> None:
    ids = RejectIds(os.urandom)
    made = [ids.next(now) for now in moments]
    assert made == sorted(set(made))


def test_two_sources_never_make_the_same_id() -> None:
    assert RejectIds(os.urandom).next(1.0) != RejectIds(os.urandom).next(1.0)
