# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan in words: what an operator reads in a terminal. Every function takes a plan and returns plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ._text import counted, listing

WIDTH = 100
"""Columns of a terminal that lines stay within."""
MOST_ROWS = 40
"""Rows of a table that are printed; plan.json holds them all."""
SHORT_ID = 12

Plan = Mapping[str, Any]


def table(plan: Plan) -> str:
    """The whole plan: models, memory, hosts, endpoint, changes, warnings; or the refusals in place of the changes."""
    parts = [_headline(plan), _models(plan), _memory(plan), _hosts(plan)]
    if plan["refusals"]:
        parts += [_findings("Warnings", plan["warnings"]), refusals(plan)]
    else:
        parts += [_endpoint_line(plan), _changes(plan), held(plan), _findings("Warnings", plan["warnings"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def refusals(plan: Plan) -> str:
    """Every refusal with its remedies, or nothing."""
    count = len(plan["refusals"])
    title = f"Refused: {counted(count, 'thing')} to put right first; no host was changed" if count else ""
    return _findings(title, plan["refusals"])


def held(plan: Plan) -> str:
    """The replicas that stay as they are, and what to say to have them changed; or nothing."""
    if not plan["held"]:
        return ""
    lines = [f"Held: {counted(len(plan['held']), 'replica')} left alone, everything else is carried out"]
    for item in plan["held"]:
        lines += _wrapped(f"{item['replica']}: {item['reason']}", "  ")
    remedies = dict.fromkeys(item["remedy"] for item in plan["held"])
    for remedy in remedies:
        lines += _wrapped(f"-> {remedy}", "  ")
    return "\n".join(lines)


def url(plan: Plan, model: str) -> str:
    """The root of a model's API at the front door, such as ``https://10.0.0.5/m/llama-8b/v1``.

    Raises ValueError for a model that the plan does not hold, and for a plan without a front door.
    """
    endpoint = plan["endpoint"]
    if endpoint is None or model not in [entry["name"] for entry in plan["models"]]:
        raise ValueError(
            f"the plan has no endpoint for {model}: it has {listing(e['name'] for e in plan['models']) or 'no model'}"
        )
    return f"{_root(endpoint)}/m/{model}/v1"


def endpoint(plan: Plan, ca_path: str = ".secrets/ca.crt") -> str:
    """The way in: address, models, where the key is, and a request to try.

    ca_path: where the certificate authority of the front door lies on the controller; empty where everybody trusts it.
    """
    way = plan["endpoint"]
    if way is None:
        return "There is no endpoint: nothing is served."
    default = next((model for model in plan["models"] if model["default"]), plan["models"][0])
    lines = [f"Endpoint  {_root(way)}/v1   (on {way['host']}; the default model is {default['name']})"]
    rows = [(model["name"], f"/m/{model['name']}/v1", model["served_model_name"]) for model in plan["models"]]
    lines += _columns(("model", "path", 'asked for as "model"'), rows)
    trust = f" --cacert {ca_path}" if way["scheme"] == "https" and ca_path else ""
    body = f'{{"model": "{default["served_model_name"]}", "prompt": "Hello", "max_tokens": 16, "stream": true}}'
    lines += [
        "Key       one of gateway_keys in the inventory, sent as: Authorization: Bearer <key>",
        "Try       " + f"curl -N{trust} {_root(way)}/v1/completions \\",
        "            -H 'Authorization: Bearer <key>' -H 'Content-Type: application/json' \\",
        f"            -d '{body}'",
    ]
    return "\n".join(lines)


def verified(plan: Plan, completions: Sequence[Mapping[str, Any]], applied: Mapping[str, Mapping[str, Any]]) -> str:
    """What came through the front door, model by model, and which replicas answer.

    completions: the results of a loop of completion_info over the plan's models. applied: host -> what applied_info
    says of it.
    """
    rows = []
    for model, answer in zip(plan["models"], completions, strict=False):
        first, total = answer.get("first_token_s"), answer.get("total_s")
        seconds = f"first {first:.2f} s, all {total:.2f} s" if first is not None and total is not None else "-"
        rows.append((model["name"], seconds, str(answer.get("events", "-")), repr(answer.get("text", ""))[:40]))
    live = {
        name: state.get("live") is True
        for answer in applied.values()
        for name, state in answer.get("replicas", {}).items()
    }
    replicas = [replica["name"] for replica in plan["replicas"]]
    silent = [name for name in replicas if not live.get(name)]
    lines = ["Answers through the front door"] + _columns(("model", "time", "events", "text"), rows)
    lines.append(f"Replicas that answer: {len(replicas) - len(silent)} of {len(replicas)}")
    lines += [f"  silent: {name}" for name in silent]
    return "\n".join(lines)


def _root(endpoint: Mapping[str, Any]) -> str:
    usual = {"http": 80, "https": 443}[endpoint["scheme"]]
    port = "" if endpoint["port"] == usual else f":{endpoint['port']}"
    address = f"[{endpoint['address']}]" if ":" in endpoint["address"] else endpoint["address"]
    return f"{endpoint['scheme']}://{address}{port}"


def _headline(plan: Plan) -> str:
    serving = {replica["head"] for replica in plan["replicas"]}
    size = (
        f"{counted(len(plan['replicas']), 'replica')} of {counted(len(plan['models']), 'model')} "
        f"on {counted(len(serving), 'host')} of {len(plan['hosts'])}"
    )
    if plan["refusals"]:
        return f"Plan refused: {counted(len(plan['refusals']), 'reason')} below"
    return f"Plan {plan['id'][:SHORT_ID]}: tier {plan['tier']}, {size}"


def _models(plan: Plan) -> str:
    rows = [
        (
            model["name"],
            str(model["tier"] or "-"),
            f"{model['replica_count']} x TP {model['tensor_parallel_size']} PP {model['pipeline_parallel_size']}",
            str(model["device_key"]),
            str(model["fits_requests"]),
            str(model["max_model_len"]),
        )
        for model in plan["models"]
        if model["device_key"]
    ]
    if not rows:
        return ""
    lines = ["Models"] + _columns(("model", "tier", "replicas", "device", "requests each", "max_model_len"), rows)
    for model in plan["models"]:
        if model["device_key"]:
            lines += _wrapped(f"{model['name']}: {model['reason']}", "  ")
    return "\n".join(lines)


def _memory(plan: Plan) -> str:
    rows = [
        (
            model["name"],
            row["rank"],
            *(
                f"{row[term]:.2f}"
                for term in (
                    "weights_gib",
                    "activation_gib",
                    "graphs_gib",
                    "kv_gib",
                    "outside_gib",
                    "margin_gib",
                    "device_gib",
                )
            ),
            f"{row['kv_tokens']:,}",
        )
        for model in plan["models"]
        for row in model["memory"]
    ]
    if not rows:
        return ""
    headers = ("model", "ranks", "weights", "activ.", "graphs", "KV cache", "outside", "margin", "device", "KV tokens")
    return "\n".join(["Memory of each rank, estimated, in GiB"] + _columns(headers, rows))


def _hosts(plan: Plan) -> str:
    by_host: dict[str, list[str]] = {}
    for replica in plan["replicas"]:
        by_host.setdefault(replica["head"], []).append(f"{replica['name']} :{replica['port']} on {_ranges(replica)}")
    rows = [
        (name, host["address"], _devices(host), _work(plan, name, host, by_host.get(name, [])))
        for name, host in plan["hosts"].items()
    ]
    return "\n".join(["Hosts"] + _columns(("host", "address", "devices", "replicas"), rows))


def _devices(host: Mapping[str, Any]) -> str:
    counts: dict[str, int] = {}
    for device in host["devices"]:
        counts[device["key"]] = counts.get(device["key"], 0) + 1
    return ", ".join(f"{count} x {key}" for key, count in counts.items()) or "-"


def _work(plan: Plan, name: str, host: Mapping[str, Any], replicas: list[str]) -> str:
    if host["state"] != "planned":
        replicas = [host["state"], *replicas]
    if name in plan["gateways"]:
        replicas = ["front door", *replicas]
    return "; ".join(replicas) or "-"


def _ranges(replica: Mapping[str, Any]) -> str:
    """Device indexes, neighbours joined: 0-3,6."""
    indexes = [rank["device_index"] for rank in replica["ranks"]]
    if None in indexes:
        return listing(rank["device"] for rank in replica["ranks"])
    runs: list[list[int]] = []
    for index in indexes:
        if runs and runs[-1][-1] + 1 == index:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _endpoint_line(plan: Plan) -> str:
    way = plan["endpoint"]
    return f"Endpoint  {_root(way)}/v1 on {way['host']}" if way else "Endpoint  none: nothing is served"


def _changes(plan: Plan) -> str:
    """What a run would do, against what is applied."""
    counts = ", ".join(f"{len(names)} {word}" for word, names in sorted(plan["diff"].items()) if names)
    if not plan["steps"]:
        return f"Changes   none ({counts})" if counts else "Changes   none"
    rows = [
        (str(number), step["action"], step["replica"], listing(step["hosts"]), step["reason"])
        for number, step in enumerate(plan["steps"], 1)
    ]
    return "\n".join([f"Changes   {counts}"] + _columns(("step", "action", "replica", "host", "why"), rows))


def _findings(title: str, findings: Iterable[Mapping[str, Any]]) -> str:
    lines = []
    for finding in findings:
        lines += _wrapped(f"{finding['subject']}: {finding['reason']}  [{finding['code']}]", "  ")
        for remedy in finding["remedies"]:
            lines += _wrapped(f"-> {remedy}", "     ")
    return "\n".join([title, *lines]) if lines else ""


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_on_hyphens=False,
    )


def _columns(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table: as wide as its content, the last column wrapped to the terminal."""
    shown = [headers, *rows[:MOST_ROWS]]
    widths = [min(max(len(row[column]) for row in shown), 40) for column in range(len(headers) - 1)]
    lines = [line for row in shown for line in _row(row, widths)]
    if len(rows) > MOST_ROWS:
        lines.append(f"  ... and {len(rows) - MOST_ROWS} more in plan.json")
    return lines


def _row(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    head = "  " + "".join(f"{cell:<{width}}  " for cell, width in zip(cells, widths, strict=False))
    room = max(20, WIDTH - len(head))
    for number, piece in enumerate(textwrap.wrap(cells[-1], room, break_on_hyphens=False) or [""]):
        yield ((head if number == 0 else " " * len(head)) + piece).rstrip()
