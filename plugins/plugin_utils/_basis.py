# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the number of a model's replicas rests on: the planner's estimate, or what was measured of replicas alike.

A measurement is no reason to change what runs. The figures that the last applied plan rested on stand in its copy, and
count until the operator adopts newer ones, or the number of replicas changes for another reason anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..module_utils._measured_fact import unit_id
from ._applied import AppliedReplica
from ._capacity import Carried, Fit, MeasuredRate, is_wanted, requests_held
from ._draft import Draft
from ._fleet import Host
from ._layout import Choice
from ._measured import Benchmark
from ._placement import Ports, Seat
from ._reading import is_whole
from ._text import counted
from ._units import units
from ._wishes import Workload


@dataclass(frozen=True, slots=True)
class Figures:
    """What replicas of one model have on devices of one kind, under the settings that ``unit_id`` is a hash of.

    kv_blocks, block_size: of the one with the smallest KV cache. requests_per_second: of the slowest that was driven
    at the model's workload; None where none was.
    """

    unit_id: str
    kv_blocks: int
    block_size: int
    requests_per_second: float | None = None

    @property
    def kv_tokens(self) -> int:
        """Tokens that the blocks have room for, whatever a layer keeps of each."""
        return self.kv_blocks * self.block_size

    def and_those(self, other: Figures) -> Figures:
        """What both sorts of replicas have at least."""
        least = min(self, other, key=lambda each: each.kv_tokens)
        rates = [rate for rate in (self.requests_per_second, other.requests_per_second) if rate is not None]
        return replace(least, requests_per_second=min(rates, default=None))


ALIKE = 0.1
"""Relative difference of a load from a workload within which a benchmark of the one speaks for the other."""

Basis = Mapping[str, Figures]
"""Figures by the key of the devices' kind. Empty: the planner's estimate."""


def rest(draft: Draft, choice: Choice, running: Sequence[AppliedReplica]) -> Choice:
    """The choice, counting with measured figures where they change nothing that runs, or are adopted.

    ``running``: the model's replicas by index. What is noted in ``draft.basis`` counts in the next run as well. Warns
    where a measured figure falls short of the plan, and where it would change the number of replicas.
    """
    known = _known(draft, choice, running)
    if not (known.last or known.now):
        return choice
    choice = _reporting(choice, known.now)
    steady = _count(draft, _resting_on(choice, known.last), running) == len(running)
    adopts = draft.settings.adopt_measured or not steady
    basis = (known.now or known.last) if adopts else known.last
    if basis:
        draft.basis[choice.model.name] = {key: asdict(figures) for key, figures in sorted(basis.items())}
    _compare(draft, choice, known.now)
    if known.now and not adopts:
        _offer(draft, choice, known.now, running)
    return _resting_on(choice, basis)


def _count(draft: Draft, choice: Choice, running: Sequence[AppliedReplica]) -> int:
    """The replicas that are wanted, those that run on their kinds of device and the others on the preferred one."""
    fits = {fit.kind.key: fit for fit in choice.fits}
    carried, index = Carried(), 0
    while is_wanted(choice.model, index, carried):
        key = _kind(draft, running[index]) if index < len(running) else None
        carried += fits.get(key or "", choice.best).carries
        index += 1
    return index


def _compare(draft: Draft, choice: Choice, now: Basis) -> None:
    for fit in choice.fits:
        figures = now.get(fit.kind.key)
        if figures and figures.kv_tokens < fit.memory.blocks * fit.memory.block_tokens:
            draft.findings.warn(
                "kv_cache_below_plan",
                choice.model.name,
                f"on {fit.kind.key} an engine has {figures.kv_blocks:,} KV blocks of {figures.block_size} tokens, and "
                f"{fit.memory.blocks:,} of {fit.memory.block_tokens} were planned",
                "look at what else holds memory on its devices (nvidia-smi), and restart it when they are free",
                "or count with what was measured: fleet_adopt_measured=true",
            )


def _offer(draft: Draft, choice: Choice, now: Basis, running: Sequence[AppliedReplica]) -> None:
    would = _count(draft, _resting_on(choice, now), running)
    if would != len(running):
        draft.findings.warn(
            "measured_not_adopted",
            choice.model.name,
            f"as measured, {counted(would, 'replica')} would meet its workload, and {len(running)} run",
            "to have the plan follow what was measured, say fleet_adopt_measured=true",
        )


@dataclass(frozen=True, slots=True)
class Known:
    """What there is to count with: ``last``, that the last applied plan rested on, and ``now``, measured since."""

    last: Basis
    now: Basis


def _known(draft: Draft, choice: Choice, replicas: Iterable[AppliedReplica]) -> Known:
    """The figures of replicas that run, as far as they are about the settings that the plan would give them."""
    last = read_basis(draft.applied.basis.get(choice.model.name))
    replicas = [replica for replica in replicas if last or replica.measured]
    alike = list(_alike(draft, choice, replicas)) if replicas else []
    ids = {key: settings for key, settings, _replica in alike}
    now: dict[str, Figures] = {}
    for key, settings, replica in alike:
        told = replica.measured
        if told and told.kv_blocks and told.block_size:
            rate = _rate(told.benchmark, choice.model.workload, len(replicas))
            figures = Figures(settings, told.kv_blocks, told.block_size, rate)
            now[key] = now.get(key, figures).and_those(figures)
    return Known({key: figures for key, figures in last.items() if ids.get(key) == figures.unit_id}, now)


def _alike(
    draft: Draft, choice: Choice, replicas: Iterable[AppliedReplica]
) -> Iterator[tuple[str, str, AppliedReplica]]:
    """The replicas that run as the plan would have them, with the key of their devices' kind and the settings' id."""
    planned: dict[tuple[str, bool], str] = {}
    for replica in replicas:
        key = _kind(draft, replica)
        fit = next((fit for fit in choice.fits if fit.kind.key == key and fit.layout == replica.layout), None)
        if fit is None:
            continue
        host = draft.fleet.hosts[replica.host]
        alike = (fit.kind.key, len(host.devices) > 1)
        if alike not in planned:
            planned[alike] = _planned_id(draft, choice, fit, host)
        if unit_id(replica.unit) == planned[alike]:
            yield fit.kind.key, planned[alike], replica


def _kind(draft: Draft, replica: AppliedReplica) -> str | None:
    """The key of the devices that a replica is on; None where that is not known, or they differ."""
    host = draft.fleet.hosts.get(replica.host)
    keys = {device.key for device in host.devices if device.id in replica.devices} if host else set()
    return keys.pop() if len(keys) == 1 else None


def _planned_id(draft: Draft, choice: Choice, fit: Fit, host: Host) -> str:
    """The id of the settings that the plan gives to a replica on this kind of device, wherever it is."""
    seat = Seat({host.name: ()}, Ports(draft.settings.engine_port), fit)
    planned = units("", choice, draft.weights[choice.model.name], seat, draft.fleet, draft.settings)
    return unit_id(planned[host.name])


def _resting_on(choice: Choice, basis: Basis) -> Choice:
    """The choice with the requests that the KV caches in ``basis`` hold in place of the estimated ones."""
    if not basis:
        return choice
    fits = tuple(_with_figures(choice, fit, basis.get(fit.kind.key)) for fit in choice.fits)
    holds = counted(fits[0].requests, "request")
    reason = f"{choice.reason}; as measured, {holds}" if fits[0].kind.key in basis else choice.reason
    return replace(choice, fits=fits, reason=reason)


def _with_figures(choice: Choice, fit: Fit, figures: Figures | None) -> Fit:
    if figures is None:
        return fit
    blocks = figures.kv_tokens // fit.memory.block_tokens
    requests = requests_held(choice.model, choice.shape, fit.memory, choice.max_model_len, blocks)
    return replace(fit, requests=requests, adopted=fit.adopted or _measured(figures))


def _reporting(choice: Choice, now: Basis) -> Choice:
    """The choice with rates that were measured in place of estimated ones, for whoever reads the plan."""
    fits = (replace(fit, measured=fit.measured or _measured(now.get(fit.kind.key))) for fit in choice.fits)
    return replace(choice, fits=tuple(fits))


def _measured(figures: Figures | None) -> MeasuredRate | None:
    rate = figures.requests_per_second if figures else None
    return MeasuredRate(rate, "benchmark.yml") if rate else None


def _rate(benchmark: Benchmark | None, workload: Workload, replicas: int) -> float | None:
    """Requests a second of a replica that was driven with requests like those of the workload, and with its share.

    With fewer at once than its share a replica is mostly idle, and its rate says little of what it can do.
    """
    if benchmark is None or benchmark.requests_per_second <= 0:
        return None
    lengths = (
        (benchmark.prompt_tokens, workload.prompt_tokens),
        (benchmark.output_tokens, workload.output_tokens),
    )
    alike = all(stated is not None and abs(driven - stated) <= ALIKE * stated for driven, stated in lengths)
    share = (workload.concurrent_requests or 0) / replicas
    return benchmark.requests_per_second if alike and benchmark.concurrency >= (1 - ALIKE) * share else None


def read_basis(value: Any) -> dict[str, Figures]:
    """The basis from the copy of a plan; what is not whole is left out."""
    entries = value.items() if isinstance(value, dict) else ()
    return {
        key: Figures(told["unit_id"], told["kv_blocks"], told["block_size"], _recorded_rate(told))
        for key, told in entries
        if isinstance(told, dict)
        and isinstance(told.get("unit_id"), str)
        and all(is_whole(told.get(word)) and told[word] > 0 for word in ("kv_blocks", "block_size"))
    }


def _recorded_rate(told: Mapping[str, Any]) -> float | None:
    rate = told.get("requests_per_second")
    return float(rate) if isinstance(rate, int | float) and not isinstance(rate, bool) and rate > 0 else None
