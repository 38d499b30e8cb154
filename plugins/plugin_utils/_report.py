# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan in sections: what there is to say of it, as titles, rows and items, before any layout.

``_explain`` sets the sections for a terminal, ``_markdown`` for a page. Every function takes a plan, plain data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..module_utils._address import in_url
from ._predicted import prediction
from ._text import counted, listing

SHORT_ID = 12

Plan = Mapping[str, Any]
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """A sentence, and what to do about it."""

    text: str
    remedies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """Something to say: a title with what is said at once, then a table, then sentences."""

    title: str
    summary: str = ""
    headers: Row = ()
    rows: Sequence[Row] = ()
    items: Sequence[Item] = ()


def headline(plan: Plan) -> str:
    """The plan in one line."""
    if plan["refusals"]:
        return f"Plan refused: {counted(len(plan['refusals']), 'reason')} below"
    if plan["tier"] == 5:
        return (
            f"Plan {plan['id'][:SHORT_ID]}: tier 5, {counted(len(plan['models']), 'model')} on Kubernetes, "
            f"{counted(sum(map(_is_node, plan['hosts'].values())), 'node')} of {counted(len(plan['hosts']), 'host')}"
        )
    serving = {rank["host"] for replica in plan["replicas"] for rank in replica["ranks"]}
    return (
        f"Plan {plan['id'][:SHORT_ID]}: tier {plan['tier']}, {counted(len(plan['replicas']), 'replica')} of "
        f"{counted(len(plan['models']), 'model')} on {counted(len(serving), 'host')} of {len(plan['hosts'])}"
    )


def _is_node(host: Mapping[str, Any]) -> bool:
    return not {"k3s_servers", "k3s_agents"}.isdisjoint(host["groups"])


def sections(plan: Plan) -> Iterator[Section]:
    """Everything: models, memory, hosts, endpoint, changes, warnings; or the refusals in place of the changes."""
    yield from _models(plan)
    yield from _capacity(plan)
    yield from _runners_up(plan)
    yield from _memory(plan)
    yield from measured(plan, plan["measured"])
    yield _hosts(plan)
    yield from _groups(plan)
    yield from _stacks(plan)
    if plan["refusals"]:
        yield from warnings(plan)
        yield from refusals(plan)
    else:
        yield _endpoint(plan)
        yield _changes(plan)
        yield from held(plan)
        yield from warnings(plan)


def measured(plan: Plan, figures: Mapping[str, Mapping[str, Any]]) -> Iterator[Section]:
    """What each engine has beside what was predicted. ``figures``: by replica, as the fact keeps them."""
    rows = []
    for replica in plan["replicas"]:
        told = figures.get(replica["name"])
        if told:
            foretold = prediction(plan, replica)
            blocks = _beside(foretold, told, "kv_blocks", "{:,}")
            rows.append((replica["name"], replica["head"], *blocks, *_beside(foretold, told, "weights_gib", "{:.2f}")))
    if rows:
        headers = ("replica", "host", "KV blocks", "measured", "", "weights GiB", "measured", "")
        yield Section("Predicted beside measured", headers=headers, rows=rows)


def _beside(foretold: Mapping[str, Any], told: Mapping[str, Any], word: str, form: str) -> Row:
    """A figure as predicted, as measured, and how far the two are apart."""
    before, after = foretold.get(word), told.get(word)
    apart = f"{(after - before) / before:+.1%}" if before and after is not None else ""
    return (*("-" if value is None else form.format(value) for value in (before, after)), apart)


def refusals(plan: Plan) -> Iterator[Section]:
    """Every refusal with its remedies, where there is one."""
    count = counted(len(plan["refusals"]), "thing")
    return _findings(f"Refused: {count} to put right first; no host was changed", plan["refusals"])


def warnings(plan: Plan) -> Iterator[Section]:
    """Every warning with its remedies, where there is one."""
    return _findings("Warnings", plan["warnings"])


def held(plan: Plan) -> Iterator[Section]:
    """The replicas that stay as they are, and what to say to have them changed, where there is one."""
    if plan["held"]:
        items = [Item(f"{item['replica']}: {item['reason']}") for item in plan["held"]]
        remedies = tuple(dict.fromkeys(item["remedy"] for item in plan["held"]))
        items[-1] = Item(items[-1].text, remedies)
        yield Section(f"Held: {counted(len(items), 'replica')} left alone, everything else is carried out", items=items)


def root(endpoint: Mapping[str, Any]) -> str:
    """The front door's address as a URL without a path."""
    usual = {"http": 80, "https": 443}[endpoint["scheme"]]
    port = "" if endpoint["port"] == usual else f":{endpoint['port']}"
    return f"{endpoint['scheme']}://{in_url(endpoint['address'])}{port}"


def _models(plan: Plan) -> Iterator[Section]:
    chosen = [model for model in plan["models"] if model["device_key"]]
    if chosen:
        yield Section(
            "Models",
            headers=("model", "tier", "replicas", "device", "requests each", "max_model_len"),
            rows=[
                (
                    model["name"],
                    str(model["tier"] or "-"),
                    f"{_count(model)} x {sizes(model)}",
                    str(model["device_key"]),
                    str(model["fits_requests"]),
                    str(model["max_model_len"]),
                )
                for model in chosen
            ],
            items=[Item(f"{model['name']}: {model['reason']}") for model in chosen],
        )


def _count(model: Mapping[str, Any]) -> str:
    """How many replicas a model has; on Kubernetes, from how many to how many."""
    least, most = model["min_replicas"], model["max_replicas"]
    if least is None:
        return str(model["replica_count"] or 0)
    return str(least) if least == most else f"{least} to {most}"


def _capacity(plan: Plan) -> Iterator[Section]:
    """What each replica and all together serve, and what a request meets."""
    rows = [(model["name"], *_rates(model["capacity"])) for model in plan["models"] if model["capacity"]]
    if rows:
        headers = ("model", "at once", "requests/s", "in all", "tokens/s", "TTFT ms", "ITL ms", "how sure")
        yield Section("Capacity of a replica at the stated workload, estimated", headers=headers, rows=rows)


def _rates(capacity: Mapping[str, Any]) -> Row:
    speed, each, total = capacity["speed"] or {}, capacity["requests_per_second"], capacity["total_requests_per_second"]
    terms = (speed.get(name) for name in ("output_tokens_per_second", "ttft_ms", "itl_ms"))
    low, high = (_figure(total[end]) for end in ("low", "high"))
    sure = f"measured: {capacity['source']}" if capacity["measured"] else f"estimate: {low} to {high} in all"
    figures = (_figure(term["likely"]) if term else "-" for term in (each, total, *terms))
    return (str(speed.get("concurrency", "-")), *figures, sure)


def _figure(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _runners_up(plan: Plan) -> Iterator[Section]:
    """The layouts that came next, and what spoke against each."""
    rows = [
        (
            model["name"],
            f"{other['replica_count']} x {sizes(other)}",
            other["device_key"],
            other["behind"],
        )
        for model in plan["models"]
        for other in model["runners_up"]
    ]
    if rows:
        yield Section("Next best", headers=("model", "replicas", "device", "but it"), rows=rows)


def sizes(layout: Mapping[str, Any]) -> str:
    """The parallel sizes of a layout, short."""
    data = layout["data_parallel_size"]
    short = f"TP {layout['tensor_parallel_size']} PP {layout['pipeline_parallel_size']}"
    copies = "" if data in (None, 1) else f" DP {data}"
    return short + copies + (f" on {layout['nnodes']} hosts" if layout["nnodes"] > 1 else "")


MEMORY_TERMS = {
    "weights_gib": "weights",
    "activation_gib": "activ.",
    "graphs_gib": "graphs",
    "kv_gib": "KV cache",
    "outside_gib": "outside",
    "margin_gib": "margin",
    "device_gib": "device",
}
"""The terms of a rank's memory and their column headings."""


def _memory(plan: Plan) -> Iterator[Section]:
    rows = [
        (
            model["name"],
            rank["rank"],
            *(f"{rank[term]:.2f}" for term in MEMORY_TERMS),
            f"{rank['kv_tokens']:,}",
        )
        for model in plan["models"]
        for rank in model["memory"]
    ]
    if rows:
        headers = ("model", "ranks", *MEMORY_TERMS.values(), "KV tokens")
        yield Section("Memory of each rank, estimated, in GiB", headers=headers, rows=rows)


def _hosts(plan: Plan) -> Section:
    by_host: dict[str, list[str]] = {}
    for replica in plan["replicas"]:
        for host in dict.fromkeys(rank["host"] for rank in replica["ranks"]):
            by_host.setdefault(host, []).append(_part(replica, host))
    return Section(
        "Hosts",
        headers=("host", "address", "devices", "replicas"),
        rows=[
            (name, host["address"], _devices(host), _work(plan, name, host, by_host.get(name, [])))
            for name, host in plan["hosts"].items()
        ],
    )


def _part(replica: Mapping[str, Any], host: str) -> str:
    """What of a replica is on a host: itself with its port, or its ranks."""
    ranks = [rank for rank in replica["ranks"] if rank["host"] == host]
    place = f":{replica['port']}" if host == replica["head"] else f"ranks {ranks[0]['rank']}-{ranks[-1]['rank']}"
    return f"{replica['name']} {place} on {_ranges(ranks)}"


def _groups(plan: Plan) -> Iterator[Section]:
    """The hosts of each replica that has several, and the network between them."""
    rows = [
        (
            replica["name"] if member["node_rank"] == 0 else "",
            str(member["node_rank"]),
            member["host"],
            member["address"],
            member["gloo_interface"] or "-",
            listing(member["rdma_devices"]) or "-",
        )
        for replica in plan["replicas"]
        if replica["group"]
        for member in replica["group"]["members"]
    ]
    if rows:
        headers = ("replica", "node", "host", "address", "interface", "RDMA")
        yield Section("Groups of hosts that serve as one", headers=headers, rows=rows)


def _stacks(plan: Plan) -> Iterator[Section]:
    """The driver of every host that was asked for its GPUs."""
    stacks = {name: host["stack"] for name, host in plan["hosts"].items() if host["stack"]}
    if stacks:
        yield Section(
            "Drivers",
            headers=("host", "driver", "from", "fabric", "containers", "why"),
            rows=[
                (
                    name,
                    stack["driver_version"],
                    stack["repository"] or stack["route"],
                    stack["fabric"],
                    stack["container_toolkit_version"] or "-",
                    "; ".join(stack["reasons"]),
                )
                for name, stack in stacks.items()
            ],
        )


def _devices(host: Mapping[str, Any]) -> str:
    counts: dict[str, int] = {}
    for device in host["devices"]:
        counts[device["key"]] = counts.get(device["key"], 0) + 1
    return ", ".join(f"{count} x {key}" for key, count in counts.items()) or "-"


def _work(plan: Plan, name: str, host: Mapping[str, Any], replicas: list[str]) -> str:
    if host["state"] != "planned":
        replicas = [host["state"], *replicas]
    if plan["tier"] == 5 and _is_node(host):
        replicas = [f"{'server' if 'k3s_servers' in host['groups'] else 'agent'} of the cluster", *replicas]
    if name in plan["gateways"]:
        replicas = ["front door", *replicas]
    return "; ".join(replicas) or "-"


def _ranges(ranks: Sequence[Mapping[str, Any]]) -> str:
    """Device indexes, neighbours joined: 0-3,6."""
    indexes = [rank["device_index"] for rank in ranks]
    if None in indexes:
        return listing(rank["device"] for rank in ranks)
    runs: list[list[int]] = []
    for index in indexes:
        if runs and runs[-1][-1] + 1 == index:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _endpoint(plan: Plan) -> Section:
    way = plan["endpoint"]
    return Section("Endpoint", f"{root(way)}/v1 on {way['host']}" if way else "none: nothing is served")


def _changes(plan: Plan) -> Section:
    """What a run would do, against what is applied."""
    counts = ", ".join(f"{len(names)} {word}" for word, names in sorted(plan["diff"].items()) if names)
    if plan["tier"] == 5 and any(names for word, names in plan["diff"].items() if word != "untouched"):
        return Section("Changes", f"{counts}; pods are changed by Kubernetes, one of a model at a time")
    if not plan["steps"]:
        return Section("Changes", f"none ({counts})" if counts else "none")
    return Section(
        "Changes",
        counts,
        headers=("step", "action", "replica", "host", "why"),
        rows=[
            (str(number), step["action"], step["replica"], listing(step["hosts"]), step["reason"])
            for number, step in enumerate(plan["steps"], 1)
        ],
    )


def _findings(title: str, findings: Iterable[Mapping[str, Any]]) -> Iterator[Section]:
    items = [
        Item(f"{finding['subject']}: {finding['reason']}  [{finding['code']}]", tuple(finding["remedies"]))
        for finding in findings
    ]
    if items:
        yield Section(title, items=items)
