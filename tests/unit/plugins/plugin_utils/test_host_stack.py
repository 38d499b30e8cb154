# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver stack of every supported system with every generation of GPU, and every way in which there is none."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.filter.host_stack import FilterModule
from ansible_collections.gpufleet.serving.plugins.module_utils import _gpu_catalogue
from ansible_collections.gpufleet.serving.plugins.plugin_utils import _host_stack_rules as rules
from ansible_collections.gpufleet.serving.plugins.plugin_utils._findings import Findings
from ansible_collections.gpufleet.serving.plugins.plugin_utils._host_facts import capability
from ansible_collections.gpufleet.serving.plugins.plugin_utils._host_stack import (
    Driver,
    Gpu,
    Machine,
    Wish,
    solve,
    version_key,
)

KERNELS = {
    "debian 12": "6.1.0-38-amd64",
    "debian 13": "6.12.41+deb13-amd64",
    "ubuntu 22.04": "5.15.0-160-generic",
    "ubuntu 24.04": "6.8.0-90-generic",
    "rhel 9": "5.14.0-570.12.1.el9_6.x86_64",
    "rhel 10": "6.12.0-55.9.1.el10_0.x86_64",
}
GPUS = {
    "T4-16GB": "7.5",
    "A100-SXM-80GB": "8.0",
    "A10-24GB": "8.6",
    "L40S-48GB": "8.9",
    "H100-SXM-80GB": "9.0",
    "B200-SXM-180GB": "10.0",
    "B300-SXM-288GB": "10.3",
    "RTX-PRO-6000-SERVER-96GB": "12.0",
}


def host(system, *keys, kernel=None, **known):
    os, release = system.split()
    names = keys or ("H100-SXM-80GB",)
    told = {"kernel": kernel or KERNELS.get(system), "architecture": "x86_64"} | known
    return Machine(
        name="gpu1",
        os=os,
        release=release,
        gpus=tuple(Gpu(name, capability(_gpu_catalogue.by_key(name).compute_capability)) for name in names),
        **told,
    )


def solved(machine, **wish):
    """The stack, which must not be refused, and its warnings' codes."""
    findings = Findings()
    stack = solve(machine, Wish(**({"vllm": "0.33.0"} | wish)), findings)
    assert findings.refusals == []
    return stack, [warning.code for warning in findings.warnings]


def refused(machine, **wish):
    """The one refusal."""
    findings = Findings()
    assert solve(machine, Wish(**({"vllm": "0.33.0"} | wish)), findings) is None
    (refusal,) = findings.refusals
    assert refusal.subject == "gpu1" and refusal.remedies
    return refusal


def packages(stack):
    return {package.name: package.version for package in stack.packages}


ROUTES = {
    "debian 12": ("nvidia", "dkms", "580.178.04", "debian12/x86_64", ""),
    "debian 13": ("nvidia", "dkms", "595.91.07", "debian13/x86_64", ""),
    "ubuntu 22.04": ("ubuntu", "signed", "580", "", ""),
    "ubuntu 24.04": ("ubuntu", "signed", "580", "", ""),
    "rhel 9": ("nvidia", "dkms", "580.178.04", "rhel9/x86_64", "nvidia-driver:580-open"),
    "rhel 10": ("nvidia", "dkms", "580.178.04", "rhel10/x86_64", ""),
}


@pytest.mark.parametrize("key", GPUS)
@pytest.mark.parametrize("system", ROUTES)
def test_every_system_with_every_generation(system, key):
    stack, warnings = solved(host(system, key))
    seen = (stack.route, stack.build, stack.driver_version, stack.repository, stack.module_stream)
    assert seen == ROUTES[system]
    assert (stack.fabric, stack.oldest_driver, warnings) == ("none", "580.65.06", [])
    assert any(f"{key} runs on open kernel modules only" in reason for reason in stack.reasons) == (
        GPUS[key] in ("10.0", "10.3", "12.0")
    )


def test_the_catalogue_has_the_generations_that_the_table_is_about():
    known = {
        model.compute_capability for model in _gpu_catalogue.CATALOGUE if capability(model.compute_capability) >= (7, 5)
    }
    assert known <= set(GPUS.values())
    generations = {number for generation in rules.GENERATIONS for number in generation.capabilities}
    assert {capability(model.compute_capability) for model in _gpu_catalogue.CATALOGUE} <= generations


PACKAGES = {
    "debian 12": {
        "nvidia-driver-pinning-580": "",
        "linux-headers-6.1.0-38-amd64": "",
        "linux-headers-amd64": "",
        "nvidia-driver-cuda": "580.178.04-*",
        "nvidia-kernel-open-dkms": "580.178.04-*",
        "nvidia-modprobe": "580.178.04-*",
        "nvidia-persistenced": "580.178.04-*",
    },
    "debian 13": {
        "nvidia-driver-pinning-595": "",
        "linux-headers-6.12.41+deb13-amd64": "",
        "linux-headers-amd64": "",
        "nvidia-driver-cuda": "595.91.07-*",
        "nvidia-kernel-open-dkms": "595.91.07-*",
        "nvidia-modprobe": "595.91.07-*",
        "nvidia-persistenced": "595.91.07-*",
    },
    "ubuntu 24.04": {
        "nvidia-headless-no-dkms-580-server-open": "580.*",
        "nvidia-utils-580-server": "580.*",
        "linux-modules-nvidia-580-server-open-generic": "",
    },
    "rhel 9": {
        "kernel-devel-matched": "",
        "kernel-headers": "",
        "nvidia-driver-cuda": "580.178.04-*",
        "kmod-nvidia-open-dkms": "580.178.04-*",
        "nvidia-modprobe": "580.178.04-*",
        "nvidia-persistenced": "580.178.04-*",
    },
}


@pytest.mark.parametrize("system", PACKAGES)
def test_the_packages_by_name_and_version(system):
    assert packages(solved(host(system))[0]) == PACKAGES[system]


@pytest.mark.parametrize("system", ROUTES)
def test_only_what_a_kernel_module_needs_is_left_out_of_containers(system):
    kernel_only = {package.name for package in solved(host(system))[0].packages if package.kernel_only}
    assert all(name.startswith(("linux-", "kernel-")) for name in kernel_only)
    assert kernel_only


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        ("6.8.0-90-generic", "generic"),
        ("6.14.0-29-generic", "generic-hwe-24.04"),
        ("6.8.0-1030-aws", "aws"),
        ("6.8.0-90-lowlatency", "lowlatency"),
        ("6.8.0-1020-nvidia-64k", "nvidia-64k"),
        ("something.else", "generic"),
        (None, "generic"),
    ],
)
def test_ubuntus_modules_follow_the_kernel(kernel, name):
    machine = (
        host("ubuntu 24.04", kernel=kernel)
        if kernel
        else Machine("gpu1", "ubuntu", "24.04", "x86_64", (Gpu("L4-24GB", (8, 9)),))
    )
    assert f"linux-modules-nvidia-580-server-open-{name}" in packages(solved(machine)[0])


def test_headers_of_debians_cloud_kernel():
    names = packages(solved(host("debian 12", kernel="6.1.0-38-cloud-amd64"))[0])
    assert {"linux-headers-6.1.0-38-cloud-amd64", "linux-headers-cloud-amd64"} <= set(names)


FABRICS = {
    ("debian 12", "H100-SXM-80GB"): ("nvidia", {"nvidia-fabricmanager", "libnvidia-nscq"}),
    ("debian 12", "A100-SXM-80GB"): ("nvidia", {"nvidia-fabricmanager", "libnvidia-nscq"}),
    ("ubuntu 24.04", "H100-SXM-80GB"): ("ubuntu", {"nvidia-fabricmanager-580", "libnvidia-nscq-580"}),
    ("rhel 9", "H100-SXM-80GB"): ("nvidia", {"nvidia-fabricmanager", "libnvidia-nscq"}),
    ("debian 12", "B200-SXM-180GB"): ("nvidia", {"nvidia-fabricmanager", "libnvidia-nscq", "libnvsdm"}),
    ("ubuntu 24.04", "B200-SXM-180GB"): ("nvidia", {"nvidia-fabricmanager", "libnvidia-nscq", "libnvsdm"}),
    ("rhel 10", "B200-SXM-180GB"): ("nvidia", {"nvidia-fabricmanager", "libnvidia-nscq", "libnvsdm"}),
}


@pytest.mark.parametrize(("system", "key"), FABRICS)
def test_nvswitches_get_a_fabric_manager_of_the_drivers_own_version(system, key):
    route, exact = FABRICS[system, key]
    stack, _warnings = solved(host(system, *[key] * 8, nvswitch=True))
    versions = packages(stack)
    drivers = {version for name, version in versions.items() if version}
    assert stack.route == route
    assert drivers == {versions[name] for name in exact}
    assert len(drivers) == 1
    nvlink5 = key == "B200-SXM-180GB"
    assert stack.fabric == ("nvlink5" if nvlink5 else "nvswitch")
    assert ("nvlsm" in versions, "infiniband-diags" in versions) == (nvlink5, nvlink5)


def test_ubuntu_with_nvlink5_says_why_not_its_own_packages():
    stack, _warnings = solved(host("ubuntu 24.04", "B200-SXM-180GB", nvswitch=True))
    assert "not by the route ubuntu: has GPUs joined by NVLink 5 switches" in stack.reasons[0]
    assert packages(stack)["nvidia-dkms-580-open"] == "580.178.04-*"


def test_on_arm_there_is_no_libnvsdm():
    stack, _warnings = solved(host("ubuntu 24.04", "B200-SXM-180GB", nvswitch=True, architecture="aarch64"))
    assert stack.repository == "ubuntu2404/sbsa"
    assert "libnvsdm" not in packages(stack)


def test_from_branch_590_on_ubuntus_packages_lose_the_branch_in_their_names():
    stack, _warnings = solved(host("ubuntu 24.04"), route="nvidia", driver_version="595")
    assert packages(stack)["nvidia-dkms-open"] == "595.91.07-*"
    assert packages(stack)["nvidia-driver-pinning-595"] == ""


@pytest.mark.parametrize("os", ["rocky", "almalinux", "centos", "ol", "rhel"])
def test_the_rhel_family_takes_its_packages(os):
    assert solved(host(f"{os} 9.6"))[0].repository == "rhel9/x86_64"


def test_the_container_toolkit_where_it_is_wanted():
    assert solved(host("debian 12"))[0].container_toolkit_version == ""
    stack, _warnings = solved(host("debian 12"), container_toolkit=True)
    assert {packages(stack)[name] for name in rules.TOOLKIT_PACKAGES} == {f"{rules.CONTAINER_TOOLKIT}-*"}
    older, _warnings = solved(host("debian 12"), container_toolkit=True, container_toolkit_version="1.18.2")
    assert packages(older)["nvidia-container-toolkit"] == "1.18.2-*"


def test_a_locked_version_is_kept_whatever_the_tables_say_now():
    stack, _warnings = solved(host("debian 12"), driver_version="580.95.05")
    assert packages(stack)["nvidia-driver-cuda"] == "580.95.05-*"
    assert stack.driver_version == "580.95.05"


def test_v100_has_no_engine():
    refusal = refused(host("debian 12", "V100-SXM-32GB"))
    assert refusal.code == "gpu_too_old"
    assert "V100-SXM-32GB (Volta) of compute capability 7.0: vllm 0.33.0 holds no code for it" in refusal.reason
    assert "compute capability 7.5 or newer" in refusal.remedies[0]


def test_one_old_board_among_new_ones_is_refused_too():
    assert refused(host("debian 12", "H100-PCIE-80GB", "V100-PCIE-32GB")).code == "gpu_too_old"


def test_debian_13_has_no_branch_580():
    refusal = refused(host("debian 13"), driver_version="580.178.04")
    assert refusal.code == "no_such_branch"
    assert "has the branches 595" in refusal.reason and "no branch 580" in refusal.reason
    assert "595.91.07" in refusal.remedies[0]


def test_debian_13_on_arm_has_no_packages():
    refusal = refused(host("debian 13", architecture="aarch64"))
    assert refusal.code == "unknown_platform"
    assert "no packages for 64-bit Arm" in refusal.reason
    assert "debian 13 on x86_64" in refusal.remedies[0]


@pytest.mark.parametrize(("system", "version"), [("debian 12", "535"), ("debian 13", "550")])
def test_debians_own_driver_is_too_old(system, version):
    refusal = refused(host(system), route="debian")
    assert refusal.code == "driver_too_old"
    assert f"{system}'s own driver {version}." in refusal.reason and "580.65.06 or newer" in refusal.reason
    assert refusal.remedies == ("set fleet_driver_route: nvidia, or leave it out",)


@pytest.mark.parametrize("system", ["debian 12", "debian 13", "rhel 9", "rhel 10"])
def test_secure_boot_with_modules_built_on_the_host(system):
    refusal = refused(host(system, secure_boot=True))
    assert refusal.code == "secure_boot"
    assert "mokutil --import /var/lib/dkms/mok.pub" in refusal.remedies[0]
    assert solved(host(system, secure_boot=True, key_enrolled=True))[0].build == "dkms"


def test_secure_boot_is_no_trouble_with_signed_modules():
    assert solved(host("ubuntu 24.04", secure_boot=True))[0].build == "signed"
    assert refused(host("ubuntu 24.04", "B200-SXM-180GB", nvswitch=True, secure_boot=True)).code == "secure_boot"


def test_ubuntus_packages_have_no_nvlink5():
    refusal = refused(host("ubuntu 24.04", "B200-SXM-180GB", nvswitch=True), route="ubuntu")
    assert refusal.code == "no_fabric_packages"
    assert "nvlsm" in refusal.reason


@pytest.mark.parametrize("system", ["fedora 42", "debian 11", "ubuntu 20.04", "sles 15"])
def test_an_unknown_system_is_named_with_those_that_are_known(system):
    refusal = refused(host(system))
    assert refusal.code == "unknown_platform"
    assert f"runs {system} x86_64" in refusal.reason
    assert "debian 12" in refusal.remedies[0] and "gpu_host_manage: false" in refusal.remedies[1]


@pytest.mark.parametrize(
    ("wish", "code"), [({"route": "runfile"}, "unknown_route"), ({"driver_version": "560"}, "no_such_branch")]
)
def test_a_route_or_branch_that_is_not_there(wish, code):
    assert refused(host("debian 12"), **wish).code == code


@pytest.mark.parametrize("version", ["580.65", "580.x", "580.126.09-1"])
def test_a_version_that_is_none_or_too_old(version):
    assert refused(host("debian 12"), driver_version=version).code in ("driver_too_old", "no_such_branch")


def test_a_driver_that_somebody_else_installed_is_kept_and_named():
    machine = host("debian 12", driver=Driver("580.95.05", works=True, origin="nvidia-driver-cuda 580.95.05-1"))
    stack, warnings = solved(machine)
    assert (stack.route, stack.driver_version, stack.packages) == ("present", "580.95.05", ())
    assert warnings == ["driver_of_others"]
    assert solved(machine, manage=False) == (stack, [])


def test_a_driver_of_ours_and_one_that_does_not_work_are_managed():
    assert solved(host("debian 12", driver=Driver("580.95.05", works=True, ours=True)))[0].route == "nvidia"
    assert solved(host("debian 12", driver=Driver("580.95.05", works=False)))[0].route == "nvidia"


@pytest.mark.parametrize("manage", [True, False])
def test_a_driver_too_old_for_the_wheel(manage):
    machine = host("ubuntu 22.04", driver=Driver("535.261.03", works=True, origin="nvidia-driver 535.261.03-1~deb12u1"))
    refusal = refused(machine, manage=manage)
    assert refusal.code == "driver_too_old"
    assert "has driver 535.261.03 (nvidia-driver 535.261.03-1~deb12u1), and CUDA 13.0 needs 580.65.06" in refusal.reason


def test_no_driver_and_none_to_be_installed():
    assert refused(host("debian 12"), manage=False).code == "no_driver"


@pytest.mark.parametrize(
    ("wish", "oldest"),
    [
        ({"vllm": "0.33.0"}, "580.65.06"),
        ({"vllm": None, "torch": "2.14.0"}, "580.65.06"),
        ({"vllm": None, "cuda": "12.9"}, "525.60.13"),
        ({"vllm": "0.99.0"}, "580.65.06"),
    ],
)
def test_what_is_wanted_decides_the_oldest_driver(wish, oldest):
    assert solved(host("debian 12"), **wish)[0].oldest_driver == oldest


@pytest.mark.parametrize("cuda", ["14.0", "new"])
def test_a_cuda_that_nobody_knows(cuda):
    assert refused(host("debian 12"), cuda=cuda).code == "unknown_cuda"


def test_every_branch_that_is_offered_runs_every_engine():
    for engine in rules.ENGINES:
        oldest = rules.OLDEST_DRIVERS[int(engine.cuda.split(".")[0])]
        for branch in rules.BRANCHES:
            assert version_key(branch.version) >= version_key(oldest)
    offered = {number for platform in rules.PLATFORMS for offer in platform.offers for number in offer.branches}
    assert offered == {branch.number for branch in rules.BRANCHES}


def test_every_rule_has_a_source():
    rows = [*rules.ENGINES, *rules.GENERATIONS, *rules.BRANCHES, *rules.PLATFORMS]
    rows += [offer.route for platform in rules.PLATFORMS for offer in platform.offers]
    assert all(row.source for row in rows)


FACTS = {
    "state": "no_driver",
    "driver_version": None,
    "nvswitch": True,
    "gpus": [{"key": "H100-SXM-80GB", "name": None, "compute_capability": "9.0"}],
    "host": {"os": {"id": "debian", "version_id": "12"}, "architecture": "x86_64", "kernel": "6.1.0-38-amd64"},
}


def test_the_filter_takes_what_the_modules_answer():
    host_stack = FilterModule().filters()["host_stack"]
    answer = host_stack(FACTS, vllm="0.33.0")
    assert answer["refusals"] == []
    assert (answer["stack"]["fabric"], answer["stack"]["driver_version"]) == ("nvswitch", "580.178.04")
    secure = {"kernel": {"secure_boot": True, "key_enrolled": False}}
    (refusal,) = host_stack(FACTS, state=secure, name="gpu7")["refusals"]
    assert (refusal["code"], refusal["subject"]) == ("secure_boot", "gpu7")


def test_the_filter_tells_a_present_driver_by_its_package():
    host_stack = FilterModule().filters()["host_stack"]
    facts = FACTS | {"state": "ok", "driver_version": "580.95.05"}
    state = {"driver": {"packages": [{"name": "nvidia-utils-580-server", "version": "580.95.05-0ubuntu0.24.04.1"}]}}
    answer = host_stack(facts, state=state)
    assert answer["stack"]["route"] == "present"
    assert "nvidia-utils-580-server 580.95.05-0ubuntu0.24.04.1" in answer["warnings"][0]["reason"]
