# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""config.yaml of each kind of node, and everything that stands against bringing a node there."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._k3s import config, faults, gpu_faults, is_ready, stamp
from hypothesis import given
from hypothesis import strategies as st

TOKEN, AGENT_TOKEN = "servers-" + "s" * 30, "agents-" + "a" * 30
FILE = {"source": "/srv/k3s", "sha256": "a" * 64}
FIRST = {
    "k3s_node_role": "server",
    "k3s_node_name": "server1",
    "k3s_node_address": "10.0.0.1",
    "k3s_server_address": "",
    "k3s_endpoint": "",
    "k3s_gpus": 0,
    "k3s_version": "v1.35.7+k3s1",
    "k3s_binary": FILE,
    "k3s_install_script": FILE,
    "k3s_image_archives": [],
    "k3s_restart": False,
    "k3s_token": TOKEN,
    "k3s_agent_token": AGENT_TOKEN,
}
SECOND = FIRST | {"k3s_node_name": "server2", "k3s_node_address": "10.0.0.2", "k3s_server_address": "10.0.0.1"}
AGENT = SECOND | {"k3s_node_role": "agent", "k3s_node_name": "gpu1", "k3s_node_address": "10.0.0.11", "k3s_gpus": 8}
FRESH = {
    "role": None,
    "managed": False,
    "active": False,
    "version": None,
    "stamp": None,
    "default_route": True,
    "runtimes": [],
}
CRITICAL = (
    "cluster-cidr",
    "service-cidr",
    "cluster-dns",
    "cluster-domain",
    "disable",
    "secrets-encryption",
    "agent-token",
)
"""What servers must have in common, or they do not join. Source: k3s, server."""


def running(options, **changes):
    """The host of a node that runs with these options."""
    told = {"role": options["k3s_node_role"], "managed": True, "active": True, "stamp": stamp(options)}
    return FRESH | told | {"version": options["k3s_version"]} | changes


def test_the_first_server_begins_the_cluster_with_short_tokens():
    assert config(FIRST, TOKEN, AGENT_TOKEN) == {
        "agent-token": AGENT_TOKEN,
        "cluster-init": True,
        "disable": ["traefik", "servicelb"],
        "node-ip": "10.0.0.1",
        "node-name": "server1",
        "secrets-encryption": True,
        "token": TOKEN,
        "write-kubeconfig-mode": "0600",
    }


def test_another_server_joins_it_and_differs_in_nothing_critical():
    first, second = config(FIRST, TOKEN, AGENT_TOKEN), config(SECOND, "K10full", AGENT_TOKEN)
    assert second["server"] == "https://10.0.0.1:6443"
    assert second["token"] == "K10full"
    assert "cluster-init" not in second
    assert [first.get(word) for word in CRITICAL] == [second.get(word) for word in CRITICAL]


def test_an_agent_has_its_own_token_alone_and_says_that_it_has_gpus():
    assert config(AGENT, "never given to it", "K10full") == {
        "node-ip": "10.0.0.11",
        "node-label": ["nvidia.com/gpu.present=true"],
        "node-name": "gpu1",
        "server": "https://10.0.0.1:6443",
        "token": "K10full",
    }
    assert "node-label" not in config(AGENT | {"k3s_gpus": 0}, "", "K10full")


def test_an_address_in_front_of_all_servers_is_joined_by_and_certified():
    words = {"k3s_endpoint": "fd00::10"}
    assert config(AGENT | words, "", "")["server"] == "https://[fd00::10]:6443"
    assert config(FIRST | words, "", "")["tls-san"] == ["fd00::10"]
    assert "server" not in config(FIRST | words, "", "")


@given(
    role=st.sampled_from(["server", "agent"]),
    joins=st.sampled_from(["", "10.0.0.1"]),
    endpoint=st.sampled_from(["", "k3s.example.org"]),
    gpus=st.integers(0, 16),
)
def test_of_every_shape_exactly_the_first_begins(role, joins, endpoint, gpus):
    words = {"k3s_node_role": role, "k3s_server_address": joins, "k3s_endpoint": endpoint, "k3s_gpus": gpus}
    made = config(FIRST | words, TOKEN, AGENT_TOKEN)
    begins = role == "server" and not joins
    assert made.get("cluster-init", False) is begins
    assert ("server" in made) is not begins
    assert (TOKEN in made.values()) is (role == "server")
    assert list(made) == sorted(made)


@pytest.mark.parametrize(
    "change",
    [
        {"k3s_version": "v1.36.3+k3s1"},
        {"k3s_binary": FILE | {"sha256": "b" * 64}},
        {"k3s_image_archives": [FILE]},
        {"k3s_agent_token": "another-" + "x" * 30},
        {"k3s_gpus": 4, "k3s_node_role": "agent"},
    ],
)
def test_whatever_k3s_must_start_anew_for_has_another_stamp(change):
    assert stamp(SECOND | change) != stamp(SECOND)


def test_what_k3s_does_not_know_of_has_the_same_stamp():
    moved = {"k3s_binary": FILE | {"source": "/elsewhere/k3s"}, "k3s_restart": True}
    assert stamp(FIRST | moved) == stamp(FIRST)
    assert stamp(AGENT | {"k3s_gpus": 4}) == stamp(AGENT), "a GPU that fails restarts nothing"
    assert stamp(AGENT | {"k3s_token": ""}) == stamp(AGENT), "an agent has nothing of the servers' token"


@pytest.mark.parametrize("options", [FIRST, SECOND, AGENT])
def test_nothing_stands_against_what_is_right(options):
    assert faults(options, FRESH) == []
    assert faults(options, running(options)) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k3s_node_address": "server1"}, "its IP address"),
        ({"k3s_node_role": "agent"}, "Name the server"),
        ({"k3s_version": "latest"}, "Name a release in full"),
        ({"k3s_token": "short"}, "has 5 characters"),
        ({"k3s_agent_token": TOKEN}, "Give two"),
        ({"k3s_token": "K10" + "a" * 64 + "::server:secret"}, "behind its last colon"),
        ({"k3s_binary": {"source": "/srv/k3s", "sha256": "abc"}}, "k3s_binary"),
        ({"k3s_install_script": {"source": "", "sha256": ""}}, "k3s_install_script"),
        ({"k3s_image_archives": [FILE, {"source": "", "sha256": "a" * 64}]}, "k3s_image_archives[1]"),
    ],
)
def test_options_that_would_not_work_are_named(options, words):
    (fault,) = faults(FIRST | options, FRESH)
    assert words in fault
    assert TOKEN not in fault


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"managed": False}, "fleet_k3s_manage: false"),
        ({"role": "agent"}, "reset.yml --limit server1"),
        ({"default_route": False}, "no default route"),
        ({"stamp": "another"}, "fleet_allow_restart=true"),
        ({"stamp": None}, "fleet_allow_restart=true"),
    ],
)
def test_what_must_not_be_done_to_a_host_is_named(state, words):
    (fault,) = faults(FIRST, running(FIRST, **state))
    assert words in fault


def test_a_restart_that_is_allowed_is_no_fault_and_neither_is_one_of_what_does_not_run():
    assert faults(FIRST | {"k3s_restart": True}, running(FIRST, stamp="another")) == []
    assert faults(FIRST, running(FIRST, stamp=None, active=False)) == []


@pytest.mark.parametrize(
    ("before", "wanted", "allowed"),
    [
        ("v1.35.7+k3s1", "v1.35.7+k3s2", True),
        ("v1.35.7+k3s1", "v1.35.10+k3s1", True),
        ("v1.35.7+k3s1", "v1.36.0+k3s1", True),
        ("v1.34.7+k3s1", "v1.36.0+k3s1", False),
        ("v1.35.7+k3s1", "v2.0.0+k3s1", False),
        ("v1.35.7+k3s1", "v1.35.6+k3s1", False),
        ("v1.35.7+k3s2", "v1.35.7+k3s1", False),
        ("v1.35.7+k3s1", "v1.34.9+k3s1", False),
    ],
)
def test_kubernetes_goes_up_a_minor_version_at_a_time_and_never_down(before, wanted, allowed):
    options = FIRST | {"k3s_version": wanted, "k3s_restart": True}
    found = faults(options, running(FIRST, version=before))
    assert (found == []) is allowed
    assert all(before in fault and wanted in fault for fault in found)


def node(name="gpu1", ready="True", version="v1.35.7+k3s1", **allocatable):
    return {
        "metadata": {"name": name},
        "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "nodeInfo": {"kubeletVersion": version},
            "allocatable": {word.replace("_", "/"): value for word, value in allocatable.items()},
        },
    }


def test_a_node_is_there_when_it_is_ready_and_of_the_version():
    assert is_ready(node(), "v1.35.7+k3s1")
    assert not is_ready(node(ready="Unknown"), "v1.35.7+k3s1")
    assert not is_ready(node(version="v1.34.1+k3s1"), "v1.35.7+k3s1")
    assert not is_ready({"metadata": {"name": "gpu1"}}, "v1.35.7+k3s1")


@pytest.mark.parametrize(("offered", "wrong"), [("8", False), ("7", True), ("9", True), (None, True)])
def test_a_node_must_offer_the_gpus_that_it_has(offered, wrong):
    offers = {"nvidia.com/gpu": offered} if offered else {}
    found = gpu_faults([node() | {"status": {"allocatable": offers}}], [{"name": "gpu1", "count": 8}])
    assert bool(found) is wrong
    assert all("gpu1" in fault and str(offered or 0) in fault for fault in found)
