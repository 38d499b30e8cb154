# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of the model store, run as programs of their own."""

from __future__ import annotations

import os
import shutil

import pytest
from ansible_collections.gpufleet.serving.plugins.modules import model_files, model_info, model_prune
from ansible_collections.gpufleet.serving.tests.unit import hubs
from ansible_collections.gpufleet.serving.tests.unit.checkpoints import write_checkpoint
from ansible_collections.gpufleet.serving.tests.unit.plugins.modules.programs import INTERPRETERS, fails, succeeds

HERE = INTERPRETERS[0].values[0]


@pytest.fixture
def model(tmp_path):
    """A model on a controller: the options that name it, and its contents."""
    source = write_checkpoint(tmp_path / "source")
    read = succeeds(HERE, model_info, path=str(source), hash=True, cache=str(tmp_path / "sums.json"))
    wanted = {
        "name": "tiny",
        "source_kind": "controller",
        "source": str(source),
        "path": str(tmp_path / "models" / "tiny" / read["content_id"][7:19]),
        "content_id": read["content_id"],
    }
    return {"models": [wanted], "contents": {read["content_id"]: read["files"]}}


def copy(transfers, directories):
    for directory in directories:
        os.makedirs(directory, exist_ok=True)
    for transfer in transfers:
        shutil.copyfile(transfer["src"], transfer["dest"])


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_from_nothing_to_a_model_in_its_place(interpreter, model):
    """Each step in check mode and for real, twice."""
    (wanted,) = model["models"]
    look = succeeds(interpreter, model_files, state="verified", **model)
    assert look["changed"] is False
    (incomplete,) = look["incomplete"]
    assert incomplete == {
        **wanted,
        "damaged": [],
        "missing": ["config.json", "model.safetensors", "tokenizer.json"],
    }
    assert [transfer["dest"] for transfer in look["transfers"]] == [
        f"{wanted['path']}.partial/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json")
    ]
    assert look["directories"] == [f"{wanted['path']}.partial"]
    (need,) = look["space"]
    assert need["needed_bytes"] == sum(transfer["size"] for transfer in look["transfers"])

    assert succeeds(interpreter, model_files, _ansible_check_mode=True, **model)["changed"] is True
    copy(look["transfers"], look["directories"])
    assert succeeds(interpreter, model_files, _ansible_check_mode=True, **model)["changed"] is True
    real = succeeds(interpreter, model_files, **model)
    assert (real["changed"], real["hashed"], real["incomplete"]) == (True, 3, [])
    assert real["diff"] == {"before": "", "after": f"{wanted['path']}\n"}
    for check_mode in (True, False):
        again = succeeds(interpreter, model_files, _ansible_check_mode=check_mode, **model)
        assert (again["changed"], again["hashed"], again["incomplete"], again["space"]) == (False, 0, [], [])


def test_margin_counts_once(model):
    without = succeeds(HERE, model_files, state="verified", **model)["space"][0]["needed_bytes"]
    with_margin = succeeds(HERE, model_files, state="verified", min_free_gib=1.5, **model)["space"][0]["needed_bytes"]
    assert with_margin - without == 1.5 * 2**30


def test_damage_is_named(model):
    look = succeeds(HERE, model_files, state="verified", **model)
    copy(look["transfers"], look["directories"])
    succeeds(HERE, model_files, **model)
    (wanted,) = model["models"]
    os.unlink(f"{wanted['path']}/config.json")
    (incomplete,) = succeeds(HERE, model_files, state="verified", models=[wanted])["incomplete"]
    assert incomplete["damaged"] == ["config.json: missing"]


def test_models_on_the_host_are_none_of_its_business(tmp_path):
    local = {"name": "own", "source_kind": "host", "source": "/srv/own", "path": "/srv/own"}
    answer = succeeds(HERE, model_files, models=[local])
    assert (answer["changed"], answer["incomplete"], answer["transfers"]) == (False, [], [])


def entry(**changes):
    return [{"path": "config.json", "size": 2, "sha256": "00", **changes}]


FAILURES = {
    "files not arrived": (
        lambda model: model,
        "model tiny: 3 of 3 files have not arrived in {path}.partial, config.json first: copy them there",
    ),
    "files not named": (
        lambda model: {**model, "contents": {}},
        "model tiny: the files of {content_id} are needed, not those of another content",
    ),
    "no content id": (
        lambda model: {"models": [{"name": "tiny", "path": "/x", "source": "/y"}]},
        "source_kind is controller but all of the following are missing: content_id found in models",
    ),
    "a path from nowhere": (
        lambda model: {"models": [{**model["models"][0], "path": "models/tiny"}]},
        "model tiny: its path models/tiny must begin with /",
    ),
    "contents of another form": (
        lambda model: {**model, "contents": {"sha256:0": [{"path": "a"}]}},
        "contents of sha256:0: a list of path, size and sha256 is needed",
    ),
    "contents that are a number": (
        lambda model: {**model, "contents": {"sha256:0": 7}},
        "contents of sha256:0: a list of path, size and sha256 is needed",
    ),
    "a path upwards": (
        lambda model: {**model, "contents": {"sha256:0": entry(path="../../etc/passwd")}},
        "contents of sha256:0: ../../etc/passwd is no path inside a directory",
    ),
    "a path of its own": (
        lambda model: {**model, "contents": {"sha256:0": entry(path="/etc/passwd")}},
        "contents of sha256:0: /etc/passwd is no path inside a directory",
    ),
    "a path in disguise": (
        lambda model: {**model, "contents": {"sha256:0": entry(path="a/../../b")}},
        "contents of sha256:0: a/../../b is no path inside a directory",
    ),
}


@pytest.mark.parametrize(("change", "message"), FAILURES.values(), ids=FAILURES)
def test_failures(model, change, message):
    (wanted,) = model["models"]
    assert fails(HERE, model_files, **change(model)) == message.format(**wanted)


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_prune(interpreter, tmp_path):
    """Check, real, check, real."""
    old, kept = tmp_path / "old" / ("a" * 12), tmp_path / "kept" / ("b" * 12)
    for path in (old, kept):
        path.mkdir(parents=True)
    options = {"root": str(tmp_path), "keep": [str(kept)]}
    for check_mode, removed, left in (
        (True, [str(old)], True),
        (False, [str(old)], False),
        (True, [], False),
        (False, [], False),
    ):
        answer = succeeds(interpreter, model_prune, _ansible_check_mode=check_mode, **options)
        assert (answer["changed"], answer["removed"], old.exists()) == (bool(removed), removed, left)
    assert kept.exists()
    assert not old.parent.exists()


def test_a_model_from_a_hub_is_to_be_downloaded_and_verified_by_the_hubs_sums(tmp_path):
    source = write_checkpoint(tmp_path / "hub" / hubs.NAME)
    with hubs.running(tmp_path / "hub") as hub:
        read = succeeds(
            HERE, model_info, hub=hubs.NAME, revision=hub.commit(), endpoint=hub.url, hub_cache=str(tmp_path / "cache")
        )
    commit = read["revision"]
    path = tmp_path / "store/tiny" / commit[:12]
    wanted = {
        "name": "tiny",
        "path": str(path),
        "source_kind": "hub",
        "source": hubs.NAME,
        "content_id": read["content_id"],
    }
    options = {"models": [wanted], "contents": {read["content_id"]: read["files"]}}
    look = succeeds(HERE, model_files, state="verified", **options)
    assert look["transfers"] == look["directories"] == []
    (download,) = look["downloads"]
    files = download.pop("files")
    assert download == {"name": "tiny", "repository": hubs.NAME, "commit": commit, "directory": f"{path}.partial"}
    assert [file["path"] for file in files] == ["config.json", "model.safetensors", "tokenizer.json"]
    (need,) = look["space"]
    assert need["needed_bytes"] == sum(file["size"] for file in files)

    shutil.copytree(source, f"{path}.partial")
    (tmp_path / f"store/tiny/{commit[:12]}.partial/tokenizer.json").write_text("[]")
    assert "arrived with git sha1" in fails(HERE, model_files, **options)
    assert not path.exists()
    assert succeeds(HERE, model_files, state="verified", **options)["downloads"][0]["files"] == [
        {"path": "tokenizer.json", "size": 2}
    ]

    (tmp_path / f"store/tiny/{commit[:12]}.partial/tokenizer.json").write_text("{}")
    assert succeeds(HERE, model_files, **options)["hashed"] == 3
    again = succeeds(HERE, model_files, models=[wanted])
    assert (again["changed"], again["incomplete"], again["downloads"]) == (False, [], [])
