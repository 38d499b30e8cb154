# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as an operator reads it in a terminal. Every function takes a plan and returns plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from . import _report
from ._report import Item, Plan, Section, root
from ._text import listing

WIDTH = 100
"""Columns of a terminal that lines stay within."""
MOST_ROWS = 40
"""Rows of a table that are printed; plan.json holds them all."""
TITLE_WIDTH = 10
"""Columns of a title that has its summary behind it."""


def table(plan: Plan) -> str:
    """The whole plan."""
    return "\n\n".join([_report.headline(plan), *map(_set, _report.sections(plan))]) + "\n"


def refusals(plan: Plan) -> str:
    """Every refusal with its remedies, or nothing."""
    return text(_report.refusals(plan))


def held(plan: Plan) -> str:
    """The replicas that stay as they are, and what to say to have them changed; or nothing."""
    return text(_report.held(plan))


def url(plan: Plan, model: str) -> str:
    """The root of a model's API at the front door, such as ``https://10.0.0.5/m/llama-8b/v1``.

    Raises ValueError for a model that the plan does not hold, and for a plan without a front door.
    """
    endpoint = plan["endpoint"]
    if endpoint is None or model not in [entry["name"] for entry in plan["models"]]:
        raise ValueError(
            f"the plan has no endpoint for {model}: it has {listing(e['name'] for e in plan['models']) or 'no model'}"
        )
    return f"{root(endpoint)}/m/{model}/v1"


def endpoint(plan: Plan, ca_path: str = ".secrets/ca.crt") -> str:
    """The way in: address, models, where the key is, and a request to try.

    ca_path: where the certificate authority of the front door lies on the controller; empty where everybody trusts it.
    """
    way = plan["endpoint"]
    if way is None:
        return "There is no endpoint: nothing is served."
    default = next((model for model in plan["models"] if model["default"]), plan["models"][0])
    lines = [f"Endpoint  {root(way)}/v1   (on {way['host']}; the default model is {default['name']})"]
    rows = [(model["name"], f"/m/{model['name']}/v1", model["served_model_name"]) for model in plan["models"]]
    lines += _columns(("model", "path", 'asked for as "model"'), rows)
    trust = f" --cacert {ca_path}" if way["scheme"] == "https" and ca_path else ""
    body = f'{{"model": "{default["served_model_name"]}", "prompt": "Hello", "max_tokens": 16, "stream": true}}'
    lines += [
        "Key       one of gateway_keys in the inventory, sent as: Authorization: Bearer <key>",
        "Try       " + f"curl -N{trust} {root(way)}/v1/completions \\",
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
    states = {replica["name"]: _states(replica, applied) for replica in plan["replicas"]}
    silent = [name for name, parts in states.items() if not parts[0][1].get("live")]
    lines = ["Answers through the front door"] + _columns(("model", "time", "events", "text"), rows)
    lines.append(f"Replicas that answer: {len(states) - len(silent)} of {len(states)}")
    lines += [line for name in silent for line in _wrapped(f"silent: {name}{_why_silent(states[name])}", "  ")]
    lines += [line for name, parts in states.items() if len(parts) > 1 for line in _wrapped(_group(name, parts), "  ")]
    return "\n".join(lines)


def _states(
    replica: Mapping[str, Any], applied: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, Mapping[str, Any]]]:
    """What applied_info says of a replica on each of its hosts, the head first."""
    hosts = dict.fromkeys([replica["head"], *(rank["host"] for rank in replica["ranks"])])
    return [(host, applied.get(host, {}).get("replicas", {}).get(replica["name"], {})) for host in hosts]


def _why_silent(parts: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """What the guards on a replica's hosts noted, where they noted anything."""
    notes = [f"{host} {_noted(state)}" for host, state in parts if state.get("guard")]
    return f": {'; '.join(notes)}" if notes else ""


def _noted(state: Mapping[str, Any]) -> str:
    guard = state["guard"]
    return f"{guard['state']} ({guard['reason']})" if guard["reason"] else str(guard["state"])


def _group(name: str, parts: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """A replica of several hosts in one line with its members."""
    members = (f"{host} {_noted(state) if state.get('guard') else 'unknown'}" for host, state in parts)
    return f"group: {name} on {', '.join(members)}"


def measured(plan: Plan, answers: Iterable[Mapping[str, Any]]) -> str:
    """What the engines have beside what was predicted, and which of them would not tell.

    answers: what engine_figures says on each host; anything else, as from a host without replicas, is passed over.
    """
    told = [answer for answer in answers if "figures" in answer]
    figures = {name: entry for answer in told for name, entry in answer["figures"].items()}
    silent = [Item(f"{name}: {why}") for answer in told for name, why in answer["silent"].items()]
    parts = [*_report.measured(plan, figures), *([Section("Not measured", items=silent)] if silent else [])]
    return text(parts) or "No replica runs that could be measured."


def text(sections: Iterable[Section]) -> str:
    """Sections as lines."""
    return "\n\n".join(map(_set, sections))


def _set(section: Section) -> str:
    """A section in lines."""
    lines = [f"{section.title:<{TITLE_WIDTH}}{section.summary}" if section.summary else section.title]
    if section.headers:
        lines += _columns(section.headers, section.rows)
    for item in section.items:
        lines += _wrapped(item.text, "  ")
        for remedy in item.remedies:
            lines += _wrapped(f"-> {remedy}", "     ")
    return "\n".join(lines)


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
