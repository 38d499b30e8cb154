# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lane runs every suite to its end and tells the truth about each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import suites
import words

TEST = frozenset({"test"})


def fake(monkeypatch: pytest.MonkeyPatch, *found: suites.Suite) -> None:
    monkeypatch.setattr(suites, "all_suites", lambda: list(found))


def test_goes_on_after_a_failure_and_fails_in_the_end(monkeypatch, capfd):
    fake(
        monkeypatch,
        suites.Suite("bad", ("false",), TEST),
        suites.Suite("good", ("true",), TEST),
        suites.Suite("missing", ("/no/such/command",), TEST),
    )
    assert suites.main(["test"]) == 1
    out = capfd.readouterr().out
    assert [line.split()[:2] for line in out.splitlines() if line.endswith(" s")][:3] == [
        ["bad", "failed"],
        ["good", "passed"],
        ["missing", "failed"],
    ]
    assert out.splitlines()[-1] == "1 passed, 2 failed"


def test_tells_the_last_words_of_a_failure_again_above_the_table(monkeypatch, capfd):
    talk = "echo 'FAILED the cause'; for n in $(seq 100); do echo line $n; done; echo the end >&2; exit 3"
    fake(monkeypatch, suites.Suite("bad", ("sh", "-c", talk), TEST), suites.Suite("good", ("echo", "well"), TEST))
    assert suites.main(["test"]) == 1
    lines = capfd.readouterr().out.splitlines()
    again = lines.index("=== bad failed:")
    assert lines.index("well") < again
    assert lines[again + 1 : again + 12] == ["FAILED the cause", *(f"line {n}" for n in range(92, 101)), "the end"]


def test_runs_two_at_once_where_both_bear_it_and_says_whose_words_are_whose(monkeypatch, capfd, tmp_path):
    def meet(mine: str, yours: str) -> tuple[str, ...]:
        wait = f"touch {tmp_path}/{mine}; for n in $(seq 100); do [ -e {tmp_path}/{yours} ] && break; sleep 0.1; done"
        return ("sh", "-c", f"{wait}; [ -e {tmp_path}/{yours} ] && echo met")

    fake(
        monkeypatch,
        suites.Suite("one", meet("one", "two"), TEST, alone=False),
        suites.Suite("two", meet("two", "one"), TEST, alone=False),
        suites.Suite("last", ("sh", "-c", f"ls {tmp_path}"), TEST),
    )
    assert suites.main(["test"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert {"one | met", "two | met", "one", "two"} <= set(lines)


def test_names_what_it_skipped_and_passes(monkeypatch, capfd, tmp_path):
    (tmp_path / "newer_python").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "newer_python").chmod(0o755)
    monkeypatch.setattr(suites, "LANES", tmp_path)
    fake(monkeypatch, suites.Suite("old", ("true",), TEST), suites.Suite("new", ("false",), TEST, core="2.21"))
    assert suites.main(["test"]) == 0
    out = capfd.readouterr().out
    assert "new                      skipped      0 s  no Python 3.12 or newer here" in out
    assert out.splitlines()[-1] == "1 passed, 0 failed, 1 skipped"


def test_an_environment_that_cannot_be_made_is_a_failure(monkeypatch, capfd):
    def broken(core: str) -> Path:
        raise subprocess.CalledProcessError(1, ["pip"])

    monkeypatch.setattr(suites, "environment", broken)
    fake(monkeypatch, suites.Suite("any", ("true",), TEST))
    assert suites.main(["any"]) == 1
    assert capfd.readouterr().out.endswith("0 passed, 1 failed\n")


def test_the_newest_core_falls_back_where_no_python_runs_it(monkeypatch, tmp_path):
    (tmp_path / "newer_python").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "newer_python").chmod(0o755)
    monkeypatch.setattr(suites, "LANES", tmp_path)
    assert suites.environment("newest") == suites.environment("2.19")


@pytest.mark.parametrize("chosen", [[], ["nonsense"], ["test", "nonsense"]])
def test_says_what_there_is_when_asked_for_something_else(chosen):
    with pytest.raises(SystemExit, match="molecule-test_hosts"):
        suites.main(chosen)


def test_every_scenario_is_in_the_test_lane_or_soaks():
    names = {lane: {suite.name for suite in suites.choose([lane], suites.all_suites())} for lane in ("test", "soak")}
    scenarios = {path.parent.name for path in suites.ROOT.glob("molecule/*/molecule.yml")}
    assert {f"molecule-{name}" for name in scenarios - suites.SOAKING} <= names["test"]
    assert {f"soak-{name}" for name in suites.SOAKING} <= names["soak"]
    assert len(scenarios) > len(suites.SOAKING) > 0


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("see https://py" + "pi.org/project/x", "host of a package registry"),
        ("deb http://deb.deb" + "ian.org/debian x main", "host of a package registry"),
        ("cd /wo" + "rk/main", "path of one machine"),
        ("--find-links=/o" + "pt/wheels", "path of one machine"),
        ("a path: {{ home }}/wo" + "rk/x", None),
        ("https://mirror.example/debian", None),
    ],
)
def test_forbidden_words(line, kind):
    assert [found[1] for found in words.findings(line)] == ([kind] if kind else [])
