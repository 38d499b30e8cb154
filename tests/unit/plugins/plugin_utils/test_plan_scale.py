# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A large fleet is planned in seconds: 1,000 hosts of eight GPUs, twenty models, 3,750 replicas."""

from __future__ import annotations

import time

from ansible_collections.gpufleet.serving.plugins.plugin_utils._plan import plan
from ansible_collections.gpufleet.serving.tests.plan_checker import accept
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils import fleets

CPU_SECONDS = 6.0
"""Three times what a quiet machine may take: a test finds a step that grows with the square, a benchmark the rest."""


def test_a_thousand_hosts_are_planned_and_planned_again_in_seconds():
    inputs = fleets.large(1000)
    began = time.process_time()
    first = plan(**inputs)
    planned = time.process_time()
    again = plan(**inputs, previous=fleets.applied(first))
    replanned = time.process_time()
    assert planned - began < CPU_SECONDS
    assert replanned - planned < CPU_SECONDS
    assert len(accept(first)["replicas"]) == 3750
    assert (again["id"], again["steps"]) == (first["id"], [])
