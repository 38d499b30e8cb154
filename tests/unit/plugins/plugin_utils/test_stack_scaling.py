# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Autoscaling: the arithmetic as a table, and what KEDA and the HorizontalPodAutoscaler are told."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils import _stack_scaling as scaling
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.stacks import model, options


@pytest.mark.parametrize(
    ("current", "per_pod", "wanted"),
    [
        (2, 50, 2),  # at its target
        (2, 54, 2),  # within a tenth of it
        (2, 56, 3),
        (2, 75, 3),  # seen so in a real controller
        (3, 75, 5),
        (4, 45, 4),
        (4, 44, 4),  # 3.52 is rounded up
        (4, 37, 3),
        (4, 0, 2),  # never below the fewest
        (10, 200, 16),  # never above the most
        (2, 1000, 16),
    ],
)
def test_pods_follow_the_signal(current, per_pod, wanted):
    assert scaling.pods_wanted(current, per_pod, 50, least=2, most=16) == wanted


def test_the_autoscaler_has_the_bounds_of_the_plan_and_the_names_of_the_chart():
    made = scaling.hpa(model(), options())
    assert made["spec"]["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "vllm-llama-deployment-vllm",
    }
    assert (made["spec"]["minReplicas"], made["spec"]["maxReplicas"]) == (2, 16)
    assert made["spec"]["metrics"] == [
        {
            "type": "Pods",
            "pods": {
                "metric": {"name": "vllm_num_requests_running"},
                "target": {"type": "AverageValue", "averageValue": "50"},
            },
        }
    ]


@pytest.mark.parametrize(
    ("signal", "stated", "average", "threshold"),
    [
        ("running", 0, "50", "50"),
        ("running", 32, "32", "32"),
        ("waiting", 0, "5", "5"),
        ("kv_cache", 0, "800m", "0.8"),
        ("kv_cache", 0.75, "750m", "0.75"),
    ],
)
def test_both_autoscalers_get_the_same_target(signal, stated, average, threshold):
    given = options(vllm_stack_scaling_signal=signal, vllm_stack_scaling_target=stated)
    (metric,) = scaling.hpa(model(), given)["spec"]["metrics"]
    (trigger,) = scaling.keda(model(), given)["triggers"]
    assert metric["pods"]["target"]["averageValue"] == average
    assert trigger["metadata"]["threshold"] == threshold
    assert metric["pods"]["metric"]["name"] == scaling.adapter_rule(scaling.SIGNALS[signal])["name"]["as"]


def test_keda_asks_for_one_element_of_one_model():
    (trigger,) = scaling.keda(model(), options())["triggers"]
    assert trigger["metadata"]["query"] == (
        'sum(sum by (pod) (vllm:num_requests_running{namespace="vllm",service="vllm-llama-engine-service"}))'
    )
    assert trigger["metadata"]["serverAddress"] == "http://gpufleet-prometheus.vllm.svc:9090"
    assert trigger["metadata"]["ignoreNullValues"] == "false"


def test_without_metrics_there_are_rather_too_many_pods_than_too_few():
    assert scaling.keda(model(), options())["fallback"] == {"failureThreshold": 3, "replicas": 16}


@pytest.mark.parametrize(
    ("load", "window", "period"), [(60, 300, 300), (900, 900, 900), (2400, 2400, 1800), (9000, 3600, 1800)]
)
def test_pods_go_slower_than_they_come(load, window, period):
    rules = scaling.behavior(load)
    down = rules["scaleDown"]
    assert (down["stabilizationWindowSeconds"], down["policies"][0]["periodSeconds"]) == (window, period)
    assert rules["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert rules["scaleUp"]["policies"][0]["periodSeconds"] < period


@pytest.mark.parametrize(
    ("autoscaler", "most", "does"), [("keda", 16, True), ("keda", 2, False), ("none", 16, False), ("hpa", 3, True)]
)
def test_a_model_scales_where_it_may_and_somebody_counts(autoscaler, most, does):
    assert scaling.scales(model(max_replicas=most), autoscaler) is does
