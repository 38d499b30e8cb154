# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import multiprocessing
from dataclasses import asdict, replace

import pytest
from ansible_collections.gpufleet.serving.plugins.modules.fleet_lock import (
    Holder,
    LockFile,
    LockHeld,
    age_in_words,
    answer,
    give_back,
    look,
    take,
)

ADA = Holder("ada@laptop", "laptop/1", 100, "site.yml", 1_790_000_000)
LATER = replace(ADA, since=ADA.since + 60)
BOB = Holder("bob@desk", "desk/2", 200, "site.yml", ADA.since + 720)


@pytest.fixture
def lock(tmp_path):
    return LockFile(tmp_path / "gpufleet" / "lock.json")


def taken(lock, run, dead_pids=(), break_lock=False):
    with lock.exclusively():
        return take(lock, run, list(dead_pids), break_lock)


def test_a_free_lock_is_taken_and_given_back(lock):
    assert taken(lock, ADA) == ""
    assert json.loads(lock.path.read_text()) == asdict(ADA)
    assert lock.path.stat().st_mode & 0o777 == 0o644
    assert answer(lock, ADA, "") == {"changed": False, "held": True, "holder": asdict(ADA), "note": ""}
    assert give_back(lock, ADA) == ""
    assert lock.holder() is None
    assert give_back(lock, ADA) == ""


def test_the_same_run_may_take_it_again(lock):
    taken(lock, ADA)
    assert taken(lock, LATER) == ""
    assert lock.holder() == ADA


def test_a_second_person_reads_who_since_when_and_what_to_do(lock):
    taken(lock, ADA)
    with pytest.raises(LockHeld) as refusal:
        taken(lock, BOB)
    text = str(refusal.value)
    for part in (
        "locked by ada@laptop for site.yml since 2026-09-21 14:13:20 UTC (12 minutes; process 100 on laptop/1)",
        "-e fleet_break_lock=true",
    ):
        assert part in text
    assert lock.holder() == ADA


def test_another_run_of_the_same_person_is_another(lock):
    taken(lock, ADA)
    with pytest.raises(LockHeld):
        taken(lock, replace(ADA, pid=101))


def test_the_lock_of_a_dead_run_of_the_same_controller_is_taken_over(lock):
    taken(lock, ADA)
    assert "that process has ended" in taken(lock, replace(LATER, pid=101), dead_pids=[100])
    assert lock.holder() == replace(LATER, pid=101)


def test_a_process_number_means_nothing_on_another_controller(lock):
    taken(lock, ADA)
    with pytest.raises(LockHeld):
        taken(lock, BOB, dead_pids=[100])


def test_breaking_it_says_whose_it_was(lock):
    taken(lock, ADA)
    assert taken(lock, BOB, break_lock=True).startswith("Broke the lock of ada@laptop for site.yml")
    assert lock.holder() == BOB


def test_somebody_elses_is_not_given_back(lock):
    taken(lock, BOB)
    assert give_back(lock, ADA).startswith("Left the lock of bob@desk")
    assert lock.holder() == BOB


@pytest.mark.parametrize("content", ["", "{", "[]", '{"owner": "x"}'])
def test_a_file_that_names_nobody_holds_nothing(lock, content):
    lock.path.parent.mkdir()
    lock.path.write_text(content)
    assert taken(lock, ADA) == ""
    assert lock.holder() == ADA


def test_looking_takes_nothing(lock):
    assert look(lock, BOB) == ""
    taken(lock, ADA)
    assert "is locked by ada@laptop" in look(lock, BOB)
    assert look(lock, LATER) == ""
    assert lock.holder() == ADA


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "less than a minute"),
        (59, "less than a minute"),
        (60, "1 minute"),
        (719, "11 minutes"),
        (3600, "1 hour"),
        (200_000, "2 days"),
    ],
)
def test_age_in_words(seconds, words):
    assert age_in_words(seconds) == words


def race(path, pid, start, results):
    lock = LockFile(path)
    start.wait()
    try:
        results.put((pid, taken(lock, replace(ADA, pid=pid), dead_pids=[1])))
    except LockHeld:
        results.put((pid, None))


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_runs_at_once_one_gets_it(lock, stale):
    """Also when all of them see the same dead run: the second must not take over from the first."""
    if stale:
        taken(lock, replace(ADA, pid=1))
    context = multiprocessing.get_context("fork")
    results, start = context.Queue(), context.Barrier(8)
    runs = [context.Process(target=race, args=(lock.path, pid, start, results)) for pid in range(101, 109)]
    for run in runs:
        run.start()
    outcomes = dict(results.get(timeout=20) for _run in runs)
    for run in runs:
        run.join(20)
    (winner,) = [pid for pid, note in outcomes.items() if note is not None]
    assert lock.holder().pid == winner
