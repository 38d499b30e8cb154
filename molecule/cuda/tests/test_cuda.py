# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock of the CUDA engine, installed: its versions, its flags, its size. No GPU is here, and nothing serves."""

from __future__ import annotations

import json
import re

import pytest
import record_flags

ENGINE = "cuda-0.33.0"
PATH = f"/opt/gpufleet/engine/{ENGINE}"
LOCK = record_flags.CHECKOUT / f"roles/engine/files/locks/{ENGINE}-py3.11-x86_64.txt"

VERSIONS = """
import importlib.metadata, json
print(json.dumps({found.metadata["Name"]: found.version for found in importlib.metadata.distributions()}))
"""


def as_engine(host, script):
    """The output of a script that the engine's Python runs as the engine's user; where no GPU is, vLLM wants a CPU."""
    environment = f"PATH={PATH}/bin:/usr/bin:/bin HOME=/tmp/vllm VLLM_NO_USAGE_STATS=1 VLLM_TARGET_DEVICE=cpu"
    host.check_output("install -d -o vllm /tmp/vllm")
    return host.check_output(f"runuser -u vllm -- env {environment} python -c %s 2>/dev/null", script)


def plain(project):
    return re.sub(r"[-_.]+", "-", project).lower()


def test_the_environment_holds_exactly_what_the_lock_names(host):
    assert host.file(f"{PATH}/gpufleet-lock.txt").content_string == LOCK.read_text()
    locked = dict(re.findall(r"^(\S+?)==(\S+)", LOCK.read_text(), re.MULTILINE))
    found = {plain(name): version for name, version in json.loads(as_engine(host, VERSIONS)).items()}
    assert found == {plain(name): version for name, version in locked.items()}
    assert (found["vllm"], found["torch"], found["ray"]) == ("0.33.0", "2.14.0", "2.60.0")


def test_torch_is_built_for_the_cuda_that_drivers_are_judged_by(host):
    assert as_engine(host, "import torch; print(torch.version.cuda)") == "13.0"


def test_the_recorded_flags_are_those_of_the_engines_own_parser(host):
    described = as_engine(host, record_flags.DESCRIBE.read_text())
    options = [line for line in described.split() if line.startswith("--")]
    assert record_flags.flags(options) == record_flags.read_lists()[0][ENGINE]


def test_the_recorded_parsers_are_those_of_the_engine(host):
    files = {file for file, _name in record_flags.PARSERS.values()}
    sources = {file: host.file(f"{PATH}/lib/python3.11/site-packages/{file}").content_string for file in files}
    assert record_flags.parsers_of_source(sources) == record_flags.read_lists()[1][ENGINE]


@pytest.mark.parametrize("program", ["vllm", "ray", "ninja"])
def test_the_programs_of_a_unit_are_in_the_environment(host, program):
    assert host.file(f"{PATH}/bin/{program}").exists


def test_the_engine_says_which_kernels_it_would_fetch(host):
    """What engine_download_kernels runs, but for the fetch."""
    environment = f"PATH={PATH}/bin:/usr/bin:/bin HOME=/tmp/vllm VLLM_TARGET_DEVICE=cpu"
    said = host.check_output(f"env {environment} vllm download-kernels --dry-run 2>&1")
    assert f"{PATH}/bin/uv pip install" in said
    assert "flashinfer-jit-cache==0.7.2.post1+cu130" in said


def test_the_kernels_count_as_changed_by_the_words_that_flashinfer_says(host):
    program = host.file(f"{PATH}/lib/python3.11/site-packages/flashinfer/__main__.py").content_string
    assert "flashinfer-jit-cache installed successfully." in program


def test_its_size_is_told(host):
    megabytes = int(host.check_output(f"du -sm {PATH}").split()[0])
    print(f"\n{ENGINE}: {megabytes} MB on the host")
    assert megabytes < 15_000
