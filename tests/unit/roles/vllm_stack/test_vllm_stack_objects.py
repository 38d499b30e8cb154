# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every object that the role can hand over keeps to its schema, and each of its keys misspelt does not."""

from __future__ import annotations

import copy
import json

import pytest
from ansible.template import trust_as_template
from ansible_collections.gpufleet.serving.plugins.filter.bundle import FilterModule as BundleFilters
from ansible_collections.gpufleet.serving.plugins.plugin_utils import _stack_objects
from ansible_collections.gpufleet.serving.plugins.plugin_utils._stack_options import handed_over, helm_chart
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.stacks import KINDS_OF_STACK, group, options
from ansible_collections.gpufleet.serving.tests.unit.roles import role_variables
from ansible_collections.gpufleet.serving.tests.unit.roles.vllm_stack.kubernetes_objects import faults

CHART = {"name": "vllm-stack", "version": "0.1.12", "repository": "https://charts.example.org", "archive": ""}
LABELS = {
    *(f"app.kubernetes.io/{word}" for word in ("name", "instance", "component", "part-of")),
    *(f"pod-security.kubernetes.io/{mode}" for mode in ("enforce", "warn")),
    *("kubernetes.io/metadata.name", "environment", "release"),
}
RESOURCES = {"cpu", "memory", "nvidia.com/gpu"}
WORDS_THAT_ARE_READ = {
    **dict.fromkeys(("labels", "matchLabels", "selector"), LABELS),
    **dict.fromkeys(("requests", "limits"), RESOURCES),
    "data": {"values"},
    "stringData": {"key"},
}
"""Mappings whose keys Kubernetes leaves to everybody, each with those that something reads: the chart's own selectors,
Kubernetes itself, the engines' pods, the role."""


def objects(name):
    """Every object of a stack: the chart's extra ones, and the HelmChart that carries them all."""
    values = handed_over(KINDS_OF_STACK[name])
    return [*values["extraObjects"], helm_chart(values, "vllm", CHART, "vllm", 600)]


def objects_around():
    """What is there besides a stack: its namespace, a secret, and the charts that make kinds."""
    key = {"vllm_stack_engine_key": "k" * 24, "item": {"item": "engine-key-0123456789"}}
    made = role_variables.templar("vllm_stack", (BundleFilters,), key)
    made.available_variables["__vllm_stack_secrets"] = {"engine-key-0123456789": "k" * 24}
    secret = (role_variables.ROLES / "vllm_stack/templates/secret.json.j2").read_text(encoding="utf-8")
    found = [made.template(trust_as_template(text)) for text in ("{{ __vllm_stack_namespace_object }}", secret)]
    charts = made.template(trust_as_template("{{ __vllm_stack_charts }}"))
    kinds = [helm_chart({}, name, charts[name], name, 600) for name in ("keda", "lws")]
    plugin = CHART | {"name": "nvidia-device-plugin"}
    device_plugin = helm_chart({"runtimeClassName": "nvidia"}, plugin["name"], plugin, plugin["name"], 300)
    return [json.loads(one) if isinstance(one, str) else one for one in found] + [*kinds, device_plugin]


def keys(value, path=()):
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key)
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


def unread(found):
    """The keys of everybody's choice that nothing reads."""
    return [path for path in keys(found) if path[-1] not in WORDS_THAT_ARE_READ.get((None, *path)[-2], {path[-1]})]


def missed(found):
    """The keys that could be misspelt without anybody's noticing."""
    made = ((one, path, misspelt(one, path)) for one in found for path in keys(one))
    return [(one["kind"], path) for one, path, wrong in made if not faults(wrong) and not unread(wrong)]


@pytest.mark.parametrize("name", KINDS_OF_STACK)
def test_every_object_keeps_to_its_schema(name):
    assert {
        found["kind"]: faults(found) + unread(found) for found in objects(name) if faults(found) + unread(found)
    } == {}


@pytest.mark.parametrize("name", KINDS_OF_STACK)
def test_each_key_misspelt_breaks_it(name):
    assert missed(objects(name)) == []


def test_so_it_is_with_what_is_there_besides():
    found = objects_around()
    assert [one["kind"] for one in found] == ["Namespace", "Secret", "HelmChart", "HelmChart", "HelmChart"]
    assert {one["kind"]: faults(one) + unread(one) for one in found if faults(one) + unread(one)} == {}
    assert missed(found) == []


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
