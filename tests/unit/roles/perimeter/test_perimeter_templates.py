# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules that the role perimeter writes, rendered by Ansible itself. nft judges them on the test hosts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLE = Path(__file__).resolve().parents[4] / "roles" / "perimeter"
RANGE = {"first_port": 32768, "last_port": 60999, "purpose": "chosen", "sources": []}


def variables():
    return yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))


def rules(doors, trusts=(), open_ports=()):
    """The rules of the chain, one a line."""
    templar = Templar(DataLoader())
    templar.available_variables = variables() | {
        "perimeter_doors": list(doors),
        "perimeter_trusts": list(trusts),
        "perimeter_open_ports": list(open_ports),
    }
    text = (ROLE / "templates/etc/gpufleet/perimeter/rules.nft.j2").read_text(encoding="utf-8")
    rendered = templar.template(trust_as_template(text))
    assert rendered.count("{") == rendered.count("}")
    before, _hook, chain = rendered.partition("policy accept;\n")
    assert "delete table inet gpufleet\n" in before and "flush" not in before, "no table but ours"
    return [line.strip() for line in chain.splitlines()]


def door(port, *sources):
    return {"first_port": port, "last_port": port, "purpose": f"replica tiny-{port - 8000}", "sources": list(sources)}


def test_a_port_is_for_its_sources_and_nobody_else():
    assert rules([door(8000, "10.0.0.9", "fd00::9", "10.7.0.0/24"), door(8001)]) == [
        'iif "lo" accept',
        "ct state established,related accept",
        'tcp dport 8000 ip saddr { 10.0.0.9, 10.7.0.0/24 } accept comment "replica tiny-0"',
        'tcp dport 8000 ip6 saddr { fd00::9 } accept comment "replica tiny-0"',
        'tcp dport 8000 counter drop comment "replica tiny-0"',
        'tcp dport 8001 counter drop comment "replica tiny-1"',
        "}",
        "}",
    ]


def test_a_port_of_udp_is_closed_as_one():
    vxlan = door(8472, "10.0.0.2") | {"protocol": "udp", "purpose": "network of the pods"}
    assert rules([vxlan])[2:-2] == [
        'udp dport 8472 ip saddr { 10.0.0.2 } accept comment "network of the pods"',
        'udp dport 8472 counter drop comment "network of the pods"',
    ]


def test_members_come_first_and_open_ports_before_the_ranges_that_hold_them():
    trust = {"interface": "ib0", "sources": ["10.1.0.2", "10.1.0.3"], "purpose": "replica big-0"}
    assert rules([RANGE, door(8000)], [trust], [50051, 8000])[2:-2] == [
        'iifname "ib0" meta l4proto tcp ip saddr { 10.1.0.2, 10.1.0.3 } accept comment "replica big-0"',
        'tcp dport 8000 counter drop comment "replica tiny-0"',
        'tcp dport { 50051, 8000 } accept comment "ports of others"',
        'tcp dport 32768-60999 counter drop comment "chosen"',
    ]


@pytest.mark.parametrize(
    ("port", "closed"),
    [(22, []), (8000, ["replica tiny-0"]), (8001, ["replica tiny-1"]), (8472, []), (40000, ["chosen"])],
)
def test_the_port_by_which_ansible_comes_is_looked_for(port, closed):
    templar = Templar(DataLoader())
    doors = [door(8000), door(8001) | {"protocol": "tcp"}, door(8472) | {"protocol": "udp"}, RANGE]
    templar.available_variables = {"perimeter_doors": doors, "ansible_port": str(port)} | {
        name: trust_as_template(value) for name, value in variables().items() if isinstance(value, str)
    }
    assert list(templar.template(trust_as_template("{{ __perimeter_in_the_way }}"))) == closed


def test_every_unit_that_the_role_writes_and_removes_has_a_template():
    written = {str(path.relative_to(ROLE / "templates/etc/systemd/system")) for path in ROLE.rglob("system/**/*.j2")}
    assert written == {f"{name}.j2" for name in variables()["__perimeter_unit_files"]}
