# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import http.server
import json
import threading

import pytest
from ansible_collections.gpufleet.serving.plugins.modules.applied_info import AppliedReader, read_applied

UNIT = "# gpufleet.serving: replica {name}. Written by the role serve.\n[Unit]\n"
STATE = """\
Id={unit}
LoadState=loaded
ActiveState={active}
SubState={sub}
Result=success
MainPID={pid}
NRestarts=1
ExecMainStatus=0
UnitFileState=enabled
"""


@contextlib.contextmanager
def engine(status):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_arguments):
            """Keep the test's output clean."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def host(tmp_path):
    """An empty host's file system."""
    for folder in ("etc/ansible/facts.d", "etc/gpufleet/serve", "etc/systemd/system", "var/lib/gpufleet"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def add_replica(host, name, port):
    (host / f"etc/systemd/system/gpufleet-{name}.service").write_text(UNIT.format(name=name))
    (host / f"etc/gpufleet/serve/{name}.yaml").write_text(f"host: 127.0.0.1\nmodel: /m\nport: {port}\n")
    (host / f"etc/gpufleet/serve/{name}.env").write_text("VLLM_API_KEY=k\n")


def systemd(**states):
    """systemctl show over units of the given (active, sub, pid); any other is dead."""

    def run(command):
        units = command[command.index("--") + 1 :]
        told = [states.get(unit, ("inactive", "dead", 0)) for unit in units]
        return (
            0,
            "\n".join(STATE.format(unit=u, active=a, sub=s, pid=p) for u, (a, s, p) in zip(units, told, strict=True)),
            "",
        )

    return run


NO_UNIT_RUNS = systemd()


def read(host, run=NO_UNIT_RUNS, plan=False):
    return read_applied(AppliedReader(host, run, timeout_s=2.0), plan)


def test_a_bare_host(tmp_path):
    assert read(tmp_path, plan=True) == {"roles": {}, "replicas": {}, "measured": {}, "plan": None, "problems": []}


def test_what_was_measured_is_no_role(host):
    fact = host / "etc/ansible/facts.d/gpufleet_measured.fact"
    fact.write_text('{"replicas": {"tiny-0": {"unit_id": "9f3c", "kv_blocks": 900}}}')
    answer = read(host)
    assert (answer["roles"], answer["problems"]) == ({}, [])
    assert answer["measured"] == {"tiny-0": {"unit_id": "9f3c", "kv_blocks": 900}}


def test_a_measured_fact_that_cannot_be_read_is_named(host):
    (host / "etc/ansible/facts.d/gpufleet_measured.fact").write_text("[]")
    answer = read(host)
    assert answer["measured"] == {}
    (problem,) = answer["problems"]
    assert "gpufleet_measured.fact" in problem
    assert problem.endswith("Remove the file; verify.yml writes it anew.")


def test_a_live_replica(host):
    with engine(200) as port:
        add_replica(host, "tiny-0", port)
        answer = read(host, systemd(**{"gpufleet-tiny-0.service": ("active", "running", 812)}))
    assert answer["replicas"] == {
        "tiny-0": {
            "unit": "gpufleet-tiny-0.service",
            "installed": True,
            "active": True,
            "substate": "running",
            "enabled": True,
            "main_pid": 812,
            "n_restarts": 1,
            "address": "127.0.0.1",
            "port": port,
            "server": f"127.0.0.1:{port}",
            "answers": True,
            "health": "ok",
            "guard": None,
            "live": True,
        }
    }
    assert answer["problems"] == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            '{"state": "serving", "reason": "", "epoch": 3, "failures": []}',
            {"state": "serving", "reason": "", "epoch": 3},
        ),
        ('{"state": "serving"}', None),
        ("[]", None),
        ("{", None),
    ],
)
def test_what_the_guard_of_a_replica_noted_is_told(host, content, told):
    add_replica(host, "tiny-0", 9)
    folder = host / "var/cache/gpufleet/tiny-0"
    folder.mkdir(parents=True)
    (folder / "guard.json").write_text(content)
    answer = read(host, systemd(**{"gpufleet-tiny-0.service": ("active", "running", 812)}))
    assert answer["replicas"]["tiny-0"]["guard"] == told


@pytest.mark.parametrize(
    ("settings", "answers"),
    [
        ('{"group": {"node_rank": 0}}', True),
        ('{"group": {"node_rank": 1}}', False),
        ('{"group": null}', True),
        ("{", True),
        (None, True),
    ],
)
def test_of_several_hosts_the_first_alone_answers(host, settings, answers):
    add_replica(host, "tiny-0", 9)
    if settings is not None:
        (host / "etc/gpufleet/serve/tiny-0.json").write_text(settings)
    assert read(host)["replicas"]["tiny-0"]["answers"] is answers


def test_an_active_unit_whose_engine_is_dead_is_not_live(host):
    with engine(503) as port:
        add_replica(host, "tiny-0", port)
        told = read(host, systemd(**{"gpufleet-tiny-0.service": ("active", "running", 812)}))["replicas"]["tiny-0"]
    assert (told["active"], told["health"], told["live"]) == (True, "failing", False)


def test_a_port_that_another_program_holds_makes_no_stopped_unit_live(host):
    with engine(200) as port:
        add_replica(host, "tiny-0", port)
        told = read(host)["replicas"]["tiny-0"]
    assert (told["active"], told["health"], told["live"]) == (False, "unknown", False)


@pytest.mark.parametrize("left", ["tiny-0.yaml", "tiny-0.env"])
def test_what_an_interrupted_removal_left_is_still_a_replica(host, left):
    (host / "etc/gpufleet/serve" / left).write_text("host: 127.0.0.1\nport: 1\n")
    assert list(read(host)["replicas"]) == ["tiny-0"]


def test_only_units_of_the_role_count(host):
    units = host / "etc/systemd/system"
    (units / "gpufleet-tiny-0.service").write_text(UNIT.format(name="tiny-0"))
    (units / "gpufleet-watchdog.service").write_text("# gpufleet.serving: watchdog\n[Unit]\n")
    (units / "gpufleet-own.service").write_text("[Unit]\nDescription=somebody's own\n")
    (units / "gpufleet-gone.service").symlink_to("/nowhere")
    answer = read(host)
    assert list(answer["replicas"]) == ["tiny-0"]
    assert answer["replicas"]["tiny-0"]["port"] is None


@pytest.mark.parametrize(
    ("settings", "address"),
    [("host: 10.0.0.1\nport: 8000\n", "10.0.0.1"), ("host: 'fd00::1'\nport: 8000\n", "fd00::1")],
)
def test_address_and_port_come_from_the_applied_settings(host, settings, address):
    (host / "etc/gpufleet/serve/tiny-0.yaml").write_text(settings)
    told = read(host)["replicas"]["tiny-0"]
    assert (told["address"], told["port"]) == (address, 8000)


@pytest.mark.parametrize("settings", ["", "host: 10.0.0.1\n", "host: 10.0.0.1\nport: eight\n"])
def test_settings_that_cannot_be_read_are_named(host, settings):
    (host / "etc/gpufleet/serve/tiny-0.yaml").write_text(settings)
    answer = read(host)
    assert answer["replicas"]["tiny-0"]["port"] is None
    (problem,) = answer["problems"]
    assert "etc/gpufleet/serve/tiny-0.yaml: no host and port to read" in problem


def test_records_of_roles(host):
    record = {"share": "abc", "options": {"serve_units": []}}
    (host / "etc/ansible/facts.d/gpufleet_serve.fact").write_text(json.dumps(record))
    (host / "etc/ansible/facts.d/gpufleet_model_store.fact").write_text(json.dumps({"share": "d", "options": {}}))
    (host / "etc/ansible/facts.d/other.fact").write_text("{}")
    answer = read(host)
    assert answer["roles"] == {"serve": record, "model_store": {"share": "d", "options": {}}}


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"'])
def test_a_broken_record_is_named_and_not_fatal(host, content):
    (host / "etc/ansible/facts.d/gpufleet_serve.fact").write_text(content)
    answer = read(host)
    assert answer["roles"] == {}
    (problem,) = answer["problems"]
    assert "gpufleet_serve.fact" in problem and "Remove the file and run site.yml" in problem


def test_the_copy_of_the_plan_is_read_when_asked(host):
    (host / "var/lib/gpufleet/plan.json").write_text('{"id": "x"}')
    assert read(host)["plan"] is None
    assert read(host, plan=True)["plan"] == {"id": "x"}


def test_a_broken_copy_of_the_plan_is_named(host):
    (host / "var/lib/gpufleet/plan.json").write_text("{")
    answer = read(host, plan=True)
    assert answer["plan"] is None
    assert "plan.json" in answer["problems"][0]


def test_a_host_without_systemd_is_named(host):
    add_replica(host, "tiny-0", 1)
    answer = read(host, lambda _command: (1, "", "not booted with systemd"))
    told = answer["replicas"]["tiny-0"]
    assert (told["installed"], told["active"], told["live"]) == (False, False, False)
    assert "not booted with systemd" in answer["problems"][0]
