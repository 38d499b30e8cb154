# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._command import Outcome
from ansible_collections.gpufleet.serving.plugins.module_utils._host import (
    count_cpu_list,
    first_address,
    measure_disk,
    parse_default_interface,
    parse_interfaces,
    read_cpu,
    read_host,
    read_numa_nodes,
    read_os,
)

# Constructed in the shape that iproute2 6.1.0 prints.
ADDRESSES = [
    {
        "ifindex": 1,
        "ifname": "lo",
        "flags": ["LOOPBACK", "UP", "LOWER_UP"],
        "mtu": 65536,
        "operstate": "UNKNOWN",
        "link_type": "loopback",
        "address": "00:00:00:00:00:00",
        "addr_info": [{"family": "inet", "local": "127.0.0.1", "prefixlen": 8, "scope": "host", "label": "lo"}],
    },
    {
        "ifindex": 2,
        "link_index": 3,
        "ifname": "eth0",
        "flags": ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"],
        "mtu": 1500,
        "operstate": "UP",
        "link_type": "ether",
        "address": "02:00:0a:59:01:15",
        "addr_info": [
            {"family": "inet6", "local": "fe80::aff:fe59:115", "prefixlen": 64, "scope": "link"},
            {"family": "inet", "local": "10.89.1.21", "prefixlen": 24, "broadcast": "10.89.1.255", "scope": "global"},
        ],
    },
    {"ifindex": 3, "ifname": "ib0", "mtu": 4092, "operstate": "DOWN", "link_type": "infiniband", "addr_info": []},
]
ETH0 = {
    "name": "eth0",
    "state": "up",
    "mtu": 1500,
    "mac": "02:00:0a:59:01:15",
    "addresses": [
        {"address": "fe80::aff:fe59:115", "prefix": 64, "family": "inet6"},
        {"address": "10.89.1.21", "prefix": 24, "family": "inet"},
    ],
}
IB0 = {"name": "ib0", "state": "down", "mtu": 4092, "mac": None, "addresses": []}


def test_parse_interfaces():
    assert parse_interfaces(json.dumps(ADDRESSES)) == [ETH0, IB0]


@pytest.mark.parametrize("text", ["", "[]", "{}", "[{}]", 'Object "addr" is unknown'])
def test_interfaces_that_cannot_be_read(text):
    assert parse_interfaces(text) == []


ROUTES = {
    "one": ([{"dst": "default", "gateway": "10.89.1.1", "dev": "eth0", "flags": []}], "eth0"),
    "the smaller metric": ([{"dev": "wlan0", "metric": 600}, {"dev": "eth0", "metric": 100}], "eth0"),
    "no metric is the smallest": ([{"dev": "wlan0", "metric": 600}, {"dev": "eth0"}], "eth0"),
    "none": ([], None),
    "one without a device": ([{"dst": "default", "type": "blackhole"}], None),
}


@pytest.mark.parametrize(("routes", "interface"), ROUTES.values(), ids=ROUTES)
def test_parse_default_interface(routes, interface):
    assert parse_default_interface(json.dumps(routes)) == interface


@pytest.mark.parametrize(("name", "address"), [("eth0", "10.89.1.21"), ("ib0", None), ("none", None), (None, None)])
def test_first_address(name, address):
    assert first_address([ETH0, IB0], name) == address


CPU_LISTS = {"0": 1, "0-3": 4, "0-3,8,10-11": 7, "0-55,112-167": 112, "": 0}


@pytest.mark.parametrize(("text", "count"), CPU_LISTS.items(), ids=repr)
def test_count_cpu_list(text, count):
    assert count_cpu_list(text) == count


def cpuinfo(cpus, flags):
    return "\n\n".join(
        f"processor\t: {number}\nmodel name\t: AMD EPYC 9554\nphysical id\t: {socket}\ncore id\t\t: "
        f"{core}\nflags\t\t: {flags}"
        for number, (socket, core) in enumerate(cpus)
    )


CPUS = {
    "two sockets with two threads a core": (
        cpuinfo([(0, 0), (0, 1), (1, 0), (1, 1)] * 2, "fpu avx2 avx512f avx512_bf16"),
        {"model": "AMD EPYC 9554", "logical": 8, "physical": 4, "sockets": 2, "flags_avx512": True},
    ),
    "no AVX-512": (
        cpuinfo([(0, 0)], "fpu avx2"),
        {"model": "AMD EPYC 9554", "logical": 1, "physical": 1, "sockets": 1, "flags_avx512": False},
    ),
    "an ARM that tells little": (
        "processor\t: 0\nBogoMIPS\t: 2000.00\nFeatures\t: fp asimd\n\nprocessor\t: 1\nFeatures\t: fp asimd\n\n",
        {"model": None, "logical": 2, "physical": None, "sockets": None, "flags_avx512": False},
    ),
    "nothing": ("", {"model": None, "logical": 0, "physical": None, "sockets": None, "flags_avx512": False}),
}


@pytest.mark.parametrize(("text", "cpu"), CPUS.values(), ids=CPUS)
def test_read_cpu(text, cpu, tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(text)
    assert read_cpu(tmp_path) == cpu


def test_read_numa_nodes(tmp_path):
    for number, (cpus, kib) in {10: ("56-111", 2048), 2: ("0-55", 1024)}.items():
        node = tmp_path / f"sys/devices/system/node/node{number}"
        node.mkdir(parents=True)
        (node / "cpulist").write_text(cpus + "\n")
        (node / "meminfo").write_text(f"Node {number} MemTotal:       {kib} kB\nNode {number} MemFree: 5 kB\n")
    assert read_numa_nodes(tmp_path) == [
        {"id": 2, "cpus": 56, "memory_bytes": 2**20},
        {"id": 10, "cpus": 56, "memory_bytes": 2**21},
    ]


def test_read_os(tmp_path):
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/os-release").write_text(
        'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n'
    )
    assert read_os(tmp_path) == {"id": "debian", "version_id": "12", "name": "Debian GNU/Linux 12 (bookworm)"}
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text("ID=ubuntu\n")
    assert read_os(tmp_path) == {"id": "ubuntu", "version_id": None, "name": None}


def test_a_disk_is_measured_at_the_nearest_parent(tmp_path):
    disk = measure_disk(str(tmp_path / "not" / "yet"))
    assert disk["measured_at"] == str(tmp_path)
    assert 0 < disk["free_bytes"] < disk["total_bytes"]


def test_a_host_that_tells_nothing(tmp_path):
    host = read_host(tmp_path, lambda _argv: Outcome(rc=None, missing=True), ["/"])
    assert host["disks"]["/"]["measured_at"] == "/"
    told = {name: value for name, value in host.items() if value not in (None, [])}
    assert set(told) == {"hostname", "kernel", "architecture", "os", "python_version", "glibc", "cpu", "disks"}


def test_a_host_that_tells_all(tmp_path):
    files = {
        "proc/meminfo": "MemTotal:       24684092 kB\nMemAvailable:   24014484 kB\n",
        "proc/sys/kernel/hostname": "gpu-01\n",
        "proc/sys/kernel/osrelease": "6.1.0-38-amd64\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    answers = {
        ("ip", "-json", "addr", "show"): json.dumps(ADDRESSES),
        ("ip", "-json", "-6", "route", "show", "default"): json.dumps([{"dev": "eth0", "metric": 1024}]),
        ("getent", "ahosts", "gpu-01"): "127.0.1.1       STREAM gpu-01\n127.0.1.1       DGRAM\n",
    }
    host = read_host(tmp_path, lambda argv: Outcome(rc=0, stdout=answers.get(tuple(argv), "")), [])
    assert host["memory_total_bytes"] == 24684092 * 1024
    assert host["memory_available_bytes"] == 24014484 * 1024
    assert (host["hostname"], host["kernel"]) == ("gpu-01", "6.1.0-38-amd64")
    assert (host["default_interface"], host["default_address"], host["fqdn_address"]) == (
        "eth0",
        "10.89.1.21",
        "127.0.1.1",
    )
