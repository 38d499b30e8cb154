# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that the role k3s writes, rendered by Ansible itself with its own variables, for each kind of node."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from ansible.template import trust_as_template
from ansible_collections.gpufleet.serving.plugins.filter.bundle import FilterModule as BundleFilters
from ansible_collections.gpufleet.serving.plugins.filter.k3s import FilterModule as OurFilters
from ansible_collections.gpufleet.serving.plugins.filter.vllm_stack import FilterModule as ChartFilters
from ansible_collections.gpufleet.serving.tests.unit.roles import role_variables

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vllm_stack"))

from kubernetes_objects import faults

ROLE = Path(__file__).resolve().parents[4] / "roles" / "k3s"
TOKEN, AGENT_TOKEN = "servers-" + "s" * 30, "agents-" + "a" * 30
JOIN = "K10" + "f" * 64 + "::"
FILE = {"source": "/srv/k3s/k3s", "sha256": "a" * 64}
NODE = {
    "inventory_hostname": "node1",
    "k3s_node_address": "10.0.0.1",
    "k3s_token": TOKEN,
    "k3s_agent_token": AGENT_TOKEN,
    "k3s_install_script": FILE,
    "__k3s_state": {"machine": "x86_64"},
}
SHAPES = {
    "first server": {"k3s_node_role": "server"},
    "another server": {
        "k3s_node_role": "server",
        "k3s_server_address": "10.0.0.9",
        "__k3s_join_token": f"{JOIN}server:x",
    },
    "GPU agent": {
        "k3s_node_role": "agent",
        "k3s_server_address": "10.0.0.9",
        "__k3s_join_token": f"{JOIN}node:x",
        "k3s_gpus": 8,
    },
}
GOLDEN = {
    "first server": f"""
agent-token: {AGENT_TOKEN}
cluster-init: true
disable:
- traefik
- servicelb
node-ip: 10.0.0.1
node-name: node1
secrets-encryption: true
token: {TOKEN}
write-kubeconfig-mode: '0600'
""",
    "another server": f"""
agent-token: {AGENT_TOKEN}
disable:
- traefik
- servicelb
node-ip: 10.0.0.1
node-name: node1
secrets-encryption: true
server: https://10.0.0.9:6443
token: {JOIN}server:x
write-kubeconfig-mode: '0600'
""",
    "GPU agent": f"""
node-ip: 10.0.0.1
node-label:
- nvidia.com/gpu.present=true
node-name: node1
server: https://10.0.0.9:6443
token: {JOIN}node:x
""",
}


def templar(**given):
    return role_variables.templar("k3s", (BundleFilters, OurFilters, ChartFilters), NODE | given)


def rendered(path, **given):
    return templar(**given).template(trust_as_template((ROLE / "templates" / path).read_text(encoding="utf-8")))


@pytest.mark.parametrize("shape", SHAPES)
def test_config_yaml_holds_everything_that_a_node_is_started_with(shape):
    made = rendered("etc/rancher/k3s/config.yaml.j2", **SHAPES[shape])
    comment, _line, settings = made.partition("\n")
    assert comment.startswith("# gpufleet.serving: k3s.")
    assert settings.strip() == GOLDEN[shape].strip()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_drop_in_says_what_it_is_started_with_and_no_secret(shape):
    made = rendered("etc/systemd/system/k3s.service.d/gpufleet.conf.j2", **SHAPES[shape])
    assert TOKEN not in made and AGENT_TOKEN not in made
    lines = [line for line in made.splitlines() if not line.startswith("#")]
    assert lines[0] == "[Service]"
    assert lines[1].startswith("Environment=GPUFLEET_STAMP=") and len(lines[1].rpartition("=")[2]) == 16
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("archive", "chart"),
    [
        ({"source": "", "sha256": ""}, "nvidia-device-plugin"),
        (FILE, "https://%{KUBERNETES_API}%/static/charts/nvidia-device-plugin-0.18.2.tgz"),
    ],
)
def test_the_device_plugin_is_a_chart_that_runs_under_nvidias_runtime(archive, chart):
    path = "var/lib/rancher/k3s/server/manifests/gpufleet-device-plugin.json.j2"
    made = rendered(path, k3s_node_role="server", k3s_device_plugin_archive=archive)
    found = json.loads(made) if isinstance(made, str) else made
    assert faults(found) == []
    assert found["spec"]["chart"] == chart
    assert json.loads(found["spec"]["valuesContent"]) == {"runtimeClassName": "nvidia"}


def test_files_have_their_places_and_archives_keep_their_names():
    archives = [{"source": "/srv/images/k3s.tar.zst", "sha256": "a" * 64}]
    made = templar(k3s_node_role="agent", k3s_image_archives=archives)
    places = made.template(trust_as_template("{{ __k3s_file_places | map('last') | list }}"))
    assert places == [
        "/usr/local/bin/k3s",
        "/var/lib/gpufleet/k3s/install.sh",
        "/var/lib/rancher/k3s/agent/images/k3s.tar.zst",
    ]


@pytest.mark.parametrize(("role", "gets_it"), [("server", True), ("agent", False)])
def test_every_server_gets_the_device_plugins_chart_since_any_is_asked_for_it(role, gets_it):
    made = templar(k3s_node_role=role, k3s_device_plugin_archive=FILE)
    places = made.template(trust_as_template("{{ __k3s_file_places | map('last') | list }}"))
    assert ("/var/lib/rancher/k3s/server/static/charts/nvidia-device-plugin-0.18.2.tgz" in places) is gets_it


def test_out_of_a_bundle_files_have_the_same_places_and_the_node_the_same_stamp():
    archives = [{"source": "https://example.org/k3s.tar.zst", "sha256": "b" * 64}]
    given = {"k3s_node_role": "agent", "k3s_server_address": "10.0.0.9", "k3s_image_archives": archives}
    ask = trust_as_template("{{ [__k3s_file_places, __k3s_options | gpufleet.serving.k3s_stamp, __k3s_files] }}")
    places, stamp, _brought = templar(**given).template(ask)
    bundled, same, brought = templar(**given, k3s_bundle="/srv/bundle").template(ask)
    assert ([place for _file, place in bundled], same) == ([place for _file, place in places], stamp)
    assert [file["source"] for file in brought] == [
        "/srv/bundle/files/5fc25309c530/k3s",
        "/srv/bundle/files/aaaaaaaaaaaa/k3s",
        "/srv/bundle/files/bbbbbbbbbbbb/k3s.tar.zst",
    ]


@pytest.mark.parametrize(("gpu_nodes", "wanted"), [([], 2), ([{"name": "node1", "count": 8}], 3)])
def test_a_bundle_has_the_device_plugin_where_there_are_gpus(gpu_nodes, wanted):
    made = templar(k3s_node_role="server", k3s_gpu_nodes=gpu_nodes)
    assert len(made.template(trust_as_template("{{ __k3s_wanted_files }}"))) == wanted


def test_the_program_of_another_release_or_machine_has_no_digest_that_is_known():
    ask = trust_as_template("{{ __k3s_options.k3s_binary.sha256 }}")
    assert len(templar(k3s_node_role="agent").template(ask)) == 64
    assert templar(k3s_node_role="agent", k3s_version="v1.36.3+k3s1").template(ask) == ""
    assert templar(k3s_node_role="agent", __k3s_state={"machine": "aarch64"}).template(ask) == ""
