# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._command import Outcome, run_bounded
from ansible_collections.gpufleet.serving.plugins.module_utils._gpu_facts import Hardware, gpu_facts
from ansible_collections.gpufleet.serving.plugins.module_utils._nvidia_smi import DriverGpu, DriverReading, NvidiaSmi
from ansible_collections.gpufleet.serving.plugins.module_utils._sysfs import (
    PciGpu,
    has_nvswitch,
    kernel_module_version,
    pci_gpus,
)
from ansible_collections.gpufleet.serving.tests.unit.plugins.module_utils.gpu_recordings import (
    RECORDINGS,
    build_root,
    install_nvidia_smi,
)

TIMEOUT_S = {"hung": 0.2, "hung_later": 0.5}


@pytest.fixture
def facts_of(tmp_path):
    """Return the facts of a recorded host."""

    def read(case):
        root = build_root(case, tmp_path / "root")
        program = install_nvidia_smi(case, tmp_path / "bin")
        hardware = Hardware(gpus=pci_gpus(root), nvswitch=has_nvswitch(root), kernel_module=kernel_module_version(root))

        def run(*arguments):
            if program is None:
                return Outcome(rc=None, missing=True)
            return run_bounded([str(program), *arguments], TIMEOUT_S.get(case, 20))

        return gpu_facts(hardware, NvidiaSmi(run).read(expected=[gpu.address for gpu in hardware.own_gpus]))

    return read


def test_every_recording_names_its_source():
    for recording in RECORDINGS.iterdir():
        source = (recording / "SOURCE.txt").read_text(encoding="utf-8")
        assert source.startswith(("recorded: ", "constructed: ", "constructed around a recorded line: ")), (
            recording.name
        )


SUCCESS = {
    "hgx_h100": {
        "keys": ["H100-SXM-80GB"] * 8,
        "usable": 79.18,
        "driver": "580.95.05",
        "nvlink": True,
        "nvswitch": True,
    },
    "hgx_b200": {
        "keys": ["B200-SXM-180GB"] * 8,
        "usable": 178.35,
        "driver": "610.57.04",
        "nvlink": True,
        "nvswitch": True,
    },
    "a100_40_mig": {
        "keys": ["A100-SXM-40GB"] * 2,
        "usable": 39.49,
        "driver": "580.95.05",
        "nvlink": True,
        "nvswitch": True,
    },
    "l40s": {"keys": ["L40S-48GB"] * 4, "usable": 44.42, "driver": "595.71.05", "nvlink": False, "nvswitch": False},
    "rtx4090": {
        "keys": ["RTX-4090-24GB"] * 4,
        "usable": 23.52,
        "driver": "580.126.20",
        "nvlink": False,
        "nvswitch": False,
    },
}


@pytest.mark.parametrize(("case", "expected"), SUCCESS.items(), ids=SUCCESS)
def test_a_host_that_is_well(case, expected, facts_of):
    facts = facts_of(case)
    gpus = facts["gpus"]
    assert (facts["state"], facts["state_reason"]) == ("ok", "")
    assert [gpu["key"] for gpu in gpus] == expected["keys"]
    assert [gpu["index"] for gpu in gpus] == list(range(len(gpus)))
    assert {gpu["usable_gib"] for gpu in gpus} == {expected["usable"]}
    assert {gpu["source"] for gpu in gpus} == {"driver"}
    assert len({gpu["uuid"] for gpu in gpus}) == len(gpus)
    assert not any(gpu["lost"] for gpu in gpus)
    assert {key: facts[f"{key}_version" if key == "driver" else key] for key in ("driver", "nvlink", "nvswitch")} == {
        key: expected[key] for key in ("driver", "nvlink", "nvswitch")
    }


FAILURE = {
    "bare_h100": (
        "no_driver",
        "NVIDIA GPUs without a working driver: 0000:18:00.0, 0000:2a:00.0, 0000:3a:00.0, 0000:5d:00.0, 0000:9a:00.0, "
        "0000:ab:00.0, "
        "0000:ba:00.0, 0000:db:00.0 (nvidia-smi is not installed). "
        "Install the NVIDIA driver (580 or newer), or load the installed one (modprobe nvidia).",
    ),
    "nouveau_h100": (
        "no_driver",
        "NVIDIA GPUs without a working driver: 0000:18:00.0, 0000:2a:00.0 (nvidia-smi is not installed). "
        "Blacklist nouveau, which holds them, install the NVIDIA driver (580 or newer) and reboot.",
    ),
    "no_driver": (
        "no_driver",
        "NVIDIA GPUs without a working driver: 0000:01:00.0 (NVIDIA-SMI has failed because it couldn't communicate "
        "with the "
        "NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running.). "
        "Install the NVIDIA driver (580 or newer), or load the installed one (modprobe nvidia).",
    ),
    "no_gpu": (
        "no_gpu",
        "No NVIDIA GPU is on the PCI bus. Check 'lspci -d 10de:', and that the boards are seated and powered.",
    ),
    "passed_through": (
        "no_gpu",
        "Every NVIDIA GPU is given to virtual machines (0000:21:00.0, 0000:41:00.0, vfio-pci). Bind them to the "
        "nvidia driver.",
    ),
    "mismatch": (
        "driver_mismatch",
        "The loaded NVIDIA kernel module is version 580.173.02 and does not fit the user-space driver (installed "
        "library "
        "580.178). Reboot to load the installed module, and hold the driver's packages against upgrades.",
    ),
    "lost_no_handle": (
        "gpu_lost",
        "The driver cannot use every GPU (0000:a1:00.0: Unknown Error). Look for 'Xid' and 'NVRM' in the kernel log "
        "(journalctl -k), reboot or power-cycle the host, and replace the board if it happens again.",
    ),
    "lost_row": (
        "gpu_lost",
        "The driver cannot use every GPU (0000:a1:00.0: nvidia-smi prints errors for it). Look for 'Xid' and 'NVRM' "
        "in the kernel "
        "log (journalctl -k), reboot or power-cycle the host, and replace the board if it happens again.",
    ),
    "lost_unlisted": (
        "gpu_lost",
        "The driver cannot use every GPU (0000:a1:00.0: not listed by nvidia-smi, kernel driver none). Look for "
        "'Xid' and 'NVRM' "
        "in the kernel log (journalctl -k), reboot or power-cycle the host, and replace the board if it happens again.",
    ),
    "hung": (
        "hung",
        "nvidia-smi gave no answer in time: a GPU or its driver hangs. Look for 'Xid' and 'NVRM' in the kernel log "
        "(journalctl -k) and reboot the host.",
    ),
    "unreadable": (
        "unreadable",
        'nvidia-smi could not be read (Field "compute_cap" is not a valid field to query.). Run it by hand as root; '
        "drivers of "
        "branch 580 and newer are supported.",
    ),
}


@pytest.mark.parametrize(("case", "expected"), FAILURE.items(), ids=FAILURE)
def test_a_host_that_is_not(case, expected, facts_of):
    facts = facts_of(case)
    assert (facts["state"], facts["state_reason"]) == expected


def test_a_bare_host_is_known_by_its_pci_ids(facts_of):
    facts = facts_of("bare_h100")
    assert (facts["driver_version"], facts["cuda_version"], facts["nvlink"], facts["nvswitch"]) == (
        None,
        None,
        True,
        True,
    )
    assert [gpu["key"] for gpu in facts["gpus"]] == ["H100-SXM-80GB"] * 8
    assert facts["gpus"][4] == {
        "index": 4,
        "uuid": None,
        "name": "NVIDIA H100 80GB HBM3",
        "key": "H100-SXM-80GB",
        "candidates": [],
        "source": "pci",
        "memory_mib": None,
        "memory_used_mib": None,
        "usable_gib": 79.18,
        "compute_capability": "9.0",
        "mig_mode": None,
        "mig_devices": [],
        "ecc": None,
        "driver_version": None,
        "persistence": None,
        "lost": False,
        "pci_address": "0000:9a:00.0",
        "pci_device": "2330",
        "pci_subsystem": "10de:16c1",
        "kernel_driver": None,
        "numa_node": 1,
    }


def test_bare_and_driven_differ_in_names_only(facts_of):
    """A plan made before the driver holds afterwards: same order, same models, same memory."""
    bare, driven = facts_of("bare_h100")["gpus"], facts_of("hgx_h100")["gpus"]
    planned = ("index", "key", "usable_gib", "compute_capability", "pci_address", "numa_node")
    assert [[gpu[name] for name in planned] for gpu in bare] == [[gpu[name] for name in planned] for gpu in driven]


def test_an_id_that_two_boards_share(facts_of):
    known, unknown = facts_of("ambiguous")["gpus"]
    assert (known["key"], known["candidates"], known["usable_gib"]) == ("RTX-PRO-5000-72GB", [], 71.16)
    assert (unknown["key"], unknown["candidates"], unknown["usable_gib"], unknown["name"]) == (
        None,
        ["RTX-PRO-5000-72GB", "RTX-PRO-5000-48GB"],
        None,
        None,
    )


def test_slices(facts_of):
    sliced, whole = facts_of("a100_40_mig")["gpus"]
    assert (sliced["mig_mode"], whole["mig_mode"], whole["mig_devices"]) == (True, False, [])
    assert sliced["mig_devices"][1] == {
        "index": 1,
        "uuid": "MIG-a1004000-0000-5000-8000-000000000001",
        "profile": "2g.10gb",
        "memory_mib": 9984,
        "usable_gib": 9.75,
    }


@pytest.mark.parametrize("case", ["lost_no_handle", "lost_row", "lost_unlisted"])
def test_only_the_lost_gpu_is_lost(case, facts_of):
    gpus = facts_of(case)["gpus"]
    assert [(gpu["index"], gpu["pci_address"], gpu["lost"]) for gpu in gpus] == [
        (0, "0000:01:00.0", False),
        (1, "0000:25:00.0", False),
        (2, "0000:81:00.0", False),
        (3, "0000:a1:00.0", True),
    ]
    assert [gpu["key"] for gpu in gpus] == ["RTX-4090-24GB"] * 4
    assert all(gpu["uuid"] for gpu in gpus[:3])


@pytest.mark.parametrize(("case", "source"), [("hung", "pci"), ("hung_later", "driver")])
def test_a_hang_tells_what_was_read_before_it(case, source, facts_of):
    facts = facts_of(case)
    assert facts["state"] == "hung"
    assert facts["driver_version"] == "595.71.05"
    assert [(gpu["key"], gpu["source"]) for gpu in facts["gpus"]] == [("L40S-48GB", source)] * 4


def test_the_loaded_module_is_the_driver_of_a_mismatch(facts_of):
    facts = facts_of("mismatch")
    assert (facts["driver_version"], facts["gpus"][0]["key"]) == ("580.173.02", "L4-24GB")


def gpu(address="0000:01:00.0", **changes):
    return DriverGpu(**{"index": 0, "pci_address": address, "name": "NVIDIA L4", "memory_mib": 23034, **changes})


def test_a_gpu_that_only_the_driver_shows():
    """As in a virtual machine or container that hides the PCI bus."""
    facts = gpu_facts(Hardware(), DriverReading(state="ok", gpus=(gpu(),)))
    assert (facts["state"], facts["gpus"][0]["key"], facts["gpus"][0]["pci_device"]) == ("ok", "L4-24GB", None)


def test_a_gpu_that_nobody_knows_is_told_by_its_memory():
    hardware = Hardware(gpus=(PciGpu("0000:01:00.0", "ffff", None, None, "nvidia"),))
    facts = gpu_facts(hardware, DriverReading(state="ok", gpus=(gpu(name="NVIDIA X1000", memory_mib=102400),)))
    assert (facts["gpus"][0]["key"], facts["gpus"][0]["candidates"], facts["gpus"][0]["usable_gib"]) == (
        None,
        [],
        98.92,
    )


def test_a_driver_that_finds_none_of_the_gpus_has_lost_them():
    hardware = Hardware(gpus=(PciGpu("0000:01:00.0", "27b8", None, 0, "nvidia"),), kernel_module="580.95.05")
    facts = gpu_facts(hardware, DriverReading(state="no_gpu", detail="the driver found no device"))
    assert (facts["state"], facts["gpus"][0]["lost"]) == ("gpu_lost", True)


def test_a_lost_gpu_that_the_bus_shows_no_more():
    hardware = Hardware(gpus=(PciGpu("0000:01:00.0", "27b8", None, 0, "nvidia"),))
    facts = gpu_facts(hardware, DriverReading(state="ok", gpus=(gpu(),), lost={"0000:02:00.0": "GPU is lost"}))
    assert facts["state"] == "gpu_lost"
    assert [(gpu["index"], gpu["pci_address"], gpu["lost"]) for gpu in facts["gpus"]] == [
        (0, "0000:01:00.0", False),
        (1, "0000:02:00.0", True),
    ]


def test_a_driver_without_any_gpu():
    facts = gpu_facts(
        Hardware(kernel_module="580.95.05"), DriverReading(state="no_gpu", detail="the driver found no device")
    )
    assert (facts["state"], facts["gpus"], facts["driver_version"]) == ("no_gpu", [], "580.95.05")


def test_a_module_without_user_space():
    hardware = Hardware(gpus=(PciGpu("0000:01:00.0", "27b8", None, 0, "nvidia"),), kernel_module="580.95.05")
    facts = gpu_facts(hardware, DriverReading(state="no_driver", detail="nvidia-smi is not installed"))
    assert facts["state_reason"].endswith(
        "The kernel module 580.95.05 is loaded: install the user-space driver of the same version."
    )


def boards(*devices):
    return tuple(
        PciGpu(f"0000:{number:02x}:00.0", device, None, 0, None) for number, device in enumerate(devices, start=1)
    )


NVLINK_BY_BOARD = {
    "SXM boards have it": (boards("2330", "2330"), True),
    "L40S boards have none": (boards("26b9", "26b9"), False),
    "one GPU has nobody to talk to": (boards("2330"), False),
    "a bridge cannot be seen": (boards("2331", "2331"), None),
    "an unknown board": (boards("ffff", "ffff"), None),
    "no board": ((), None),
}


@pytest.mark.parametrize(("gpus", "nvlink"), NVLINK_BY_BOARD.values(), ids=NVLINK_BY_BOARD)
def test_nvlink_without_a_driver(gpus, nvlink):
    facts = gpu_facts(Hardware(gpus=gpus), DriverReading(state="no_driver", detail="nvidia-smi is not installed"))
    assert facts["nvlink"] is nvlink
