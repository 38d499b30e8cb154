# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of three servers. k3s and its installer are stand-ins."""

from __future__ import annotations

import re

from cluster import OLD, Cluster
from harness import shell

CLUSTER = Cluster(servers=("k3s-s1", "k3s-s2", "k3s-s3"), agents=("k3s-a1", "k3s-a2"))
(S1, S2, S3), HOSTS = CLUSTER.servers, list(CLUSTER.hosts)
MANIFEST = "/var/lib/rancher/k3s/server/manifests/gpufleet-vllm.json"


def started(host: str, moment: str) -> int:
    """Microseconds since the machine's boot, which all test hosts share."""
    return int(shell(host, f"systemctl show --property {moment}TimestampMonotonic --value k3s"))


def handing_over() -> list[str]:
    return [server for server in CLUSTER.servers if shell(server, f"ls {MANIFEST} 2>/dev/null", check=False)]


def test_servers_come_one_at_a_time_and_one_begins(front_door):
    assert front_door.ask("tiny")
    assert CLUSTER.versions() == dict.fromkeys(HOSTS, OLD)
    for before, after in ((S1, S2), (S2, S3)):
        assert started(before, "ActiveEnter") < started(after, "ExecMainStart")
    configs = {server: shell(server, "cat /etc/rancher/k3s/config.yaml") for server in CLUSTER.servers}
    assert [server for server, config in configs.items() if "cluster-init: true" in config] == [S1]
    for server in (S2, S3):
        assert re.search(r"^token: K10[0-9a-f]{64}::server:", configs[server], re.MULTILINE)
        assert CLUSTER.ready(server=server)
    flags = {re.sub(r"(?m)^(token|server|cluster-init|node-\w+):.*\n", "", config) for config in configs.values()}
    assert len(flags) == 1
    assert handing_over() == [S1]
