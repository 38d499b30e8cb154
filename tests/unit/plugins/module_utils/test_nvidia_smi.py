# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._command import Outcome, run_bounded
from ansible_collections.gpufleet.serving.plugins.module_utils._nvidia_smi import (
    DriverGpu,
    MigDevice,
    NvidiaSmi,
    NvidiaSmiError,
    failure,
    normalise_address,
    parse_cuda_version,
    parse_list,
    parse_mig_memory,
    parse_query,
    parse_topology,
)
from ansible_collections.gpufleet.serving.tests.unit.plugins.module_utils.gpu_recordings import install_nvidia_smi, read

H100 = DriverGpu(
    index=0,
    pci_address="0000:18:00.0",
    uuid="GPU-51a0b100-0000-4000-8000-000000000000",
    name="NVIDIA H100 80GB HBM3",
    driver_version="580.95.05",
    memory_mib=81559,
    memory_used_mib=4,
    compute_capability="9.0",
    mig_mode=False,
    persistence=True,
    ecc=True,
)
H100_ROW = (
    "0, GPU-51a0b100-0000-4000-8000-000000000000, NVIDIA H100 80GB HBM3, 00000000:18:00.0, 580.95.05, 81559, 4, 9.0, "
    "Disabled, Enabled, Enabled"
)


def row(**changes):
    return dataclasses.replace(H100, **changes)


ROWS = {
    "everything known": (H100_ROW, H100),
    "[N/A] is null": (H100_ROW.replace("Disabled", "[N/A]"), row(mig_mode=None)),
    "[Not Supported] is null": (H100_ROW.replace("Enabled, Enabled", "Enabled, [Not Supported]"), row(ecc=None)),
    "bare N/A is null": (H100_ROW.replace("9.0", "N/A"), row(compute_capability=None)),
    "memory that only root may see": (
        H100_ROW.replace(" 4,", " [Insufficient Permissions],"),
        row(memory_used_mib=None),
    ),
    "memory that a superchip shares": (H100_ROW.replace("81559", "[N/A]"), row(memory_mib=None)),
    "a wide PCI domain": (H100_ROW.replace("00000000:18", "00010000:18"), row(pci_address="10000:18:00.0")),
    "GPU is lost": (
        H100_ROW.replace("81559, 4", "[GPU is lost], [GPU is lost]"),
        row(memory_mib=None, memory_used_mib=None, lost=True),
    ),
    "unknown error": (H100_ROW.replace("81559", "[Unknown Error]"), row(memory_mib=None, lost=True)),
    "GPU requires reset": (H100_ROW.replace(" 4,", " [GPU requires reset],"), row(memory_used_mib=None, lost=True)),
    "ERR!": (H100_ROW.replace("81559", "ERR!"), row(memory_mib=None, lost=True)),
}


@pytest.mark.parametrize(("text", "gpu"), ROWS.values(), ids=ROWS)
def test_parse_a_row(text, gpu):
    assert parse_query(text + "\n").gpus == (gpu,)


BAD_ROWS = {
    "too few fields": (
        "0, GPU-1, NVIDIA L4",
        "unreadable",
        "printed 3 fields where 11 were asked: '0, GPU-1, NVIDIA L4'",
    ),
    "too many fields": (H100_ROW + ", 1", "unreadable", "printed 12 fields where 11 were asked"),
    "a sentence": ("Segmentation fault", "unreadable", "printed 1 fields where 11 were asked: 'Segmentation fault'"),
    "memory with a unit": (
        H100_ROW.replace("81559", "81559 MiB"),
        "unreadable",
        "printed '81559 MiB' as memory.total, which is no number",
    ),
    "a third mode": (
        H100_ROW.replace("Disabled", "Pending"),
        "unreadable",
        "printed 'Pending' as mig.mode.current, which is neither Enabled nor Disabled",
    ),
    "no index": ("[Unknown Error]" + H100_ROW[1:], "gpu_lost", "a GPU without index or PCI address"),
    "no address": (
        H100_ROW.replace("00000000:18:00.0", "[GPU is lost]"),
        "gpu_lost",
        "a GPU without index or PCI address",
    ),
}


@pytest.mark.parametrize(("text", "state", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_refuse_a_row(text, state, message):
    with pytest.raises(NvidiaSmiError) as caught:
        parse_query(text)
    assert caught.value.state == state
    assert message in str(caught.value)


COMPLAINTS = {
    "with a blank before the address": (
        "Unable to determine the device handle for GPU 0000:02:00.0: GPU is lost.  Reboot the system to recover this "
        "GPU",
        {"0000:02:00.0": "GPU is lost"},
    ),
    "without one": (
        "Unable to determine the device handle for GPU0000:A1:00.0: Unknown Error",
        {"0000:a1:00.0": "Unknown Error"},
    ),
    "in lower case, wide domain": (
        "Unable to determine the device handle for gpu 00000000:1B:00.0: Not Found",
        {"0000:1b:00.0": "Not Found"},
    ),
}


@pytest.mark.parametrize(("line", "lost"), COMPLAINTS.values(), ids=COMPLAINTS)
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_gpu_without_a_handle_does_not_hide_the_others(line, lost, stream):
    outputs = {"stdout": H100_ROW + "\n", "stderr": ""}
    outputs[stream] += line + "\n"
    result = parse_query(**outputs)
    assert result.gpus == (H100,)
    assert result.lost == lost


def test_what_else_is_on_stderr_does_not_matter():
    assert parse_query(H100_ROW, "ERROR: ld.so: object 'x.so' cannot be preloaded: ignored.").gpus == (H100,)


def test_a_corrupt_inforom_is_a_warning():
    warning = "WARNING: infoROM is corrupted at gpu 0000:18:00.0"
    result = parse_query(f"{H100_ROW}\n{warning}\n")
    assert (result.gpus, result.warnings) == ((H100,), (warning,))


def test_parse_list():
    slices = parse_list(read("a100_80_mig", "list.txt"))
    assert [len(devices) for devices in slices.values()] == [4, 0, 0, 0]
    assert slices["GPU-513536b6-7d19-9063-b049-1e69664bb298"][1] == MigDevice(
        index=1, uuid="MIG-a45882f0-9215-5733-a0c1-49286ab31cb5", profile="1g.20gb"
    )


def test_parse_list_of_a_host_that_lost_a_gpu():
    complaint = "Unable to determine the device handle for gpu 0000:0F:00.0: GPU is lost."
    assert parse_list(f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-a)\n{complaint}\n") == {"GPU-a": ()}


def test_parse_mig_memory():
    assert parse_mig_memory(read("a100_80_mig", "query.xml")) == {
        "GPU-513536b6-7d19-9063-b049-1e69664bb298": {0: 19968, 1: 19968, 2: 19968, 3: 19968}
    }


@pytest.mark.parametrize(
    ("text", "memory"),
    [
        ("", {}),
        ("no xml", {}),
        (
            "<nvidia_smi_log><gpu><uuid>GPU-a</uuid><mig_devices><mig_device><index>0</index><fb_memory_usage>"
            "<total>N/A</total></fb_memory_usage></mig_device></mig_devices></gpu></nvidia_smi_log>",
            {"GPU-a": {}},
        ),
    ],
)
def test_mig_memory_that_nobody_tells(text, memory):
    assert parse_mig_memory(text) == memory


TOPOLOGIES = {"hgx_h100": True, "hgx_b200": True, "a100_40_mig": True, "l40s": False, "rtx4090": False}


@pytest.mark.parametrize(("case", "nvlink"), TOPOLOGIES.items())
def test_parse_topology(case, nvlink):
    assert parse_topology(read(case, "topo.txt")) is nvlink


def test_a_legend_alone_tells_nothing():
    assert parse_topology("Legend:\n\n  NV#  = Connection traversing a bonded set of # NVLinks\n") is None


VERSIONS = {
    "CUDA Version        : 13.0\n": "13.0",
    "CUDA UMD Version    : 13.3\n": "13.3",
    "CUDA Version        : [Deprecated, use CUDA UMD Version]\nCUDA UMD Version    : 13.3\n": "13.3",
    "CUDA Version        : N/A\n": None,
    "": None,
}


@pytest.mark.parametrize(("text", "version"), VERSIONS.items(), ids=repr)
def test_parse_cuda_version(text, version):
    assert parse_cuda_version(text) == version


ADDRESSES = {"00000000:1B:00.0": "0000:1b:00.0", "0000:1b:00.0": "0000:1b:00.0", "00010000:01:00.0": "10000:01:00.0"}


@pytest.mark.parametrize(("printed", "address"), ADDRESSES.items())
def test_normalise_address(printed, address):
    assert normalise_address(printed) == address


FAILURES = {
    "rows": (Outcome(rc=0, stdout=H100_ROW), None, ""),
    "rows and a corrupt inforom": (Outcome(rc=14, stdout=H100_ROW), None, ""),
    "no handle": (
        Outcome(rc=15, stdout="Unable to determine the device handle for GPU0000:A1:00.0: GPU is lost."),
        None,
        "",
    ),
    "timed out": (Outcome(rc=None, timed_out=True), "hung", "nvidia-smi gave no answer in time"),
    "not installed": (Outcome(rc=None, missing=True), "no_driver", "nvidia-smi is not installed"),
    "mismatch": (
        Outcome(
            rc=18, stdout="Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.178\n"
        ),
        "driver_mismatch",
        "installed library 580.178",
    ),
    "mismatch of an older driver": (
        Outcome(rc=255, stderr="Failed to initialize NVML: Driver/library version mismatch\n"),
        "driver_mismatch",
        "Failed to initialize NVML: Driver/library version mismatch",
    ),
    "driver not loaded": (
        Outcome(rc=9, stdout="NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."),
        "no_driver",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
    ),
    "library missing": (
        Outcome(rc=12, stdout="NVIDIA-SMI couldn't find libnvidia-ml.so library in your system."),
        "no_driver",
        "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.",
    ),
    "no devices": (Outcome(rc=6, stdout="No devices were found\n"), "no_gpu", "the driver found no device"),
    "lost without an address": (Outcome(rc=15, stdout="GPU is lost"), "gpu_lost", "GPU is lost"),
    "old driver": (
        Outcome(rc=2, stdout='Field "compute_cap" is not a valid field to query.\n\n'),
        "unreadable",
        'Field "compute_cap" is not a valid field to query.',
    ),
    "silent failure": (Outcome(rc=139), "unreadable", "exit code 139 and no output"),
    "permissions": (
        Outcome(rc=4, stderr="Failed to initialize NVML: Insufficient Permissions"),
        "unreadable",
        "Failed to initialize NVML: Insufficient Permissions",
    ),
}


@pytest.mark.parametrize(("outcome", "state", "message"), FAILURES.values(), ids=FAILURES)
def test_failure(outcome, state, message):
    error = failure(outcome)
    assert (error.state if error else None, str(error or "")) == (state, message)


def smi(case, tmp_path, timeout_s=20.0):
    program = install_nvidia_smi(case, tmp_path)
    calls = []

    def run(*arguments):
        calls.append(arguments)
        return run_bounded([str(program), *arguments], timeout_s)

    return NvidiaSmi(run), calls


READINGS = {
    "hgx_h100": ("ok", 8, "13.0", True),
    "hgx_b200": ("ok", 8, "13.3", True),
    "a100_40_mig": ("ok", 2, "13.0", True),
    "l40s": ("ok", 4, "13.2", False),
    "rtx4090": ("ok", 4, "13.0", False),
    "lost_row": ("ok", 4, "13.0", False),
    "lost_unlisted": ("ok", 3, "13.0", False),
    "mismatch": ("driver_mismatch", 0, None, None),
    "no_driver": ("no_driver", 0, None, None),
    "unreadable": ("unreadable", 0, None, None),
}


@pytest.mark.parametrize(("case", "expected"), READINGS.items())
def test_read(case, expected, tmp_path):
    reading = smi(case, tmp_path)[0].read()
    assert (reading.state, len(reading.gpus), reading.cuda_version, reading.nvlink) == expected


def test_slices_get_their_memory(tmp_path):
    sliced, whole = smi("a100_40_mig", tmp_path)[0].read().gpus
    assert [(device.index, device.profile, device.memory_mib) for device in sliced.mig_devices] == [
        (0, "3g.20gb", 20096),
        (1, "2g.10gb", 9984),
        (2, "1g.5gb", 4864),
    ]
    assert whole.mig_devices == ()


def test_what_is_not_needed_is_not_asked(tmp_path):
    reader, calls = smi("l40s", tmp_path)
    reader.read()
    assert [call[0].split("=")[0] for call in calls] == ["--query-gpu", "--version", "topo"]


def test_the_others_are_asked_one_by_one(tmp_path):
    addresses = [f"0000:{bus}:00.0" for bus in ("01", "25", "81", "a1")]
    reading = smi("lost_no_handle", tmp_path)[0].read(expected=addresses)
    assert [gpu.pci_address for gpu in reading.gpus] == addresses[:3]
    assert (reading.state, reading.lost) == ("ok", {"0000:a1:00.0": "Unknown Error"})


def test_another_that_does_not_answer_either_is_lost_too(tmp_path):
    reading = smi("lost_no_handle", tmp_path)[0].read(expected=["0000:01:00.0", "0000:c1:00.0"])
    assert reading.lost == {"0000:a1:00.0": "Unknown Error", "0000:c1:00.0": "the driver found no device"}


def test_a_hang_ends_the_reading(tmp_path):
    reader, calls = smi("hung", tmp_path, timeout_s=0.2)
    assert reader.read().state == "hung"
    assert len(calls) == 1


def test_a_hang_later_on_keeps_what_was_read(tmp_path):
    reader, calls = smi("hung_later", tmp_path, timeout_s=0.5)
    reading = reader.read()
    assert (reading.state, len(reading.gpus), len(calls)) == ("hung", 4, 2)
