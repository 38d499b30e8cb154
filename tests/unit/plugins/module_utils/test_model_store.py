# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import os
import pathlib
import re
import shutil
from dataclasses import replace

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils import _model_store
from ansible_collections.gpufleet.serving.plugins.module_utils._content import (
    MANIFEST,
    ContentError,
    Damage,
    FileRecord,
    content_id,
    read_manifest,
)
from ansible_collections.gpufleet.serving.plugins.module_utils._model_store import (
    WantedModel,
    inspect,
    prunable,
    prune,
    publish,
    space,
)
from hypothesis import given, settings
from hypothesis import strategies as st

CONTENT = {"config.json": b"{}", "model.safetensors": b"w" * 100, "additional_chat_templates/rag.jinja": b"t"}
FILES = tuple(FileRecord(path, len(data), hashlib.sha256(data).hexdigest()) for path, data in CONTENT.items())


@pytest.fixture
def model(tmp_path):
    return WantedModel("tiny", str(tmp_path / "tiny" / "0123456789ab"), content_id(FILES), "/srv/tiny", FILES)


@pytest.fixture
def hashed(monkeypatch):
    """The paths that were really hashed."""
    paths = []
    real = _model_store.sha256_of

    def counting(path):
        paths.append(path)
        return real(path)

    monkeypatch.setattr(_model_store, "sha256_of", counting)
    return paths


def arrive(model, *names):
    """Put files into the staging directory as a copy does."""
    for name in names or CONTENT:
        path = pathlib.Path(model.staging, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENT[name])


def content(directory):
    root = pathlib.Path(directory)
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }


def test_nothing_has_arrived(model):
    state = inspect(model)
    assert (state.complete, state.damages, state.missing, state.missing_bytes) == (False, (), FILES, 103)
    assert state.transfers()[1] == {
        "src": "/srv/tiny/model.safetensors",
        "dest": f"{model.staging}/model.safetensors",
        "size": 100,
    }
    assert state.directories() == [model.staging, f"{model.staging}/additional_chat_templates"]


def test_files_are_only_asked_for_until_they_are_known(model):
    state = inspect(replace(model, files=None))
    assert (state.complete, state.missing, state.transfers()) == (False, (), [])


def test_interrupted_copy_goes_on_where_it_stopped(model):
    arrive(model, "config.json")
    assert [file.path for file in inspect(model).missing] == [
        "model.safetensors",
        "additional_chat_templates/rag.jinja",
    ]
    assert not os.path.exists(model.path)


def test_half_a_file_counts_as_missing(model):
    arrive(model)
    os.truncate(f"{model.staging}/model.safetensors", 99)
    assert [file.path for file in inspect(model).missing] == ["model.safetensors"]


def test_model_gets_into_its_place_whole(model, hashed):
    arrive(model)
    pathlib.Path(model.staging, ".ansible_tmp_left_over").touch()
    assert publish(model) == 3 == len(hashed)
    assert content(model.path) == CONTENT
    assert not os.path.exists(model.staging)
    assert inspect(model).complete


def test_second_run_hashes_nothing(model, hashed):
    arrive(model)
    publish(model)
    hashed.clear()
    assert publish(model) == 0
    assert inspect(replace(model, files=None)).complete
    assert hashed == []


def test_missing_files_keep_the_model_out_of_its_place(model):
    arrive(model, "config.json", "model.safetensors")
    message = (
        f"model tiny: 1 of 3 files have not arrived in {model.staging}, additional_chat_templates/rag.jinja first: "
        "copy them there"
    )
    with pytest.raises(ContentError, match=f"^{re.escape(message)}$"):
        publish(model)
    assert not os.path.exists(model.path)


def test_corrupt_file_is_named_and_removed(model):
    arrive(model)
    path = pathlib.Path(model.staging, "model.safetensors")
    path.write_bytes(b"v" * 100)
    message = (
        f"{path}: arrived with sha256 {hashlib.sha256(b'v' * 100).hexdigest()}, its source has {FILES[1].sha256}: "
        "removed, run again to copy it again"
    )
    with pytest.raises(ContentError, match=f"^{re.escape(message)}$"):
        publish(model)
    assert not os.path.exists(model.path)
    assert [file.path for file in inspect(model).missing] == ["model.safetensors"]
    arrive(model, "model.safetensors")
    publish(model)
    assert inspect(model).complete


@pytest.mark.parametrize("files", [None, FILES[:2], (FileRecord("config.json", 2, "00"), *FILES[1:])])
def test_files_of_another_content_are_refused(model, files):
    arrive(model)
    message = f"model tiny: the files of {model.content_id} are needed, not those of another content"
    with pytest.raises(ContentError, match=f"^{re.escape(message)}$"):
        publish(replace(model, files=files))


DAMAGES = {
    "missing": (os.unlink, "missing"),
    "cut": (lambda path: os.truncate(path, 7), "7 bytes, verified with 100"),
    "overwritten": (lambda path: pathlib.Path(path).write_bytes(b"v" * 100), "changed since it was verified"),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=DAMAGES)
def test_damage_in_place_is_named_and_that_file_alone_replaced(model, hashed, damage, reason):
    arrive(model)
    publish(model)
    damage(f"{model.path}/model.safetensors")
    state = inspect(model)
    assert (state.complete, state.damages) == (False, (Damage("model.safetensors", reason),))
    assert [file.path for file in state.missing] == ["model.safetensors"]

    hashed.clear()
    arrive(model, "model.safetensors")
    assert publish(model) == 1
    assert hashed == [f"{model.staging}/model.safetensors"]
    assert content(model.path) == CONTENT
    assert inspect(model).complete
    assert not os.path.exists(model.staging)


def test_reader_keeps_the_file_that_is_replaced(model):
    """What a running engine has mapped stays as it was."""
    arrive(model)
    publish(model)
    with open(f"{model.path}/model.safetensors", "rb") as mapped:
        os.utime(f"{model.path}/model.safetensors", (0, 0))
        arrive(model, "model.safetensors")
        publish(model)
        assert mapped.read() == CONTENT["model.safetensors"]


def test_directory_without_manifest_is_verified_where_it_lies(model, hashed):
    arrive(model)
    os.rename(model.staging, model.path)
    assert inspect(model).missing == ()
    assert publish(model) == 3
    assert all(path.startswith(f"{model.path}/") for path in hashed)
    assert inspect(model).complete


def test_wrong_file_without_manifest_is_copied_again(model):
    arrive(model)
    os.rename(model.staging, model.path)
    pathlib.Path(model.path, "config.json").write_bytes(b"[]")
    with pytest.raises(ContentError, match="config.json: arrived with sha256"):
        publish(model)
    assert [file.path for file in inspect(model).missing] == ["config.json"]


def test_manifest_of_another_content_vouches_for_nothing(model, hashed):
    arrive(model)
    publish(model)
    other = (FileRecord("config.json", 2, hashlib.sha256(b"[]").hexdigest()), *FILES[1:])
    wanted = replace(model, content_id=content_id(other), files=other)
    assert not inspect(wanted).complete
    hashed.clear()
    with pytest.raises(ContentError, match="config.json: arrived with sha256"):
        publish(wanted)
    assert len(hashed) == 3


def test_interruption_at_any_step_leaves_the_whole_model_or_nothing(tmp_path, monkeypatch):
    """Break publishing off at its first, second, ... call of the system: the path is absent, or complete."""
    steps = 0
    while True:
        model = WantedModel("tiny", str(tmp_path / str(steps) / "0123456789ab"), content_id(FILES), "/srv/tiny", FILES)
        arrive(model)
        with monkeypatch.context() as patch:
            _break_after(patch, steps)
            try:
                publish(model)
                finished = True
            except InterruptedError:
                finished = False
        assert not os.path.exists(model.path) or content(model.path) == CONTENT
        publish(model)
        assert inspect(model).complete
        if finished:
            break
        steps += 1
    assert steps > 5


def _break_after(patch, steps):
    """Let the first `steps` calls that write through, and fail every later one."""
    left = [steps]

    def limited(real):
        def call(*arguments, **more):
            if left[0] == 0:
                raise InterruptedError
            left[0] -= 1
            return real(*arguments, **more)

        return call

    for name in ("fsync", "rename", "replace"):
        patch.setattr(os, name, limited(getattr(os, name)))


# --- space ------------------------------------------------------------------------------------------------------------


def test_space_for_all_models_of_a_filesystem(model, tmp_path):
    second = replace(model, name="second", path=str(tmp_path / "second" / "ab0123456789"))
    (need,) = space([inspect(model), inspect(second)], str(tmp_path / "transit"), margin_bytes=1000)
    available = os.statvfs(tmp_path)
    assert need["path"] == str(tmp_path)
    assert need["needed_bytes"] == 2 * 103 + 1000
    assert abs(need["available_bytes"] - available.f_bavail * available.f_frsize) < 2**30


def test_complete_models_need_no_space(model, tmp_path):
    arrive(model)
    publish(model)
    assert space([inspect(model)], str(tmp_path), margin_bytes=10**18) == []


def test_transit_on_another_filesystem_needs_room_for_the_largest_file(model):
    if os.stat("/dev/shm").st_dev == os.stat(os.path.dirname(os.path.dirname(model.path))).st_dev:
        pytest.skip("/dev/shm is no filesystem of its own here")
    needs = space([inspect(model)], "/dev/shm/gpufleet-transit", margin_bytes=0)
    assert {need["path"]: need["needed_bytes"] for need in needs} == {
        os.path.dirname(os.path.dirname(model.path)): 103,
        "/dev/shm": 100,
    }


# --- prune ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    for name in (
        "llama/0123456789ab",
        "llama/ba9876543210",
        "llama/ba9876543210.partial",
        "qwen/0123456789ab",
        "own/model",
        "own/0123456789AB",
        "own/0123456789abc",
        "0123456789ab",
        "deep/er/0123456789ab",
    ):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "config.json").touch()
    (tmp_path / "elsewhere" / "0123456789ab").mkdir(parents=True)
    (tmp_path / "models" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "models" / "own" / "abcdefabcdef").symlink_to(tmp_path / "elsewhere")
    return tmp_path / "models"


def test_the_revisions_that_came_last_may_stay(root):
    """Of those that nobody lists; one that has not arrived whole is none."""
    older, newer = root / "llama" / "0123456789ab", root / "llama" / "ba9876543210"
    os.utime(older, ns=(1, 1))
    assert prunable(str(root), [], revisions=1) == [str(older), f"{newer}.partial"]
    assert prunable(str(root), [], revisions=2) == [f"{newer}.partial"]
    assert prunable(str(root), [str(newer)], revisions=1) == [f"{newer}.partial"]


def test_only_what_the_store_made_is_removed(root):
    kept = root / "llama" / "0123456789ab"
    before = content(root.parent)
    paths = prunable(str(root), [str(kept)])
    assert paths == [
        str(root / "llama" / "ba9876543210"),
        str(root / "llama" / "ba9876543210.partial"),
        str(root / "qwen" / "0123456789ab"),
    ]
    prune(str(root), paths)
    gone = {
        f"models/{path}/config.json"
        for path in ("llama/ba9876543210", "llama/ba9876543210.partial", "qwen/0123456789ab")
    }
    assert content(root.parent) == {name: data for name, data in before.items() if name not in gone}
    assert sorted(path.name for path in root.iterdir()) == ["0123456789ab", "deep", "link", "llama", "own"]


@pytest.mark.parametrize("kept", ["qwen", "qwen/0123456789ab", "qwen/0123456789ab/", "qwen/0123456789ab/inner", "."])
def test_what_is_kept_is_kept_with_all_around_it(root, kept):
    assert str(root / "qwen" / "0123456789ab") not in prunable(str(root), [f"{root}/{kept}"])


def test_store_that_does_not_exist_holds_nothing_to_remove(tmp_path):
    assert prunable(str(tmp_path / "models"), []) == []


NAMES = st.text("0123456789abcdefxyz.", min_size=10, max_size=14).filter(lambda name: name.strip("."))


@settings(deadline=None)
@given(names=st.lists(NAMES, max_size=5, unique=True), data=st.data())
def test_nothing_kept_is_ever_removed(tmp_path_factory, names, data):
    root = tmp_path_factory.mktemp("models")
    for name in names:
        (root / "model" / name).mkdir(parents=True)
    keep = data.draw(st.lists(st.sampled_from(names))) if names else []
    paths = prunable(str(root), [str(root / "model" / name) for name in keep])
    assert not {os.path.basename(path) for path in paths} & set(keep)
    assert all(re.fullmatch(r"[0-9a-f]{12}(\.partial)?", os.path.basename(path)) for path in paths)
    shutil.rmtree(root)


def test_manifest_lies_inside(model):
    arrive(model)
    publish(model)
    assert read_manifest(model.path).content_id == model.content_id
