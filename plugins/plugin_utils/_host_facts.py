# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what ``gpu_info`` and ``preflight_info`` answered to a machine that a driver stack can be solved for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ._findings import Finding, Findings
from ._host_stack import Driver, Gpu, Machine, Wish, solve
from ._reading import Reader, plain

NO_DRIVER_STATES = ("no_driver", "no_gpu", "driver_mismatch")
"""States of a host's GPUs in which its driver does not work."""


def host_stack(
    facts: Any, state: Any = None, name: str = "the host", manage: bool = True, **wished: Any
) -> dict[str, Any]:
    """The driver stack of one host: ``stack`` or null, ``refusals`` and ``warnings``.

    facts: what ``gpu_info`` returned. state: what ``preflight_info`` returned, or None. wished: see ``Wish``.
    """
    findings = Findings()
    told = Reader(plain(facts, name, findings), name, findings)
    seen = Reader(plain(state or {}, name, findings), name, findings)
    stack = solve(machine(name, told, seen), Wish(manage=manage, **wished), findings)
    return {
        "refusals": _dicts(findings.refusals),
        "stack": stack.as_dict() if stack and not findings.refusals else None,
        "warnings": _dicts(findings.warnings),
    }


def machine(name: str, facts: Reader, state: Reader, keys: Iterable[Gpu] = (), ours: bool = False) -> Machine:
    """A host as it answered.

    keys: its GPUs, where the planner knows them better. ours: whether this collection installed its driver.
    """
    host = Reader(facts.mapping("host"), name, facts.findings)
    system = Reader(host.mapping("os"), name, facts.findings)
    kernel = Reader(state.mapping("kernel"), name, facts.findings)
    return Machine(
        name=name,
        os=system.text("id"),
        release=system.text("version_id"),
        architecture=host.text("architecture"),
        kernel=host.text("kernel"),
        gpus=tuple(keys) or tuple(_gpus(facts)),
        nvswitch=facts.flag("nvswitch"),
        secure_boot=kernel.flag("secure_boot"),
        key_enrolled=kernel.flag("key_enrolled"),
        driver=_driver(facts, state, ours),
    )


def _gpus(facts: Reader) -> Iterable[Gpu]:
    for path, item in facts.each("gpus"):
        gpu = Reader(item, path, facts.findings)
        yield Gpu(gpu.text("key") or gpu.text("name") or "an unknown GPU", capability(gpu.text("compute_capability")))


def capability(text: str | None) -> tuple[int, int] | None:
    """A compute capability as two numbers; None where the text is none.

    >>> capability("9.0")
    (9, 0)
    """
    major, dot, minor = (text or "").partition(".")
    return (int(major), int(minor)) if dot and major.isdecimal() and minor.isdecimal() else None


def _driver(facts: Reader, state: Reader, ours: bool) -> Driver | None:
    version = facts.text("driver_version")
    if not version:
        return None
    works = facts.text("state", "ok") not in NO_DRIVER_STATES
    return Driver(version, works, ours, _origin(state, version))


def _origin(state: Reader, version: str) -> str | None:
    """The package that a driver came in: the first of its version."""
    packages = Reader(state.mapping("driver"), state.path, state.findings).items("packages")
    named = (f"{package.get('name')} {package.get('version')}" for package in packages if isinstance(package, Mapping))
    return next((package for package in named if version in package), None)


def _dicts(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    return [finding.as_dict() for finding in sorted(findings)]
