# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of an audit of the fleet's ports. The logic is in plugin_utils/_audit.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.gpufleet.serving.plugins.plugin_utils import _audit, _explain


def audit_table(result: Mapping[str, Any]) -> str:
    """The outcome of ``audit`` for a terminal."""
    return _explain.text(_audit.sections(result))


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Say which names stand for which functions."""
        return {"audit": _audit.audit, "audit_table": audit_table, "audit_targets": _audit.audit_targets}
