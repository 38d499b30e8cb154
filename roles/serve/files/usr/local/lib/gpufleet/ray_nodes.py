# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits until a Ray cluster has the devices of all its hosts.

    python ray_nodes.py ADDRESS '[["gpu1 (10.0.0.1)", "10.0.0.1", 8], ...]'

Prints what is missing, a line a second, and ends with 0 when nothing is. It asks for as long as it is let: whoever
started it knows how long that is. Runs in the engine's environment, whose Ray it imports.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

INTERVAL_S = 1.0


def missing(wanted: Sequence[tuple[str, str, int]], nodes: Sequence[Mapping[str, Any]]) -> str:
    """Which hosts have not joined, or with too few devices, for a sentence; empty where all are there.

    wanted: a host's name for sentences, its address and its devices. nodes: what ``ray.nodes()`` says.
    """
    brought = {node["NodeManagerAddress"]: node["Resources"].get("GPU", 0) for node in nodes if node["Alive"]}
    words = []
    for name, address, devices in wanted:
        if address not in brought:
            words.append(f"{name} has not joined the Ray cluster")
        elif brought[address] < devices:
            words.append(f"{name} brought {brought[address]:g} of {devices} devices into the Ray cluster")
    strangers = sorted(set(brought) - {address for _name, address, _devices in wanted})
    if words and strangers:
        words.append(f"{', '.join(strangers)} joined and is not planned")
    return "; ".join(words)


def main(arguments: Sequence[str]) -> int:
    """Run the program; returns its exit status."""
    import ray

    address, wanted = arguments[0], json.loads(arguments[1])
    ray.init(address=address, logging_level="error", log_to_driver=False)
    while words := missing(wanted, ray.nodes()):
        print(words, flush=True)
        time.sleep(INTERVAL_S)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
