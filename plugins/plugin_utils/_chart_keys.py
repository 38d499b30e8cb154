# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys of the chart ``vllm-stack`` 0.1.12: what may stand where in its values.

The published chart has no schema, so that Helm passes over a misspelt or misplaced key without a word. Values are held
against this table before they are handed over. It holds the keys that the chart's templates read, and of its two
sub-charts those that the collection sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ._text import nearest

Shape = Any
"""A type or several; a mapping of keys to shapes; a list of one shape; or ``Keyed``, for keys of anybody's choice."""

NUMBER = (int, float)
SIZE = (int, str)


class Keyed:
    """A mapping whose keys are free, and whose values are of one shape."""

    def __init__(self, values: Shape) -> None:
        self.values = values


LABELS = Keyed(str)
RESOURCES = {"requests": Keyed(SIZE), "limits": Keyed(SIZE)}
EXPRESSION = {"key": str, "operator": str, "values": [str]}
NODE_TERM = {"matchExpressions": [EXPRESSION], "matchFields": [EXPRESSION]}
TOLERATION = {"key": str, "operator": str, "value": str, "effect": str, "tolerationSeconds": int}
SECRET_REFERENCE = {"secretName": str, "secretKey": str}
KEY_REFERENCE = {"name": str, "key": str, "optional": bool}
ENVIRONMENT = {
    "name": str,
    "value": str,
    "valueFrom": {
        "secretKeyRef": KEY_REFERENCE,
        "configMapKeyRef": KEY_REFERENCE,
        "fieldRef": {"fieldPath": str, "apiVersion": str},
    },
}
VOLUME = {
    "name": str,
    "hostPath": {"path": str, "type": str},
    "emptyDir": {"medium": str, "sizeLimit": SIZE},
    "persistentVolumeClaim": {"claimName": str, "readOnly": bool},
    "configMap": {"name": str, "optional": bool, "items": [{"key": str, "path": str}]},
    "secret": {"secretName": str, "optional": bool, "items": [{"key": str, "path": str}]},
}
MOUNT = {"name": str, "mountPath": str, "readOnly": bool, "subPath": str}
STRATEGY = {"type": str, "rollingUpdate": {"maxSurge": SIZE, "maxUnavailable": SIZE}}
PROBE = {
    "initialDelaySeconds": int,
    "periodSeconds": int,
    "failureThreshold": int,
    "timeoutSeconds": int,
    "successThreshold": int,
    "httpGet": {"path": str, "port": SIZE, "host": str, "scheme": str, "httpHeaders": [{"name": str, "value": str}]},
    "exec": {"command": [str]},
    "tcpSocket": {"host": str, "port": SIZE},
    "grpc": {"service": str, "port": int},
}
CAPABILITIES = {"add": [str], "drop": [str]}
SECURITY = {
    "runAsNonRoot": bool,
    "runAsUser": int,
    "runAsGroup": int,
    "fsGroup": int,
    "privileged": bool,
    "allowPrivilegeEscalation": bool,
    "readOnlyRootFilesystem": bool,
    "capabilities": CAPABILITIES,
    "seccompProfile": {"type": str, "localhostProfile": str},
}
MONITOR = {
    "enabled": bool,
    "additionalLabels": LABELS,
    "interval": str,
    "scrapeTimeout": str,
    "honorLabels": bool,
    "metricRelabelings": [dict],
    "relabelings": [dict],
}
DISRUPTION = {
    "enabled": bool,
    "labels": LABELS,
    "annotations": LABELS,
    "minAvailable": SIZE,
    "maxUnavailable": SIZE,
}
SCALING_RULES = {
    "stabilizationWindowSeconds": int,
    "selectPolicy": str,
    "tolerance": SIZE,
    "policies": [{"type": str, "value": int, "periodSeconds": int}],
}
KEDA = {
    "enabled": bool,
    "minReplicaCount": int,
    "maxReplicaCount": int,
    "pollingInterval": int,
    "cooldownPeriod": int,
    "idleReplicaCount": int,
    "initialCooldownPeriod": int,
    "fallback": {"failureThreshold": int, "replicas": int, "behavior": str},
    "triggers": [
        {
            "type": str,
            "name": str,
            "metricType": str,
            "useCachedMetrics": bool,
            "metadata": {
                "serverAddress": str,
                "query": str,
                "threshold": str,
                "activationThreshold": str,
                "namespace": str,
                "ignoreNullValues": str,
                "unsafeSsl": str,
                "customHeaders": str,
                "timeout": str,
            },
            "authenticationRef": {"name": str, "kind": str},
        }
    ],
    "advanced": {
        "restoreToOriginalReplicaCount": bool,
        "horizontalPodAutoscalerConfig": {
            "name": str,
            "behavior": {"scaleUp": SCALING_RULES, "scaleDown": SCALING_RULES},
        },
        "scalingModifiers": {"target": str, "activationTarget": str, "metricType": str, "formula": str},
    },
}
INIT_CONTAINER = {
    "name": str,
    "image": str,
    "command": [str],
    "args": [str],
    "env": [ENVIRONMENT],
    "resources": RESOURCES,
    "mountPvcStorage": bool,
    "extraVolumeMounts": [MOUNT],
}
MODEL = {
    "name": str,
    "enabled": bool,
    "annotations": LABELS,
    "podAnnotations": LABELS,
    "labels": LABELS,
    "podLabels": LABELS,
    "serviceAnnotations": LABELS,
    "serviceAccountName": str,
    "priorityClassName": str,
    "runtimeClassName": str,
    "repository": str,
    "tag": str,
    "imagePullSecret": str,
    "modelURL": str,
    "modelRevision": str,
    "replicaCount": int,
    "resources": RESOURCES,
    "requestCPU": NUMBER,
    "requestMemory": str,
    "requestGPU": int,
    "requestGPUType": str,
    "requestGPUMem": str,
    "requestGPUMemPercentage": str,
    "requestGPUCores": str,
    "limitCPU": SIZE,
    "limitMemory": str,
    "limitGPUMem": str,
    "limitGPUMemPercentage": str,
    "limitGPUCores": str,
    "pvcStorage": str,
    "pvcAccessMode": [str],
    "storageClass": str,
    "pvcMatchLabels": LABELS,
    "pvcLabels": LABELS,
    "pvcAnnotations": LABELS,
    "extraVolumes": [VOLUME],
    "extraVolumeMounts": [MOUNT],
    "initContainer": INIT_CONTAINER,
    "vllmConfig": {
        "v0": SIZE,
        "enablePrefixCaching": bool,
        "enableChunkedPrefill": bool,
        "maxModelLen": int,
        "dtype": str,
        "tensorParallelSize": int,
        "pipelineParallelSize": int,
        "maxNumSeqs": int,
        "maxLoras": int,
        "gpuMemoryUtilization": NUMBER,
        "runner": str,
        "convert": str,
        "extraArgs": [str],
        "prometheusMultiprocDir": str,
    },
    "lmcacheConfig": dict,
    "hf_token": SECRET_REFERENCE,
    "envFromSecret": {"name": str},
    "env": [ENVIRONMENT],
    "affinity": dict,
    "nodeSelectorTerms": [NODE_TERM],
    "nodeName": str,
    "tolerations": [TOLERATION],
    "tolerationsPolicy": str,
    "shmSize": str,
    "chatTemplate": str,
    "chatTemplateConfigMap": str,
    "enableLoRA": bool,
    "enableTool": bool,
    "toolCallParser": str,
    "pdb": DISRUPTION,
    "keda": KEDA,
    "raySpec": {"enabled": bool, "headNode": dict},
}
ENGINES = {
    "enableEngine": bool,
    "labels": LABELS,
    "extraPorts": [dict],
    "vllmApiKey": SECRET_REFERENCE,
    "modelSpec": [MODEL],
    "containerPort": int,
    "servicePort": int,
    "configs": LABELS,
    "env": [ENVIRONMENT],
    "strategy": STRATEGY,
    "startupProbe": PROBE,
    "livenessProbe": PROBE,
    "readinessProbe": PROBE,
    "tolerations": [TOLERATION],
    "runtimeClassName": str,
    "schedulerName": str,
    "imagePullPolicy": str,
    "securityContext": SECURITY,
    "containerSecurityContext": SECURITY,
    "sidecar": {"image": str, "imagePullPolicy": str},
    "serviceMonitor": MONITOR,
}
ROUTER = {
    "enableRouter": bool,
    "repository": str,
    "tag": str,
    "imagePullPolicy": str,
    "imagePullSecrets": [{"name": str}],
    "replicaCount": int,
    "env": [ENVIRONMENT],
    "autoscaling": {
        "enabled": bool,
        "minReplicas": int,
        "maxReplicas": int,
        "targetCPUUtilizationPercentage": int,
    },
    "pdb": DISRUPTION,
    "priorityClassName": str,
    "containerPort": int,
    "servicePort": int,
    "serviceType": str,
    "serviceAnnotations": LABELS,
    "nodePort": int,
    "serviceDiscovery": str,
    "k8sServiceDiscoveryType": str,
    "staticBackends": str,
    "staticModels": str,
    "routingLogic": str,
    "prefixMinMatchLength": int,
    "sessionKey": str,
    "rootPath": str,
    "extraArgs": [str],
    "extraPorts": [dict],
    "extraVolumes": [VOLUME],
    "extraVolumeMounts": [MOUNT],
    "engineScrapeInterval": int,
    "requestStatsWindow": int,
    "otel": {"endpoint": str, "serviceName": str, "secure": bool},
    "strategy": STRATEGY,
    "vllmApiKey": SECRET_REFERENCE,
    "lmcacheConfig": {"logLevel": str},
    "resources": RESOURCES,
    "labels": LABELS,
    "podAnnotations": LABELS,
    "securityContext": SECURITY,
    "containerSecurityContext": SECURITY,
    "affinity": dict,
    "nodeSelectorTerms": [NODE_TERM],
    "startupProbe": PROBE,
    "livenessProbe": PROBE,
    "readinessProbe": PROBE,
    "serviceMonitor": MONITOR,
}
SWITCH = {"enabled": bool}
MATCHES = {"matchLabels": LABELS}
PROMETHEUS = {
    "enabled": bool,
    "fullnameOverride": str,
    "alertmanager": SWITCH,
    "coreDns": SWITCH,
    "defaultRules": {"create": bool},
    "grafana": SWITCH,
    "kubeApiServer": SWITCH,
    "kubeControllerManager": SWITCH,
    "kubeEtcd": SWITCH,
    "kubeProxy": SWITCH,
    "kubeScheduler": SWITCH,
    "kubeStateMetrics": SWITCH,
    "kubelet": SWITCH,
    "nodeExporter": SWITCH,
    "prometheusOperator": {
        "tls": SWITCH,
        "admissionWebhooks": SWITCH,
        "serviceMonitor": {"selfMonitor": bool},
        "kubeletService": SWITCH,
    },
    "prometheus": {
        "serviceMonitor": {"selfMonitor": bool},
        "prometheusSpec": {
            "retention": str,
            "replicas": int,
            "resources": RESOURCES,
            "serviceMonitorSelector": MATCHES,
            "storageSpec": dict,
        },
    },
}
RESOURCE = {"resource": str, "group": str}
ADAPTER_RULE = {
    "seriesQuery": str,
    "resources": {"overrides": {"namespace": RESOURCE, "pod": RESOURCE, "service": RESOURCE}, "template": str},
    "name": {"matches": str, "as": str},
    "metricsQuery": str,
}
ADAPTER = {
    "enabled": bool,
    "prometheus": {"url": str, "port": int, "path": str},
    "rules": {"default": bool, "custom": [ADAPTER_RULE]},
    "replicas": int,
    "resources": RESOURCES,
}
CHART = {
    "servingEngineSpec": ENGINES,
    "routerSpec": ROUTER,
    "extraObjects": [dict],
    "kube-prometheus-stack": PROMETHEUS,
    "prometheus-adapter": ADAPTER,
}

REQUIRED_OF_MODEL = ("name", "repository", "tag", "modelURL", "requestCPU", "requestMemory")
"""Without these the chart does not render, or serves nothing."""
MISPLACED = {
    "tensorParallelSize": "servingEngineSpec.modelSpec[].vllmConfig.tensorParallelSize",
    "maxModelLen": "servingEngineSpec.modelSpec[].vllmConfig.maxModelLen",
    "model": "servingEngineSpec.modelSpec[].modelURL",
    "modelUrl": "servingEngineSpec.modelSpec[].modelURL",
    "modelSpec": "servingEngineSpec.modelSpec",
    "replicas": "servingEngineSpec.modelSpec[].replicaCount",
    "image": "servingEngineSpec.modelSpec[].repository and tag",
    "gpu": "servingEngineSpec.modelSpec[].requestGPU",
}
"""Keys that tutorials put where the chart does not look, and where it does."""


def chart_faults(values: Any) -> list[str]:
    """One sentence for everything in the chart's values that the chart would pass over or fail on, with the remedy."""
    return [*_against(values, CHART, ""), *_model_faults(values)]


def _against(value: Any, shape: Shape, path: str) -> Iterator[str]:
    if isinstance(shape, dict):
        yield from _keys(value, shape, path) if isinstance(value, Mapping) else _wrong(value, "a mapping", path)
    elif isinstance(shape, Keyed):
        if isinstance(value, Mapping):
            for key, item in value.items():
                yield from _against(item, shape.values, f"{path}.{key}")
        else:
            yield from _wrong(value, "a mapping", path)
    elif isinstance(shape, list):
        if isinstance(value, list):
            for position, item in enumerate(value):
                yield from _against(item, shape[0], f"{path}[{position}]")
        else:
            yield from _wrong(value, "a list", path)
    elif not _is_of(value, shape):
        yield from _wrong(value, _named(shape), path)


def _keys(value: Mapping[str, Any], shape: Mapping[str, Shape], path: str) -> Iterator[str]:
    for key, item in value.items():
        place = f"{path}.{key}".lstrip(".")
        if key in shape:
            yield from _against(item, shape[key], place)
        else:
            yield f"{place}: the chart has no such key there, and would pass over it. {_remedy(str(key), shape)}"


def _remedy(key: str, shape: Mapping[str, Shape]) -> str:
    guess = nearest(key, shape)
    if key in MISPLACED:
        return f"It is {MISPLACED[key]}."
    return f"Did you mean {guess}?" if guess else f"It has {', '.join(sorted(shape))}."


def _is_of(value: Any, shape: Shape) -> bool:
    kinds = shape if isinstance(shape, tuple) else (shape,)
    return isinstance(value, Mapping if shape is dict else kinds) and (bool in kinds or not isinstance(value, bool))


def _named(shape: Shape) -> str:
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "a mapping"}
    return " or ".join(words[kind] for kind in (shape if isinstance(shape, tuple) else (shape,)))


def _wrong(value: Any, wanted: str, path: str) -> Iterator[str]:
    yield f"{path or 'the values'}: give {wanted}; there is {value!r}."


def _model_faults(values: Any) -> Iterator[str]:
    """Models without what the chart needs of each."""
    engines = values.get("servingEngineSpec") if isinstance(values, Mapping) else None
    models = engines.get("modelSpec") if isinstance(engines, Mapping) else None
    for position, model in enumerate(models if isinstance(models, list) else []):
        given = model if isinstance(model, Mapping) else {}
        for key in REQUIRED_OF_MODEL:
            asked = key.startswith("request") and given.get("resources")
            if not given.get(key) and not asked:
                yield f"servingEngineSpec.modelSpec[{position}].{key}: is missing, and the chart needs it."
        repository = given.get("repository")
        if isinstance(repository, str) and repository and repository == given.get("modelURL"):
            yield (
                f"servingEngineSpec.modelSpec[{position}].repository: is the model, {repository}, and the chart takes "
                "it for the image. Give the image there, such as vllm/vllm-openai, and the model as modelURL."
            )
