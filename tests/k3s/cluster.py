# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A k3s cluster on test hosts, as tests look at it: through kubectl, systemd and process lists."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import CHECKOUT, Fleet, shell

KUBECTL = "k3s kubectl --kubeconfig /etc/rancher/k3s/k3s.yaml"
OLD, NEW = "v1.35.7+k3s1", "v1.36.3+k3s1"
READABLE = "/etc /opt /run/gpufleet /var/lib/gpufleet /var/log /proc/[0-9]*/environ"
HOLDERS = {"/etc/rancher/k3s/config.yaml", "/etc/rancher/k3s/k3s.yaml"}
"""The files under ``READABLE`` that may hold a token: those that k3s and kubectl read."""
MARK = "gpufleet.serving/cordoned"


@dataclass(frozen=True)
class Cluster:
    """The hosts of a cluster by what they are in it."""

    servers: tuple[str, ...]
    agents: tuple[str, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        """All of them, the servers first."""
        return self.servers + self.agents

    def kubectl(self, words: str, server: str = "") -> str:
        """What kubectl prints on a server, the first where none is named."""
        return shell(server or self.servers[0], f"{KUBECTL} {words}")

    def nodes(self, server: str = "") -> dict[str, dict[str, Any]]:
        """Every Node by its name; none where the API does not answer, as while another server comes to lead."""
        said = shell(server or self.servers[0], f"{KUBECTL} get nodes --output json", check=False)
        items = json.loads(said)["items"] if said.startswith("{") else []
        return {node["metadata"]["name"]: node for node in items}

    def versions(self) -> dict[str, str]:
        """The release that each node runs."""
        return {name: node["status"]["nodeInfo"]["kubeletVersion"] for name, node in self.nodes().items()}

    def ready(self, *names: str, server: str = "") -> bool:
        """Whether these nodes are ready; all hosts' where none is named."""
        nodes = self.nodes(server)
        return all(name in nodes and is_ready(nodes[name]) for name in names or self.hosts)

    def in_use(self) -> bool:
        """Whether no node is cordoned, nor marked as cordoned by us."""
        nodes = self.nodes().values()
        return not any(node["spec"]["unschedulable"] or MARK in node["metadata"]["annotations"] for node in nodes)

    def unit(self, host: str) -> str:
        """What systemd calls k3s on a host."""
        return "k3s" if host in self.servers else "k3s-agent"

    def pids(self) -> dict[str, str]:
        """k3s' process on every host."""
        return {h: shell(h, f"systemctl show --property MainPID --value {self.unit(h)}").strip() for h in self.hosts}

    def engines(self) -> dict[str, list[str]]:
        """The processes of the pods, by agent."""
        return {agent: engines(agent) for agent in self.agents}


def is_ready(node: dict[str, Any]) -> bool:
    """Whether Kubernetes calls a Node ready."""
    return node["status"]["conditions"][0]["status"] == "True"


def engines(host: str) -> list[str]:
    """The processes of the pods on a node."""
    return shell(host, "pgrep -f 'bin/vllm serv[e]'", check=False).split()


def tokens(fleet: Fleet) -> list[str]:
    """The servers' token and the agents'."""
    return [(fleet.secrets / f"k3s-{kind}.token").read_text().strip() for kind in ("server", "agent")]


def upgraded(fleet: Fleet, folder: Path) -> Fleet:
    """The same fleet with another release of the program."""
    program = (CHECKOUT / "tests/k3s/k3s").read_text().replace(OLD, NEW)
    return fleet.changed(k3s_binary=pinned(folder / "k3s", program.encode()), k3s_version=NEW)


def pinned(path: Path, content: bytes) -> dict[str, str]:
    """A file that is made, as roles are told of files."""
    path.write_bytes(content)
    return {"source": str(path), "sha256": hashlib.sha256(content).hexdigest()}


def leavings(host: str) -> str:
    """What is left of k3s on a host; nothing where it was taken out."""
    places = "/etc/systemd/system /usr/local/bin /etc/ansible/facts.d /etc/rancher /var/lib/rancher /var/lib/gpufleet"
    return shell(host, f"find {places} 2>/dev/null | grep -e k3s -e kubectl -e vllm_stack", check=False)
