# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model of 2 GiB on four hosts: what went over the network, and what happens when a host dies on the way.

The first test reads what the hosts have received and sent since they were made, so the order of the tests matters.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import testinfra

SCENARIO = Path(__file__).resolve().parents[1]
PROJECT = SCENARIO.parents[1]
MODEL = PROJECT / ".cache/fan-out-of-the-tests/large"
ROOT = "/var/lib/gpufleet/models/large"
NAMES = ["fan-1", "fan-2", "fan-3", "fan-4"]
FIRST_SHARD = "model-00001-of-00003.safetensors"
COMMAND = [
    str(Path(sys.executable).with_name("ansible-playbook")),
    f"--inventory={PROJECT}/tests/hosts/inventory",
    f"--inventory={SCENARIO}/inventory",
    str(SCENARIO / "converge.yml"),
]

MIB = 2**20
MODEL_BYTES = sum(path.stat().st_size for path in MODEL.iterdir())
MARGIN = 0.1 * MODEL_BYTES
"""What packets' heads, package lists and Ansible itself may take beside the model."""


@pytest.fixture(scope="module", name="hosts")
def all_hosts():
    return {name: testinfra.get_host(f"podman://{name}") for name in NAMES}


def traffic(host):
    """Bytes that a host has received and sent since it was started."""
    folder = "/sys/class/net/eth0/statistics"
    return tuple(int(host.check_output(f"cat {folder}/{counter}")) for counter in ("rx_bytes", "tx_bytes"))


def from_the_controller(hosts):
    """Bytes that the hosts have received and that none of them sent."""
    return sum(received - sent for received, sent in map(traffic, hosts.values()))


@pytest.fixture(scope="module")
def place(hosts):
    """The model's folder, the same on every host."""
    (name,) = hosts["fan-1"].check_output(f"ls {ROOT}").split()
    return f"{ROOT}/{name}"


def sums(host, folder):
    """The sha256 of the files of a folder by name."""
    lines = host.check_output(f"cd {folder} && sha256sum *").splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def expected_sums():
    wanted = [path for path in MODEL.iterdir() if path.suffix in (".json", ".safetensors")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in wanted}


def start(**variables):
    return subprocess.Popen(
        [*COMMAND, f"--extra-vars={json.dumps(variables)}", "-v"],
        cwd=PROJECT,
        env={**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def converge(**variables):
    """Run the role, and return what was printed."""
    process = start(**variables)
    output, _none = process.communicate(timeout=900)
    return process.returncode, output


def wait_for(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.1)


def is_closed(host):
    return not host.file("/run/systemd/system/gpufleet-weights.service").exists and not host.check_output(
        "ss --no-header --listening --tcp --numeric 'sport = :8730'"
    )


def test_the_model_left_the_controller_once_and_no_host_more_than_twice(hosts):
    counted = {name: traffic(host) for name, host in hosts.items()}
    assert MODEL_BYTES < from_the_controller(hosts) < MODEL_BYTES + 4 * MARGIN, counted
    for name in NAMES:
        assert counted[name][0] < MODEL_BYTES + MARGIN, counted
        assert counted[name][1] < 2 * MODEL_BYTES + MARGIN, counted


def test_it_is_whole_on_every_host(hosts, place):
    wanted = expected_sums()
    for host in hosts.values():
        assert sums(host, place) == wanted
        assert host.check_output(f"stat --format '%U %a' {place}/* | sort -u") == "root 644"


def test_nothing_is_open_afterwards(hosts):
    assert all(is_closed(host) for host in hosts.values())


def test_a_second_run_moves_nothing_and_reads_nothing(hosts):
    """Of 2 GiB, a host whose caches are cold would read at least the weights; what it hashes is told as well."""
    before = {name: traffic(host) for name, host in hosts.items()}
    status, output = converge()
    assert status == 0, output
    assert re.findall(r"changed=(\d+)", output) == ["0"] * (1 + len(NAMES))
    assert set(re.findall(r'"hashed": (\d+)', output)) == {"0"}
    for name, host in hosts.items():
        assert traffic(host)[1] - before[name][1] < 10 * MIB


def test_what_arrives_with_another_sum_is_refused_and_named(hosts, place):
    """A file of the sender that changed without a trace: its size and time are those that it was verified with."""
    sender, receiver = hosts["fan-1"], hosts["fan-4"]
    file = f"{place}/tokenizer.json"
    sender.check_output(f"cp -p {file} /tmp/kept && printf '[]' > {file} && touch -r /tmp/kept {file}")
    receiver.check_output(f"rm {file}")
    try:
        status, output = converge()
    finally:
        sender.check_output(f"cat /tmp/kept > {file} && touch -r /tmp/kept {file}")
    assert status == 2, output
    assert f"{place}.partial/tokenizer.json: arrived with sha256" in output
    assert "It came from fan-1" in output
    assert all(is_closed(host) for host in hosts.values())

    status, output = converge()
    assert status == 0, output
    assert receiver.file(file).content_string == "{}"


@pytest.mark.parametrize(
    ("dying", "receiver"), [("fan-4", "fan-4"), ("fan-1", "fan-3")], ids=["who-receives", "who-sends"]
)
def test_where_a_host_dies_on_the_way_the_next_run_goes_on_where_it_was(hosts, place, dying, receiver):
    """fan-1 sends to fan-3, and fan-2 to fan-4."""
    arriving = f"{place}.partial/{FIRST_SHARD}"
    for name in ("fan-3", "fan-4"):
        hosts[name].check_output(f"rm -r {place}")
    process = start(model_store_fan_out_mib_per_second=40)
    try:
        wait_for(lambda: hosts[receiver].file(arriving).exists and hosts[receiver].file(arriving).size > 300 * MIB)
    finally:
        subprocess.run(["podman", "stop", "--time=0", dying], check=True, capture_output=True)
    output, _none = process.communicate(timeout=900)
    assert process.returncode != 0, output
    assert dying in output

    subprocess.run(["podman", "start", dying], check=True, capture_output=True)
    wait_for(lambda: hosts[dying].run("systemctl is-system-running --wait").stdout.strip() == "running")
    had = hosts[receiver].file(arriving).size
    assert had > 300 * MIB
    assert not hosts[receiver].file(place).exists
    before, _sent = traffic(hosts[receiver])

    status, output = converge()
    assert status == 0, output
    received, _sent = traffic(hosts[receiver])
    assert received - before < MODEL_BYTES - had + MARGIN
    wanted = expected_sums()
    for name in ("fan-3", "fan-4"):
        assert sums(hosts[name], place) == wanted
    assert all(is_closed(host) for host in hosts.values())


def test_one_source_for_all_sends_four_times_as_much(hosts, place):
    """Prints how long both take here, where all hosts share the cores: a network of its own would show more."""
    figures = {}
    for fan_out in (True, False):
        for host in hosts.values():
            host.check_output(f"rm -r {place}")
        before = from_the_controller(hosts)
        begun = time.monotonic()
        status, output = converge(model_store_fan_out=fan_out)
        figures[fan_out] = time.monotonic() - begun
        assert status == 0, output
        copies = 1 if fan_out else len(NAMES)
        assert copies * MODEL_BYTES < from_the_controller(hosts) - before < copies * MODEL_BYTES + 4 * MARGIN
    print(f"\n2 GiB to four hosts: from host to host {figures[True]:.0f} s, from one source {figures[False]:.0f} s")
