# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An independent judge of plans: what must hold of every plan, whatever the planner thinks.

It shares no code with the planner and knows only what a plan promises. ``problems`` lists every promise that a plan
breaks; ``accept`` fails with them. Every test that makes a plan hands it here.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

Plan = Mapping[str, Any]

KEYS = {
    "basis",
    "diff",
    "endpoint",
    "gateways",
    "held",
    "hosts",
    "id",
    "measured",
    "models",
    "perimeter",
    "refusals",
    "replicas",
    "schema",
    "shares",
    "steps",
    "tier",
    "warnings",
    "waves",
}
FINDING_KEYS = {"code", "subject", "reason", "remedies"}
ROLES = {"gpu_host", "engine", "model_store", "perimeter", "k3s", "serve", "vllm_stack", "gateway"}
MEMORY_TERMS = ("weights_gib", "activation_gib", "graphs_gib", "kv_gib", "outside_gib", "margin_gib")
PYTHON_NONE = re.compile(r"(?<![\w\"])None(?![\w\"])")
"""Python's word where an operator should read a value; in quotes it is the operator's own."""
ROUNDING_GIB = 0.04
"""Seven figures rounded to the hundredth."""


class PlanRejected(AssertionError):
    """A plan that breaks a promise; the text says which."""


def accept(plan: Plan) -> Plan:
    """The plan itself. Raises PlanRejected with every broken promise."""
    found = problems(plan)
    if found:
        raise PlanRejected("\n".join(found))
    return plan


def problems(plan: Plan) -> list[str]:
    """Every promise that the plan breaks, one sentence each."""
    if not isinstance(plan, dict) or set(plan) != KEYS:
        return [f"a plan has the keys {sorted(KEYS)}, this one {sorted(plan) if isinstance(plan, dict) else plan!r}"]
    found = [*_plain(plan, "plan"), *_findings(plan), *_hashes(plan)]
    if plan["refusals"]:
        return [*found, *_refused(plan)]
    return [
        *found,
        *_devices(plan),
        *_existence(plan),
        *_stacks(plan),
        *_ranks(plan),
        *_ports(plan),
        *_units(plan),
        *_front_door(plan),
        *_kubernetes(plan),
        *_perimeter(plan),
        *_cluster(plan),
        *_memory(plan),
        *_counts(plan),
        *_steps(plan),
        *_waves(plan),
        *_held(plan),
        *_diff(plan),
    ]


def _plain(value: Any, path: str) -> Iterator[str]:
    """Only JSON's own types, and no null in a share."""
    if type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                yield f"{path} has a key of type {type(key).__name__}"
            if item is None and path.startswith("plan.shares"):
                yield f"{path}.{key} is null in a share"
            yield from _plain(item, f"{path}.{key}")
    elif type(value) is list:
        for position, item in enumerate(value):
            yield from _plain(item, f"{path}[{position}]")
    elif value is not None and type(value) not in (str, int, float, bool):
        yield f"{path} is a {type(value).__name__}"


def _findings(plan: Plan) -> Iterator[str]:
    for kind in ("refusals", "warnings"):
        for finding in plan[kind]:
            if set(finding) != FINDING_KEYS:
                yield f"a finding among the {kind} has the keys {sorted(finding)}"
            elif not (finding["code"] and finding["subject"] and finding["reason"] and finding["remedies"]):
                yield f"{kind}: {finding['code']} about {finding['subject']} lacks a word or a remedy"
            elif not all(finding["remedies"]) or PYTHON_NONE.search(finding["reason"]):
                yield f"{kind}: {finding['code']} about {finding['subject']} is badly worded: {finding}"


def _sha256(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _hashes(plan: Plan) -> Iterator[str]:
    if plan["id"] != _sha256(plan["shares"]):
        yield "the plan's id is not the hash of its shares"
    for host, roles in plan["shares"].items():
        for role, options in roles.items():
            rest = {name: value for name, value in options.items() if name != f"{role}_share_id"}
            if options.get(f"{role}_share_id") != _sha256(rest):
                yield f"{host}: {role}_share_id is not the hash of the other options"
            if role not in ROLES or not all(name.startswith(f"{role}_") for name in options):
                yield f"{host}: the share of {role} has options of another role: {sorted(options)}"


def _stacks(plan: Plan) -> Iterator[str]:
    """A host's driver stack is what its role is given, and everything of a driver is wanted in one version."""
    for name, host in plan["hosts"].items():
        shared = plan["shares"].get(name, {}).get("gpu_host", {}).get("gpu_host_stack")
        if host["state"] == "planned" and shared != host["stack"]:
            yield f"{name}: its share has another driver stack than the plan"
        if host["stack"]:
            wanted = {package["version"] for package in host["stack"]["packages"]}
            drivers = {version for version in wanted if re.match(r"\d{3}\.", version)}
            if len(drivers) > (host["stack"]["route"] != "present"):
                yield f"{name}: a driver in the versions {sorted(drivers)}"


def _refused(plan: Plan) -> Iterator[str]:
    for key in ("shares", "steps", "held"):
        if plan[key]:
            yield f"a refused plan has {key}"


def _devices(plan: Plan) -> Iterator[str]:
    """No device is used twice, and what is said to be free is."""
    used = Counter((rank["host"], rank["device"]) for replica in plan["replicas"] for rank in replica["ranks"])
    for (host_name, device), count in used.items():
        if count > 1:
            yield f"{host_name}: device {device} is used {count} times"
    for name, host in plan["hosts"].items():
        for device in host["devices"]:
            if device["free"] == bool(used[name, device["id"]]):
                yield f"{name}: device {device['id']} is said to be {'free' if device['free'] else 'used'}"


def _existence(plan: Plan) -> Iterator[str]:
    """Every device is there, once, and those of a replica are alike. Of a held replica they may be gone."""
    for replica in plan["replicas"]:
        keys = set()
        for rank in replica["ranks"]:
            host = plan["hosts"].get(rank["host"])
            if host is None:
                yield f"{replica['name']} is on {rank['host']}, which the plan does not hold"
            elif host["state"] == "planned" and not replica["held"]:
                found = [device["key"] for device in host["devices"] if device["id"] == rank["device"]]
                if len(found) != 1:
                    yield f"{replica['name']}: {rank['host']} has {len(found)} devices {rank['device']}"
                keys.update(found)
        if len(keys) > 1:
            yield f"{replica['name']} mixes {sorted(keys)}"


def _ranks(plan: Plan) -> Iterator[str]:
    """Ranks are the product of the parallel sizes, numbered through, evenly on as many hosts as the units say."""
    units = {(unit["name"], host): unit for host, unit in _all_units(plan)}
    for replica in plan["replicas"]:
        unit = units.get((replica["name"], replica["ranks"][0]["host"]))
        if unit is None:
            continue
        tensor = unit["config"]["tensor_parallel_size"]
        pipeline = unit["config"]["pipeline_parallel_size"]
        data = unit["config"].get("data_parallel_size", 1)
        places = itertools.product(range(data), range(pipeline), range(tensor))
        wanted = [(rank, *place) for rank, place in enumerate(places)]
        words = ("rank", "dp_rank", "pp_rank", "tp_rank")
        if [tuple(rank[word] for word in words) for rank in replica["ranks"]] != wanted:
            yield f"{replica['name']}: its ranks are not those of {data} x {pipeline} x {tensor}"
        hosts = [rank["host"] for rank in replica["ranks"]]
        order = list(dict.fromkeys(hosts))
        nnodes = unit["config"].get("nnodes", 1)
        if order[0] != replica["head"] or len(order) != nnodes:
            yield f"{replica['name']} with head {replica['head']} is on {order}, and nnodes is {nnodes}"
        elif hosts != [host for host in order for _rank in range(len(hosts) // nnodes)]:
            yield f"{replica['name']} does not have its ranks evenly on {order}: {hosts}"
        yield from _group(units, replica, order)
        over_ray = bool(replica["group"] and replica["group"]["ray_port"])
        if replica["executor"] != ("uni" if len(wanted) == 1 else "ray" if over_ray else "mp"):
            yield f"{replica['name']}: executor {replica['executor']} for {len(wanted)} ranks"


def _group(
    units: Mapping[tuple[str, str], Mapping[str, Any]], replica: Mapping[str, Any], hosts: list[str]
) -> Iterator[str]:
    """Several hosts know of each other the same: their order, an address of one subnet each, and one port."""
    group, name = replica["group"], replica["name"]
    if (group is None) != (len(hosts) == 1):
        yield f"{name} is on {hosts} with the group {group}"
    if group is None:
        return
    members = group["members"]
    if [(member["host"], member["node_rank"]) for member in members] != [(h, r) for r, h in enumerate(hosts)]:
        yield f"{name}: the members {members} are not {hosts}"
    addresses = [member["address"] for member in members]
    if len(set(addresses)) != len(addresses):
        yield f"{name}: two members have one address: {addresses}"
    if group["subnet"] is not None:
        network = ipaddress.ip_network(group["subnet"])
        if not all(ipaddress.ip_address(address) in network for address in addresses):
            yield f"{name}: {addresses} are not all in {network}"
        if not all(member["gloo_interface"] in member["nccl_interfaces"] for member in members):
            yield f"{name}: an interface is missing in {members}"
    for rank, host in enumerate(hosts):
        told = units.get((name, host), {}).get("group", {})
        seen = tuple(told.get(word) for word in ("node_rank", "hosts", "addresses", "master_port", "ray_port"))
        if seen != (rank, hosts, addresses, group["master_port"], group["ray_port"]):
            yield f"{name}: the unit on {host} knows of {seen}"


def _ports(plan: Plan) -> Iterator[str]:
    taken: Counter[tuple[str, int]] = Counter()
    for replica in plan["replicas"]:
        taken[replica["head"], replica["port"]] += 1
        if replica["group"]:
            first = replica["group"]["master_port"]
            taken.update((replica["head"], port) for port in range(first, first + 16))
            ray = replica["group"]["ray_port"] or 0
            members = [member["host"] for member in replica["group"]["members"]]
            taken.update((host, port) for host in members for port in range(ray, ray + 64) if ray)
        if not 1024 <= replica["port"] <= 65535:
            yield f"{replica['name']}: port {replica['port']}"
    for host, roles in plan["shares"].items():
        if roles.get("gateway", {}).get("gateway_models"):
            for option in ("gateway_listen_port", "gateway_metrics_port"):
                taken[host, roles["gateway"][option]] += 1
    for (host, port), count in taken.items():
        if count > 1:
            yield f"{host}: port {port} is used {count} times"


def _all_units(plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    for host, roles in plan["shares"].items():
        for unit in roles.get("serve", {}).get("serve_units", []):
            yield host, unit


def _units(plan: Plan) -> Iterator[str]:
    """Units and replicas are the same, on the same devices; engine and weights of every unit are in the share."""
    replicas = {replica["name"]: replica for replica in plan["replicas"]}
    wanted = {(name, rank["host"]) for name, replica in replicas.items() for rank in replica["ranks"]}
    units = [(unit["name"], host) for host, unit in _all_units(plan)]
    # a host that does not answer keeps its last share, with replicas that nobody wants any more
    surplus = {unit for unit in set(units) - wanted if plan["hosts"][unit[1]]["state"] == "planned"}
    if surplus or wanted - set(units) or len(units) != len(set(units)):
        yield f"units {sorted(units)} are not the replicas {sorted(wanted)}"
        return
    for host, unit in _all_units(plan):
        if (unit["name"], host) not in wanted:
            continue
        replica, roles = replicas[unit["name"]], plan["shares"][host]
        if unit["devices"] != [rank["device"] for rank in replica["ranks"] if rank["host"] == host]:
            yield f"{unit['name']}: the unit's devices are not the replica's"
        if (unit["address"], unit["port"]) != (replica["address"], replica["port"]):
            yield f"{unit['name']}: the unit listens elsewhere than the replica"
        if plan["hosts"][host]["state"] != "planned":
            continue
        yield from _address(unit, replica, plan["hosts"][replica["head"]])
        if unit["engine_path"] not in [place["path"] for place in roles["engine"]["engine_environments"]]:
            yield f"{unit['name']}: no engine is installed at {unit['engine_path']}"
        store = roles["model_store"]
        stored = [model["path"] for model in store["model_store_models"]] + store["model_store_keep_paths"]
        if unit["model_path"] not in stored:
            yield f"{unit['name']}: no weights are at {unit['model_path']}"
        yield from _accelerator(unit)


def _address(unit: Mapping[str, Any], replica: Mapping[str, Any], head: Mapping[str, Any]) -> Iterator[str]:
    """A replica is asked at its head, on all its hosts."""
    settled = head["state"] != "planned" or replica["held"]
    if not settled and unit["address"] != head["address"]:
        yield f"{unit['name']} binds {unit['address']}, and {replica['head']} is {head['address']}"


def _accelerator(unit: Mapping[str, Any]) -> Iterator[str]:
    """What the CPU build needs, and only it."""
    cpu = unit["accelerator"] == "cpu"
    if cpu != ("cpu_kv_gib" in unit) or any(device.startswith("cpu:") != cpu for device in unit["devices"]):
        yield f"{unit['name']}: accelerator {unit['accelerator']} on {unit['devices']}"
    if unit["engine_path"].rpartition("/")[2].partition("-")[0] != unit["accelerator"]:
        yield f"{unit['name']}: {unit['accelerator']} with the engine {unit['engine_path']}"
    if cpu and len(unit["devices"]) > 1 and "VLLM_CPU_OMP_THREADS_BIND" not in unit["engine_env"]:
        yield f"{unit['name']}: several CPU ranks without VLLM_CPU_OMP_THREADS_BIND"
    if cpu and unit["config"]["pipeline_parallel_size"] > 1 and "compilation_config" not in unit["config"]:
        yield f"{unit['name']}: a pipeline on CPUs without its compilation mode"


def _front_door(plan: Plan) -> Iterator[str]:
    """Every gateway sends to every replica and to nothing else; there is a front door where anything is served."""
    wanted = {(r["model"], r["name"], r["address"], r["port"]) for r in plan["replicas"]} | {
        (entry["name"], f"{entry['name']}-{number}", node["address"], entry["node_port"])
        for stack in _stacks_of_pods(plan)
        for entry in stack["vllm_stack_models"]
        for number, node in enumerate(stack["vllm_stack_nodes"])
    }
    for name in plan["gateways"]:
        gateway = plan["shares"].get(name, {}).get("gateway")
        if gateway is None:
            yield f"{name} is a gateway without a share"
            continue
        models = gateway["gateway_models"]
        found = [(m["name"], u["replica"], u["address"], u["port"]) for m in models for u in m["upstreams"]]
        if len(found) != len(set(found)) or set(found) != wanted:
            yield f"{name} sends to {sorted(found)}, and the replicas are {sorted(wanted)}"
        if sum(model["default"] for model in models) > 1:
            yield f"{name} has several default models"
        if any(upstream["weight"] < 1 for model in models for upstream in model["upstreams"]):
            yield f"{name} has an upstream without weight"
    for host, roles in plan["shares"].items():
        answers = plan["hosts"][host]["state"] == "planned"
        if answers and host not in plan["gateways"] and roles.get("gateway", {}).get("gateway_models"):
            yield f"{host} is no gateway and has upstreams"
        if answers and "serve" in roles and roles["serve"]["serve_gateways"] != plan["gateways"]:
            yield f"{host}: replicas would be drained at {roles['serve']['serve_gateways']}"
    if plan["replicas"] and (plan["endpoint"] is None or plan["endpoint"]["host"] not in plan["gateways"]):
        yield f"the endpoint is {plan['endpoint']}, the gateways {plan['gateways']}"


def _stacks_of_pods(plan: Plan) -> list[Mapping[str, Any]]:
    """Every share with pods in it."""
    found = [roles["vllm_stack"] for roles in plan["shares"].values() if "vllm_stack" in roles]
    return [stack for stack in found if stack["vllm_stack_models"]]


def _kubernetes(plan: Plan) -> Iterator[str]:
    """On Kubernetes nothing has a place, the most pods of all models fit the devices of their nodes, and their weights
    lie there."""
    if plan["tier"] != 5:
        if _stacks_of_pods(plan):
            yield f"tier {plan['tier']} with pods"
        return
    stacks = _stacks_of_pods(plan)
    if plan["replicas"] or len(stacks) != 1:
        yield f"tier 5 with {len(plan['replicas'])} placed replicas and {len(stacks)} hosts that hand pods over"
        return
    (stack,) = stacks
    entries = {entry["name"]: entry for entry in stack["vllm_stack_models"]}
    if set(entries) != {model["name"] for model in plan["models"]}:
        yield f"pods of {sorted(entries)}, which are not the models"
    ports = [entry["node_port"] for entry in entries.values()]
    if len(ports) != len(set(ports)) or not all(30000 <= port <= 32767 for port in ports):
        yield f"ports of nodes {sorted(ports)}"
    taken = sum(entry["max_replicas"] * entry["ranks"] for entry in entries.values())
    there = sum(len(plan["hosts"][node["name"]]["devices"]) for node in stack["vllm_stack_nodes"])
    if taken > there and not plan["held"]:
        yield f"{taken} devices for all pods where {there} are"
    yield from _nodes(plan, stack, entries)


def _nodes(plan: Plan, stack: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Each node has the weights, and devices enough, of every model that may run there."""
    for node in stack["vllm_stack_nodes"]:
        store = plan["shares"].get(node["name"], {}).get("model_store", {})
        stored = [m["path"] for m in store.get("model_store_models", [])] + store.get("model_store_keep_paths", [])
        devices = plan["hosts"][node["name"]]["devices"]
        for entry in (entries[name] for name in node["models"]):
            if entry["source_kind"] == "store" and entry["source"] not in stored:
                yield f"{node['name']}: {entry['source']} is no path of its model store"
            if len(devices) < entry["ranks"] // entry["nodes"] and not plan["held"]:
                yield f"{node['name']}: {len(devices)} devices for {entry['ranks']} ranks of {entry['name']}"


def _cluster(plan: Plan) -> Iterator[str]:
    """A cluster begins once and has servers; whoever joins names a server; GPUs are looked for by one server alone."""
    nodes = {host: roles["k3s"] for host, roles in plan["shares"].items() if "k3s" in roles}
    inside = {host: node for host, node in nodes.items() if node["k3s_node_role"] != "none"}
    if not inside:
        return
    servers = [host for host, node in inside.items() if node["k3s_node_role"] == "server"]
    begin = [host for host, node in inside.items() if not node["k3s_server_address"]]
    if not servers or len(begin) > 1 or not set(begin) <= set(servers):
        yield f"the cluster has the servers {servers}, and {begin} begin it"
    for host, node in nodes.items():
        if plan["hosts"][host]["state"] == "planned" and node["k3s_server_host"] not in servers:
            yield f"{host} asks {node['k3s_server_host']!r}, which is no server of the cluster"
    answering = [node for host, node in inside.items() if plan["hosts"][host]["state"] == "planned"]
    if sum(bool(node["k3s_gpu_nodes"]) for node in answering) > 1:
        yield "several servers bring the device plugin"


def _perimeter(plan: Plan) -> Iterator[str]:
    """Each engine's port has one door, through which only front-door hosts come; the hosts of one replica, and no
    others, trust each other; each host is given its own doors."""
    doors = plan["perimeter"]["doors"]
    planned = {name for name, host in plan["hosts"].items() if host["state"] == "planned"}
    for replica in plan["replicas"]:
        at = [door for door in doors if door["host"] == replica["head"] and door["first_port"] == replica["port"]]
        if len(at) != (replica["head"] in planned):
            yield f"{replica['name']}: {len(at)} doors at port {replica['port']} of {replica['head']}"
        for source in (source for door in at for source in door["sources"]):
            if source["name"] not in plan["gateways"] or source["name"] == replica["head"]:
                yield f"{replica['name']}: {source['name']} may reach its port"
    trusts = {(trust["host"], source["name"]) for trust in plan["perimeter"]["trusts"] for source in trust["sources"]}
    groups = [
        [member["host"] for member in replica["group"]["members"]] for replica in plan["replicas"] if replica["group"]
    ]
    wanted = {pair for group in groups for pair in itertools.permutations(group, 2) if pair[0] in planned}
    if trusts - wanted:
        yield f"hosts trust each other that share no replica: {sorted(trusts - wanted)}"
    for host, roles in plan["shares"].items():
        for given in roles.get("perimeter", {}).get("perimeter_doors", []):
            wanted = [
                sorted({source["address"] for source in door["sources"]})
                for door in doors
                if (door["host"], door["first_port"], door["last_port"])
                == (host, given["first_port"], given["last_port"])
            ]
            if host in planned and wanted != [sorted(given["sources"])]:
                yield f"{host}: its share lets {given['sources']} to port {given['first_port']}, the plan {wanted}"


def _memory(plan: Plan) -> Iterator[str]:
    """The terms add up to the device, the device is one that the fleet has, and the longest request fits."""
    usable = {device["key"]: device["usable_gib"] for host in plan["hosts"].values() for device in host["devices"]}
    for model in plan["models"]:
        for row in model["memory"]:
            where = f"{model['name']} rank {row['rank']} on {row['device_key']}"
            if abs(sum(row[term] for term in MEMORY_TERMS) - row["device_gib"]) > ROUNDING_GIB:
                yield f"{where}: the terms do not add up to {row['device_gib']} GiB"
            if any(row[term] < 0 for term in MEMORY_TERMS):
                yield f"{where}: a term is negative"
            if model["accelerator"] == "cuda" and row["device_gib"] > usable[row["device_key"]] + ROUNDING_GIB:
                yield f"{where}: takes {row['device_gib']} of {usable[row['device_key']]} GiB"
            if model["accelerator"] == "cpu" and row["kv_gib"] > usable[row["device_key"]]:
                yield f"{where}: a KV cache of {row['kv_gib']} GiB where {usable[row['device_key']]} are granted"
            held = row["block_size"] * model["decode_context_parallel_size"]
            if row["kv_tokens"] != row["kv_blocks"] * held:
                yield f"{where}: {row['kv_blocks']} blocks of {held} are not {row['kv_tokens']} tokens"
        if model["memory"] and model["fits_requests"] < 1:
            yield f"{model['name']}: holds {model['fits_requests']} requests"


def _counts(plan: Plan) -> Iterator[str]:
    """Each model has the replicas that it says, and the plan the highest tier of its models."""
    counts = Counter(replica["model"] for replica in plan["replicas"])
    waiting = {item["replica"] for item in plan["held"]} - {replica["name"] for replica in plan["replicas"]}
    for model in plan["models"]:
        absent = sum(name.rpartition("-")[0] == model["name"] for name in waiting)
        if model["tier"] == 5:
            if model["replica_count"] is not None or not 1 <= model["min_replicas"] <= model["max_replicas"]:
                counted = [model[word] for word in ("replica_count", "min_replicas", "max_replicas")]
                yield f"{model['name']}: replicas on Kubernetes: {counted}"
        elif model["replica_count"] != counts[model["name"]] + absent:
            yield f"{model['name']}: {model['replica_count']} replicas promised, {counts[model['name']]} planned"
        if model["tier"] in (1, 2) and model["nnodes"] not in (None, 1):
            yield f"{model['name']}: tier {model['tier']} over {model['nnodes']} hosts"
        if model["tier"] == 1 and (model["replica_count"] > 1 or model["tensor_parallel_size"] not in (None, 1)):
            yield f"{model['name']}: tier 1 with several devices"
    if plan["tier"] != max((model["tier"] for model in plan["models"]), default=None):
        yield f"tier {plan['tier']} is not the highest of the models"
    if sum(model["default"] for model in plan["models"]) != 1:
        yield "there is not exactly one default model"


def _steps(plan: Plan) -> Iterator[str]:
    """What serves is drained before it is touched, what is started is in the plan, nothing happens out of reach."""
    drained: set[tuple[str, str]] = set()
    replicas = {r["name"]: list(dict.fromkeys(rank["host"] for rank in r["ranks"])) for r in plan["replicas"]}
    for step in plan["steps"]:
        replica, hosts = step["replica"], step["hosts"]
        places = {(replica, host) for host in hosts}
        if any(plan["hosts"].get(host, {}).get("state") != "planned" for host in hosts):
            yield f"step {step['action']} of {replica} on {hosts}, of which not all are in reach"
        if step["action"] == "drain":
            drained |= places
        if step["live"] and step["action"] in ("stop", "remove") and places - drained:
            yield f"{replica} serves on {hosts} and is not drained before it is gone"
        if step["action"] in ("start", "restart") and replicas.get(replica) != hosts:
            yield f"{replica} is started on {hosts}, and the plan has it on {replicas.get(replica)}"
        if step["action"] == "remove" and set(replicas.get(replica, ())) & set(hosts):
            yield f"{replica} is removed from {hosts}, and the plan has it on {replicas[replica]}"


def _waves(plan: Plan) -> Iterator[str]:
    """Every reachable host with the role serve is in one wave; live replicas restart in turns, each as a whole."""
    together, turns = plan["waves"]["together"], plan["waves"]["serial"]
    serial = [host for turn in turns for host in turn]
    serving = [
        host for host, roles in plan["shares"].items() if "serve" in roles and plan["hosts"][host]["state"] == "planned"
    ]
    if sorted(together + serial) != sorted(serving):
        yield f"the waves {together} and {serial} are not the serving hosts {sorted(serving)}"
    for step in plan["steps"]:
        if step["live"] and step["action"] == "stop" and not any(set(step["hosts"]) <= set(turn) for turn in turns):
            yield f"{step['replica']} restarts on {step['hosts']}, which take no turn together"


def _held(plan: Plan) -> Iterator[str]:
    held = {item["replica"] for item in plan["held"]}
    changed = {step["replica"] for step in plan["steps"] if step["action"] != "drain"}
    for name in sorted(held & changed):
        yield f"{name} is held and changed"
    for replica in plan["replicas"]:
        if replica["held"] != (replica["name"] in held):
            yield f"{replica['name']}: held is {replica['held']}"


def _diff(plan: Plan) -> Iterator[str]:
    """Every replica is in one part of the difference, and only removed ones are not in the plan."""
    parts = plan["diff"]
    names = Counter(name for part in parts.values() for name in part)
    there = {replica["name"] for replica in plan["replicas"]}
    if plan["tier"] == 5:
        there = {model["name"] for model in plan["models"]}
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        yield f"{twice} are in several parts of the difference"
    if {name for part, members in parts.items() if part != "removed" for name in members} != there:
        yield "the difference is not about the replicas of the plan"
    if there & set(parts["removed"]):
        yield f"{sorted(there & set(parts['removed']))} are removed and there"
    if plan["steps"] == [] and plan["tier"] != 5 and (parts["added"] or parts["moved"] or parts["restarted"]):
        yield "something changes without a step"
