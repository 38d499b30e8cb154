# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who reaches what, as the hosts themselves see it. Each test leaves the rules as converge.yml put them in force."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.serving.plugins.module_utils._ports import try_ports
from harness import Fleet, Run, eventually, reboot, shell, stop

CONVERGE, AUDIT = "molecule/perimeter/converge.yml", "playbooks/audit.yml"
NODE1, NODE2, GATEWAY = "perimeter-node1", "perimeter-node2", "perimeter-gw"
ADDRESSES = {GATEWAY: "10.89.77.181", NODE1: "10.89.77.182", NODE2: "10.89.77.183"}
LISTING = "nft --stateless list table inet gpufleet"
BY_SECOND_PORT = ("-e", "ansible_ssh_extra_args='-o Port=8022'")
SECONDS = 12
"""How long rules are on trial in these tests."""


def from_here(host: str, port: int) -> str:
    """How a port looks from this machine, which is outside the fleet."""
    (tried,) = try_ports([(ADDRESSES[host], port)], timeout_s=2.5)
    return tried.state


def answers(scanner: str, host: str, port: int) -> bool:
    """Whether a port answers a host of the fleet."""
    said = shell(scanner, f"curl -s -o /dev/null -m 3 http://{ADDRESSES[host]}:{port}/ && echo yes", check=False)
    return said.strip() == "yes"


def doors(*ports: int, purpose: str = "replica tiny-0", **options: object) -> tuple[str, str]:
    """Options of the role that close some ports to everybody."""
    closed = [{"first_port": port, "last_port": port, "purpose": purpose, "sources": []} for port in ports]
    return "-e", json.dumps({"perimeter_doors": closed, "perimeter_rollback_timeout": SECONDS, **options})


def site_rules(host: str) -> str:
    return shell(host, "nft --stateless list table inet site")


@pytest.fixture
def role(tmp_path: Path) -> str:
    """A playbook that runs the role on one host, with what ``doors`` says."""
    play = {"hosts": NODE1, "gather_facts": False, "roles": ["gpufleet.serving.perimeter"]}
    path = tmp_path / "role.yml"
    path.write_text(yaml.safe_dump([play]), encoding="utf-8")
    return str(path)


@pytest.fixture
def before() -> dict[str, str]:
    return {host: shell(host, LISTING) for host in ADDRESSES}


def unchanged(before: dict[str, str]) -> bool:
    return before == {host: shell(host, LISTING, check=False) for host in before}


def test_from_outside_nothing_answers_but_the_front_door_and_ssh():
    ports = {NODE1: (22, 8022, 8000, 40000), NODE2: (22, 8022, 8000, 40000), GATEWAY: (22, 443, 9145)}
    targets = [(ADDRESSES[host], port) for host in ports for port in ports[host]]
    found: dict[str, set[int]] = {"answers": set(), "silent": set(), "refuses": set()}
    for tried in try_ports(targets, timeout_s=2.5):
        found[tried.state].add(tried.port)
    assert found == {"answers": {22, 8022, 443}, "silent": {8000, 40000, 9145}, "refuses": set()}


def test_the_front_door_reaches_the_engines_and_members_do_not_reach_each_other():
    assert answers(GATEWAY, NODE1, 8000) and answers(GATEWAY, NODE2, 8000)
    assert not answers(GATEWAY, NODE1, 40000), "what an engine chose for itself is for nobody"
    assert not answers(NODE2, NODE1, 8000)
    assert answers(NODE1, NODE1, 8000) and answers(NODE1, NODE1, 40000), "a host reaches itself"
    assert shell(NODE1, "curl -sS -m 5 http://10.89.77.181:443/ -o /dev/null -w '%{http_code}'").strip() == "200"


def test_the_sites_own_rules_stand_and_their_flush_takes_ours_along_for_no_longer_than_a_moment(before):
    theirs = site_rules(NODE1)
    assert "tcp dport 7777" in theirs
    for verb in ("reload", "restart", "stop", "start"):
        shell(NODE1, f"systemctl {verb} nftables.service")
        assert unchanged(before), f"after {verb}"
    assert site_rules(NODE1) == theirs


def test_systemd_has_nothing_to_say_of_the_units():
    units = "gpufleet-perimeter.service gpufleet-perimeter-rollback.service gpufleet-perimeter-rollback.timer"
    said = shell(
        NODE1, f"cd /etc/systemd/system && systemd-analyze --man=no verify {units} nftables.service", check=False
    )
    assert [line for line in said.splitlines() if "perimeter" in line or "nftables" in line] == []


def test_an_audit_finds_what_was_opened_by_hand_and_names_it(fleet: Fleet):
    fleet.run(AUDIT).expect_unchanged()
    shell(NODE1, "nft insert rule inet gpufleet input tcp dport 8000 accept")
    shell(NODE2, "cp /usr/bin/python3 /usr/local/bin/vllm; systemd-run --unit by-hand vllm -m http.server 9000")
    run = fleet.run(AUDIT).expect(2)
    assert f"{NODE1} port 8000 (python3 (gpufleet-listener@8000.service" in run.words
    assert f"{NODE2} port 9000 (vllm (by-hand.service" in run.words
    assert f"exposed from localhost, {GATEWAY}, {NODE1}." in run.words, "seen from outside and from the other hosts"
    shell(NODE2, "systemctl stop by-hand; rm /usr/local/bin/vllm")
    run = fleet.run(CONVERGE, "--limit", NODE1).expect(0)
    assert run.changed[NODE1] > 0, "rules that somebody changed are put right"
    fleet.run(AUDIT).expect_unchanged()


def test_rules_that_shut_the_operator_out_are_taken_back(fleet: Fleet, role, before):
    """ssh goes to port 8022 by its own settings, of which Ansible knows nothing, and the rules close that port."""
    process = fleet.start(role, *doors(8000, 8022), *BY_SECOND_PORT)
    try:
        eventually(lambda: from_here(NODE1, 8022) == "silent", 120, "the wrong rules come into force")
        assert from_here(NODE1, 22) == "answers"
        output, _none = process.communicate(timeout=180)
    finally:
        if process.poll() is None:
            stop(process)
    run = Run(process.returncode, output).expect(2)
    assert "under the new rules no new connection came about, and the host has gone back" in run.words
    assert from_here(NODE1, 8022) == "answers" and unchanged(before)


def test_rules_of_a_run_that_was_cut_off_are_taken_back(fleet: Fleet, role, before):
    process = fleet.start(role, *doors(8000, 8022), *BY_SECOND_PORT)
    eventually(lambda: "dport 8022" in shell(NODE1, LISTING), 120, "the rules come into force")
    stop(process)
    eventually(lambda: unchanged(before), SECONDS + 10, "the host goes back")


def test_rules_that_close_ansibles_own_port_or_that_nft_refuses_never_come_into_force(fleet: Fleet, role, before):
    run = fleet.run(role, *doors(8000, 22)).expect(2)
    assert f"{NODE1}: Ansible comes by port 22, which would be closed" in run.words
    run = fleet.run(role, *doors(8000, purpose='a "quoted" word')).expect(2)
    assert f"{NODE1}: inet gpufleet: 'nft --check --file -' ended with 1" in run.words and "syntax error" in run.words
    assert unchanged(before)


def test_the_rules_are_there_after_a_boot(before):
    reboot(NODE1)
    eventually(lambda: shell(NODE1, "systemctl is-system-running", check=False).strip() == "running", 60, "it is back")
    assert unchanged(before) and "tcp dport 7777" in site_rules(NODE1)
    assert from_here(NODE1, 8000) == "silent"


def test_where_the_site_looks_after_it_nothing_of_ours_is_left(fleet: Fleet):
    site = fleet.changed(perimeter_manage=False)
    site.run(CONVERGE).expect(0)
    for host in ADDRESSES:
        left = shell(
            host,
            "nft list tables; find /etc -path '*gpufleet*' -name '*perimeter*' -o -path '*nftables.service.d/*';"
            "systemctl list-unit-files --plain --no-legend 'gpufleet-perimeter*'",
            check=False,
        )
        assert left.split() == ["table", "inet", "site"], left
    site.run(CONVERGE).expect_unchanged()
    assert from_here(NODE1, 8000) == "answers"
    fleet.run(CONVERGE).expect(0)
    assert from_here(NODE1, 8000) == "silent"
