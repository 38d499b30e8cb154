# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.gpufleet.serving.plugins.action import wheelhouse

LOCK = f"a==1 --hash=sha256:{'0' * 64}\n"


@pytest.fixture
def asked(monkeypatch):
    """What the action has asked for instead of fetching."""
    asked = {}

    def fetch(lock, folder, pip, local_index, report):
        asked.update(lock=lock, folder=folder, pip=pip, local_index=local_index)
        folder.mkdir(parents=True)
        return True

    monkeypatch.setattr(wheelhouse, "fetch", fetch)
    return asked


def run(tmp_path, check_mode=False, lock=LOCK, **further):
    (tmp_path / "lock.txt").write_text(lock)
    action = wheelhouse.ActionModule.__new__(wheelhouse.ActionModule)
    action._task = SimpleNamespace(
        check_mode=check_mode,
        args={
            "lock": str(tmp_path / "lock.txt"),
            "path": str(tmp_path / "cache" / "wheels"),
            "python_version": "3.11",
            "machine": "x86_64",
            "glibc": "2.34",
            **further,
        },
    )
    return action.run()


def test_the_lock_is_fetched_for_the_hosts_python(tmp_path, asked):
    result = run(tmp_path, local_index="https://cpu.example", pip_options=["--retries=1"])
    assert result == {"changed": True, "path": str(tmp_path / "cache" / "wheels")}
    assert (asked["lock"], asked["local_index"]) == (LOCK, "https://cpu.example")
    pip = asked["pip"]
    assert (pip.python_version, pip.machine, pip.glibc, pip.options) == ("3.11", "x86_64", "2.34", ["--retries=1"])
    # the pip beside Ansible
    assert list(pip.command[1:]) == ["-m", "pip"]


def test_another_pip_can_be_named(tmp_path, asked):
    run(tmp_path, pip=["pip3.12"])
    assert asked["pip"].command == ["pip3.12"]


def test_an_archive_is_made_when_asked_for(tmp_path, asked):
    result = run(tmp_path, archive=True)
    assert result["archive"] == str(tmp_path / "cache" / "wheels.tar")
    assert (tmp_path / "cache" / "wheels.tar").exists()


def test_check_mode_fetches_nothing(tmp_path, asked):
    assert run(tmp_path, check_mode=True)["changed"] is True
    assert asked == {}
    (tmp_path / "cache" / "wheels").mkdir(parents=True)
    (tmp_path / "cache" / "wheels" / ".complete").touch()
    assert run(tmp_path, check_mode=True)["changed"] is False


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lock": "a>=1\n"}, "a lock has lines of the form name==version"),
        ({"pip": ["/nowhere/pip"]}, "/nowhere/pip cannot be run"),
    ],
)
def test_a_failure_is_told_and_not_thrown(tmp_path, options, text):
    result = run(tmp_path, **options)
    assert result["failed"] is True
    assert text in result["msg"]
