# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as a page: what plan.md holds, for reading beside the inventory and for pull requests."""

from __future__ import annotations

import re
from collections.abc import Iterator

from . import _report
from ._report import Plan, Row, Section

MARKUP = re.compile(r"([\\`*_\[\]<>|#])")
"""What a page would take for its own marks."""


def markdown(plan: Plan) -> str:
    """The whole plan, ending in a line break."""
    lines = [f"# {_plain(_report.headline(plan))}"]
    for section in _report.sections(plan):
        lines += ["", *_set(section)]
    return "\n".join(lines) + "\n"


def _set(section: Section) -> Iterator[str]:
    yield f"## {_plain(section.title)}"
    if section.summary:
        yield ""
        yield _plain(section.summary)
    if section.headers:
        yield ""
        yield _row(section.headers)
        yield _row(("---",) * len(section.headers))
        for row in section.rows:
            yield _row(tuple(map(_plain, row)))
    if section.items:
        yield ""
    for item in section.items:
        yield f"* {_plain(item.text)}"
        for remedy in item.remedies:
            yield f"  * {_plain(remedy)}"


def _row(cells: Row) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    return MARKUP.sub(r"\\\1", text)
