# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every object that the role can hand over keeps to its schema, and each of its keys misspelt does not."""

from __future__ import annotations

import copy
import json

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils import _stack_objects
from ansible_collections.gpufleet.serving.plugins.plugin_utils._stack_options import handed_over, helm_chart
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.stacks import KINDS_OF_STACK, group, options
from ansible_collections.gpufleet.serving.tests.unit.roles.vllm_stack.kubernetes_objects import faults

CHART = {"name": "vllm-stack", "version": "0.1.12", "repository": "https://charts.example.org", "archive": ""}
CHOSEN_KEYS = {"labels", "matchLabels", "selector", "data", "requests", "limits"}
"""Mappings whose keys anybody may choose. That labels meet selectors is seen on the rendered chart."""


def objects(name):
    """Every object of a stack: the chart's extra ones, and the HelmChart that carries them all."""
    values = handed_over(KINDS_OF_STACK[name])
    return [*values["extraObjects"], helm_chart(values, "vllm", CHART, "vllm", 600)]


def keys(value, path=()):
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key)
            if key not in CHOSEN_KEYS:
                yield from keys(item, (*path, key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from keys(item, (*path, position))


def misspelt(found, path):
    changed = copy.deepcopy(found)
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[f"{path[-1]}x"] = place.pop(path[-1])
    return changed


@pytest.mark.parametrize("name", KINDS_OF_STACK)
def test_every_object_keeps_to_its_schema(name):
    assert {found["kind"]: faults(found) for found in objects(name) if faults(found)} == {}


@pytest.mark.parametrize("name", ["hpa", "keda", "over nodes"])
def test_each_key_misspelt_breaks_it(name):
    missed = [
        (found["kind"], path) for found in objects(name) for path in keys(found) if not faults(misspelt(found, path))
    ]
    assert missed == []


def test_two_objects_never_have_one_name():
    for name in KINDS_OF_STACK:
        names = [(found["kind"], found["metadata"]["name"]) for found in objects(name)]
        assert len(names) == len(set(names))


def test_only_the_leader_of_a_group_answers():
    (found,) = [o for o in handed_over(KINDS_OF_STACK["over nodes"])["extraObjects"] if o["kind"] == "LeaderWorkerSet"]
    template = found["spec"]["leaderWorkerTemplate"]
    leader, worker = template["leaderTemplate"], template["workerTemplate"]
    (first,), (other,) = leader["spec"]["containers"], worker["spec"]["containers"]
    assert other["args"] == [*first["args"], "--headless"]
    assert "readinessProbe" in first
    assert not [word for word in other if word.endswith("Probe")]
    service = _stack_objects.engine_labels("vllm", "giant")
    assert service.items() <= leader["metadata"]["labels"].items()
    assert not service.items() <= worker["metadata"]["labels"].items()
    assert first["resources"]["limits"] == {"nvidia.com/gpu": 8}
    assert template["size"] == 2
    words = " ".join(first["args"])
    assert "--nnodes $(LWS_GROUP_SIZE) --node-rank $(LWS_WORKER_INDEX) --master-addr $(LWS_LEADER_ADDRESS)" in words
    assert "--tensor-parallel-size 8" in words
    assert "--pipeline-parallel-size 2" in words


def test_what_the_chart_would_expand_is_kept_from_it():
    given = group(engine_args={"chat_template": "{{ messages }}"})
    (found,) = [o for o in handed_over(options(given))["extraObjects"] if o["kind"] == "LeaderWorkerSet"]
    args = found["spec"]["leaderWorkerTemplate"]["leaderTemplate"]["spec"]["containers"][0]["args"]
    assert args[args.index("--chat-template") + 1] == "{{`{{`}} messages }}"


def test_a_release_that_serves_is_never_uninstalled_by_an_upgrade():
    made = helm_chart({"a": 1}, "vllm", CHART, "vllm", 600)
    assert made["spec"]["failurePolicy"] == "abort"
    assert json.loads(made["spec"]["valuesContent"]) == {"a": 1}
    assert (made["spec"]["repo"], made["spec"]["version"]) == ("https://charts.example.org", "0.1.12")


def test_a_chart_without_a_way_out_is_the_servers_own():
    made = helm_chart({}, "vllm", CHART | {"archive": "vllm-stack-0.1.12.tgz"}, "vllm", 600)
    assert made["spec"]["chart"] == "https://%{KUBERNETES_API}%/static/charts/vllm-stack-0.1.12.tgz"
    assert not {"repo", "version"} & set(made["spec"])


def test_a_chart_of_a_registry_is_named_with_it():
    made = helm_chart(
        {}, "lws", CHART | {"name": "lws", "repository": "oci://registry.example.org/c"}, "lws-system", 60
    )
    assert (made["spec"]["chart"], made["spec"]["version"]) == ("oci://registry.example.org/c/lws", "0.1.12")
    assert "repo" not in made["spec"]
