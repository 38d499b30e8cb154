# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The values of the chart ``vllm-stack``, from the options of the role ``vllm_stack``.

Source of every key: the published chart 0.1.12. What the chart's defaults would break is stated here: rollouts that
want twice the GPUs, pulled images in an air gap, a start that is given ten minutes, prefix caching switched off.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from ._devices import CPU
from ._stack_objects import (
    ENGINE_PORT,
    PEER_PORT,
    SHUTDOWN_SECONDS,
    discovery_labels,
    front_door,
    group_objects,
    network_policies,
)
from ._stack_scaling import (
    HPA,
    KEDA,
    NONE,
    POLLING_SECONDS,
    PROMETHEUS_PORT,
    PROMETHEUS_SERVICE,
    SIGNALS,
    adapter_rule,
    hpa,
    keda,
    scales,
)

LABEL_DOMAIN = "gpufleet.serving"
GPU_RESOURCE = "nvidia.com/gpu"
RUNTIME_CLASS = "nvidia"
KEY_WORD = "key"
"""The word under which the engines' key stands in its Secret."""
HUB_FOLDER = "/var/lib/gpufleet/hub"
"""Where a node keeps what its pods fetched from a hub."""
PROBE_SECONDS = 10
SHARED_MEMORY_GIB = 20
"""The bound on /dev/shm, which ranks talk through; the chart's own."""
CHART_WORDS = {
    "max_model_len": "maxModelLen",
    "tensor_parallel_size": "tensorParallelSize",
    "max_num_seqs": "maxNumSeqs",
    "gpu_memory_utilization": "gpuMemoryUtilization",
    "dtype": "dtype",
}
"""The engine's settings that the chart has words for; the others go through ``extraArgs``."""
WITHOUT = (
    *("alertmanager", "coreDns", "grafana", "kubeApiServer", "kubeControllerManager", "kubeEtcd"),
    *("kubeProxy", "kubeScheduler", "kubeStateMetrics", "kubelet", "nodeExporter"),
)
"""Parts of kube-prometheus-stack that scaling needs nothing of."""

Values = dict[str, Any]


def node_label(model: str) -> str:
    """The label of the nodes that may run a model; its value is the version of the weights."""
    return f"{LABEL_DOMAIN}/model-{model}"


def stack_values(options: Mapping[str, Any]) -> Values:
    """Everything that the chart is given. ``options``: those of the role by name, as its argument spec has them."""
    models, autoscaler = options["vllm_stack_models"], options["vllm_stack_autoscaler"]
    single = [model for model in models if model["nodes"] == 1]
    watched = autoscaler != NONE
    return {
        "servingEngineSpec": {
            "enableEngine": True,
            "labels": discovery_labels(options["vllm_stack_release"]),
            "vllmApiKey": {"secretName": options["vllm_stack_key_secret"], "secretKey": KEY_WORD},
            "containerPort": ENGINE_PORT,
            "servicePort": 80,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "startupProbe": _probe(math.ceil(max((m["load_seconds"] for m in models), default=0) / PROBE_SECONDS)),
            "livenessProbe": _probe(6),
            "readinessProbe": _probe(2),
            "runtimeClassName": "",
            "imagePullPolicy": "IfNotPresent",
            "serviceMonitor": {
                "enabled": watched,
                "interval": f"{POLLING_SECONDS}s",
                "scrapeTimeout": f"{POLLING_SECONDS - 5}s",
            },
            "modelSpec": [_model_spec(model, options) for model in single],
        },
        "routerSpec": _router(options),
        "extraObjects": list(_extra_objects(options)),
        "kube-prometheus-stack": _prometheus(watched),
        "prometheus-adapter": _adapter(options),
    }


def _probe(failures: int) -> Values:
    return {
        "initialDelaySeconds": PROBE_SECONDS,
        "periodSeconds": PROBE_SECONDS,
        "timeoutSeconds": PROBE_SECONDS,
        "failureThreshold": max(1, failures),
        "httpGet": {"path": "/health", "port": ENGINE_PORT},
    }


def _model_spec(model: Mapping[str, Any], options: Mapping[str, Any]) -> Values:
    repository, tag = image(model, options)
    on_cpu, hub = model["accelerator"] == CPU, model["source_kind"] == "hub"
    spec: Values = {
        "name": model["name"],
        "repository": repository,
        "tag": tag,
        "modelURL": model["source"],
        "replicaCount": model["min_replicas"],
        "requestCPU": model["cpus"],
        "requestMemory": f"{model['memory_gib']}Gi",
        "runtimeClassName": "" if on_cpu else RUNTIME_CLASS,
        "vllmConfig": _vllm_config(model),
        "env": _environment(model),
        "extraVolumes": [_weights_volume(model)],
        "extraVolumeMounts": [_weights_mount(model)],
        "nodeSelectorTerms": _node_selector_terms(model),
        "tolerations": _tolerations(model),
        "shmSize": f"{SHARED_MEMORY_GIB}Gi",
    }
    if not on_cpu:
        spec["requestGPU"] = model["ranks"]
    if hub and model.get("revision"):
        spec["modelRevision"] = model["revision"]
    if hub and options["vllm_stack_hf_token_secret"]:
        spec["hf_token"] = {"secretName": options["vllm_stack_hf_token_secret"], "secretKey": KEY_WORD}
    return spec | _scaling(model, options)


def _scaling(model: Mapping[str, Any], options: Mapping[str, Any]) -> Values:
    """How the chart is told who counts the pods: nobody but it, KEDA, or a HorizontalPodAutoscaler of ours.

    Under ``keda`` the chart leaves ``replicas`` out of the Deployment, without which an upgrade after the first scale
    event fails; a ``raySpec``, also a disabled one, keeps it from making a ScaledObject.
    """
    if not scales(model, options["vllm_stack_autoscaler"]):
        return {}
    if options["vllm_stack_autoscaler"] == KEDA:
        return {"keda": keda(model, options)}
    return {"keda": {"enabled": True}, "raySpec": {"enabled": False}}


def image(model: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[str, str]:
    """Repository and tag of a model's image, the tag with the digest where one is given."""
    kind = model["accelerator"]
    digest = options[f"vllm_stack_{kind}_image_digest"]
    return options[f"vllm_stack_{kind}_image"], f"v{model['engine_version']}" + (f"@{digest}" if digest else "")


def _vllm_config(model: Mapping[str, Any]) -> Values:
    config = dict(model["config"])
    chosen = {word: config.pop(name) for name, word in CHART_WORDS.items() if config.get(name) is not None}
    others = {**config, **model["engine_args"], **_own_flags(model)}
    caching = others.pop("enable_prefix_caching", True)
    return {**chosen, "enablePrefixCaching": bool(caching), "extraArgs": flags(others)}


def _own_flags(model: Mapping[str, Any]) -> dict[str, Any]:
    fetched = {"download_dir": HUB_FOLDER} if model["source_kind"] == "hub" else {}
    return {"shutdown_timeout": SHUTDOWN_SECONDS, **fetched}


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings of the engine as its command line has them, in the order of their names."""
    return [word for name in sorted(settings) for word in _flag(name.replace("_", "-"), settings[name])]


def _flag(name: str, value: Any) -> Iterator[str]:
    if value is None:
        return
    if isinstance(value, bool):
        yield f"--{name}" if value else f"--no-{name}"
        return
    yield f"--{name}"
    if isinstance(value, Mapping):
        yield json.dumps(value, sort_keys=True, separators=(",", ":"))
    elif isinstance(value, list):
        yield from map(str, value)
    else:
        yield str(value)


def _environment(model: Mapping[str, Any]) -> list[Values]:
    own = {} if model["source_kind"] == "hub" else {"HF_HUB_OFFLINE": "1"}
    if model["accelerator"] == CPU:
        own["VLLM_CPU_KVCACHE_SPACE"] = str(model["cpu_kv_gib"])
    return [{"name": name, "value": str(value)} for name, value in sorted({**own, **model["engine_env"]}.items())]


def _weights_volume(model: Mapping[str, Any]) -> Values:
    hub = model["source_kind"] == "hub"
    path, kind = (HUB_FOLDER, "DirectoryOrCreate") if hub else (model["source"], "Directory")
    return {"name": "weights", "hostPath": {"path": path, "type": kind}}


def _weights_mount(model: Mapping[str, Any]) -> Values:
    hub = model["source_kind"] == "hub"
    return {"name": "weights", "mountPath": HUB_FOLDER if hub else model["source"], "readOnly": not hub}


def _node_selector_terms(model: Mapping[str, Any]) -> list[Values]:
    has = {"key": node_label(model["name"]), "operator": "In", "values": [model["version"]]}
    return [{"matchExpressions": [has]}]


def _tolerations(model: Mapping[str, Any]) -> list[Values]:
    return [] if model["accelerator"] == CPU else [{"key": GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule"}]


def _router(options: Mapping[str, Any]) -> Values:
    if not options["vllm_stack_router_tag"]:
        return {"enableRouter": False}
    return {
        "enableRouter": True,
        "repository": options["vllm_stack_router_image"],
        "tag": options["vllm_stack_router_tag"],
        "imagePullPolicy": "IfNotPresent",
        "routingLogic": options["vllm_stack_router_logic"],
        "sessionKey": options["vllm_stack_router_session_key"],
        "serviceType": "NodePort",
        "nodePort": options["vllm_stack_router_node_port"],
        "labels": {"environment": "gpufleet-router", "release": options["vllm_stack_release"]},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
    }


def _extra_objects(options: Mapping[str, Any]) -> Iterator[Values]:
    models = options["vllm_stack_models"]
    for model in models:
        yield front_door(model, options)
        if model["nodes"] > 1:
            yield from group_objects(model, _group_pod(model, options), options)
        elif options["vllm_stack_autoscaler"] == HPA and scales(model, HPA):
            yield hpa(model, options)
    yield from network_policies(options, groups=any(model["nodes"] > 1 for model in models))


def _group_pod(model: Mapping[str, Any], options: Mapping[str, Any]) -> Values:
    """The spec of one pod of a replica that spans nodes: one container, the same command on every node."""
    repository, tag = image(model, options)
    words = flags({**model["config"], "enable_prefix_caching": True, **model["engine_args"], **_own_flags(model)})
    place = ["--nnodes", "$(LWS_GROUP_SIZE)", "--node-rank", "$(LWS_WORKER_INDEX)"]
    place += ["--master-addr", "$(LWS_LEADER_ADDRESS)", "--master-port", str(PEER_PORT)]
    listen = ["--host", "0.0.0.0", "--port", str(ENGINE_PORT)]  # noqa: S104 - the pod's own network
    asked = {"cpu": model["cpus"], "memory": f"{model['memory_gib']}Gi"}
    gpus = {} if model["accelerator"] == CPU else {GPU_RESOURCE: model["ranks"] // model["nodes"]}
    key = {"name": options["vllm_stack_key_secret"], "key": KEY_WORD}
    container = {
        "name": "vllm",
        "image": f"{repository}:{tag}",
        "imagePullPolicy": "IfNotPresent",
        "command": ["vllm", "serve", model["source"]],
        "args": [_untemplated(word) for word in (*listen, *words, *place)],
        "env": [
            {"name": "VLLM_HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": key}},
            *_environment(model),
        ],
        "ports": [{"name": "http", "containerPort": ENGINE_PORT}],
        "resources": {"requests": asked | gpus, **({"limits": gpus} if gpus else {})},
        "startupProbe": _probe(math.ceil(model["load_seconds"] / PROBE_SECONDS)),
        "livenessProbe": _probe(6),
        "readinessProbe": _probe(2),
        "volumeMounts": [_weights_mount(model), {"name": "shm", "mountPath": "/dev/shm"}],  # noqa: S108 - the pod's own
    }
    memory = {"medium": "Memory", "sizeLimit": f"{SHARED_MEMORY_GIB}Gi"}
    return {
        **({} if model["accelerator"] == CPU else {"runtimeClassName": RUNTIME_CLASS}),
        "automountServiceAccountToken": False,
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": _node_selector_terms(model)}
            }
        },
        "tolerations": _tolerations(model),
        "containers": [container],
        "volumes": [_weights_volume(model), {"name": "shm", "emptyDir": memory}],
    }


def _untemplated(word: str) -> str:
    """A word that the chart, which expands its extra objects, leaves as it is."""
    return word.replace("{{", "{{`{{`}}")


def _prometheus(watched: bool) -> Values:
    """The operator and one Prometheus, and nothing else of the stack."""
    if not watched:
        return {"enabled": False}
    return {
        "enabled": True,
        "fullnameOverride": PROMETHEUS_SERVICE.removesuffix("-prometheus"),
        **{part: {"enabled": False} for part in WITHOUT},
        "defaultRules": {"create": False},
        "prometheusOperator": {
            "tls": {"enabled": False},
            "admissionWebhooks": {"enabled": False},
            "serviceMonitor": {"selfMonitor": False},
            "kubeletService": {"enabled": False},
        },
        "prometheus": {
            "serviceMonitor": {"selfMonitor": False},
            "prometheusSpec": {
                "retention": "1d",
                "serviceMonitorSelector": {"matchLabels": {"app.kubernetes.io/part-of": "vllm-stack"}},
            },
        },
    }


def _adapter(options: Mapping[str, Any]) -> Values:
    if options["vllm_stack_autoscaler"] != HPA:
        return {"enabled": False}
    return {
        "enabled": True,
        "prometheus": {
            "url": f"http://{PROMETHEUS_SERVICE}.{options['vllm_stack_namespace']}.svc",
            "port": PROMETHEUS_PORT,
        },
        "rules": {"default": False, "custom": [adapter_rule(SIGNALS[options["vllm_stack_scaling_signal"]])]},
    }
