# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""plan.yml reads a host and leaves it as it was."""

from __future__ import annotations

import json
from pathlib import Path

PLAN = Path(__file__).resolve().parents[3] / ".cache/survey-plan.json"


def test_the_plan_is_about_the_host_that_was_read(host):
    plan = json.loads(PLAN.read_text(encoding="utf-8"))
    assert plan["refusals"] == []
    (replica,) = plan["replicas"]
    assert (replica["name"], replica["head"], replica["address"]) == ("tiny-0", "survey-1", "10.89.77.61")
    assert [device["id"] for device in plan["hosts"]["survey-1"]["devices"]] == ["cpu:0"]
    assert [step["action"] for step in plan["steps"]] == ["start"]


def test_nothing_of_the_collection_is_on_the_host(host):
    for path in ("/etc/gpufleet", "/opt/gpufleet", "/var/lib/gpufleet", "/run/gpufleet", "/etc/ansible/facts.d"):
        assert not host.file(path).exists, path
    assert host.run("systemctl list-unit-files --no-legend 'gpufleet*'").stdout == ""
