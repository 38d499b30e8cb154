# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What later runs do to replicas that run, in order: each test begins where the one before it ended."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._openai import CompletionError
from replicas import KEY, REPLICAS, complete, load, pids, play, shown, units

OTHER_KEY = "another-key-of-the-engines-which-is-a-test"


def test_a_run_with_the_same_settings_touches_no_process(host, unchanged):
    play().expect_unchanged()


def test_a_live_replica_is_not_restarted_without_leave(host, unchanged):
    run = play(serve_units=units(tiny_0={"config": {"served_model_name": "org/tiny", "tensor_parallel_size": 2}}))
    run.expect(False)
    assert "serve-1: tiny-0 would have to restart and is serving. Nothing was changed." in run.words
    assert "fleet_allow_restart=true" in run.words


def test_check_mode_shows_what_would_change_and_changes_nothing(host, unchanged):
    changed = units(tiny_0={"engine_env": {"MOCK_START_SECONDS": "1"}}, tiny_1=None, tiny_2={"port": 8002})
    run = play("--check", "--diff", serve_units=changed, serve_restart=True).expect(True)
    assert '+Environment="MOCK_START_SECONDS=1"' in run.output
    assert "+Description=vLLM serving tiny, replica tiny-2" in run.output
    assert "changed: [serve-1] => (item=tiny-1)" in run.output


def test_with_leave_one_after_the_other_restarts_and_no_request_fails(host):
    before = pids(host)
    with load() as results:
        play(
            serve_units=units(tiny_0={"engine_args": {"seed": 1}}, tiny_1={"engine_args": {"seed": 1}}),
            serve_restart=True,
        ).expect(True)
    assert results["failed"] == []
    assert len(results["ok"]) > 10
    after = pids(host)
    assert all(after[replica] != before[replica] for replica in REPLICAS)
    started = {replica: int(shown(host, replica, "ExecMainStartTimestampMonotonic")) for replica in REPLICAS}
    assert started["tiny-1"] - started["tiny-0"] > 2_000_000
    assert host.check_output("nginx -T 2>/dev/null | grep -c 'server 10[.]89[.]77[.]51:800[01]'") != "0"
    assert host.run("nginx -T 2>/dev/null | grep 'server .* down'").stdout == ""


def test_only_the_replica_that_differs_restarts(host):
    before = pids(host)
    play(serve_units=units(tiny_1={"engine_args": {"seed": 1}}), serve_restart=True).expect(True)
    after = pids(host)
    assert after["tiny-0"] != before["tiny-0"]
    assert after["tiny-1"] == before["tiny-1"]


def test_a_new_key_is_taken_and_neither_is_told(host):
    run = play("-vvv", "--diff", serve_engine_key=OTHER_KEY, serve_restart=True, serve_gateways=[]).expect(True)
    assert KEY not in run.output
    assert OTHER_KEY not in run.output
    assert complete(8000, key=OTHER_KEY).events == 3
    with pytest.raises(CompletionError, match="HTTP 401"):
        complete(8000, key=KEY)
    play(serve_restart=True).expect(True)


def test_what_somebody_stopped_and_disabled_is_started_again_and_the_other_left_alone(host):
    before = pids(host)
    host.check_output("systemctl disable --now gpufleet-tiny-0.service")
    play().expect(True)
    assert shown(host, "tiny-0", "UnitFileState") == "enabled"
    assert complete(8000).events == 3
    assert pids(host)["tiny-1"] == before["tiny-1"]


def test_an_engine_that_cannot_start_fails_early_and_says_why(host):
    before = pids(host)
    broken = {"port": 8002, "engine_env": {"MOCK_FAIL_START": "out of memory on device 0"}}
    run = play(serve_units=units(tiny_2=broken), serve_ready_timeout=1800).expect(False)
    assert "gpufleet-tiny-2.service is not ready at http://10.89.77.51:8002" in run.words
    assert "the unit dies and is restarted again and again" in run.words
    assert "last result exit-code, exit status 1" in run.words
    assert "vllm: out of memory on device 0" in run.words
    assert pids(host) == before


def test_a_repaired_replica_starts_without_leave_and_one_that_is_not_asked_for_goes(host):
    """tiny-2 crashes over and over since the test before: it does not serve, so it may be changed."""
    before = pids(host)
    play(serve_units=units(tiny_2={"port": 8002, "engine_env": {"MOCK_TOKEN_SECONDS": "0.02"}})).expect(True)
    with load() as results, ThreadPoolExecutor() as pool:
        stream = pool.submit(complete, 8002, tokens=2000)
        play().expect(True)
        assert stream.result(timeout=60).events == 2000
    assert results["failed"] == []
    assert pids(host) == before
    assert traces(host, "tiny-2") == ""


def test_a_removal_that_was_cut_short_is_finished(host):
    host.check_output("touch /etc/gpufleet/serve/tiny-9.env && mkdir -p /var/cache/gpufleet/tiny-9")
    play().expect(True)
    assert traces(host, "tiny-9") == ""


@pytest.mark.parametrize(
    ("damage", "repair", "words"),
    [
        (
            "chmod 0600 /srv/models/tiny/config.json",
            "chmod 0644 /srv/models/tiny/config.json",
            "serve-1: vllm cannot read /srv/models/tiny/config.json.",
        ),
        (
            "chmod 0644 /opt/gpufleet/engine/cpu-0.32.0/bin/vllm",
            "chmod 0755 /opt/gpufleet/engine/cpu-0.32.0/bin/vllm",
            "serve-1: vllm cannot run /opt/gpufleet/engine/cpu-0.32.0/bin/vllm.",
        ),
    ],
)
def test_what_is_missing_is_named(host, unchanged, damage, repair, words):
    host.check_output(damage)
    try:
        run = play()
    finally:
        host.check_output(repair)
    assert words in run.expect(False).words


def test_a_unit_that_systemd_would_misread_is_refused_before_anything_is_done(host, unchanged):
    run = play(serve_units=units(tiny_0={"engine_env": {"TWO WORDS": "x"}}), serve_restart=True).expect(False)
    assert "Invalid environment assignment, ignoring: TWO WORDS=x" in run.words


def test_bad_units_are_refused_before_anything_is_done(host, unchanged):
    run = play(serve_units=units(tiny_1={"port": 8000}, tiny_2={"port": 8002, "devices": ["cpu:0"]})).expect(False)
    assert "10.89.77.51 port 8000 is given to tiny-0 and tiny-1: give each its own port." in run.words
    assert "makes 2 ranks, and 1 devices are given" in run.words


def traces(host, replica):
    """Everything that is left of a replica."""
    return host.check_output(
        "find /etc/gpufleet /etc/systemd /var/cache/gpufleet -name '*%s*'; "
        "systemctl list-units --all --plain --no-legend 'gpufleet-%s*'" % (replica, replica)
    )
