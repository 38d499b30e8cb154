# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the role k3s. The logic is in plugin_utils/_k3s.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.serving.plugins.plugin_utils import _k3s


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """For Ansible's loader."""
        return {
            "k3s_config": _k3s.config,
            "k3s_faults": _k3s.faults,
            "k3s_gpu_faults": _k3s.gpu_faults,
            "k3s_is_ready": _k3s.is_ready,
            "k3s_stamp": _k3s.stamp,
        }
