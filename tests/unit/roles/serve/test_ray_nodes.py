# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts of a Ray cluster are missing; Ray itself is asked in molecule/groups."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[4] / "roles/serve/files/usr/local/lib/gpufleet/ray_nodes.py"
SPEC = importlib.util.spec_from_file_location("ray_nodes", PROGRAM)
ray_nodes = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(ray_nodes)

WANTED = [("gpu1 (10.0.0.1)", "10.0.0.1", 8), ("gpu2 (10.0.0.2)", "10.0.0.2", 8)]


def node(address, devices=8.0, alive=True):
    resources = {"GPU": devices, "CPU": 1.0} if devices else {"CPU": 1.0}
    return {"NodeManagerAddress": address, "Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([node("10.0.0.1"), node("10.0.0.2")], ""),
        ([], "gpu1 (10.0.0.1) has not joined the Ray cluster; gpu2 (10.0.0.2) has not joined the Ray cluster"),
        ([node("10.0.0.1"), node("10.0.0.2", alive=False)], "gpu2 (10.0.0.2) has not joined the Ray cluster"),
        (
            [node("10.0.0.1"), node("10.0.0.2", 7.0)],
            "gpu2 (10.0.0.2) brought 7 of 8 devices into the Ray cluster",
        ),
        ([node("10.0.0.1"), node("10.0.0.2", 0)], "gpu2 (10.0.0.2) brought 0 of 8 devices into the Ray cluster"),
        (
            [node("10.0.0.1"), node("192.168.7.1")],
            "gpu2 (10.0.0.2) has not joined the Ray cluster; 192.168.7.1 joined and is not planned",
        ),
    ],
)
def test_each_host_that_is_missing_is_named(nodes, said):
    assert ray_nodes.missing(WANTED, nodes) == said


def test_it_ends_when_nothing_is_missing_any_more(monkeypatch, capsys):
    answers, asked = iter([[node("10.0.0.1")], [node("10.0.0.1"), node("10.0.0.2")]]), []
    ray = types.SimpleNamespace(init=lambda **words: asked.append(words["address"]), nodes=lambda: next(answers))
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(ray_nodes, "INTERVAL_S", 0.0)
    wanted = '[["gpu1 (10.0.0.1)", "10.0.0.1", 8], ["gpu2 (10.0.0.2)", "10.0.0.2", 8]]'
    assert ray_nodes.main(["10.0.0.1:29502", wanted]) == 0
    assert asked == ["10.0.0.1:29502"]
    assert capsys.readouterr().out == "gpu2 (10.0.0.2) has not joined the Ray cluster\n"
