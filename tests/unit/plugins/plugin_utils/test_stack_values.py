# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The values of the chart: the engine's command, its place, its secrets, and who counts the pods."""

from __future__ import annotations

import json

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._stack_values import flags, stack_values
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.stacks import (
    KINDS_OF_STACK,
    group,
    model,
    options,
)


def spec(given):
    (made,) = stack_values(given)["servingEngineSpec"]["modelSpec"]
    return made


def test_the_model_the_image_and_the_sizes_stand_where_the_chart_looks():
    made = spec(options())
    assert (made["repository"], made["tag"]) == ("vllm/vllm-openai", "v0.33.0")
    assert made["modelURL"] == "/var/lib/gpufleet/models/llama/abababababab"
    assert made["requestGPU"] == 4
    assert made["vllmConfig"]["tensorParallelSize"] == 4
    assert made["vllmConfig"]["maxModelLen"] == 8192
    assert made["vllmConfig"]["enablePrefixCaching"] is True
    words = made["vllmConfig"]["extraArgs"]
    assert words[words.index("--served-model-name") + 1] == "org/llama"
    assert words[words.index("--shutdown-timeout") + 1] == "20"
    assert "--tensor-parallel-size" not in words


def test_an_image_is_pinned_where_a_digest_is_given():
    assert spec(KINDS_OF_STACK["pinned image"])["tag"] == "v0.33.0@sha256:" + "ab" * 32


def test_weights_of_the_nodes_are_read_and_never_written():
    made = spec(options())
    (volume,), (mount,) = made["extraVolumes"], made["extraVolumeMounts"]
    assert volume["hostPath"] == {"path": made["modelURL"], "type": "Directory"}
    assert (mount["mountPath"], mount["readOnly"]) == (made["modelURL"], True)
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in made["env"]


def test_pods_go_where_the_weights_of_their_version_are():
    (term,) = spec(options())["nodeSelectorTerms"]
    assert term == {
        "matchExpressions": [{"key": "gpufleet.serving/model-llama", "operator": "In", "values": ["abababababab"]}]
    }


def test_a_hub_is_asked_with_a_token_by_reference():
    made = spec(KINDS_OF_STACK["hub and router"])
    assert (made["modelURL"], made["modelRevision"]) == ("org/name", "0" * 40)
    assert made["hf_token"] == {"secretName": "hub-token-0123456789", "secretKey": "key"}
    assert "HF_HUB_OFFLINE" not in {entry["name"] for entry in made["env"]}
    words = made["vllmConfig"]["extraArgs"]
    assert words[words.index("--download-dir") + 1] == made["extraVolumeMounts"][0]["mountPath"]


def test_a_cpu_takes_no_gpu_and_no_runtime_of_nvidia():
    made = spec(KINDS_OF_STACK["cpu"])
    assert "requestGPU" not in made
    assert (made["runtimeClassName"], made["tolerations"]) == ("", [])
    assert {"name": "VLLM_CPU_KVCACHE_SPACE", "value": "4"} in made["env"]


@pytest.mark.parametrize(
    ("name", "keda", "ray"),
    [("keda", True, None), ("hpa", True, {"enabled": False}), ("nothing scales", None, None)],
)
def test_one_alone_counts_the_pods(name, keda, ray):
    made = spec(KINDS_OF_STACK[name])
    assert made.get("keda", {}).get("enabled") is keda
    assert made.get("raySpec") == ray
    kinds = [found["kind"] for found in stack_values(KINDS_OF_STACK[name])["extraObjects"]]
    assert ("HorizontalPodAutoscaler" in kinds) == (name == "hpa")


def test_what_may_not_scale_has_a_fixed_count_beside_what_may():
    first, other = stack_values(KINDS_OF_STACK["one may not scale"])["servingEngineSpec"]["modelSpec"]
    assert ("keda" in first, "keda" in other) == (False, True)


@pytest.mark.parametrize(
    ("autoscaler", "prometheus", "adapter"), [("keda", True, False), ("hpa", True, True), ("none", False, False)]
)
def test_what_measures_is_there_where_something_scales(autoscaler, prometheus, adapter):
    values = stack_values(options(vllm_stack_autoscaler=autoscaler))
    assert values["servingEngineSpec"]["serviceMonitor"]["enabled"] is prometheus
    assert values["kube-prometheus-stack"]["enabled"] is prometheus
    assert values["prometheus-adapter"]["enabled"] is adapter


def test_a_rollout_takes_no_more_devices_than_there_are():
    strategy = stack_values(options())["servingEngineSpec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


def test_the_slowest_model_has_its_time_to_start():
    given = options(model(load_seconds=600), model("slow", load_seconds=1835, node_port=30802))
    probe = stack_values(given)["servingEngineSpec"]["startupProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] >= 1835


def test_nothing_is_pulled_that_is_there():
    text = json.dumps([stack_values(given) for given in KINDS_OF_STACK.values()])
    assert "Always" not in text
    assert ":latest" not in text


def test_a_model_over_nodes_is_none_of_the_charts():
    values = stack_values(options(group()))
    assert values["servingEngineSpec"]["modelSpec"] == []
    assert [found["kind"] for found in values["extraObjects"]][:3] == ["Service", "LeaderWorkerSet", "Service"]


def test_flags_are_words_of_the_command_line():
    settings = {"enable_a": True, "enable_b": False, "c": None, "d": {"y": 1, "x": [2]}, "e": ["1", "2"], "f": 0.5}
    assert flags(settings) == ["--d", '{"x":[2],"y":1}', "--e", "1", "2", "--enable-a", "--no-enable-b", "--f", "0.5"]


def test_prefix_caching_can_be_switched_off_in_the_charts_own_word():
    config = spec(options(model(engine_args={"enable_prefix_caching": False})))["vllmConfig"]
    assert config["enablePrefixCaching"] is False
    assert not [word for word in config["extraArgs"] if "prefix-caching" in word]
