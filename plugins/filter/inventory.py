# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that turn Ansible's variables into the planner's input. The logic is in plugin_utils/_inventory.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.serving.plugins.plugin_utils import _inventory


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Each function of ``_inventory`` that playbooks call."""
        names = ("fleet_hosts", "to_contact", "applied", "shape_requests", "shapes")
        return {name: getattr(_inventory, name) for name in names}
