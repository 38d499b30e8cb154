# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recorded hosts, held against what a plan would have on them."""

from __future__ import annotations

import copy
import functools
import json
import tempfile
from pathlib import Path

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._host_facts import host_stack
from ansible_collections.gpufleet.serving.plugins.plugin_utils._plan import plan
from ansible_collections.gpufleet.serving.plugins.plugin_utils._preflight import preflight, sections
from ansible_collections.gpufleet.serving.tests.unit.plugins.module_utils.host_recordings import ask, lay_out
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.fleets import PUBLIC, gpu_host, model, shape


@functools.cache
def _answers(case, changes):
    with tempfile.TemporaryDirectory() as folder:
        lay_out(case, Path(folder) / "host", **json.loads(changes))
        facts, state = ask(Path(folder) / "host", timeout_s=1 if case == "hung" else 60)
    facts["host"] |= {"glibc": "2.36", "hostname": "gpu1", "fqdn_address": "127.0.1.1"}
    state |= {"listeners": [], "python": {"program": "python3", "version": "3.11.2"}, "replicas": []}
    state["shm"] = {"free_bytes": 2**36, "total_bytes": 2**36}
    return facts, state


@pytest.fixture
def recorded():
    """What a recorded host answers, its description changed; a copy that a test may change further."""
    return lambda case, **changes: copy.deepcopy(_answers(case, json.dumps(changes)))


def replica(*devices, port=8000, name="tiny-0"):
    ranks = [{"device": device, "host": "gpu1"} for device in devices]
    return {"head": "gpu1", "name": name, "port": port, "ranks": ranks}


def held(facts, state, *replicas, accelerator="cuda", **solving):
    """What is found of one host. gateway and perimeter: the options of those roles in its share."""
    share = {role: solving.pop(role) for role in ("gateway", "perimeter") if role in solving}
    stack = host_stack(facts, state, **solving)["stack"] if accelerator == "cuda" else None
    plan = {
        "hosts": {"gpu1": {"accelerator": accelerator, "stack": stack}},
        "refusals": [],
        "replicas": list(replicas),
        "shares": {"gpu1": share} if share else {},
        "warnings": [],
    }
    result = preflight(plan, {"gpu1": {"facts": facts, "preflight": state}})
    assert json.loads(json.dumps(result)) == result
    assert all(finding["remedy"] and finding["seen"] for finding in result["findings"])
    return result


def found(result):
    return [(finding["severity"], finding["check"], finding["seen"]) for finding in result["findings"]]


def changed(state, **parts):
    """A state with some of its parts changed, key by key."""
    return state | {
        name: state[name] | part if isinstance(part, dict) and isinstance(state[name], dict) else part
        for name, part in parts.items()
    }


@pytest.mark.parametrize("case", ["hgx_h100", "a100_40_mig"])
def test_hosts_that_are_well(case, recorded):
    facts, state = recorded(case)
    result = held(facts, state, replica(*(gpu["uuid"] for gpu in facts["gpus"])))
    assert (result["findings"], result["checked"], result["unchecked"]) == ([], ["gpu1"], [])


def test_a_cpu_host_is_not_asked_for_a_driver(recorded):
    facts, state = recorded("bare_h100")
    facts |= {"gpus": [], "state": "no_gpu", "nvswitch": False}
    state = changed(state, shm={"total_bytes": 2**26})
    assert held(facts, state, replica("cpu:0", "cpu:1"), accelerator="cpu")["findings"] == []


def test_a_bare_host_that_a_run_puts_right(recorded):
    facts, state = recorded("bare_h100", headers=False, nouveau=True)
    result = held(facts, state)
    assert {finding["severity"] for finding in result["findings"]} == {"note"}
    words = " ".join(f"{finding['seen']} {finding['remedy']}" for finding in result["findings"])
    assert "site.yml installs driver 580.178.04" in words and "nouveau drives the GPUs" in words
    assert "error 802" in words and "headers" in words


def test_a_bare_host_that_nobody_may_touch(recorded):
    facts, state = recorded("bare_h100", nouveau=True)
    result = held(facts, state, manage=False)
    assert [finding["severity"] for finding in result["findings"]] == ["blocking"] * 3


def test_a_container_is_told_that_it_loads_no_modules(recorded):
    facts, state = recorded("bare_h100", container="podman")
    seen = [text for severity, check, text in found(held(facts, state)) if check == "kernel modules"]
    assert seen == ["the host is a container (podman): it cannot load kernel modules"]


STATES = {
    "mismatch": ("driver", "does not fit", "reboot the host"),
    "lost_no_handle": ("driver", "0000:a1:00.0", "reset or replace the GPU"),
    "hung": ("driver", "no answer in time", "Xid"),
}


@pytest.mark.parametrize("case", STATES)
def test_gpus_in_a_state_that_cannot_serve(case, recorded):
    check, seen, remedy = STATES[case]
    result = held(*recorded(case))
    first = result["findings"][0]
    assert (first["severity"], first["check"]) == ("blocking", check)
    assert seen in first["seen"] and remedy in first["remedy"]


def test_the_xid_behind_a_lost_gpu_is_named_and_a_programs_own_fault_is_not(recorded):
    seen = [text for _severity, check, text in found(held(*recorded("lost_no_handle"))) if check == "xid"]
    assert seen == ["0000:a1:00.0: Xid 79 (2 times) since boot, it fell off the bus"]


def test_an_xid_of_a_host_that_is_well_again_is_a_warning(recorded):
    facts, state = recorded("l40s", processes=[], faults={})
    log = [{"number": 119, "pci_address": "0000:41:00.0", "count": 1, "text": "Timeout", "nvswitch": False}]
    assert [severity for severity, *_rest in found(held(facts, state | {"kernel_log": log}))] == ["warning"]
    fatal = [{"number": 20034, "pci_address": "0000:c4:00.0", "count": 1, "text": "Fatal, LTSSM", "nvswitch": True}]
    assert found(held(facts, state | {"kernel_log": fatal}))[0][0] == "blocking"
    harmless = [{"number": 12028, "pci_address": "0000:c4:00.0", "count": 3, "text": "Non-fatal, x", "nvswitch": True}]
    assert found(held(facts, state | {"kernel_log": harmless}))[0][0] == "warning"


def test_a_log_that_cannot_be_read(recorded):
    facts, state = recorded("l40s", processes=[], faults={})
    assert found(held(facts, state | {"kernel_log": None}))[0][:2] == ("warning", "xid")


FABRIC = {
    "not running": ({"units": {}}, "is not installed: CUDA would fail with error 802"),
    "failed": (
        {"units": {"nvidia-fabricmanager.service": "failed", "nvidia-persistenced.service": "active"}},
        "the fabric manager is failed (running)",
    ),
    "another version": ({"fabric_manager": "580.65.06"}, "fabric manager 580.65.06 with driver 580.95.05"),
    "still joining": ({"gpus": {"fabric_state": "In Progress", "fabric_status": "N/A"}}, "has not joined the fabric"),
    "joined badly": ({"gpus": {"fabric_state": "Completed", "fabric_status": "Failure"}}, "Completed, Failure"),
}


@pytest.mark.parametrize(("changes", "words"), FABRIC.values(), ids=FABRIC)
def test_a_fabric_that_is_not_ready(changes, words, recorded):
    findings = [item for item in found(held(*recorded("hgx_h100", **changes))) if item[1] == "fabric"]
    assert {severity for severity, *_rest in findings} == {"blocking"}
    assert words in findings[0][2]


@pytest.mark.parametrize(
    ("fault", "severity", "words"),
    [
        ({"rows_failed": "Yes"}, "blocking", "defective row that cannot be replaced"),
        ({"rows_pending": "Yes", "volatile": 1}, "warning", "waits for a reset"),
        ({"volatile": 2}, "warning", "2 uncorrectable memory errors"),
        ({"recovery_action": "Reboot"}, "blocking", "asks for a recovery: Reboot"),
        ({"link_width": 8}, "warning", "uses 8 of 16 PCIe lanes"),
        ({"nvlinks_up": 17}, "warning", "17 of 18 NVLinks up"),
        ({"nvlinks_up": 0}, "warning", "0 of 18 NVLinks up"),
    ],
)
def test_a_gpu_that_is_not_well(fault, severity, words, recorded):
    ((seen_severity, _check, seen),) = found(held(*recorded("hgx_h100", faults={"00000000:3A:00.0": fault})))
    assert (seen_severity, words in seen, "0000:3a:00.0" in seen) == (severity, True, True)


def test_an_unused_nvlink_bridge_connector_is_no_fault(recorded):
    facts, state = recorded("l40s", processes=[], faults={}, gpus={"nvlinks": 4, "nvlinks_up": 0})
    assert held(facts, state)["findings"] == []


def test_somebody_else_on_a_gpu_that_a_replica_is_to_have(recorded):
    facts, state = recorded("l40s", faults={})
    first, second = (gpu["uuid"] for gpu in facts["gpus"][:2])
    ((severity, _check, seen),) = found(held(facts, state, replica(first)))
    assert severity == "blocking"
    assert "jupyter-lab (process 4711, user@1000.service, 8192 MiB) uses GPU 0000:21:00.0, which a replica" in seen
    assert found(held(facts, state, replica(second)))[0][0] == "warning"
    state["gpu_processes"][0]["memory_mib"] = 40
    assert found(held(facts, state, replica(first)))[0][0] == "warning"
    state["gpu_processes"][0]["unit"] = "gpufleet-tiny-0.service"
    assert found(held(facts, state, replica(first))) == []


def test_a_slice_is_known_by_its_board(recorded):
    facts, state = recorded("a100_40_mig")
    state["gpu_processes"] = [
        {"pid": 7, "name": "python3", "unit": None, "uid": 0, "memory_mib": None, "pci_address": "0000:07:00.0"}
    ]
    part = facts["gpus"][0]["mig_devices"][0]["uuid"]
    assert found(held(facts, state, replica(part)))[0][0] == "blocking"


@pytest.mark.parametrize(
    ("part", "value", "severity", "check"),
    [
        ("shm", {"total_bytes": 2**26, "free_bytes": 2**26}, "warning", "shared memory"),
        ("limits", {"nofile": 1024}, "warning", "limits"),
        ("time_synchronised", False, "warning", "time"),
        ("python", {"version": "3.9.18"}, "blocking", "python"),
        ("driver", {"module": "580.178.04"}, "warning", "driver"),
        ("driver", {"persistenced": {"active": False}}, "warning", "driver"),
        ("listeners", [{"port": 8000, "name": "python3", "pid": 9, "unit": "app.service"}], "blocking", "ports"),
    ],
)
def test_what_else_can_be_wrong(part, value, severity, check, recorded):
    facts, state = recorded("hgx_h100")
    uuids = [gpu["uuid"] for gpu in facts["gpus"][:2]]
    result = held(facts, changed(state, **{part: value}), replica(*uuids))
    assert [item[:2] for item in found(result)] == [(severity, check)]


@pytest.mark.parametrize(
    ("value", "check"),
    [
        ({"memory_total_bytes": 2**32}, "memory"),
        ({"glibc": "2.31"}, "python"),
        ({"fqdn_address": None}, "names"),
        ({"disks": {path: {"free_bytes": 2**20, "measured_at": "/"} for path in ("/opt", "/var")}}, "disk"),
    ],
)
def test_what_can_be_wrong_with_the_machine(value, check, recorded):
    facts, state = recorded("hgx_h100")
    facts["host"] |= value
    uuids = [gpu["uuid"] for gpu in facts["gpus"][:2]]
    assert [item[1] for item in found(held(facts, state, replica(*uuids)))] == [check]


def test_a_containers_limits_are_only_noted(recorded):
    facts, state = recorded("hgx_h100", container="podman", nofile=20000)
    result = held(facts, changed(state, time_synchronised=False), replica(facts["gpus"][0]["uuid"]))
    assert [item[:2] for item in found(result)] == [("note", "limits")]


def test_our_own_ports_are_ours(recorded):
    facts, state = recorded("hgx_h100")
    gateway = {"gateway_models": [{}], "gateway_listen_port": 443, "gateway_metrics_port": 9145}
    mine = [
        {"port": 8000, "name": "vllm", "pid": 9, "unit": "gpufleet-tiny-0.service"},
        {"port": 443, "name": "nginx", "pid": 10, "unit": "nginx.service"},
        {"port": 22, "name": "sshd", "pid": 11, "unit": "ssh.service"},
    ]
    one = replica(facts["gpus"][0]["uuid"])
    assert held(facts, state | {"listeners": mine}, one, gateway=gateway)["findings"] == []
    mine[1]["name"] = "apache2"
    ((severity, _check, seen),) = found(held(facts, state | {"listeners": mine}, one, gateway=gateway))
    assert severity == "blocking"
    assert "port 443, which the front door is to have, is taken by apache2 (nginx.service)" in seen


def test_what_others_listen_on_where_engines_choose_their_ports_is_told(recorded):
    facts, state = recorded("hgx_h100")
    closed = {
        "perimeter_doors": [
            {"first_port": 8000, "last_port": 8000, "purpose": "replica tiny-0"},
            {"first_port": 32768, "last_port": 60999, "purpose": "ports that engines choose for themselves"},
        ],
        "perimeter_open_ports": [50052],
    }
    triton = {"port": 50051, "name": "tritonserver", "pid": 9, "unit": "triton.service", "loopback": False}
    well = [
        triton | {"port": 50052},
        triton | {"loopback": True, "port": 50053},
        triton | {"port": 2049},
        triton | {"port": 50054, "unit": "gpufleet-tiny-0.service"},
    ]
    assert found(held(facts, state | {"listeners": well}, perimeter=closed)) == []
    ((severity, check, seen),) = found(held(facts, state | {"listeners": [*well, triton]}, perimeter=closed))
    assert (severity, check) == ("warning", "perimeter")
    assert "tritonserver (triton.service) listens on port 50051" in seen
    assert found(held(facts, state | {"listeners": [triton]})) == [], "where there is no perimeter nothing is closed"


def test_the_table_has_one_row_a_finding_the_worst_first(recorded):
    facts, state = recorded("l40s")
    result = held(facts, state, replica(facts["gpus"][0]["uuid"]))
    (section,) = sections(result)
    assert section.summary == "1 host checked, 1 blocking, 1 warning"
    assert [row[:3] for row in section.rows] == [("blocking", "gpu1", "processes"), ("warning", "gpu1", "links")]
    assert all(" -> " in row[3] for row in section.rows)
    assert result["counts"] == {"blocking": 1, "warning": 1, "note": 0}


NOBODY = {"hosts": {"gpu1": {}, "gpu2": {}}, "refusals": [], "replicas": [], "shares": {}, "warnings": []}


def test_hosts_that_were_not_asked_are_named():
    result = preflight(NOBODY, {"gpu1": {"facts": None, "preflight": None}})
    assert (result["unchecked"], result["findings"]) == (["gpu1", "gpu2"], [])
    assert next(sections(result)).summary == "0 hosts checked, nothing found; not checked: gpu1, gpu2"


@pytest.mark.parametrize(("allowed", "severity"), [(False, "blocking"), (True, "warning")])
def test_a_host_that_does_not_answer_blocks_unless_the_operator_goes_on_without_it(allowed, severity):
    hosts = {"gpu1": gpu_host(1) | {"reachable": False, "preflight": None}}
    made = plan([model("tiny")], hosts, {"tiny": shape()}, settings=PUBLIC | {"allow_unreachable": allowed})
    result = preflight(made, hosts)
    (flaw,) = result["findings"]
    assert (flaw["host"], flaw["severity"], flaw["check"]) == ("gpu1", severity, "answer")
    assert flaw["seen"].startswith("does not answer")
    assert result["counts"][severity] == 1
