# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tier 5: how far models may scale, what is kept, what is refused, and the way between systemd and Kubernetes."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils import fleets

SERVER = {"server": fleets.host(1, "k3s_servers")}


def agents(*numbers, **words):
    return {f"gpu{n}": fleets.gpu_host(10 + n, groups="gpu_nodes k3s_agents", **words) for n in numbers}


def inputs(*models, hosts=None, **changes):
    given = list(models) or [fleets.model(tensor_parallel_size=4)]
    return {
        "models": given,
        "hosts": SERVER | (hosts or agents(1, 2)),
        "shapes": {model["name"]: fleets.shape() for model in given},
        "settings": fleets.PUBLIC,
    } | changes


def stack(made):
    return made["shares"]["server"]["vllm_stack"]


def bounds(made):
    return {model["name"]: (model["min_replicas"], model["max_replicas"]) for model in made["models"]}


def test_what_is_free_is_dealt_out():
    assert bounds(fleets.planned(**inputs())) == {"tiny": (1, 4)}


def test_models_take_turns_and_stated_ones_come_first():
    models = [
        fleets.model("a", tensor_parallel_size=4),
        fleets.model("b", tensor_parallel_size=2),
        fleets.model("c", tensor_parallel_size=1, max_replica_count=2),
    ]
    made = fleets.planned(**inputs(*models))
    assert bounds(made) == {"a": (1, 2), "b": (1, 3), "c": (1, 2)}
    assert sum(entry["max_replicas"] * entry["ranks"] for entry in stack(made)["vllm_stack_models"]) == 16


def test_kubernetes_has_the_places_and_the_counts():
    made = fleets.planned(**inputs())
    assert (made["tier"], made["replicas"], made["models"][0]["replica_count"]) == (5, [], None)
    assert all(device["free"] for host in made["hosts"].values() for device in host["devices"])


def test_a_replica_over_nodes_is_a_group_that_is_not_scaled():
    asked = fleets.model(tensor_parallel_size=4, pipeline_parallel_size=4)
    made = fleets.planned(**inputs(asked, hosts=agents(1, 2, 3, 4)))
    (entry,) = stack(made)["vllm_stack_models"]
    assert (entry["ranks"], entry["nodes"], entry["max_replicas"]) == (16, 2, 1)
    assert "nnodes" not in entry["config"]
    again = fleets.planned(**inputs(asked, hosts=agents(1, 2, 3, 4), previous=fleets.applied(made)))
    assert (again["id"], again["held"]) == (made["id"], [])
    codes = fleets.refusals(**inputs(asked | {"max_replica_count": 2}, hosts=agents(1, 2, 3, 4)))
    assert "group_not_scaled" in codes


def test_every_node_has_the_weights_and_the_gateway_every_node():
    made = fleets.planned(**inputs(fleets.model(source="controller:tiny", tensor_parallel_size=4)))
    (entry,) = stack(made)["vllm_stack_models"]
    for name in ("gpu1", "gpu2"):
        (stored,) = made["shares"][name]["model_store"]["model_store_models"]
        assert stored["path"] == entry["source"]
    assert "model_store" not in made["shares"]["server"]
    (served,) = made["shares"]["server"]["gateway"]["gateway_models"]
    places = [(upstream["address"], upstream["port"]) for upstream in served["upstreams"]]
    assert places == [("10.0.0.11", 30800), ("10.0.0.12", 30800), ("10.0.0.1", 30800)]


def test_pods_of_a_hub_need_nothing_of_the_store():
    model = fleets.model(source="org/tiny", revision=fleets.REVISION, tensor_parallel_size=4)
    made = fleets.planned(**inputs(model, settings=fleets.PUBLIC))
    (entry,) = stack(made)["vllm_stack_models"]
    assert (entry["source_kind"], entry["source"], entry["revision"]) == ("hub", "org/tiny", fleets.REVISION)
    assert not [name for name, roles in made["shares"].items() if "model_store" in roles]


@pytest.mark.parametrize(
    ("words", "further", "code"),
    [
        ({}, {"gpu2": fleets.gpu_host(12)}, "not_in_cluster"),
        ({}, {"server2": fleets.host(2, "k3s_servers")}, "even_servers"),
        ({}, {"GPU_2": fleets.gpu_host(12, groups="gpu_nodes k3s_agents")}, "bad_node_name"),
        ({"max_replica_count": 40}, {}, "not_enough_devices"),
        ({"replica_count": 3, "max_replica_count": 2}, {}, "too_few_replicas"),
    ],
)
def test_what_kubernetes_cannot_run_is_refused(words, further, code):
    assert code in fleets.refusals(**inputs(fleets.model(**words), hosts=agents(1) | further))


def test_a_name_too_long_for_its_objects_is_refused():
    model = fleets.model("a" * 44)
    assert "name_too_long" in fleets.refusals(**inputs(model))


def test_a_server_that_does_not_answer_leaves_nobody_to_hand_over():
    hosts = {"server": fleets.host(1, "k3s_servers", reachable=False)} | agents(1)
    codes = fleets.refusals(**inputs(hosts=hosts, settings=fleets.PUBLIC | {"allow_unreachable": True}))
    assert "no_server" in codes


def test_an_agent_that_does_not_answer_is_left_out():
    hosts = agents(1) | {"gpu2": fleets.gpu_host(12, groups="gpu_nodes k3s_agents", reachable=False)}
    made = fleets.planned(**inputs(hosts=hosts, settings=fleets.PUBLIC | {"allow_unreachable": True}))
    assert bounds(made) == {"tiny": (1, 2)}
    assert [node["name"] for node in stack(made)["vllm_stack_nodes"]] == ["gpu1", "server"]
    assert stack(made)["vllm_stack_servers"] == ["server"]


def test_a_second_run_changes_nothing():
    before = fleets.planned(**inputs())
    again = fleets.planned(**inputs(previous=fleets.applied(before)))
    assert again["id"] == before["id"]
    assert again["diff"]["untouched"] == ["tiny"]
    assert again["held"] == []


def test_pods_that_would_change_are_held_until_that_is_allowed():
    before = fleets.planned(**inputs())
    changed = inputs(fleets.model(tensor_parallel_size=2), previous=fleets.applied(before))
    held = fleets.planned(**changed)
    assert [item["replica"] for item in held["held"]] == ["tiny"]
    assert "config" in held["held"][0]["reason"]
    assert stack(held)["vllm_stack_models"] == stack(before)["vllm_stack_models"]
    allowed = fleets.planned(**changed | {"settings": fleets.PUBLIC | {"allow_restart": True}})
    assert allowed["held"] == []
    assert stack(allowed)["vllm_stack_models"][0]["ranks"] == 2
    assert allowed["diff"]["restarted"] == ["tiny"]


def three_servers(*silent):
    return {
        f"server{n}": fleets.host(n, "k3s_servers", **({"reachable": False} if n in silent else {})) for n in (1, 2, 3)
    }


def handing_over(made):
    """Host -> the turn, of servers that hand models over, and the host that follows them, of those that leave it."""
    stacks = {host: roles["vllm_stack"] for host, roles in made["shares"].items() if "vllm_stack" in roles}
    return {
        host: given["vllm_stack_turn"] if given["vllm_stack_models"] else given["vllm_stack_successor"]
        for host, given in stacks.items()
    }


def test_one_server_hands_over_and_goes_on_when_one_before_it_is_back():
    def planned(*silent, **words):
        settings = fleets.PUBLIC | {"allow_unreachable": True}
        return fleets.planned(**inputs(hosts=agents(1, 2), settings=settings) | words | {"hosts": nodes(*silent)})

    def nodes(*silent):
        return agents(1, 2) | three_servers(*silent)

    before = planned()
    assert handing_over(before) == {"server1": 1}
    alone = planned(1, previous=fleets.applied(before))
    assert handing_over(alone) == {"server2": 2}
    assert alone["held"] == []
    both = fleets.applied(alone)
    both["hosts"]["server1"] = fleets.applied(before)["hosts"]["server1"]
    assert handing_over(planned(previous=both)) == {"server1": "server2", "server2": 2}


def test_what_runs_is_what_was_handed_over_last():
    wanted = inputs(fleets.model(tensor_parallel_size=4)) | {"hosts": agents(1, 2) | three_servers()}
    old = fleets.planned(**wanted | {"models": [fleets.model(tensor_parallel_size=2)]})
    new = fleets.planned(**wanted)
    stale, latest = (made["shares"]["server1"]["vllm_stack"] for made in (old, new))
    for first, second in (("server1", "server3"), ("server3", "server1")):
        applied = fleets.applied(new)
        for host, options, share in ((first, stale, "0" * 16), (second, latest | {"vllm_stack_turn": 2}, "1" * 16)):
            applied["hosts"][host]["roles"]["vllm_stack"] = {"options": options, "share": share}
        made = fleets.planned(**wanted | {"previous": applied})
        assert made["held"] == []
        assert handing_over(made) == {first: second, second: 2}


def test_bounds_move_without_a_word():
    before = fleets.planned(**inputs())
    after = fleets.planned(**inputs(hosts=agents(1, 2, 3), previous=fleets.applied(before)))
    assert bounds(after) == {"tiny": (1, 6)}
    assert after["held"] == []


def test_an_applied_layout_is_kept_where_another_would_be_chosen():
    first = inputs(fleets.model(tensor_parallel_size=2))
    before = fleets.planned(**first)
    after = fleets.planned(**inputs(fleets.model(), previous=fleets.applied(before)))
    assert stack(after)["vllm_stack_models"][0]["ranks"] == 2


def test_a_port_stays_with_its_model():
    two = [fleets.model("a", tensor_parallel_size=4), fleets.model("b", tensor_parallel_size=4)]
    before = fleets.planned(**inputs(*two))
    after = fleets.planned(**inputs(fleets.model("c", tensor_parallel_size=4), two[1], previous=fleets.applied(before)))
    ports = {entry["name"]: entry["node_port"] for entry in stack(after)["vllm_stack_models"]}
    assert ports == {"b": 30801, "c": 30802}
    assert after["diff"]["removed"] == ["a"]


def test_moving_to_kubernetes_must_be_allowed_and_clears_the_hosts_first():
    hosts = agents(1, 2)
    under_systemd = {"settings": fleets.PUBLIC | {"tier": 4}}
    before = fleets.planned(**inputs(hosts=hosts) | under_systemd)
    assert before["replicas"]
    move = inputs(hosts=hosts, previous=fleets.applied(before))
    assert "tier_change" in fleets.refusals(**move)
    made = fleets.planned(**move | {"settings": fleets.PUBLIC | {"allow_tier_change": True}})
    assert [step["action"] for step in made["steps"]] == ["drain", "remove"]
    assert made["shares"]["gpu1"]["serve"]["serve_units"] == []


def test_moving_back_takes_the_release_away():
    before = fleets.planned(**inputs())
    back = inputs(previous=fleets.applied(before), settings=fleets.PUBLIC | {"tier": 4})
    assert "tier_change" in fleets.refusals(**back)
    made = fleets.planned(**back | {"settings": fleets.PUBLIC | {"tier": 4, "allow_tier_change": True}})
    assert stack(made)["vllm_stack_models"] == []
    assert made["replicas"]


def test_without_kubernetes_nothing_scales_by_itself():
    assert "only_on_kubernetes" in fleets.refusals(**fleets.demo(models=[fleets.model(max_replica_count=4)]))


def test_kubernetes_without_a_server_is_refused():
    assert "tier_too_high" in fleets.refusals(**fleets.demo(settings={"gateway_key_names": ["demo"], "tier": 5}))
