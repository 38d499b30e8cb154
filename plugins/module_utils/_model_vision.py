# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The encoders of pictures beside a language model, counted from their part of config.json.

All are vision transformers: an embedding of patches, layers of attention and a feed-forward part, and a merger that
turns neighbouring patches into what the language model reads. Source: the engine's classes (vLLM 0.33,
model_executor/models: qwen2_vl, qwen2_5_vl, qwen3_vl, siglip, gemma4_mm, pixtral, clip, llama4, kimi_k25).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class _Encoder:
    """A vision transformer by its widths. gated: the feed-forward part has a gate. biases: every linear layer has
    one. patch: elements of a picture's patch. positions: rows of a learnt table. merger: parameters after it."""

    layers: int
    hidden: int
    intermediate: int
    patch: int
    merger: int
    gated: bool = False
    biases: bool = True
    positions: int = 0
    norms: int = 4

    @property
    def parameters(self) -> int:
        hidden, intermediate = self.hidden, self.intermediate
        matrices = 4 * hidden * hidden + (3 if self.gated else 2) * hidden * intermediate
        biases = (4 * hidden + (2 if self.gated else 1) * intermediate + hidden) if self.biases else 0
        return (
            self.layers * (matrices + biases + self.norms * hidden)
            + self.patch * hidden
            + self.positions * hidden
            + self.merger
        )


def vision_parameters(config: Mapping, text_hidden: int) -> int:
    """Return the parameters of a model's encoder of pictures, 0 where it has none or none that is known."""
    vision = config.get("vision_config")
    reader = READERS.get(str(config.get("model_type")))
    if not isinstance(vision, Mapping) or not vision or reader is None:
        return 0
    return reader(vision, config, text_hidden).parameters


def _patch(vision: Mapping, size: int, frames: int = 1) -> int:
    side = vision.get("patch_size", size)
    return 3 * frames * side * side


def _qwen2(vision: Mapping, config: Mapping, text_hidden: int) -> _Encoder:
    hidden = vision.get("embed_dim", 1280)
    merged = 4 * hidden
    merger = merged * merged + merged * text_hidden
    return _Encoder(vision.get("depth", 32), hidden, 4 * hidden, _patch(vision, 14, 2), merger)


def _qwen25(vision: Mapping, config: Mapping, text_hidden: int) -> _Encoder:
    hidden = vision.get("hidden_size", 1280)
    merged = 4 * hidden
    merger = merged * merged + merged * vision.get("out_hidden_size", text_hidden)
    width = vision.get("intermediate_size", 3420)
    return _Encoder(vision.get("depth", 32), hidden, width, _patch(vision, 14, 2), merger, gated=True)


def _qwen3(vision: Mapping, config: Mapping, text_hidden: int) -> _Encoder:
    hidden = vision.get("hidden_size", 1152)
    merged = hidden * vision.get("spatial_merge_size", 2) ** 2
    mergers = 1 + len(vision.get("deepstack_visual_indexes") or ())
    merger = mergers * (merged * merged + merged * vision.get("out_hidden_size", text_hidden))
    return _Encoder(
        vision.get("depth", 27),
        hidden,
        vision.get("intermediate_size", 4304),
        _patch(vision, 16, vision.get("temporal_patch_size", 2)),
        merger,
        positions=vision.get("num_position_embeddings", 2304),
    )


def _siglip(vision: Mapping, config: Mapping, text_hidden: int) -> _Encoder:
    hidden, side = vision.get("hidden_size", 1152), vision.get("image_size", 896) // vision.get("patch_size", 14)
    return _Encoder(
        vision.get("num_hidden_layers", 27),
        hidden,
        vision.get("intermediate_size", 4304),
        _patch(vision, 14),
        hidden * text_hidden + hidden,
        positions=side * side,
    )


def _gemma4(vision: Mapping, config: Mapping, text_hidden: int) -> _Encoder:
    hidden = vision.get("hidden_size", 1152)
    positions = 2 * vision.get("position_embedding_size", 10240)
    merger = hidden * text_hidden
    width = vision.get("intermediate_size", 4304)
    layers = vision.get("num_hidden_layers", 27)
    return _Encoder(layers, hidden, width, _patch(vision, 16), merger, True, False, positions)


def _pixtral(vision: Mapping, config: Mapping, text_hidden: int) -> _Encoder:
    hidden = vision.get("hidden_size", 1024)
    merged = hidden * config.get("spatial_merge_size", 2) ** 2
    merger = merged * hidden + hidden * text_hidden + text_hidden * text_hidden
    width = vision.get("intermediate_size", 4096)
    layers = vision.get("num_hidden_layers", 24)
    return _Encoder(layers, hidden, width, _patch(vision, 14), merger, gated=True, biases=False, norms=2)


def _clip(vision: Mapping, config: Mapping, text_hidden: int) -> _Encoder:
    hidden = vision.get("hidden_size", 1024)
    side = vision.get("image_size", 336) // vision.get("patch_size", 14)
    return _Encoder(
        vision.get("num_hidden_layers", 24),
        hidden,
        vision.get("intermediate_size", 4096),
        _patch(vision, 14),
        hidden * text_hidden + text_hidden * text_hidden,
        positions=side * side + 1,
    )


def _llama4(vision: Mapping, config: Mapping, text_hidden: int) -> _Encoder:
    hidden = vision.get("hidden_size", 1408)
    width = vision.get("intermediate_size", 5632)
    merged = vision.get("projector_output_dim", 4096)
    merger = width * merged + merged * merged + merged * text_hidden
    return _Encoder(vision.get("num_hidden_layers", 34), hidden, width, _patch(vision, 14), merger, positions=577)


def _kimi(vision: Mapping, config: Mapping, text_hidden: int) -> _Encoder:
    hidden = vision.get("vt_hidden_size", 1152)
    merged = 4 * hidden
    merger = merged * merged + merged * text_hidden
    width = vision.get("vt_intermediate_size", 4304)
    return _Encoder(vision.get("vt_num_hidden_layers", 27), hidden, width, _patch(vision, 14), merger, positions=4096)


READERS = {
    "qwen2_vl": _qwen2,
    "qwen2_5_vl": _qwen25,
    "qwen3_vl": _qwen3,
    "qwen3_vl_moe": _qwen3,
    "qwen3_5": _qwen3,
    "qwen3_5_moe": _qwen3,
    "gemma3": _siglip,
    "gemma4": _gemma4,
    "mistral3": _pixtral,
    "llava": _clip,
    "llama4": _llama4,
    "kimi_k25": _kimi,
}
"""What counts the encoder of each model type."""
