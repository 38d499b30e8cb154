# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what engines export to what an autoscaler reads, through a real Prometheus.

Exporters speak as vLLM does; the relabelling is that of a ServiceMonitor. KEDA's query must give one element, and the
adapter's rule one value for each pod.
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from ansible_collections.gpufleet.serving.plugins.plugin_utils._stack_scaling import SIGNALS, adapter_rule, keda
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.stacks import model, options

PODS = {
    "vllm-llama-deployment-vllm-a": ("llama", {"running": [75], "waiting": [3], "kv_cache": [0.5]}),
    "vllm-llama-deployment-vllm-b": ("llama", {"running": [20, 5], "waiting": [0, 1], "kv_cache": [0.9, 0.7]}),
    "vllm-llama-guard-deployment-vllm-c": ("llama-guard", {"running": [9], "waiting": [9], "kv_cache": [0.1]}),
}
"""Pods with their model, and for each signal a value of each engine core; the second copies its attention."""
TOGETHER = {"running": 100, "waiting": 4, "kv_cache": 0.5 + 0.8}
EACH = {
    "running": {"vllm-llama-deployment-vllm-a": 75, "vllm-llama-deployment-vllm-b": 25},
    "waiting": {"vllm-llama-deployment-vllm-a": 3, "vllm-llama-deployment-vllm-b": 1},
    "kv_cache": {"vllm-llama-deployment-vllm-a": 0.5, "vllm-llama-deployment-vllm-b": 0.8},
}
OPERATORS_RELABELLING = [
    {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
    {"source_labels": ["__meta_kubernetes_service_name"], "target_label": "service"},
    {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
]
"""Source: prometheus-operator, the labels that it gives the targets of a ServiceMonitor."""


def exposition(values):
    """What the engine cores of one pod export."""
    lines = []
    for name, cores in values.items():
        series = SIGNALS[name].series
        lines.append(f"# TYPE {series} gauge")
        lines += [f'{series}{{engine="{core}",model_name="org/x"}} {value}' for core, value in enumerate(cores)]
    return "\n".join(lines) + "\n"


class Exporter(BaseHTTPRequestHandler):
    """Answers with the text that its server holds."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(self.server.text.encode())

    def log_message(self, *_words):
        """Say nothing."""


@pytest.fixture(scope="module")
def exporters():
    """pod -> the port that its metrics are at."""
    servers = {}
    for pod, (_model, values) in PODS.items():
        servers[pod] = ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
        servers[pod].text = exposition(values)
        threading.Thread(target=servers[pod].serve_forever, daemon=True).start()
    yield {pod: server.server_address[1] for pod, server in servers.items()}
    for server in servers.values():
        server.shutdown()
        server.server_close()


def target(pod, port):
    labels = {
        "__meta_kubernetes_namespace": "vllm",
        "__meta_kubernetes_service_name": f"vllm-{PODS[pod][0]}-engine-service",
        "__meta_kubernetes_pod_name": pod,
    }
    return {"targets": [f"127.0.0.1:{port}"], "labels": labels}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def prometheus(prometheus_programs, exporters, tmp_path_factory):
    """A function that answers a query with its elements."""
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    job = {
        "job_name": "vllm-engine-servicemonitor",
        "scrape_interval": "1s",
        "static_configs": [target(pod, exporter) for pod, exporter in exporters.items()],
        "relabel_configs": OPERATORS_RELABELLING,
    }
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump({"scrape_configs": [job]}), encoding="utf-8")
    words = [f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([prometheus_programs / "prometheus", *words], stdout=log, stderr=log)
    try:

        def ask(query):
            words = urllib.parse.urlencode({"query": query})
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{words}", timeout=5) as answer:
                return json.load(answer)["data"]["result"]

        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                if len(ask("up == 1")) == len(PODS):
                    break
            except OSError:
                pass
            time.sleep(0.5)
        else:
            pytest.fail(f"Prometheus has not scraped all pods: {(folder / 'log').read_text()[-2000:]}")
        yield ask
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.parametrize("signal", SIGNALS)
def test_keda_reads_one_element_of_its_model_alone(prometheus, signal):
    (trigger,) = keda(model(), options(vllm_stack_scaling_signal=signal))["triggers"]
    elements = prometheus(trigger["metadata"]["query"])
    assert [float(element["value"][1]) for element in elements] == [pytest.approx(TOGETHER[signal])]


@pytest.mark.parametrize("signal", SIGNALS)
def test_the_adapter_reads_one_value_for_each_pod(prometheus, signal):
    rule = adapter_rule(SIGNALS[signal])
    assert len(prometheus(rule["seriesQuery"])) >= len(PODS)
    asked = {
        "<<.Series>>": SIGNALS[signal].series,
        "<<.LabelMatchers>>": 'namespace="vllm",pod=~"' + "|".join(EACH[signal]) + '"',
        "<<.GroupBy>>": "pod",
    }
    query = rule["metricsQuery"]
    for word, value in asked.items():
        query = query.replace(word, value)
    found = {element["metric"]["pod"]: float(element["value"][1]) for element in prometheus(query)}
    assert found == {pod: pytest.approx(value) for pod, value in EACH[signal].items()}


def test_the_chain_ends_where_both_autoscalers_agree(prometheus):
    """The sum over the pods by its threshold is the average of each by its target: both ask for as many pods."""
    (trigger,) = keda(model(), options())["triggers"]
    ((_time, together),) = [element["value"] for element in prometheus(trigger["metadata"]["query"])]
    average = sum(EACH["running"].values()) / len(EACH["running"])
    assert float(together) / len(EACH["running"]) == pytest.approx(average)


def test_promtool_finds_the_queries_well_formed(prometheus_programs, tmp_path):
    """Recorded as rules over made-up series, they give what they should, without a Prometheus that runs."""
    rules, series = [], []
    for name, signal in SIGNALS.items():
        (trigger,) = keda(model(), options(vllm_stack_scaling_signal=name))["triggers"]
        rules.append({"record": f"together_{name}", "expr": trigger["metadata"]["query"]})
        for pod, (owner, values) in PODS.items():
            for core, value in enumerate(values[name]):
                labels = f'namespace="vllm",service="vllm-{owner}-engine-service",pod="{pod}",engine="{core}"'
                series.append({"series": f"{signal.series}{{{labels}}}", "values": f"{value}+0x5"})
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "scaling", "rules": rules}]}))
    expected = [
        {"expr": f"round(together_{name}, 0.001)", "eval_time": "2m", "exp_samples": [{"labels": "{}", "value": value}]}
        for name, value in TOGETHER.items()
    ]
    test = {
        "rule_files": ["rules.yml"],
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": expected}],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    told = subprocess.run(
        [prometheus_programs / "promtool", "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stdout + told.stderr
