# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changing a gateway that serves: drained, refused, rotated, removed, and never down."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from dataclasses import replace

import pytest
from gateway_host import CERTIFICATES, ENGINE_KEY, KEYS, SETTINGS, eventually, play
from gateway_load import ask, completion, load

SHORT = completion("org/tiny", tokens=3)


def state(host) -> tuple[str, ...]:
    """What is in force, by its files and by the processes that run it."""
    return (
        host.check_output("find /etc/nginx /etc/systemd/system/nginx.service.d -type f -exec sha256sum '{}' + | sort"),
        host.check_output("curl -s http://127.0.0.1:9145/tree"),
        host.check_output("pgrep -x nginx | sort"),
    )


@contextmanager
def unchanged(host):
    """Nothing of the gateway changes inside, not even a worker's process id."""
    before = state(host)
    yield
    assert state(host) == before


def test_a_second_run_changes_nothing(host):
    with unchanged(host):
        assert not play("converge.yml").expect(True).changed


@pytest.fixture
def foreign_key(tmp_path):
    """A private key that belongs to no certificate here."""
    path = tmp_path / "foreign.key"
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path], check=True)
    return path


def test_a_certificate_without_its_key_never_takes_effect(host, complete, foreign_key):
    with unchanged(host):
        run = play(
            "converge.yml",
            gateway_tls="given",
            gateway_tls_certificate=str(CERTIFICATES / "gateway.crt"),
            gateway_tls_private_key=str(foreign_key),
        ).expect(False)
    assert "nginx refuses the configuration, and nothing of it was put in force" in run.words
    assert "key values mismatch" in run.words
    assert complete().ok


def test_a_site_that_is_broken_already_is_named_and_ours_stays_as_it_is(host, complete):
    host.check_output("cp /etc/nginx/conf.d/site.conf /root/ && echo 'nonsense;' >> /etc/nginx/conf.d/site.conf")
    try:
        with unchanged(host):
            run = play("converge.yml", gateway_read_timeout=901).expect(False)
        assert 'unknown directive "nonsense" in /etc/nginx/conf.d/site.conf:3' in run.words
        assert complete().ok
    finally:
        host.check_output("mv /root/site.conf /etc/nginx/conf.d/site.conf")


def test_a_port_that_another_program_holds_is_told_and_all_is_taken_back(host, complete):
    files, tree, _ = state(host)
    run = play("converge.yml", gateway_listen_port=8011).expect(False)
    assert state(host)[:2] == (files, tree)
    assert "nginx still does not run the new configuration" in run.words
    assert complete().ok


def test_bad_options_are_refused_all_at_once_and_no_key_is_shown(host):
    with unchanged(host):
        run = play(
            "converge.yml", gateway_keys=[{"name": "a", "key": "too-short"}], gateway_metrics_address="*"
        ).expect(False)
    assert "The key of a is shorter than 24 characters. Make one: openssl rand -hex 24." in run.words
    assert "gateway_metrics_address is '*', and the metrics are not for everybody." in run.words
    assert "too-short" not in run.output


def test_a_key_that_is_taken_away_is_refused_at_once_and_no_secret_is_shown_on_the_way(front, host, complete):
    key = "a-new-key-of-team-c-for-the-test"
    run = play("converge.yml", "-vvv", "--diff", gateway_keys=[{"name": "team-c", "key": key}]).expect(True)
    assert run.changed
    assert complete().status == 401
    assert complete(endpoint=replace(front, key=key)).ok
    private_key = host.check_output("cat $(curl -s http://127.0.0.1:9145/tree)/gateway.key").splitlines()[1]
    for secret in (key, ENGINE_KEY, *KEYS.values(), private_key):
        assert secret not in run.output
    assert "(new secret, not shown)" in run.output
    play("converge.yml").expect(True)
    assert complete(endpoint=replace(front, key=key)).status == 401
    assert complete().ok


def test_a_drained_engine_gets_nothing_new_in_either_tier_and_no_request_fails(host, front, engines):
    tree = state(host)[1]
    with load(front, 8, SHORT, keep_alive=False) as short:
        run = play("drain.yml", gateway_drain_servers=[engines[0].server, "192.0.2.1:8000"], gateway_drain_state="down")
        assert run.expect(True).changed
        # the second tier must not find it either
        engines[1].fault("error", 500)
        before = len(engines[0].seen()), len(short.answers)
        assert (
            not play("drain.yml", gateway_drain_servers=[engines[0].server], gateway_drain_state="down")
            .expect(True)
            .changed
        )
        eventually(lambda: len(short.answers) > before[1] + 100, 60, "a hundred answers more")
        assert len(engines[0].seen()) == before[0]
        assert (
            play("drain.yml", gateway_drain_servers=[engines[0].server], gateway_drain_state="up").expect(True).changed
        )
        eventually(lambda: len(engines[0].seen()) > before[0], 60, "a request after the drain")
    assert short.failed == []
    assert state(host)[1] == tree


def test_a_drain_of_servers_that_it_does_not_have_is_nothing_to_do(host):
    with unchanged(host):
        assert (
            not play("drain.yml", gateway_drain_servers=["192.0.2.1:8000"], gateway_drain_state="down")
            .expect(True)
            .changed
        )


def test_check_mode_tells_of_a_drain_and_does_not_make_it(host, engines):
    with unchanged(host):
        run = play("drain.yml", "--check", gateway_drain_servers=[engines[0].server], gateway_drain_state="down")
        assert run.expect(True).changed


def test_the_last_engine_of_a_model_can_be_drained_too(front, host):
    other = replace(front, prefix="/m/other")
    server = "{address}:{port}".format(**SETTINGS["gateway_models"][1]["upstreams"][0])
    play("drain.yml", gateway_drain_servers=[server], gateway_drain_state="down").expect(True)
    assert ask(other, "POST", "/v1/completions", completion("other")).json()["error"]["code"] == "no_engine"
    # an ordinary run renders no marks
    assert play("converge.yml").expect(True).changed
    assert ask(other, "POST", "/v1/completions", completion("other")).ok


def test_without_models_all_of_ours_goes_and_nothing_else(host, front):
    play("converge.yml", gateway_models=[]).expect(True)
    assert host.run("grep -rl gpufleet /etc/nginx /etc/ansible /etc/systemd/system").stdout == ""
    assert host.run("find / -xdev -path /var/log -prune -o -name '*gpufleet*' -print").stdout == ""
    assert ask(front, "GET", "/v1/models").status is None
    assert host.check_output("curl -s http://127.0.0.1:8099") == "somebody else's site"
    assert host.service("nginx").is_running
    assert not play("converge.yml", gateway_models=[]).expect(True).changed
    play("converge.yml").expect(True)
