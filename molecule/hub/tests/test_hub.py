# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models from a hub, fetched by the hub's own client: what comes, what goes wrong, and what is left then."""

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
REPOSITORIES = PROJECT / ".cache/hub-of-the-tests/repositories"
BIN = Path(sys.executable).parent
INVENTORIES = [f"--inventory={PROJECT}/tests/hosts/inventory", f"--inventory={SCENARIO}/inventory"]
ENDPOINT = "http://10.89.77.141:8080"
STORE = "/var/lib/gpufleet/models"
FETCHED = "/srv/fetched"
TOKEN = "hf_of-the-tests-alone"
WEIGHTS = "model.safetensors"
SHARD = "model-00001-of-00002.safetensors"


@pytest.fixture(scope="module")
def server():
    return testinfra.get_host("podman://hub-server")


@pytest.fixture(scope="module")
def node():
    return testinfra.get_host("podman://hub-node")


@pytest.fixture(autouse=True)
def fresh(server, node):
    """A hub that does as it should, with nothing noted, and nothing fetched beside the store."""
    rules(server)
    server.check_output("rm -f /srv/hub/requests.jsonl")
    node.check_output(f"rm -rf {FETCHED}")


def rules(server, **what):
    server.check_output("printf %s > /srv/hub/hub.json", json.dumps(what))


def requests(server):
    noted = server.run("cat /srv/hub/requests.jsonl").stdout.splitlines()
    return [json.loads(line) for line in noted]


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def commit(server, name):
    """The commit of a repository, as the hub tells it."""
    asked = server.check_output(f"curl -s {ENDPOINT}/api/models/{name}/revision/main")
    server.check_output("rm -f /srv/hub/requests.jsonl")
    return json.loads(asked)["sha"]


def download(server, name="org/large", files=(WEIGHTS,), **options):
    """Arguments of the module that fetches."""
    sizes = {
        file: (REPOSITORIES / name / file).stat().st_size for file in files if (REPOSITORIES / name / file).exists()
    }
    return {
        "repository": name,
        "commit": options.pop("commit", None) or commit(server, name),
        "directory": FETCHED,
        "files": [{"path": file, "size": sizes.get(file, 1)} for file in files],
        "endpoint": ENDPOINT,
        **options,
    }


def command(arguments, *more):
    return [
        str(BIN / "ansible"),
        "hub-node",
        *INVENTORIES,
        "--module-name=gpufleet.serving.model_download",
        f"--args={json.dumps(arguments)}",
        "--extra-vars=ansible_python_interpreter=/opt/hub-client/bin/python",
        *more,
    ]


def fetch(arguments, *more):
    return subprocess.run(
        command(arguments, *more),
        cwd=PROJECT,
        env={**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def refused(arguments):
    done = fetch(arguments)
    assert done.returncode == 2, done.stdout
    return json.loads(done.stdout.partition("=>")[2])["msg"]


def fetched(arguments):
    done = fetch(arguments)
    assert done.returncode == 0, done.stdout
    return json.loads(done.stdout.partition("=>")[2])


def converge(**variables):
    """Run the role with further variables; returns what was printed."""
    done = subprocess.run(
        [str(BIN / "ansible-playbook"), *INVENTORIES, f"--extra-vars={json.dumps(variables)}", "-vvv"]
        + [str(SCENARIO / "converge.yml")],
        cwd=PROJECT,
        env={**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    return done.returncode, done.stdout


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["tiny", "second"])
def test_what_an_engine_reads_is_in_its_place_byte_by_byte_and_nothing_else(node, server, name):
    place = f"{STORE}/{name}/{commit(server, f'org/{name}')[:12]}"
    wanted = [path for path in (REPOSITORIES / "org" / name).glob("*.*") if path.suffix in (".json", ".safetensors")]
    listed = node.check_output(f"find {place} -mindepth 1 -printf '%P\n'").split()
    assert sorted(listed) == sorted([".gpufleet-manifest.json", *(path.name for path in wanted)])
    for path in wanted:
        file = node.file(f"{place}/{path.name}")
        assert (file.sha256sum, file.user, file.mode) == (sha256(path), "root", 0o644), path.name


def test_a_file_that_was_cut_off_on_the_way_is_whole_in_the_end(node, server):
    rules(server, cut={WEIGHTS: 15_000_000})
    fetched(download(server))
    assert node.file(f"{FETCHED}/{WEIGHTS}").sha256sum == sha256(REPOSITORIES / "org/large" / WEIGHTS)
    assert [asked["range"] for asked in requests(server) if asked["method"] == "GET"][-1].startswith("bytes=")


def test_a_fetch_that_was_killed_goes_on_where_it_was(node, server):
    rules(server, bytes_per_second=8_000_000)
    arguments = download(server)
    incomplete = f"{FETCHED}/{WEIGHTS}.incomplete"
    process = subprocess.Popen(command(arguments), cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: node.file(incomplete).exists and node.file(incomplete).size > 0)
    node.check_output("pkill -KILL -x python3")
    assert process.wait(timeout=60) != 0
    arrived = node.file(incomplete).size
    assert 0 < arrived < (REPOSITORIES / "org/large" / WEIGHTS).stat().st_size
    assert not node.file(f"{FETCHED}/{WEIGHTS}").exists

    rules(server)
    server.check_output("rm -f /srv/hub/requests.jsonl")
    fetched(arguments)
    assert node.file(f"{FETCHED}/{WEIGHTS}").sha256sum == sha256(REPOSITORIES / "org/large" / WEIGHTS)
    (asked,) = (asked for asked in requests(server) if asked["method"] == "GET")
    assert asked["range"] == f"bytes={arrived}-"


def test_a_limit_is_waited_for_as_long_as_the_hub_says(server):
    rules(server, limit=2, retry_after=1)
    arguments = download(server, "org/tiny", ["config.json"], commit="main")
    begun = time.monotonic()
    fetched(arguments)
    # the client adds a second to each
    assert time.monotonic() - begun > 4
    assert len(requests(server)) > 2


def test_a_limit_that_does_not_end_is_given_up(server):
    rules(server, limit=99, retry_after=0)
    assert "limits the rate of requests (HTTP 429)" in refused(
        download(server, "org/tiny", ["config.json"], commit="main")
    )


@pytest.mark.parametrize(
    ("what", "arguments", "told"),
    [
        ({"private": ["org/tiny"]}, {}, "it is private: give a token as fleet_hub_token"),
        ({"token": "another"}, {"token": TOKEN}, "fleet_hub_token may not see it, or is not valid any more"),
        ({"gated": ["org/tiny"]}, {}, "is gated: accept its conditions there with an account"),
        (
            {"gated": ["org/tiny"], "token": TOKEN},
            {"token": TOKEN},
            "is gated: accept its conditions there with the account of fleet_hub_token",
        ),
        ({}, {"commit": "0" * 40}, "has no such revision"),
        ({}, {"repository": "org/nothing"}, "/org/nothing does not exist (HTTP 401)"),
        ({}, {"files": [{"path": "nothing.json", "size": 1}]}, "has no such file in this revision"),
    ],
)
def test_a_hub_that_refuses_is_heard(node, server, what, arguments, told):
    asked = download(server, "org/tiny", ["config.json"]) | arguments
    rules(server, **what)
    assert told in refused(asked)
    assert node.run(f"find {FETCHED} -type f").stdout == ""


def test_a_disk_that_becomes_full_is_named_and_cleaned_up(node, server):
    node.check_output(f"mkdir -p {FETCHED} && mount -t tmpfs -o size=20m tmpfs {FETCHED}")
    try:
        told = refused(download(server, directory=f"{FETCHED}/model.partial"))
        left = node.check_output(f"find {FETCHED} -mindepth 1")
    finally:
        node.check_output(f"umount {FETCHED}")
    assert f"the disk of {FETCHED}/model.partial became full while {ENDPOINT}/org/large was fetched" in told
    assert left == ""


def test_a_wrong_byte_is_refused_and_nothing_is_in_place(node, server):
    place = f"{STORE}/tiny/{commit(server, 'org/tiny')[:12]}"
    node.check_output(f"rm -rf {place}")
    rules(server, wrong=[SHARD])
    code, said = converge()
    assert code == 2
    assert f"{place}.partial/{SHARD}: arrived with sha256" in said
    assert not node.file(place).exists
    assert not node.file(f"{place}.partial/{SHARD}").exists

    rules(server)
    server.check_output("rm -f /srv/hub/requests.jsonl")
    code, said = converge()
    assert code == 0, said
    assert node.file(f"{place}/{SHARD}").sha256sum == sha256(REPOSITORIES / "org/tiny" / SHARD)
    assert not node.file(f"{place}.partial").exists
    asked = {asked["place"] for asked in requests(server) if "/resolve/" in asked["place"]}
    assert asked == {f"/org/tiny/resolve/{commit(server, 'org/tiny')}/{SHARD}"}, "the rest had come already"


def test_the_token_reaches_the_hub_and_no_log_and_no_argument_list(node, server):
    place = f"{STORE}/second/{commit(server, 'org/second')[:12]}"
    node.check_output(f"rm -rf {place}")
    rules(server, token=TOKEN, private=["org/tiny", "org/second"], bytes_per_second=200)
    watch = "while sleep 0.02; do cat /proc/[0-9]*/cmdline | tr '\\0' ' '; done > /srv/seen"
    node.check_output(f"systemd-run --quiet --unit=watch sh -c {json.dumps(watch)}")
    try:
        code, said = converge(fleet_hub_token=TOKEN)
    finally:
        node.check_output("systemctl stop watch")
    assert code == 0, said
    assert TOKEN not in re.sub(r"EXEC .*--extra-vars.*", "", said)
    seen = node.check_output("cat /srv/seen")
    assert "/opt/hub-client/bin/python" in seen
    assert TOKEN not in seen
    by_port = {asked["port"]: asked["token"] for asked in requests(server)}
    assert by_port == {8080: True, 8081: False}
    assert node.run(f"grep -rl {TOKEN} /var/lib/gpufleet /etc /root /tmp").stdout == ""
