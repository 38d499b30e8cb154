# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans before and after a driver appeared."""

from __future__ import annotations

import copy

from ansible_collections.gpufleet.serving.plugins.plugin_utils._replan import plan_differences
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils import fleets
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.test_host_stacks import gpu_host


def plan(host, **options):
    return fleets.planned(
        models=[fleets.model(tensor_parallel_size=2, **options)],
        hosts={"gpu1": host},
        shapes={"tiny": fleets.shape()},
        settings=fleets.PUBLIC,
    )


def test_names_alone_are_no_difference():
    before, after = plan(gpu_host(count=4)), plan(gpu_host(driver="580.178.04", count=4))
    assert before["replicas"][0]["ranks"][0]["device"] == "0"
    assert after["replicas"][0]["ranks"][0]["device"].startswith("GPU-")
    assert plan_differences(before, after) == []


def test_a_gpu_less_is_one():
    before, after = plan(gpu_host(count=4)), plan(gpu_host(driver="580.178.04", count=3))
    assert plan_differences(before, after) == [
        "gpu1 was planned with 4 x H100-SXM-80GB, and its driver tells 3 x H100-SXM-80GB."
    ]


def test_so_is_a_unit_that_is_another_one():
    before = plan(gpu_host(count=2))
    after = plan(gpu_host(driver="580.178.04", count=2), max_num_seqs=7)
    assert "max_num_seqs" in plan_differences(before, after)[0]
    moved = copy.deepcopy(before)
    moved["shares"]["gpu1"]["serve"]["serve_units"][0]["devices"].reverse()
    assert plan_differences(before, moved) == ["tiny-0 on gpu1: devices was [0, 1] and is [1, 0]."]


def test_and_a_replica_that_came_or_went():
    before = plan(gpu_host(count=2))
    none = copy.deepcopy(before)
    none["shares"]["gpu1"]["serve"]["serve_units"] = []
    assert plan_differences(before, none) == ["tiny-0 on gpu1 was planned and is not any more."]
    assert plan_differences(none, before) == ["tiny-0 on gpu1 was not planned."]
