# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The load generator as the module runs it: as a program of its own that ends in time and leaves nothing behind."""

from __future__ import annotations

import getpass
import json
import tempfile
import time
from pathlib import Path

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._benchmark import BenchmarkError, Load
from ansible_collections.gpufleet.serving.plugins.modules.engine_benchmark import benchmark

LOAD = Load(concurrency=2, prompt_tokens=10, output_tokens=5, num_prompts=8)
REPORT = {
    "completed": 8,
    "failed": 0,
    "request_throughput": 4.0,
    "output_throughput": 20.0,
    **{f"{point}_{time}_ms": 1.5 for point in ("p50", "p99") for time in ("ttft", "tpot", "itl")},
}
SAVE = "for word; do case $last in --result-dir) dir=$word;; --result-filename) file=$word;; esac; last=$word; done\n"


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """A unit whose environment holds a load generator made of a shell script."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "bin").mkdir()

    def make(script):
        program = tmp_path / "bin/vllm"
        program.write_text("#!/bin/sh\n" + script)
        program.chmod(0o755)
        config = {"served_model_name": "tiny"}
        place = {"name": "tiny-0", "address": "127.0.0.1", "port": 8000}
        return {**place, "engine_path": str(tmp_path), "model_path": "/srv/models/tiny", "config": config}

    return make


def drive(unit, limit_s=20):
    return benchmark(unit, "s3cret", getpass.getuser(), LOAD, limit_s)


def saving(report):
    return f"{SAVE}cat > $dir/$file <<'end'\n{json.dumps(report)}\nend\n"


def test_figures_of_a_run_and_no_file_left(engine, tmp_path):
    figures = drive(engine(saving(REPORT)))
    assert figures["requests_per_second"] == 4.0
    assert figures["itl_ms"] == {"p50": 1.5, "p99": 1.5}
    assert list((tmp_path / "tmp").iterdir()) == []


def test_it_runs_in_an_environment_of_its_own(engine, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    drive(engine(f"env > {tmp_path}/env\nps -o args= -p $$ > {tmp_path}/args\n" + saving(REPORT)))
    told = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert told["OPENAI_API_KEY"] == "s3cret"
    assert told["HF_HUB_OFFLINE"] == "1"
    assert told["HOME"].startswith(str(tmp_path / "tmp"))
    assert "http_proxy" not in told
    assert "s3cret" not in (tmp_path / "args").read_text()


def test_the_prompts_of_two_runs_differ(engine, tmp_path):
    unit = engine(f'echo "$@" >> {tmp_path}/words\n' + saving(REPORT))
    drive(unit)
    drive(unit)
    seeds = [line.split("--seed ")[1].split()[0] for line in (tmp_path / "words").read_text().splitlines()]
    assert len(set(seeds)) == 2


def test_a_load_that_takes_too_long_is_ended_with_every_process(engine, tmp_path):
    unit = engine(f"sleep 60 & echo $! > {tmp_path}/child\necho $$ > {tmp_path}/main\nwait\n")
    begun = time.monotonic()
    with pytest.raises(BenchmarkError, match=r"not done after 1 s.*benchmark_num_prompts, now 8"):
        drive(unit, limit_s=1)
    assert time.monotonic() - begun < 4
    for name in ("child", "main"):
        assert _gone(int((tmp_path / name).read_text()))
    assert list((tmp_path / "tmp").iterdir()) == []


def test_failed_requests_are_told_with_the_tools_own_words(engine):
    with pytest.raises(BenchmarkError, match=r"(?s)6 of 8 requests were answered.*Error 0: Unauthorized"):
        drive(engine('echo "Error 0: Unauthorized"\n' + saving({**REPORT, "completed": 6, "failed": 2})))


def test_a_tool_that_breaks_off_is_told_with_its_last_lines(engine):
    with pytest.raises(BenchmarkError, match=r"(?s)exit status 3 and no report.*ModuleNotFoundError"):
        drive(engine("echo ModuleNotFoundError >&2; exit 3\n"))


def test_a_user_that_does_not_exist(engine):
    with pytest.raises(BenchmarkError, match="there is no user nobody-of-this-name"):
        benchmark(engine(""), "s3cret", "nobody-of-this-name", LOAD, 5)


def _gone(pid: int, within_s: float = 5) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False
