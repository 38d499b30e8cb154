# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an argument spec cannot say about the units of the role ``serve``."""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ._engine_files import named_files
from ._executor import RAY
from ._owned import is_secret
from ._settings import is_private
from ._weights import layout_of

Unit = Mapping[str, Any]

# a DNS label: it becomes part of a unit's, a file's and a folder's name
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# what needs no quoting in a unit file
PATH = re.compile(r"/[A-Za-z0-9._/+@=:,-]*")
# flags of `vllm serve` that other options of the unit or of the role set
OWNED_ARGUMENTS = {
    "compilation_config",
    "config",
    "data_parallel_size",
    "decode_context_parallel_size",
    "distributed_executor_backend",
    "dtype",
    "gpu_memory_utilization",
    "headless",
    "host",
    "kv_cache_dtype",
    "max_model_len",
    "max_num_batched_tokens",
    "max_num_seqs",
    "master_addr",
    "master_port",
    "model",
    "nnodes",
    "node_rank",
    "pipeline_parallel_size",
    "port",
    "quantization",
    "served_model_name",
    "shutdown_timeout",
    "tensor_parallel_size",
}


def unit_problems(units: Sequence[Unit]) -> list[str]:
    """What is wrong with ``units``, one sentence each with the value seen and the remedy; empty when nothing is."""
    return [*_shared(units), *(problem for unit in units for problem in _alone(unit))]


def unit_paths(units: Sequence[Unit]) -> list[str]:
    """The files and folders beside their programs that ``units`` read: weights, and what their engine_args name."""
    found = {unit["model_path"] for unit in units}
    for unit in units:
        found.update(path for _flag, path in named_files(_with_underscores(unit)))
    return sorted(found)


def _with_underscores(unit: Unit) -> dict[str, Any]:
    """The further flags in the planner's spelling."""
    return {flag.replace("-", "_"): value for flag, value in (unit.get("engine_args") or {}).items()}


def _shared(units: Sequence[Unit]) -> Iterator[str]:
    """Things that two units of one host cannot both have."""
    for name, users in _users(units, lambda unit: [unit["name"]]):
        yield f"{len(users)} units are named {name}: give each its own name."
    for place, users in _users(units, lambda unit: [(unit["address"], unit["port"])]):
        yield f"{place[0]} port {place[1]} is given to {_names(users)}: give each its own port."
    for device, users in _users(units, lambda unit: unit["devices"] if unit["accelerator"] == "cuda" else []):
        yield f"The GPU {device} is given to {_names(users)}: give each GPU to one unit, once."


def _users(units: Sequence[Unit], uses: Callable[[Unit], Iterable[Any]]) -> Iterator[tuple[Any, list[str]]]:
    """Each thing that is used more than once, with the names of its users."""
    users = defaultdict(list)
    for unit in units:
        for thing in uses(unit):
            users[thing].append(unit["name"])
    return ((thing, names) for thing, names in users.items() if len(names) > 1)


def _alone(unit: Unit) -> Iterator[str]:
    """Things that are wrong with one unit whatever the others are."""
    if not NAME.fullmatch(unit["name"]):
        yield f"{unit['name']!r} is no DNS label: use up to 63 of a-z, 0-9 and inner dashes."
    yield from _address(unit)
    yield from _devices(unit)
    yield from _group(unit)
    for option in ("engine_path", "model_path"):
        yield from _path(unit, option, unit[option])
    for flag, path in named_files(_with_underscores(unit)):
        yield from _path(unit, f"engine_args.{flag}", path)
    for argument, value in (unit.get("engine_args") or {}).items():
        yield from _argument(unit, argument, value)
    for variable in filter(is_secret, unit.get("engine_env") or {}):
        yield f"{unit['name']}: engine_env.{variable} would stand in a file that everybody can read: leave it out."


def _address(unit: Unit) -> Iterator[str]:
    try:
        if ipaddress.ip_address(unit["address"]).is_unspecified:
            yield f"{unit['name']}: {unit['address']} is every address of the host: name one that only gateways reach."
    except ValueError:
        yield f"{unit['name']}: {unit['address']!r} is no IP address: name the one that the engine binds."


def _devices(unit: Unit) -> Iterator[str]:
    layout = layout_of(unit["config"])
    if len(unit["devices"]) * layout.nnodes != layout.world:
        yield (
            f"{unit['name']}: {layout} makes {layout.world} ranks, "
            f"and {len(unit['devices'])} devices are given: give one a rank."
        )
    if unit["accelerator"] == "cpu" and not unit.get("cpu_kv_gib"):
        yield f"{unit['name']}: runs on the CPU without cpu_kv_gib: say how many GiB of KV cache each rank gets."


def _group(unit: Unit) -> Iterator[str]:
    """A replica over several hosts names all of them, its own place among them, and how they speak."""
    nnodes, group = layout_of(unit["config"]).nnodes, unit.get("group")
    if (group is None) != (nnodes == 1):
        yield f"{unit['name']}: nnodes is {nnodes}, and group is {'missing' if group is None else 'given'}."
    over_ray = unit["config"].get("distributed_executor_backend") == RAY
    if over_ray != bool(group and group.get("ray_port")):
        yield (
            f"{unit['name']}: it runs {'over' if over_ray else 'without'} Ray, and group.ray_port is "
            f"{'missing' if over_ray else 'given'}: replicas over several hosts with distributed_executor_backend: ray "
            "have ports of their own for it, and no others do."
        )
    if not group:
        return
    if not len(group["hosts"]) == len(group["addresses"]) == nnodes or not 0 <= group["node_rank"] < nnodes:
        yield (
            f"{unit['name']}: group has {len(group['hosts'])} hosts, {len(group['addresses'])} addresses and node_rank "
            f"{group['node_rank']}: give each of the {nnodes} hosts its own."
        )
        return
    for address in group["addresses"]:
        if not _reachable_by_others(address):
            yield f"{unit['name']}: {address!r} is no address at which another host is reached."
    if not group.get("gloo_interface"):
        yield (
            f"{unit['name']}: group has no gloo_interface: name the interface that has "
            f"{group['addresses'][group['node_rank']]}."
        )


def _reachable_by_others(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (found.is_loopback or found.is_unspecified or found.is_link_local)


def _path(unit: Unit, option: str, path: str) -> Iterator[str]:
    if not PATH.fullmatch(path):
        yield f"{unit['name']}: {option} {path!r} is no plain absolute path: use letters, digits and ._/+@=:,- only."
    elif is_private(path):
        yield f"{unit['name']}: {option} {path} lies where each unit has a folder of its own: move it."


def _argument(unit: Unit, argument: str, value: Any) -> Iterator[str]:
    word = argument.replace("-", "_")
    if is_secret(word) and isinstance(value, str):
        yield f"{unit['name']}: engine_args.{argument} would stand in a file that everybody can read: leave it out."
    elif word in OWNED_ARGUMENTS:
        yield f"{unit['name']}: engine_args.{argument} is what another option of the unit sets: leave it out."


def _names(names: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(names))
