# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of three servers from its first day to its last, in order. k3s and its installer are stand-ins."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cluster import KUBECTL, NEW, OLD, Cluster, engines, leavings, pinned, tokens, upgraded
from harness import CHECKOUT, difference, eventually, shell, snapshot

CLUSTER = Cluster(servers=("k3s-s1", "k3s-s2", "k3s-s3"), agents=("k3s-a1", "k3s-a2"))
(S1, S2, S3), (A1, A2), HOSTS = CLUSTER.servers, CLUSTER.agents, list(CLUSTER.hosts)
ALLOWED = ("--extra-vars", "fleet_allow_restart=true")
SILENT = ("--extra-vars", "fleet_allow_unreachable=true")
CONFIRMED = ("--extra-vars", "fleet_confirm_reset=inventory")
MANIFEST = "/var/lib/rancher/k3s/server/manifests/gpufleet-vllm.json"
CHARTS = "/var/lib/rancher/k3s/server/static/charts"
OTHER_FLAGS = "/etc/rancher/k3s/config.yaml.d/other.yaml"
TINY = {
    "name": "tiny",
    "source": f"controller:{CHECKOUT}/tests/model/tiny",
    "max_model_len": 1024,
    "replica_count": 2,
}
FEWER = [TINY | {"replica_count": 1, "max_replica_count": 3}]
GIANT = TINY | {"name": "giant", "replica_count": 1, "tensor_parallel_size": 2, "pipeline_parallel_size": 2}
"""A model that one node has no room for."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tmp_path_factory.mktemp("bundle")


@pytest.fixture(scope="module")
def new(fleet, bundle, tmp_path_factory):
    """The fleet with the next release of k3s and room to scale, all of it out of a bundle: its sources are gone."""
    folder = tmp_path_factory.mktemp("release")
    next_release = upgraded(fleet, folder)
    charts = {
        "chart": pinned(folder / "vllm-stack-0.1.12.tgz", b"the stack"),
        "keda": pinned(folder / "keda-2.21.1.tgz", b"keda"),
        "lws": pinned(folder / "lws-0.9.0.tgz", b"groups"),
    }
    given = {
        "k3s_image_archives": [pinned(folder / "engine-images.tar.zst", b"images")],
        **{f"vllm_stack_{chart}_archive": file["source"] for chart, file in charts.items()},
        **{f"vllm_stack_{chart}_sha256": file["sha256"] for chart, file in charts.items()},
    }
    made = next_release.changed(**given, fleet_models=[{**TINY, "max_replica_count": 3}])
    for wished in (made, made.changed(fleet_models=[GIANT])):
        wished.run("playbooks/bundle.yml", "--extra-vars", f"bundle_path={bundle}", *ALLOWED).expect(0)
    for file in folder.iterdir():
        file.unlink()
    return made.changed(fleet_bundle=str(bundle))


def started(host: str, moment: str) -> int:
    """Microseconds since the machine's boot, which all test hosts share."""
    return int(shell(host, f"systemctl show --property {moment}TimestampMonotonic --value k3s"))


def stop(host: str) -> None:
    subprocess.run(["podman", "stop", "--time", "5", host], check=True, capture_output=True)


def boot(host: str) -> None:
    subprocess.run(["podman", "start", host], check=True, capture_output=True)


def applied_mark(server: str) -> str:
    return CLUSTER.kubectl("--namespace vllm get configmap vllm-applied --output 'jsonpath={.data.values}'", server)


def wanted_mark(server: str) -> str:
    """The mark of the values that a server handed over."""
    values = json.loads(json.loads(shell(server, f"cat {MANIFEST}"))["spec"]["valuesContent"])
    return values["extraObjects"][-1]["data"]["values"]


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


def test_another_release_waits_until_restarts_are_allowed(new):
    before, hosts = CLUSTER.pids(), snapshot(HOSTS)
    assert "fleet_allow_restart=true" in new.run().expect(2).words
    changes = difference(hosts, snapshot(HOSTS))
    beyond = [line for lines in changes.values() for line in lines if "/run/gpufleet/lock.json" not in line]
    assert (CLUSTER.pids(), beyond) == (before, [])


def test_a_server_that_stays_slow_stops_the_upgrade_and_is_named(new, front_door):
    shell(S2, "touch /run/stand-in-slow")
    run = new.changed(k3s_timeout=15).run("site.yml", *ALLOWED).expect(2)
    assert f"{S2}: after 15 s it is no ready node of {NEW}" in run.words
    assert CLUSTER.versions() == {S1: NEW, S2: OLD, S3: OLD, A1: OLD, A2: OLD}
    assert CLUSTER.ready(S1, S3), "most servers are up"
    assert front_door.answers("tiny")
    assert "gpufleet-before-v1.36.3-k3s1" in shell(S2, "ls /var/lib/rancher/k3s/server/db/snapshots")


def test_one_that_is_only_slow_is_waited_for_and_a_failed_agent_stops_the_rest(new, front_door):
    shell(A1, "touch /run/stand-in-broken")
    awake = threading.Timer(45, shell, (S2, "rm /run/stand-in-slow"))
    awake.start()
    run = new.run("site.yml", *ALLOWED).expect(2)
    awake.join()
    assert f"{A1}: after 60 s it is no ready node" in run.words
    assert "failed to start containerd" in run.words, "its last words"
    assert CLUSTER.versions() == {S1: NEW, S2: NEW, S3: NEW, A1: OLD, A2: OLD}
    assert front_door.answers("tiny")


def test_the_next_run_goes_on_there(new, front_door):
    shell(A1, "rm /run/stand-in-broken")
    with front_door.load("tiny") as asked:
        new.run("site.yml", *ALLOWED).expect(0)
    assert asked["ok"]
    assert CLUSTER.versions() == dict.fromkeys(HOSTS, NEW)
    assert CLUSTER.in_use()
    assert front_door.ask("tiny")


def test_it_all_came_out_of_the_bundle(bundle):
    bundled = {path.name for path in (bundle / "files").rglob("*") if path.is_file()}
    charts = {"vllm-stack-0.1.12.tgz", "keda-2.21.1.tgz"}
    assert bundled == {"k3s", "install.sh", "engine-images.tar.zst", "lws-0.9.0.tgz", *charts}
    for server in CLUSTER.servers:
        assert set(shell(server, f"ls {CHARTS}").split()) == charts, "any server may be asked for a chart"
    for node in CLUSTER.nodes().values():
        assert node["status"]["images"] == [{"names": ["engine-images.tar.zst"]}]
    assert CLUSTER.kubectl("get customresourcedefinition scaledobjects.keda.sh")


def test_k3s_does_not_go_back(fleet):
    processes = CLUSTER.pids()
    assert "does not go back" in fleet.run("site.yml", *ALLOWED).expect(2).words
    assert CLUSTER.pids() == processes


def test_another_token_of_the_servers_is_no_way_in(new):
    processes, token = CLUSTER.pids(), new.secrets / "k3s-server.token"
    kept = token.read_text()
    try:
        token.write_text("another" * 6)
        assert "with other secrets" in new.run("site.yml", *ALLOWED).expect(2).words
    finally:
        token.write_text(kept)
    assert CLUSTER.pids() == processes


def test_without_its_first_server_the_cluster_takes_other_models_bounds(new, front_door):
    stop(S1)
    eventually(lambda: CLUSTER.ready(S2, S3, A1, A2, server=S2), 60, "the others carry on")
    assert front_door.ask("tiny")
    new.changed(fleet_models=FEWER).run("site.yml", *SILENT).expect(0)
    assert applied_mark(S2) == wanted_mark(S2)
    eventually(lambda: sum(map(len, CLUSTER.engines().values())) == 1, 30, "one pod is gone")


def test_what_it_handed_over_before_is_not_brought_back_for_good(new):
    boot(S1)
    eventually(lambda: CLUSTER.ready(S1, server=S2), 60, "the first server is back")
    eventually(lambda: applied_mark(S2) == wanted_mark(S1) != wanted_mark(S2), 30, "and applied what lay there")
    new.changed(fleet_models=FEWER).run().expect(0)
    assert handing_over() == [S2]
    assert applied_mark(S1) == wanted_mark(S2)


def test_a_server_is_taken_out_and_the_models_serve_on(new, front_door):
    running = CLUSTER.engines()
    new.run("playbooks/reset.yml", "--limit", S3, *CONFIRMED).expect(0)
    assert set(CLUSTER.nodes()) == set(HOSTS) - {S3}
    assert leavings(S3) == ""
    assert CLUSTER.engines() == running
    assert front_door.ask("tiny")


def test_a_server_with_other_critical_flags_is_no_way_in(new):
    shell(S3, f"mkdir -p /etc/rancher/k3s/config.yaml.d && echo 'flannel-backend: host-gw' >{OTHER_FLAGS}")
    run = new.changed(k3s_timeout=15).run().expect(2)
    assert "critical configuration mismatched: flannel-backend" in run.words
    assert "critical configuration value mismatch between servers" in run.words
    assert S3 not in CLUSTER.nodes()
    shell(S3, f"rm {OTHER_FLAGS}")


def test_it_joins_without_them_and_no_token_is_in_what_the_most_talkative_run_prints(new, tmp_path):
    cached = {
        "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
        "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(tmp_path / "facts"),
    }
    talkative = dataclasses.replace(new, settings=new.settings | cached)
    run = talkative.run("site.yml", "-vvv", "--diff").expect(0)
    assert CLUSTER.ready(S3)
    written = "".join(path.read_text() for path in (tmp_path / "facts").rglob("*") if path.is_file())
    assert "ansible_system" in written, "facts are cached"
    for token in tokens(new):
        assert token not in run.output
        assert token not in written
        for host in HOSTS:
            seen = "journalctl --no-pager; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null"
            assert token not in shell(host, seen, check=False)


def test_a_second_run_changes_nothing_and_restarts_nothing(new):
    running, processes = CLUSTER.engines(), CLUSTER.pids()
    assert sum(map(len, running.values())) == 2, "both pods are back"
    new.run().expect_unchanged()
    assert (CLUSTER.engines(), CLUSTER.pids()) == (running, processes)


def test_a_node_that_fails_is_named(new, front_door):
    shell(A1, "systemctl stop k3s-agent")
    eventually(lambda: not CLUSTER.ready(A1), 60, "the node is silent")
    assert f"The node {A1} is not ready" in new.run("playbooks/verify.yml").expect(2).words
    assert front_door.ask("tiny")
    stop(A1)
    try:
        for playbook in ("playbooks/preflight.yml", "playbooks/verify.yml", "site.yml"):
            assert f"{A1}: does not answer" in new.run(playbook).expect(2).words, playbook
    finally:
        boot(A1)
    eventually(CLUSTER.ready, 120, "the node is back")
    new.run("playbooks/verify.yml").expect(0)


def test_a_model_over_two_nodes_is_a_group_that_answers(new, front_door):
    groups = new.changed(fleet_models=[GIANT])
    groups.run("site.yml", *ALLOWED).expect(0)
    assert front_door.ask("giant")
    commands = {agent: shell(agent, "pgrep -af 'bin/vllm serv[e]'") for agent in (A1, A2)}
    ranks = {agent: re.search(r"--nnodes 2 --node-rank (\d)", command)[1] for agent, command in commands.items()}
    assert sorted(ranks.values()) == ["0", "1"]
    assert ["--headless" in commands[agent] for agent in (A1, A2)] == [ranks[agent] == "1" for agent in (A1, A2)]
    groups.run().expect_unchanged()
    assert "NotFound" in shell(S2, f"{KUBECTL} get customresourcedefinition scaledobjects.keda.sh", check=False)
    new.run("site.yml", *ALLOWED).expect(0)
    assert front_door.ask("tiny")


def test_a_helm_on_the_server_takes_its_turn(new, front_door):
    by_helm = new.changed(vllm_stack_delivery="helm")
    assert "both would set them" in by_helm.run().expect(2).words
    (server,) = handing_over()
    for release in ("vllm", "keda"):
        for kept in (f"helmchart.helm.cattle.io {release}", f"addon.k3s.cattle.io gpufleet-{release}"):
            CLUSTER.kubectl(f"--namespace kube-system delete {kept}", server)
        shell(server, f"rm {MANIFEST.replace('vllm', release)}")
    subprocess.run(["podman", "cp", CHECKOUT / "tests/k3s/helm", f"{server}:/usr/local/bin/helm"], check=True)
    shell(server, "apt-get --quiet install --yes python3-yaml")
    by_helm.run().expect(0)
    assert front_door.ask("tiny")
    by_helm.run().expect_unchanged()
    assert handing_over() == []
    fewer = by_helm.changed(fleet_models=FEWER)
    fewer.run().expect(0)
    eventually(lambda: sum(map(len, CLUSTER.engines().values())) == 1, 30, "one pod is gone")
    by_helm.run().expect(0)


def test_an_agent_is_taken_out_and_the_other_serves(new, front_door):
    new.run("playbooks/reset.yml", "--limit", A1, *CONFIRMED).expect(0)
    assert set(CLUSTER.nodes()) == set(HOSTS) - {A1}
    assert leavings(A1) == ""
    assert not engines(A1)
    eventually(lambda: front_door.answers("tiny"), 60, "the other agent serves")


def test_reset_takes_the_whole_cluster_away(new):
    new.run("playbooks/reset.yml", *CONFIRMED).expect(0)
    for host in HOSTS:
        assert not engines(host)
        assert leavings(host) == ""


def test_models_move_between_systemd_and_the_cluster_only_where_that_is_allowed(fleet, front_door):
    """From hosts with nothing on them to units, to a cluster, and back to units."""
    systemd = fleet.changed(fleet_tier=4, fleet_models=[TINY])
    units = "systemctl list-units --plain --no-legend 'gpufleet-tiny-*'"
    systemd.run("molecule/shared/mock_engine.yml").expect(0)
    systemd.run().expect(0)
    assert front_door.ask("tiny")
    for wanted, on_systemd in ((fleet, False), (systemd, True)):
        refused = wanted.run().expect(2)
        assert "say fleet_allow_tier_change=true: what runs there is drained and removed first" in refused.words
        assert front_door.ask("tiny")
        wanted.run("site.yml", "--extra-vars", "fleet_allow_tier_change=true").expect(0)
        assert front_door.ask("tiny")
        assert any(engines(agent) for agent in CLUSTER.agents)
        assert any(shell(agent, units) for agent in CLUSTER.agents) == on_systemd
        assert bool(handing_over()) != on_systemd
        last = wanted.run().expect(0)
        assert last.changed[A2] == sum(last.changed.values()) <= 1, "the plan's copy named what was removed"
        wanted.run().expect_unchanged()


@contextmanager
def mirror(folder: Path, host: str) -> Iterator[str]:
    """The address at which a host finds the files of a folder."""
    gateway = shell(host, "ip route show default").split()[2]
    server = ThreadingHTTPServer((gateway, 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{gateway}:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_the_role_alone_brings_a_node_with_its_gpus_from_a_mirror_and_out_of_a_bundle(fleet, tmp_path):
    host, playbook = "k3s-gpu", "molecule/k3s_life/gpus.yml"
    images = pinned(tmp_path / "engine-images.tar.zst", b"images")
    chart = pinned(tmp_path / "nvidia-device-plugin-0.18.2.tgz", b"a chart")
    alone = fleet.changed(k3s_bundle="", image_archive=images, device_plugin_archive=chart)
    with mirror(tmp_path, host) as address:
        mirrored = images | {"source": f"{address}/engine-images.tar.zst"}
        other = alone.changed(image_archive=mirrored | {"sha256": "0" * 64}).run(playbook).expect(2)
        assert "did not match" in other.words
        run = alone.changed(image_archive=mirrored).run(playbook).expect(2)
    assert "containerd has the runtimes runc, and pods with GPUs need nvidia" in run.words
    shell(host, "install -m 755 /bin/true /usr/bin/nvidia-container-runtime; systemctl restart k3s")
    shell(host, "echo 1 >/run/stand-in-gpus")
    bundled = alone.changed(k3s_bundle=str(tmp_path / "bundle"))
    run = bundled.run(playbook, "--extra-vars", "collect=true").expect(2)
    assert "The node k3s-gpu offers 1 nvidia.com/gpu, and the host has 2 GPUs" in run.words
    held = {path.name for path in (tmp_path / "bundle/files").rglob("*") if path.is_file()}
    assert held == {"k3s", "install.sh", "engine-images.tar.zst", "nvidia-device-plugin-0.18.2.tgz"}
    for file in (images, chart):
        Path(file["source"]).unlink()
    shell(host, "echo 2 >/run/stand-in-gpus")
    bundled.run(playbook).expect_unchanged()
    (node,) = Cluster((host,), ()).nodes().values()
    assert node["metadata"]["labels"]["nvidia.com/gpu.present"] == "true"
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "2"
    assert node["status"]["images"] == [{"names": ["engine-images.tar.zst"]}]
