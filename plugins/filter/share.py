# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that hands a host its share of the plan. The logic is in plugin_utils/_share.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.serving.plugins.plugin_utils import _share

DOCUMENTATION = r"""
name: share
short_description: One host's share of a plan
version_added: "0.1.0"
author: The gpufleet authors (@gpufleet)
description:
  - The options of every role that has work on a host, each set as the role's argument spec wants it.
  - A role that was applied before and has no work any more is there with empty lists, so that it removes what it made.
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
- name: Give each host its share
  ansible.builtin.set_fact:
    my_share: "{{ plan | gpufleet.serving.share(inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: By role, its options. Empty where the host has no work, and for every host of a refused plan.
  type: dict
  sample: {engine: {engine_environments: [], engine_share_id: 4f53cda18c2b}}
"""


def share(plan: Mapping[str, Any], host: str) -> dict[str, Any]:
    """``_share.share``, with its error as Ansible's."""
    try:
        return _share.share(plan, host)
    except _share.UnknownHostError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Say which names stand for which functions."""
        return {"share": share}
