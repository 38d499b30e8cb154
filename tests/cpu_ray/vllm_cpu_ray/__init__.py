# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A platform plugin of vLLM, for tests alone: its CPU platform over Ray, where each rank counts as a GPU."""

from __future__ import annotations


def register() -> str:
    """The platform's class. vLLM calls this through the entry point of this distribution."""
    return "vllm_cpu_ray.platform.CpuRayPlatform"
