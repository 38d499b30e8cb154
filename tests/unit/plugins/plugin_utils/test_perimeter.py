# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._perimeter import SELF_CHOSEN_PORTS
from ansible_collections.gpufleet.serving.plugins.plugin_utils._share import share
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils import fleets

GATEWAY = {"groups": ["gateways"]}


def interface(name, *networks):
    addresses = [network.split("/") for network in networks]
    return {
        "name": name,
        "addresses": [{"address": address, "prefix": int(prefix), "family": "inet"} for address, prefix in addresses],
    }


def asked(number, *interfaces, default="10.0.9.9", gpus=0, **words):
    """A host that answered: its interfaces, the address of its default route, its GPUs."""
    devices = [fleets.gpu(index, uuid=f"GPU-{number}-{index}") for index in range(gpus)]
    told = fleets.facts(*devices, interfaces=list(interfaces), default_address=default)
    return fleets.host(number, facts=told, **words)


def planned(hosts=None, gateway=None, previous=None, **settings):
    hosts = hosts or {"gpu1": fleets.gpu_host(1), "gw1": gateway or fleets.host(9, "gateways")}
    return fleets.planned(
        models=[fleets.model()],
        hosts=hosts,
        shapes={"tiny": fleets.shape()},
        previous=previous,
        settings=fleets.PUBLIC | settings,
    )


def doors(plan, host):
    """What is closed on a host, each with the addresses that get through."""
    return {
        (door["first_port"], door["last_port"]): [source["address"] for source in door["sources"]]
        for door in plan["perimeter"]["doors"]
        if door["host"] == host
    }


def test_engines_are_for_the_front_door_and_what_they_choose_is_for_nobody():
    plan = planned()
    at_gpu1 = doors(plan, "gpu1")
    assert at_gpu1.pop(SELF_CHOSEN_PORTS) == []
    assert at_gpu1 and all(sources == ["10.0.0.9"] for sources in at_gpu1.values())
    assert doors(plan, "gw1") == {(9145, 9145): []}, "nobody scrapes, and the front door's own port is for everybody"


def test_a_front_door_on_the_serving_host_needs_no_door_to_itself():
    plan = planned(hosts={"gpu1": fleets.gpu_host(1)})
    assert doors(plan, "gpu1").keys() >= {(8000, 8000), (9145, 9145), SELF_CHOSEN_PORTS}
    assert not any(doors(plan, "gpu1").values())


def test_scrapers_read_the_front_doors_metrics_and_nothing_else():
    plan = planned(scrapers=["10.7.0.0/24", "10.0.0.50", "10.0.0.50/32"])
    assert doors(plan, "gw1") == {(9145, 9145): ["10.0.0.50", "10.7.0.0/24"]}
    assert not any("10.7.0.0/24" in sources for sources in doors(plan, "gpu1").values())


@pytest.mark.parametrize("wrong", ["prometheus", "10.0.0.5/24", ""])
def test_a_scraper_that_is_no_network_is_refused(wrong):
    (refusal,) = planned(scrapers=[wrong])["refusals"]
    assert refusal["subject"] == "fleet_scrapers[0]" and "10.1.0.0/24" in refusal["remedies"][0]


def test_a_gateway_of_several_networks_speaks_from_the_one_that_it_shares_with_the_engine():
    gateway = asked(
        9, interface("eth0", "192.0.2.9/24"), interface("eth1", "10.0.0.99/24"), groups="gateways", default="192.0.2.9"
    )
    assert doors(planned(gateway=gateway), "gpu1")[8000, 8000] == ["10.0.0.9", "10.0.0.99", "192.0.2.9"]


def test_bridges_of_a_gateway_that_no_engine_is_on_get_nothing():
    gateway = asked(
        9,
        interface("eth0", "10.0.0.9/24"),
        interface("docker0", "172.17.0.1/16"),
        groups="gateways",
        default="10.0.0.9",
    )
    assert doors(planned(gateway=gateway), "gpu1")[8000, 8000] == ["10.0.0.9"]


def test_a_host_that_looks_after_itself_is_left_alone_and_still_audited():
    plan = planned(hosts={"gpu1": fleets.gpu_host(1, perimeter_manage="false"), "gw1": fleets.host(9, "gateways")})
    assert "perimeter" not in share(plan, "gpu1") and "perimeter" in share(plan, "gw1")
    assert doors(plan, "gpu1")


def test_where_it_was_applied_and_no_longer_is_it_is_taken_away():
    before = planned()
    hosts = {"gpu1": fleets.gpu_host(1, perimeter_manage=False), "gw1": fleets.host(9, "gateways")}
    after = fleets.planned(
        models=[fleets.model()],
        hosts=hosts,
        shapes={"tiny": fleets.shape()},
        previous=fleets.applied(before),
        settings=fleets.PUBLIC,
    )
    assert share(after, "gpu1")["perimeter"]["perimeter_doors"] == []
    assert share(after, "gpu1")["perimeter"]["perimeter_open_ports"] == []


def test_ports_of_others_and_the_front_door_stay_open():
    plan = planned(hosts={"gpu1": fleets.gpu_host(1, fleet_open_ports=[50051, 40000])}, gateway_port=40443)
    assert share(plan, "gpu1")["perimeter"]["perimeter_open_ports"] == [40000, 40443, 50051]


@pytest.mark.parametrize("wrong", [0, 65536, "ssh", True])
def test_an_open_port_that_is_none_is_refused(wrong):
    (refusal,) = planned(hosts={"gpu1": fleets.gpu_host(1, fleet_open_ports=[wrong])})["refusals"]
    assert refusal["subject"] == "gpu1.fleet_open_ports[0]"


def test_hosts_of_one_replica_reach_every_port_of_each_other_on_their_fabric():
    hosts = {
        f"gpu{number}": asked(
            number,
            interface("eth0", f"10.0.0.{number}/24"),
            interface("ib0", f"10.1.0.{number}/24"),
            gpus=8,
            fleet_fabric_interface="ib0",
        )
        for number in (1, 2, 3)
    }
    big = fleets.model("big", tensor_parallel_size=8, pipeline_parallel_size=2, replica_count=1)
    plan = fleets.planned(
        models=[big], hosts=hosts, shapes={"big": fleets.shape(fleets.LLAMA_70B)}, settings=fleets.PUBLIC
    )
    assert plan["refusals"] == []
    (replica,) = plan["replicas"]
    head, other = (member["host"] for member in replica["group"]["members"])
    address = {name: f"10.1.0.{name[-1]}" for name in hosts}
    assert share(plan, other)["perimeter"]["perimeter_trusts"] == [
        {"interface": "ib0", "purpose": "replica big-0", "sources": [address[head]]}
    ]
    first = replica["group"]["master_port"]
    assert doors(plan, head)[first, first + 15] == [address[other]]
    assert doors(plan, other) == {SELF_CHOSEN_PORTS: []}, "only the head listens on ports that can be pinned"


def test_a_gateway_that_is_silent_for_a_while_is_not_shut_out():
    before = planned()
    silent = fleets.host(9, "gateways", reachable=False)
    made = planned(gateway=silent, previous=fleets.applied(before), allow_unreachable=True)
    assert doors(made, "gpu1")[8000, 8000] == doors(before, "gpu1")[8000, 8000] == ["10.0.0.9"]
