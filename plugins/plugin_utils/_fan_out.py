# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who hands which weights to whom, so that each set leaves its source once and no host sends to two at a time.

What no host has is fetched by one of them from where it comes from. From then on the number of hosts that have it
doubles with each wave: n hosts take log2(n) waves, rounded up, and the first of them sends as often.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ._text import natural_key


@dataclass(frozen=True, slots=True)
class Hop:
    """One set of weights, by its path on both hosts, from a host that has it to one that lacks it."""

    path: str
    source: str
    receiver: str


def fan_out(stores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Who fetches what from outside, and in which waves it is handed on.

    stores: host -> ``address``, where others reach it, and the paths that are ``whole`` and ``missing`` there. Paths
    are the same on all hosts, and different for different content.

    Returns ``first`` (host -> paths that it fetches from where they come from), ``waves`` (lists of ``path``,
    ``source``, ``address`` of the source and ``receiver``; no host sends twice or receives twice in a wave) and
    ``sends`` (host -> ``paths`` and the addresses of the ``receivers``). The same stores give the same answer, whatever
    their order.
    """
    hosts = sorted(stores, key=natural_key)
    having = {path: [host for host in hosts if path in stores[host]["whole"]] for path in _paths(stores)}
    lacking = {path: [host for host in hosts if path in stores[host]["missing"]] for path in _paths(stores)}
    first: dict[str, list[str]] = {host: [] for host in hosts}
    for path, wanted in lacking.items():
        if wanted and not having[path]:
            chosen = min(wanted, key=lambda host: len(first[host]))
            first[chosen].append(path)
            wanted.remove(chosen)
            having[path].append(chosen)
    waves = []
    while wave := _wave(having, lacking):
        waves.append(wave)
        for hop in wave:
            lacking[hop.path].remove(hop.receiver)
            having[hop.path].append(hop.receiver)
    return {
        "first": {host: paths for host, paths in first.items() if paths},
        "waves": [[_plain(hop, stores) for hop in wave] for wave in waves],
        "sends": _sends([hop for wave in waves for hop in wave], stores),
    }


def _paths(stores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return sorted({path for store in stores.values() for path in (*store["whole"], *store["missing"])})


def _wave(having: Mapping[str, list[str]], lacking: Mapping[str, list[str]]) -> list[Hop]:
    """The hops that can be made at once; those first of what most hosts lack."""
    sending: set[str] = set()
    receiving: set[str] = set()
    hops = []
    for path in sorted(lacking, key=lambda path: (-len(lacking[path]), path)):
        sources = [host for host in having[path] if host not in sending]
        receivers = [host for host in lacking[path] if host not in receiving]
        made = [Hop(path, source, receiver) for source, receiver in zip(sources, receivers, strict=False)]
        sending.update(hop.source for hop in made)
        receiving.update(hop.receiver for hop in made)
        hops += made
    return hops


def _plain(hop: Hop, stores: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {
        "path": hop.path,
        "source": hop.source,
        "address": stores[hop.source]["address"],
        "receiver": hop.receiver,
    }


def _sends(hops: list[Hop], stores: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, list[str]]]:
    return {
        source: {
            "paths": sorted({hop.path for hop in hops if hop.source == source}),
            "receivers": sorted({stores[hop.receiver]["address"] for hop in hops if hop.source == source}),
        }
        for source in sorted({hop.source for hop in hops}, key=natural_key)
    }
