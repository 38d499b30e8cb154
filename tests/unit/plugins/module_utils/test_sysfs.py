# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._sysfs import (
    PciGpu,
    has_nvswitch,
    kernel_module_version,
    pci_gpus,
)
from ansible_collections.gpufleet.serving.tests.unit.plugins.module_utils.gpu_recordings import build_root

GPUS = {
    "hgx_h100": ["18", "2a", "3a", "5d", "9a", "ab", "ba", "db"],
    "bare_h100": ["18", "2a", "3a", "5d", "9a", "ab", "ba", "db"],
    "l40s": ["21", "41", "a1", "c1"],
    "a100_40_mig": ["07", "0f"],
    "no_gpu": [],
}


@pytest.mark.parametrize(("case", "buses"), GPUS.items())
def test_gpus_and_nothing_else(case, buses, tmp_path):
    assert [gpu.address for gpu in pci_gpus(build_root(case, tmp_path))] == [f"0000:{bus}:00.0" for bus in buses]


def test_what_is_known_of_a_gpu(tmp_path):
    driven = pci_gpus(build_root("hgx_h100", tmp_path / "driven"))[-1]
    bare = pci_gpus(build_root("bare_h100", tmp_path / "bare"))[-1]
    assert driven == PciGpu("0000:db:00.0", "2330", "10de:16c1", numa_node=1, kernel_driver="nvidia")
    assert bare == PciGpu("0000:db:00.0", "2330", "10de:16c1", numa_node=1, kernel_driver=None)


def test_a_host_without_numa_says_minus_one(tmp_path):
    assert pci_gpus(build_root("ambiguous", tmp_path))[1].numa_node is None


def test_a_virtual_function_is_no_gpu_of_its_own(tmp_path):
    build_root("l40s", tmp_path)
    (tmp_path / "sys/bus/pci/devices/0000:41:00.0/physfn").symlink_to("../0000:21:00.0")
    assert len(pci_gpus(tmp_path)) == 3


def test_a_host_without_sysfs_has_nothing(tmp_path):
    assert pci_gpus(tmp_path) == ()
    assert not has_nvswitch(tmp_path)


NVSWITCH = {
    "hgx_h100": True,
    "bare_h100": True,
    "hgx_b200": True,
    "a100_40_mig": True,
    "l40s": False,
    "nouveau_h100": False,
    "no_gpu": False,
}


@pytest.mark.parametrize(("case", "there"), NVSWITCH.items())
def test_nvswitch(case, there, tmp_path):
    assert has_nvswitch(build_root(case, tmp_path)) is there


def test_nvswitches_that_only_the_driver_lists(tmp_path):
    (tmp_path / "proc/driver/nvidia-nvswitch/devices/0000:05:00.0").mkdir(parents=True)
    assert has_nvswitch(tmp_path)


def test_an_ordinary_network_card_is_no_nvswitch(tmp_path):
    vpd = tmp_path / "sys/class/infiniband/mlx5_0/device/vpd"
    vpd.parent.mkdir(parents=True)
    vpd.write_bytes(b"\x82ConnectX-7 VPI adapter card")
    assert not has_nvswitch(tmp_path)


MODULES = {"hgx_h100": "580.95.05", "mismatch": "580.173.02", "unreadable": "470.256.02", "bare_h100": None}


@pytest.mark.parametrize(("case", "version"), MODULES.items())
def test_kernel_module_version(case, version, tmp_path):
    assert kernel_module_version(build_root(case, tmp_path)) == version
