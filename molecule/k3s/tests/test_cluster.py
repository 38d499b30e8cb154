# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet on Kubernetes as site.yml left it, and how it goes away, in order. k3s and its installer are stand-ins."""

from __future__ import annotations

import re

from cluster import HOLDERS, OLD, READABLE, Cluster, engines, leavings, tokens
from harness import difference, eventually, reboot, shell, snapshot

CLUSTER = Cluster(servers=("k3s-server",), agents=("k3s-agent1", "k3s-agent2"))
(SERVER,), AGENTS, HOSTS = CLUSTER.servers, CLUSTER.agents, list(CLUSTER.hosts)


def test_tokens_stream_through_tls_and_keys(front_door):
    assert front_door.ask("tiny")


def test_every_host_is_a_ready_node_of_the_version():
    assert CLUSTER.versions() == dict.fromkeys(HOSTS, OLD)
    assert CLUSTER.ready()
    for host in HOSTS:
        assert shell(host, f"systemctl is-enabled {CLUSTER.unit(host)}.service").strip() == "enabled"
    for agent in AGENTS:
        assert "not-found" in shell(agent, "systemctl show --property LoadState k3s.service")


def test_tokens_are_where_k3s_reads_them_and_nowhere_else(fleet):
    server, agent = tokens(fleet)
    assert server != agent
    for host in HOSTS:
        assert shell(host, "stat -c %a /etc/rancher/k3s/config.yaml").strip() == "600"
        for token in (server, agent):
            found = shell(host, f"grep -rlsF '{token}' {READABLE}", check=False).split()
            assert set(found) <= HOLDERS
            assert token not in shell(host, "cat /proc/[0-9]*/cmdline 2>/dev/null; journalctl --no-pager", check=False)
    for node in AGENTS:
        config = shell(node, "cat /etc/rancher/k3s/config.yaml")
        assert server not in config
        assert re.search(rf"^token: K10[0-9a-f]{{64}}::node:{agent}$", config, re.MULTILINE)


def test_each_agent_has_the_weights_and_the_server_has_not():
    nodes = CLUSTER.nodes()
    for agent in AGENTS:
        assert "model.safetensors" in shell(agent, "ls /var/lib/gpufleet/models/tiny/*")
        assert "gpufleet.serving/model-tiny" in nodes[agent]["metadata"]["labels"]
    assert "gpufleet.serving/model-tiny" not in nodes[SERVER]["metadata"]["labels"]


def test_an_agent_that_boots_is_back_with_its_pods(front_door):
    reboot(AGENTS[0])
    eventually(lambda: front_door.answers("tiny"), 60, "the other agent serves")
    eventually(lambda: CLUSTER.ready() and engines(AGENTS[0]), 120, "the agent and its pod are back")


def test_a_second_run_changes_nothing_and_restarts_nothing(fleet):
    running, processes, hosts = CLUSTER.engines(), CLUSTER.pids(), snapshot(HOSTS)
    assert all(running.values())
    fleet.run().expect_unchanged()
    assert (CLUSTER.engines(), CLUSTER.pids()) == (running, processes)
    assert difference(hosts, snapshot(HOSTS)) == {}


def test_the_ports_of_the_cluster_are_closed_to_strangers():
    rules = shell(SERVER, "nft list table inet gpufleet")
    for port in (6443, 10250):
        assert re.search(rf"tcp dport {port} ip saddr .*10\.89\.77\.162.* accept", rules)
        assert re.search(rf"tcp dport {port} counter .* drop", rules)


def test_reset_takes_the_whole_cluster_away(fleet):
    fleet.run("playbooks/reset.yml", "--extra-vars", "fleet_confirm_reset=inventory").expect(0)
    for host in HOSTS:
        assert not engines(host)
        assert leavings(host) == ""
