# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.filter.perimeter import audit_table
from ansible_collections.gpufleet.serving.plugins.plugin_utils._audit import audit, audit_targets

GATEWAY, NODE, OUTSIDE = "10.0.0.9", "10.0.0.1", "192.0.2.5"
PLAN = {
    "hosts": {"gpu1": {"address": NODE}, "gw1": {"address": GATEWAY}},
    "perimeter": {
        "doors": [
            {
                "host": "gpu1",
                "first_port": 8000,
                "last_port": 8000,
                "purpose": "replica tiny-0",
                "sources": [{"name": "gw1", "address": GATEWAY}],
            },
            {"host": "gpu1", "first_port": 32768, "last_port": 60999, "purpose": "chosen", "sources": []},
            {
                "host": "gw1",
                "first_port": 9145,
                "last_port": 9145,
                "purpose": "metrics of the front door",
                "sources": [{"name": "fleet_scrapers", "address": "10.7.0.0/24"}],
            },
        ],
        "trusts": [],
    },
}
VXLAN = {
    "host": "gpu1",
    "first_port": 8472,
    "last_port": 8472,
    "purpose": "network of the pods",
    "protocol": "udp",
    "sources": [],
}
ENGINE = {"port": 8000, "pid": 7, "name": "vllm", "unit": "gpufleet-tiny-0.service", "loopback": False}


def hosts(*listeners, **more):
    return {
        "gpu1": {"address": NODE, "preflight": {"listeners": list(listeners)}, **more},
        "gw1": {"address": GATEWAY, "preflight": None},
    }


def tried(port, state, source=OUTSIDE, address=NODE):
    return {"address": address, "port": port, "state": state, "source": source}


def judged(*tries, seen=None, scanner="localhost", plan=PLAN):
    return audit(plan, seen or hosts(ENGINE), {scanner: {"tried": list(tries)}}, "localhost")


def test_what_is_planned_is_tried_and_what_engines_listen_on_besides():
    chosen = ENGINE | {"port": 41234}
    by_hand = {"port": 9000, "pid": 8, "name": "VLLM::APIServer", "unit": "session-3.scope", "loopback": False}
    ray = {"port": 6379, "pid": 9, "name": "gcs_server", "unit": None, "loopback": False}
    inside = ENGINE | {"port": 50000, "loopback": True}
    other = {"port": 22, "pid": 1, "name": "sshd", "unit": "ssh.service", "loopback": False}
    found = audit_targets(PLAN, hosts(ENGINE, chosen, by_hand, ray, inside, other))
    assert [(target["address"], target["port"]) for target in found] == [
        (NODE, 6379),
        (NODE, 8000),
        (NODE, 9000),
        (NODE, 41234),
        (GATEWAY, 9145),
    ]


def test_ports_of_udp_are_not_tried():
    over_udp = PLAN | {"perimeter": PLAN["perimeter"] | {"doors": [*PLAN["perimeter"]["doors"], VXLAN]}}
    assert audit_targets(over_udp, hosts()) == audit_targets(PLAN, hosts())


def test_a_host_does_not_try_itself_and_is_tried_where_the_controller_reaches_it_too():
    assert {target["address"] for target in audit_targets(PLAN, hosts(), "gw1")} == {NODE}
    away = {"gpu1": {"address": "198.51.100.1"}, "gw1": {"address": "gw1.example.org"}}
    assert [target["address"] for target in audit_targets(PLAN, away)] == [NODE, "198.51.100.1", GATEWAY]


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        (tried(8000, "answers"), "exposed"),
        (tried(8000, "silent"), None),
        (tried(8000, "refuses"), "unguarded"),
        (tried(8000, "answers", GATEWAY), None),
        (tried(8000, "silent", GATEWAY), "blocked"),
        (tried(8000, "refuses", GATEWAY), None),
        (tried(9145, "answers", "10.7.0.20", GATEWAY), None),
        (tried(9145, "answers", "10.8.0.20", GATEWAY), "exposed"),
        (tried(8000, "answers", "fd00::9"), "exposed"),
        (tried(8000, "silent", None), None),
    ],
)
def test_a_port_is_judged_by_where_the_try_came_from(result, verdict):
    found = judged(result)
    assert [finding["verdict"] for finding in found["findings"]] == ([verdict] if verdict else [])
    assert found["faults"] == (verdict in ("exposed", "blocked"))


def test_a_port_opened_by_hand_is_named_with_its_process():
    by_hand = {"port": 9000, "pid": 8, "name": "vllm", "unit": "session-3.scope", "loopback": False}
    found = judged(tried(9000, "answers"), seen=hosts(ENGINE, by_hand))
    (finding,) = found["findings"]
    assert finding["process"] == "vllm (session-3.scope, pid 8)" and finding["purpose"] is None
    table = audit_table(found)
    assert "1 port tried, 1 fault" in table and "gpu1" in table and "9000" in table and "vllm" in table


def test_one_finding_a_port_however_many_found_it_and_the_worst_first():
    scans = {
        "localhost": {"tried": [tried(8000, "refuses"), tried(9145, "answers", address=GATEWAY)]},
        "gpu1": {"tried": [tried(9145, "answers", NODE, GATEWAY)]},
        "gpu2": {"unreachable": True},
    }
    found = audit(PLAN, hosts(ENGINE), scans, "localhost")
    assert [(item["verdict"], item["host"], item["from"]) for item in found["findings"]] == [
        ("exposed", "gw1", ["gpu1", "localhost"]),
        ("unguarded", "gpu1", ["localhost"]),
    ]
    assert (found["faults"], found["tried"]) == (1, 3)


def test_a_member_of_the_group_reaches_everything_and_others_do_not():
    trust = {
        "host": "gpu1",
        "interface": "ib0",
        "purpose": "replica big-0",
        "sources": [{"name": "gpu2", "address": "10.0.0.2"}],
    }
    plan = PLAN | {"perimeter": PLAN["perimeter"] | {"trusts": [trust]}}
    chosen = hosts(ENGINE, ENGINE | {"port": 41234})
    assert judged(tried(41234, "answers", "10.0.0.2"), seen=chosen, plan=plan)["faults"] == 0
    assert judged(tried(41234, "answers", "10.0.0.3"), seen=chosen, plan=plan)["faults"] == 1


def test_a_look_from_inside_is_no_look_from_outside():
    assert judged(tried(8000, "silent"))["not_outside"] == []
    assert judged(tried(8000, "silent", GATEWAY))["not_outside"] == ["gw1"]
    assert judged(tried(8000, "silent", GATEWAY), scanner="gw1")["not_outside"] == []
