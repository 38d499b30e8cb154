# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as a page."""

from __future__ import annotations

import re

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._markdown import markdown
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils import examples, fleets

CELL = re.compile(r"(?<!\\)\|")


def tables(page):
    """The lines of each table."""
    return [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]


@pytest.mark.parametrize("name", examples.NAMES)
def test_every_row_of_a_table_has_its_columns(name):
    found = tables(markdown(examples.example(name)))
    assert found
    for lines in found:
        assert len({len(CELL.split(line)) for line in lines}) == 1, lines


def test_nothing_is_cut_short():
    hosts = {f"gpu{number}": fleets.gpu_host(number, address=f"10.1.0.{number}") for number in range(1, 60)}
    made = fleets.planned(models=[fleets.model()], hosts=hosts, shapes={"tiny": fleets.shape()}, settings=fleets.PUBLIC)
    page = markdown(made)
    assert all(f"| {name} |" in page for name in hosts)


def test_an_operators_words_are_no_markup():
    made = fleets.planned(
        models=[fleets.model(sorce="a|b*c")], hosts={"gpu1": fleets.gpu_host(1)}, shapes={}, settings=fleets.PUBLIC
    )
    assert "## Refused: " in markdown(made)
    assert r"fleet\_models\[0\] (tiny)" in markdown(made)


def test_remedies_stand_below_what_they_are_for():
    lines = markdown(fleets.planned(**fleets.demo(settings={}))).splitlines()
    reason = next(number for number, line in enumerate(lines) if line.startswith("* gateway"))
    assert lines[reason + 1].startswith("  * ")
