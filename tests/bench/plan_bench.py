#!/usr/bin/env python3
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long plans take as the fleet grows, and how much memory.

    plan_bench.py                 the curve in one process each, then a thousand hosts through plan.yml
    plan_bench.py 1000            one fleet, in this process

A fleet has eight GPUs a host and twenty models that fill it; every host has answered with all that gpu_info
tells. The second time is that of a plan over what is applied, after one host came; it must move no replica.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ansible_collections.gpufleet.serving.plugins.plugin_utils._plan import plan
from ansible_collections.gpufleet.serving.tests.plan_checker import accept
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils import fleets

SIZES = (10, 100, 1_000, 10_000)
"""Hosts."""
BOUNDS_S = {1_000: 2.0, 10_000: 20.0}
BOUND_MIB = 500
THROUGH_ANSIBLE_HOSTS, THROUGH_ANSIBLE_S = 1_000, 60.0
CHECKOUT = Path(__file__).resolve().parents[2]


def measured(hosts: int) -> dict[str, float]:
    """Plan a fleet of so many hosts, and plan it again with one more."""
    inputs = fleets.large(hosts)
    input_mib = peak_mib()
    first, planned_s = timed(inputs)
    peak = peak_mib()
    larger = fleets.large(hosts + 1) | {"models": inputs["models"], "previous": fleets.applied(first)}
    again, replanned_s = timed(larger)
    accept(first)
    places = {replica["name"]: replica["ranks"] for replica in again["replicas"]}
    moved = [replica["name"] for replica in first["replicas"] if places.get(replica["name"]) != replica["ranks"]]
    return {
        "replicas": len(first["replicas"]),
        "plan_s": planned_s,
        "replan_s": replanned_s,
        "moved": len(moved),
        "input_mib": input_mib,
        "peak_mib": peak,
    }


def timed(inputs: dict) -> tuple[dict, float]:
    """A plan, and the CPU seconds that it took."""
    begun = time.process_time()
    made = plan(**inputs)
    return made, time.process_time() - begun


def peak_mib() -> float:
    """The most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def through_ansible(hosts: int) -> float:
    """Seconds of plan.yml over an inventory that states its GPUs."""
    with tempfile.TemporaryDirectory() as folder:
        inventory = Path(folder) / "hosts.json"
        inventory.write_text(json.dumps(stated(hosts)), encoding="utf-8")
        command = ["ansible-playbook", f"--inventory={inventory}", "-e", f"survey_plan_file={folder}/plan.json"]
        begun = time.monotonic()
        subprocess.run([*command, str(CHECKOUT / "playbooks/plan.yml")], cwd=CHECKOUT, check=True, capture_output=True)
        return time.monotonic() - begun


def stated(hosts: int) -> dict:
    """An inventory of so many hosts with fleet_gpus, and models of the built-in catalogue."""
    models = [
        {
            "name": f"model-{number}",
            "source": "meta-llama/Llama-3.1-8B-Instruct",
            "revision": fleets.REVISION,
            "max_model_len": 8192,
            "tensor_parallel_size": 2 ** (number % 4),
            "replica_count": max(1, hosts * 8 // fleets.LARGE_MODELS // 2 ** (number % 4)),
        }
        for number in range(fleets.LARGE_MODELS)
    ]
    named = {
        f"gpu{number}": {"ansible_host": f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"}
        for number in range(1, hosts + 1)
    }
    return {
        "all": {
            "vars": {"fleet_models": models, "gateway_public": True},
            "children": {
                "gpu_nodes": {"hosts": named, "vars": {"fleet_gpus": [{"model": "H100-SXM-80GB", "count": 8}]}}
            },
        }
    }


def curve() -> bool:
    """Print the curve; return whether every bound holds."""
    kept = True
    print(f"{'hosts':>6} {'replicas':>9} {'plan s':>7} {'again s':>8} {'moved':>6} {'inputs MiB':>11} {'peak MiB':>9}")
    for hosts in SIZES:
        done = subprocess.run([sys.executable, __file__, str(hosts)], check=True, stdout=subprocess.PIPE, text=True)
        seen = json.loads(done.stdout)
        print(
            f"{hosts:>6} {seen['replicas']:>9} {seen['plan_s']:>7.2f} {seen['replan_s']:>8.2f} {seen['moved']:>6} "
            f"{seen['input_mib']:>11.0f} {seen['peak_mib']:>9.0f}",
            flush=True,
        )
        kept &= seen["plan_s"] < BOUNDS_S.get(hosts, 20.0) and seen["moved"] == 0
        kept &= seen["peak_mib"] < BOUND_MIB
    seconds = through_ansible(THROUGH_ANSIBLE_HOSTS)
    print(f"plan.yml over {THROUGH_ANSIBLE_HOSTS} hosts: {seconds:.1f} s")
    return kept and seconds < THROUGH_ANSIBLE_S


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(measured(int(sys.argv[1]))))
    else:
        sys.exit(0 if curve() else 1)
