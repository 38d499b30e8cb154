# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an argument spec cannot say about the options of the role ``vllm_stack``, and how its charts are handed over."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ._chart_keys import chart_faults
from ._stack_scaling import scales, target
from ._stack_values import GPU_RESOURCE, node_label, stack_values
from ._text import repeated

DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
LONGEST_SERVICE_NAME = 63
LONGEST_SUFFIX = "-engine-service"
IMAGE_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
MARK = "applied"
"""The ConfigMap by which is seen what the release is at."""
STATIC_CHARTS = "https://%{KUBERNETES_API}%/static/charts"
"""Where a server's own charts are found from inside the cluster. Source: k3s, packaged components."""


def stack_faults(options: Mapping[str, Any], further: Any = None) -> list[str]:
    """One sentence for each thing that would not work, with what to change.

    options: those of the role by name, as its argument spec has them. further: what ``vllm_stack_values_file`` holds.
    """
    models = options["vllm_stack_models"]
    found = [*_name_faults(options), *_image_faults(options), *_router_faults(options)]
    for model in models:
        found += _model_faults(model, options)
        found += _source_faults(model, options)
    found += _placement_faults(options)
    if found:
        return found
    return [
        *chart_faults(merged(further or {}, stack_values(options))),
        *_overlaps(further or {}, stack_values(options)),
    ]


def merged(further: Any, own: Mapping[str, Any]) -> dict[str, Any]:
    """The role's values, and below them what the operator adds."""
    if not isinstance(further, Mapping):
        return dict(own)
    both = {key: merged(further[key], own[key]) for key in own if key in further and isinstance(own[key], Mapping)}
    return {**further, **own, **both}


def handed_over(options: Mapping[str, Any], further: Any = None) -> dict[str, Any]:
    """The values as Helm gets them, with a mark among the objects: once the cluster has it, the release is at them."""
    values = merged(further or {}, stack_values(options))
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    mark = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"{options['vllm_stack_release']}-{MARK}",
            "namespace": options["vllm_stack_namespace"],
            "labels": {"app.kubernetes.io/part-of": "gpufleet"},
        },
        "data": {"values": hashlib.sha256(text.encode()).hexdigest()},
    }
    return {**values, "extraObjects": [*values["extraObjects"], mark]}


def label_changes(options: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The labels to set and remove, node by node, so that each model finds the nodes that have its weights.

    nodes: the items of a list of Nodes. A node that ``vllm_stack_nodes`` does not name is left alone, but where there
    are no models at all every node loses its labels. Returns ``{"node", "labels"}``, the labels as arguments of
    ``kubectl label``.
    """
    versions = {model["name"]: model["version"] for model in options["vllm_stack_models"]}
    wanted = {
        node["name"]: {node_label(model): versions[model] for model in node["models"]}
        for node in options["vllm_stack_nodes"]
    }
    found = []
    for node in nodes:
        name, labels = node["metadata"]["name"], node["metadata"].get("labels") or {}
        if name in wanted or not versions:
            goal = wanted.get(name, {})
            ours = {key: value for key, value in labels.items() if key.startswith(node_label(""))}
            add = [f"{key}={value}" for key, value in goal.items() if ours.get(key) != value]
            remove = [f"{key}-" for key in ours if key not in goal]
            if add or remove:
                found.append({"node": name, "labels": sorted(add) + sorted(remove)})
    return found


def node_faults(options: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    """One sentence for each node that the cluster lacks or that cannot run its pods, with what to do."""
    there = {node["metadata"]["name"]: node for node in nodes}
    faults = []
    for wanted in options["vllm_stack_nodes"]:
        node = there.get(wanted["name"])
        if node is None:
            seen = ", ".join(sorted(there)) or "none"
            faults.append(
                f"The cluster has no node {wanted['name']}; it has {seen}. Join it, or take it out of the plan."
            )
        elif not node_ready(node):
            faults.append(f"The node {wanted['name']} is not ready. Look at: kubectl describe node {wanted['name']}")
        else:
            faults += _gpu_faults(wanted, node, options)
    return faults


def node_ready(node: Mapping[str, Any]) -> bool:
    """Whether Kubernetes calls a Node ready."""
    conditions = node.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _gpu_faults(wanted: Mapping[str, Any], node: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[str]:
    """A node must offer the GPUs that the largest of its pods takes."""
    here = [model for model in options["vllm_stack_models"] if model["name"] in wanted["models"]]
    needed = max((m["ranks"] // m["nodes"] for m in here if m["accelerator"] == "cuda"), default=0)
    offered = int(node.get("status", {}).get("allocatable", {}).get(GPU_RESOURCE, 0))
    if offered < needed:
        yield (
            f"The node {wanted['name']} offers {offered} {GPU_RESOURCE}, and a pod takes {needed}. Look whether "
            "NVIDIA's device plugin runs there, and whether its containerd knows the runtime nvidia."
        )


def helm_chart(
    values: Mapping[str, Any], name: str, chart: Mapping[str, str], namespace: str, timeout: int
) -> dict[str, Any]:
    """The object by which k3s installs a chart and keeps it at its values.

    name: of the release. chart: its ``name``, ``version``, ``repository``, and ``archive``, a file's name among the
    server's own charts, or empty. timeout: seconds. A release that serves is never uninstalled by a failed upgrade,
    which is what k3s would do by default.
    """
    if chart["archive"]:
        source = {"chart": f"{STATIC_CHARTS}/{chart['archive']}"}
    elif chart["repository"].startswith("oci://"):
        source = {"chart": f"{chart['repository']}/{chart['name']}", "version": chart["version"]}
    else:
        source = {"chart": chart["name"], "repo": chart["repository"], "version": chart["version"]}
    return {
        "apiVersion": "helm.cattle.io/v1",
        "kind": "HelmChart",
        "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {
            **source,
            "targetNamespace": namespace,
            "createNamespace": True,
            "failurePolicy": "abort",
            "timeout": f"{timeout}s",
            "valuesContent": json.dumps(values, sort_keys=True, indent=2),
        },
    }


def _name_faults(options: Mapping[str, Any]) -> Iterator[str]:
    models, release = options["vllm_stack_models"], options["vllm_stack_release"]
    for word in ("vllm_stack_release", "vllm_stack_namespace"):
        if not DNS_LABEL.fullmatch(options[word]):
            yield f"{word} is {options[word]!r}. Use a DNS label: lower-case letters, digits and inner hyphens."
    for model in models:
        name = model["name"]
        longest = LONGEST_SERVICE_NAME - len(release) - 1 - len(LONGEST_SUFFIX)
        if not DNS_LABEL.fullmatch(name) or len(name) > longest:
            yield (
                f"The model {name!r} cannot name objects of the release {release}. Use a DNS label of {longest} "
                "characters at most: lower-case letters, digits and inner hyphens."
            )
    for name in repeated(model["name"] for model in models):
        yield f"The model {name} is there twice. Give each its own name."
    for port in repeated(str(model["node_port"]) for model in models):
        yield f"Two models have the node port {port}. Give each its own."


def _image_faults(options: Mapping[str, Any]) -> Iterator[str]:
    for kind in sorted({model["accelerator"] for model in options["vllm_stack_models"]}):
        if not options[f"vllm_stack_{kind}_image"]:
            yield f"No image is known for engines on {kind}. Name its repository in vllm_stack_{kind}_image."
        digest = options[f"vllm_stack_{kind}_image_digest"]
        if digest and not IMAGE_DIGEST.fullmatch(digest):
            yield f"vllm_stack_{kind}_image_digest is {digest!r}. Give sha256: and 64 hexadecimal digits."


def _router_faults(options: Mapping[str, Any]) -> Iterator[str]:
    if options["vllm_stack_router_tag"] == "latest":
        yield "vllm_stack_router_tag is latest, which is another image every day. Name a version."
    if options["vllm_stack_router_logic"] == "session" and not options["vllm_stack_router_session_key"]:
        yield "vllm_stack_router_logic is session. Name the header of sessions in vllm_stack_router_session_key."


def _model_faults(model: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[str]:
    name = model["name"]
    if not 1 <= model["min_replicas"] <= model["max_replicas"]:
        yield (
            f"{name} has min_replicas {model['min_replicas']} and max_replicas {model['max_replicas']}. "
            "Give 1 or more, and no fewer at most than at least."
        )
    if model["ranks"] < 1 or model["nodes"] < 1 or model["ranks"] % model["nodes"]:
        yield f"{name} has {model['ranks']} ranks on {model['nodes']} nodes. Give each node as many as the others."
    if model["nodes"] > 1 and scales(model, options["vllm_stack_autoscaler"]):
        yield (
            f"{name} spans {model['nodes']} nodes and would scale to {model['max_replicas']}. Groups of nodes are not "
            f"scaled: set max_replicas to {model['min_replicas']}."
        )
    if model["accelerator"] == "cpu" and not model.get("cpu_kv_gib"):
        yield f"{name} runs on CPUs without cpu_kv_gib. Say how many GiB of KV cache a rank has."
    if scales(model, options["vllm_stack_autoscaler"]):
        yield from _target_faults(model, options)


def _source_faults(model: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[str]:
    allowed = options["vllm_stack_model_source"] == "hub"
    if model["source_kind"] == "hub" and not allowed:
        yield (
            f"{model['name']} comes from the hub ({model['source']}), and every node would fetch it. If that is meant, "
            "say vllm_stack_model_source: hub; else give a source on the controller or on the nodes."
        )


def _target_faults(model: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[str]:
    """A target that the signal cannot pass would never bring another pod."""
    wanted, name = target(options), options["vllm_stack_scaling_signal"]
    most = {"running": model["config"].get("max_num_seqs"), "kv_cache": 1, "waiting": None}[name]
    if most is not None and wanted >= most:
        yield (
            f"vllm_stack_scaling_target is {wanted:g} {name}, and an engine of {model['name']} has {most} at most, "
            "so that it would never scale. Set a lower target, or vllm_stack_scaling_signal: waiting."
        )


def _placement_faults(options: Mapping[str, Any]) -> Iterator[str]:
    names = {model["name"] for model in options["vllm_stack_models"]}
    placed = {model for node in options["vllm_stack_nodes"] for model in node["models"]}
    for model in sorted(placed - names):
        yield f"vllm_stack_nodes names the model {model}, which is not in vllm_stack_models."
    for model in sorted(names - placed):
        yield f"No node of vllm_stack_nodes may run {model}. Name it in the models of those that have its weights."


def _overlaps(further: Any, own: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """What the operator adds may not be what the role sets."""
    for key in _shared(further, own):
        place = f"{path}.{key}".lstrip(".")
        if isinstance(own[key], Mapping) and isinstance(further[key], Mapping):
            yield from _overlaps(further[key], own[key], place)
        elif further[key] != own[key]:
            yield f"vllm_stack_values_file sets {place}, which the role sets. Leave it out; the inventory says it."


def _shared(further: Any, own: Mapping[str, Any]) -> Iterable[str]:
    return sorted(set(further) & set(own)) if isinstance(further, Mapping) else ()
