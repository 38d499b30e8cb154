# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils import _inventory

GROUPS = {"all": ["a", "b", "g", "x"], "gpu_nodes": ["b", "a"], "gateways": ["g", "a"]}


def hostvars(**changes):
    variables = {
        "a": {"ansible_host": "192.0.2.1"},
        "b": {"ansible_host": "b.example.org", "fleet_gpus": [{"model": "L4-24GB", "count": 1}]},
        "g": {"ansible_host": "g", "fleet_address": "192.0.2.9"},
        "x": {},
    }
    for name, more in changes.items():
        variables[name] = {**variables[name], **more}
    return variables


def test_hosts_are_those_of_the_fleets_groups_with_all_their_groups():
    hosts = _inventory.fleet_hosts(hostvars(), GROUPS)
    assert {name: host["groups"] for name, host in hosts.items()} == {
        "a": ["gpu_nodes", "gateways"],
        "b": ["gpu_nodes"],
        "g": ["gateways"],
    }


@pytest.mark.parametrize(
    "variables, address",
    [
        ({"ansible_host": "192.0.2.1"}, "192.0.2.1"),
        ({"ansible_host": "2001:db8::1"}, "2001:db8::1"),
        ({"ansible_host": "gpu1.example.org"}, None),
        ({"ansible_host": "gpu1", "fleet_address": "10.0.0.1"}, "10.0.0.1"),
        ({}, None),
    ],
)
def test_address_is_what_is_stated_or_an_ip_that_ansible_reaches(variables, address):
    assert _inventory.fleet_hosts({"h": variables}, {"gpu_nodes": ["h"]})["h"]["address"] == address


@pytest.mark.parametrize(
    "answer, reachable, has_facts",
    [
        (None, None, False),
        ({"unreachable": True, "msg": "timed out"}, False, False),
        ({"host": {"kernel": "6.1"}, "gpus": [], "state": "no_gpu"}, True, True),
    ],
)
def test_reachability_follows_the_answer_of_gpu_info(answer, reachable, has_facts):
    variables = {"h": {} if answer is None else {"survey_gpu_info": answer}}
    host = _inventory.fleet_hosts(variables, {"gpu_nodes": ["h"]})["h"]
    assert host["reachable"] is reachable
    assert (host["facts"] is not None) is has_facts


@pytest.mark.parametrize("contact, asked", [("never", []), ("always", ["a", "b", "g"]), ("auto", ["a"])])
def test_auto_asks_only_gpu_nodes_whose_devices_nobody_stated(contact, asked):
    assert _inventory.to_contact(_inventory.fleet_hosts(hostvars(), GROUPS), contact) == asked


def test_a_cpu_host_with_stated_kv_space_needs_no_asking():
    hosts = _inventory.fleet_hosts({"h": {"fleet_cpu_kv_gib": 1}}, {"gpu_nodes": ["h"]})
    assert _inventory.to_contact(hosts, "auto") == []


def test_applied_leaves_out_hosts_without_an_answer():
    about_the_host = {"roles": {"serve": {"share": "s", "options": {}}}, "replicas": {}, "measured": {"tiny-0": {}}}
    told = {**about_the_host, "plan": {"id": "p"}, "problems": []}
    previous = _inventory.applied(
        {"a": {"survey_applied": told}, "b": {"survey_applied": {"skipped": True}}}, ["a", "b"]
    )
    assert previous == {"hosts": {"a": about_the_host}, "plan": {"id": "p"}}


def test_each_kind_of_source_is_read_where_it_is():
    hosts = _inventory.fleet_hosts(hostvars(a={"survey_gpu_info": {"host": {}}}), GROUPS)
    models = [
        {"name": "hub", "source": "org/name", "revision": "0" * 40},
        {"name": "unpinned", "source": "org/name"},
        {"name": "beside", "source": "controller:weights"},
        {"name": "elsewhere", "source": "controller:/srv/weights"},
        {"name": "there", "source": "/srv/models/x"},
    ]
    assert _inventory.shape_requests(models, hosts, "/inv/") == [
        {"name": "hub", "on": "localhost", "hub": "org/name", "revision": "0" * 40},
        {"name": "unpinned", "on": "localhost", "hub": "org/name"},
        {"name": "beside", "on": "localhost", "path": "/inv/weights"},
        {"name": "elsewhere", "on": "localhost", "path": "/srv/weights"},
        {"name": "there", "on": "a", "path": "/srv/models/x"},
    ]
    bundled = _inventory.shape_requests(models, hosts, "/inv/", "/srv/bundle")
    assert [request.get("path") for request in bundled[2:]] == [
        "/srv/bundle/models/beside",
        "/srv/bundle/models/elsewhere",
        "/srv/models/x",
    ]


@pytest.mark.parametrize(
    "models", [None, "text", [None], [{}], [{"name": 1, "source": "a/b"}], [{"name": "x", "source": ["y"]}]]
)
def test_malformed_models_ask_for_nothing_and_are_left_to_the_planner(models):
    assert _inventory.shape_requests(models, {}, "/inv") == []


def test_shapes_carry_the_modules_words_where_there_is_no_shape():
    answers = [
        {"item": {"name": "good"}, "shape": {"weight_bytes": 5}, "content_id": "sha256:1"},
        {"item": {"name": "bad"}, "failed": True, "msg": "/x holds no config.json"},
    ]
    assert _inventory.shapes(answers) == {
        "good": {"shape": {"weight_bytes": 5}, "content_id": "sha256:1", "weight_bytes": 5, "error": None},
        "bad": {"shape": None, "content_id": None, "weight_bytes": None, "error": "/x holds no config.json"},
    }
