# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the published chart makes of the role's values, rendered by Helm itself.

VLLM_STACK_CHART names the chart's archive, or its folder in the project's source; without it everything here is
skipped. Prometheus and the adapter come as sub-charts, which the archive holds and the source does not: what is about
them is skipped without them. Neither archive nor source is in the repository.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.serving.plugins.plugin_utils._stack_options import handed_over
from ansible_collections.gpufleet.serving.plugins.plugin_utils._stack_scaling import SIGNALS
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.stacks import KINDS_OF_STACK
from ansible_collections.gpufleet.serving.tests.unit.roles.vllm_stack.kubernetes_objects import SCHEMAS, faults
from helm_python import Chart

ARCHIVE = os.environ.get("VLLM_STACK_CHART", "")
pytestmark = pytest.mark.skipif(not ARCHIVE, reason="VLLM_STACK_CHART names no archive of the chart")


@pytest.fixture(scope="module", params=KINDS_OF_STACK)
def rendered(request):
    """A kind of stack, and every object that the chart makes of it. Rendering drops sub-charts: each loads anew."""
    assert Path(ARCHIVE).exists(), f"VLLM_STACK_CHART is {ARCHIVE}, and there is no such file"
    texts = Chart.load(ARCHIVE).render(handed_over(KINDS_OF_STACK[request.param]), name="vllm", namespace="vllm")
    manifests = [text for template, text in texts.items() if not template.endswith(".txt")]
    return KINDS_OF_STACK[request.param], [o for text in manifests for o in yaml.safe_load_all(text) if o]


@pytest.fixture
def with_sub_charts(rendered):
    """The same of a chart that holds its sub-charts."""
    found = Path(ARCHIVE)
    if found.is_dir():
        names = [str(path) for path in found.rglob("charts/*")]
    else:
        with tarfile.open(found) as archive:
            names = archive.getnames()
    if not any("/charts/" in name for name in names):
        pytest.skip(f"{found.name} holds no sub-charts")
    return rendered


def of_kind(objects, kind):
    return {found["metadata"]["name"]: found for found in objects if found["kind"] == kind}


def engines(objects):
    return {name: found for name, found in of_kind(objects, "Deployment").items() if name.endswith("-deployment-vllm")}


def test_every_object_of_ours_and_of_the_engines_keeps_to_its_schema(rendered):
    options, objects = rendered
    looked_at = {"Deployment", "Service", "HorizontalPodAutoscaler", "NetworkPolicy", "ConfigMap"}
    ours = [found for found in objects if (found["apiVersion"], found["kind"]) in SCHEMAS or found["kind"] in looked_at]
    found = {o["metadata"]["name"]: faults(o) for o in ours if faults(o)}
    if not options["vllm_stack_router_tag"]:
        assert found == {}
    else:
        assert set(found) <= {"vllm-deployment-router"}


def test_the_engine_is_started_with_what_was_planned(rendered):
    options, objects = rendered
    for model in options["vllm_stack_models"]:
        if model["nodes"] > 1:
            continue
        (container,) = engines(objects)[f"vllm-{model['name']}-deployment-vllm"]["spec"]["template"]["spec"][
            "containers"
        ]
        command = container["command"]
        assert command[:3] == ["vllm", "serve", model["source"]]
        assert command[command.index("--tensor-parallel-size") + 1] == str(model["config"]["tensor_parallel_size"])
        assert command[command.index("--served-model-name") + 1] == model["config"]["served_model_name"]
        assert command.count("--enable-prefix-caching") == 1
        assert "--no-enable-prefix-caching" not in command
        limits = container["resources"].get("limits") or {}
        assert limits.get("nvidia.com/gpu") == (str(model["ranks"]) if model["accelerator"] == "cuda" else None)
        assert container["imagePullPolicy"] == "IfNotPresent"
        names = [entry["name"] for entry in container["env"]]
        assert len(names) == len(set(names)), "a name twice breaks server-side apply"
        (key,) = [entry for entry in container["env"] if entry["name"] == "VLLM_API_KEY"]
        assert key["valueFrom"]["secretKeyRef"] == {"name": options["vllm_stack_key_secret"], "key": "key"}


def test_pods_count_is_written_by_one_alone(rendered):
    options, objects = rendered
    scaled = {f["spec"]["scaleTargetRef"]["name"] for f in of_kind(objects, "HorizontalPodAutoscaler").values()}
    scaled |= {f["spec"]["scaleTargetRef"]["name"] for f in of_kind(objects, "ScaledObject").values()}
    assert scaled <= set(engines(objects)), "an autoscaler names a Deployment that is not there"
    for name, found in engines(objects).items():
        assert ("replicas" in found["spec"]) == (name not in scaled)
    autoscaler = {"keda": "ScaledObject", "hpa": "HorizontalPodAutoscaler"}.get(options["vllm_stack_autoscaler"])
    kinds = {found["kind"] for found in objects} & {"ScaledObject", "HorizontalPodAutoscaler"}
    assert kinds <= {autoscaler}


def test_the_query_names_a_service_that_prometheus_watches(with_sub_charts):
    options, objects = with_sub_charts
    for found in of_kind(objects, "ScaledObject").values():
        (trigger,) = found["spec"]["triggers"]
        server = trigger["metadata"]["serverAddress"]
        assert server.removeprefix("http://").partition(".")[0] in of_kind(objects, "Service")
        service = trigger["metadata"]["query"].partition('service="')[2].partition('"')[0]
        assert service in of_kind(objects, "Service")
    if options["vllm_stack_autoscaler"] != "none":
        (monitor,) = of_kind(objects, "ServiceMonitor").values()
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        watched = [f for f in of_kind(objects, "Service").values() if wanted <= f["metadata"].get("labels", {}).items()]
        assert len(watched) == len(options["vllm_stack_models"]), "each model is scraped once"
        for service in watched:
            assert monitor["spec"]["endpoints"][0]["port"] in [port["name"] for port in service["spec"]["ports"]]
        (prometheus,) = of_kind(objects, "Prometheus").values()
        chosen = prometheus["spec"]["serviceMonitorSelector"]["matchLabels"].items()
        assert chosen <= monitor["metadata"]["labels"].items()


def test_the_adapter_publishes_what_the_autoscaler_asks_for(with_sub_charts):
    options, objects = with_sub_charts
    if options["vllm_stack_autoscaler"] != "hpa":
        return
    (text,) = [f["data"]["config.yaml"] for f in of_kind(objects, "ConfigMap").values() if "config.yaml" in f["data"]]
    (rule,) = yaml.safe_load(text)["rules"]
    asked = {
        metric["pods"]["metric"]["name"]
        for found in of_kind(objects, "HorizontalPodAutoscaler").values()
        for metric in found["spec"]["metrics"]
    }
    assert asked <= {rule["name"]["as"]}
    assert rule["name"]["as"] in {signal.metric for signal in SIGNALS.values()}
    (adapter,) = [f for name, f in of_kind(objects, "Deployment").items() if name.endswith("prometheus-adapter")]
    words = adapter["spec"]["template"]["spec"]["containers"][0]["args"]
    (url,) = [word.partition("=")[2] for word in words if word.startswith("--prometheus-url=")]
    assert url.removeprefix("http://").partition(".")[0] in of_kind(objects, "Service")


def test_every_port_of_the_nodes_leads_to_pods(rendered):
    options, objects = rendered
    pods = [found["spec"]["template"]["metadata"]["labels"] for found in of_kind(objects, "Deployment").values()]
    groups = [found["spec"]["leaderWorkerTemplate"] for found in of_kind(objects, "LeaderWorkerSet").values()]
    pods += [group["leaderTemplate"]["metadata"]["labels"] for group in groups]
    for model in options["vllm_stack_models"]:
        service = of_kind(objects, "Service")[f"vllm-{model['name']}-front-door"]
        reached = [labels for labels in pods if service["spec"]["selector"].items() <= labels.items()]
        assert len(reached) == 1
        assert service["spec"]["ports"][0]["nodePort"] == model["node_port"]


def test_the_policies_are_about_pods_that_are_there(rendered):
    _options, objects = rendered
    components = {
        found["spec"]["template"]["metadata"]["labels"].get("app.kubernetes.io/component")
        for found in of_kind(objects, "Deployment").values()
    }
    (expression,) = of_kind(objects, "NetworkPolicy")["vllm-engines"]["spec"]["podSelector"]["matchExpressions"]
    assert set(expression["values"]) & components


def test_nothing_but_what_scaling_needs_comes_along(with_sub_charts):
    options, objects = with_sub_charts
    kinds = {found["kind"] for found in objects}
    assert not {"Alertmanager", "DaemonSet", "StatefulSet", "PrometheusRule"} & kinds
    assert ("Prometheus" in kinds) == (options["vllm_stack_autoscaler"] != "none")
    assert "Ingress" not in kinds
