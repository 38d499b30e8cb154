# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters about hosts and their drivers. The logic is in plugin_utils, in the modules that are imported below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.gpufleet.serving.plugins.plugin_utils import _explain
from ansible_collections.gpufleet.serving.plugins.plugin_utils._driver_step import (
    driver_replaced,
    driver_step,
    fabric_fault,
)
from ansible_collections.gpufleet.serving.plugins.plugin_utils._host_stacks import lock_file
from ansible_collections.gpufleet.serving.plugins.plugin_utils._preflight import preflight, sections
from ansible_collections.gpufleet.serving.plugins.plugin_utils._replan import plan_differences


def preflight_table(result: Mapping[str, Any]) -> str:
    """The outcome of ``preflight`` for a terminal."""
    return _explain.text(sections(result))


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Say which names stand for which functions."""
        return {
            "driver_replaced": driver_replaced,
            "driver_step": driver_step,
            "fabric_fault": fabric_fault,
            "host_stack_lock": lock_file,
            "plan_differences": plan_differences,
            "preflight": preflight,
            "preflight_table": preflight_table,
        }
