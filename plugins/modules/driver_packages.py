#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See that a driver's packages are as they should be, and hold them against upgrades."""

from __future__ import annotations

DOCUMENTATION = r"""
module: driver_packages
short_description: Hold a driver's packages at one version
version_added: "0.2.0"
description:
  - Fails where a package is missing or not of the version that is wanted, or where the driver's packages are not all of
    one version. A fabric manager, for one, works only with the driver of exactly its own version.
  - Then holds them, and whatever else was installed in that version, with C(apt-mark), or dnf's C(versionlock).
  - Installs nothing.
options:
  state:
    description: V(held) checks and holds; V(released) gives back what is held and checks nothing.
    type: str
    choices: [held, released]
    default: held
  packages:
    description: The packages that the driver consists of.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The package.
        type: str
        required: true
      version:
        description: Glob that its version, without epoch, must match. Empty where any will do; it is then not held.
        type: str
        default: ""
      kernel_only:
        description: Of no meaning here. With it, the packages of a stack can be given as they are.
        type: bool
        default: false
  also_held:
    description: Further packages to hold where they are installed.
    type: list
    elements: str
    default: []
author:
  - The gpufleet authors (@gpufleet)
attributes:
  check_mode:
    description: Says what would be held. What is not installed yet is no fault then.
    support: full
  diff_mode:
    description: Shows the packages that are held before and after.
    support: full
"""

EXAMPLES = r"""
- name: Hold the driver
  gpufleet.serving.driver_packages:
    packages:
      - {name: nvidia-driver-cuda, version: 580.178.04-*}
      - {name: nvidia-fabricmanager, version: 580.178.04-*}
"""

RETURN = r"""
driver_version:
  description: The version that the driver's packages have. Null where none is installed.
  type: str
  returned: success
  sample: 580.178.04
faults:
  description: What is not as it should be, one sentence each. Only check mode tells; otherwise it is a failure.
  type: list
  elements: str
  returned: success
  sample: [nvidia-fabricmanager is not installed.]
held:
  description: The packages that are held now.
  type: list
  elements: str
  returned: success
  sample: [libcuda1, nvidia-driver-cuda, nvidia-fabricmanager]
strays:
  description:
    - Installed packages that came with another driver and must be brought to the version of this one. Only check mode
      tells; otherwise they are a failure.
  type: list
  elements: str
  returned: success
  sample: [libcuda1]
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.serving.plugins.module_utils import _driver_packages as driver
from ansible_collections.gpufleet.serving.plugins.module_utils._driver_packages import Installed

DPKG_FORMAT = "--showformat=${Package}\t${db:Status-Want}\t${db:Status-Status}\t${Version}\n"
RPM_FORMAT = "--queryformat=%{NAME}\t%{EPOCHNUM}:%{VERSION}-%{RELEASE}\n"
VERSION_LOCK = Path("/etc/dnf/plugins/versionlock.list")


class Apt:
    """Packages of Debian and its like, held by dpkg's selections."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module

    def installed(self) -> dict[str, Installed]:
        """Return every installed package by name."""
        _status, rows, _error = self.module.run_command(["dpkg-query", "--show", DPKG_FORMAT], check_rc=True)
        return driver.parse_dpkg(rows)

    def hold(self, packages: list[Installed]) -> None:
        """Hold packages in their present versions."""
        self.module.run_command(["apt-mark", "hold", *(package.name for package in packages)], check_rc=True)

    def release(self, packages: list[Installed]) -> None:
        """Let packages be upgraded again."""
        self.module.run_command(["apt-mark", "unhold", *(package.name for package in packages)], check_rc=True)


class Dnf:
    """Packages of the RHEL family, held by our part of the list of dnf's plugin versionlock."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module

    def installed(self) -> dict[str, Installed]:
        """Return every installed package by name."""
        _status, rows, _error = self.module.run_command(["rpm", "--query", "--all", RPM_FORMAT], check_rc=True)
        return driver.parse_rpm(rows, self._lock())

    def hold(self, packages: list[Installed]) -> None:
        """Hold packages in their present versions, beside those that are held."""
        entries = {driver.lock_entry(package.name, package.version) for package in packages}
        self._write({*driver.locked_entries(self._lock()), *entries})

    def release(self, packages: list[Installed]) -> None:
        """Let packages be upgraded again."""
        entries = {driver.lock_entry(package.name, package.version) for package in packages}
        self._write(set(driver.locked_entries(self._lock())) - entries)

    def _lock(self) -> str:
        return VERSION_LOCK.read_text(encoding="utf-8") if VERSION_LOCK.exists() else ""

    def _write(self, entries: set[str]) -> None:
        VERSION_LOCK.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        VERSION_LOCK.write_text(driver.with_locks(self._lock(), entries), encoding="utf-8")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["held", "released"], "default": "held"},
            "packages": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "version": {"type": "str", "default": ""},
                    "kernel_only": {"type": "bool", "default": False},
                },
            },
            "also_held": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    manager = Apt(module) if module.get_bin_path("dpkg-query") else Dnf(module)
    installed = manager.installed()
    wanted = {package["name"]: package["version"] for package in module.params["packages"]}
    wrong = driver.faults(wanted, installed) if module.params["state"] == "held" else []
    if wrong and not module.check_mode:
        module.fail_json(msg="The driver's packages are not as they should be. " + " ".join(wrong))

    names = driver.to_hold(wanted, module.params["also_held"], installed)
    held = {package.name for package in installed.values() if package.held}
    if module.params["state"] == "held":
        change, after = [installed[name] for name in names if name not in held], held | set(names)
    else:
        change, after = [installed[name] for name in names if name in held], held - set(names)
    if change and not module.check_mode:
        (manager.hold if module.params["state"] == "held" else manager.release)(change)
    module.exit_json(
        changed=bool(change),
        driver_version=driver.driver_version(wanted, installed),
        faults=wrong,
        strays=driver.strays(wanted, installed),
        held=sorted(after),
        diff={"before": _lines(held), "after": _lines(after)},
    )


def _lines(names: set[str]) -> str:
    return "".join(f"{name}\n" for name in sorted(names))


if __name__ == "__main__":
    main()
