# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to an environment when its lock, its files or its place change, in the order of a life."""

from __future__ import annotations

import hashlib
import subprocess
import tarfile

import pytest
import record_flags
from engine_host import LOCKS, SmallEngine, play

REAL = "/opt/gpufleet/engine/cpu-0.32.0"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return SmallEngine(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="module")
def run(engine):
    return lambda entry="main", **options: play(engine.options | options, engine.folder, entry)


def word(host, engine):
    """The word that the built engine's wheel was released with."""
    return host.check_output(f"head -n 1 {engine.path}/lib/python3.11/site-packages/small_engine.py").removeprefix("# ")


def test_built_beside_another_and_then_left_alone(host, engine, run):
    assert run().failed == 0
    assert host.check_output(f"{engine.path}/bin/vllm --version") == "9.0.0+cpu"
    assert host.file(f"{REAL}/gpufleet-lock.txt").exists
    assert run().changed == 0


def test_a_new_lock_waits_for_what_runs(host, engine, run):
    host.check_output(f"setsid {engine.path}/bin/vllm serve >/dev/null 2>&1 </dev/null & sleep 1")
    engine.release("second")
    refused = run()
    assert refused.failed == 1
    assert f"{engine.path} was built from another lock, or was left unfinished, and these processes" in refused.words
    assert f"{engine.path}/bin/vllm serve. Stop the units" in refused.words
    assert word(host, engine) == "first"

    host.check_output(f"pkill --full ^{engine.path}/bin/")
    assert run().failed == 0
    assert word(host, engine) == "second"


def test_a_version_without_a_lock_is_refused(host, engine, run):
    refused = run(engine_environments=[{"variant": "cpu", "version": "9.9.9", "path": engine.path}])
    assert (refused.failed, refused.changed) == (1, 0)
    assert "engine-1: engine_environments asks for cpu-9.9.9, and no lock says" in refused.words
    assert "There are locks for cpu-9.0.0-py3.11-x86_64. Take one" in refused.words
    assert host.check_output(f"{engine.path}/bin/vllm --version") == "9.0.0+cpu"


def test_a_driver_that_is_too_old_is_refused_before_anything_is_fetched(host, engine, run):
    """No driver is here, so its version is given in place of what the host would say."""
    cuda = {"variant": "cuda", "version": "0.33.0", "path": "/opt/gpufleet/engine/cuda-0.33.0"}
    refused = run(
        engine_environments=[cuda],
        engine_locks=str(LOCKS),
        engine_wheelhouse=str(engine.folder / "untouched"),
        __engine_driver="570.172.08",
    )
    assert (refused.failed, refused.changed) == (1, 0)
    assert "engine-1 has the NVIDIA driver 570.172.08, and the engine's CUDA 13 needs 580.65.06 or" in refused.words
    assert not (engine.folder / "untouched").exists()
    assert not host.file(cuda["path"]).exists


def test_an_engine_sees_its_gpus_and_may_use_the_kernels_that_it_fetched(host, tmp_path):
    """Again no driver is here, and torch is a line that tells a number."""
    driver = {"__engine_driver": "580.82.07"}
    without = SmallEngine(tmp_path / "without", variant="cuda", gpus=8, kernels=False)
    failed = play(without.options | driver, tmp_path)
    assert failed.failed == 1
    assert "could not fetch FlashInfer's compiled kernels. Let it reach" in failed.words
    assert "It was said: pip install failed with exit code 2." in failed.words
    assert play(without.options | driver | {"engine_download_kernels": False}, tmp_path).failed == 0
    host.check_output(f"rm -r {without.path}")

    blind = SmallEngine(tmp_path / "blind", variant="cuda")
    failed = play(blind.options | driver, tmp_path)
    assert failed.failed == 1
    assert f"the engine in {blind.path} sees no GPU through it as the user vllm. Compare" in failed.words
    assert host.file(f"{blind.path}/gpufleet-lock.txt").content_string == "unfinished\n"

    seeing = SmallEngine(tmp_path / "seeing", variant="cuda", gpus=8)
    assert play(seeing.options | driver, tmp_path).failed == 0
    host.check_output(f"runuser -u vllm -- cat {seeing.path}/lib/python3.11/site-packages/kernels")
    assert play(seeing.options | driver, tmp_path).changed == 0
    host.check_output(f"rm -r {seeing.path}")


def test_a_python_without_a_lock_is_refused(host, engine, run):
    other = engine.lock.with_name("cpu-9.0.0-py3.12-x86_64.txt")
    engine.lock.rename(other)
    refused = run()
    other.rename(engine.lock)
    assert (refused.failed, refused.changed) == (1, 0)
    assert "engine-1 has Python 3.11 (python3), x86_64 and glibc 2.36. cpu-9.0.0 is locked for" in refused.words
    assert "locked for Python 3.12 on x86_64, and for glibc 2.34 or newer. Name another Python" in refused.words
    assert host.check_output(f"{engine.path}/bin/vllm --version") == "9.0.0+cpu"


def test_a_python_that_no_package_brings_comes_as_an_archive(host, engine, run, tmp_path):
    """Of the shape that uv manages; what is in it points to the host's own."""
    archive, place = tmp_path / "cpython-install_only.tar.gz", "/opt/gpufleet/python-3.11"
    (tmp_path / "python/bin").mkdir(parents=True)
    (tmp_path / "python/bin/python3.11").symlink_to("/usr/bin/python3.11")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "python", "python")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    right, wrong = ({"source": str(archive), "sha256": sha256} for sha256 in (digest, "0" * 64))
    path = f"{engine.path}-own"
    own = {
        "engine_python": f"{place}/python/bin/python3.11",
        "engine_environments": [{"variant": "cpu", "version": engine.version, "path": path}],
    }
    refused = run(**own, engine_python_archive=wrong)
    assert refused.failed == 1
    assert f"{archive} on the controller has the sha256 {digest}, and 0000" in refused.words
    assert not host.file(f"{place}/python").exists

    played = run(**own, engine_python_archive=right)
    assert played.failed == 0, played.words
    assert f"home = {place}/python/bin" in host.file(f"{path}/pyvenv.cfg").content_string
    assert set(host.file(place).listdir()) == {"python", "gpufleet-archive.txt"}
    assert run(**own, engine_python_archive=right).changed == 0
    other = run(**own, engine_python_archive=wrong)
    assert (other.failed, other.changed) == (1, 0)
    assert f"{place} came from another archive, with the sha256 {digest}. Environments may run on it" in other.words
    host.check_output(f"rm -r {path} {place}")


def test_an_engine_that_does_not_start_does_not_count_as_built(host, engine, run):
    engine.release("third\nraise RuntimeError('cannot start')")
    failed = run()
    assert failed.failed == 1
    assert "cannot start" in failed.words
    assert host.file(f"{engine.path}/gpufleet-lock.txt").content_string == "unfinished\n"
    assert not host.file(f"{engine.path}.build").exists


def test_another_release_under_the_name_of_a_known_one_does_not_count_as_built(host, tmp_path):
    known = record_flags.read_lists()[0]["cuda-0.33.0"]
    other = SmallEngine(tmp_path, "0.33.0", variant="cuda", flags=known - {"max_model_len", "shutdown_timeout"})
    failed = play(other.options, tmp_path)
    assert failed.failed == 1
    assert f"{other.path} does not know max_model_len, shutdown_timeout, which cuda-0.33.0 has." in failed.words
    assert host.file(f"{other.path}/gpufleet-lock.txt").content_string == "unfinished\n"

    right = SmallEngine(tmp_path / "right", "0.33.0", variant="cuda", flags=known)
    assert play(right.options, tmp_path).failed == 0
    host.check_output(f"rm -r {right.path}")


def test_an_unfinished_environment_is_built_anew_from_a_wheelhouse_on_the_host(host, engine, run):
    engine.release("fourth")
    refused = run(engine_wheelhouse_on_host="/srv/wheelhouse")
    assert refused.failed == 1
    assert "/srv/wheelhouse/cpu-9.0.0-py3.11-" in refused.words
    assert "is not there, or is no wheelhouse of this lock. Copy" in refused.words

    assert run(entry="fetch").changed == 1
    subprocess.run(["podman", "cp", engine.folder / "wheelhouse", "engine-1:/srv/"], check=True)
    assert run(engine_wheelhouse_on_host="/srv/wheelhouse", engine_wheelhouse="/dev/null").failed == 0
    assert word(host, engine) == "fourth"


def test_pruning_keeps_what_is_named_and_what_is_not_ours(host, engine, run):
    host.check_output(f"mkdir /opt/gpufleet/engine/somebody-elses {engine.path}.build")
    assert run(entry="prune").changed == 1
    assert not host.file(f"{engine.path}.build").exists
    assert sorted(host.file("/opt/gpufleet/engine").listdir()) == ["cpu-9.0.0", "somebody-elses"]
    assert run(entry="prune").changed == 0


def test_reset_leaves_nothing_of_ours(host, run):
    assert run(entry="reset").failed == 0
    assert host.file("/opt/gpufleet/engine").listdir() == ["somebody-elses"]
    assert not host.file("/etc/ansible/facts.d/gpufleet_engine.fact").exists
    assert not host.user("vllm").exists
    host.check_output("rmdir /opt/gpufleet/engine/somebody-elses")
    run(entry="reset")
    assert not host.file("/opt/gpufleet/engine").exists
    assert run(entry="reset").changed == 0
