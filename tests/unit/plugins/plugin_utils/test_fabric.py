# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network that hosts have in common, among all those that they do not."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._fabric import Fabrics, Network, Place, Reach, networks
from ansible_collections.gpufleet.serving.plugins.plugin_utils._findings import Findings
from ansible_collections.gpufleet.serving.plugins.plugin_utils._reading import Reader


def interface(name, *addresses, state="up"):
    told = [dict(zip(("address", "prefix"), address.split("/"), strict=True)) for address in addresses]
    return {"name": name, "state": state, "addresses": told}


def read(*interfaces, fabric=None):
    return networks(Reader({"interfaces": list(interfaces)}, "gpu1", Findings()), fabric)


def reach(address, *found):
    return Reach(address, tuple(Network(*each) for each in found))


@pytest.mark.parametrize(
    "of_its_own",
    [
        interface("docker0", "172.17.0.1/16"),
        interface("br-3f2a", "172.18.0.1/16"),
        interface("virbr0", "192.168.122.1/24"),
        interface("eth9", "10.9.0.1/24", state="down"),
        interface("eth9", "169.254.3.4/16"),
        interface("eth9", "127.0.1.1/8"),
        interface("eth9", "fe80::1/64"),
        interface("a b", "10.9.0.1/24"),
        {"name": "eth9", "addresses": [{"address": "nonsense", "prefix": 24}, None, {}]},
        {"name": "eth9", "addresses": "none"},
        {"addresses": []},
    ],
)
def test_what_leads_to_no_other_host_is_no_network(of_its_own):
    assert read(interface("eth0", "10.0.0.1/24"), of_its_own) == (Network("eth0", "10.0.0.1", "10.0.0.0/24"),)


def test_the_interface_that_the_operator_names_is_the_only_one_whatever_it_looks_like():
    both = (interface("eth0", "10.0.0.1/24"), interface("br-fabric", "10.1.0.1/24", "fd00::1/64"))
    assert [network.address for network in read(*both, fabric="br-fabric")] == ["10.1.0.1", "fd00::1"]


def test_hosts_meet_in_the_subnet_of_their_engines_addresses():
    fabrics = Fabrics(
        {
            "a": reach("10.0.0.1", ("ib0", "10.1.0.1", "10.1.0.0/24"), ("eth0", "10.0.0.1", "10.0.0.0/24")),
            "b": reach("10.0.0.2", ("eno1", "10.0.0.2", "10.0.0.0/24"), ("ib1", "10.1.0.2", "10.1.0.0/24")),
        }
    )
    found = fabrics.common(("a", "b"))
    assert found.subnet == "10.0.0.0/24"
    assert found.places == {"a": Place("10.0.0.1", "eth0"), "b": Place("10.0.0.2", "eno1")}


def test_a_subnet_in_which_two_hosts_have_the_same_address_is_one_of_each_hosts_own():
    bridge = ("vmnet8", "172.17.0.1", "172.17.0.0/16")
    fabrics = Fabrics({"a": reach("10.0.0.1", bridge), "b": reach("10.0.1.2", bridge)})
    assert fabrics.common(("a", "b")) is None
    assert fabrics.described("a") == "172.17.0.1 on vmnet8 (172.17.0.0/16)"


def test_hosts_that_nobody_looked_at_are_taken_at_their_word():
    fabrics = Fabrics({"a": Reach("10.0.0.1", None, "ib0"), "b": Reach("gpu2", None), "c": reach("10.0.0.3")})
    assert fabrics.common(("a", "b")).places == {"a": Place("10.0.0.1", "ib0"), "b": Place("gpu2")}
    assert fabrics.common(("a", "c")) is None
    assert fabrics.described("c") == "no network"


def test_pairs_may_share_what_three_do_not():
    left, right = "10.1.0.0/24", "10.2.0.0/24"
    fabrics = Fabrics(
        {
            "a": reach("10.1.0.1", ("eth1", "10.1.0.1", left)),
            "b": reach("10.1.0.2", ("eth1", "10.1.0.2", left), ("eth2", "10.2.0.2", right)),
            "c": reach("10.2.0.3", ("eth2", "10.2.0.3", right)),
        }
    )
    assert fabrics.common(("b", "c")).subnet == right
    assert fabrics.common(("a", "b", "c")) is None
    assert fabrics.shared_by(("a", "c")) == []
