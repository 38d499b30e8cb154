# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the role vllm_stack: what is refused, which labels nodes get, what operators may add."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils import _stack_options as stack
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.stacks import (
    KINDS_OF_STACK,
    group,
    model,
    options,
)


def node(name="gpu1", ready="True", gpus="8", **labels):
    """A node as kubectl tells it."""
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name} | labels},
        "status": {"conditions": [{"type": "Ready", "status": ready}], "allocatable": {"nvidia.com/gpu": gpus}},
    }


@pytest.mark.parametrize("name", KINDS_OF_STACK)
def test_every_kind_of_stack_can_be_handed_over(name):
    assert stack.stack_faults(KINDS_OF_STACK[name]) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (options(model("a" * 44)), "of 43 characters at most"),
        (options(model("Llama")), "lower-case letters"),
        (options(model(), model()), "is there twice"),
        (options(model(), model("other")), "Two models have the node port 30800"),
        (options(vllm_stack_namespace="my_models"), "vllm_stack_namespace is 'my_models'"),
        (options(model(max_replicas=1)), "no fewer at most than at least"),
        (options(model(min_replicas=0)), "Give 1 or more"),
        (options(group(ranks=15)), "15 ranks on 2 nodes"),
        (options(group(max_replicas=4)), "Groups of nodes are not scaled"),
        (options(model(accelerator="cpu", cpu_kv_gib=4)), "No image is known for engines on cpu"),
        (options(vllm_stack_cuda_image_digest="sha256:ab"), "64 hexadecimal digits"),
        (options(vllm_stack_router_tag="latest"), "another image every day"),
        (options(vllm_stack_router_logic="session"), "vllm_stack_router_session_key"),
        (options(model(source_kind="hub")), "vllm_stack_model_source: hub"),
        (options(model(config={"served_model_name": "x", "max_num_seqs": 32})), "has 32 at most"),
        (options(vllm_stack_scaling_signal="kv_cache", vllm_stack_scaling_target=1), "has 1 at most"),
        (options(vllm_stack_nodes=[]), "No node of vllm_stack_nodes may run llama"),
        (options(vllm_stack_nodes=[{"name": "a", "address": "b", "models": ["llama", "x"]}]), "names the model x"),
    ],
)
def test_what_would_not_work_is_refused(given, words):
    faults = stack.stack_faults(given)
    assert any(words in fault for fault in faults), faults


def test_a_group_that_is_not_scaled_may_have_any_most():
    assert stack.stack_faults(options(group(max_replicas=4), vllm_stack_autoscaler="none")) == []


@pytest.mark.parametrize(
    ("further", "words"),
    [
        ({"servingEngineSpec": {"modelSpec": []}}, "sets servingEngineSpec.modelSpec, which the role sets"),
        ({"servingEngineSpec": {"schedulrName": "x"}}, "Did you mean schedulerName?"),
        ({"servingEngineSpec": {"imagePullPolicy": "Always"}}, "servingEngineSpec.imagePullPolicy"),
        ({"extraObjects": [{}]}, "sets extraObjects"),
    ],
)
def test_what_an_operator_may_not_add_is_refused(further, words):
    assert any(words in fault for fault in stack.stack_faults(options(), further))


def test_what_an_operator_adds_stands_beside_the_roles_values():
    further = {
        "servingEngineSpec": {"schedulerName": "volcano"},
        "kube-prometheus-stack": {"prometheus": {"prometheusSpec": {"replicas": 2}}},
    }
    assert stack.stack_faults(options(), further) == []
    made = stack.handed_over(options(), further)
    assert made["servingEngineSpec"]["schedulerName"] == "volcano"
    assert made["servingEngineSpec"]["containerPort"] == 8000
    assert made["kube-prometheus-stack"]["prometheus"]["prometheusSpec"]["replicas"] == 2
    assert made["kube-prometheus-stack"]["prometheus"]["prometheusSpec"]["retention"] == "1d"


def test_the_mark_follows_the_values_and_nothing_else():
    marks = [stack.handed_over(given)["extraObjects"][-1] for given in (options(), options(), options(model(cpus=7)))]
    assert marks[0] == marks[1]
    assert marks[0]["data"] != marks[2]["data"]
    assert marks[0]["metadata"]["name"] == "vllm-applied"


def test_nodes_are_told_their_models_and_told_no_more():
    ours = "gpufleet.serving/model-"
    nodes = [
        node("gpu1"),
        node("gpu2", **{f"{ours}llama": "abababababab", f"{ours}gone": "1"}),
        node("stranger", **{f"{ours}llama": "1"}),
    ]
    assert stack.label_changes(options(), nodes) == [
        {"node": "gpu1", "labels": [f"{ours}llama=abababababab"]},
        {"node": "gpu2", "labels": [f"{ours}gone-"]},
    ]
    again = [node(name, **{f"{ours}llama": "abababababab"}) for name in ("gpu1", "gpu2")]
    assert stack.label_changes(options(), again) == []


def test_without_models_no_node_keeps_a_label():
    labelled = node("stranger", **{"gpufleet.serving/model-llama": "1"})
    none = {"vllm_stack_models": [], "vllm_stack_nodes": []}
    assert stack.label_changes(none, [labelled]) == [{"node": "stranger", "labels": ["gpufleet.serving/model-llama-"]}]


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([node("gpu1")], "The cluster has no node gpu2; it has gpu1."),
        ([node("gpu1"), node("gpu2", ready="False")], "The node gpu2 is not ready."),
        ([node("gpu1"), node("gpu2", gpus="2")], "gpu2 offers 2 nvidia.com/gpu, and a pod takes 4"),
        ([], "it has none"),
    ],
)
def test_a_node_that_cannot_run_its_pods_is_named(nodes, words):
    assert any(words in fault for fault in stack.node_faults(options(), nodes))


def test_nodes_that_can_are_not():
    assert stack.node_faults(options(), [node("gpu1"), node("gpu2")]) == []
