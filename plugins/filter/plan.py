# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that plans the fleet. The logic is in plugin_utils/_plan.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.serving.plugins.plugin_utils._plan import plan

DOCUMENTATION = r"""
name: plan
short_description: Plan which model runs where
version_added: "0.1.0"
author: The gpufleet authors (@gpufleet)
description:
  - Works out tensor and pipeline parallel sizes, hosts, devices, ports and upstreams for every model, or says why that
    cannot be done and what would help.
  - Pure. The same input gives the same plan, whatever the order of hosts. Nothing that an operator writes makes it
    fail; what is wrong becomes a refusal in the plan.
positional: _input
options:
  _input:
    description: The models to serve, C(fleet_models), as they were written.
    type: raw
    required: true
  hosts:
    description:
      - Every host of the fleet's groups by name, with C(groups), C(address), C(reachable) (null where nobody asked),
        C(fleet_gpus), C(fleet_cpu_devices), C(fleet_cpu_kv_gib), C(fleet_rack), C(fleet_fabric_interface),
        C(fleet_driver_route), C(fleet_driver_version), C(fleet_container_toolkit), C(gpu_host_manage),
        C(perimeter_manage), C(fleet_open_ports), and C(facts) and C(preflight), which are what
        M(gpufleet.serving.gpu_info) and M(gpufleet.serving.preflight_info) returned, or null.
      - P(gpufleet.serving.fleet_hosts#filter) makes it of C(hostvars).
    type: dict
    required: true
  shapes:
    description:
      - What M(gpufleet.serving.model_info) says of each model, by its name.
      - P(gpufleet.serving.shapes#filter) gives it.
    type: dict
    required: true
  previous:
    description: What is applied, as P(gpufleet.serving.applied#filter) gives it. Without it nothing is.
    type: dict
  settings:
    description:
      - What holds for the whole fleet. Every key may be left out.
      - C(inventory_name), C(tier) (V(auto) or an upper bound from 1 to 5), C(engine_versions) by C(cpu) and C(cuda),
        C(engine_root), C(model_store_root), C(engine_port) (8000, the first of each host's block), C(gateway_port),
        C(gateway_metrics_port) (9145), C(scrapers), C(gateway_public), C(gateway_key_names), C(gateway_tls),
        C(allow_unpinned_models), C(allow_unreachable), C(lost_hosts), C(allow_restart), C(allow_tier_change)
        and C(adopt_measured).
    type: dict
"""

EXAMPLES = r"""
- name: Plan one server before it is bought
  ansible.builtin.set_fact:
    plan: >-
      {{ [{'name': 'llama-8b', 'source': '/srv/models/llama-8b', 'max_model_len': 8192}]
         | gpufleet.serving.plan(
             hosts={'gpu1': {'groups': ['gpu_nodes'], 'fleet_gpus': [{'model': 'L40S-48GB', 'count': 2}]}},
             shapes={'llama-8b': {'shape': answer.shape}},
             settings={'gateway_public': true}) }}
"""

RETURN = r"""
_value:
  description:
    - The plan. C(refusals) and C(warnings) are lists of C(code), C(subject), C(reason) and C(remedies). A plan with a
      refusal has no C(shares) and no C(steps).
    - C(id) is a hash of C(shares) alone. C(models), C(replicas), C(hosts), C(gateways), C(endpoint) and C(tier) say
      what runs where; C(steps), C(held), C(diff) and C(waves) say how to get there. C(perimeter) says who may
      reach which port.
  type: dict
"""


class FilterModule:
    """The filter by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Say which names stand for which functions."""
        return {"plan": plan}
