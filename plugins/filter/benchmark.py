# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters around a benchmark: which load, and what it did. The logic is in plugin_utils/_load.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.serving.plugins.plugin_utils import _load


def benchmark_load(plan: Mapping[str, Any], applied: Mapping[str, Any], models: Any, **wishes: Any) -> dict[str, Any]:
    """``_load.benchmark_load`` as plain data, with its error as Ansible's."""
    try:
        return _load.benchmark_load(plan, applied, models, wishes).as_dict()
    except _load.LoadError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Say which names stand for which functions."""
        return {"benchmark_load": benchmark_load, "benchmark_outcome": _load.outcome}
