# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What versions of vLLM differ in when they reckon their memory."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Engine:
    """How one version reckons.

    first_generation: the engine before 0.8 ("V0"), whose trial run takes the whole context where it does not chunk.
    utilization: share of a device that is asked for by default. subtracts_graphs: an estimate of the CUDA graphs is
    taken off the budget. groups_layers: layers with a window give back what lies behind it. batches_in_flight: steps
    that may hold tokens beyond a window at once. state_blocks: pages of one request in layers with a state.
    logit_copies: float32 copies of the logits that the sampler holds at its peak. samples_late: the sampler is tried
    only once the KV cache is there, beyond the budget. links_inside: communicators are made after the engine's first
    look at the memory, so that the budget pays for them.
    """

    first_generation: bool
    utilization: float
    subtracts_graphs: bool
    groups_layers: bool
    batches_in_flight: int
    state_blocks: int
    logit_copies: float
    samples_late: bool
    links_inside: bool


SORTING_COPIES = 9.57
"""Copies of the logits while they are sorted for top-k and top-p: half a copy in 16 bits, one as float32, the sorted
values and their 64-bit places with the buffers of the sort, probabilities and their running sum. Source: seven
start-ups of 0.10 and 0.11 that print the peak of their trial run (9.56 to 9.60), tests/accuracy/fit_memory.py."""

SELECTING_COPIES = 4.0
"""The same since a kernel selects in place. Source: tests/accuracy/fit_memory.py, start-ups since 0.17."""

FIRST = Engine(
    first_generation=True,
    utilization=0.90,
    subtracts_graphs=False,
    groups_layers=False,
    batches_in_flight=1,
    state_blocks=1,
    logit_copies=SORTING_COPIES,
    samples_late=False,
    links_inside=True,
)

CHANGES: tuple[tuple[tuple[int, ...], dict[str, object]], ...] = (
    ((0, 8), {"first_generation": False, "samples_late": True}),
    ((0, 9), {"samples_late": False}),
    ((0, 9, 1), {"groups_layers": True}),
    ((0, 12), {"links_inside": False}),
    ((0, 17), {"logit_copies": SELECTING_COPIES}),
    ((0, 21), {"subtracts_graphs": True, "utilization": 0.92}),
    ((0, 26), {"batches_in_flight": 2, "state_blocks": 2}),
)
"""What changed with which version. Source: start-up logs of the versions around it; vLLM's announcement of the
subtracted estimate ("default since v0.21.0"); the sources of 0.32 and 0.33 for the last line."""

NEWEST = "0.33.0"
"""The version whose sources these rules were read in."""


@lru_cache(maxsize=256)
def engine(version: str | None) -> Engine:
    """How a version reckons; one that is not known, or built from no release, reckons like the newest known."""
    number = release(version) or release(NEWEST)
    found = FIRST
    for since, changes in CHANGES:
        if number >= since:
            found = replace(found, **changes)  # type: ignore[arg-type]
    return found


def release(version: str | None) -> tuple[int, ...]:
    """The numbers of a release; nothing for a build without a release's number.

    >>> release("0.11.1rc3.dev29+g3fa2c1218"), release("0.1.dev20051+g487ecf187"), release(None)
    ((0, 11, 1), (), ())
    """
    found = re.match(r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(?:\.(\d{1,4}))?", version or "")
    if not found or re.match(r"v?0\.1\.dev", version or ""):
        return ()
    return tuple(int(part) for part in found.groups() if part is not None)
