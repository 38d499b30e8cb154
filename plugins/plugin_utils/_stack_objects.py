# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects that are not the chart's: ports on the nodes, models over several nodes, who may reach whom.

They travel as the chart's ``extraObjects``, so that they come, change and go with the release.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._stack_scaling import PROMETHEUS_PORT, engine_service

ENGINE_PORT = 8000
PEER_PORT = 29501
"""Where the ranks of several nodes meet. Source: vLLM 0.33, --master-port."""
ENGINE = "serving-engine"
GRACE_SECONDS = 30
"""What Kubernetes gives a pod to end; the chart has no word for it."""
SHUTDOWN_SECONDS = 20
"""What an engine gives its requests when it is stopped, within that."""
DNS_PORTS = [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]

Object = dict[str, Any]


def engine_labels(release: str, model: str) -> dict[str, str]:
    """The labels that tell the pods of a model's engines; the chart gives them to its own."""
    return {
        "app.kubernetes.io/name": model,
        "app.kubernetes.io/instance": release,
        "app.kubernetes.io/component": ENGINE,
    }


def discovery_labels(release: str) -> dict[str, str]:
    """The labels of every engine of a release, by which the chart's router and ServiceMonitor find them.

    The words are those of the chart's defaults, which would stand beside any others and are the same in every release.
    """
    return {"environment": "gpufleet", "release": release}


def front_door(model: Mapping[str, Any], options: Mapping[str, Any]) -> Object:
    """A port on every node that leads to the model's engines."""
    release = options["vllm_stack_release"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(f"{release}-{model['name']}-front-door", options),
        "spec": {
            "type": "NodePort",
            "selector": engine_labels(release, model["name"]),
            "ports": [
                {
                    "name": "http",
                    "protocol": "TCP",
                    "port": 80,
                    "targetPort": ENGINE_PORT,
                    "nodePort": model["node_port"],
                }
            ],
        },
    }


def group_objects(model: Mapping[str, Any], pod: Object, options: Mapping[str, Any]) -> list[Object]:
    """A model whose replicas span nodes: a LeaderWorkerSet, and the Service by which its leaders are found.

    pod: the pod's spec as every node has it, with one container. The leader answers; the workers only compute.
    """
    release, namespace = options["vllm_stack_release"], options["vllm_stack_namespace"]
    labels = engine_labels(release, model["name"])
    found_by = labels | discovery_labels(release) | {"app.kubernetes.io/part-of": "vllm-stack"}
    group = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": _metadata(f"{release}-{model['name']}", options),
        "spec": {
            "replicas": model["min_replicas"],
            "startupPolicy": "LeaderCreated",
            "rolloutStrategy": {
                "type": "RollingUpdate",
                "rollingUpdateConfiguration": {"maxUnavailable": 1, "maxSurge": 0},
            },
            "leaderWorkerTemplate": {
                "size": model["nodes"],
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": {"metadata": {"labels": found_by}, "spec": pod},
                "workerTemplate": {
                    "metadata": {"labels": labels | {"app.kubernetes.io/component": f"{ENGINE}-worker"}},
                    "spec": _worker(pod),
                },
            },
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": engine_service(release, model["name"]),
            "namespace": namespace,
            "labels": found_by,
        },
        "spec": {
            "type": "ClusterIP",
            "selector": labels,
            "ports": [{"name": "service-port", "protocol": "TCP", "port": 80, "targetPort": ENGINE_PORT}],
        },
    }
    return [group, service]


def _worker(pod: Object) -> Object:
    """The same pod without what asks for an answer: only the leader listens."""
    (container,) = pod["containers"]
    quiet = {word: value for word, value in container.items() if not word.endswith("Probe")}
    return pod | {"containers": [quiet | {"args": [*container["args"], "--headless"]}]}


def network_policies(options: Mapping[str, Any], groups: bool) -> list[Object]:
    """Who may reach whom in the namespace: everybody the engines' port, and nobody anything else of theirs.

    The port asks for the engines' key. A hub is only reached where weights come from there. groups: whether replicas
    span nodes, whose ranks talk to one another on ports of their choice.
    """
    engines = _selects("In", [ENGINE, f"{ENGINE}-worker"])
    peers = [{"from": [{"podSelector": engines}]}] if groups else []
    outwards: list[Object] = [{"ports": DNS_PORTS}]
    if groups:
        outwards.append({"to": [{"podSelector": engines}]})
    if any(model["source_kind"] == "hub" for model in options["vllm_stack_models"]):
        outwards.append({"ports": [{"protocol": "TCP", "port": 443}]})
    return [
        _policy(
            "engines",
            options,
            podSelector=engines,
            policyTypes=["Ingress", "Egress"],
            ingress=[{"ports": [{"protocol": "TCP", "port": ENGINE_PORT}]}, *peers],
            egress=outwards,
        ),
        _policy(
            "prometheus",
            options,
            podSelector={"matchLabels": {"app.kubernetes.io/name": "prometheus"}},
            policyTypes=["Ingress"],
            ingress=[
                {
                    "from": [
                        {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus-adapter"}}},
                        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}},
                    ],
                    "ports": [{"protocol": "TCP", "port": PROMETHEUS_PORT}],
                }
            ],
        ),
    ]


def _selects(operator: str, components: list[str]) -> Object:
    return {"matchExpressions": [{"key": "app.kubernetes.io/component", "operator": operator, "values": components}]}


def _policy(name: str, options: Mapping[str, Any], **spec: Any) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(f"{options['vllm_stack_release']}-{name}", options),
        "spec": spec,
    }


def _metadata(name: str, options: Mapping[str, Any]) -> Object:
    return {
        "name": name,
        "namespace": options["vllm_stack_namespace"],
        "labels": {"app.kubernetes.io/part-of": "gpufleet"},
    }
