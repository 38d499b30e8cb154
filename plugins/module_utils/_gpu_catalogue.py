# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known about each GPU model: names, PCI ids, memory, throughput, links, and where every figure was read.

Three figures go by the name of a GPU's memory: the one on the box (80 GB), the driver's ``memory.total`` (81559 MiB),
and what a CUDA program is given (79.18 GiB). The catalogue holds the last two; ``gpu_memory_utilization`` applies to
the last.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

MIB_PER_GIB = 1024

NVIDIA_VENDOR = "10de"
"""PCI vendor id of NVIDIA (pci.ids)."""

MINIMUM_COMPUTE_CAPABILITY = (7, 5)
"""The oldest GPUs that the engine's CUDA wheels hold code for (Turing; CUDA 13 dropped Volta)."""

MEMORY_TOLERANCE = 0.10
"""How far a driver's ``memory.total`` may lie from the catalogue's and still be the same board: switching ECC off
gives back 1/16 of GDDR6 (46068 -> 49140 MiB on an L40S), while the next smaller thing, half a board as vGPU, is 50 %
away."""


@dataclass(frozen=True)
class PciId:
    """A PCI device id with the subsystem ids of the boards that carry it.

    ``device`` and the two halves of each ``"vendor:device"`` subsystem are four lower-case hex digits. No subsystems:
    the device id alone says which model it is.
    """

    device: str
    subsystems: tuple[str, ...] = ()


@dataclass(frozen=True)
class NvLink:
    """The NVLink of one GPU; ``bandwidth_gb_s`` (10**9 bytes a second) is both directions of all links together."""

    generation: int
    bandwidth_gb_s: int
    nvswitch: bool = False
    """The eight-GPU baseboards of this model join the GPUs through NVSwitch."""
    built_in: bool = True
    """False: only where somebody has put a bridge across two or four cards."""


@dataclass(frozen=True)
class Sources:
    """Where the figures of one model were read."""

    identity: str
    memory_total: str
    usable: str
    rates: str


@dataclass(frozen=True)
class GpuModel:
    """One GPU model.

    ``names`` are the strings that nvidia-smi prints. Rates are peaks of dense (not sparse) tensor operations in
    10**12 a second, accumulated in FP32; memory bandwidth in 10**9 bytes a second. ``fp8_tflops`` and ``fp4_tflops``
    are None where the chip has no such operations.
    """

    key: str
    names: tuple[str, ...]
    pci_ids: tuple[PciId, ...]
    compute_capability: str
    memory_total_mib: int
    usable_gib: float
    fp16_tflops: float
    fp8_tflops: float | None
    memory_bandwidth_gb_s: int
    nvlink: NvLink | None
    sources: Sources
    fp4_tflops: float | None = None

    @property
    def bf16_tflops(self) -> float | None:
        """Dense BF16 rate: that of FP16 on every chip that has BF16 (compute capability 8.0), else None."""
        return self.fp16_tflops if _version(self.compute_capability) >= (8, 0) else None

    @property
    def reserved_mib(self) -> int:
        """What the driver counts in ``memory.total`` and keeps for itself, in MiB."""
        return round(self.memory_total_mib - self.usable_gib * MIB_PER_GIB)

    @property
    def runs_engine(self) -> bool:
        """Whether the engine's CUDA wheels hold code for this GPU."""
        return _version(self.compute_capability) >= MINIMUM_COMPUTE_CAPABILITY


@dataclass(frozen=True)
class MigProfile:
    """A MIG profile such as ``1c.3g.20gb+me``: shares of a GPU's seven compute slices, and marketing GB of memory."""

    gpu_slices: int
    compute_slices: int
    memory_gb: int
    attributes: tuple[str, ...] = ()


_DRIVER_NAMES = (
    "names and subsystems: board list of NVIDIA/open-gpu-kernel-modules 595.45.04; ids also in pci.ids 2026.08.22"
)
_PCI_IDS = "device ids: pci.ids 2026.08.22; names as older drivers print them"
_MODAL = "nvidia-smi readings in modal-labs/modal-client#2797"
_LOGS = "total memory in public vLLM start-up logs"
_A100_SHEET = "NVIDIA A100 Tensor Core GPU data sheet"
_H100_SHEET = "NVIDIA H100 Tensor Core GPU data sheet, sparse figures halved"
_H200_SHEET = "NVIDIA H200 Tensor Core GPU data sheet, sparse figures halved"
_V100_SHEET = "NVIDIA V100 Tensor Core GPU data sheet"
_V100_16_USABLE = "PyTorch out-of-memory reports of Azure NCv3 machines (15.77 GiB total capacity)"
_V100_32_USABLE = "PyTorch out-of-memory report in liucongg/ChatGLM-Finetuning#73"
_V100_16_TOTAL = "size of the board, which is what drivers of 510 and newer print for the 32 GB board"
_V100_32_TOTAL = "nvidia-smi of a V100-SXM2-32GB host on driver 580.178.04"
_PRO_5000_SHEET = (
    "NVIDIA RTX PRO 5000 Blackwell data sheet: a quarter (FP8) and an eighth (BF16) of 2,064 TOPS, sparse FP4"
)

_GEFORCE_50_SHEET = (
    "NVIDIA RTX Blackwell GPU architecture white paper; of the sparse FP4 rate a half (dense FP4), an eighth (FP8) and "
    "a sixteenth (FP16, both accumulated in FP32)"
)
_GEFORCE_50_USABLE = "driver total less what an RTX 5060 Ti keeps"

CATALOGUE: tuple[GpuModel, ...] = (
    GpuModel(
        key="B200-SXM-180GB",
        names=("NVIDIA B200",),
        pci_ids=(PciId("2901", ("10de:1999", "10de:199b", "10de:20da")),),
        compute_capability="10.0",
        memory_total_mib=183359,
        usable_gib=178.35,
        fp16_tflops=2250,
        fp8_tflops=4500,
        fp4_tflops=9000,
        memory_bandwidth_gb_s=7672,
        nvlink=NvLink(generation=5, bandwidth_gb_s=1800, nvswitch=True),
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="nvidia-smi in NVIDIA/TensorRT-LLM#10278",
            usable="cudaMemGetInfo in pytorch/ao#4002",
            rates="NVIDIA HGX B200 data sheet (1,000 W); bandwidth: 7680 bit x 3996 MHz x 2 as read in pytorch/ao#4002 "
            "(the data sheet rounds it to 8 TB/s)",
        ),
    ),
    GpuModel(
        key="H200-SXM-141GB",
        names=("NVIDIA H200",),
        pci_ids=(PciId("2335", ("10de:18be", "10de:18bf")),),
        compute_capability="9.0",
        memory_total_mib=143771,
        usable_gib=139.8,
        fp16_tflops=989,
        fp8_tflops=1979,
        memory_bandwidth_gb_s=4800,
        nvlink=NvLink(generation=4, bandwidth_gb_s=900, nvswitch=True),
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="nvidia-smi of an H200 host on driver 580",
            usable=_LOGS,
            rates=_H200_SHEET,
        ),
    ),
    GpuModel(
        key="H200-NVL-141GB",
        names=("NVIDIA H200 NVL",),
        pci_ids=(PciId("233b", ("10de:1996",)),),
        compute_capability="9.0",
        memory_total_mib=143771,
        usable_gib=139.8,
        fp16_tflops=835,
        fp8_tflops=1671,
        memory_bandwidth_gb_s=4800,
        nvlink=NvLink(generation=4, bandwidth_gb_s=900, built_in=False),
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="as H200-SXM-141GB: the same chip and memory",
            usable="as H200-SXM-141GB: the same chip and memory",
            rates=_H200_SHEET,
        ),
    ),
    GpuModel(
        key="H100-SXM-80GB",
        names=("NVIDIA H100 80GB HBM3",),
        pci_ids=(PciId("2330", ("10de:16c0", "10de:16c1")),),
        compute_capability="9.0",
        memory_total_mib=81559,
        usable_gib=79.18,
        fp16_tflops=989,
        fp8_tflops=1979,
        memory_bandwidth_gb_s=3350,
        nvlink=NvLink(generation=4, bandwidth_gb_s=900, nvswitch=True),
        sources=Sources(identity=_DRIVER_NAMES, memory_total=_MODAL, usable=_LOGS, rates=_H100_SHEET),
    ),
    GpuModel(
        key="H100-NVL-94GB",
        names=("NVIDIA H100 NVL",),
        pci_ids=(PciId("2321", ("10de:1839",)),),
        compute_capability="9.0",
        memory_total_mib=95830,
        usable_gib=93.02,
        fp16_tflops=835,
        fp8_tflops=1671,
        memory_bandwidth_gb_s=3900,
        nvlink=NvLink(generation=4, bandwidth_gb_s=600, built_in=False),
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="nvidia-smi in NVIDIA/gpu-admin-tools#4",
            usable="vLLM start-up log in kaito-project/kaito#2132",
            rates=_H100_SHEET,
        ),
    ),
    GpuModel(
        key="H100-PCIE-80GB",
        names=("NVIDIA H100 PCIe",),
        pci_ids=(PciId("2331", ("10de:1626",)),),
        compute_capability="9.0",
        memory_total_mib=81559,
        usable_gib=79.18,
        fp16_tflops=756,
        fp8_tflops=1513,
        memory_bandwidth_gb_s=2000,
        nvlink=NvLink(generation=4, bandwidth_gb_s=600, built_in=False),
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="nvidia-smi of H100 PCIe hosts on drivers 570 to 595",
            usable="as H100-SXM-80GB: the same chip, driver total and memory size",
            rates="NVIDIA H100 Tensor Core GPU data sheet of 2022 (PCIe column), sparse figures halved",
        ),
    ),
    GpuModel(
        key="A100-SXM-80GB",
        names=("NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM-80GB", "NVIDIA PG509-210"),
        pci_ids=(PciId("20b2"),),
        compute_capability="8.0",
        memory_total_mib=81920,
        usable_gib=79.25,
        fp16_tflops=312,
        fp8_tflops=None,
        memory_bandwidth_gb_s=2039,
        nvlink=NvLink(generation=3, bandwidth_gb_s=600, nvswitch=True),
        sources=Sources(identity=_DRIVER_NAMES, memory_total=_MODAL, usable=_LOGS, rates=_A100_SHEET),
    ),
    GpuModel(
        key="A100-SXM-40GB",
        names=("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PG509-200"),
        pci_ids=(PciId("20b0"),),
        compute_capability="8.0",
        memory_total_mib=40960,
        usable_gib=39.49,
        fp16_tflops=312,
        fp8_tflops=None,
        memory_bandwidth_gb_s=1555,
        nvlink=NvLink(generation=3, bandwidth_gb_s=600, nvswitch=True),
        sources=Sources(identity=_DRIVER_NAMES, memory_total=_MODAL, usable=_LOGS, rates=_A100_SHEET),
    ),
    GpuModel(
        key="A100-PCIE-80GB",
        names=("NVIDIA A100 80GB PCIe",),
        pci_ids=(PciId("20b5"),),
        compute_capability="8.0",
        memory_total_mib=81920,
        usable_gib=79.25,
        fp16_tflops=312,
        fp8_tflops=None,
        memory_bandwidth_gb_s=1935,
        nvlink=NvLink(generation=3, bandwidth_gb_s=600, built_in=False),
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="nvidia-smi in NVIDIA/go-nvml#57",
            usable="as A100-SXM-80GB: the same chip, driver total and memory size",
            rates=_A100_SHEET,
        ),
    ),
    GpuModel(
        key="A100-PCIE-40GB",
        names=("NVIDIA A100-PCIE-40GB",),
        pci_ids=(PciId("20f1"), PciId("20b1")),
        compute_capability="8.0",
        memory_total_mib=40960,
        usable_gib=39.49,
        fp16_tflops=312,
        fp8_tflops=None,
        memory_bandwidth_gb_s=1555,
        nvlink=NvLink(generation=3, bandwidth_gb_s=600, built_in=False),
        sources=Sources(
            identity=_DRIVER_NAMES + "; 20b1 from pci.ids alone",
            memory_total="nvidia-smi of A100-PCIE-40GB hosts on drivers 535 to 595",
            usable="as A100-SXM-40GB: the same chip, driver total and memory size",
            rates=_A100_SHEET,
        ),
    ),
    GpuModel(
        key="RTX-PRO-6000-SERVER-96GB",
        names=("NVIDIA RTX PRO 6000 Blackwell Server Edition",),
        pci_ids=(PciId("2bb5", ("10de:204e", "10de:220b")),),
        compute_capability="12.0",
        memory_total_mib=97887,
        usable_gib=94.97,
        fp16_tflops=500,
        fp8_tflops=1000,
        fp4_tflops=2000,
        memory_bandwidth_gb_s=1597,
        nvlink=None,
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="nvidia-smi of a Workstation Edition: the same chip and memory",
            usable=_LOGS,
            rates="NVIDIA RTX PRO 6000 Blackwell Server Edition data sheet, sparse figures halved",
        ),
    ),
    GpuModel(
        key="RTX-PRO-5000-72GB",
        names=("NVIDIA RTX PRO 5000 72GB Blackwell",),
        pci_ids=(PciId("2bb3", ("1028:227a", "103c:227a", "10de:227a", "17aa:227a")),),
        compute_capability="12.0",
        memory_total_mib=73415,
        usable_gib=71.16,
        fp16_tflops=258,
        fp8_tflops=516,
        fp4_tflops=1032,
        memory_bandwidth_gb_s=1344,
        nvlink=None,
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="nvidia-smi of an RTX PRO 5000 72GB host on driver 580.173.02",
            usable="driver total less what the 48 GB board keeps; two boards were reported as 142 GiB",
            rates=_PRO_5000_SHEET,
        ),
    ),
    GpuModel(
        key="RTX-PRO-5000-48GB",
        names=("NVIDIA RTX PRO 5000 Blackwell",),
        pci_ids=(PciId("2bb3", ("1028:204d", "103c:204d", "10de:204d", "17aa:204d")),),
        compute_capability="12.0",
        memory_total_mib=48935,
        usable_gib=47.26,
        fp16_tflops=258,
        fp8_tflops=516,
        fp4_tflops=1032,
        memory_bandwidth_gb_s=1344,
        nvlink=None,
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="nvidia-smi of an RTX PRO 5000 host on driver 595.71.05",
            usable="PyTorch's total on an RTX PRO 5000 host, driver 580.173.02",
            rates=_PRO_5000_SHEET,
        ),
    ),
    GpuModel(
        key="L40S-48GB",
        names=("NVIDIA L40S",),
        pci_ids=(PciId("26b9", ("10de:1851", "10de:18cf")),),
        compute_capability="8.9",
        memory_total_mib=46068,
        usable_gib=44.42,
        fp16_tflops=362,
        fp8_tflops=733,
        memory_bandwidth_gb_s=864,
        nvlink=None,
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total=_MODAL + " and akash-network/provider-configs#99",
            usable=_LOGS,
            rates="NVIDIA L40S data sheet",
        ),
    ),
    GpuModel(
        key="L40-48GB",
        names=("NVIDIA L40",),
        pci_ids=(PciId("26b5", ("10de:169d", "10de:17da")),),
        compute_capability="8.9",
        memory_total_mib=46068,
        usable_gib=44.42,
        fp16_tflops=181,
        fp8_tflops=362,
        memory_bandwidth_gb_s=864,
        nvlink=None,
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="as L40S-48GB: the same chip and memory",
            usable="vLLM start-up log in vllm-project/vllm#4429",
            rates="NVIDIA L40 data sheet",
        ),
    ),
    GpuModel(
        key="L4-24GB",
        names=("NVIDIA L4",),
        pci_ids=(PciId("27b8", ("10de:16ca", "10de:16ee")),),
        compute_capability="8.9",
        memory_total_mib=23034,
        usable_gib=22.03,
        fp16_tflops=121,
        fp8_tflops=242,
        memory_bandwidth_gb_s=300,
        nvlink=None,
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total=_MODAL,
            usable="vLLM start-up log in vllm-project/vllm#6689",
            rates="NVIDIA L4 Tensor Core GPU data sheet, sparse figures halved",
        ),
    ),
    GpuModel(
        key="A10-24GB",
        names=("NVIDIA A10",),
        pci_ids=(PciId("2236", ("10de:1482",)),),
        compute_capability="8.6",
        memory_total_mib=23028,
        usable_gib=21.99,
        fp16_tflops=125,
        fp8_tflops=None,
        memory_bandwidth_gb_s=600,
        nvlink=None,
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total=_MODAL,
            usable="PyTorch out-of-memory report in zai-org/CogVLM#236",
            rates="NVIDIA A10 data sheet",
        ),
    ),
    GpuModel(
        key="A10G-24GB",
        names=("NVIDIA A10G",),
        pci_ids=(PciId("2237", ("10de:152f",)),),
        compute_capability="8.6",
        memory_total_mib=23028,
        usable_gib=21.99,
        fp16_tflops=70,
        fp8_tflops=None,
        memory_bandwidth_gb_s=600,
        nvlink=None,
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total=_MODAL,
            usable="as A10-24GB: the same chip, driver total and memory size",
            rates="NVIDIA A10G data sheet",
        ),
    ),
    GpuModel(
        key="RTX-4090-24GB",
        names=("NVIDIA GeForce RTX 4090",),
        pci_ids=(PciId("2684"),),
        compute_capability="8.9",
        memory_total_mib=24564,
        usable_gib=23.52,
        fp16_tflops=165.2,
        fp8_tflops=330.3,
        memory_bandwidth_gb_s=1008,
        nvlink=None,
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="nvidia-smi in akash-network/support#209",
            usable="vLLM start-up log in vllm-project/vllm#13061",
            rates="NVIDIA Ada GPU architecture white paper (FP32 accumulate)",
        ),
    ),
    GpuModel(
        key="T4-16GB",
        names=("Tesla T4",),
        pci_ids=(PciId("1eb8", ("10de:12a2",)),),
        compute_capability="7.5",
        memory_total_mib=15360,
        usable_gib=14.56,
        fp16_tflops=65,
        fp8_tflops=None,
        memory_bandwidth_gb_s=320,
        nvlink=None,
        sources=Sources(identity=_DRIVER_NAMES, memory_total=_MODAL, usable=_LOGS, rates="NVIDIA T4 data sheet"),
    ),
    GpuModel(
        key="V100-SXM-32GB",
        names=("Tesla V100-SXM2-32GB",),
        pci_ids=(PciId("1db5"),),
        compute_capability="7.0",
        memory_total_mib=32768,
        usable_gib=31.74,
        fp16_tflops=125,
        fp8_tflops=None,
        memory_bandwidth_gb_s=900,
        nvlink=NvLink(generation=2, bandwidth_gb_s=300),
        sources=Sources(identity=_PCI_IDS, memory_total=_V100_32_TOTAL, usable=_V100_32_USABLE, rates=_V100_SHEET),
    ),
    GpuModel(
        key="V100-SXM-16GB",
        names=("Tesla V100-SXM2-16GB",),
        pci_ids=(PciId("1db1"),),
        compute_capability="7.0",
        memory_total_mib=16384,
        usable_gib=15.77,
        fp16_tflops=125,
        fp8_tflops=None,
        memory_bandwidth_gb_s=900,
        nvlink=NvLink(generation=2, bandwidth_gb_s=300),
        sources=Sources(identity=_PCI_IDS, memory_total=_V100_16_TOTAL, usable=_V100_16_USABLE, rates=_V100_SHEET),
    ),
    GpuModel(
        key="V100-PCIE-32GB",
        names=("Tesla V100-PCIE-32GB",),
        pci_ids=(PciId("1db6"),),
        compute_capability="7.0",
        memory_total_mib=32768,
        usable_gib=31.74,
        fp16_tflops=112,
        fp8_tflops=None,
        memory_bandwidth_gb_s=900,
        nvlink=None,
        sources=Sources(identity=_PCI_IDS, memory_total=_V100_32_TOTAL, usable=_V100_32_USABLE, rates=_V100_SHEET),
    ),
    GpuModel(
        key="V100-PCIE-16GB",
        names=("Tesla V100-PCIE-16GB",),
        pci_ids=(PciId("1db4"),),
        compute_capability="7.0",
        memory_total_mib=16384,
        usable_gib=15.77,
        fp16_tflops=112,
        fp8_tflops=None,
        memory_bandwidth_gb_s=900,
        nvlink=None,
        sources=Sources(identity=_PCI_IDS, memory_total=_V100_16_TOTAL, usable=_V100_16_USABLE, rates=_V100_SHEET),
    ),
    GpuModel(
        key="B300-SXM-288GB",
        names=("NVIDIA B300 SXM6 AC",),
        pci_ids=(PciId("3182"),),
        compute_capability="10.3",
        memory_total_mib=275040,
        usable_gib=267.69,
        fp16_tflops=2250,
        fp8_tflops=4500,
        fp4_tflops=13500,
        memory_bandwidth_gb_s=8000,
        nvlink=NvLink(generation=5, bandwidth_gb_s=1800, nvswitch=True),
        sources=Sources(
            identity="pci.ids 2026.08.22; name as hosts print it",
            memory_total="nvidia-smi of B300 hosts on driver 580.178.04",
            usable="PyTorch out-of-memory reports of B300 hosts",
            rates="NVIDIA HGX B300 data sheet; sparse FP8 and BF16 figures of eight GPUs divided by 16, dense FP4 by 8",
        ),
    ),
    GpuModel(
        key="GB200-186GB",
        names=("NVIDIA GB200",),
        pci_ids=(PciId("2941", ("10de:2046", "10de:20ca", "10de:20d5", "10de:21c9", "10de:21ca")),),
        compute_capability="10.0",
        memory_total_mib=189471,
        usable_gib=184.31,
        fp16_tflops=2500,
        fp8_tflops=5000,
        fp4_tflops=10000,
        memory_bandwidth_gb_s=8000,
        nvlink=NvLink(generation=5, bandwidth_gb_s=1800, nvswitch=True),
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="nvidia-smi of GB200 hosts",
            usable="driver total less what a B200 keeps",
            rates="NVIDIA GB200 NVL72 data sheet, figures of two GPUs halved, sparse ones halved again",
        ),
    ),
    GpuModel(
        key="GH200-96GB",
        names=("NVIDIA GH200 480GB",),
        pci_ids=(PciId("2342", ("10de:1809",)),),
        compute_capability="9.0",
        memory_total_mib=97871,
        usable_gib=94.5,
        fp16_tflops=989,
        fp8_tflops=1979,
        memory_bandwidth_gb_s=4000,
        nvlink=NvLink(generation=4, bandwidth_gb_s=900),
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="nvidia-smi of GH200 hosts",
            usable="PyTorch out-of-memory reports of hosts with this driver total",
            rates="NVIDIA GH200 Grace Hopper Superchip data sheet (96 GB HBM3), sparse figures halved",
        ),
    ),
    GpuModel(
        key="H20-SXM-96GB",
        names=("NVIDIA H20",),
        pci_ids=(PciId("2329", ("10de:198b", "10de:198c")),),
        compute_capability="9.0",
        memory_total_mib=97871,
        usable_gib=95.0,
        fp16_tflops=148,
        fp8_tflops=296,
        memory_bandwidth_gb_s=4000,
        nvlink=NvLink(generation=4, bandwidth_gb_s=900, nvswitch=True),
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="nvidia-smi of an H20 host",
            usable=_LOGS,
            rates="NVIDIA H20 product brief",
        ),
    ),
    GpuModel(
        key="H20-SXM-141GB",
        names=("NVIDIA H20-3e",),
        pci_ids=(PciId("232c", ("10de:2063",)),),
        compute_capability="9.0",
        memory_total_mib=143771,
        usable_gib=139.8,
        fp16_tflops=148,
        fp8_tflops=296,
        memory_bandwidth_gb_s=4800,
        nvlink=NvLink(generation=4, bandwidth_gb_s=900, nvswitch=True),
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="as H200-SXM-141GB: the same memory",
            usable=_LOGS,
            rates="as H20-SXM-96GB; bandwidth as H200-SXM-141GB: the same memory",
        ),
    ),
    GpuModel(
        key="H800-SXM-80GB",
        names=("NVIDIA H800",),
        pci_ids=(PciId("2324", ("10de:17a6", "10de:17a8")),),
        compute_capability="9.0",
        memory_total_mib=81559,
        usable_gib=79.18,
        fp16_tflops=989,
        fp8_tflops=1979,
        memory_bandwidth_gb_s=3350,
        nvlink=NvLink(generation=4, bandwidth_gb_s=400, nvswitch=True),
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="as H100-SXM-80GB: the same chip and memory",
            usable="as H100-SXM-80GB: the same chip and memory",
            rates="as H100-SXM-80GB; NVLink of the export board",
        ),
    ),
    GpuModel(
        key="A800-SXM-80GB",
        names=("NVIDIA A800-SXM4-80GB",),
        pci_ids=(PciId("20f3"),),
        compute_capability="8.0",
        memory_total_mib=81920,
        usable_gib=79.25,
        fp16_tflops=312,
        fp8_tflops=None,
        memory_bandwidth_gb_s=2039,
        nvlink=NvLink(generation=3, bandwidth_gb_s=400, nvswitch=True),
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="as A100-SXM-80GB: the same chip and memory",
            usable="as A100-SXM-80GB: the same chip and memory",
            rates="as A100-SXM-80GB; NVLink of the export board",
        ),
    ),
    GpuModel(
        key="A800-PCIE-80GB",
        names=("NVIDIA A800 80GB PCIe",),
        pci_ids=(PciId("20f5", ("10de:1799",)),),
        compute_capability="8.0",
        memory_total_mib=81920,
        usable_gib=79.25,
        fp16_tflops=312,
        fp8_tflops=None,
        memory_bandwidth_gb_s=1935,
        nvlink=NvLink(generation=3, bandwidth_gb_s=400, built_in=False),
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="as A100-PCIE-80GB: the same chip and memory",
            usable="as A100-PCIE-80GB: the same chip and memory",
            rates="as A100-PCIE-80GB; NVLink of the export board",
        ),
    ),
    GpuModel(
        key="A40-48GB",
        names=("NVIDIA A40",),
        pci_ids=(PciId("2235", ("10de:145a",)),),
        compute_capability="8.6",
        memory_total_mib=46068,
        usable_gib=44.35,
        fp16_tflops=149.7,
        fp8_tflops=None,
        memory_bandwidth_gb_s=696,
        nvlink=NvLink(generation=3, bandwidth_gb_s=112, built_in=False),
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="as L40S-48GB: the same size of GDDR6 with ECC",
            usable="total memory in public vLLM start-up logs of 48 GB boards",
            rates="NVIDIA A40 data sheet",
        ),
    ),
    GpuModel(
        key="RTX-A6000-48GB",
        names=("NVIDIA RTX A6000",),
        pci_ids=(PciId("2230", ("1028:1459", "103c:1459", "10de:1459", "17aa:1459")),),
        compute_capability="8.6",
        memory_total_mib=49140,
        usable_gib=47.53,
        fp16_tflops=154.8,
        fp8_tflops=None,
        memory_bandwidth_gb_s=768,
        nvlink=NvLink(generation=3, bandwidth_gb_s=112, built_in=False),
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="nvidia-smi in noonghunna/club-3090#1047 (driver 580.173.02)",
            usable="PyTorch out-of-memory reports of 48 GB boards with ECC off",
            rates="NVIDIA RTX A6000 data sheet, sparse figures halved",
        ),
    ),
    GpuModel(
        key="A30-24GB",
        names=("NVIDIA A30",),
        pci_ids=(PciId("20b7", ("10de:1532", "10de:1804", "10de:1852")),),
        compute_capability="8.0",
        memory_total_mib=24576,
        usable_gib=23.53,
        fp16_tflops=165,
        fp8_tflops=None,
        memory_bandwidth_gb_s=933,
        nvlink=NvLink(generation=3, bandwidth_gb_s=200, built_in=False),
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="size of the board",
            usable="PyTorch out-of-memory report in google/RB-Modulation#5",
            rates="NVIDIA A30 data sheet",
        ),
    ),
    GpuModel(
        key="L20-48GB",
        names=("NVIDIA L20",),
        pci_ids=(PciId("26ba", ("10de:1957", "10de:1990")),),
        compute_capability="8.9",
        memory_total_mib=46068,
        usable_gib=44.42,
        fp16_tflops=119.5,
        fp8_tflops=239,
        memory_bandwidth_gb_s=864,
        nvlink=None,
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="as L40S-48GB: the same chip and memory",
            usable="as L40S-48GB: the same chip and memory",
            rates="NVIDIA L20 product brief",
        ),
    ),
    GpuModel(
        key="RTX-6000-ADA-48GB",
        names=("NVIDIA RTX 6000 Ada Generation",),
        pci_ids=(PciId("26b1", ("1028:16a1", "103c:16a1", "10de:16a1", "17aa:16a1")),),
        compute_capability="8.9",
        memory_total_mib=49140,
        usable_gib=47.5,
        fp16_tflops=364.2,
        fp8_tflops=728.5,
        memory_bandwidth_gb_s=960,
        nvlink=None,
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="as RTX-A6000-48GB: the same size of GDDR6",
            usable="total memory in public vLLM start-up logs of 48 GB boards with ECC off",
            rates="NVIDIA RTX 6000 Ada Generation data sheet, sparse figures halved",
        ),
    ),
    GpuModel(
        key="RTX-PRO-6000-WORKSTATION-96GB",
        names=("NVIDIA RTX PRO 6000 Blackwell Workstation Edition",),
        pci_ids=(PciId("2bb1", ("1028:204b", "103c:204b", "10de:204b", "17aa:204b")),),
        compute_capability="12.0",
        memory_total_mib=97887,
        usable_gib=94.97,
        fp16_tflops=500,
        fp8_tflops=1000,
        fp4_tflops=2000,
        memory_bandwidth_gb_s=1792,
        nvlink=None,
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="nvidia-smi of a Workstation Edition",
            usable=_LOGS,
            rates="NVIDIA RTX PRO 6000 Blackwell Workstation Edition data sheet, sparse figures halved",
        ),
    ),
    GpuModel(
        key="RTX-3090-24GB",
        names=("NVIDIA GeForce RTX 3090",),
        pci_ids=(PciId("2204"),),
        compute_capability="8.6",
        memory_total_mib=24576,
        usable_gib=23.58,
        fp16_tflops=71,
        fp8_tflops=None,
        memory_bandwidth_gb_s=936,
        nvlink=NvLink(generation=3, bandwidth_gb_s=112, built_in=False),
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="nvidia-smi in noonghunna/club-3090#390 (driver 580.142)",
            usable=_LOGS,
            rates="NVIDIA Ampere GA102 GPU architecture white paper (FP32 accumulate)",
        ),
    ),
    GpuModel(
        key="RTX-5090-32GB",
        names=("NVIDIA GeForce RTX 5090",),
        pci_ids=(PciId("2b85"),),
        compute_capability="12.0",
        memory_total_mib=32607,
        usable_gib=31.36,
        fp16_tflops=209.5,
        fp8_tflops=419,
        fp4_tflops=1676,
        memory_bandwidth_gb_s=1792,
        nvlink=None,
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="nvidia-smi in noonghunna/club-3090#1229",
            usable=_LOGS,
            rates=_GEFORCE_50_SHEET,
        ),
    ),
    GpuModel(
        key="RTX-5080-16GB",
        names=("NVIDIA GeForce RTX 5080",),
        pci_ids=(PciId("2c02"),),
        compute_capability="12.0",
        memory_total_mib=16303,
        usable_gib=15.46,
        fp16_tflops=112.6,
        fp8_tflops=225.1,
        fp4_tflops=900.4,
        memory_bandwidth_gb_s=960,
        nvlink=None,
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="nvidia-smi of RTX 5080 hosts",
            usable=_GEFORCE_50_USABLE,
            rates=_GEFORCE_50_SHEET,
        ),
    ),
    GpuModel(
        key="RTX-5070-TI-16GB",
        names=("NVIDIA GeForce RTX 5070 Ti",),
        pci_ids=(PciId("2c05"),),
        compute_capability="12.0",
        memory_total_mib=16303,
        usable_gib=15.46,
        fp16_tflops=87.9,
        fp8_tflops=175.8,
        fp4_tflops=703,
        memory_bandwidth_gb_s=896,
        nvlink=None,
        sources=Sources(
            identity=_DRIVER_NAMES,
            memory_total="nvidia-smi of RTX 5070 Ti hosts",
            usable=_GEFORCE_50_USABLE,
            rates=_GEFORCE_50_SHEET,
        ),
    ),
    GpuModel(
        key="RTX-5060-TI-16GB",
        names=(),
        pci_ids=(),
        compute_capability="12.0",
        memory_total_mib=16311,
        usable_gib=15.47,
        fp16_tflops=47.4,
        fp8_tflops=94.9,
        fp4_tflops=379.5,
        memory_bandwidth_gb_s=448,
        nvlink=None,
        sources=Sources(
            identity="none: the 8 GB board has the same name and device id",
            memory_total="nvidia-smi of RTX 5060 Ti hosts",
            usable="total memory in a public vLLM start-up log",
            rates=_GEFORCE_50_SHEET,
        ),
    ),
)

LARGEST_RESERVED_MIB = max(model.reserved_mib for model in CATALOGUE)
"""What is taken off the driver's total of an unknown GPU: the most that the driver keeps of any known one."""

_MIG_PROFILE = re.compile(
    r"(?:(?P<compute>\d)c\.)?(?P<gpu>\d)g\.(?P<memory>\d+)gb(?P<attributes>(?:[+-][a-z][a-z.]*)*)"
)
_VENDOR_PREFIX = re.compile(r"(?:nvidia|tesla|geforce) ")


def by_key(key: str) -> GpuModel | None:
    """Return the model of a catalogue key such as ``H100-SXM-80GB``; None where there is none."""
    return next((model for model in CATALOGUE if model.key == key), None)


def by_name(name: str) -> GpuModel | None:
    """Return the model of a name as nvidia-smi prints it.

    Brand words in front ("NVIDIA", "Tesla", "GeForce"), case, and the choice of blank, dash or underscore do not
    matter: drivers have changed all of them over the years.
    """
    wanted = _normalised(name)
    return next((model for model in CATALOGUE if wanted in map(_normalised, model.names)), None)


def by_pci(vendor: str, device: str, subsystem: str | None = None) -> tuple[GpuModel, ...]:
    """Return the models that a PCI id can mean: none, one, or several.

    ``vendor`` and ``device`` are hex digits with or without ``0x``; ``subsystem`` is ``"vendor:device"`` alike. Where
    several models share a device id, a known subsystem decides; an unknown one leaves all of them as candidates.
    """
    if _hex4(vendor) != NVIDIA_VENDOR:
        return ()
    wanted = _hex4(device)
    sharing = [(model, pci) for model in CATALOGUE for pci in model.pci_ids if pci.device == wanted]
    board = ":".join(map(_hex4, subsystem.split(":"))) if subsystem else None
    decided = tuple(model for model, pci in sharing if board in pci.subsystems)
    return decided or tuple(model for model, pci in sharing)


def identify(
    name: str | None, vendor: str | None, device: str | None, subsystem: str | None, memory_mib: int | None
) -> tuple[GpuModel, ...]:
    """Return the models that a GPU can be, from everything that was read about it.

    The driver's name decides where the catalogue knows it. Otherwise the PCI id proposes, and ``memory_mib`` (the
    driver's ``memory.total``) strikes out the boards that it does not fit, so that a vGPU is never taken for the
    whole board.
    """
    named = by_name(name) if name else None
    if named:
        return (named,)
    candidates = by_pci(vendor, device, subsystem) if vendor and device else ()
    if memory_mib is None:
        return candidates
    return tuple(model for model in candidates if _memory_fits(model, memory_mib))


def nearest_key(text: str) -> str | None:
    """Return the catalogue key nearest to what somebody wrote, for messages; None where nothing comes near."""
    wanted = _normalised(text)
    spellings = {_normalised(spelling): model.key for model in CATALOGUE for spelling in (model.key, *model.names)}
    begun = [spelling for spelling in spellings if wanted and spelling.startswith(wanted)]
    near = begun or difflib.get_close_matches(wanted, spellings, n=1)
    return spellings[near[0]] if near else None


def parse_mig_profile(text: str) -> MigProfile | None:
    """Return the parts of a MIG profile such as ``3g.20gb`` or ``1c.3g.20gb+me``; None where it is none."""
    match = _MIG_PROFILE.fullmatch(text)
    if not match:
        return None
    gpu_slices = int(match["gpu"])
    return MigProfile(
        gpu_slices=gpu_slices,
        compute_slices=int(match["compute"] or gpu_slices),
        memory_gb=int(match["memory"]),
        attributes=tuple(re.findall(r"[+-][a-z.]+", match["attributes"])),
    )


def usable_gib(memory_mib: int, model: GpuModel | None) -> float:
    """Return what a CUDA program is given (GiB) of a driver's ``memory.total`` (MiB) on a GPU of this model."""
    reserved = model.reserved_mib if model else LARGEST_RESERVED_MIB
    return round((memory_mib - reserved) / MIB_PER_GIB, 2)


def _memory_fits(model: GpuModel, memory_mib: int) -> bool:
    return abs(memory_mib - model.memory_total_mib) <= MEMORY_TOLERANCE * model.memory_total_mib


def _normalised(name: str) -> str:
    words = re.sub(r"[\s_-]+", " ", name.strip().lower())
    while _VENDOR_PREFIX.match(words):
        words = _VENDOR_PREFIX.sub("", words, count=1)
    return words


def _hex4(text: str) -> str:
    return text.strip().lower().removeprefix("0x").zfill(4)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
