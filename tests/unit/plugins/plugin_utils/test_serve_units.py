# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.serving.plugins.plugin_utils import _engine_flags
from ansible_collections.gpufleet.serving.plugins.plugin_utils._serve_units import OWNED_ARGUMENTS, unit_problems

SPEC = Path(__file__).resolve().parents[4] / "roles/serve/meta/argument_specs.yml"


def unit(**changes):
    return {
        "name": "tiny-0",
        "address": "10.0.0.11",
        "port": 8000,
        "engine_path": "/opt/gpufleet/engine/cuda-0.33.0",
        "model_path": "/var/lib/gpufleet/models/tiny/0123456789ab",
        "accelerator": "cuda",
        "devices": ["GPU-a", "GPU-b"],
        "config": {"served_model_name": "tiny", "tensor_parallel_size": 2},
    } | changes


def member(node_rank=0, config=None, devices=("GPU-a",), **changes):
    """The unit of a replica over two hosts on one of them."""
    group = {
        "node_rank": node_rank,
        "hosts": ["gpu1", "gpu2"],
        "addresses": ["10.1.0.1", "10.1.0.2"],
        "master_port": 29501,
        "gloo_interface": "bond0",
    }
    config = config or {"tensor_parallel_size": 2, "nnodes": 2}
    return unit(config=config, devices=list(devices), group=group | changes)


def second(**changes):
    return unit(**{"name": "tiny-1", "port": 8001, "devices": ["GPU-c", "GPU-d"]} | changes)


@pytest.mark.parametrize(
    "units",
    [
        [],
        [unit()],
        [unit(), second()],
        [unit(), second(port=8000, address="10.0.1.11")],
        [unit(config={"tensor_parallel_size": 1, "pipeline_parallel_size": 2})],
        [unit(config={}, devices=["0"])],
        [unit(accelerator="cpu", cpu_kv_gib=1, devices=["cpu:0", "cpu:1"])],
        [
            unit(accelerator="cpu", cpu_kv_gib=1, devices=["cpu:0", "cpu:0"]),
            second(accelerator="cpu", cpu_kv_gib=1, devices=["cpu:0", "cpu:0"]),
        ],
        [member(0)],
        [member(1), second()],
        [unit(address="fd00::1", engine_args={"enable_prefix_caching": True})],
    ],
)
def test_good_units(units):
    assert unit_problems(units) == []


@pytest.mark.parametrize(
    ("units", "problem"),
    [
        ([unit(), second(name="tiny-0")], "2 units are named tiny-0: give each its own name."),
        ([unit(), second(port=8000)], "10.0.0.11 port 8000 is given to tiny-0 and tiny-1: give each its own port."),
        (
            [unit(), second(devices=["GPU-b", "GPU-c"])],
            "The GPU GPU-b is given to tiny-0 and tiny-1: give each GPU to one unit, once.",
        ),
        ([unit(devices=["GPU-a", "GPU-a"])], "The GPU GPU-a is given to tiny-0: give each GPU to one unit, once."),
        ([unit(name="Tiny_0")], "'Tiny_0' is no DNS label: use up to 63 of a-z, 0-9 and inner dashes."),
        ([unit(name="a" * 64)], f"'{'a' * 64}' is no DNS label: use up to 63 of a-z, 0-9 and inner dashes."),
        (
            [unit(address="0.0.0.0")],
            "tiny-0: 0.0.0.0 is every address of the host: name one that only gateways reach.",
        ),
        ([unit(address="host-a")], "tiny-0: 'host-a' is no IP address: name the one that the engine binds."),
        (
            [unit(config={"tensor_parallel_size": 4, "pipeline_parallel_size": 2})],
            "tiny-0: tensor_parallel_size 4 x pipeline_parallel_size 2 makes 8 ranks, and 2 devices are given: "
            "give one a rank.",
        ),
        (
            [unit(accelerator="cpu")],
            "tiny-0: runs on the CPU without cpu_kv_gib: say how many GiB of KV cache each rank gets.",
        ),
        (
            [unit(model_path="/srv/my models")],
            "tiny-0: model_path '/srv/my models' is no plain absolute path: use letters, digits and ._/+@=:,- only.",
        ),
        (
            [unit(engine_path="venv")],
            "tiny-0: engine_path 'venv' is no plain absolute path: use letters, digits and ._/+@=:,- only.",
        ),
        (
            [unit(model_path="/dev/shm/tiny")],
            "tiny-0: model_path /dev/shm/tiny lies where each unit has a folder of its own: move it.",
        ),
        (
            [unit(engine_args={"api_key": "x"})],
            "tiny-0: engine_args.api_key would stand in a file that everybody can read: leave it out.",
        ),
        (
            [unit(engine_env={"HF_TOKEN": "x"})],
            "tiny-0: engine_env.HF_TOKEN would stand in a file that everybody can read: leave it out.",
        ),
        (
            [unit(engine_args={"max-model-len": 8})],
            "tiny-0: engine_args.max-model-len is what another option of the unit sets: leave it out.",
        ),
    ],
)
def test_bad_units(units, problem):
    assert unit_problems(units) == [problem]


def test_all_problems_are_told_at_once():
    assert len(unit_problems([unit(name="A", address="::", engine_args={"port": 1, "host": "x"})])) == 4


def test_every_setting_of_the_argument_spec_is_owned():
    units = yaml.safe_load(SPEC.read_text())["argument_specs"]["main"]["options"]["serve_units"]["options"]
    assert set(units["config"]["options"]) <= OWNED_ARGUMENTS


@pytest.mark.parametrize(("variant", "version"), [("cpu", "0.32.0"), ("cuda", "0.33.0")])
def test_every_owned_argument_is_a_flag_of_the_engines(variant, version):
    assert OWNED_ARGUMENTS.issubset(_engine_flags.known(variant, version))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"config": {"tensor_parallel_size": 1}}, "nnodes is 1, and group is given"),
        ({"node_rank": 2}, "2 hosts, 2 addresses and node_rank 2"),
        ({"hosts": ["gpu1"]}, "1 hosts, 2 addresses and node_rank 0"),
        ({"addresses": ["127.0.1.1", "10.1.0.2"]}, "'127.0.1.1' is no address at which another host is reached"),
        ({"addresses": ["gpu1", "10.1.0.2"]}, "'gpu1' is no address"),
        ({"gloo_interface": None}, "name the interface that has 10.1.0.1"),
        ({"devices": ["GPU-a", "GPU-b"]}, "makes 2 ranks, and 2 devices are given"),
    ],
)
def test_a_group_that_could_not_meet_is_named(change, problem):
    assert any(problem in told for told in unit_problems([member(**change)])), unit_problems([member(**change)])


def test_ports_for_ray_and_ray_go_together():
    words = {"tensor_parallel_size": 2, "nnodes": 2, "distributed_executor_backend": "ray"}
    assert unit_problems([member(config=words, ray_port=20000)]) == []
    (problem,) = unit_problems([member(config=words)])
    assert "it runs over Ray, and group.ray_port is missing" in problem
    (problem,) = unit_problems([member(ray_port=20000)])
    assert "it runs without Ray, and group.ray_port is given" in problem


def test_several_hosts_need_a_group():
    lone = unit(config={"tensor_parallel_size": 4, "nnodes": 2})
    assert unit_problems([lone]) == ["tiny-0: nnodes is 2, and group is missing."]
