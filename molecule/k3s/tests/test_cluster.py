# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet on Kubernetes as site.yml left it. k3s and its installer are stand-ins."""

from __future__ import annotations

import json
import re

from harness import Fleet, difference, shell, snapshot

SERVER, AGENT1, AGENT2 = "k3s-server", "k3s-agent1", "k3s-agent2"
HOSTS = [SERVER, AGENT1, AGENT2]
AGENTS = [AGENT1, AGENT2]
KUBECTL = "k3s kubectl --kubeconfig /etc/rancher/k3s/k3s.yaml"
VERSION = "v1.35.7+k3s1"
READABLE = "/etc /opt /run/gpufleet /var/lib/gpufleet /var/log /proc/[0-9]*/environ"


def engines(host: str) -> list[str]:
    """The processes of the pods on a node."""
    return shell(host, "pgrep -f 'bin/vllm serv[e]'", check=False).split()


def pids() -> dict[str, str]:
    """k3s' process on every host."""
    return {host: shell(host, "systemctl show --property MainPID --value k3s k3s-agent").strip() for host in HOSTS}


def nodes() -> dict[str, dict]:
    items = json.loads(shell(SERVER, f"{KUBECTL} get nodes --output json"))["items"]
    return {node["metadata"]["name"]: node for node in items}


def versions() -> dict[str, str]:
    return {name: node["status"]["nodeInfo"]["kubeletVersion"] for name, node in nodes().items()}


def ready(name: str) -> bool:
    return nodes()[name]["status"]["conditions"][0]["status"] == "True"


def tokens(fleet: Fleet) -> list[str]:
    return [(fleet.secrets / f"k3s-{kind}.token").read_text().strip() for kind in ("server", "agent")]


def test_tokens_stream_through_tls_and_keys(front_door):
    assert front_door.ask("tiny")


def test_every_host_is_a_ready_node_of_the_version(fleet):
    assert versions() == dict.fromkeys(HOSTS, VERSION)
    assert all(map(ready, HOSTS))
    assert shell(SERVER, "systemctl is-enabled k3s.service").strip() == "enabled"
    for agent in AGENTS:
        assert shell(agent, "systemctl is-enabled k3s-agent.service").strip() == "enabled"
        assert "not-found" in shell(agent, "systemctl show --property LoadState k3s.service")


def test_tokens_are_where_k3s_reads_them_and_nowhere_else(fleet):
    server, agent = tokens(fleet)
    assert server != agent
    for host in HOSTS:
        assert shell(host, "stat -c %a /etc/rancher/k3s/config.yaml").strip() == "600"
        for token in (server, agent):
            found = shell(host, f"grep -rlsF '{token}' {READABLE}", check=False).split()
            assert set(found) <= {"/etc/rancher/k3s/config.yaml", "/etc/rancher/k3s/k3s.yaml"}
            assert token not in shell(host, "cat /proc/[0-9]*/cmdline 2>/dev/null; journalctl --no-pager", check=False)
    for node in AGENTS:
        config = shell(node, "cat /etc/rancher/k3s/config.yaml")
        assert server not in config
        assert re.search(rf"^token: K10[0-9a-f]{{64}}::node:{agent}$", config, re.MULTILINE)


def test_each_agent_has_the_weights_and_the_server_has_not(fleet):
    for agent in AGENTS:
        assert "model.safetensors" in shell(agent, "ls /var/lib/gpufleet/models/tiny/*")
        assert "gpufleet.serving/model-tiny" in nodes()[agent]["metadata"]["labels"]
    assert "gpufleet.serving/model-tiny" not in nodes()[SERVER]["metadata"]["labels"]


def test_a_second_run_changes_nothing_and_restarts_nothing(fleet):
    before, running, hosts = {agent: engines(agent) for agent in AGENTS}, pids(), snapshot(HOSTS)
    assert all(before.values())
    fleet.run().expect_unchanged()
    assert ({agent: engines(agent) for agent in AGENTS}, pids()) == (before, running)
    assert difference(hosts, snapshot(HOSTS)) == {}


def test_the_ports_of_the_cluster_are_closed_to_strangers(fleet):
    rules = shell(SERVER, "nft list table inet gpufleet")
    for port in (6443, 10250):
        assert re.search(rf"tcp dport {port} ip saddr .*10\.89\.77\.162.* accept", rules)
        assert re.search(rf"tcp dport {port} counter .* drop", rules)
