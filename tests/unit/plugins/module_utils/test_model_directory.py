# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import re

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._model import ModelError
from ansible_collections.gpufleet.serving.plugins.module_utils._model_directory import (
    engine_files,
    hub_revision,
    read_config,
    read_shape,
)
from ansible_collections.gpufleet.serving.tests.unit.checkpoints import PARAMETERS, write_checkpoint, write_safetensors

FP8 = {"quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}


@pytest.mark.parametrize("shards", [1, 3])
def test_shape_of_a_directory(tmp_path, shards):
    shape = read_shape(str(write_checkpoint(tmp_path / "model", shards)))
    assert (shape.parameter_count, shape.weight_bytes, shape.provenance) == (PARAMETERS, 2 * PARAMETERS, "safetensors")


def test_quantisation_may_stand_in_a_file_of_its_own(tmp_path):
    write_checkpoint(tmp_path)
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(FP8))
    assert read_config(str(tmp_path))["quantization_config"] == FP8


def test_quantisation_in_config_json_comes_first(tmp_path):
    write_checkpoint(tmp_path, quantization_config={"quant_method": "awq"})
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(FP8))
    assert read_config(str(tmp_path))["quantization_config"] == {"quant_method": "awq"}


BROKEN = {
    "config.json missing": (
        {"config.json": None},
        "{path}: holds no config.json: give the directory of a model in the Hugging Face layout",
    ),
    "config.json cut": (
        {"config.json": '{"architectures": ["Lla'},
        "{path}/config.json: not JSON (Unterminated string starting at: line 1 column 20 (char 19)): copy it again",
    ),
    "config.json a list": ({"config.json": "[]"}, "{path}/config.json: a JSON list where an object belongs"),
    "hf_quant_config.json cut": (
        {"hf_quant_config.json": ""},
        "{path}/hf_quant_config.json: not JSON (Expecting value: line 1 column 1 (char 0)): copy it again",
    ),
}


@pytest.mark.parametrize(("files", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_configuration(tmp_path, files, message):
    write_checkpoint(tmp_path)
    for name, text in files.items():
        (tmp_path / name).unlink(missing_ok=True)
        if text is not None:
            (tmp_path / name).write_text(text)
    with pytest.raises(ModelError, match=f"^{re.escape(message.format(path=tmp_path))}$"):
        read_shape(str(tmp_path))


def test_files_that_an_engine_reads(tmp_path):
    """Weights once, configuration, tokenizer, templates and remote code; nothing for people, no second format."""
    write_checkpoint(tmp_path, shards=2)
    read = [
        "additional_chat_templates/rag.jinja",
        "chat_template.jinja",
        "configuration_own.py",
        "generation_config.json",
        "merges.txt",
        "tokenizer.model",
    ]
    unread = [
        ".gpufleet-manifest.json",
        "additional_chat_templates/notes.md",
        "consolidated.safetensors.index.json",
        "figures/scores.png",
        "onnx/config.json",
        "original/consolidated.00.pth",
        "params.json",
        "pytorch_model-00001-of-00001.bin",
        "pytorch_model.bin.index.json",
    ]
    for name in read + unread:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    write_safetensors(tmp_path / "consolidated.safetensors", {"x": ("BF16", (1,))})
    weights = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    always = ["config.json", "tokenizer.json", "model.safetensors.index.json"]
    assert engine_files(str(tmp_path)) == sorted(read + weights + always)


def test_links_into_the_hubs_cache_count_as_files(tmp_path):
    blobs = write_checkpoint(tmp_path / "blobs")
    snapshot = tmp_path / "models--me--tiny" / "snapshots" / ("0123456789" * 4)
    snapshot.mkdir(parents=True)
    for blob in blobs.iterdir():
        (snapshot / blob.name).symlink_to(blob)
    assert engine_files(str(snapshot)) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert hub_revision(f"{snapshot}/") == "0123456789" * 4


@pytest.mark.parametrize(
    "path", ["/srv/models/tiny", "/srv/models--me--tiny/snapshots/main", "/srv/snapshots/" + "0" * 40]
)
def test_other_directories_have_no_revision(path):
    assert hub_revision(path) is None
