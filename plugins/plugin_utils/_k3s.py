# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node of k3s is configured with, and what stands against bringing it there.

The words of ``config.yaml`` are k3s' own flags. Everything is in that file: k3s' installer loses flags that it is not
given again, and a process list shows them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..module_utils._address import in_url, is_address
from ._stack_options import node_ready
from ._stack_values import GPU_RESOURCE

API_PORT = 6443
"""Where servers listen for nodes and for kubectl. Source: k3s, requirements."""
DISABLED = ("traefik", "servicelb")
"""Parts of k3s that the gateway is in place of. The same on all servers, or they do not join. Source: k3s, server."""
GPU_LABEL = "nvidia.com/gpu.present=true"
"""By it NVIDIA's device plugin finds its nodes without a feature discovery. Source: its chart, nodeAffinity."""
SHORTEST_TOKEN = 24
VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)\+k3s(\d+)")
SHA256 = re.compile(r"[0-9a-f]{64}")


def config(options: Mapping[str, Any], token: str, agent_token: str) -> dict[str, Any]:
    """The content of ``config.yaml``.

    token: the servers', which the first has in its short form and all others with the cluster's fingerprint.
    agent_token: the agents'; an agent has its own alone.
    """
    serves = options["k3s_node_role"] == "server"
    begins = serves and not options["k3s_server_address"]
    words: dict[str, Any] = {
        "node-ip": options["k3s_node_address"],
        "node-name": options["k3s_node_name"],
        "token": token if serves else agent_token,
    }
    if begins:
        words["cluster-init"] = True
    else:
        words["server"] = f"https://{in_url(options['k3s_endpoint'] or options['k3s_server_address'])}:{API_PORT}"
    if serves:
        words |= {
            "agent-token": agent_token,
            "disable": list(DISABLED),
            "secrets-encryption": True,
            "write-kubeconfig-mode": "0600",
        }
    if serves and options["k3s_endpoint"]:
        words["tls-san"] = [options["k3s_endpoint"]]
    if options["k3s_gpus"]:
        words["node-label"] = [GPU_LABEL]
    return dict(sorted(words.items()))


def stamp(options: Mapping[str, Any]) -> str:
    """A name for everything that a node runs with: configuration, version and files. Another stamp wants a restart.

    It is made with the short tokens, so that it is known before the cluster is.
    """
    token, agent_token = options["k3s_token"], options["k3s_agent_token"]
    everything = [
        config(options, token, agent_token),
        options["k3s_version"],
        options["k3s_binary"]["sha256"],
        [archive["sha256"] for archive in options["k3s_image_archives"]],
    ]
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:16]


def faults(options: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    """One sentence for each thing that would not work, or must not be done now, with what to change.

    options: those of the role by name. state: what ``k3s_info`` says of the host.
    """
    found = [*_option_faults(options), *_file_faults(options)]
    return found or [*_host_faults(options, state)]


def is_ready(node: Mapping[str, Any], version: str) -> bool:
    """Whether a Node is ready and its kubelet of a version."""
    return node_ready(node) and node.get("status", {}).get("nodeInfo", {}).get("kubeletVersion") == version


def gpu_faults(nodes: Iterable[Mapping[str, Any]], wanted: Iterable[Mapping[str, Any]]) -> list[str]:
    """One sentence for each node that does not offer exactly the GPUs that its driver tells of.

    nodes: the items of a list of Nodes. wanted: ``{"name", "count"}`` of each node with GPUs.
    """
    offers = {node["metadata"]["name"]: node.get("status", {}).get("allocatable", {}) for node in nodes}
    seen = [(node["name"], node["count"], int(offers.get(node["name"], {}).get(GPU_RESOURCE, 0))) for node in wanted]
    return [
        f"The node {name} offers {offered} {GPU_RESOURCE}, and the host has {count} GPUs. Look at the device plugin: "
        "k3s kubectl -n nvidia-device-plugin get pods -o wide"
        for name, count, offered in seen
        if offered != count
    ]


def _option_faults(options: Mapping[str, Any]) -> Iterator[str]:
    name, role = options["k3s_node_name"], options["k3s_node_role"]
    if not is_address(options["k3s_node_address"]):
        yield f"k3s_node_address of {name} is {options['k3s_node_address']!r}. Give its IP address among the nodes."
    if role == "agent" and not options["k3s_server_address"]:
        yield f"{name} is an agent and k3s_server_address is empty. Name the server that it joins."
    if not VERSION.fullmatch(options["k3s_version"]):
        yield f"k3s_version is {options['k3s_version']!r}. Name a release in full, such as v1.35.7+k3s1."
    tokens = {word: options[word] for word in (("k3s_token",) if role == "server" else ()) + ("k3s_agent_token",)}
    for word, token in tokens.items():
        if len(token) < SHORTEST_TOKEN:
            yield f"{word} has {len(token)} characters. Give at least {SHORTEST_TOKEN}."
        elif "::" in token or token.startswith("K10"):
            yield f"{word} is a full token. Give the part behind its last colon: the rest is the cluster's."
    if len(tokens) > len(set(tokens.values())):
        yield "k3s_token and k3s_agent_token are the same. Give two: who has the first is administrator of the cluster."


def _file_faults(options: Mapping[str, Any]) -> Iterator[str]:
    words = {word: options[word] for word in ("k3s_binary", "k3s_install_script")}
    words |= {f"k3s_image_archives[{n}]": archive for n, archive in enumerate(options["k3s_image_archives"])}
    for word, file in words.items():
        if not file["source"] or not SHA256.fullmatch(file["sha256"]):
            yield (
                f"{word} has source {file['source']!r} and sha256 {file['sha256']!r}. Give the address or the path on "
                "the controller, and the 64 hexadecimal digits that the release states for it."
            )


def _host_faults(options: Mapping[str, Any], state: Mapping[str, Any]) -> Iterator[str]:
    name, wanted = options["k3s_node_name"], options["k3s_version"]
    if state["role"] and not state["managed"]:
        yield (
            f"{name} has k3s that something else installed ({state['version']}). Uninstall it, or say "
            "fleet_k3s_manage: false and bring the whole cluster yourself."
        )
        return
    if state["role"] and state["role"] != options["k3s_node_role"]:
        yield (
            f"{name} is {state['role']} of the cluster and should be {options['k3s_node_role']}. Take it out first: "
            f"playbooks/reset.yml --limit {name}"
        )
    if not state["default_route"]:
        yield f"{name} has no default route, without which k3s does not start. A route to a dummy interface is enough."
    if state["active"] and state["version"]:
        yield from _step_faults(name, state["version"], wanted)
    if state["active"] and state["stamp"] != stamp(options) and not options["k3s_restart"]:
        yield (
            f"{name} runs k3s {state['version']} and would be restarted ({wanted}, or other settings), an agent "
            "without its pods. Say fleet_allow_restart=true: one server at a time, then the agents in turns."
        )


def _step_faults(name: str, running: str, wanted: str) -> Iterator[str]:
    """Kubernetes goes up one minor version at a time, and never down (its version skew policy)."""
    before, after = VERSION.fullmatch(running), VERSION.fullmatch(wanted)
    if not before or not after:
        return
    old, new = ([int(part) for part in found.groups()] for found in (before, after))
    if new < old:
        yield f"{name} runs k3s {running}, and k3s_version is {wanted}. k3s does not go back: name {running} or newer."
    elif new[0] != old[0] or new[1] > old[1] + 1:
        yield (
            f"{name} runs k3s {running}, and k3s_version is {wanted}. Kubernetes goes one minor version at a time: "
            f"name a release of v{old[0]}.{old[1] + 1} first."
        )
