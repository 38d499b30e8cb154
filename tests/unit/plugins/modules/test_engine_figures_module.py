# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import http.server
import threading

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._engine_figures import Figures
from ansible_collections.gpufleet.serving.plugins.module_utils._measured_fact import unit_id
from ansible_collections.gpufleet.serving.plugins.modules import engine_figures
from ansible_collections.gpufleet.serving.plugins.modules.engine_figures import read_units, updated

METRICS = b'vllm:cache_config_info{block_size="128",num_gpu_blocks="4096",kv_cache_size_tokens="524288"} 1.0\n'
STATE = """\
Id={unit}
LoadState=loaded
ActiveState={active}
SubState=running
Result=success
MainPID=12
NRestarts=0
ExecMainStatus=0
UnitFileState=enabled
"""
TIME = "2026-01-31T12:00:00Z"


@contextlib.contextmanager
def engine(status=200):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(METRICS)

        def log_message(self, *_arguments):
            """Keep the test's output clean."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def unit(name, port=1, **settings):
    return {"name": name, "model": "tiny", "address": "127.0.0.1", "port": port, "devices": ["0"], **settings}


def systemd(**active):
    """systemctl over units of the given state; each has just been started."""

    def run(command):
        if "--property=InvocationID" in command:
            return 0, "7d1f\n", ""
        units = command[command.index("--") + 1 :]
        return 0, "\n".join(STATE.format(unit=u, active=active.get(u, "inactive")) for u in units), ""

    return run


@pytest.fixture
def journal(monkeypatch):
    """The lines that every unit wrote at its start."""
    lines = ["Model loading took 15.27 GiB memory and 3.1 seconds", "Available KV cache memory: 37.81 GiB"]
    monkeypatch.setattr(engine_figures, "start_lines", lambda service, enough, run: lines)
    return lines


def test_an_engine_that_runs_tells_its_figures(journal):
    with engine() as port:
        figures, silent = read_units([unit("tiny-0", port)], systemd(**{"gpufleet-tiny-0.service": "active"}), 2.0)
    assert figures == {"tiny-0": Figures(4096, 128, 524288, 37.81, 15.27)}
    assert silent == {}


def test_why_an_engine_is_silent_is_told(journal):
    with engine(status=500) as port:
        units = [unit("dead"), unit("broken", port), unit("gone")]
        run = systemd(**{"gpufleet-broken.service": "active", "gpufleet-gone.service": "active"})
        figures, silent = read_units(units, run, 2.0)
    assert figures == {}
    assert silent["dead"].startswith("gpufleet-dead.service is inactive")
    assert silent["broken"] == f"http://127.0.0.1:{port}/metrics: HTTP 500"
    assert "refused" in silent["gone"]


def test_figures_go_beside_what_was_predicted():
    one = unit("tiny-0")
    known = updated({}, [one], {"tiny-0": Figures(kv_blocks=4096)}, {"tiny-0": {"kv_blocks": 4000}}, TIME)
    assert known == {
        "tiny-0": {
            "unit_id": unit_id(one),
            "measured_at": TIME,
            "kv_blocks": 4096,
            "predicted": {"kv_blocks": 4000},
        }
    }


def test_a_silent_engine_keeps_what_is_known_and_one_that_left_is_forgotten():
    before = updated({}, [unit("a"), unit("b")], {"a": Figures(kv_blocks=1), "b": Figures(kv_blocks=2)}, {}, TIME)
    assert updated(before, [unit("a")], {}, {}, "later") == {"a": before["a"]}


def test_an_engine_that_tells_nothing_leaves_no_entry():
    assert updated({}, [unit("a")], {"a": Figures()}, {"a": {"kv_blocks": 4}}, TIME) == {}
