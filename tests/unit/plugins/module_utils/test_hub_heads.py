# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils import _hub_heads
from ansible_collections.gpufleet.serving.plugins.module_utils._content import FileRecord
from ansible_collections.gpufleet.serving.plugins.module_utils._hub import HubError, Repository
from ansible_collections.gpufleet.serving.plugins.module_utils._hub_heads import heads, listed
from ansible_collections.gpufleet.serving.plugins.module_utils._model_directory import engine_files, read_shape
from ansible_collections.gpufleet.serving.plugins.module_utils._safetensors import SafetensorsError
from ansible_collections.gpufleet.serving.tests.unit import hubs
from ansible_collections.gpufleet.serving.tests.unit.checkpoints import write_checkpoint


@pytest.fixture
def hub(tmp_path):
    write_checkpoint(tmp_path / "hub" / hubs.NAME, shards=2)
    with hubs.running(tmp_path / "hub") as running:
        yield running


def repository(hub, revision="main"):
    return Repository(hub.url, hubs.NAME, revision)


def test_the_shape_is_that_of_the_whole_model(hub, tmp_path):
    directory = heads(repository(hub), str(tmp_path / "cache"))
    assert read_shape(directory) == read_shape(str(hub.root / hubs.NAME))
    assert engine_files(directory) == engine_files(str(hub.root / hubs.NAME))


def test_no_weights_are_asked_for(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(_hub_heads, "FIRST_BYTES", 64)
    heads(repository(hub), str(tmp_path / "cache"))
    ranges = [request["range"] for request in hub.requests() if request["place"].endswith("safetensors")]
    headers = 8 + int.from_bytes((hub.root / hubs.NAME / "model-00001-of-00002.safetensors").read_bytes()[:8], "little")
    assert {"bytes=0-63", f"bytes=64-{headers - 1}"} <= set(ranges)
    assert None not in ranges


def test_a_model_takes_no_room(hub, tmp_path):
    weights = hub.root / hubs.NAME / "model-00001-of-00002.safetensors"
    with weights.open("ab") as stream:
        stream.truncate(2**26)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_hub_heads, "weight_files", lambda directory: [])
        directory = heads(repository(hub), str(tmp_path / "cache"))
    status = os.stat(os.path.join(directory, weights.name))
    assert (status.st_size, status.st_blocks) == (2**26, 0)


def test_a_commit_is_asked_for_once_and_then_never_again(hub, tmp_path):
    first = heads(repository(hub), str(tmp_path / "cache"))
    before = len(hub.requests())
    assert heads(repository(hub, hub.commit()), str(tmp_path / "cache")) == first
    assert len(hub.requests()) == before


def test_a_name_that_moved_is_another_commit(hub, tmp_path):
    first = heads(repository(hub), str(tmp_path / "cache"))
    (hub.root / hubs.NAME / "tokenizer.json").write_text("[]")
    assert heads(repository(hub), str(tmp_path / "cache")) != first


def test_the_sums_of_the_hub_are_kept(hub, tmp_path):
    directory = heads(repository(hub), str(tmp_path / "cache"))
    commit, files = listed(directory, ["tokenizer.json", "model-00001-of-00002.safetensors"])
    assert commit == hub.commit()
    assert files[0] == FileRecord("tokenizer.json", 2, None, "9e26dfeeb6e641a33dae4961196235bdb965b21b")
    assert len(files[1].sha256) == 64


def test_what_was_cut_off_leaves_nothing(hub, tmp_path):
    (hub.root / hubs.NAME / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(SafetensorsError, match="1 of them missing"):
        heads(repository(hub), str(tmp_path / "cache"))
    assert os.listdir(tmp_path / "cache" / "org--tiny") == []


@pytest.mark.parametrize("path", ["../up", "/etc/passwd", "a/../../b", "a//b"])
def test_a_path_that_leads_out_is_refused(hub, tmp_path, monkeypatch, path):
    monkeypatch.setattr(Repository, "listing", lambda self: ("0" * 40, [FileRecord(path, 1, "0" * 64)]))
    with pytest.raises(HubError, match="no path inside a directory"):
        heads(repository(hub), str(tmp_path / "cache"))
    assert os.listdir(tmp_path / "cache" / "org--tiny") == []
