# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A replica as the units of its hosts, whether it is there already or only planned."""

from __future__ import annotations

from typing import Any


class UnitsByHost:
    """What follows from ``units``, a replica's units by host, the head's first."""

    __slots__ = ()

    units: dict[str, dict[str, Any]]

    @property
    def hosts(self) -> tuple[str, ...]:
        """All hosts, the head first."""
        return tuple(self.units)

    @property
    def host(self) -> str:
        """The head, which the gateways send to."""
        return self.hosts[0]

    @property
    def unit(self) -> dict[str, Any]:
        """The head's unit."""
        return self.units[self.host]
