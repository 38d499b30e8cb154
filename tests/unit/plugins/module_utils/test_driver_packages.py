# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._driver_packages import (
    LOCK_BEGIN,
    LOCK_END,
    Installed,
    driver_version,
    faults,
    lock_entry,
    locked_entries,
    parse_dpkg,
    parse_rpm,
    strays,
    to_hold,
    with_locks,
)

DPKG = """\
nvidia-driver-cuda\tinstall\tinstalled\t580.178.04-1
nvidia-fabricmanager\thold\tinstalled\t580.178.04-1
libcuda1\tinstall\tinstalled\t580.178.04-1
libnvidia-ml1\tinstall\tinstalled\t580.178.04-1
nvidia-container-toolkit\tinstall\tinstalled\t1.19.1-1
nvidia-driver-pinning-580\tinstall\tinstalled\t580-1
nvidia-smi\tdeinstall\tconfig-files\t535.261.03-1
linux-generic\tinstall\tinstalled\t6.8.0-90.91
cowsay\tinstall\tinstalled\t580.178.04-1
"""
WANTED = {
    "nvidia-driver-pinning-580": "",
    "nvidia-driver-cuda": "580.178.04-*",
    "nvidia-fabricmanager": "580.178.04-*",
    "nvidia-container-toolkit": "1.19.1-*",
}


def test_all_is_well():
    installed = parse_dpkg(DPKG)
    assert "nvidia-smi" not in installed
    assert installed["nvidia-fabricmanager"].held
    assert faults(WANTED, installed) == []
    assert driver_version(WANTED, installed) == "580.178.04"


def test_what_came_with_the_driver_in_its_version_is_held_with_it():
    held = to_hold(WANTED, ["linux-generic", "linux-image-generic"], parse_dpkg(DPKG))
    assert held == [
        "libcuda1",
        "libnvidia-ml1",
        "linux-generic",
        "nvidia-container-toolkit",
        "nvidia-driver-cuda",
        "nvidia-fabricmanager",
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("nvidia-driver-cuda\tinstall\tinstalled\t580.178.04-1\n", "", "nvidia-driver-cuda is not installed."),
        (
            "nvidia-driver-cuda\tinstall\tinstalled\t580.178.04-1",
            "nvidia-driver-cuda\tinstall\tinstalled\t610.57.04-1",
            "nvidia-driver-cuda is installed as 610.57.04-1, and 580.178.04-* is wanted.",
        ),
        ("1.19.1-1", "1.17.8-1", "nvidia-container-toolkit is installed as 1.17.8-1"),
    ],
)
def test_what_is_not_as_it_should_be(old, new, words):
    assert words in faults(WANTED, parse_dpkg(DPKG.replace(old, new)))[0]


def test_a_fabric_manager_of_another_version_of_the_same_branch():
    """As Ubuntu's archive may give it: the branch is right, and the two do not work together."""
    wanted = {"nvidia-utils-580-server": "580.*", "nvidia-fabricmanager-580": "580.*"}
    installed = {
        "nvidia-utils-580-server": Installed("nvidia-utils-580-server", "580.126.09-0ubuntu0.24.04.1"),
        "nvidia-fabricmanager-580": Installed("nvidia-fabricmanager-580", "580.95.05-0ubuntu0.24.04.2"),
    }
    (fault,) = faults(wanted, installed)
    assert "nvidia-fabricmanager-580 580.95.05, nvidia-utils-580-server 580.126.09" in fault
    assert driver_version(wanted, installed) is None


def test_what_another_driver_left_behind_is_found():
    """Loose dependencies let a library stay when the driver goes to another version."""
    left = DPKG.replace("libcuda1\tinstall\tinstalled\t580.178.04-1", "libcuda1\tinstall\tinstalled\t580.95.05-1")
    left += "nvidia-settings\tinstall\tinstalled\t510.47.03-0ubuntu1\n"
    assert strays(WANTED, parse_dpkg(left)) == ["libcuda1"]
    assert faults(WANTED, parse_dpkg(left)) == ["libcuda1 is of another driver, 580.95.05-1."]
    assert strays(WANTED, parse_dpkg(DPKG)) == []
    assert strays({"nvidia-container-toolkit": "1.19.1-*"}, parse_dpkg(left)) == []


RPM = "nvidia-driver-cuda\t3:580.178.04-1.el9\nkmod-nvidia-open-dkms\t3:580.178.04-1.el9\nbash\t0:5.1.8-9.el9\n"


def test_the_rhel_family():
    wanted = {"nvidia-driver-cuda": "580.178.04-*", "kmod-nvidia-open-dkms": "580.178.04-*"}
    installed = parse_rpm(RPM, "")
    assert faults(wanted, installed) == []
    entries = [lock_entry(name, installed[name].version) for name in to_hold(wanted, [], installed)]
    assert entries == ["kmod-nvidia-open-dkms-3:580.178.04-1.el9.*", "nvidia-driver-cuda-3:580.178.04-1.el9.*"]
    lock = with_locks("# mine\nbash-0:5.1.8-9.el9.*\n", entries)
    assert lock == "# mine\nbash-0:5.1.8-9.el9.*\n" + "\n".join([LOCK_BEGIN, *entries, LOCK_END]) + "\n"
    assert locked_entries(lock) == entries
    held = {package.name for package in parse_rpm(RPM, lock).values() if package.held}
    assert held == {"nvidia-driver-cuda", "kmod-nvidia-open-dkms"}
    assert with_locks(lock, entries) == lock
    assert with_locks(lock, []) == "# mine\nbash-0:5.1.8-9.el9.*\n"
