# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Charts handed to a Helm on the server: kubernetes.core.helm itself, over a Helm that keeps its releases in a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
# Source of its answers: helm's documentation of list, get values, show chart and upgrade
HELM = """#!{python}
import json, os, pathlib, sys
import yaml
kept = pathlib.Path(__file__).with_name("releases.json")
releases = json.loads(kept.read_text()) if kept.exists() else {{}}
words = sys.argv[1:]
way_in = pathlib.Path(os.environ["KUBECONFIG"]).read_text() if words != ["version"] else ""
with open(pathlib.Path(__file__).with_name("asked"), "a") as asked:
    asked.write(json.dumps({{"words": words, "way_in": way_in}}) + "\\n")
flags = dict(word.split("=", 1) for word in words if word.startswith("-") and "=" in word)
chart = words[-1].rpartition("/")[2]
if "version" in words:
    print('version.BuildInfo{{Version:"v3.19.0", GitCommit:"", GitTreeState:"clean", GoVersion:"go1.24"}}')
elif "plugin" in words:
    print("NAME VERSION DESCRIPTION")
elif "list" in words:
    rest = {{"namespace": "vllm", "revision": "1", "status": "deployed", "app_version": ""}}
    print(json.dumps([{{"name": name}} | about | rest for name, (about, _values) in releases.items()]))
elif "get" in words:
    print(json.dumps(releases[words[-1]][1]))
elif "show" in words:
    print(json.dumps({{"name": chart, "version": flags["--version"]}}))
elif "upgrade" in words:
    values = yaml.safe_load(open(flags["-f"])) if "-f" in flags else {{}}
    releases[words[-2]] = ({{"chart": chart + "-" + flags["--version"]}}, values)
    kept.write_text(json.dumps(releases))
"""


@pytest.fixture
def hand_over(tmp_path):
    """Run the tasks over a chart and values; returns whether they changed anything and the words of Helm's upgrades."""
    (tmp_path / "play.yml").write_text(PLAY)
    helm = tmp_path / "helm"
    helm.write_text(HELM.format(python=sys.executable))
    helm.chmod(0o755)
    (tmp_path / "kubeconfig").write_text("clusters: [ours]\n")

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
        asked = [json.loads(line) for line in (tmp_path / "asked").read_text().splitlines()]
        assert {call["way_in"] for call in asked if call["words"] != ["version"]} == {'{"clusters": ["ours"]}'}
        return "changed=1" in done.stdout, [call["words"] for call in asked if "upgrade" in call["words"]]

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
