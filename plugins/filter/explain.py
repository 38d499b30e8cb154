# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that puts a plan into words. The logic is in plugin_utils/_explain.py and _markdown.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.serving.plugins.plugin_utils import _explain, _markdown

DOCUMENTATION = r"""
name: explain
short_description: A plan in words
version_added: "0.1.0"
author: The gpufleet authors (@gpufleet)
description:
  - Text for a terminal of 100 columns, or a page of Markdown.
positional: _input
options:
  _input:
    description: The plan, as P(gpufleet.serving.plan#filter) gives it.
    type: dict
    required: true
  part:
    description:
      - V(table) is the whole plan, V(markdown) the same as a page.
      - V(refusals) and V(held) are those parts of it, empty where there are none.
      - V(endpoint) is the way in, V(url) the root of one model's API.
      - V(verified) is what came back through the front door, V(measured) what the engines told of their memory.
    type: str
    choices: [table, markdown, refusals, held, endpoint, url, verified, measured]
    default: table
  model:
    description: With O(part=url), the model's name.
    type: str
  ca_path:
    description: With O(part=endpoint), where the certificate authority of the front door lies on the controller.
    type: str
    default: .secrets/ca.crt
  completions:
    description:
      - With O(part=verified), the results of M(gpufleet.serving.completion_info) in a loop over the plan's models.
    type: list
    elements: dict
  applied:
    description: With O(part=verified), what M(gpufleet.serving.applied_info) says, by host.
    type: dict
  answers:
    description: With O(part=measured), what M(gpufleet.serving.engine_figures) said on each host.
    type: list
    elements: dict
"""

EXAMPLES = r"""
- name: Show the plan
  gpufleet.serving.report:
    text: "{{ plan | gpufleet.serving.explain }}"

- name: Ask one model
  gpufleet.serving.completion_info:
    url: "{{ plan | gpufleet.serving.explain(part='url', model='llama-8b') }}"
    model: llama-8b
"""

RETURN = r"""
_value:
  description: The text.
  type: str
"""

PARTS: dict[str, Callable[..., str]] = {
    "table": _explain.table,
    "markdown": _markdown.markdown,
    "refusals": _explain.refusals,
    "held": _explain.held,
    "endpoint": _explain.endpoint,
    "url": _explain.url,
    "verified": _explain.verified,
    "measured": _explain.measured,
}


def explain(plan: Mapping[str, Any], part: str = "table", **details: Any) -> str:
    """One part of a plan in words. Raises AnsibleFilterError for an unknown part, or details that it does not take."""
    if part not in PARTS:
        raise AnsibleFilterError(f"explain: part is {part!r}, use one of {', '.join(PARTS)}")
    try:
        return PARTS[part](plan, **details)
    except (TypeError, ValueError) as error:
        raise AnsibleFilterError(f"explain(part={part!r}): {error}") from error


class FilterModule:
    """The filter by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Say which names stand for which functions."""
        return {"explain": explain}
