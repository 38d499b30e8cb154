# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How ranks on CPUs speak when they are on several hosts."""

from __future__ import annotations

from vllm.distributed.device_communicators.cpu_communicator import CpuCommunicator


class CpuRayCommunicator(CpuCommunicator):
    """Over Gloo. The CPU's own takes ranks that meet at one port for ranks of one host, and over Ray all do."""

    def _all_group_ranks_share_shm_group_name(self) -> bool:
        return False
