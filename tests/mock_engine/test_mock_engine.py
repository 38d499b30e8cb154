# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mock keeps the promises that other tests rest on; each was measured on the real engine."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from mock_vllm.settings import SettingsError, parse_yaml, read_behaviour, read_settings  # noqa: E402

KEY = "internal"


class Running:
    """A running mock and the way to talk to it."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def call(self, method: str, path: str, body: dict | None = None, key: str = KEY) -> tuple[int, str]:
        connection = self.connect()
        connection.request(method, path, body and json.dumps(body), {"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def complete(self, max_tokens: int = 4, **more: object) -> tuple[int, str]:
        return self.call("POST", "/v1/completions", {"model": "tiny", "prompt": "hi", "max_tokens": max_tokens, **more})

    def metric(self, name: str) -> float:
        lines = self.call("GET", "/metrics")[1].splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, "waited 10 s in vain"
            time.sleep(0.02)

    def worker(self) -> int:
        """The process id of the first worker, found as an operator would find it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return next(int(pid) for pid in children if "VLLM::Worker" in Path(f"/proc/{pid}/cmdline").read_text())


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"num_attention_heads": 4}')
    return tmp_path


@pytest.fixture
def launch(model: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    processes = []

    def start(port: int, *flags: str, stdout: int | None = None, **mock: object) -> subprocess.Popen[str]:
        variables = {f"MOCK_{name.upper()}": str(value) for name, value in mock.items()}
        command = [sys.executable, str(HERE / "bin" / "vllm"), "serve", str(model), "--served-model-name", "tiny"]
        processes.append(
            subprocess.Popen(
                [*command, "--port", str(port), *flags],
                env={**os.environ, "VLLM_API_KEY": KEY, **variables},
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def engine(launch: Callable[..., subprocess.Popen[str]]) -> Callable[..., Running]:
    def start(*flags: str, **mock: object) -> Running:
        port = free_port()
        running = Running(launch(port, *flags, **mock), port)
        running.wait_for(lambda: refuses(port) is False)
        return running

    return start


def refuses(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


def in_background(call: Callable[[], tuple[int, str]]) -> Callable[[], tuple[int, str]]:
    answers: list[tuple[int, str]] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()

    def result() -> tuple[int, str]:
        thread.join(15)
        return answers[0]

    return result


def test_refuses_connections_until_it_is_ready(launch):
    port = free_port()
    launch(port, start_seconds=0.6)
    time.sleep(0.3)
    assert refuses(port)
    deadline = time.monotonic() + 10
    while refuses(port) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not refuses(port)


def test_key_guards_v1_alone(engine):
    running = engine()
    assert running.call("GET", "/v1/models", key="wrong")[0] == 401
    assert running.call("GET", "/v1/models")[0] == 200
    for path in ("/health", "/metrics", "/version", "/tokenize", "/docs"):
        assert running.call("GET", path, key="")[0] == 200
    assert running.call("GET", "/nothing")[0] == 404


def test_answers_whole_and_streamed_alike(engine):
    running = engine()
    status, whole = running.complete(max_tokens=5)
    assert status == 200
    status, streamed = running.complete(max_tokens=5, stream=True, stream_options={"include_usage": True})
    assert status == 200
    events = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    assert "".join(c["text"] for e in events for c in e["choices"]) == json.loads(whole)["choices"][0]["text"]
    assert events[-1]["usage"]["completion_tokens"] == 5
    assert streamed.endswith("data: [DONE]\n\n")


def test_chat_streams_a_role_then_words(engine):
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "stream": True}
    text = engine().call("POST", "/v1/chat/completions", body)[1]
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in text.splitlines() if line.startswith("data: {")]
    assert deltas[0]["role"] == "assistant"
    assert all(delta["content"].startswith(" ") for delta in deltas[1:])
    assert len(deltas) == 4


def test_refuses_what_the_engine_refuses(engine):
    running = engine("--max-model-len", "10")
    assert running.complete(model="other")[0] == 404
    status, text = running.complete(max_tokens=10)
    assert status == 400
    assert "maximum context length is 10" in text


def test_counts_running_and_waiting(engine):
    running = engine("--max-num-seqs", "1", token_seconds=0.02)
    answers = [in_background(lambda: running.complete(max_tokens=30)) for _ in range(2)]
    running.wait_for(
        lambda: (running.metric("vllm:num_requests_running"), running.metric("vllm:num_requests_waiting")) == (1, 1)
    )
    assert [answer()[0] for answer in answers] == [200, 200]
    assert running.metric("vllm:generation_tokens_total") == 60
    assert running.metric("vllm:num_requests_running") == 0


def test_drains_on_sigterm(engine):
    running = engine("--shutdown-timeout", "20", token_seconds=0.02)
    answer = in_background(lambda: running.complete(max_tokens=50, stream=True))
    running.wait_for(lambda: running.metric("vllm:num_requests_running") == 1)
    running.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    assert running.call("GET", "/health")[0] == 200
    status, text = running.complete()
    assert (status, "cannot schedule new futures after shutdown" in text) == (500, True)
    assert answer()[1].count('"text"') == 50
    assert running.process.wait(5) == 0


def test_cuts_streams_without_a_shutdown_timeout(engine):
    running = engine(token_seconds=0.02)
    answer = in_background(lambda: running.complete(max_tokens=500, stream=True))
    running.wait_for(lambda: running.metric("vllm:num_requests_running") == 1)
    running.process.send_signal(signal.SIGTERM)
    assert "EngineCore encountered an issue" in answer()[1]
    assert running.process.wait(5) == 0


def test_a_dead_worker_ends_it_with_status_0(engine):
    running = engine("-tp", "2", token_seconds=0.02, death_seconds=1)
    answer = in_background(lambda: running.complete(max_tokens=500, stream=True))
    running.wait_for(lambda: running.metric("vllm:num_requests_running") == 1)
    os.kill(running.worker(), signal.SIGKILL)
    assert "EngineCore encountered an issue" in answer()[1]
    assert running.call("GET", "/health")[0] == 503
    assert running.process.wait(5) == 0


def test_killing_the_whole_group_cuts_streams(engine):
    running = engine("--shutdown-timeout", "20", token_seconds=0.02)
    answer = in_background(lambda: running.complete(max_tokens=500, stream=True))
    running.wait_for(lambda: running.metric("vllm:num_requests_running") == 1)
    os.kill(running.worker(), signal.SIGTERM)
    running.process.send_signal(signal.SIGTERM)
    assert "EngineCore encountered an issue" in answer()[1]


def test_a_client_that_leaves_is_forgotten(engine):
    running = engine(token_seconds=0.02)
    connection = running.connect()
    body = json.dumps({"model": "tiny", "prompt": "hi", "max_tokens": 5000, "stream": True})
    connection.request("POST", "/v1/completions", body, {"Authorization": f"Bearer {KEY}"})
    connection.getresponse()
    assert running.metric("vllm:num_requests_running") == 1
    connection.sock.close()
    connection.close()
    running.wait_for(lambda: running.metric("vllm:num_requests_running") == 0)


def test_a_client_that_is_killed_in_the_middle_ends_its_request(engine):
    running = engine()
    body = json.dumps({"model": "tiny", "prompt": "hi", "max_tokens": 8000, "stream": True})
    for _each in range(5):
        client = running.connect()
        client.request("POST", "/v1/completions", body, {"Authorization": f"Bearer {KEY}"})
        client.sock.recv(1000)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    time.sleep(0.5)
    assert running.metric("vllm:num_requests_running") == 0


@pytest.fixture
def group(launch):
    """The first of two nodes, before the other has come, what starts that, and the port where they meet."""
    port, master = free_port(), free_port()
    flags = ("--tensor-parallel-size", "2", "--nnodes", "2", "--master-port", str(master))
    first = Running(launch(port, *flags, "--node-rank", "0"), port)
    return first, lambda: launch(free_port(), *flags, "--node-rank", "1", "--headless"), master


def test_a_group_serves_when_all_nodes_are_here_and_needs_each_for_a_step(group):
    first, start_other, master = group
    time.sleep(0.5)
    assert refuses(first.port)
    other = start_other()
    first.wait_for(lambda: not refuses(first.port))
    assert not refuses(master), "a stranger is nobody"
    assert first.complete()[0] == 200
    other.send_signal(signal.SIGSTOP)
    result = in_background(first.complete)
    time.sleep(0.5)
    assert first.metric("vllm:num_requests_running") == 1
    assert first.call("GET", "/health")[0] == 200
    other.send_signal(signal.SIGCONT)
    assert result()[0] == 200


def test_a_lost_node_is_noticed_by_the_next_request_alone(group):
    first, start_other, _master = group
    other = start_other()
    first.wait_for(lambda: not refuses(first.port))
    other.kill()
    time.sleep(0.5)
    assert first.call("GET", "/health")[0] == 200
    assert first.complete()[0] == 500
    assert first.process.wait(10) == 0


def test_a_headless_node_outlives_the_first_one(group):
    first, start_other, _master = group
    other = start_other()
    first.wait_for(lambda: not refuses(first.port))
    first.process.kill()
    time.sleep(0.5)
    assert other.poll() is None
    other.terminate()
    assert other.wait(10) == 0


def test_faults_strike_until_they_are_cleared(engine):
    running = engine()
    running.call("POST", "/mock/fault", {"kind": "error", "status": 503, "prompt": "poison"})
    assert running.complete(prompt="a poison request")[0] == 503
    assert running.complete()[0] == 200
    running.call("POST", "/mock/fault", {"kind": "hang"})
    answer = in_background(running.complete)
    running.wait_for(lambda: running.metric("vllm:num_requests_running") == 1)
    assert running.call("GET", "/health")[0] == 200
    running.call("POST", "/mock/fault", {"kind": "none"})
    assert answer()[0] == 200


def test_remembers_the_requests_that_it_saw(engine):
    running = engine()
    running.complete()
    seen = json.loads(running.call("GET", "/mock/requests")[1])
    assert seen == [{"method": "POST", "path": "/v1/completions", "authorization": f"Bearer {KEY}"}]


@pytest.mark.parametrize(
    ("flags", "mock", "says"),
    [
        (["-tp", "3"], {}, "attention heads (4) must be divisible by tensor parallel size (3)"),
        (["--model", "/nowhere"], {}, "/nowhere/config.json: No such file or directory"),
        ([], {"fail_start": "out of memory"}, "out of memory"),
        ([], {"colour": "blue"}, "unknown MOCK_COLOUR"),
    ],
)
def test_a_failed_start_exits_with_1(launch, flags, mock, says):
    process = launch(free_port(), *flags, **mock)
    assert says in process.communicate(timeout=10)[1]
    assert process.returncode == 1


def test_version():
    command = [sys.executable, str(HERE / "bin" / "vllm"), "--version"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "0.32.0+cpu\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("port: 8000\nhost: 10.0.0.1\n", {"port": 8000, "host": "10.0.0.1"}),
        ("a-b: true\nc: null\nd:\n", {"a-b": True, "c": None, "d": None}),
        (
            'compilation-config: \'{"mode":2,"backend":"eager"}\'',
            {"compilation-config": '{"mode":2,"backend":"eager"}'},
        ),
        ("a: 'it''s'\nb: \"x\\ny\"\n", {"a": "it's", "b": "x\ny"}),
        ("# why\nlist:\n- a\n- 2\nother:\n  - b\n", {"list": ["a", 2], "other": ["b"]}),
        ("nested:\n  a: 1\n  b:\n    c: x\n", {"nested": {"a": 1, "b": {"c": "x"}}}),
        ("long: one two\n  three four\nnext: 1\n", {"long": "one two three four", "next": 1}),
        ('json: {"a": [1, 2]}\n', {"json": {"a": [1, 2]}}),
    ],
)
def test_reads_the_yaml_that_configurations_use(text, value):
    assert parse_yaml(text) == value


def test_names_a_line_that_it_cannot_read():
    with pytest.raises(SettingsError, match="not a line of 'key: value': 'nonsense'"):
        parse_yaml("port: 1\nnonsense\n")


def test_flags_win_over_the_file(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("model: /m\nport: 1\nserved-model-name:\n- tiny\n- other\nno-such-thing: 3\n")
    settings = read_settings(["--config", str(path), "--port=2"])
    assert (settings.model, settings.port, settings.served_model_name) == ("/m", 2, "tiny")


def test_behaviour_comes_from_the_environment():
    assert read_behaviour({"MOCK_TOKEN_SECONDS": "0.5", "PATH": "x"}).token_seconds == 0.5


WHOLE_MODEL = {"num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64}


@pytest.mark.parametrize(
    ("flags", "blocks"),
    [((), 4096), (("--tensor-parallel-size", "2"), 8192), (("--pipeline-parallel-size", "2"), 8192)],
    ids=["one rank", "tensor parallel", "pipeline parallel"],
)
def test_kv_cache_is_that_of_the_real_engine(engine, model, monkeypatch, flags, blocks):
    """The real one has 4096 and 8192 blocks of this model in 1 GiB; measured."""
    (model / "config.json").write_text(json.dumps(WHOLE_MODEL))
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    told = engine(*flags).call("GET", "/metrics")[1]
    assert f'kv_cache_size_tokens="{blocks * 128}",num_gpu_blocks="{blocks}"' in told


def test_start_is_told_in_the_real_ones_words(launch, model):
    process = launch(free_port(), "--max-model-len", "1024", weights_gib=15.27, stdout=subprocess.PIPE)
    lines = iter(process.stdout.readline, "")
    told = [line.rstrip() for line in itertools.takewhile(lambda line: "startup complete" not in line, lines)]
    assert told[0] == "Model loading took 15.27 GiB memory and 0.100000 seconds"
    assert told[2] == "CPU KV cache size: 524,288 tokens, Maximum concurrency for 1,024 tokens per request: 512.00x"


def bench(running: Running, folder: Path, key: str = KEY, ready: int = 5) -> subprocess.CompletedProcess[str]:
    numbers = {"random-input-len": 10, "random-output-len": 5, "num-prompts": 6, "max-concurrency": 2}
    places = {"base-url": f"http://127.0.0.1:{running.port}", "result-dir": folder, "result-filename": "r.json"}
    options = {**numbers, **places, "served-model-name": "tiny", "ready-check-timeout-sec": ready, "seed": 3}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return subprocess.run(
        [sys.executable, str(HERE / "bin/vllm"), "bench", "serve", *words, "--disable-tqdm"],
        env={**os.environ, "OPENAI_API_KEY": key},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_bench_drives_requests_and_reports_them(engine, tmp_path):
    running = engine()
    assert bench(running, tmp_path).returncode == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["completed"], report["failed"], report["total_output_tokens"]) == (6, 0, 30)
    assert 0 < report["p50_itl_ms"] <= report["p99_itl_ms"]
    assert running.metric("vllm:request_success_total") == 7


def test_bench_with_a_refused_key_fails_or_reports_no_answer(engine, tmp_path):
    running = engine()
    refused = bench(running, tmp_path, key="wrong")
    assert (refused.returncode, "Unauthorized" in refused.stderr) == (1, True)
    assert bench(running, tmp_path, key="wrong", ready=0).returncode == 0
    assert json.loads((tmp_path / "r.json").read_text())["failed"] == 6
