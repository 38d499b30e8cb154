# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small checkpoints in the Hugging Face layout, written without any library: constructed, a few kB each."""

from __future__ import annotations

import json
import math
import pathlib

ITEM_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1}

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 40,
    "max_position_embeddings": 64,
    "torch_dtype": "bfloat16",
}

TENSORS = {
    "model.embed_tokens.weight": (40, 16),
    **{
        f"model.layers.{layer}.{name}.weight": shape
        for layer in (0, 1)
        for name, shape in {
            "input_layernorm": (16,),
            "self_attn.q_proj": (16, 16),
            "self_attn.k_proj": (8, 16),
            "self_attn.v_proj": (8, 16),
            "self_attn.o_proj": (16, 16),
            "post_attention_layernorm": (16,),
            "mlp.gate_proj": (24, 16),
            "mlp.up_proj": (24, 16),
            "mlp.down_proj": (16, 24),
        }.items()
    },
    "model.norm.weight": (16,),
    "lm_head.weight": (40, 16),
}
"""What a LlamaForCausalLM of CONFIG holds, spelt out."""

PARAMETERS = 40 * 16 * 2 + 2 * (16 * 16 * 2 + 8 * 16 * 2 + 24 * 16 * 3 + 16 * 2) + 16


def header(tensors: dict[str, tuple[str, tuple[int, ...]]]) -> tuple[bytes, int]:
    """Return the header of a file with these (dtype, shape), length prefix included, and the bytes of its data."""
    entries, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape) in tensors.items():
        end = offset + math.prod(shape) * ITEM_BYTES[dtype]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text, offset


def write_safetensors(path: pathlib.Path, tensors: dict[str, tuple[str, tuple[int, ...]]], fill: int = 1) -> None:
    head, data_bytes = header(tensors)
    path.write_bytes(head + bytes([fill]) * data_bytes)


def write_checkpoint(directory: pathlib.Path, shards: int = 1, dtype: str = "BF16", **changes: object) -> pathlib.Path:
    """Write a whole model: config.json with `changes`, weights in `shards` files (with an index when more than one),
    a tokenizer, and what no engine reads."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    (directory / "tokenizer.json").write_text("{}")
    (directory / "README.md").write_text("# for people")
    (directory / ".gitattributes").write_text("hidden")
    tensors = {name: (dtype, shape) for name, shape in TENSORS.items()}
    if shards == 1:
        write_safetensors(directory / "model.safetensors", tensors)
        return directory
    weight_map = {}
    for shard in range(shards):
        name = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = dict(list(tensors.items())[shard::shards])
        write_safetensors(directory / name, part, fill=shard + 1)
        weight_map.update(dict.fromkeys(part, name))
    index = {"metadata": {"total_size": 2 * PARAMETERS}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory
