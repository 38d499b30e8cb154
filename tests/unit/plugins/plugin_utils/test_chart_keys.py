# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chart's keys: every kind of stack has only known ones, and every misspelling and tutorial's mistake is found."""

from __future__ import annotations

import copy

import pytest
import yaml
from ansible_collections.gpufleet.serving.plugins.plugin_utils._chart_keys import chart_faults
from ansible_collections.gpufleet.serving.plugins.plugin_utils._stack_options import handed_over
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.stacks import KINDS_OF_STACK

TUTORIAL = yaml.safe_load("""
servingEngineSpec:
  modelSpec:
    - name: llama3-70b
      repository: meta-llama/Meta-Llama-3-70B-Instruct
      tensorParallelSize: 4
      replicaCount: 2
      resources:
        limits:
          nvidia.com/gpu: 4
""")
"""What is found on the web for this chart."""

FREE = {"labels", "extraObjects"}
"""Mappings whose keys anybody may choose, and objects of Kubernetes, which have schemas of their own."""


def paths(value, path=()):
    """The place of every key at any depth, but in what is free."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key)
            if key not in FREE:
                yield from paths(item, (*path, key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from paths(item, (*path, position))


def misspelt(values, path):
    """The values with the two last letters of one key swapped, or one dropped where they are the same."""
    changed = copy.deepcopy(values)
    place = changed
    for step in path[:-1]:
        place = place[step]
    key = path[-1]
    other = key[:-2] + key[-1] + key[-2]
    place[other if other != key else key[:-1]] = place.pop(key)
    return changed


@pytest.mark.parametrize("name", KINDS_OF_STACK)
def test_every_kind_of_stack_has_only_keys_that_the_chart_knows(name):
    assert chart_faults(handed_over(KINDS_OF_STACK[name])) == []


@pytest.mark.parametrize("name", KINDS_OF_STACK)
def test_each_key_misspelt_is_found(name):
    values = handed_over(KINDS_OF_STACK[name])
    found = [path for path in paths(values) if not {"matchLabels"} & set(path[:-1])]
    assert len(found) > 80
    assert [path for path in found if not chart_faults(misspelt(values, path))] == []


def test_a_tutorials_model_is_refused_with_what_is_right():
    faults = "\n".join(chart_faults(TUTORIAL))
    assert "modelSpec[0].tensorParallelSize: the chart has no such key there" in faults
    assert "It is servingEngineSpec.modelSpec[].vllmConfig.tensorParallelSize." in faults
    for key in ("tag", "modelURL"):
        assert f"servingEngineSpec.modelSpec[0].{key}: is missing, and the chart needs it." in faults
    assert "limits" not in faults, "resources.limits is a key of the chart"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tensorParallelSize": 4}, "vllmConfig.tensorParallelSize"),
        ({"modelURL": "vllm/vllm-openai"}, "takes it for the image"),
        ({"hf_token": "hf_x"}, "give a mapping"),
        ({"keda": {"enabled": True, "triggers": {"type": "prometheus"}}}, "keda.triggers: give a list"),
        ({"keda": {"enabled": True, "minReplica": 2}}, "Did you mean minReplicaCount?"),
        ({"pvcExistingClaimName": "weights"}, "has no such key there"),
        ({"requestGPU": "4"}, "requestGPU: give a whole number; there is '4'"),
        ({"replicaCount": True}, "replicaCount: give a whole number; there is True"),
        ({"replicas": 2}, "It is servingEngineSpec.modelSpec[].replicaCount."),
        ({"vllmConfig": {"pipelineParallelSze": 2}}, "Did you mean pipelineParallelSize?"),
    ],
)
def test_what_tutorials_get_wrong_is_refused(change, words):
    values = handed_over(KINDS_OF_STACK["keda"])
    values["servingEngineSpec"]["modelSpec"][0] |= change
    faults = chart_faults(values)
    assert any(words in fault for fault in faults), faults


@pytest.mark.parametrize(
    "values", [None, [], "text", {"servingEngineSpec": []}, {"servingEngineSpec": {"modelSpec": {}}}]
)
def test_values_of_another_form_are_faults_and_no_errors(values):
    assert len(chart_faults(values)) == 1


def test_the_key_of_another_chart_is_refused():
    assert chart_faults({"modelSpec": []}) == [
        "modelSpec: the chart has no such key there, and would pass over it. It is servingEngineSpec.modelSpec."
    ]
