# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole module, run as Ansible runs it: as a program of its own, with this Python and with the oldest."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from ansible_collections.gpufleet.serving.plugins.modules import model_info
from ansible_collections.gpufleet.serving.tests.unit import hubs
from ansible_collections.gpufleet.serving.tests.unit.checkpoints import PARAMETERS, write_checkpoint
from ansible_collections.gpufleet.serving.tests.unit.plugins.modules.programs import INTERPRETERS, fails, run, succeeds

HERE = INTERPRETERS[0].values[0]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def model(tmp_path):
    return write_checkpoint(tmp_path / "model", shards=2)


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_shape_files_and_size_of_a_directory(interpreter, model):
    answer = succeeds(interpreter, model_info, path=str(model))
    assert answer["changed"] is False
    expected = {
        "architecture": "LlamaForCausalLM",
        "attention": "gqa",
        "attention_bias": False,
        "dtype": "bfloat16",
        "head_dim": 4,
        "hidden_size": 16,
        "intermediate_size": 24,
        "kv_cache_dtype": None,
        "max_position_embeddings": 64,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "parameter_count": PARAMETERS,
        "provenance": "safetensors",
        "qk_norm": False,
        "quantization": None,
        "quantization_block": None,
        "quantization_granularity": None,
        "quantization_ignored": [],
        "sliding_window": None,
        "supports_pipeline": True,
        "tie_word_embeddings": False,
        "vocab_size": 40,
        "weight_bytes": 2 * PARAMETERS,
    }
    parts = {name: value for name, value in answer["shape"].items() if value or name in expected}
    assert parts == {**expected, "rotary_elements": 64 * 4}, "no size of a part that a Llama does not have"
    names = [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ]
    assert answer["files"] == [
        {"path": n, "size": (model / n).stat().st_size, "sha256": None, "git_sha1": None} for n in names
    ]
    assert (answer["content_id"], answer["weight_bytes"], answer["revision"]) == (None, 2 * PARAMETERS, None)


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_model_of_the_catalogue(interpreter):
    answer = succeeds(interpreter, model_info, catalogue="meta-llama/Llama-3.1-8B-Instruct")
    assert (answer["shape"]["parameter_count"], answer["shape"]["provenance"]) == (8030261248, "catalogue")
    assert (answer["files"], answer["content_id"], answer["weight_bytes"]) == ([], None, 16060522496)


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_same_bytes_have_the_same_id_anywhere(interpreter, model, tmp_path):
    """Two laptops, two Pythons, other paths, other times."""
    other = tmp_path / "elsewhere"
    shutil.copytree(model, other)
    for path in other.iterdir():
        os.utime(path, (0, 0))
    answers = [
        succeeds(
            interpreter, model_info, path=str(directory), hash=True, cache=str(tmp_path / f"{directory.name}.json")
        )
        for directory in (model, other)
    ]
    assert answers[0]["content_id"] == answers[1]["content_id"]
    assert answers[0]["content_id"] == "sha256:" + hashlib.sha256(_listing(model)).hexdigest()
    assert answers[0]["files"] == answers[1]["files"]


def _listing(directory: Path) -> bytes:
    text = ""
    for path in sorted(directory.iterdir()):
        if path.suffix in (".json", ".safetensors"):
            data = path.read_bytes()
            text += f"{path.name}\0{len(data)}\0{hashlib.sha256(data).hexdigest()}\n"
    return text.encode()


def test_any_other_byte_gives_another_id(model, tmp_path):
    options = {"path": str(model), "hash": True, "cache": str(tmp_path / "sums.json")}
    first = succeeds(HERE, model_info, **options)["content_id"]
    (model / "tokenizer.json").write_text("[]")
    second = succeeds(HERE, model_info, **options)["content_id"]
    assert first != second
    (model / "README.md").write_text("other words for people")
    assert succeeds(HERE, model_info, **options)["content_id"] == second


def test_expected_content(model, tmp_path):
    options = {"path": str(model), "hash": True, "cache": str(tmp_path / "sums.json")}
    identity = succeeds(HERE, model_info, **options)["content_id"]
    assert succeeds(HERE, model_info, content_id=identity, **options)["content_id"] == identity
    (model / "tokenizer.json").write_text("[]")
    changed = succeeds(HERE, model_info, **options)["content_id"]
    assert fails(HERE, model_info, content_id=identity, **options) == (
        f"{model}: its content is {changed}, expected was {identity}: it changed after it was last read. "
        "Plan again, or put the former files back"
    )


FAILURES = {
    "no directory": (
        lambda model: shutil.rmtree(model),
        "{model}: no such directory: give the directory of a model in the Hugging Face layout",
    ),
    "no config.json": (
        lambda model: (model / "config.json").unlink(),
        "{model}: holds no config.json: give the directory of a model in the Hugging Face layout",
    ),
    "broken config.json": (
        lambda model: (model / "config.json").write_text("{"),
        "{model}/config.json: not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)): "
        "copy it again",
    ),
    "missing shard": (
        lambda model: (model / "model-00002-of-00002.safetensors").unlink(),
        "{model}: model.safetensors.index.json names 2 files, 1 of them missing: model-00002-of-00002.safetensors. "
        "Copy them here",
    ),
    "cut shard": (
        lambda model: os.truncate(model / "model-00002-of-00002.safetensors", 5),
        "{model}/model-00002-of-00002.safetensors: 5 bytes, too short for a safetensors file: copy it again",
    ),
    "pickles": (
        lambda model: [path.rename(path.with_suffix(".bin")) for path in model.glob("model*")],
        "{model}: holds weights only as model-00001-of-00002.bin and others, a format that can run code when it is "
        "loaded: convert them to safetensors",
    ),
    "weights of another model": (
        lambda model: (model / "config.json").write_text(
            (model / "config.json").read_text().replace('"vocab_size": 40', '"vocab_size": 41')
        ),
        "config.json and the weights disagree: model.embed_tokens.weight is [40, 16], config.json gives [41, 16]; "
        "lm_head.weight is [40, 16], config.json gives [41, 16]",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), FAILURES.values(), ids=FAILURES)
def test_directory_that_holds_no_whole_model(model, spoil, message):
    spoil(model)
    assert fails(HERE, model_info, path=str(model)) == message.format(model=model)


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_unknown_model_of_the_catalogue(interpreter):
    assert fails(interpreter, model_info, catalogue="Qwen/Qwen3-14b").startswith(
        "the built-in catalogue has no model Qwen/Qwen3-14b (nearest: Qwen/Qwen3-14B, "
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one of the following is required: path, catalogue, hub"),
        ({"path": "/a", "catalogue": "b"}, "parameters are mutually exclusive: path|catalogue"),
        ({"path": "/a", "hub": "b"}, "parameters are mutually exclusive: path|hub"),
        ({"path": "/a", "content_id": "sha256:0"}, "content_id needs hash: true"),
        ({"catalogue": "b", "readable_by": "vllm"}, "missing parameter(s) required by 'readable_by': path"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    assert fails(HERE, model_info, **options) == message


@as_root
@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_readable_by_another_user(interpreter):
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        model = write_checkpoint(Path(name) / "model")
        options = {"path": str(model), "readable_by": "nobody"}
        assert succeeds(interpreter, model_info, **options)["shape"]["parameter_count"] == PARAMETERS
        (model / "model.safetensors").chmod(0o600)
        assert fails(interpreter, model_info, **options) == (
            f"user nobody cannot read {model}/model.safetensors: it is -rw------- of 0:0: "
            f"give everybody the right to read, chmod -R a+rX {model}"
        )


def test_file_that_the_system_does_not_let_be_read(model):
    (model / "config.json").unlink()
    (model / "config.json").mkdir()
    assert fails(HERE, model_info, path=str(model)) == f"{model}/config.json: Is a directory"


@pytest.fixture
def hub(tmp_path):
    write_checkpoint(tmp_path / "hub" / hubs.NAME, shards=2)
    with hubs.running(tmp_path / "hub") as running:
        yield running


def on_hub(hub, tmp_path, **options):
    return {"hub": hubs.NAME, "endpoint": f"{hub.url}/", "hub_cache": str(tmp_path / "cache"), **options}


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_a_model_on_a_hub_is_told_as_one_in_a_directory(interpreter, hub, tmp_path):
    answer = succeeds(interpreter, model_info, **on_hub(hub, tmp_path))
    local = succeeds(interpreter, model_info, path=str(hub.root / hubs.NAME), hash=True, cache=str(tmp_path / "sums"))
    assert answer["shape"] == local["shape"]
    assert (answer["content_id"], answer["revision"]) == (f"git:{hub.commit()}", hub.commit())
    assert [(file["path"], file["size"]) for file in answer["files"]] == [
        (file["path"], file["size"]) for file in local["files"]
    ]
    told = [file["sha256"] for file in answer["files"] if file["path"].endswith("safetensors")]
    assert told == [file["sha256"] for file in local["files"] if file["path"].endswith("safetensors")]


def test_a_pinned_model_that_was_read_once_needs_no_hub(hub, tmp_path):
    pinned = on_hub(hub, tmp_path, revision=hub.commit())
    first = succeeds(HERE, model_info, **pinned)
    again = succeeds(HERE, model_info, **{**pinned, "endpoint": "http://127.0.0.1:9"})
    assert (again["shape"], again["files"]) == (first["shape"], first["files"])


KNOWN = "Qwen/Qwen3-8B"


def test_the_catalogue_stands_in_for_a_hub_that_does_not_answer(tmp_path):
    silent = {"hub": KNOWN, "endpoint": "http://127.0.0.1:9", "hub_cache": str(tmp_path)}
    answer = succeeds(HERE, model_info, catalogue=KNOWN, **silent)
    assert (answer["shape"]["provenance"], answer["content_id"]) == ("catalogue", None)
    assert "does not answer" in fails(HERE, model_info, **silent)
    assert "does not answer" in fails(HERE, model_info, catalogue="nobody/nothing", **silent)


def test_a_hub_that_refuses_is_heard_unless_a_stand_in_is_welcome(hub, tmp_path):
    refusing = {**on_hub(hub, tmp_path), "hub": KNOWN, "catalogue": KNOWN}
    assert "does not exist (HTTP 401)" in fails(HERE, model_info, **refusing)
    answer = succeeds(HERE, model_info, stand_in="refused", **refusing)
    assert answer["shape"]["provenance"] == "catalogue"


def test_the_token_is_not_told(hub, tmp_path):
    hub.rule(token="another")
    said = run(HERE, model_info, **on_hub(hub, tmp_path, token="a-token-of-the-tests"))
    assert "fleet_hub_token may not see it" in said.stdout
    assert "a-token-of-the-tests" not in said.stdout + said.stderr
