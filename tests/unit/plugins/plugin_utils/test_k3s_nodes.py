# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who begins the cluster, who joins by whom, and who leaves, on the first day and after losses."""

from __future__ import annotations

from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils import fleets
from hypothesis import given, settings
from hypothesis import strategies as st

SERVERS = {f"server{n}": fleets.host(n, "k3s_servers") for n in (1, 2, 3)}
AGENTS = {f"gpu{n}": fleets.gpu_host(10 + n, groups="gpu_nodes k3s_agents") for n in (1, 2)}


def inputs(hosts=None, previous=None, **settings):
    return {
        "models": [fleets.model(tensor_parallel_size=4)],
        "hosts": hosts or SERVERS | AGENTS,
        "shapes": {"tiny": fleets.shape()},
        "previous": previous,
        "settings": fleets.PUBLIC | settings,
    }


def planned(*arguments, **words):
    return fleets.planned(**inputs(*arguments, **words))


def nodes(made):
    return {host: roles["k3s"] for host, roles in made["shares"].items() if "k3s" in roles}


def joins(made):
    return {host: node.get("k3s_server_address") for host, node in nodes(made).items()}


def test_the_first_server_begins_and_all_others_join_it():
    made = planned()
    assert joins(made) == {
        "server1": "",
        "server2": "10.0.0.1",
        "server3": "10.0.0.1",
        "gpu1": "10.0.0.1",
        "gpu2": "10.0.0.1",
    }
    assert {node["k3s_server_host"] for node in nodes(made).values()} == {"server1"}


def test_the_first_server_looks_for_the_gpus_that_the_hosts_have():
    shares = nodes(planned())
    assert shares["server1"]["k3s_gpu_nodes"] == [{"name": "gpu1", "count": 8}, {"name": "gpu2", "count": 8}]
    assert [shares[host]["k3s_gpus"] for host in ("server1", "gpu1")] == [0, 8]
    assert all(shares[host]["k3s_gpu_nodes"] == [] for host in shares if host != "server1")


def test_nodes_on_cpus_show_no_gpus():
    agents = {"cpu1": fleets.cpu_host(11) | {"groups": ["gpu_nodes", "k3s_agents"]}}
    made = fleets.planned(
        **inputs({"server1": SERVERS["server1"]} | agents) | {"models": [fleets.model(tensor_parallel_size=1)]}
    )
    assert nodes(made)["server1"]["k3s_gpu_nodes"] == []


def test_a_second_run_is_the_same():
    before = planned()
    assert nodes(planned(previous=fleets.applied(before))) == nodes(before)


def test_a_server_that_was_made_anew_joins_and_begins_nothing():
    previous = fleets.applied(planned())
    del previous["hosts"]["server1"]["roles"]["k3s"]
    made = planned(previous=previous)
    assert joins(made)["server1"] == "10.0.0.2"
    assert "" not in joins(made).values()


def test_a_server_that_is_down_moves_nobody_and_new_ones_ask_another():
    previous = fleets.applied(planned(), silent=("server1",))
    hosts = SERVERS | AGENTS | {"server1": SERVERS["server1"] | {"reachable": False}}
    hosts |= {"gpu3": fleets.gpu_host(13, groups="gpu_nodes k3s_agents")}
    made = planned(hosts, previous, allow_unreachable=True)
    assert joins(made)["gpu1"] == "10.0.0.1"
    assert joins(made)["gpu3"] == "10.0.0.2"
    assert nodes(made)["gpu3"]["k3s_server_host"] == "server2"


def test_a_lost_server_is_named_by_nobody_any_more():
    previous = fleets.applied(planned(), silent=("server1",))
    hosts = SERVERS | AGENTS | {"server1": SERVERS["server1"] | {"reachable": False}}
    made = planned(hosts, previous, lost_hosts=["server1"])
    assert set(joins(made).values()) == {"10.0.0.2", "10.0.0.3"}, (
        "the second joins by the third, the others by the second"
    )


def test_no_second_cluster_beside_agents_whose_servers_are_gone():
    previous = fleets.applied(planned())
    for server in SERVERS:
        del previous["hosts"][server]["roles"]["k3s"]
    found = fleets.refusals(**inputs(previous=previous))
    assert "--limit" in " ".join(found["cluster_without_servers"]["remedies"])


def test_an_agent_that_leaves_is_taken_out_by_a_server_that_stays():
    previous = fleets.applied(planned())
    hosts = SERVERS | AGENTS | {"gpu2": fleets.host(12, "gateways")}
    left = nodes(planned(hosts, previous))["gpu2"]
    assert (left["k3s_node_role"], left["k3s_server_host"]) == ("none", "server1")


def test_with_the_tier_the_whole_cluster_goes():
    previous = fleets.applied(planned())
    made = planned(previous=previous, tier=4, allow_tier_change=True)
    assert {(node["k3s_node_role"], node["k3s_server_host"]) for node in nodes(made).values()} == {("none", "")}
    assert set(nodes(made)) == {*SERVERS, *AGENTS}


def test_somebody_elses_cluster_is_left_alone_and_so_are_its_ports():
    made = planned(previous=fleets.applied(planned()), k3s_manage=False)
    assert nodes(made) == {}
    assert not [door for door in made["perimeter"]["doors"] if door["first_port"] == 6443]


def test_the_ports_of_the_cluster_are_for_its_nodes_and_etcd_for_servers():
    doors = {
        (door["host"], door["first_port"]): {source["name"] for source in door["sources"]}
        for door in planned()["perimeter"]["doors"]
    }
    assert doors["server1", 6443] == {"server2", "server3", "gpu1", "gpu2", "pods"}
    assert doors["server1", 2379] == {"server2", "server3"}
    assert doors["gpu1", 10250] == {"server1", "server2", "server3", "gpu2", "pods"}
    assert doors["gpu1", 8472] == {"server1", "server2", "server3", "gpu2"}
    assert ("gpu1", 6443) not in doors
    assert {door["first_port"] for door in planned()["perimeter"]["doors"] if door.get("protocol") == "udp"} == {8472}


def test_a_node_that_is_silent_for_a_while_is_not_shut_out():
    hosts = SERVERS | AGENTS | {"server1": SERVERS["server1"] | {"reachable": False}}
    made = planned(hosts, fleets.applied(planned()), allow_unreachable=True)
    doors = {(door["host"], door["first_port"]): door["sources"] for door in made["perimeter"]["doors"]}
    assert "server1" in [source["name"] for source in doors["server2", 2379]]
    assert "server1" in [source["name"] for source in doors["gpu1", 10250]]


@settings(deadline=None, max_examples=60)
@given(
    known=st.sets(st.sampled_from(sorted(SERVERS | AGENTS))),
    down=st.sets(st.sampled_from(sorted(SERVERS))),
    lost=st.sets(st.sampled_from(sorted(SERVERS))),
)
def test_whatever_was_lost_a_cluster_begins_once(known, down, lost):
    """``known``: the hosts whose record is there. The checker of plans holds the rest of the promise."""
    previous = fleets.applied(planned())
    for host in set(SERVERS | AGENTS) - known:
        previous["hosts"][host]["roles"].pop("k3s")
    hosts = {
        name: host | ({"reachable": False} if name in down | lost else {}) for name, host in (SERVERS | AGENTS).items()
    }
    asked = inputs(hosts, previous, allow_unreachable=True, lost_hosts=sorted(lost))
    made = fleets.planned(**asked)
    if not made["refusals"]:
        begin = {host for host, node in nodes(made).items() if node.get("k3s_server_address") == ""}
        begin -= down
        assert begin <= {"server1"} or not known & set(SERVERS)
