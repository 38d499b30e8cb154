# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._gpu_catalogue import (
    CATALOGUE,
    LARGEST_RESERVED_MIB,
    MigProfile,
    by_key,
    by_name,
    by_pci,
    identify,
    nearest_key,
    parse_mig_profile,
    usable_gib,
)

BY_ID = pytest.mark.parametrize("model", CATALOGUE, ids=lambda model: model.key)


@BY_ID
def test_every_figure_is_plausible_and_has_a_source(model):
    sources = model.sources
    assert all((sources.identity, sources.memory_total, sources.usable, sources.rates))
    assert 200 <= model.reserved_mib <= 1200
    marketing_gb = int(model.key.rsplit("-", 1)[1].removesuffix("GB"))
    assert 0.9 * marketing_gb <= model.memory_total_mib / 1024 <= 1.03 * marketing_gb
    assert model.fp8_tflops is None or 1.95 <= model.fp8_tflops / model.fp16_tflops <= 2.05
    assert model.fp4_tflops is None or 1.95 <= model.fp4_tflops / (model.fp8_tflops or 1) <= 4.05
    assert (model.bf16_tflops is None) == (float(model.compute_capability) < 8)


@BY_ID
def test_every_name_and_id_leads_back_to_its_model(model):
    assert by_key(model.key) is model
    assert all(by_name(name) is model for name in model.names)
    for pci in model.pci_ids:
        assert model in by_pci("10de", pci.device)
        assert all(by_pci("10de", pci.device, board) == (model,) for board in pci.subsystems)


def test_keys_and_names_are_unique():
    assert len({model.key for model in CATALOGUE}) == len(CATALOGUE)
    names = [name for model in CATALOGUE for name in model.names]
    assert len(set(names)) == len(names)


def test_what_the_engine_runs_on():
    assert {model.key for model in CATALOGUE if not model.runs_engine} == {
        "V100-SXM-32GB",
        "V100-SXM-16GB",
        "V100-PCIE-32GB",
        "V100-PCIE-16GB",
    }


NAMES = {
    "NVIDIA H100 80GB HBM3": "H100-SXM-80GB",
    "NVIDIA H100 PCIe": "H100-PCIE-80GB",
    "NVIDIA H100 NVL": "H100-NVL-94GB",
    "NVIDIA A100-SXM4-40GB": "A100-SXM-40GB",
    "A100-SXM4-40GB": "A100-SXM-40GB",
    "A100-SXM-80GB": "A100-SXM-80GB",
    "NVIDIA A100-SXM4-80GB": "A100-SXM-80GB",
    "NVIDIA A100-PCIE-40GB": "A100-PCIE-40GB",
    "NVIDIA A100 80GB PCIe": "A100-PCIE-80GB",
    "NVIDIA H200": "H200-SXM-141GB",
    "NVIDIA B200": "B200-SXM-180GB",
    "NVIDIA L40S": "L40S-48GB",
    "NVIDIA L40": "L40-48GB",
    "NVIDIA L4": "L4-24GB",
    "Tesla T4": "T4-16GB",
    "T4": "T4-16GB",
    "NVIDIA GeForce RTX 4090": "RTX-4090-24GB",
    "GeForce RTX 4090": "RTX-4090-24GB",
    "  nvidia geforce  rtx_4090 ": "RTX-4090-24GB",
    "NVIDIA H20": "H20-SXM-96GB",
    "NVIDIA H20-3e": "H20-SXM-141GB",
    "NVIDIA B300 SXM6 AC": "B300-SXM-288GB",
    "NVIDIA GeForce RTX 5060 Ti": None,
    "NVIDIA H100": None,
    "NVIDIA A10-24Q": None,
    "NVIDIA": None,
    "": None,
}


@pytest.mark.parametrize(("name", "key"), NAMES.items(), ids=repr)
def test_by_name(name, key):
    model = by_name(name)
    assert (model.key if model else None) == key


PCI = {
    ("10de", "2330", "10de:16c1"): ["H100-SXM-80GB"],
    ("0x10DE", "0x2335", None): ["H200-SXM-141GB"],
    ("10de", "2901", "10de:1999"): ["B200-SXM-180GB"],
    ("10de", "26b9", "10de:1851"): ["L40S-48GB"],
    ("10de", "27B8", "0x10DE:0x16CA"): ["L4-24GB"],
    ("10de", "2bb3", "10de:227a"): ["RTX-PRO-5000-72GB"],
    ("10de", "2bb3", "17aa:204d"): ["RTX-PRO-5000-48GB"],
    ("10de", "2bb3", "1043:ffff"): ["RTX-PRO-5000-72GB", "RTX-PRO-5000-48GB"],
    ("10de", "2bb3", None): ["RTX-PRO-5000-72GB", "RTX-PRO-5000-48GB"],
    ("10de", "20b1", None): ["A100-PCIE-40GB"],
    ("10de", "ffff", None): [],
    ("1002", "2330", None): [],
}


@pytest.mark.parametrize(("ids", "keys"), PCI.items(), ids=repr)
def test_by_pci(ids, keys):
    assert [model.key for model in by_pci(*ids)] == keys


IDENTITIES = {
    "the name decides, whatever the rest says": (("NVIDIA L40S", "10de", "2330", None, 49140), ["L40S-48GB"]),
    "the id where the name is not known": (("NVIDIA L40S-X", "10de", "26b9", None, 46068), ["L40S-48GB"]),
    "ECC switched off": (("?", "10de", "26b9", None, 49140), ["L40S-48GB"]),
    "a vGPU is not the board": (("NVIDIA A10-12Q", "10de", "2236", "10de:14ca", 12288), []),
    "memory decides between boards of one id": (("?", "10de", "2bb3", "1043:ffff", 48935), ["RTX-PRO-5000-48GB"]),
    "no driver and no subsystem leave both": (
        (None, "10de", "2bb3", None, None),
        ["RTX-PRO-5000-72GB", "RTX-PRO-5000-48GB"],
    ),
    "nothing known": ((None, None, None, None, None), []),
}


@pytest.mark.parametrize(("seen", "keys"), IDENTITIES.values(), ids=IDENTITIES)
def test_identify(seen, keys):
    assert [model.key for model in identify(*seen)] == keys


GUESSES = {
    "H100-SXM-80": "H100-SXM-80GB",
    "h100_sxm_80gb": "H100-SXM-80GB",
    "h100": "H100-SXM-80GB",
    "NVIDIA L40s": "L40S-48GB",
    "A100-80GB-PCIE": "A100-PCIE-80GB",
    "RTX4090": "RTX-4090-24GB",
    "MI300X": None,
    "": None,
}


@pytest.mark.parametrize(("text", "key"), GUESSES.items(), ids=repr)
def test_nearest_key(text, key):
    assert nearest_key(text) == key


MIG_PROFILES = {
    "3g.20gb": MigProfile(gpu_slices=3, compute_slices=3, memory_gb=20),
    "1g.5gb": MigProfile(gpu_slices=1, compute_slices=1, memory_gb=5),
    "7g.180gb": MigProfile(gpu_slices=7, compute_slices=7, memory_gb=180),
    "1c.3g.20gb": MigProfile(gpu_slices=3, compute_slices=1, memory_gb=20),
    "1g.10gb+me": MigProfile(gpu_slices=1, compute_slices=1, memory_gb=10, attributes=("+me",)),
    "1g.24gb+me.all-gfx": MigProfile(gpu_slices=1, compute_slices=1, memory_gb=24, attributes=("+me.all", "-gfx")),
    "3g": None,
    "3g.20gb ": None,
    "20gb": None,
    "3g.20gb+": None,
    "": None,
}


@pytest.mark.parametrize(("text", "profile"), MIG_PROFILES.items(), ids=repr)
def test_parse_mig_profile(text, profile):
    assert parse_mig_profile(text) == profile


def test_usable_memory_is_what_start_up_logs_print():
    """Totals that vLLM printed on hosts whose nvidia-smi printed these: H100 and, with ECC switched off, L40S."""
    assert usable_gib(81559, by_key("H100-SXM-80GB")) == 79.18
    assert usable_gib(49140, by_key("L40S-48GB")) == pytest.approx(47.5, abs=0.1)


def test_an_unknown_gpu_is_assumed_to_keep_the_most():
    assert LARGEST_RESERVED_MIB == 1103
    assert usable_gib(81920, None) == 78.92
