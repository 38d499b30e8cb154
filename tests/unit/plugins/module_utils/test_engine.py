# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._engine import (
    Engine,
    EngineBusy,
    EngineSilent,
    requests_in_flight,
)

METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="odd } name"} 3.0
vllm:num_requests_running{engine="1",model_name="odd } name"} 1.0
vllm:num_requests_waiting{engine="0",model_name="odd } name"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="odd } name",reason="capacity"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="odd } name"} 0.5
"""


@contextlib.contextmanager
def serving(answers, delay_s=0.0):
    """A server that answers each path with (status, text)."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(delay_s)
            status, text = answers[self.path]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_arguments):
            """Keep the test's output clean."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(("status", "health"), [(200, "ok"), (503, "failing"), (404, "failing")])
def test_health_follows_the_status(status, health):
    with serving({"/health": (status, "")}) as port:
        assert Engine("127.0.0.1", port).health() == health


def test_nothing_listens_before_an_engine_is_ready():
    assert Engine("127.0.0.1", closed_port()).health() == "refused"


def test_a_saturated_engine_is_busy_not_dead():
    with serving({"/health": (200, "")}, delay_s=1.0) as port:
        assert Engine("127.0.0.1", port, timeout_s=0.1).health() == "busy"


def test_what_is_no_http_is_failing_to_answer():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up():
            connection, _peer = server.accept()
            connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        assert Engine("127.0.0.1", server.getsockname()[1]).health() == "refused"


def test_requests_are_counted_over_engines_and_queues():
    assert requests_in_flight(METRICS) == 6
    with serving({"/metrics": (200, METRICS)}) as port:
        assert Engine("127.0.0.1", port).requests_in_flight() == 6


def test_metrics_of_another_program_are_no_zero():
    with pytest.raises(ValueError, match="no gauge vllm:num_requests_running"):
        requests_in_flight("go_goroutines 12\n")


def test_a_gone_engine_and_a_slow_one_differ():
    with pytest.raises(EngineSilent, match="refused") as gone:
        Engine("127.0.0.1", closed_port()).requests_in_flight()
    assert not isinstance(gone.value, EngineBusy)
    with (
        serving({"/metrics": (200, METRICS)}, delay_s=1.0) as port,
        pytest.raises(EngineBusy, match="no answer within 0.1 s"),
    ):
        Engine("127.0.0.1", port, timeout_s=0.1).requests_in_flight()


@pytest.mark.parametrize(
    ("address", "url"), [("10.0.0.1", "http://10.0.0.1:8000"), ("fd00::1", "http://[fd00::1]:8000")]
)
def test_url(address, url):
    assert Engine(address, 8000).url == url


def test_the_version_and_all_metrics():
    with serving({"/version": (200, '{"version": "0.33.0"}'), "/metrics": (200, METRICS)}) as port:
        assert Engine("127.0.0.1", port).version() == "0.33.0"
        assert Engine("127.0.0.1", port).metrics() == METRICS


def test_another_program_has_no_version_and_no_metrics():
    with serving({"/version": (200, "[]"), "/metrics": (404, "")}) as port:
        with pytest.raises(EngineSilent, match="/version: HTTP 200 and no version"):
            Engine("127.0.0.1", port).version()
        with pytest.raises(EngineSilent, match="/metrics: HTTP 404"):
            Engine("127.0.0.1", port).metrics()
