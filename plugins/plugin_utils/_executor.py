# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the ranks of a replica are run: the engine's executor, and the ports that one of them needs."""

from __future__ import annotations

from ._weights import Layout
from ._wishes import Model

UNI, MP, RAY = "uni", "mp", "ray"
"""The engine's executors: in its own process, in processes that it starts on each host, in those of a Ray cluster."""
RAY_PORTS = 64
"""Ports of a Ray cluster on each of its hosts (the guard's RAY_PORTS)."""


def executor(model: Model, layout: Layout) -> str:
    """The engine's executor: ``uni`` for one rank; for several ``mp``, and ``ray`` over several hosts where asked for.

    ``mp`` spans hosts by itself, without a cluster beside it that can fail too.
    """
    if layout.world == 1:
        return UNI
    return RAY if layout.nnodes > 1 and model.distributed_executor_backend == RAY else MP


def ray_block(first: int | None) -> range:
    """The ports of a Ray cluster from its first on; none without one."""
    return range(first, first + RAY_PORTS) if first else range(0)
