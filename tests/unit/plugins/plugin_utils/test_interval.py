# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.gpufleet.serving.plugins.plugin_utils._interval import Interval
from hypothesis import given, settings
from hypothesis import strategies as st


def test_a_factor_counts_both_ways():
    assert Interval.within(10, 2) == Interval(5, 10, 20)


def test_as_data():
    assert Interval(1, 2.3456, 3).as_dict() == {"low": 1, "likely": 2.35, "high": 3}


@settings(deadline=None)
@given(likely=st.floats(0, 1e12), factor=st.floats(1, 100))
def test_intervals_are_in_order(likely, factor):
    interval = Interval.within(likely, factor)
    assert interval.low <= interval.likely <= interval.high
