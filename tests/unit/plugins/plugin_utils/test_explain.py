# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._explain import (
    WIDTH,
    endpoint,
    held,
    measured,
    refusals,
    table,
    url,
    verified,
)
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils import examples, fleets


def restarted(**settings):
    """The demo after a change of its one model."""
    before = fleets.planned(**fleets.demo())
    changed = [fleets.demo()["models"][0] | {"max_num_seqs": 8}]
    asked = {"gateway_key_names": ["demo"]} | settings
    return fleets.planned(**fleets.demo(models=changed, previous=fleets.applied(before), settings=asked))


def refused():
    models = [fleets.model("Tiny Model", sorce="x"), fleets.model(tensor_parallel_size=3)]
    return fleets.planned(**fleets.demo(models=models, settings={}))


@pytest.mark.parametrize(
    "plan", [*map(examples.example, examples.NAMES), restarted(), restarted(allow_restart=True), refused()]
)
def test_every_line_fits_the_terminal(plan):
    for text in (table(plan), refusals(plan), held(plan), endpoint(plan)):
        assert max(len(line) for line in [*text.splitlines(), ""]) <= WIDTH
        assert not any(line != line.rstrip() for line in text.splitlines())


def test_a_long_word_of_an_operator_does_not_break_the_table():
    name = "m" * 57
    made = fleets.planned(
        models=[fleets.model(name, source=f"/srv/{'x' * 300}", max_model_len=4096)],
        hosts={"host-" + "h" * 60: fleets.gpu_host(1)},
        shapes={name: fleets.shape()},
        settings=fleets.PUBLIC,
    )
    assert name in table(made)
    assert max(map(len, table(made).splitlines())) <= WIDTH


def test_all_refusals_stand_together_with_their_remedies():
    text = refusals(refused())
    assert text.startswith("Refused: 5 things to put right first; no host was changed\n")
    for words in (
        '"Tiny Model", which is no DNS label  [bad_name]',
        "-> did you mean source?",
        "-> or say gateway_public: true, to serve without keys",
        "tensor_parallel_size 3 does not divide its 4 attention heads",
    ):
        assert words in text


def test_a_plan_that_can_be_applied_says_nothing_of_refusals():
    assert refusals(examples.example("demo")) == ""
    assert held(examples.example("demo")) == ""


def test_held_replicas_are_named_with_what_to_say():
    text = held(restarted())
    assert text.splitlines()[0] == "Held: 2 replicas left alone, everything else is carried out"
    assert "tiny-0: it serves, and its unit would change: max_num_seqs from unset to 8" in text
    assert "\n     -> say fleet_allow_restart=true" in text


def test_changes_are_listed_in_their_order():
    lines = table(restarted(allow_restart=True)).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("Changes"))
    assert lines[start] == "Changes   2 restarted"
    assert [line.split()[1:4] for line in lines[start + 2 : start + 8]] == [
        ["drain", "tiny-0", "node1"],
        ["stop", "tiny-0", "node1"],
        ["start", "tiny-0", "node1"],
        ["drain", "tiny-1", "node2"],
        ["stop", "tiny-1", "node2"],
        ["start", "tiny-1", "node2"],
    ]


def test_a_fleet_at_its_plan_says_so():
    before = fleets.planned(**fleets.demo())
    again = fleets.planned(**fleets.demo(previous=fleets.applied(before)))
    assert "Changes   none (2 untouched)" in table(again)


def test_a_large_fleet_is_cut_short_and_counted():
    hosts = {
        f"gpu{number}": fleets.gpu_host(number % 250, address=f"10.1.{number // 250}.{number % 250}")
        for number in range(300)
    }
    made = fleets.planned(models=[fleets.model()], hosts=hosts, shapes={"tiny": fleets.shape()}, settings=fleets.PUBLIC)
    assert "... and 260 more in plan.json" in table(made)


def test_the_way_in_names_every_model_and_where_the_key_is():
    text = endpoint(examples.example("replicas"))
    assert "https://192.0.2.10/v1 " in text
    assert "/m/llama-8b/v1" in text
    assert "gateway_keys" in text
    assert "curl -N --cacert .secrets/ca.crt https://" in text
    assert "--cacert /srv/ca.crt " in endpoint(examples.example("replicas"), ca_path="/srv/ca.crt")


@pytest.mark.parametrize(
    ("settings", "address", "expected"),
    [
        ({}, "10.0.0.10", "https://10.0.0.10/m/tiny/v1"),
        ({"gateway_port": 8443}, "10.0.0.10", "https://10.0.0.10:8443/m/tiny/v1"),
        ({"gateway_tls": "off"}, "10.0.0.10", "http://10.0.0.10/m/tiny/v1"),
        ({}, "fd00::1", "https://[fd00::1]/m/tiny/v1"),
    ],
)
def test_the_root_of_a_models_api(settings, address, expected):
    inputs = fleets.demo(settings={"gateway_key_names": ["demo"]} | settings)
    inputs["hosts"]["gw"]["address"] = address
    assert url(fleets.planned(**inputs), "tiny") == expected


def test_without_an_endpoint_there_is_no_way_in():
    nothing = fleets.planned(models=[], hosts={}, shapes={})
    assert endpoint(nothing) == "There is no endpoint: nothing is served."
    with pytest.raises(ValueError, match="no endpoint for tiny"):
        url(nothing, "tiny")


def test_an_unknown_model_has_no_root():
    with pytest.raises(ValueError, match="no endpoint for other: it has tiny"):
        url(examples.example("demo"), "other")


def test_what_came_through_the_front_door_is_shown_model_by_model():
    made = fleets.planned(**fleets.demo())
    answers = [{"text": "lo and behold", "events": 16, "first_token_s": 0.123, "total_s": 0.9}]
    state = copy.deepcopy(fleets.applied(made)["hosts"])
    text = verified(made, answers, state)
    assert "first 0.12 s, all 0.90 s" in text
    assert "lo and behold" in text
    assert "Replicas that answer: 2 of 2" in text
    state["node2"]["replicas"]["tiny-1"]["live"] = False
    assert verified(made, answers, state).endswith("Replicas that answer: 1 of 2\n  silent: tiny-1")


def test_what_silent_replicas_wait_for_and_the_members_of_groups_are_shown():
    models = [fleets.model(tensor_parallel_size=2, replica_count=1)]
    hosts = {"node1": fleets.cpu_host(1, 1), "node2": fleets.cpu_host(2, 1)}
    made = fleets.planned(**fleets.demo(models=models, hosts=hosts))
    state = copy.deepcopy(fleets.applied(made)["hosts"])
    state["node1"]["replicas"]["tiny-0"]["guard"] = {"state": "serving", "reason": "epoch 3", "epoch": 3}
    text = verified(made, [{}], state)
    assert "group: tiny-0 on node1 serving (epoch 3), node2 unknown" in text
    assert "silent" not in text
    waits = {"state": "quarantined", "reason": "6 failures", "epoch": 3}
    state["node1"]["replicas"]["tiny-0"] |= {"live": False, "guard": waits}
    assert "silent: tiny-0: node1 quarantined (6 failures)" in verified(made, [{}], state)


def test_what_engines_have_stands_beside_what_was_predicted():
    made = fleets.planned(**fleets.demo())
    told = {"kv_blocks": 8192, "block_size": 128}
    short = {"kv_blocks": 4096, "block_size": 128, "weights_gib": 0.01}
    text = measured(made, [{"figures": {"tiny-0": told}, "silent": {}}, {"figures": {"tiny-1": short}, "silent": {}}])
    _title, headers, first, second = text.splitlines()
    assert headers.split() == ["replica", "host", "KV", "blocks", "measured", "weights", "GiB", "measured"]
    assert first.split() == ["tiny-0", "node1", "8,192", "8,192", "+0.0%", "0.00", "-"]
    assert second.split()[:6] == ["tiny-1", "node2", "8,192", "4,096", "-50.0%", "0.00"]


def test_engines_that_do_not_tell_are_named():
    made = fleets.planned(**fleets.demo())
    answers = [{"skipped": True}, {"figures": {}, "silent": {"tiny-0": "gpufleet-tiny-0.service is failed"}}]
    assert measured(made, answers) == "Not measured\n  tiny-0: gpufleet-tiny-0.service is failed"
    assert measured(made, [{"skipped": True}]) == "No replica runs that could be measured."


def test_a_plan_shows_the_figures_that_are_known():
    made = dict(fleets.planned(**fleets.demo()), measured={"tiny-0": {"kv_blocks": 8000}})
    assert "Predicted beside measured" in table(made)
    assert "-2.3%" in table(made)
