# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host as converge.yml left it: versions, pins, holds, and every way in which a newer driver could slip in."""

from __future__ import annotations

import json
import re

import pytest
from driver_host import DriverHost

WANTED, BAIT = "580.178.04-1", "610.57.04-1"
DRIVER = (
    "nvidia-driver-cuda",
    "nvidia-kernel-open-dkms",
    "nvidia-modprobe",
    "nvidia-persistenced",
    "nvidia-fabricmanager",
    "libnvidia-nscq",
)
BROUGHT_ALONG = ("libcuda1", "libnvidia-ml1")
TOOLKIT = ("nvidia-container-toolkit", "nvidia-container-toolkit-base", "libnvidia-container1")


@pytest.fixture
def driver(host, tmp_path):
    return DriverHost(host, tmp_path)


@pytest.mark.parametrize("name", DRIVER + BROUGHT_ALONG)
def test_everything_of_the_driver_is_of_one_version_and_held(driver, name):
    assert driver.versions()[name] == WANTED
    assert name in driver.held()


@pytest.mark.parametrize("name", TOOLKIT)
def test_so_is_the_container_toolkit_of_its_own(driver, name):
    assert driver.versions()[name] == "1.19.1-1"
    assert name in driver.held()


def test_the_fabric_manager_says_the_drivers_version_itself(host):
    assert host.check_output("nv-fabricmanager --version") == "Fabric Manager version is : 580.178.04"


def test_nvidias_own_pinning_package_is_there(driver):
    assert driver.versions()["nvidia-driver-pinning-580"] == "580-1"


@pytest.mark.parametrize("name", DRIVER + BROUGHT_ALONG)
def test_the_bait_is_there_and_is_no_candidate(host, name):
    policy = host.check_output(f"apt-cache policy {name}")
    assert BAIT in policy
    assert f"Candidate: {WANTED}" in policy


def test_an_upgrade_of_everything_leaves_the_driver_alone(host):
    simulated = host.check_output("apt-get --simulate --yes dist-upgrade")
    assert not re.search(r"^Inst \S*(nvidia|cuda)", simulated, re.MULTILINE)


def test_a_newer_driver_asked_for_by_hand_is_refused_while_held(host):
    asked = host.run(f"DEBIAN_FRONTEND=noninteractive apt-get --yes install nvidia-driver-cuda={BAIT}")
    assert asked.rc != 0
    assert "Held packages were changed" in asked.stderr


def upgraded(text):
    """The packages that unattended-upgrade says it would upgrade."""
    told = re.search(r"Packages that will be upgraded: (.*)", text)
    return told[1].split() if told else []


def test_unattended_upgrades_would_take_the_bait_and_are_kept_off(host):
    host.check_output(
        "printf '%s\\n' 'Unattended-Upgrade::Origins-Pattern { \"origin=NVIDIA\"; };' > /etc/apt/apt.conf.d/99tests"
    )
    free = "mv /etc/apt/preferences.d/gpufleet-nvidia /root/pins; apt-mark unhold libnvidia-ml1"
    back = "mv /root/pins /etc/apt/preferences.d/gpufleet-nvidia; apt-mark hold libnvidia-ml1"
    dry = "unattended-upgrade --dry-run --debug 2>&1"
    try:
        host.check_output(free)
        kept = host.check_output(dry)
        blacklist = "mv /etc/apt/apt.conf.d/52gpufleet-nvidia /root/blacklist"
        host.check_output(blacklist)
        taken = host.check_output(dry)
    finally:
        host.run("mv /root/blacklist /etc/apt/apt.conf.d/52gpufleet-nvidia")
        host.check_output(f"{back}; rm /etc/apt/apt.conf.d/99tests")
    assert "libnvidia-ml1" in upgraded(taken)
    assert "libnvidia-ml1" not in upgraded(kept)


def test_nothing_of_the_kernel_was_installed_and_nothing_started(host):
    assert host.run("dpkg-query -W 'linux-headers*' 'dkms'").rc != 0
    for unit in ("nvidia-persistenced", "nvidia-fabricmanager"):
        assert not host.service(unit).is_running
    assert host.file("/etc/modprobe.d/gpufleet-nouveau.conf").contains("blacklist nouveau")


def test_the_repositories_have_one_key_each(host):
    sources = host.file("/etc/apt/sources.list.d/gpufleet-nvidia.sources").content_string
    assert sources.count("Signed-By: /etc/apt/keyrings/gpufleet-nvidia") == 2
    for name in ("gpufleet-nvidia.asc", "gpufleet-nvidia-container.asc"):
        key = host.file(f"/etc/apt/keyrings/{name}")
        assert (key.user, key.mode) == ("root", 0o644)


def test_what_is_applied_is_written_down(host, driver):
    fact = json.loads(host.file("/etc/ansible/facts.d/gpufleet_gpu_host.fact").content_string)
    assert fact == {"share": "0123456789abcdef", "options": {"gpu_host_stack": driver.options()["gpu_host_stack"]}}
