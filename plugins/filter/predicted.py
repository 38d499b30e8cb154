# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that tells what a plan predicts for a host's replicas. The logic is in plugin_utils/_predicted.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.serving.plugins.plugin_utils._predicted import predicted

DOCUMENTATION = r"""
name: predicted
short_description: What a plan predicts for the replicas on a host
version_added: "0.2.0"
author: The gpufleet authors (@gpufleet)
description:
  - The memory of each replica that runs as planned, under the names that M(gpufleet.serving.engine_figures) takes.
  - A replica that is held runs as it did before, and is left out.
positional: _input, host
options:
  _input:
    description: The plan, as P(gpufleet.serving.plan#filter) gives it.
    type: dict
    required: true
  host:
    description: The host's inventory name.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Read back what the engines have
  gpufleet.serving.engine_figures:
    units: "{{ serve_units }}"
    predicted: "{{ plan | gpufleet.serving.predicted(inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: One entry a replica.
  type: list
  elements: dict
  sample: [{name: llama-0, kv_blocks: 26800, block_size: 16, kv_tokens: 428800, kv_gib: 37.4, weights_gib: 15.3}]
"""


class FilterModule:
    """The filter by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Say which names stand for which functions."""
        return {"predicted": predicted}
