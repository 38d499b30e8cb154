# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._devices import Device
from ansible_collections.gpufleet.serving.plugins.plugin_utils._findings import Findings
from ansible_collections.gpufleet.serving.plugins.plugin_utils._fleet import (
    LOST,
    PLANNED,
    REFUSED,
    UNREACHABLE,
    read_fleet,
)
from ansible_collections.gpufleet.serving.plugins.plugin_utils._settings import Settings
from ansible_collections.gpufleet.serving.plugins.plugin_utils._text import GIB
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.fleets import (
    cpu_host,
    facts,
    gpu,
    gpu_host,
    host,
)

H100, L40S = "H100-SXM-80GB", "L40S-48GB"
SLICES = [{"uuid": f"MIG-{number}", "profile": "3g.40gb", "memory_mib": 40448, "index": number} for number in range(2)]


def fleet(hosts, **settings):
    findings = Findings()
    return read_fleet(hosts, Settings(**settings), findings), findings


def only(described, **settings):
    """The one host, and the codes of refusals and warnings about it."""
    found, findings = fleet({"h": described}, **settings)
    return found.hosts["h"], [finding.code for finding in findings.refusals + findings.warnings]


def told(*gpus, state="ok", **words):
    machine = words.pop("machine", {})
    return host(1, facts=facts(*gpus, state=state, **machine), reachable=True, **words)


def test_hosts_stand_in_natural_order():
    found, _findings = fleet({"gpu10": gpu_host(10), "gpu9": gpu_host(9)})
    assert list(found.hosts) == ["gpu9", "gpu10"]


def test_stated_gpus_are_devices_by_index():
    found, codes = only(gpu_host(1, H100, 2))
    assert found.devices == (Device("0", 0, H100), Device("1", 1, H100))
    assert not codes


def test_told_gpus_are_devices_by_uuid_with_the_memory_that_a_program_sees():
    described = told(gpu(0), gpu(1))
    found, findings = fleet({"h": described})
    assert found.hosts["h"].devices == (Device("GPU-00000000", 0, H100), Device("GPU-00000001", 1, H100))
    assert found.kinds[H100].memory_bytes == int(79.18 * GIB)
    assert not findings.refusals


def test_a_kind_has_the_memory_of_its_smallest_device():
    found, _findings = fleet({"a": told(gpu(0), gpu(1, uuid="GPU-x", usable_gib=77.0)), "b": gpu_host(2, H100, 1)})
    assert found.kinds[H100].memory_bytes == 77 * GIB


def test_a_host_may_carry_several_kinds():
    described = host(1, fleet_gpus=[{"model": H100, "count": 1}, {"model": L40S, "count": 2}])
    found, codes = only(described)
    assert [device.key for device in found.devices] == [H100, L40S, L40S]
    assert not codes


def test_slices_are_devices_of_a_kind_of_their_own():
    found, findings = fleet({"h": told(gpu(0, mig_mode="Enabled", mig_devices=SLICES), gpu(1))})
    assert [device.id for device in found.hosts["h"].devices] == ["MIG-0", "MIG-1", "GPU-00000001"]
    kind = found.kinds[f"{H100}/3g.40gb"]
    assert (kind.sliced, kind.memory_bytes) == (True, 40448 * 2**20)
    assert not findings.refusals


def test_a_gpu_in_mig_mode_without_slices_is_named():
    found, codes = only(told(gpu(0, mig_mode="Enabled"), gpu(1)))
    assert [device.index for device in found.devices] == [1]
    assert codes == ["mig_without_slices"]


@pytest.mark.parametrize("broken", [{"memory_mib": None}, {"uuid": None}])
def test_a_slice_of_which_nothing_is_told_is_refused(broken):
    found, codes = only(told(gpu(0, mig_mode=True, mig_devices=[SLICES[0] | broken])))
    assert (found.state, codes) == (REFUSED, ["unknown_gpu"])


def test_a_bare_host_is_planned_by_pci_id_and_index():
    bare = gpu(0, uuid=None, source="pci", usable_gib=None, memory_mib=None)
    found, codes = only(told(bare, state="no_driver"))
    assert (found.devices, codes) == ((Device("0", 0, H100),), [])


def test_the_inventory_decides_between_the_boards_that_a_pci_id_can_mean():
    bare = gpu(0, None, uuid=None, source="pci", usable_gib=None, candidates=["A100-SXM-80GB", "A100-SXM-40GB"])
    found, codes = only(told(bare, state="no_driver", fleet_gpus=[{"model": "A100-SXM-40GB", "count": 1}]))
    assert (found.devices, codes) == ((Device("0", 0, "A100-SXM-40GB"),), [])
    found, codes = only(told(bare, state="no_driver"))
    assert (found.state, codes) == (REFUSED, ["unknown_gpu"])


def test_an_unknown_gpu_is_planned_by_what_its_driver_tells():
    strange = gpu(0, None, name="NVIDIA X9", usable_gib=30.0)
    found, findings = fleet({"h": told(strange)})
    assert found.kinds["NVIDIA X9"].memory_bytes == 30 * GIB
    assert [warning.code for warning in findings.warnings] == ["unknown_gpu"]


@pytest.mark.parametrize("state", ["gpu_lost", "driver_mismatch", "hung", "unreadable"])
def test_a_host_whose_driver_does_not_work_is_not_planned(state):
    found, findings = fleet({"h": told(gpu(0), state=state)})
    assert found.hosts["h"].state == REFUSED
    (refusal,) = findings.refusals
    assert (refusal.code, refusal.subject) == ("gpu_state", "h")
    assert state in refusal.reason
    assert len(refusal.remedies) == 2


def test_an_unknown_gpu_that_is_too_old_is_refused_by_what_its_driver_tells():
    _found, codes = only(told(gpu(0, None, name="Tesla K80", usable_gib=11.0, compute_capability="3.7")))
    assert codes == ["gpu_too_old"]


def test_one_lost_gpu_makes_the_state_of_the_host():
    _found, codes = only(told(gpu(0), gpu(1, lost=True)))
    assert codes == ["gpu_state"]


def test_gpus_that_the_engine_does_not_run_on_are_refused():
    _found, codes = only(told(gpu(0, "V100-SXM-32GB", usable_gib=31.7)))
    assert codes == ["gpu_too_old"]


@pytest.mark.parametrize(
    "stated",
    [
        [{"model": H100, "count": 8}],
        [{"model": L40S, "count": 2}],
        [{"model": H100, "count": 1}, {"model": L40S, "count": 1}],
    ],
)
def test_inventory_and_host_must_agree(stated):
    found, findings = fleet({"h": told(gpu(0), gpu(1), fleet_gpus=stated)})
    (refusal,) = findings.refusals
    assert (refusal.code, refusal.subject, found.hosts["h"].state) == ("gpus_disagree", "h", REFUSED)
    assert f"2 x {H100}" in refusal.reason
    assert f"{stated[0]['count']} x {stated[0]['model']}" in refusal.reason


def test_stated_gpus_that_the_host_does_not_have_disagree():
    _found, findings = fleet({"h": told(state="no_gpu", fleet_gpus=[{"model": H100, "count": 8}])})
    assert findings.refusals[0].reason == f"fleet_gpus says 8 x {H100}, and the host has no GPU"


@pytest.mark.parametrize(
    ("fleet_gpus", "code", "subject", "remedy"),
    [
        ([{"model": "H100", "count": 8}], "unknown_gpu_key", "h.fleet_gpus[0].model", "H100"),
        ([{"model": "H100-SXM-80G", "count": 8}], "unknown_gpu_key", "h.fleet_gpus[0].model", f"did you mean {H100}?"),
        ([{"count": 8}], "unknown_gpu_key", "h.fleet_gpus[0].model", "use one of"),
        ([{"model": H100, "count": 0}], "bad_value", "h.fleet_gpus[0].count", "from 1"),
        ([{"model": H100, "cont": 8}], "unknown_option", "h.fleet_gpus[0].cont", "did you mean count?"),
        ("H100", "bad_value", "h.fleet_gpus", "a list"),
    ],
)
def test_a_wrong_statement_is_named_where_it_stands(fleet_gpus, code, subject, remedy):
    _found, findings = fleet({"h": host(1, fleet_gpus=fleet_gpus)})
    refusal = findings.refusals[0]
    assert (refusal.code, refusal.subject) == (code, subject)
    assert remedy in refusal.remedies[0]


def test_cpu_hosts_offer_ranks_of_the_granted_kv_space():
    found, findings = fleet({"h": cpu_host(1, devices=2, kv_gib=4)})
    assert [device.id for device in found.hosts["h"].devices] == ["cpu:0", "cpu:1"]
    assert found.kinds["cpu-4gib"].memory_bytes == 4 * GIB
    assert not findings.refusals


def test_a_cpu_host_has_one_rank_unless_it_says_more():
    found, _codes = only(host(1, fleet_cpu_kv_gib=1))
    assert len(found.devices) == 1


def test_kv_space_is_whole_gib():
    _found, findings = fleet({"h": host(1, fleet_cpu_kv_gib=1.5)})
    assert findings.refusals[0].subject == "h.fleet_cpu_kv_gib"


@pytest.mark.parametrize(("total", "limit", "expected"), [(64, None, 64), (64, 8, 8), (None, None, None), (8, 64, 8)])
def test_a_host_may_use_the_smaller_of_ram_and_cgroup_limit(total, limit, expected):
    machine = {"memory_total_bytes": total, "cgroup_memory_limit_bytes": limit}
    found, _codes = only(told(state="no_gpu", fleet_cpu_kv_gib=1, machine=machine))
    assert found.memory_bytes == expected


@pytest.mark.parametrize("described", [host(1), told(state="no_gpu"), told(state="no_driver")])
def test_a_server_without_anything_to_serve_with_is_refused(described):
    _found, findings = fleet({"h": described})
    (refusal,) = findings.refusals
    assert (refusal.code, refusal.subject) == ("no_devices", "h")
    assert "fleet_cpu_kv_gib" in " ".join(refusal.remedies)


def test_a_gateway_needs_no_devices():
    found, findings = fleet({"g": host(1, "gateways"), "h": gpu_host(2)})
    assert found.hosts["g"].devices == ()
    assert not findings.refusals


def test_without_servers_there_is_no_fleet():
    _found, findings = fleet({"g": host(1, "gateways")})
    assert [refusal.code for refusal in findings.refusals] == ["no_hosts"]


FABRIC = {
    "interfaces": [
        {"name": "lo", "addresses": [{"address": "127.0.0.1"}]},
        {"name": "ib0", "addresses": [{"address": "fe80::1"}, {"address": "fd00::5"}, {"address": "192.168.7.5"}]},
        {"name": "eth1", "addresses": []},
    ]
}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"address": "10.0.0.1"}, "10.0.0.1"),
        ({"address": None}, "10.9.9.9"),
        ({"fleet_fabric_interface": "ib0"}, "192.168.7.5"),
    ],
)
def test_the_address_is_the_fabrics_the_inventorys_or_the_hosts_own(words, expected):
    found, codes = only(told(gpu(0), machine=FABRIC, **words))
    assert (found.address, codes) == (expected, [])


def test_a_host_that_nobody_asked_goes_by_its_address_or_name():
    assert only(gpu_host(1, fleet_fabric_interface="ib0"))[0].address == "10.0.0.1"
    assert only(gpu_host(1, address=None))[0].address == "h"


@pytest.mark.parametrize(
    ("interface", "reason"), [("ib9", "does not have"), ("eth1", "has no address"), ("lo", "has no address")]
)
def test_a_fabric_without_an_address_is_refused(interface, reason):
    _found, findings = fleet({"h": told(gpu(0), machine=FABRIC, fleet_fabric_interface=interface)})
    (refusal,) = findings.refusals
    assert refusal.code == "no_fabric_address"
    assert reason in refusal.reason
    assert "ib0" in refusal.remedies[0]


@pytest.mark.parametrize("address", ["gpu1.example.org", "0.0.0.0", "::"])
def test_an_engine_must_be_able_to_bind_the_address(address):
    _found, codes = only(told(gpu(0), address=address))
    assert codes == ["no_address"]


def test_two_names_for_one_machine_are_found_out():
    _found, findings = fleet({"a": gpu_host(1), "b": gpu_host(1)})
    assert [(refusal.code, refusal.subject) for refusal in findings.refusals] == [("same_host_twice", "a, b")]
    _found, findings = fleet({"a": gpu_host(1, reachable=False), "b": gpu_host(1)}, lost_hosts=("a",))
    assert findings.refusals == []
    _found, findings = fleet({"a": told(gpu(0), address="10.0.0.1"), "b": told(gpu(0), address="10.0.0.2")})
    assert [refusal.code for refusal in findings.refusals] == ["same_host_twice"]


@pytest.mark.parametrize(
    ("words", "settings", "state"),
    [
        ({"reachable": None}, {}, PLANNED),
        ({"reachable": True}, {}, PLANNED),
        ({"reachable": False}, {}, UNREACHABLE),
        ({"reachable": False}, {"lost_hosts": ("h",)}, LOST),
    ],
)
def test_a_host_is_planned_unreachable_or_lost(words, settings, state):
    assert only(gpu_host(1, **words), **settings)[0].state == state


def test_unknown_words_about_a_host_are_named():
    _found, findings = fleet({"h": gpu_host(1) | {"fleet_gpu": []}})
    assert findings.refusals[0].remedies == ("did you mean fleet_gpus?",)
