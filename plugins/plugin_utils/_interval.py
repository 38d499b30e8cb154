# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A figure that is not known exactly: between what and what it lies, and where most likely."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate: ``low`` <= ``likely`` <= ``high``, all in one unit, which whoever holds it names."""

    low: float
    likely: float
    high: float

    @classmethod
    def within(cls, likely: float, factor: float) -> Interval:
        """The interval from ``likely / factor`` to ``likely * factor``; ``factor`` is 1 at least."""
        return cls(likely / factor, likely, likely * factor)

    @classmethod
    def exactly(cls, value: float) -> Interval:
        """The interval of a figure that is known."""
        return cls(value, value, value)

    def as_dict(self, digits: int = 2) -> dict[str, float]:
        """The interval as the plan holds it, rounded to so many digits behind the point."""
        return {name: round(getattr(self, name), digits) for name in ("low", "likely", "high")}
