# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a model on Kubernetes gets more pods, and when fewer: one signal, told to KEDA or to a HorizontalPodAutoscaler.

Both reckon alike: the signal of all pods together, divided by the target, is how many pods there should be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEDA, HPA, NONE = "keda", "hpa", "none"
PROMETHEUS_SERVICE = "gpufleet-prometheus"
PROMETHEUS_PORT = 9090
POLLING_SECONDS = 15
"""How often the signal is read and the engines are asked; a replica takes minutes to come, so that is often enough."""
SCALE_UP_SECONDS = 60
"""One more pod in that time at most: each costs whole GPUs."""
LEAST_STABILIZATION_SECONDS = 300
"""Kubernetes' own default for scaling down."""
MOST_STABILIZATION_SECONDS, MOST_PERIOD_SECONDS = 3600, 1800
"""The largest values that autoscaling/v2 takes."""
TOLERANCE = 0.1
"""A HorizontalPodAutoscaler changes nothing while the ratio of signal to target is this close to 1."""


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that vLLM exports of itself, with one series for each engine core of a pod.

    series: its name in Prometheus. metric: its name in the metrics API, which takes no colon. within_pod: how the
    engine cores of one pod are put together. target: what each pod should have of it, unless the operator says.
    """

    series: str
    metric: str
    within_pod: str
    target: float


SIGNALS = {
    "running": Signal("vllm:num_requests_running", "vllm_num_requests_running", "sum", 50),
    "waiting": Signal("vllm:num_requests_waiting", "vllm_num_requests_waiting", "sum", 5),
    "kv_cache": Signal("vllm:kv_cache_usage_perc", "vllm_kv_cache_usage_perc", "avg", 0.8),
}
"""Source of the names and labels: vLLM 0.33, v1/metrics/loggers.py."""


def scales(model: Mapping[str, Any], autoscaler: str) -> bool:
    """Whether anything changes the number of a model's pods."""
    return autoscaler != NONE and bool(model["max_replicas"] > model["min_replicas"])


def engine_service(release: str, model: str) -> str:
    """The Service of a model's engines, through which Prometheus finds them."""
    return f"{release}-{model}-engine-service"


def deployment(release: str, model: str) -> str:
    """The Deployment that the chart makes of a model."""
    return f"{release}-{model}-deployment-vllm"


def query(signal: Signal, namespace: str, service: str) -> str:
    """PromQL for the signal of all of a model's pods together: one element, also where each pod has several engines."""
    series = f'{signal.series}{{namespace="{namespace}",service="{service}"}}'
    return f"sum({signal.within_pod} by (pod) ({series}))"


def adapter_rule(signal: Signal) -> dict[str, Any]:
    """The prometheus-adapter's rule that publishes the signal of each pod."""
    return {
        "seriesQuery": f'{signal.series}{{namespace!="",pod!=""}}',
        "resources": {"overrides": {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}},
        "name": {"matches": f"^{signal.series}$", "as": signal.metric},
        "metricsQuery": f"{signal.within_pod}(<<.Series>>{{<<.LabelMatchers>>}}) by (<<.GroupBy>>)",
    }


def behavior(load_seconds: int) -> dict[str, Any]:
    """How fast the count changes: up at once but by single pods, down slower than a pod takes to load."""
    window = max(LEAST_STABILIZATION_SECONDS, load_seconds)
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": SCALE_UP_SECONDS}],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": min(window, MOST_STABILIZATION_SECONDS),
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": min(window, MOST_PERIOD_SECONDS)}],
        },
    }


def keda(model: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The chart's ``keda`` of a model. Without its metrics a model keeps as many pods as it may have."""
    signal = SIGNALS[options["vllm_stack_scaling_signal"]]
    namespace, service = options["vllm_stack_namespace"], engine_service(options["vllm_stack_release"], model["name"])
    trigger = {
        "serverAddress": f"http://{PROMETHEUS_SERVICE}.{namespace}.svc:{PROMETHEUS_PORT}",
        "query": query(signal, namespace, service),
        "threshold": f"{target(options):g}",
        "ignoreNullValues": "false",
    }
    return {
        "enabled": True,
        "minReplicaCount": model["min_replicas"],
        "maxReplicaCount": model["max_replicas"],
        "pollingInterval": POLLING_SECONDS,
        "fallback": {"failureThreshold": 3, "replicas": model["max_replicas"]},
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior(model["load_seconds"])}},
        "triggers": [{"type": "prometheus", "metricType": "AverageValue", "metadata": trigger}],
    }


def hpa(model: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The HorizontalPodAutoscaler of a model, on what the prometheus-adapter publishes."""
    release, signal = options["vllm_stack_release"], SIGNALS[options["vllm_stack_scaling_signal"]]
    metric = {
        "metric": {"name": signal.metric},
        "target": {"type": "AverageValue", "averageValue": quantity(target(options))},
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": f"{release}-{model['name']}", "namespace": options["vllm_stack_namespace"]},
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": deployment(release, model["name"]),
            },
            "minReplicas": model["min_replicas"],
            "maxReplicas": model["max_replicas"],
            "metrics": [{"type": "Pods", "pods": metric}],
            "behavior": behavior(model["load_seconds"]),
        },
    }


def target(options: Mapping[str, Any]) -> float:
    """What each pod should have of the signal."""
    return float(options["vllm_stack_scaling_target"]) or SIGNALS[options["vllm_stack_scaling_signal"]].target


def quantity(value: float) -> str:
    """A number as Kubernetes writes it, to the thousandth."""
    return f"{value:.0f}" if value == int(value) else f"{round(value * 1000)}m"


def pods_wanted(current: int, per_pod: float, target: float, least: int, most: int) -> int:
    """Pods that a HorizontalPodAutoscaler asks for, before its behavior slows it down.

    current: pods that run. per_pod: the average of the signal over them.
    """
    ratio = per_pod / target
    wanted = current if abs(ratio - 1) <= TOLERANCE else math.ceil(current * ratio)
    return min(max(wanted, least), most)
