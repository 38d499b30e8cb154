#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read back what memory each running engine of a host got, and put it beside what was predicted."""

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_figures
short_description: Read back what memory each running engine got
version_added: "0.2.0"
description:
  - Asks each vLLM unit that runs on the host for its KV blocks, in its metrics, and reads in the journal what it wrote
    of its weights and its KV cache when it started.
  - Puts the figures together with those that are known and with those that were predicted, as the content of
    C(/etc/ansible/facts.d/gpufleet_measured.fact). Figures that are still the same leave it as it is, to the byte.
  - Writes nothing. Entries of replicas that are not among O(units) any more are left out of the content.
options:
  units:
    description:
      - The replicas that are applied on the host, as the role P(gpufleet.serving.serve#role) recorded them in
        C(serve_units). Their C(name), C(address) and C(port) are read, and all the rest says what the figures hold for.
    type: list
    elements: dict
    required: true
  predicted:
    description: What the plan predicts for the replicas. What is not predicted may be left out.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The replica's name.
        type: str
        required: true
      kv_blocks:
        description: Blocks of its KV cache.
        type: int
      block_size:
        description: Tokens of a block.
        type: int
      kv_tokens:
        description: Tokens of its KV cache.
        type: int
      kv_gib:
        description: GiB of KV cache on one rank.
        type: float
      weights_gib:
        description: GiB of weights on one rank.
        type: float
  timeout:
    description: Seconds that an engine gets to answer.
    type: float
    default: 10
author:
  - The gpufleet authors (@gpufleet)
attributes:
  check_mode:
    description: Reads in check mode as well.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Read back what the engines have
  gpufleet.serving.engine_figures:
    units: "{{ serve_units }}"
    predicted:
      - {name: llama-0, kv_blocks: 26800, block_size: 16, weights_gib: 15.4}
  register: figures

- name: Keep it
  ansible.builtin.copy:
    content: "{{ figures.fact }}"
    dest: /etc/ansible/facts.d/gpufleet_measured.fact
    mode: "0644"
  when: figures.fact | length > 0
"""

RETURN = r"""
figures:
  description: What each engine tells now, by replica. What one does not tell is left out.
  type: dict
  returned: success
  sample:
    llama-0:
      kv_blocks: 27102
      block_size: 16
      kv_tokens: 433632
      kv_gib: 37.81
      weights_gib: 15.27
silent:
  description: Why an engine tells nothing, by replica.
  type: dict
  returned: success
  sample:
    llama-1: gpufleet-llama-1.service is inactive (dead), last result success, exit status 0
fact:
  description: The content of the fact file. Empty where nothing was ever measured.
  type: str
  returned: success
"""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.serving.plugins.module_utils._engine import Engine, EngineSilent
from ansible_collections.gpufleet.serving.plugins.module_utils._engine_figures import Figures, read_figures, started
from ansible_collections.gpufleet.serving.plugins.module_utils._measured_fact import (
    MEASURED,
    FactError,
    Replicas,
    fact_text,
    now,
    of_present,
    read_fact,
    unit_id,
    with_figures,
)
from ansible_collections.gpufleet.serving.plugins.module_utils._systemd import (
    Run,
    SystemdError,
    start_lines,
    unit_states,
)

Unit = Mapping[str, Any]


def read_units(units: Sequence[Unit], run: Run, timeout_s: float) -> tuple[dict[str, Figures], dict[str, str]]:
    """The figures of each engine that answers, and why the others do not, both by replica. Raises SystemdError."""
    states = unit_states([_service(unit) for unit in units], run)
    figures, silent = {}, {}
    for unit in units:
        state = states[_service(unit)]
        if not state.running:
            silent[unit["name"]] = str(state)
            continue
        try:
            metrics = Engine(unit["address"], int(unit["port"]), timeout_s).metrics()
        except EngineSilent as error:
            silent[unit["name"]] = str(error)
            continue
        figures[unit["name"]] = read_figures(metrics, start_lines(_service(unit), started, run))
    return figures, silent


def updated(
    known: Replicas, units: Sequence[Unit], figures: Mapping[str, Figures], predicted: Mapping[str, Any], at: str
) -> Replicas:
    """What is known after this reading: of the replicas among ``units`` alone."""
    replicas = of_present(known, (unit["name"] for unit in units))
    for unit in units:
        told = figures[unit["name"]].known if unit["name"] in figures else {}
        if told:
            beside = {"predicted": predicted[unit["name"]]} if predicted.get(unit["name"]) else {}
            replicas = with_figures(replicas, unit["name"], unit_id(unit), {**told, **beside}, at)
    return replicas


def _service(unit: Unit) -> str:
    return f"gpufleet-{unit['name']}.service"


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "dict", "required": True},
            "predicted": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "kv_blocks": {"type": "int"},
                    "block_size": {"type": "int"},
                    "kv_tokens": {"type": "int", "no_log": False},
                    "kv_gib": {"type": "float"},
                    "weights_gib": {"type": "float"},
                },
            },
            "timeout": {"type": "float", "default": 10},
        },
        supports_check_mode=True,
    )
    units = module.params["units"]
    predicted = {
        entry["name"]: {word: value for word, value in entry.items() if word != "name" and value is not None}
        for entry in module.params["predicted"]
    }
    try:
        known = read_fact(Path("/") / MEASURED)
        figures, silent = read_units(units, module.run_command, module.params["timeout"])
    except (FactError, SystemdError) as error:
        module.fail_json(msg=f"{platform.node()}: {error}")
    module.exit_json(
        changed=False,
        figures={name: found.known for name, found in figures.items()},
        silent=silent,
        fact=fact_text(updated(known, units, figures, predicted, now())),
    )


if __name__ == "__main__":
    main()
