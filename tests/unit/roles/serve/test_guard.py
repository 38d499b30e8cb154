# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard: its judgement by tables, its meetings over real connections, the whole program with engines of shell."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[4] / "roles/serve/files/usr/local/lib/gpufleet/guard.py"
SPEC = importlib.util.spec_from_file_location("guard", PROGRAM)
guard = importlib.util.module_from_spec(SPEC)
sys.modules["guard"] = guard
SPEC.loader.exec_module(guard)

HOSTS, ADDRESSES = ["gpu1", "gpu2"], ["127.0.0.1", "127.0.0.2"]


def free_port():
    """The first of some ports that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def settings(folder, rank=None, **changes):
    words = {
        "replica": "tiny-0",
        "address": "127.0.0.1",
        "port": 1,
        "record": str(folder / f"guard-{rank}.json"),
        "settings": "of all",
        "stall_s": 45.0,
        "quarantine_after": 6,
        "quarantine_s": 1800.0,
        "drain_s": 10.0,
    }
    if rank is not None:
        words["group"] = {"node_rank": rank, "hosts": HOSTS, "addresses": ADDRESSES, "settings": "abc"} | changes
    else:
        words |= changes
    path = folder / f"settings-{rank}.json"
    path.write_text(json.dumps(words))
    return path


def record(folder, rank=None):
    path = folder / f"guard-{rank}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def eventually(condition, within_s=15.0):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


LOOK = guard.Look


@pytest.mark.parametrize(
    ("looks", "hung"),
    [
        pytest.param([(0, None), (5000, None)], False, id="loading"),
        pytest.param([(0, LOOK(0, 0)), (5000, LOOK(0, 0)), (9000, LOOK(0, 0))], False, id="idle"),
        pytest.param([(t, LOOK(4, t)) for t in range(0, 900, 5)], False, id="busy"),
        pytest.param([(t, LOOK(1, t // 40)) for t in range(0, 900, 5)], False, id="long prefills"),
        pytest.param([(0, LOOK(0, 0)), *((t, LOOK(1, 0)) for t in range(5, 500, 5))], False, id="compiles at first"),
        pytest.param([(0, LOOK(0, 0)), *((t, LOOK(1, 0)) for t in range(5, 700, 5))], True, id="never made a step"),
        pytest.param([(0, LOOK(0, 0)), (5, LOOK(1, 9)), *((t, LOOK(1, 9)) for t in range(10, 60, 5))], True, id="hung"),
        pytest.param([(0, LOOK(0, 0)), (5, LOOK(0, 9)), (40, None), (45, LOOK(0, 9))], False, id="answers late"),
        pytest.param([(0, LOOK(0, 9)), *((t, None) for t in range(5, 60, 5))], True, id="silent"),
        pytest.param([(0, LOOK(0, 0)), (5, LOOK(1, 9)), (905, LOOK(1, 9)), (910, LOOK(1, 9))], False, id="thawed"),
        pytest.param([(0, LOOK(0, 9)), (3000, LOOK(2, 9)), (3005, LOOK(2, 9))], False, id="just woken"),
    ],
)
def test_only_a_hung_engine_is_shot(looks, hung):
    watch = guard.Watch(45.0)
    problems = [watch.problem(look, float(now)) for now, look in looks]
    assert any(problems) == hung, problems


def test_a_hang_is_found_within_a_minute():
    watch = guard.Watch(45.0)
    watch.problem(LOOK(0, 0), 0.0)
    watch.problem(LOOK(1, 1), 5.0)
    found = next(now for now in range(10, 100, 5) if watch.problem(LOOK(1, 1), float(now)))
    assert found - 5 < 60


def test_metrics_of_an_engine_are_read_and_others_are_not():
    text = (
        'vllm:num_requests_running{engine="0",model_name="a b"} 2.0\n'
        'vllm:num_requests_waiting{engine="0"} 1.0\n'
        'vllm:num_requests_waiting_by_reason{reason="capacity"} 9.0\n'
        'vllm:iteration_tokens_total_count{engine="0"} 7.0\n'
        'vllm:generation_tokens_total{engine="0"} 1e+03\n'
    )
    assert guard.parse_metrics(text) == LOOK(3.0, 1007.0)
    assert guard.parse_metrics("process_cpu_seconds_total 4\n") is None


@pytest.mark.parametrize(
    ("failures", "state", "seconds"),
    [
        ([], "starting", 0),
        ([990, 995], "starting", 0),
        ([980, 990, 995], "waiting", 10),
        ([970, 980, 990, 995], "waiting", 20),
        ([960, 970, 980, 990, 995], "waiting", 40),
        ([950, 960, 970, 980, 990, 995], "quarantined", 1800),
        ([-5000, -4900, -4800, -4700, -4600, 995], "starting", 0),
        ([5000] * 9, "starting", 0),
    ],
)
def test_failures_are_followed_by_longer_and_longer_pauses(tmp_path, failures, state, seconds):
    told = guard.read_settings(settings(tmp_path))
    assert guard.pause(failures, 1000.0, told) == (state, seconds)


def test_a_long_sound_run_makes_earlier_failures_forgotten(tmp_path):
    kept = guard.Record(tmp_path / "guard.json", "present", failures=[900.0, 950.0])
    kept.failed("killed", 1000.0, served_s=30.0)
    assert kept.failures == [900.0, 950.0, 1000.0]
    kept.failed("killed", 2000.0, served_s=900.0)
    assert guard.Record.read(kept.path, "present").failures == [2000.0]
    assert guard.Record.read(kept.path, "present").last_failure == "killed"


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"epoch": "x", "failures": []}', '{"epoch": 1, "failures": 3}'])
def test_a_record_that_cannot_be_read_is_begun_anew(tmp_path, content):
    path = tmp_path / "guard.json"
    path.write_text(content)
    assert guard.Record.read(path, "present").failures == []


def test_failures_of_other_settings_do_not_count_and_their_epoch_does(tmp_path):
    kept = guard.Record(tmp_path / "guard.json", "before", epoch=7)
    kept.failed("out of memory", 1000.0, served_s=0.0)
    repaired = guard.Record.read(kept.path, "after")
    assert (repaired.failures, repaired.epoch) == ([], 7)
    assert guard.Record.read(kept.path, "before").failures == [1000.0]


def test_successive_epochs_meet_at_different_ports():
    group = guard.Group(0, HOSTS, ADDRESSES, 29501, "abc")
    ports = [group.engine_port(epoch) for epoch in range(1, 16)]
    assert len(set(ports)) == 15
    assert min(ports) == 29502


@pytest.fixture
def quick(monkeypatch):
    """The clocks of a meeting, compressed."""
    for name, seconds in {"TICK_S": 0.05, "BEAT_S": 0.1, "SILENCE_S": 1.0, "RETRY_S": 0.1, "CONNECT_S": 1.0}.items():
        monkeypatch.setattr(guard, name, seconds)


class Host:
    """One host of a group, in a thread."""

    def __init__(self, folder, rank, port, **changes):
        told = guard.read_settings(settings(folder, rank, master_port=port, **changes))
        self.record = guard.Record.read(told.record, told.settings)
        self.meeting = guard.Meeting(told, told.group, self.record)
        self.running = guard.Running()
        self.thread = threading.Thread(target=self.meeting.hold, args=[self.running], daemon=True)
        self.thread.start()

    def met(self, within_s=10.0):
        self.thread.join(within_s)
        return not self.thread.is_alive() and not self.running.stopping

    def leave(self):
        self.running.stopping = True
        self.thread.join(10)
        self.meeting.end("left")


@pytest.fixture
def hosts(tmp_path, quick):
    """Makes hosts, which leave at the end."""
    made, port = [], free_port()

    def make(rank, **changes):
        made.append(Host(tmp_path, rank, port, **changes))
        return made[-1]

    yield make
    for each in made:
        each.leave()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_hosts_meet_in_any_order_and_agree_on_the_next_epoch(tmp_path, hosts, order):
    (tmp_path / "guard-1.json").write_text(
        json.dumps({"epoch": 41, "failures": [], "last_failure": "", "settings": "of all"})
    )
    first = hosts(order[0])
    assert eventually(lambda: "waits" in first.record.reason or "not yet" in first.record.reason)
    second = hosts(order[1])
    assert first.met() and second.met()
    assert first.record.epoch == second.record.epoch == 42


def test_who_waits_says_for_whom_where_and_what_to_do(hosts):
    head = hosts(0)
    assert eventually(lambda: "gpu2 (127.0.0.2)" in head.record.reason)
    assert "gpu1 (127.0.0.1) waits at port" in head.record.reason
    assert "let all TCP pass" in head.record.reason


def test_a_host_that_is_alone_says_whom_it_does_not_reach(hosts):
    other = hosts(1)
    assert eventually(lambda: "Connection refused" in other.record.reason)
    assert "gpu2 (127.0.0.2) is not yet with gpu1 (127.0.0.1) port" in other.record.reason


def test_other_settings_are_refused(hosts):
    head, other = hosts(0), hosts(1, settings="older")
    assert eventually(lambda: "gpu2 has other settings than gpu1: run site.yml on both" in other.record.reason)
    assert not head.met(0.2)


def test_a_host_must_come_from_its_planned_address(hosts):
    hosts(0)
    other = hosts(1, addresses=["127.0.0.1", "127.0.0.3"])
    assert eventually(lambda: "came from 127.0.0.3, and its planned address is 127.0.0.2" in other.record.reason)


def test_the_way_back_is_tried(tmp_path, hosts, quick):
    head = hosts(0)
    assert eventually(lambda: head.record.reason)
    told = guard.read_settings(tmp_path / "settings-0.json").group
    link = guard.Link(guard.connect("127.0.0.2", "127.0.0.1", told.master_port))
    link.send(replica="tiny-0", node_rank=1, settings="abc", epoch=0, listens=free_port())
    answers = []
    assert eventually(lambda: answers.extend(guard._heard(link, 0.1)) or any("refused" in each for each in answers))
    refusal = next(each["refused"] for each in answers if "refused" in each)
    assert "gpu1 (127.0.0.1) does not reach gpu2 (127.0.0.2) port" in refusal


@pytest.mark.parametrize(
    "noise", [b"GET / HTTP/1.0\r\n\r\n", b"[1]\n", b'{"node_rank": "x"}\n', b'{"node_rank": 0}\n', b""]
)
def test_strangers_do_not_disturb_a_meeting(tmp_path, hosts, quick, noise):
    head = hosts(0)
    assert eventually(lambda: head.record.reason)
    told = guard.read_settings(tmp_path / "settings-0.json").group
    with socket.create_connection(("127.0.0.1", told.master_port)) as stranger:
        stranger.sendall(noise)
        other = hosts(1)
        assert head.met() and other.met()


def test_a_host_that_goes_before_all_are_there_is_waited_for_again(hosts):
    head, early = hosts(0, hosts=["gpu1", "gpu2", "gpu3"], addresses=["127.0.0.1", "127.0.0.2", "127.0.0.3"]), None
    three = {"hosts": ["gpu1", "gpu2", "gpu3"], "addresses": ["127.0.0.1", "127.0.0.2", "127.0.0.3"]}
    early = hosts(1, **three)
    assert eventually(lambda: 1 in head.meeting.links)
    early.leave()
    assert eventually(lambda: 1 not in head.meeting.links)
    late = [hosts(1, **three), hosts(2, **three)]
    assert head.met() and all(each.met() for each in late)


def together(hosts):
    head, other = hosts(0), hosts(1)
    assert head.met() and other.met()
    return head, other


def kept_until(meeting, within_s=5.0):
    """Why a host gives up on the others; nothing where it does not."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            meeting.keep()
        except guard.Ended as reason:
            return str(reason)
        time.sleep(0.02)
    return ""


def test_a_connection_that_closes_ends_the_others(hosts):
    head, other = together(hosts)
    other.meeting.links[0].close()
    assert kept_until(head.meeting) == "gpu2 (127.0.0.2) is lost: it closed the connection"


def test_a_host_that_says_nothing_is_lost(hosts):
    head, _other = together(hosts)
    assert "gpu2 (127.0.0.2) is lost: it has said nothing for" in kept_until(head.meeting)


def test_the_reason_is_passed_on(hosts):
    head, other = together(hosts)
    head.meeting.end("the engine hangs")
    assert kept_until(other.meeting) == "gpu1 (127.0.0.1) ended: the engine hangs"


TAKES_CONNECTIONS = f"""\
for word; do case $word in --port=*)
    exec {sys.executable} -c 'import socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(60)' ${{word#--port=}}
esac; done
exec sleep 60
"""


@pytest.fixture
def environments(tmp_path, monkeypatch):
    """Makes virtual environments that look as if they held a Ray, and whose programs only say how they were called."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "the token of this fleet")

    def make(release="2.60.0", python="3.11", ray=TAKES_CONNECTIONS, asking="exit 0"):
        folder = tmp_path / f"engine-{release}-{python}"
        (folder / f"lib/python{python}/site-packages/ray-{release}.dist-info").mkdir(parents=True, exist_ok=True)
        (folder / "bin").mkdir(exist_ok=True)
        for name, does in {"ray": ray, "python": asking}.items():
            (folder / "bin" / name).write_text(f'#!/bin/sh\necho {name} "$@"\n{does}\n')
            (folder / "bin" / name).chmod(0o755)
        return {"engine": str(folder), "first_port": 20000, "devices": 8}

    return make


def test_hosts_with_one_ray_and_one_token_meet(hosts, environments):
    head, other = hosts(0, ray=environments()), hosts(1, ray=environments())
    assert head.met() and other.met()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"release": "2.59.0"}, "gpu2 has Ray 2.59.0 on python3.11, and gpu1 has Ray 2.60.0 on python3.11"),
        ({"python": "3.12"}, "gpu2 has Ray 2.60.0 on python3.12, and gpu1 has Ray 2.60.0 on python3.11"),
        (None, "gpu2 has no Ray, and gpu1 has Ray 2.60.0 on python3.11"),
    ],
)
def test_another_ray_is_refused(hosts, environments, other, said):
    hosts(0, ray=environments())
    second = hosts(1, **({"ray": environments(**other)} if other else {}))
    assert eventually(lambda: said in second.record.reason), second.record.reason
    assert "from one lock" in second.record.reason


def test_another_token_is_refused_and_neither_is_told(tmp_path, hosts, environments):
    ray = environments()
    head = hosts(0, ray=ray)
    assert eventually(lambda: "waits at port" in head.record.reason)
    link = guard.Link(guard.connect("127.0.0.2", "127.0.0.1", head.meeting.group.master_port))
    with guard.listen("127.0.0.2", 0) as back:
        theirs = guard.Ray(**ray).identity() | {"token": "of another"}
        link.send(replica="tiny-0", node_rank=1, settings="abc", epoch=0, listens=back.getsockname()[1], ray=theirs)
        answers = []
        assert eventually(lambda: answers.extend(guard._heard(link, 0.1)) or any("refused" in each for each in answers))
    refusal = next(each["refused"] for each in answers if "refused" in each)
    assert refusal.startswith("gpu2 has another Ray token than gpu1: run site.yml on both")
    assert "the token of this fleet" not in json.dumps(theirs) + refusal


def test_an_environment_without_ray_is_named(tmp_path):
    with pytest.raises(guard.Ended, match="has no Ray: use an engine version whose lock names it"):
        guard.Ray(str(tmp_path), 20000, 8).identity()


def test_each_host_starts_ray_at_its_planned_address_and_ports():
    ray = guard.Ray("/opt/engine", 20064, 8)
    group = guard.Group(0, HOSTS, ["10.0.0.1", "10.0.0.2"], 29501, "abc", ray)
    head = ray.command(group, 3)
    assert head[:5] == ["/opt/engine/bin/ray", "start", "--block", "--head", "--port=29505"]
    assert "--include-dashboard=false" in head
    other = ray.command(dataclasses.replace(group, node_rank=1), 3)
    assert "--address=10.0.0.1:29505" in other and "--head" not in other
    assert ("--node-ip-address=10.0.0.1" in head) and ("--node-ip-address=10.0.0.2" in other)
    ports = {int(word.partition("=")[2]) for word in other if "-port=" in word}
    assert (min(ports), max(ports), len(ports)) == (20064, 20064 + guard.RAY_PORTS - 1, 8)
    assert "--num-gpus=8" in other


def test_an_address_of_ipv6_is_written_so_that_its_port_can_be_told():
    group = guard.Group(0, HOSTS, ["fd00::1", "fd00::2"], 29501, "abc")
    assert group.meeting_place(0) == "[fd00::1]:29502"


def test_hosts_that_beat_stay_together(hosts):
    head, other = together(hosts)
    ended = []
    thread = threading.Thread(target=lambda: ended.append(kept_until(other.meeting, 2.0)))
    thread.start()
    assert kept_until(head.meeting, 2.0) == ""
    thread.join()
    assert ended == [""]


ENGINE = """
import http.server, os, signal, sys, time
steps = {steps!r}
class Metrics(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"vllm:num_requests_running 1\\nvllm:iteration_tokens_total_count %d\\n" % eval(steps)
        self.send_response(200); self.end_headers(); self.wfile.write(body)
    def log_message(self, *words): pass
def drain(number, frame):
    time.sleep(0.5); print("drained", flush=True); os._exit(0)
signal.signal(signal.SIGTERM, drain)
print("began", *sys.argv[1:], flush=True)
http.server.HTTPServer(("127.0.0.1", int({port!r})), Metrics).serve_forever()
"""


def start(path, *command):
    return subprocess.Popen(
        [sys.executable, "-I", "-S", PROGRAM, path, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        start_new_session=True,
    )


@pytest.fixture
def programs():
    """Starts guards, and ends what is left of them as systemd would."""
    started = []

    def run(path, *command):
        started.append(start(path, *command))
        return started[-1]

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def engine(steps="int(time.time() * 10)"):
    port = free_port()
    return port, (sys.executable, "-c", ENGINE.format(port=str(port), steps=steps))


def test_a_stop_lets_the_engine_finish(tmp_path, programs):
    port, command = engine()
    process = programs(settings(tmp_path, port=port), *command)
    assert eventually(lambda: (tmp_path / "guard-None.json").exists() and record(tmp_path)["state"] == "serving")
    process.terminate()
    output, _none = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "drained" in output
    assert record(tmp_path)["state"] == "stopped"


@pytest.mark.parametrize("status", [0, 3])
def test_an_engine_that_ends_by_itself_is_a_failure_whatever_it_says(tmp_path, programs, status):
    process = programs(settings(tmp_path), "sh", "-c", f"exit {status}")
    assert process.wait(20) == 1
    told = record(tmp_path)
    assert (told["state"], told["reason"]) == ("failed", f"the engine ended by itself with status {status}")
    assert len(told["failures"]) == 1


def test_an_engine_that_cannot_be_started_is_a_failure_too(tmp_path, programs):
    assert programs(settings(tmp_path), "/no/such/engine").wait(20) == 1
    assert "/no/such/engine" in record(tmp_path)["reason"]


def test_a_hung_engine_leaves_its_stacks_and_ends(tmp_path, programs):
    port, command = engine(steps="min(2, int(time.monotonic() - begun))".replace("begun", repr(time.monotonic())))
    process = programs(settings(tmp_path, port=port, stall_s=2.0), *command)
    output, _none = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Fatal Python error: Aborted" in output and "serve_forever" in output
    assert "the engine hangs: it holds 1 requests and has made no step for" in record(tmp_path)["reason"]


def test_a_replica_in_quarantine_says_why_and_keeps_its_port_closed(tmp_path, programs):
    path = settings(tmp_path)
    before = {"epoch": 0, "failures": [time.time() - 60] * 6, "last_failure": "out of memory", "settings": "of all"}
    (tmp_path / "guard-None.json").write_text(json.dumps(before))
    process = programs(path, "touch", tmp_path / "started")
    assert eventually(lambda: record(tmp_path).get("state") == "quarantined")
    assert "6 failures within an hour, the last: out of memory" in record(tmp_path)["reason"]
    process.terminate()
    assert process.wait(10) == 0
    assert not (tmp_path / "started").exists()
    assert record(tmp_path)["failures"] == []


def test_a_group_starts_together_at_the_port_of_its_epoch_and_ends_together(tmp_path, programs):
    master = free_port()
    began = ("sh", "-c", 'echo began "$@"; exec sleep 60', "engine")
    head, other = (programs(settings(tmp_path, rank, master_port=master), *began) for rank in (0, 1))
    assert eventually(lambda: all((tmp_path / f"guard-{rank}.json").exists() for rank in (0, 1)))
    assert eventually(lambda: record(tmp_path, 1)["state"] == "running")
    os.killpg(other.pid, signal.SIGKILL)
    assert head.wait(20) == 1
    os.killpg(head.pid, signal.SIGKILL)
    output = head.stdout.read()
    assert f"began --master-port {master + 2}" in output
    assert "gpu2 (127.0.0.2) is lost: it closed the connection" in record(tmp_path, 0)["reason"]


def ray_group(tmp_path, programs, environments, **programs_do):
    """Two hosts over Ray, the engine being a shell that says where Ray is."""
    master, ray = free_port(), environments(**programs_do)
    command = ("sh", "-c", 'echo engine at $RAY_ADDRESS "$@"; exec sleep 60', "engine")
    return master, *(programs(settings(tmp_path, rank, master_port=master, ray=ray), *command) for rank in (0, 1))


def runs_ray(process):
    """Whether a guard has started a Ray; the one here sleeps."""
    command = ["pgrep", "--parent", str(process.pid), "--full", "sleep"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def output_of(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate(timeout=20)[0]


def test_over_ray_only_the_head_runs_an_engine_and_only_once_ray_is_whole(tmp_path, programs, environments):
    master, head, other = ray_group(tmp_path, programs, environments, asking="echo gpu2 has not joined; sleep 2")
    assert eventually(lambda: "gpu2 has not joined" in record(tmp_path, 0).get("reason", ""), 20)
    assert eventually(lambda: record(tmp_path, 0)["reason"] == "epoch 1", 20)
    time.sleep(1)
    said, others = output_of(head), output_of(other)
    assert f"engine at 127.0.0.1:{master + 2}\n" in said
    assert f"ray start --block --address=127.0.0.1:{master + 2}" in others
    assert "engine at" not in others


def test_no_host_joins_a_ray_that_takes_no_connections_yet(tmp_path, programs, environments):
    ray = "case $* in *--head*) sleep 3;; esac\n" + TAKES_CONNECTIONS
    master, _head, other = ray_group(tmp_path, programs, environments, ray=ray)
    assert eventually(lambda: record(tmp_path, 1).get("state") == "running", 20)
    time.sleep(1.5)
    assert not runs_ray(other)
    assert eventually(lambda: runs_ray(other), 20)
    assert f"ray start --block --address=127.0.0.1:{master + 2}" in output_of(other)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_ray_that_ends_restarts_all(tmp_path, programs, environments, rank):
    _master, *both = ray_group(tmp_path, programs, environments)
    assert eventually(lambda: all(map(runs_ray, both)), 20)
    subprocess.run(["pkill", "-KILL", "--parent", str(both[rank].pid), "--full", "sleep"], check=True)
    assert [process.wait(20) for process in both] == [1, 1]
    assert "ended by itself with status -9" in record(tmp_path, rank)["reason"]


@pytest.mark.parametrize("asking", ["exit 1", "kill -9 $$"])
def test_a_ray_that_cannot_be_asked_is_a_failure(tmp_path, programs, environments, asking):
    _master, head, _other = ray_group(tmp_path, programs, environments, asking=asking)
    assert head.wait(30) == 1
    assert "could not be asked for its hosts" in record(tmp_path, 0)["reason"]


BUSY_ENGINE = ENGINE.replace("running 1", "running %d").replace(
    "% eval(steps)", "% (os.path.exists(sys.argv[1]), eval(steps))"
)


def test_over_ray_an_engine_is_only_stopped_when_it_holds_no_request(tmp_path, programs, environments):
    port, busy = free_port(), tmp_path / "busy"
    busy.touch()
    ray = environments()
    command = (sys.executable, "-c", BUSY_ENGINE.format(port=str(port), steps="int(time.time() * 10)"), busy)
    master, paths = free_port(), []
    for rank in (0, 1):
        paths.append(settings(tmp_path, rank, master_port=master, ray=ray))
        paths[-1].write_text(json.dumps(json.loads(paths[-1].read_text()) | {"port": port}))
    head, other = (programs(path, *command) for path in paths)
    assert eventually(lambda: record(tmp_path, 0).get("state") == "serving", 20)
    other.terminate()
    time.sleep(4)
    assert (head.poll(), other.poll()) == (None, None), "a host left while its replica had requests"
    busy.unlink()
    assert (head.wait(20), other.wait(20)) == (0, 0)
    assert "drained" in output_of(head)
    assert record(tmp_path, 0)["reason"] == "the unit of gpu2 (127.0.0.2) is"
    assert record(tmp_path, 1)["state"] == "stopped"


def test_the_guard_is_small(tmp_path, programs):
    process = programs(settings(tmp_path), "sleep", "60")
    assert eventually(lambda: (tmp_path / "guard-None.json").exists())
    time.sleep(3)
    status = Path(f"/proc/{process.pid}/status").read_text()
    resident_mib = int(status.partition("VmRSS:")[2].split()[0]) / 1024
    ticks = sum(map(int, Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    assert resident_mib < 30
    assert ticks / os.sysconf("SC_CLK_TCK") < 0.5


def test_every_process_that_an_engine_started_is_found(tmp_path):
    for process, parent in {1: 0, 10: 1, 11: 10, 12: 11, 20: 1}.items():
        (tmp_path / str(process)).mkdir()
        (tmp_path / str(process) / "stat").write_text(f"{process} (a) b) S {parent} 1 1\n")
    assert sorted(guard.descendants(10, tmp_path)) == [10, 11, 12]
