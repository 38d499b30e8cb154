# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the planner has to say about its input: refusals, which stop a plan, and warnings, which do not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing to tell the operator.

    code: a stable word for machines. subject: what it is about, as the operator named it (a host, a model, an option's
    path). reason: what was seen and why it will not do. remedies: what to change, the best first.
    """

    code: str
    subject: str
    reason: str
    remedies: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {"code": self.code, "reason": self.reason, "remedies": list(self.remedies), "subject": self.subject}


@dataclass(slots=True)
class Findings:
    """Collects findings: all of them are shown together, none of them is raised."""

    refusals: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    def refuse(self, code: str, subject: str, reason: str, *remedies: str) -> None:
        _add(self.refusals, Finding(code, subject, reason, remedies))

    def warn(self, code: str, subject: str, reason: str, *remedies: str) -> None:
        _add(self.warnings, Finding(code, subject, reason, remedies))

    def take(self, others: Findings) -> None:
        """Add what somebody else collected."""
        for finding in others.refusals:
            _add(self.refusals, finding)
        for finding in others.warnings:
            _add(self.warnings, finding)


def _add(found: list[Finding], finding: Finding) -> None:
    if finding not in found:
        found.append(finding)
