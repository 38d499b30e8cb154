# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from ansible_collections.gpufleet.serving.plugins.action import fleet_lock


@pytest.fixture
def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


class Host:
    """Stands in for the module on a host: each run gets the next of the written results."""

    def __init__(self, *results):
        self.results, self.asked = list(results), []

    def execute(self, _module, module_args, task_vars):
        self.asked.append(dict(module_args))
        return self.results.pop(0)


def run(host, monkeypatch, **arguments):
    monkeypatch.setattr(fleet_lock.ActionBase, "run", lambda *_arguments: {})
    action = fleet_lock.ActionModule.__new__(fleet_lock.ActionModule)
    action._task = SimpleNamespace(args=arguments)
    action._execute_module = host.execute
    return action.run()


def held_by(controller, pid):
    return {"failed": True, "msg": "locked", "holder": {"controller": controller, "pid": pid}}


TAKEN = {"changed": False, "held": True, "note": ""}


def test_the_run_is_named(monkeypatch):
    host = Host(TAKEN)
    assert run(host, monkeypatch, purpose="site.yml") == TAKEN
    (asked,) = host.asked
    assert asked["purpose"] == "site.yml"
    assert asked["pid"] == os.getppid()
    assert "@" in asked["owner"] and asked["controller"] == fleet_lock.controller()


def test_a_dead_run_of_this_machine_is_taken_over(monkeypatch, dead_pid):
    host = Host(held_by(fleet_lock.controller(), dead_pid), TAKEN)
    assert run(host, monkeypatch) == TAKEN
    assert "dead_pids" not in host.asked[0] and host.asked[1]["dead_pids"] == [dead_pid]


def test_a_living_run_of_this_machine_keeps_its_lock(monkeypatch):
    host = Host(held_by(fleet_lock.controller(), os.getpid()))
    assert run(host, monkeypatch)["failed"]
    assert len(host.asked) == 1


def test_a_run_of_another_machine_is_not_judged(monkeypatch, dead_pid):
    host = Host(held_by("elsewhere/1", dead_pid))
    assert run(host, monkeypatch)["failed"]
    assert len(host.asked) == 1


def test_an_error_without_holder_is_passed_on(monkeypatch):
    host = Host({"failed": True, "msg": "no such host"})
    assert run(host, monkeypatch)["msg"] == "no such host"


def test_machines_of_one_name_differ(monkeypatch, tmp_path):
    names = []
    for identity in ("a" * 32, "b" * 32):
        path = tmp_path / identity
        path.write_text(identity + "\n")
        monkeypatch.setattr(fleet_lock, "MACHINE_ID", path)
        names.append(fleet_lock.controller())
    monkeypatch.setattr(fleet_lock, "MACHINE_ID", tmp_path / "none")
    names.append(fleet_lock.controller())
    assert len(set(names)) == 3
