# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens when the stack, the repository or the host changes, in the order of a life."""

from __future__ import annotations

import pytest
from driver_host import DriverHost

OLDER = {"driver_version": "580.95.05"}


@pytest.fixture(scope="module")
def driver(host, tmp_path_factory):
    return DriverHost(host, tmp_path_factory.mktemp("gpu_host"))


def test_a_second_run_changes_nothing_and_says_what_a_container_leaves_out(driver):
    again = driver.play()
    assert (again.changed, again.failed) == (0, 0)
    left_out = "gpu-host-1: kernel modules, services and fabric are left out: the host is a container (podman)"
    assert left_out in again.words


def test_a_key_that_is_not_the_pinned_one_is_not_trusted(driver):
    refused = driver.play(gpu_host_driver_key_fingerprints=["0" * 40])
    assert (refused.changed, refused.failed) == (0, 1)
    assert "3bf863cc.pub is not to be trusted: it holds the key" in refused.words


def test_a_key_that_is_not_there(driver):
    refused = driver.play(gpu_host_driver_key="file:///srv/repository/none.pub")
    assert refused.failed == 1
    assert "file:///srv/repository/none.pub cannot be fetched" in refused.words


def test_the_repository_under_another_key_is_a_conflict_that_is_named(driver, host):
    other = "/etc/apt/sources.list.d/cuda-debian12-x86_64.list"
    host.check_output(f"echo 'deb [trusted=yes] file:///srv/repository/cuda/debian12/x86_64 /' > {other}")
    refused = driver.play()
    host.check_output(f"rm {other}")
    assert (refused.changed, refused.failed) == (0, 1)
    assert f"{other} names file:///srv/repository/cuda/debian12/x86_64 too, and apt refuses" in refused.words


def test_a_driver_is_not_replaced_under_a_replica(driver, host):
    host.check_output("systemd-run --unit=gpufleet-tiny-0.service --quiet sleep 600")
    refused = driver.play(gpu_host_stack=driver.options(**OLDER)["gpu_host_stack"])
    unchanged = driver.play()
    host.check_output("systemctl stop gpufleet-tiny-0.service")
    assert (refused.changed, refused.failed) == (0, 1)
    assert "nvidia-driver-cuda 580.178.04-1 by 580.95.05-*" in refused.words
    assert "gpufleet-tiny-0.service runs" in refused.words
    assert (unchanged.changed, unchanged.failed) == (0, 0)


def test_another_version_is_announced_and_then_installed_as_a_whole(driver):
    stack = driver.options(**OLDER)["gpu_host_stack"]
    before = driver.versions()
    announced = driver.play(gpu_host_stack=stack, check=True)
    assert announced.failed == 0 and announced.changed > 0
    assert driver.versions() == before
    assert driver.play(gpu_host_stack=stack).failed == 0
    versions = driver.versions()
    names = ("nvidia-driver-cuda", "libcuda1", "libnvidia-ml1", "nvidia-modprobe", "nvidia-fabricmanager")
    assert {versions[name] for name in names} == {"580.95.05-1"}
    assert set(names) <= driver.held()
    assert driver.play(gpu_host_stack=stack).changed == 0
    assert driver.play().failed == 0


def test_a_newer_driver_that_somebody_put_there_is_brought_back(driver, host):
    host.check_output(
        "DEBIAN_FRONTEND=noninteractive apt-get --yes --quiet --allow-change-held-packages install "
        "nvidia-fabricmanager=610.57.04-1"
    )
    assert driver.play().failed == 0
    assert driver.versions()["nvidia-fabricmanager"] == "580.178.04-1"
    assert "nvidia-fabricmanager" in driver.held()


def test_a_version_that_the_repository_does_not_have(driver):
    refused = driver.play(gpu_host_stack=driver.options(driver_version="580.65.06")["gpu_host_stack"])
    assert refused.failed == 1
    assert "580.65.06" in refused.words
    assert driver.play().failed == 0


def test_a_stack_for_another_release_is_refused(driver):
    stack = driver.options()["gpu_host_stack"] | {"repository": "debian13/x86_64"}
    refused = driver.play(gpu_host_stack=stack)
    assert (refused.changed, refused.failed) == (0, 1)
    assert "gpu-host-1 is a debian12, and gpu_host_stack is for debian13/x86_64" in refused.words


def test_a_host_that_is_not_managed_is_only_checked(driver):
    checked = driver.play(gpu_host_manage=False)
    assert (checked.changed, checked.failed) == (0, 1)
    assert "the GPUs are no_gpu with driver none, and 580.65.06 or newer is needed" in checked.words


def test_reset_gives_the_packages_free_and_leaves_the_driver(driver, host):
    assert driver.play(entry="reset").failed == 0
    assert driver.held() == set()
    assert driver.versions()["nvidia-driver-cuda"] == "580.178.04-1"
    for path in (
        "/etc/apt/sources.list.d/gpufleet-nvidia.sources",
        "/etc/apt/preferences.d/gpufleet-nvidia",
        "/etc/apt/apt.conf.d/52gpufleet-nvidia",
        "/etc/apt/keyrings/gpufleet-nvidia.asc",
        "/etc/ansible/facts.d/gpufleet_gpu_host.fact",
    ):
        assert not host.file(path).exists
    assert driver.play(entry="reset").changed == 0
