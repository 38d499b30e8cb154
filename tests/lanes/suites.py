#!/usr/bin/env python3
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a lane: each of its suites to its end, whatever the others did, two at once where they bear it.

    suites.py check | test | soak          a lane
    suites.py lint molecule-gateway ...    some suites by name
    suites.py                              the names

At the end stand the last words of each suite that failed, the time and result of every one, what was skipped and why,
and how many passed.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LANES = Path(__file__).resolve().parent

# Scenarios that the newest ansible-core drives where there is a Python for it.
ON_NEWEST_CORE = {"fleet"}

# Scenarios with the real engine, which takes all cores that it finds.
REAL_ENGINE = {"fleet"}

# Scenarios that take their time: one installs the engine with CUDA, one exchanges real engines, one moves gibibytes,
# one breaks a fleet in every way and waits until it has healed, one brings a cluster of several servers.
SOAKING = {"cuda", "exchange", "fan_out", "groups", "k3s_life"}

# The longest begins first, so that no core is idle at the end.
LONGEST = {"lifecycle"}

# Suites that run at once: a scenario is busy on one core for most of its time.
AT_ONCE = 2

# What pytest, ansible and the linters put into lines that say what failed, and how many of those, and of the very last
# ones, are told again at the end.
TELLING = re.compile(r"\bFAILED\b|\bfatal:|\[ERROR\]|\berror\b|^\W*E  ")
TELLING_LINES, LAST_LINES = 20, 10


@dataclass(frozen=True)
class Suite:
    """A command whose exit status is its result.

    ``core`` names the environment that it runs in: ``2.19``, ``2.21``, or ``newest``, which is 2.21 where there is a
    Python for that. ``alone`` says that it takes the whole machine.
    """

    name: str
    command: tuple[str, ...]
    lanes: frozenset[str]
    core: str = "2.19"
    alone: bool = True


@dataclass(frozen=True)
class Outcome:
    """What became of a suite.

    ``reason`` says why one was skipped, ``last_words`` what one that failed printed of that and at its end.
    """

    suite: str
    result: str
    seconds: float = 0.0
    reason: str = ""
    last_words: tuple[str, ...] = ()


class Skipped(Exception):
    """The suite cannot run here; the text says why."""


def all_suites() -> list[Suite]:
    """Every suite, in the order in which a lane begins them: what fails fastest comes first."""
    check, test, soak = frozenset({"check", "test"}), frozenset({"test"}), frozenset({"soak"})
    sanity = ("tests/lanes/ansible_test", "sanity", "--requirements")
    scenarios = sorted({path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")} - SOAKING)
    scenarios.sort(key=lambda name: (name in REAL_ENGINE, name not in LONGEST))
    return [
        Suite("lint", ("tests/lanes/lint",), check),
        Suite("unit", ("pytest", "-q", "-n", "auto"), check),
        Suite("unit-2.21", ("tests/lanes/ansible_test", "units"), test, core="2.21"),
        Suite("sanity-2.21", sanity, test, core="2.21", alone=False),
        Suite("sanity", sanity, test, alone=False),
        Suite("build", ("tests/lanes/build",), test, alone=False),
        Suite("engine-locks", ("pytest", "-q", "tests/engine"), test, alone=False),
        Suite("kubernetes", ("pytest", "-q", "tests/kubernetes"), test, alone=False),
        *(
            Suite(
                f"molecule-{name}",
                ("tests/lanes/molecule", "test", "-s", name),
                test,
                core="newest" if name in ON_NEWEST_CORE else "2.19",
                alone=name in REAL_ENGINE,
            )
            for name in scenarios
        ),
        Suite("soak-plan", ("env", "GPUFLEET_EXAMPLES=4000", "pytest", "-q", "-n", "auto", "tests/unit/plugins"), soak),
        Suite("soak-gateway", ("tests/lanes/soak_gateway",), soak),
        *(Suite(f"soak-{name}", ("tests/lanes/molecule", "test", "-s", name), soak) for name in sorted(SOAKING)),
    ]


def environment(core: str) -> Path:
    """The virtual environment for an ansible-core, made first where it is not there.

    Raises:
        Skipped: no Python on this machine runs that ansible-core.
        subprocess.CalledProcessError: the environment could not be made.
    """
    if core == "newest":
        try:
            return environment("2.21")
        except Skipped:
            return environment("2.19")
    if core == "2.19":
        return ROOT / ".venv"
    newer = subprocess.run([LANES / "newer_python"], capture_output=True, text=True, check=False)
    if newer.returncode != 0:
        raise Skipped(f"no Python 3.12 or newer here, which ansible-core {core} needs")
    folder = ROOT / ".venvs" / f"core-{core}"
    lock = ROOT / "requirements" / f"core-{core}.txt"
    subprocess.run([LANES / "venv", folder, lock, newer.stdout.strip()], check=True)
    return folder


def run_all(suites: Iterable[Suite]) -> list[Outcome]:
    """Run suites in their order, two at once where neighbours bear it."""
    outcomes: list[Outcome] = []
    for alone, neighbours in itertools.groupby(suites, key=lambda suite: suite.alone):
        with ThreadPoolExecutor(1 if alone else AT_ONCE) as pool:
            outcomes.extend(pool.map(run, neighbours))
    return outcomes


def run(suite: Suite) -> Outcome:
    """Run one suite; its output goes where ours goes."""
    print(f"\n=== {suite.name}", flush=True)
    begun = time.monotonic()
    telling: deque[str] = deque(maxlen=TELLING_LINES)
    last: deque[str] = deque(maxlen=LAST_LINES)
    try:
        status = pass_on(suite, variables(environment(suite.core)), telling, last)
    except Skipped as reason:
        print(f"skipped: {reason}", flush=True)
        return Outcome(suite.name, "skipped", reason=str(reason))
    except (OSError, subprocess.CalledProcessError) as error:
        print(error, flush=True)
        last.append(str(error))
        status = 1
    seconds = time.monotonic() - begun
    if status:
        return Outcome(suite.name, "failed", seconds, last_words=(*telling, *last))
    return Outcome(suite.name, "passed", seconds)


def variables(venv: Path) -> dict[str, str]:
    """What a suite finds in its environment beyond ours."""
    return {
        "VENV": str(venv),
        "PATH": os.pathsep.join([str(ROOT / "tests/hosts/bin"), str(venv / "bin"), os.environ["PATH"]]),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible/collections"),
        "ANSIBLE_INJECT_FACT_VARS": "false",
    }


def pass_on(suite: Suite, more: dict[str, str], telling: deque[str], last: deque[str]) -> int:
    """Run a suite, pass on each line as it comes, and keep some; returns the exit status.

    Raises:
        OSError: the command could not be started.
    """
    prefix = "" if suite.alone else f"{suite.name} | "
    with subprocess.Popen(
        suite.command,
        cwd=ROOT,
        env=os.environ | more,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout
        for line in process.stdout:
            print(f"{prefix}{line}", end="", flush=True)
            if len(last) == LAST_LINES and TELLING.search(last[0]):
                telling.append(last[0])
            last.append(line.rstrip())
    return process.returncode


def choose(words: Sequence[str], suites: Iterable[Suite]) -> list[Suite]:
    """Pick the suites of a lane or those named.

    Raises:
        SystemExit: a word that is neither.
    """
    suites = list(suites)
    known = {suite.name for suite in suites} | {lane for suite in suites for lane in suite.lanes}
    if not words or not known.issuperset(words):
        names = "\n  ".join(f"{suite.name:24} {' '.join(sorted(suite.lanes))}" for suite in suites)
        sys.exit(f"usage: {sys.argv[0]} LANE | SUITE...\n  {names}")
    return [suite for suite in suites if suite.name in words or suite.lanes.intersection(words)]


def summary(outcomes: Sequence[Outcome], seconds: float) -> str:
    """What failed in its last words, the table of times and results, and the line that counts them."""
    failures = [line for o in outcomes if o.last_words for line in ("", f"=== {o.suite} failed:", *o.last_words)]
    rows = [f"{o.suite:24} {o.result:8} {o.seconds:5.0f} s  {o.reason}".rstrip() for o in outcomes]
    rows.append(f"{'':24} {'':8} {seconds:5.0f} s")
    counts = {result: sum(o.result == result for o in outcomes) for result in ("passed", "failed", "skipped")}
    closing = f"{counts['passed']} passed, {counts['failed']} failed"
    if counts["skipped"]:
        closing += f", {counts['skipped']} skipped"
    return "\n".join([*failures, "", *rows, "", closing])


def main(words: Sequence[str]) -> int:
    """Run the suites that the words name; returns the exit status."""
    begun = time.monotonic()
    outcomes = run_all(choose(words, all_suites()))
    print(summary(outcomes, time.monotonic() - begun), flush=True)
    return 1 if any(outcome.result == "failed" for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
