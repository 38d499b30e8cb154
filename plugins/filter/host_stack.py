# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that works out the driver stack of a host. The logic is in plugin_utils/_host_stack.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.serving.plugins.plugin_utils._host_facts import host_stack

DOCUMENTATION = r"""
name: host_stack
short_description: The driver stack of a GPU host, or why it can have none
version_added: "0.2.0"
author: The gpufleet authors (@gpufleet)
description:
  - Works out driver branch and version, packaging route, kernel modules, fabric manager and container toolkit from what
    a host is, by tables of what is known to fit together. For hosts whose plan somebody else makes; C(site.yml) asks
    the planner.
positional: _input
options:
  _input:
    description: What M(gpufleet.serving.gpu_info) returned for the host.
    type: dict
    required: true
  state:
    description: What M(gpufleet.serving.preflight_info) returned for it; without it, Secure Boot is taken to be off.
    type: dict
  name:
    description: The host's name, for messages.
    type: str
    default: the host
  vllm:
    description: The engine's version.
    type: str
  torch:
    description: The torch version, where no engine's is given.
    type: str
  cuda:
    description: The CUDA version that programs are built for, where it is not the engine's.
    type: str
  manage:
    description: Whether a driver may be installed. Otherwise the one that is there is judged.
    type: bool
    default: true
  route:
    description: Where packages come from, V(ubuntu) or V(nvidia). Without it the first that fits is taken.
    type: str
  driver_version:
    description: A driver branch or version, in place of the tables' own.
    type: str
  container_toolkit:
    description: Whether containers are to see the GPUs.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Look at the host
  gpufleet.serving.gpu_info:
  register: seen

- name: Install what fits
  ansible.builtin.import_role:
    name: gpufleet.serving.gpu_host
  vars:
    gpu_host_stack: "{{ (seen | gpufleet.serving.host_stack(vllm='0.33.0')).stack }}"
"""

RETURN = r"""
_value:
  description:
    - C(stack), as the option O(gpufleet.serving.gpu_host#role:main:gpu_host_stack) takes it, or null where it is
      refused; C(refusals) and C(warnings), lists of C(code), C(subject), C(reason) and C(remedies).
  type: dict
"""


class FilterModule:
    """The filter by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Say which names stand for which functions."""
        return {"host_stack": host_stack}
