# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two replicas as the role left them after its first and second run."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from ansible_collections.gpufleet.serving.plugins.module_utils._openai import CompletionError
from replicas import ADDRESS, GATEWAY_PORT, KEY, REPLICAS, SETTINGS, complete, shown

PROPERTIES = {
    "Type": "exec",
    "User": "vllm",
    "Restart": "always",
    "RestartUSec": "10s",
    "StartLimitIntervalUSec": "0",
    "KillMode": "mixed",
    "TimeoutStopUSec": "3min",
    "OOMPolicy": "stop",
    "LimitNOFILE": "1048576",
    "LimitMEMLOCK": "infinity",
    "TasksMax": "infinity",
    "NRestarts": "0",
    "ActiveState": "active",
    "UnitFileState": "enabled",
}

each_replica = pytest.mark.parametrize(("replica", "port"), REPLICAS.items())


@each_replica
def test_the_unit_is_as_it_must_be(host, replica, port):
    told = host.check_output("systemctl show --property=%s gpufleet-%s.service", ",".join(PROPERTIES), replica)
    assert dict(line.split("=", 1) for line in told.splitlines()) == PROPERTIES


@each_replica
def test_the_unit_is_exposed_below_5_and_systemd_has_nothing_to_say(host, replica, port):
    security = host.run("systemd-analyze security --no-pager --threshold=50 gpufleet-%s.service", replica)
    assert security.rc == 0, security.stdout
    assert float(re.search(r"exposure level for \S+: (\d\.\d)", security.stdout)[1]) < 2.5
    verified = host.run("systemd-analyze verify gpufleet-%s.service", replica)
    assert (verified.rc, f"gpufleet-{replica}" in verified.stderr) == (0, False)


@each_replica
def test_tokens_come_for_the_key_alone(replica, port):
    assert complete(port).events == 3
    with pytest.raises(CompletionError, match="HTTP 401"):
        complete(port, key="somebody-elses-key-of-some-length")


def test_both_replicas_serve_through_the_gateway():
    assert complete(GATEWAY_PORT, key="").events == 3


def test_the_engines_bind_their_address_alone(host):
    listening = [line.split()[3] for line in host.check_output("ss -Hltn").splitlines()]
    assert sorted(each for each in listening if each.endswith((":8000", ":8001"))) == [
        f"{ADDRESS}:8000",
        f"{ADDRESS}:8001",
    ]


def test_the_engines_read_the_settings_that_were_asked_for(host):
    assert yaml.safe_load(host.file("/etc/gpufleet/serve/tiny-1.yaml").content) == {
        "model": "/srv/models/tiny",
        "host": ADDRESS,
        "port": 8001,
        "shutdown-timeout": 120,
        "served-model-name": "org/tiny",
        "max-model-len": 4096,
        "pipeline-parallel-size": 2,
        "max-num-seqs": 8,
        "no-enable-prefix-caching": True,
        "allowed-origins": ["https://a.example", "https://b.example"],
        "disable-access-log-for-endpoints": "/health,/metrics",
    }


@each_replica
def test_the_key_is_for_root_alone(host, replica, port):
    secret = host.file(f"/etc/gpufleet/serve/{replica}.env")
    assert (secret.user, secret.group, secret.mode) == ("root", "root", 0o600)
    assert secret.content_string == f"VLLM_API_KEY={KEY}\n"


def test_the_key_is_nowhere_else(host):
    holding = "grep -rls %s /etc /run/systemd /var/cache/gpufleet /var/lib/gpufleet /var/log | grep -v -e /etc/nginx/"
    assert host.check_output(holding + " | sort", KEY).split() == [
        "/etc/gpufleet/serve/tiny-0.env",
        "/etc/gpufleet/serve/tiny-1.env",
    ]
    assert KEY not in host.check_output("ps -eo args")
    assert KEY not in host.check_output("journalctl --no-pager")


@each_replica
def test_the_other_files_are_roots_and_readable(host, replica, port):
    for path in (f"/etc/gpufleet/serve/{replica}.yaml", f"/etc/systemd/system/gpufleet-{replica}.service"):
        told = host.file(path)
        assert (told.user, told.group, told.mode) == ("root", "root", 0o644)


@each_replica
def test_the_cache_is_the_service_users(host, replica, port):
    cache = host.file(f"/var/cache/gpufleet/{replica}")
    assert (cache.user, cache.mode) == ("vllm", 0o750)


def test_they_were_started_one_after_the_other(host):
    """tiny-0 takes two seconds until it answers; tiny-1 is not started before."""
    first, second = (int(shown(host, replica, "ExecMainStartTimestampMonotonic")) for replica in REPLICAS)
    assert second - first > 2_000_000


def test_what_is_applied_is_written_down(host):
    record = json.loads(host.file("/etc/ansible/facts.d/gpufleet_serve.fact").content_string)
    assert record["share"] == SETTINGS["serve_share_id"]
    assert [unit["name"] for unit in record["options"]["serve_units"]] == list(REPLICAS)
    assert record["options"]["serve_gateways"] == ["serve-1"]
