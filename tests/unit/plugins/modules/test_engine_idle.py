# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._engine import EngineBusy, EngineSilent
from ansible_collections.gpufleet.serving.plugins.modules.engine_idle import Outcome, wait_for_idle


class Readings:
    """An engine that holds as many requests as written, reading by reading; the last entry repeats."""

    def __init__(self, *readings):
        self.readings, self.now = list(readings), 0.0

    def sleep(self, seconds):
        self.now += seconds

    def read(self):
        reading = self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]
        if isinstance(reading, Exception):
            raise reading
        return reading

    def wait(self, timeout_s=10.0):
        return wait_for_idle(self.read, timeout_s, 1.0, clock=lambda: self.now, sleep=self.sleep)


BUSY, GONE = EngineBusy("slow"), EngineSilent("refused")


@pytest.mark.parametrize(
    ("readings", "outcome"),
    [
        ([0], Outcome(True, 0, 1.0)),
        ([3, 1, 0], Outcome(True, 0, 3.0)),
        ([0, 1, 0], Outcome(True, 0, 3.0)),
        ([0, BUSY, 0], Outcome(True, 0, 3.0)),
        ([GONE], Outcome(True, None, 0.0)),
        ([2, GONE], Outcome(True, 2, 1.0)),
        ([2], Outcome(False, 2, 10.0)),
        ([BUSY], Outcome(False, None, 10.0)),
    ],
)
def test_wait(readings, outcome):
    assert Readings(*readings).wait() == outcome


def test_an_engine_that_is_idle_needs_two_readings_even_without_time():
    assert Readings(0).wait(timeout_s=0.0) == Outcome(False, 0, 0.0)


def test_metrics_of_another_program_are_an_error():
    with pytest.raises(ValueError, match="no gauge"):
        Readings(ValueError("no gauge")).wait()
