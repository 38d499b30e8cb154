#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell the shape, the size and the identity of a language model."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_info
short_description: Shape, size and identity of a language model
version_added: 0.1.0
description:
  - Reads C(config.json) and the headers of the safetensors files of a model, and returns what decides how much memory
    it takes where. Every weight that the architecture has must be stored with the shape that C(config.json) gives.
  - Works on a directory of the machine that it runs on (a host, or the controller by delegation), on a repository of a
    hub, of which it reads a few MB and no weights, or without any file from a built-in catalogue of widely used models.
  - With O(hash) it also computes the identity of the content, which is the same for the same bytes on any machine.
  - Knows the widely used architectures, dense, mixtures of experts and hybrids, from Llama, Mistral, Qwen, Gemma,
    Phi and OLMo to DeepSeek, GLM, Kimi, MiniMax, gpt-oss and Nemotron. Others are refused by name, with the fields to
    give.
options:
  path:
    description: Directory of a model in the Hugging Face layout.
    type: path
  hub:
    description: Name of a model's repository on a hub, C(organisation/name).
    type: str
  revision:
    description: The commit of O(hub), or a name that moves. Of a commit that was read once nothing is asked again.
    type: str
    default: main
  endpoint:
    description: URL of the hub.
    type: str
    default: https://huggingface.co
  token:
    description: Token for the hub, for repositories that not everybody may read.
    type: str
    default: ""
  hub_cache:
    description: Directory that keeps what was read of the hub.
    type: path
    default: ~/.cache/gpufleet/hub
  catalogue:
    description:
      - Hub id of a model in the built-in catalogue. No file is read.
      - Beside O(hub), the entry that stands in for it as O(stand_in) says.
    type: str
  stand_in:
    description:
      - When O(catalogue) stands in for O(hub), where it knows the model. V(unreachable), where no hub answers;
        V(refused), also where the hub refuses.
    type: str
    choices: [unreachable, refused]
    default: unreachable
  hash:
    description: Compute the sha256 of every file that an engine reads, and the content id over all of them.
    type: bool
    default: false
  cache:
    description:
      - File that keeps the sums between runs. A sum is believed while path, size, modification time and inode of its
        file stay the same. Processes that need the same sums at the same time compute them once.
    type: path
    default: ~/.cache/gpufleet/sha256.json
  content_id:
    description: The content id that is expected. Anything else fails. Needs O(hash).
    type: str
  readable_by:
    description: A user who must be able to read every file that an engine reads; checked by becoming that user.
    type: str
author:
  - The gpufleet authors (@gpufleet)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
"""

EXAMPLES = r"""
- name: Read a model that lies on the controller, with its identity
  gpufleet.serving.model_info:
    path: /srv/models/Llama-3.1-8B-Instruct
    hash: true
  delegate_to: localhost
  become: false
  register: llama

- name: Read a model on the hub
  gpufleet.serving.model_info:
    hub: Qwen/Qwen3-8B
    revision: b968826d9c46dd6066d109eabc6255188de91218
  delegate_to: localhost
  become: false

- name: Plan a model of which no file is at hand
  gpufleet.serving.model_info:
    catalogue: meta-llama/Llama-3.1-70B-Instruct
  register: large_llama

- name: Make sure that the engine's user can read a model on the host
  gpufleet.serving.model_info:
    path: /srv/models/Llama-3.1-8B-Instruct
    readable_by: vllm
"""

RETURN = r"""
shape:
  description: The model's dimensions and storage, in the form that the filter P(gpufleet.serving.plan#filter) takes.
  returned: success
  type: dict
  contains:
    architecture:
      description: Name of the architecture.
      type: str
      sample: LlamaForCausalLM
    model_type:
      description: The model type of C(config.json).
      type: str
      sample: llama
    num_hidden_layers:
      description: Layers.
      type: int
      sample: 32
    hidden_size:
      description: Elements of the hidden state.
      type: int
      sample: 4096
    intermediate_size:
      description: Elements inside the feed-forward part.
      type: int
      sample: 14336
    num_attention_heads:
      description: Query heads.
      type: int
      sample: 32
    num_key_value_heads:
      description: Key and value heads.
      type: int
      sample: 8
    head_dim:
      description: Elements of a head.
      type: int
      sample: 128
    vocab_size:
      description: Rows of the embedding.
      type: int
      sample: 128256
    tie_word_embeddings:
      description: Whether embedding and output head are one weight.
      type: bool
      sample: false
    attention_bias:
      description: Whether the query, key and value projections have biases.
      type: bool
      sample: false
    mlp_bias:
      description: Whether the feed-forward projections have biases.
      type: bool
      sample: false
    qk_norm:
      description: Whether queries and keys are normalised.
      type: bool
      sample: false
    max_position_embeddings:
      description: Longest context in tokens.
      type: int
      sample: 131072
    sliding_window:
      description: Tokens that every layer attends to. Null when all of them.
      type: int
    dtype:
      description: The dtype of unquantised weights.
      type: str
      sample: bfloat16
    quantization:
      description:
        - How weights are stored, whatever the checkpoint calls it. V(fp8), V(int8), V(int4), V(mxfp4), V(mxfp8),
          V(nvfp4), V(nf4), the blocks of GGUF, the engine's word for another method, or null.
      type: str
    quantization_granularity:
      description: What a scale covers, V(tensor), V(channel), V(block) or V(group).
      type: str
    quantization_block:
      description: Rows and columns that share a scale.
      type: list
      elements: int
    quantization_zeros:
      description: Whether a zero point stands beside each scale.
      type: bool
      sample: false
    quantization_overrides:
      description: Modules that are stored in another format, each a pattern and the format.
      type: list
      elements: list
      sample: []
    quantization_ignored:
      description: Modules that are not quantised.
      type: list
      elements: str
      sample: []
    kv_cache_dtype:
      description: V(fp8) where the checkpoint asks for such a KV cache, else null.
      type: str
    parameter_count:
      description: Parameters, summed over every weight.
      type: int
      sample: 8030261248
    weight_bytes:
      description: Size of all stored tensors, where known.
      type: int
      sample: 16060522496
    attention:
      description: What layers keep of a token, keys and values of heads (V(gqa)) or one latent vector (V(mla)).
      type: str
      sample: gqa
    layer_types:
      description:
        - How each layer looks back, V(full_attention), V(sliding_attention), V(chunked_attention), V(linear_attention),
          V(mamba) or V(none). Empty where all are alike.
      type: list
      elements: str
      sample: []
    mlp_types:
      description: What follows in each layer, V(dense), V(sparse), V(both) or V(none). Empty where all are dense.
      type: list
      elements: str
      sample: []
    layer_intermediate_sizes:
      description: Elements inside the feed-forward part of each layer, where they differ.
      type: list
      elements: int
      sample: []
    attention_output_gate:
      description: Whether the output of attention passes a gate.
      type: bool
      sample: false
    attention_chunk_size:
      description: Tokens of a chunk, where layers attend to their chunk. 0 where the model has none.
      type: int
      sample: 0
    global_head_dim:
      description: Elements of a head in layers that attend to everything, where it differs. 0 where the model has none.
      type: int
      sample: 0
    num_global_key_value_heads:
      description: Key and value heads of these layers, where they differ. 0 where the model has none.
      type: int
      sample: 0
    num_experts:
      description: Routed experts of a layer. 0 where the model has none.
      type: int
      sample: 0
    num_experts_per_tok:
      description: Routed experts that each token passes. 0 where the model has none.
      type: int
      sample: 0
    moe_intermediate_size:
      description: Elements inside one routed expert. 0 where the model has none.
      type: int
      sample: 0
    shared_expert_intermediate_size:
      description: Elements inside all shared experts. 0 where the model has none.
      type: int
      sample: 0
    moe_latent_size:
      description: Elements that routed experts read and write. 0 where that is the hidden state.
      type: int
      sample: 0
    q_lora_rank:
      description: Latent dimension of queries. 0 where the model has none.
      type: int
      sample: 0
    kv_lora_rank:
      description: Latent dimension of keys and values. 0 where the model has none.
      type: int
      sample: 0
    qk_nope_head_dim:
      description: Elements of a head without position. 0 where the model has none.
      type: int
      sample: 0
    qk_rope_head_dim:
      description: Elements of a head with position. 0 where the model has none.
      type: int
      sample: 0
    v_head_dim:
      description: Elements of a head of values. 0 where the model has none.
      type: int
      sample: 0
    index_n_heads:
      description: Heads of the indexer of sparse attention. 0 where the model has none.
      type: int
      sample: 0
    index_head_dim:
      description: Elements of one of these heads. 0 where the model has none.
      type: int
      sample: 0
    linear_num_key_heads:
      description: Key heads of linear attention. 0 where the model has none.
      type: int
      sample: 0
    linear_num_value_heads:
      description: Value heads of linear attention. 0 where the model has none.
      type: int
      sample: 0
    linear_key_head_dim:
      description: Elements of such a key head. 0 where the model has none.
      type: int
      sample: 0
    linear_value_head_dim:
      description: Elements of such a value head. 0 where the model has none.
      type: int
      sample: 0
    linear_conv_kernel_dim:
      description: Tokens that its convolution sees. 0 where the model has none.
      type: int
      sample: 0
    mamba_num_heads:
      description: Heads of Mamba layers. 0 where the model has none.
      type: int
      sample: 0
    mamba_head_dim:
      description: Elements of such a head. 0 where the model has none.
      type: int
      sample: 0
    mamba_state_size:
      description: Elements of its state. 0 where the model has none.
      type: int
      sample: 0
    mamba_n_groups:
      description: Groups of heads that share projections. 0 where the model has none.
      type: int
      sample: 0
    mamba_conv_kernel_dim:
      description: Tokens that its convolution sees. 0 where the model has none.
      type: int
      sample: 0
    rotary_elements:
      description: Elements of the tables of positions that every rank keeps. 0 where the model has none.
      type: int
      sample: 16777216
    vision_parameters:
      description: Parameters of the encoder of pictures. 0 where the model has none.
      type: int
      sample: 0
    draft_layers:
      description: Layers that draft tokens, loaded for speculative decoding. 0 where the model has none.
      type: int
      sample: 0
    supports_pipeline:
      description: Whether the engine can divide the layers into stages.
      type: bool
      sample: true
    provenance:
      description:
        - V(safetensors) when C(config.json) was held against every stored weight, V(catalogue) for the built-in one.
      type: str
      sample: safetensors
files:
  description: The files that an engine reads, by path inside the directory. Empty with O(catalogue).
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: Path inside the directory.
      type: str
      sample: model-00001-of-00004.safetensors
    size:
      description: Size in bytes.
      type: int
      sample: 4976698672
    sha256:
      description: The sum in hex. Null without O(hash), and for small files of a hub.
      type: str
    git_sha1:
      description: The id in hex that git gives the file's content. Of small files of a hub only.
      type: str
content_id:
  description:
    - Identity of the content, C(sha256:) and 64 hex digits, or for a hub C(git:) and its commit. Null without O(hash),
      and from the catalogue.
  returned: success
  type: str
  sample: sha256:3f0b5e1c...
weight_bytes:
  description: The same as in RV(shape).
  returned: success
  type: int
  sample: 16060522496
revision:
  description: The hub's commit, of O(hub) and where O(path) lies in the hub's local cache. Null anywhere else.
  returned: success
  type: str
"""

import os
from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.serving.plugins.module_utils import _model_catalogue
from ansible_collections.gpufleet.serving.plugins.module_utils._content import (
    ContentError,
    FileRecord,
    content_id,
    hash_cache,
)
from ansible_collections.gpufleet.serving.plugins.module_utils._hub import HubError, HubUnreachable, Repository
from ansible_collections.gpufleet.serving.plugins.module_utils._hub_heads import heads, listed
from ansible_collections.gpufleet.serving.plugins.module_utils._model import ModelError
from ansible_collections.gpufleet.serving.plugins.module_utils._model_directory import (
    engine_files,
    hub_revision,
    read_shape,
)
from ansible_collections.gpufleet.serving.plugins.module_utils._model_store import COMMIT
from ansible_collections.gpufleet.serving.plugins.module_utils._readable import UnreadableError, unreadable_by
from ansible_collections.gpufleet.serving.plugins.module_utils._safetensors import SafetensorsError


def from_catalogue(name: str) -> dict:
    """Return the module's result for a model of the catalogue."""
    shape = _model_catalogue.shape(name)
    return {
        "shape": shape.to_dict(),
        "files": [],
        "content_id": None,
        "weight_bytes": shape.weight_bytes,
        "revision": None,
    }


def from_hub(repository: Repository, cache: str) -> dict:
    """Return the module's result for a repository of a hub."""
    directory = heads(repository, cache)
    shape = read_shape(directory)
    commit, files = listed(directory, engine_files(directory))
    return {
        "shape": shape.to_dict(),
        "files": [asdict(file) for file in files],
        "content_id": COMMIT + commit,
        "weight_bytes": shape.weight_bytes,
        "revision": commit,
    }


def from_hub_or_catalogue(repository: Repository, cache: str, catalogue: str | None, stand_in: str) -> dict:
    """Return the module's result for a repository of a hub, or for what may stand in for it of the catalogue."""
    try:
        return from_hub(repository, cache)
    except HubError as error:
        allowed = isinstance(error, HubUnreachable) or stand_in == "refused"
        if not (catalogue and allowed and catalogue in _model_catalogue.BY_NAME):
            raise
        return from_catalogue(catalogue)


def from_directory(path: str, user: str | None, cache: str | None, expected: str | None) -> dict:
    """Return the module's result for a directory. `cache` is None where no sums are wanted."""
    if not os.path.isdir(path):
        raise ModelError(f"{path}: no such directory: give the directory of a model in the Hugging Face layout")
    shape = read_shape(path)
    names = engine_files(path)
    if user:
        _require_readable(path, names, user)
    files = [FileRecord(name, os.path.getsize(os.path.join(path, name))) for name in names]
    identity = None
    if cache:
        files = _with_sums(path, files, cache)
        identity = content_id(files)
    if expected and identity != expected:
        raise ContentError(
            f"{path}: its content is {identity}, expected was {expected}: it changed after it was last read. "
            "Plan again, or put the former files back"
        )
    return {
        "shape": shape.to_dict(),
        "files": [asdict(file) for file in files],
        "content_id": identity,
        "weight_bytes": shape.weight_bytes,
        "revision": hub_revision(path),
    }


def _with_sums(path: str, files: list[FileRecord], cache: str) -> list[FileRecord]:
    with hash_cache(cache) as sums:
        return [FileRecord(file.path, file.size, sums.sha256(os.path.join(path, file.path))) for file in files]


def _require_readable(path: str, names: list[str], user: str) -> None:
    obstacles = unreadable_by(user, [os.path.join(path, name) for name in names])
    if obstacles:
        more = f" (and {len(obstacles) - 1} more files)" if len(obstacles) > 1 else ""
        raise ContentError(f"{obstacles[0]}{more}: give everybody the right to read, chmod -R a+rX {path}")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path"},
            "hub": {"type": "str"},
            "revision": {"type": "str", "default": "main"},
            "endpoint": {"type": "str", "default": "https://huggingface.co"},
            "token": {"type": "str", "default": "", "no_log": True},
            "hub_cache": {"type": "path", "default": "~/.cache/gpufleet/hub"},
            "stand_in": {"type": "str", "choices": ["unreachable", "refused"], "default": "unreachable"},
            "catalogue": {"type": "str"},
            "hash": {"type": "bool", "default": False},
            "cache": {"type": "path", "default": "~/.cache/gpufleet/sha256.json"},
            "content_id": {"type": "str"},
            "readable_by": {"type": "str"},
        },
        mutually_exclusive=[("path", "catalogue"), ("path", "hub")],
        required_one_of=[("path", "catalogue", "hub")],
        required_by={"readable_by": "path"},
        supports_check_mode=True,
    )
    options = module.params
    if options["content_id"] and not options["hash"]:
        module.fail_json(msg="content_id needs hash: true")
    try:
        if options["hub"]:
            repository = Repository(
                options["endpoint"].rstrip("/"), options["hub"], options["revision"], options["token"]
            )
            result = from_hub_or_catalogue(repository, options["hub_cache"], options["catalogue"], options["stand_in"])
        elif options["catalogue"]:
            result = from_catalogue(options["catalogue"])
        else:
            cache = options["cache"] if options["hash"] else None
            result = from_directory(options["path"], options["readable_by"], cache, options["content_id"])
    except (ModelError, SafetensorsError, ContentError, HubError, UnreadableError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
