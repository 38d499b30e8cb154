# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What fits together on a GPU host: engines, drivers, GPUs, distributions, and the packages that carry them.

Data alone; ``_host_stack`` decides by it. To support a further release, add rows here and a row to its tests. Versions
are the ones that a new host gets: a host that has its stack keeps it, whatever is written here later.

Sources, by the words that rows cite:

* DC-DRIVERS: docs.nvidia.com/datacenter/tesla/drivers, life cycle of driver branches (page of the R615 time).
* GUIDE: NVIDIA Driver Installation Guide r590 to r620: kernel modules, compute-only installation, version locking, and
  the renaming of Ubuntu's packages from branch 590 on.
* CONTAINER: NVIDIA/gpu-driver-container 06a208c: names of the fabric packages by branch, driver versions in its CI.
* CUDA-NOTES: CUDA Toolkit Release Notes, drivers for minor version compatibility.
* WHEEL: metadata and binaries of the wheels vllm 0.33.0 and torch 2.14.0.
* UBUNTU: Ubuntu Server documentation, NVIDIA drivers; names as packages.ubuntu.com lists them.
* DEBIAN: packages.debian.org, nvidia-driver.
* REPO13: NVIDIA/cuda-repo-management#30, #34, #38, #39, on the repository for Debian 13.
"""

from __future__ import annotations

from dataclasses import dataclass

OPEN, PROPRIETARY = "open", "proprietary"
SIGNED, DKMS = "signed", "dkms"
NO_FABRIC, NVSWITCH, NVLINK5 = "none", "nvswitch", "nvlink5"
"""How a host's GPUs are joined: not, through NVSwitches that the host sees (NVLink 4 and older), or through ones that
it manages over InfiniBand (NVLink 5: B200, B300)."""
UBUNTU, NVIDIA, DEBIAN = "ubuntu", "nvidia", "debian"
X86, ARM = "x86_64", "aarch64"
NVLINK5_CAPABILITY = (10, 0)
"""Compute capability from which NVSwitches are those of NVLink 5 (Blackwell)."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A vLLM wheel: the torch that it pins, the CUDA that both are built for, the oldest GPUs that it has code for."""

    vllm: str
    torch: str
    cuda: str
    oldest_capability: tuple[int, int]
    source: str


ENGINES = (Engine("0.33.0", "2.14.0", "13.0", (7, 5), "WHEEL"),)

OLDEST_DRIVERS = {12: "525.60.13", 13: "580.65.06"}
"""The oldest driver for every CUDA of a major version, by that major version. CUDA-NOTES."""


@dataclass(frozen=True, slots=True)
class Generation:
    """GPUs of one architecture, and the kinds of kernel module that drive them."""

    name: str
    capabilities: tuple[tuple[int, int], ...]
    modules: tuple[str, ...]
    source: str = "GUIDE, kernel modules"


GENERATIONS = (
    Generation("Volta", ((7, 0), (7, 2)), (PROPRIETARY,)),
    Generation("Turing", ((7, 5),), (OPEN, PROPRIETARY)),
    Generation("Ampere", ((8, 0), (8, 6), (8, 7)), (OPEN, PROPRIETARY)),
    Generation("Ada", ((8, 9),), (OPEN, PROPRIETARY)),
    Generation("Hopper", ((9, 0),), (OPEN, PROPRIETARY)),
    Generation("Blackwell", ((10, 0), (10, 3), (12, 0), (12, 1)), (OPEN,)),
)


@dataclass(frozen=True, slots=True)
class Branch:
    """A driver branch that is still maintained, and its release that a new host gets. ``cuda``: the newest it runs."""

    number: int
    version: str
    cuda: str
    kind: str
    ends: str
    source: str = "DC-DRIVERS; version as in CONTAINER"


BRANCHES = (
    Branch(580, "580.178.04", "13.0", "long-term support", "2028-06"),
    Branch(595, "595.91.07", "13.2", "production", "2027-03"),
)
"""The longest maintained first: it is taken wherever it is to be had."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A package by name: ``{branch}``, ``{suffix}``, ``{kernel}`` and ``{flavour}`` are filled in.

    ``suffix`` is ``-580`` for branches whose packages carry it in their names, else nothing. follows_driver: whether
    the package has the driver's version, which it is then pinned to. kernel_only: needed for a kernel module alone, and
    so left out where the host is a container.
    """

    name: str
    follows_driver: bool = True
    kernel_only: bool = False
    architectures: tuple[str, ...] = (X86, ARM)


@dataclass(frozen=True, slots=True)
class Route:
    """One way that a driver comes to a host.

    build: whether its kernel modules come signed by the distribution, or are built on the host (DKMS).
    exact: whether the repository keeps old versions, so that one can be named to the last digit. One that keeps only
    the newest is pinned to the branch, and what it gave is held. stream: the module stream to enable (dnf).
    also_held: what of the distribution must stand still as long as the driver does. Prebuilt modules are made for one
    driver version, so a newer kernel would come without any.
    """

    name: str
    build: str
    exact: bool
    driver: tuple[Wanted, ...]
    fabrics: dict[str, tuple[Wanted, ...]]
    stream: str | None
    source: str
    also_held: tuple[str, ...] = ()


_NVIDIA_FABRICS = {
    NO_FABRIC: (),
    NVSWITCH: (Wanted("nvidia-fabricmanager"), Wanted("libnvidia-nscq")),
    NVLINK5: (
        Wanted("nvidia-fabricmanager"),
        Wanted("libnvidia-nscq"),
        Wanted("libnvsdm", architectures=(X86,)),
        Wanted("nvlsm", follows_driver=False),
        Wanted("infiniband-diags", follows_driver=False),
    ),
}
"""From branch 580 on without the branch in their names. CONTAINER, install.sh of ubuntu24.04, rhel9 and rhel10."""

_APT_PINNING = Wanted("nvidia-driver-pinning-{branch}", follows_driver=False)
"""NVIDIA's own preferences for a branch, to be installed before the driver. GUIDE, version locking."""

_DEB_HEADERS = (
    Wanted("linux-headers-{kernel}", follows_driver=False, kernel_only=True),
    Wanted("linux-headers-{flavour}", follows_driver=False, kernel_only=True),
)
"""For the kernel that runs, and for those that come after it."""

UBUNTU_SIGNED = Route(
    UBUNTU,
    SIGNED,
    exact=False,
    driver=(
        Wanted("nvidia-headless-no-dkms-{branch}-server-open"),
        Wanted("nvidia-utils-{branch}-server"),
        Wanted("linux-modules-nvidia-{branch}-server-open-{flavour}", follows_driver=False, kernel_only=True),
    ),
    fabrics={
        NO_FABRIC: (),
        NVSWITCH: (Wanted("nvidia-fabricmanager-{branch}"), Wanted("libnvidia-nscq-{branch}")),
    },
    stream=None,
    source="UBUNTU",
    also_held=(
        "linux-modules-nvidia-{branch}-server-open-{flavour}",
        "linux-{flavour}",
        "linux-image-{flavour}",
        "linux-headers-{flavour}",
    ),
)
UBUNTU_NVIDIA = Route(
    NVIDIA,
    DKMS,
    exact=True,
    driver=(
        _APT_PINNING,
        *_DEB_HEADERS,
        Wanted("libnvidia-compute{suffix}"),
        Wanted("nvidia-dkms{suffix}-open"),
        Wanted("nvidia-utils{suffix}"),
        Wanted("nvidia-compute-utils{suffix}"),
        Wanted("nvidia-modprobe"),
    ),
    fabrics=_NVIDIA_FABRICS,
    stream=None,
    source="GUIDE, compute-only installation",
)
DEBIAN_NVIDIA = Route(
    NVIDIA,
    DKMS,
    exact=True,
    driver=(
        _APT_PINNING,
        *_DEB_HEADERS,
        Wanted("nvidia-driver-cuda"),
        Wanted("nvidia-kernel-open-dkms"),
        Wanted("nvidia-modprobe"),
        Wanted("nvidia-persistenced"),
    ),
    fabrics=_NVIDIA_FABRICS,
    stream=None,
    source="GUIDE, compute-only installation",
)
RHEL9_NVIDIA = Route(
    NVIDIA,
    DKMS,
    exact=True,
    driver=(
        Wanted("kernel-devel-matched", follows_driver=False, kernel_only=True),
        Wanted("kernel-headers", follows_driver=False, kernel_only=True),
        Wanted("nvidia-driver-cuda"),
        Wanted("kmod-nvidia-open-dkms"),
        Wanted("nvidia-modprobe"),
        Wanted("nvidia-persistenced"),
    ),
    fabrics=_NVIDIA_FABRICS,
    stream="nvidia-driver:{branch}-open",
    source="GUIDE, compute-only installation and modularity",
)
RHEL10_NVIDIA = Route(
    NVIDIA,
    DKMS,
    exact=True,
    driver=RHEL9_NVIDIA.driver,
    fabrics=_NVIDIA_FABRICS,
    stream=None,
    source="GUIDE, compute-only installation; RHEL 10 has no modularity",
)


@dataclass(frozen=True, slots=True)
class Offer:
    """The branches that a route has on one release, and the folder of NVIDIA's repository that holds them."""

    route: Route
    branches: tuple[int, ...]
    repository: str | None = None


@dataclass(frozen=True, slots=True)
class Archive:
    """A driver that the distribution itself packages: named so that it can be refused in words."""

    version: str
    source: str = "DEBIAN"


@dataclass(frozen=True, slots=True)
class Platform:
    """One release of a distribution on one architecture; the first offer that fits is taken.

    release: as os-release has it; of the RHEL family the major version. general_kernel: the kernel that the release
    came with; a newer one of Ubuntu's is of the hardware enablement series, and its packages say so. flavour: of a
    kernel that does not tell. note: what an operator should know of the release.
    """

    os: str
    release: str
    architecture: str
    offers: tuple[Offer, ...]
    archive: Archive | None = None
    general_kernel: str | None = None
    flavour: str = ""
    note: str = ""
    source: str = "GUIDE, supported distributions"


RHEL_FAMILY = ("rhel", "rocky", "almalinux", "centos", "ol")
"""os-release IDs of distributions that take the packages made for RHEL."""

_FOLDERS = {X86: "x86_64", ARM: "sbsa"}
"""What NVIDIA's repositories call an architecture."""


def _folder(release: str, architecture: str) -> str:
    return f"{release}/{_FOLDERS[architecture]}"


PLATFORMS = (
    *(
        Platform(
            "ubuntu",
            release,
            architecture,
            (
                Offer(UBUNTU_SIGNED, (580, 595)),
                Offer(UBUNTU_NVIDIA, (580, 595), _folder(f"ubuntu{release.replace('.', '')}", architecture)),
            ),
            general_kernel=kernel,
            flavour="generic",
        )
        for release, kernel in (("22.04", "5.15"), ("24.04", "6.8"))
        for architecture in (X86, ARM)
    ),
    *(
        Platform(
            "debian",
            "12",
            architecture,
            (Offer(DEBIAN_NVIDIA, (580, 595), _folder("debian12", architecture)),),
            archive=Archive("535.261.03"),
            flavour=flavour,
        )
        for architecture, flavour in ((X86, "amd64"), (ARM, "arm64"))
    ),
    Platform(
        "debian",
        "13",
        X86,
        (Offer(DEBIAN_NVIDIA, (595,), _folder("debian13", X86)),),
        archive=Archive("550.163.01"),
        flavour="amd64",
        note="NVIDIA's repository for it has no branch 580 and no packages for 64-bit Arm",
        source="REPO13",
    ),
    *(
        Platform("rhel", release, architecture, (Offer(route, (580, 595), _folder(f"rhel{release}", architecture)),))
        for release, route in (("9", RHEL9_NVIDIA), ("10", RHEL10_NVIDIA))
        for architecture in (X86, ARM)
    ),
)

FIRST_WITHOUT_SUFFIX = 590
"""From this branch on, names of NVIDIA's packages for Ubuntu no longer carry the branch. GUIDE, recent updates."""

CONTAINER_TOOLKIT = "1.19.1"
"""Release of the NVIDIA Container Toolkit that a new host gets. NVIDIA/nvidia-container-toolkit, releases."""

TOOLKIT_PACKAGES = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)
"""The toolkit and what it consists of, all of one version."""
