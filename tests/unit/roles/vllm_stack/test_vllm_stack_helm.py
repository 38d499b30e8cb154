# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Charts handed to a Helm on the server: kubernetes.core.helm itself, over the stand-in of Helm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

PLAY = """
- hosts: localhost
  gather_facts: false
  vars:
    vllm_stack_delivery: helm
    vllm_stack_timeout: 30
    __vllm_stack_one: "{{ one }}"
  tasks:
    - ansible.builtin.include_role:
        name: gpufleet.serving.vllm_stack
        tasks_from: chart
        rolespec_validate: false
"""
HELM = Path(__file__).resolve().parents[3] / "k3s/helm"
NOTED = """#!/bin/sh
printf '%s\\n' "$*" >>{folder}/asked
exec {python} {helm} "$@"
"""


class Cluster(BaseHTTPRequestHandler):
    """Keeps releases, for whoever has the password."""

    def do_POST(self):
        assert self.headers["Authorization"] == "let me in"
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.releases |= asked["upgrade"]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"releases": self.server.releases, "err": ""}).encode())

    def log_message(self, *_words):
        """Say nothing."""


@pytest.fixture
def cluster():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Cluster)
    server.releases = {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def hand_over(tmp_path, cluster):
    """Run the tasks over a chart and values; returns whether they changed anything and the words of Helm's upgrades."""
    (tmp_path / "play.yml").write_text(PLAY)
    helm = tmp_path / "helm"
    helm.write_text(NOTED.format(folder=tmp_path, python=sys.executable, helm=HELM))
    helm.chmod(0o755)
    (tmp_path / "kubeconfig").write_text(f"server: {cluster}\npassword: let me in\n")

    def run(chart, values):
        (tmp_path / "asked").unlink(missing_ok=True)
        one = {"chart": chart, "release": chart, "namespace": "vllm", "given": values}
        given = {"one": one, "vllm_stack_kubeconfig": str(tmp_path / "kubeconfig")}
        done = subprocess.run(
            [Path(sys.executable).parent / "ansible-playbook", "--extra-vars", json.dumps(given), "play.yml"],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "true"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        asked = [line.split() for line in (tmp_path / "asked").read_text().splitlines()]
        return "changed=1" in done.stdout, [words for words in asked if "upgrade" in words]

    return run


def test_a_chart_of_a_site_is_handed_over_once_and_again_with_other_values(hand_over):
    changed, (words,) = hand_over("vllm-stack", {"servingEngineSpec": {"modelSpec": []}})
    assert changed
    assert words[-2:] == ["vllm-stack", "vllm-stack"]
    assert {"--repo=https://vllm-project.github.io/production-stack", "--version=0.1.12"} <= set(words)
    assert words[words.index("--timeout") + 1] == "30s"
    assert hand_over("vllm-stack", {"servingEngineSpec": {"modelSpec": []}}) == (False, [])
    changed, upgrades = hand_over("vllm-stack", {"servingEngineSpec": {"modelSpec": [{"name": "a"}]}})
    assert (changed, len(upgrades)) == (True, 1)


def test_a_chart_of_a_registry_is_asked_for_by_its_address(hand_over):
    changed, (words,) = hand_over("lws", {})
    assert changed
    assert words[-2:] == ["lws", "oci://registry.k8s.io/lws/charts/lws"]
    assert not [word for word in words if word.startswith("--repo")]
    assert "--version=0.9.0" in words
