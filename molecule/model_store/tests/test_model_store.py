# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies on the host after converging, and what the role does when things go wrong."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCENARIO = Path(__file__).resolve().parents[1]
PROJECT = SCENARIO.parents[1]
MODELS = PROJECT / ".cache/models-of-the-tests"
ROOT = "/var/lib/gpufleet/models"
JSON_RESULTS = {**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
FACTS = "/etc/ansible/facts.d/gpufleet_model_store.fact"


def content_id(directory: Path) -> str:
    """The id spelt out anew: sha256 over path, size and sha256 of what an engine reads."""
    digest = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.suffix in (".json", ".safetensors", ".jinja")):
        data = path.read_bytes()
        name = path.relative_to(directory)
        digest.update(f"{name}\0{len(data)}\0{hashlib.sha256(data).hexdigest()}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def sent(name: str, root: str = ROOT) -> dict[str, str]:
    """A model from the controller, as the plan would list it."""
    identity = content_id(MODELS / name)
    return {
        "name": name,
        "source_kind": "controller",
        "source": str(MODELS / name),
        "content_id": identity,
        "path": f"{root}/{name}/{identity[7:19]}",
    }


SHARDED = sent("sharded")
ON_HOST = {"name": "on-host", "source_kind": "host", "source": "/srv/models/on-host", "path": "/srv/models/on-host"}


def command(models: list[dict[str, str]], **options: object) -> list[str]:
    return [
        str(Path(sys.executable).with_name("ansible-playbook")),
        f"--inventory={PROJECT}/tests/hosts/inventory",
        f"--inventory={SCENARIO}/inventory",
        f"--extra-vars={json.dumps({'model_store_models': models, **options})}",
        str(SCENARIO / "converge.yml"),
    ]


def apply(models: list[dict[str, str]], **options: object) -> subprocess.CompletedProcess[str]:
    """Converge with other models, and return what happened."""
    return subprocess.run(
        command(models, **options),
        cwd=PROJECT,
        env=JSON_RESULTS,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


def converge(models: list[dict[str, str]], **options: object) -> int:
    """Converge, and return the number of changes on the host."""
    done = apply(models, **options)
    assert done.returncode == 0, done.stdout
    return int(re.search(r"model-store-1 .*changed=(\d+)", done.stdout).group(1))


def refused(models: list[dict[str, str]], **options: object) -> str:
    """Converge in vain, and return what was printed."""
    done = apply(models, **options)
    assert done.returncode == 2, done.stdout
    return done.stdout


def listing(host, path: str = ROOT) -> str:
    """Every file and directory with inode, times, owner and mode."""
    return host.check_output(f"find {path} -printf '%p %i %T@ %C@ %U:%G %m\\n' | sort")


def test_model_is_in_its_place_byte_by_byte(host):
    for source in sorted(path for path in (MODELS / "sharded").rglob("*") if path.is_file()):
        name = source.relative_to(MODELS / "sharded")
        file = host.file(f"{SHARDED['path']}/{name}")
        if name.suffix == ".md" or name.name.startswith("."):
            assert not file.exists, name
            continue
        assert (file.sha256sum, file.user, file.group, file.mode) == (
            hashlib.sha256(source.read_bytes()).hexdigest(), "root", "root", 0o644
        ), name  # fmt: skip
    assert host.file(SHARDED["path"]).mode == 0o755
    assert not host.file(f"{SHARDED['path']}.partial").exists


def test_engines_user_can_read_it(host):
    for path in (SHARDED["path"], ON_HOST["path"]):
        assert host.run(f"runuser -u vllm -- cat {path}/config.json {path}/*.safetensors").rc == 0


def test_what_is_applied_is_written_down(host):
    facts = json.loads(host.file(FACTS).content_string)
    assert facts == {
        "share": "0123456789abcdef",
        "options": {"model_store_models": [SHARDED, ON_HOST], "model_store_keep_paths": []},
    }


def test_second_run_believes_size_and_time(host):
    """Other bytes of the same size and time go unseen: nothing is read again."""
    path = f"{SHARDED['path']}/tokenizer.json"
    host.check_output(f"cp -p {path} /tmp/kept && printf '[]' > {path} && touch -r /tmp/kept {path}")
    assert converge([SHARDED, ON_HOST]) == 0
    assert host.file(path).content_string == "[]"
    host.check_output(f"cat /tmp/kept > {path} && touch -r /tmp/kept {path}")


def test_changed_file_is_named_and_replaced_alone(host):
    path = f"{SHARDED['path']}/model-00002-of-00003.safetensors"
    before = listing(host).splitlines()
    host.check_output(f"echo more >> {path}")
    done = apply([SHARDED, ON_HOST])
    assert done.returncode == 0, done.stdout
    size = (MODELS / "sharded/model-00002-of-00003.safetensors").stat().st_size
    message = (
        f"{SHARDED['path']}, to be replaced: model-00002-of-00003.safetensors: {size + 5} bytes, verified with {size}"
    )
    assert message in done.stdout
    assert host.file(path).sha256sum == hashlib.sha256((MODELS / "sharded" / Path(path).name).read_bytes()).hexdigest()
    untouched = [line for line in before if line.endswith("644") and "00002" not in line and "manifest" not in line]
    assert set(untouched) <= set(listing(host).splitlines())
    assert len(untouched) == 6


@pytest.fixture
def another(host):
    """A second model that is not on the host, and is gone again afterwards."""
    model = sent("another")
    yield model
    host.check_output(f"rm -rf {ROOT}/another")


def test_killed_copy_leaves_nothing_in_place_and_goes_on(host, another):
    staging = f"{another['path']}.partial"
    process = subprocess.Popen(
        command([SHARDED, ON_HOST, another]), cwd=PROJECT, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for(lambda: host.run(f"ls {staging}").stdout.split())
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    arrived = host.run(f"find {staging} -type f -printf '%f %i\\n'").stdout.splitlines()
    assert 0 < len(arrived) < 8, arrived
    assert not host.file(another["path"]).exists

    converge([SHARDED, ON_HOST, another])
    assert not host.file(staging).exists
    assert set(arrived) <= set(host.check_output(f"find {another['path']} -type f -printf '%f %i\\n'").splitlines())


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def test_disk_that_is_too_small_is_refused_before_the_first_byte(host):
    before = listing(host)
    host.check_output("mkdir -p /mnt/small && mount -t tmpfs -o size=1m tmpfs /mnt/small")
    try:
        message = refused([SHARDED, ON_HOST, sent("another", "/mnt/small")], model_store_min_free_gib=0.1)
        assert host.check_output("find /mnt/small") == "/mnt/small"
    finally:
        host.check_output("umount /mnt/small")
    assert (
        "model-store-1: the missing models need 0.1 GiB on the filesystem of /mnt/small (model_store_min_free_gib 0.1 "
        "included), it has 0.0 GiB free. Make room, move model_store_root to a larger filesystem, or "
        "list fewer models and run site.yml with -e model_store_prune=true"
    ) in message
    assert listing(host) == before


def test_model_on_the_host_that_the_engine_cannot_read_is_refused(host):
    host.check_output("chmod 0600 /srv/models/on-host/model.safetensors")
    message = refused([SHARDED, ON_HOST])
    host.check_output("chmod 0644 /srv/models/on-host/model.safetensors")
    assert (
        "user vllm cannot read /srv/models/on-host/model.safetensors: it is -rw------- of 0:0: give everybody the "
        "right to read, chmod -R a+rX /srv/models/on-host"
    ) in message


def test_user_that_does_not_exist_is_refused(host):
    before = listing(host)
    message = refused([SHARDED], model_store_user="nobody-made-it")
    assert (
        "model-store-1: user nobody-made-it does not exist, so nobody could read the models. The role "
        "gpufleet.serving.engine makes it: run that first, or name another user in model_store_user"
    ) in message
    assert listing(host) == before


def test_only_models_of_the_store_that_nobody_lists_are_removed(host):
    """By the role used alone, which also writes no facts."""
    old, kept, own = f"{ROOT}/old/{'a' * 12}", f"{ROOT}/kept/{'b' * 12}", f"{ROOT}/own/by-hand"
    host.check_output(f"mkdir -p {old} {old}.partial {kept} {own} && touch {old}/config.json && mv {FACTS} /tmp/facts")
    unlisted = listing(host)
    alone = {"model_store_keep_paths": [kept], "model_store_share_id": ""}
    assert converge([SHARDED, ON_HOST], **alone) == 0
    assert listing(host) == unlisted, "nothing is removed unless asked for"

    assert converge([SHARDED, ON_HOST], entry="prune", **alone) == 1
    assert not host.file(f"{ROOT}/old").exists
    for path in (kept, own, SHARDED["path"], ON_HOST["path"]):
        assert host.file(path).is_directory, path
    assert not host.file(FACTS).exists
    host.check_output(f"rm -r {ROOT}/kept {ROOT}/own && mv /tmp/facts {FACTS}")


def test_the_next_revision_comes_beside_the_present_one_and_earlier_ones_are_kept_by_number(host):
    tokenizer = MODELS / "sharded/tokenizer.json"
    present = tokenizer.read_text()
    tokenizer.write_text('{"of": "the next revision"}')
    try:
        following = sent("sharded")
        before = listing(host, SHARDED["path"])
        # as long as a unit reads the present one, the plan keeps its path
        converge([following, ON_HOST], model_store_keep_paths=[SHARDED["path"]])
    finally:
        tokenizer.write_text(present)
    assert listing(host, SHARDED["path"]) == before
    assert host.file(f"{following['path']}/tokenizer.json").content_string == '{"of": "the next revision"}'

    older = f"{ROOT}/sharded/{'c' * 12}"
    host.check_output(f"mkdir {older} && touch -d '2020-01-01' {older}")
    assert converge([following, ON_HOST], entry="prune", model_store_keep_revisions=1) == 1
    assert not host.file(older).exists
    assert listing(host, SHARDED["path"]) == before
    assert converge([following, ON_HOST], entry="prune") == 1
    assert sorted(host.file(f"{ROOT}/sharded").listdir()) == [Path(following["path"]).name]
