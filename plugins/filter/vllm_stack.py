# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role vllm_stack hands to Kubernetes. The logic is in plugin_utils/_stack_options.py and its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.serving.plugins.plugin_utils import _stack_options


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """For Ansible's loader."""
        return {
            "helm_chart": _stack_options.helm_chart,
            "vllm_stack_faults": _stack_options.stack_faults,
            "vllm_stack_labels": _stack_options.label_changes,
            "vllm_stack_node_faults": _stack_options.node_faults,
            "vllm_stack_values": _stack_options.handed_over,
        }
