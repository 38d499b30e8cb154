# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Repository files, pins and package lists of every route, rendered by Ansible itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.gpufleet.serving.plugins.plugin_utils._findings import Findings
from ansible_collections.gpufleet.serving.plugins.plugin_utils._host_stack import Gpu, Machine, Wish, solve

ROLE = Path(__file__).resolve().parents[4] / "roles" / "gpu_host"
SOURCES = {
    "Debian": "etc/apt/sources.list.d/gpufleet-nvidia.sources",
    "RedHat": "etc/yum.repos.d/gpufleet-nvidia.repo",
}
NVIDIA = "https://developer.download.nvidia.com/compute/cuda/repos"
SYSTEMS = {
    "debian 12": ("Debian", "Debian", "12.12"),
    "debian 13": ("Debian", "Debian", "13.1"),
    "ubuntu 22.04": ("Debian", "Ubuntu", "22.04"),
    "ubuntu 24.04": ("Debian", "Ubuntu", "24.04"),
    "rhel 9": ("RedHat", "Rocky", "9.6"),
    "rhel 10": ("RedHat", "RedHat", "10.0"),
}


def stack_of(system, nvlink5=False, **wish):
    os, release = system.split()
    gpu = Gpu("B200-SXM-180GB", (10, 0)) if nvlink5 else Gpu("H100-PCIE-80GB", (9, 0))
    machine = Machine("gpu1", os, release, "x86_64", (gpu,), kernel="6.8.0-90-generic", nvswitch=nvlink5)
    return solve(machine, Wish(**wish), Findings()).as_dict()


class Rendered:
    """The role's variables and templates as a host of a system has them."""

    def __init__(self, system, stack, **options):
        family, distribution, version = SYSTEMS[system]
        loader = DataLoader()
        names = ("defaults/main.yml", "vars/main.yml", "vars/products.yml", f"vars/{family}.yml")
        variables = {}
        for name in names:
            variables |= loader.load_from_file(str(ROLE / name), trusted_as_template=True)
        variables |= {
            "ansible_facts": {
                "architecture": "x86_64",
                "distribution": distribution,
                "distribution_major_version": version.split(".")[0],
                "distribution_version": version,
                "os_family": family,
            },
            "ansible_check_mode": False,
            "gpu_host_stack": stack,
            "inventory_hostname": "gpu1",
            "__gpu_host_installed": {"strays": []},
            "__gpu_host_state": {"kernel": {"container": None}},
        } | options
        self.templar = Templar(loader, variables=variables)

    def value(self, name):
        return self.templar.template(trust_as_template("{{ " + name + " }}"))

    def file(self, path):
        text = (ROLE / "templates" / f"{path}.j2").read_text(encoding="utf-8")
        return self.templar.template(trust_as_template(text))


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_stack_is_what_the_argument_spec_asks_for(system):
    spec = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    options = spec["argument_specs"]["main"]["options"]
    for nvlink5 in (False, True):
        given = {"gpu_host_stack": stack_of(system, nvlink5, container_toolkit=True)}
        assert ArgumentSpecValidator(options).validate(given).error_messages == []
        missing = {"gpu_host_stack": given["gpu_host_stack"] | {"surprise": 1}}
        assert ArgumentSpecValidator(options).validate(missing).error_messages


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_stack_is_for_the_release_that_it_was_made_for(system):
    rendered = Rendered(system, stack_of(system, nvlink5=True))
    assert rendered.value("gpu_host_stack.repository | dirname") == rendered.value("__gpu_host_release")


KEYS = {
    "debian 12": "3bf863cc.pub",
    "debian 13": "8793F200.pub",
    "ubuntu 24.04": "3bf863cc.pub",
    "rhel 9": "D42D0685.pub",
    "rhel 10": "D42D0685.pub",
}


@pytest.mark.parametrize("system", KEYS)
def test_the_key_of_each_repository(system):
    rendered = Rendered(system, stack_of(system, nvlink5=True))
    folder = system.replace(" ", "").replace(".", "")
    assert rendered.value("__gpu_host_driver_key") == f"{NVIDIA}/{folder}/x86_64/{KEYS[system]}"
    assert all(re.fullmatch("[0-9A-F]{40}", key) for key in rendered.value("__gpu_host_driver_fingerprints"))


def test_sources_of_debian():
    rendered = Rendered("debian 12", stack_of("debian 12", container_toolkit=True))
    stanzas = rendered.file("etc/apt/sources.list.d/gpufleet-nvidia.sources").split("\n\n")
    assert stanzas[0].splitlines()[1:] == [
        "Types: deb",
        f"URIs: {NVIDIA}/debian12/x86_64/",
        "Suites: /",
        "Signed-By: /etc/apt/keyrings/gpufleet-nvidia.asc",
    ]
    assert "URIs: https://nvidia.github.io/libnvidia-container/stable/deb/amd64/" in stanzas[1]


def test_ubuntus_own_packages_need_no_repository():
    rendered = Rendered("ubuntu 24.04", stack_of("ubuntu 24.04"))
    assert "URIs" not in rendered.file("etc/apt/sources.list.d/gpufleet-nvidia.sources")
    assert rendered.value("__gpu_host_specs") == [
        "nvidia-headless-no-dkms-580-server-open=580.*",
        "nvidia-utils-580-server=580.*",
        "linux-modules-nvidia-580-server-open-generic",
    ]


def test_a_mirror_takes_the_place_of_everything():
    mirror = {"gpu_host_driver_repository": "http://mirror/cuda", "gpu_host_container_repository": "http://mirror/ctk"}
    for system in SYSTEMS:
        rendered = Rendered(system, stack_of(system, nvlink5=True, container_toolkit=True), **mirror)
        addresses = rendered.file(SOURCES[SYSTEMS[system][0]])
        addresses += rendered.value("__gpu_host_driver_key") + rendered.value("__gpu_host_container_key")
        assert "http://mirror/" in addresses
        assert "nvidia.com" not in addresses and "github.io" not in addresses


@pytest.mark.parametrize(("system", "glob"), [("debian 12", "580.178.04-*"), ("ubuntu 22.04", "580.*")])
def test_pins_let_one_version_in_and_keep_every_other_driver_out(system, glob):
    rendered = Rendered(system, stack_of(system))
    wanted, others = rendered.file("etc/apt/preferences.d/gpufleet-nvidia").strip().split("\n\n")
    assert f"Pin: version {glob}\nPin-Priority: 1001" in wanted
    pattern = re.search(r"^Pin: version /(.+)/\nPin-Priority: -1$", others, re.MULTILINE)[1]
    assert all(re.match(pattern, version) for version in ("610.57.04-1", "535.261.03-1~deb12u1", "590.48.01-1ubuntu1"))
    assert not any(re.match(pattern, version) for version in ("1.19.1-1", "580-1", "2025.10.12-1", "13.0.3-1"))


def test_unattended_upgrades_are_kept_off_the_driver_and_what_must_stand_still_with_it():
    text = Rendered("ubuntu 24.04", stack_of("ubuntu 24.04")).file("etc/apt/apt.conf.d/52gpufleet-nvidia")
    patterns = re.findall(r'^    "(.+)";$', text, re.MULTILINE)
    blocked = ("nvidia-utils-580-server", "libnvidia-compute-580-server", "linux-image-generic", "linux-generic")
    assert all(any(re.match(pattern, name) for pattern in patterns) for name in blocked)
    free = ("openssl", "linux-image-generic-hwe", "libc6")
    assert not any(re.match(pattern, name) for pattern in patterns for name in free)


def test_repositories_and_stream_of_the_rhel_family():
    rendered = Rendered("rhel 9", stack_of("rhel 9", container_toolkit=True))
    repository = rendered.file("etc/yum.repos.d/gpufleet-nvidia.repo")
    assert f"[gpufleet-nvidia]\nname=NVIDIA driver\nbaseurl={NVIDIA}/rhel9/x86_64\nenabled=1\n" in repository
    assert "enabled=1\ngpgcheck=1\n" in repository
    assert "gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-gpufleet-nvidia\n" in repository
    assert "baseurl=https://nvidia.github.io/libnvidia-container/stable/rpm/x86_64\n" in repository
    assert rendered.file("etc/dnf/modules.d/nvidia-driver.module") == (
        "[nvidia-driver]\nname=nvidia-driver\nstream=580-open\nprofiles=\nstate=enabled\n"
    )
    assert stack_of("rhel 10")["module_stream"] == ""


@pytest.mark.parametrize("system", ["rhel 9", "rhel 10"])
def test_packages_of_the_rhel_family_by_name_and_version(system):
    specs = Rendered(system, stack_of(system, nvlink5=True)).value("__gpu_host_specs")
    assert specs == [
        "kernel-devel-matched",
        "kernel-headers",
        "nvidia-driver-cuda-580.178.04-*",
        "kmod-nvidia-open-dkms-580.178.04-*",
        "nvidia-modprobe-580.178.04-*",
        "nvidia-persistenced-580.178.04-*",
        "nvidia-fabricmanager-580.178.04-*",
        "libnvidia-nscq-580.178.04-*",
        "libnvsdm-580.178.04-*",
        "nvlsm",
        "infiniband-diags",
    ]


def test_what_is_left_of_another_driver_comes_along():
    left = {"__gpu_host_installed": {"strays": ["libcuda1"]}}
    assert Rendered("debian 12", stack_of("debian 12"), **left).value("__gpu_host_specs")[-1] == "libcuda1=580.178.04-*"
    assert Rendered("rhel 9", stack_of("rhel 9"), **left).value("__gpu_host_specs")[-1] == "libcuda1-580.178.04-*"


def test_in_a_container_no_package_is_for_the_kernel():
    contained = {"__gpu_host_state": {"kernel": {"container": "podman"}}}
    specs = Rendered("debian 12", stack_of("debian 12"), **contained).value("__gpu_host_specs")
    assert specs[0] == "nvidia-driver-pinning-580"
    assert not any(spec.startswith("linux-") for spec in specs)


def test_products_are_named_in_one_file_only():
    texts = {path.name: path.read_text(encoding="utf-8") for path in ROLE.rglob("*") if path.is_file()}
    assert [name for name, text in texts.items() if re.search(r"https?://", text)] == ["products.yml"]
