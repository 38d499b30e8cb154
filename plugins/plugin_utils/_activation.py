# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine takes of its budget beside weights and KV cache: the peak of a trial run, graphs, communicators.

Nobody knows these before a start, so each is an interval in bytes: from the sizes of the tensors that live at the peak
(which tensors those are is in vLLM's sources), with widths from public start-up logs (tests/accuracy/fit_memory.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..module_utils._gpu_catalogue import by_key
from ..module_utils._model import BOTH, DTYPE_BYTES, SPARSE, ModelShape
from ._engine_behaviour import SELECTING_COPIES, Engine
from ._interval import Interval
from ._text import GIB

HIDDEN_COPIES, INTERMEDIATE_COPIES = 4, 3
"""Copies of a batch's hidden states, and of its rows of the feed-forward layer, alive in one layer's forward pass:
residual, normalised, attention's in- and output; gate, up and their product. Exact to 1 % on eight start-ups that
print the peak of a run over 32,768 tokens (3.79 GiB for a model of 5,120 and 13,824)."""

GATHERED_COPIES = 1
"""One more copy of the hidden states where ranks add up their parts."""

LOGIT_BYTES = 4

PICTURE_TOKENS, PATCHES_A_TOKEN = 16384, 4
"""Tokens of the largest picture that an encoder is tried with, and patches of each. Source: max_pixels of the Qwen VL
family's processors."""
VIDEO_PICTURES = {"Qwen2VLForConditionalGeneration": 7, "Qwen2_5_VLForConditionalGeneration": 7}
"""Families that are tried with a video, of 14 frames in pairs as large as pictures, as far as the context holds it
(vLLM 0.33, models/qwen2_vl.py)."""
ENCODER_COPIES = (2, 4)
"""Copies of the patches' feed-forward rows and hidden states alive in an encoder's layer, as in the language model."""

ERRORS = {
    "forward": (0.60, 0.10),
    "experts": (0.50, 0.80),
    "encoder": (0.70, 0.60),
    "sorting": (0.04, 0.04),
    "selecting": (0.45, 0.35),
}
"""Shares by which a peak may lie below and above the sum of its tensors, by what makes it: a compiled forward pass
fuses some away, kernels of experts and of encoders differ most. Source: the start-up logs of tests/accuracy."""
EXACT_FORWARD = (0.03, 0.03)
"""The same of the first generation, which runs every operation by itself."""
BASE = Interval(0.0, 0.13 * GIB, 0.50 * GIB)
FIRST_BASE = Interval(0.01 * GIB, 0.06 * GIB, 0.20 * GIB)
"""Workspaces of the libraries and what the driver takes while kernels load; the second in the engine's first
generation. Source: non-torch memory in start-up logs on one GPU (0.02 to 0.33, and 0.01 to 0.10 GiB)."""

UNIFIED = Interval(1.2 * GIB, 2.6 * GIB, 4.5 * GIB)
"""Where CPU and GPU share their memory, the engine's processes and its file cache count as used. Source: start-ups on
GB10."""
UNIFIED_NAME = "GB10"

LINKED = {
    (None, 2): Interval(0.05 * GIB, 0.4 * GIB, 1.7 * GIB),
    (None, 4): Interval(0.05 * GIB, 0.8 * GIB, 2.4 * GIB),
    (True, 2): Interval(0.05 * GIB, 0.4 * GIB, 1.7 * GIB),
    (True, 4): Interval(0.3 * GIB, 2.1 * GIB, 2.8 * GIB),
    (False, 2): Interval(0.05 * GIB, 0.2 * GIB, 0.6 * GIB),
    (False, 4): Interval(0.05 * GIB, 0.2 * GIB, 0.8 * GIB),
}
"""Buffers of the communicators of so many ranks or more, over NVLink, without it, or where that is not known. Source:
non-torch memory and what is left over in start-up logs: 0.2 GiB over PCIe, 0.4 to 0.5 for 2 and 2.0 to 2.3 for 4 and 8
ranks over NVLink."""
UNLINKED = Interval(0.0, 0.05 * GIB, 0.6 * GIB)
"""The same since communicators are made before the first look: only what they grow by."""

LATE_ROOM = 1.35
"""A sampler that is tried after the KV cache must find its room in what is left in pieces."""

GRAPH_SIZES_STEP, MOST_GRAPH_TOKENS = 8, 512
"""Batch sizes for which graphs are captured: every eighth up to twice max_num_seqs, 512 at most (vLLM 0.33,
config/vllm.py)."""
FIRST_GRAPH = Interval(0.02 * GIB, 0.10 * GIB, 0.40 * GIB)
EACH_GRAPH = Interval(0.001 * GIB, 0.005 * GIB, 0.02 * GIB)
"""What the engine estimates for its first graph and for each further one. Source: 0.04 to 1.4 GiB in start-up logs
since 0.21 for 2 to 64 sizes."""

UNEXPLAINED = (0.012, 0.004)
"""Shares of a device by which the engine takes less, or more, than all terms together. Source: tests/accuracy/
fit_memory.py, so that the interval holds nine start-ups of ten."""

CONTEXT = 0.45
"""GiB that a CUDA context takes before the engine's first look: 0.41 (A100), 0.49 (L40S), 0.61 (H100) in start-up logs
that print the free memory."""
CONTEXT_BYTES = int(CONTEXT * GIB)


@dataclass(frozen=True, slots=True)
class Batch:
    """The engine's scheduler limits: tokens of one step, and requests at once."""

    tokens: int
    sequences: int


def peak(shape: ModelShape, ranks: int, batch: Batch, max_model_len: int, engine: Engine, samples: bool) -> Interval:
    """The peak that the engine's trial run sees, in bytes on one of ``ranks`` that share each layer.

    A layer's forward pass, the encoder of pictures, or on the last stage (``samples``) the sampler: they follow each
    other, so that the largest counts. Every rank gathers the logits of the whole vocabulary.
    """
    item = DTYPE_BYTES[shape.dtype]
    routed = routed_elements(shape, ranks)
    peaks = {
        "forward": float(batch.tokens * forward_elements(shape, ranks) * item),
        "experts": float(batch.tokens * (hidden_elements(shape, ranks) + routed) * item) if routed else 0.0,
        "encoder": float(encoder_bytes(shape, ranks, max_model_len)),
        "sorting" if engine.logit_copies > SELECTING_COPIES else "selecting": (
            sampler_bytes(shape, batch, engine) if samples and not engine.samples_late else 0.0
        ),
    }
    found = {what: _with_error(what, likely, engine) for what, likely in peaks.items()}
    return Interval(
        max(term.low for term in found.values()),
        max(term.likely for term in found.values()),
        max(term.high for term in found.values()),
    )


def _with_error(what: str, likely: float, engine: Engine) -> Interval:
    exact = what == "forward" and engine.first_generation
    below, above = EXACT_FORWARD if exact else ERRORS[what]
    return Interval(likely * (1 - below), likely, likely * (1 + above))


def hidden_elements(shape: ModelShape, ranks: int) -> int:
    """Elements of the hidden states alive at the peak of a layer, for each token of a batch."""
    return (HIDDEN_COPIES + (GATHERED_COPIES if ranks > 1 else 0)) * shape.hidden_size


def forward_elements(shape: ModelShape, ranks: int) -> int:
    """Elements alive at the peak of the widest dense layer, for each token of a batch."""
    return hidden_elements(shape, ranks) + INTERMEDIATE_COPIES * shape.intermediate_size // ranks


def routed_elements(shape: ModelShape, ranks: int) -> int:
    """Elements of the experts' work for each token: for every expert that it chooses, what the expert reads or its gate
    and up projections, their product, and what it writes (vLLM 0.33, fused_moe/fused_moe.py)."""
    if not {SPARSE, BOTH} & set(shape.mlp_types):
        return 0
    width = shape.moe_intermediate_size // ranks or 1
    hidden = shape.moe_latent_size or shape.hidden_size
    return shape.num_experts_per_tok * (max(2 * width, hidden) + width + hidden)


def sampler_bytes(shape: ModelShape, batch: Batch, engine: Engine) -> float:
    """The sampler over every sequence at once, beside the hidden states of the whole batch."""
    hidden = batch.tokens * shape.hidden_size * DTYPE_BYTES[shape.dtype]
    return engine.logit_copies * batch.sequences * shape.vocab_size * LOGIT_BYTES + hidden


def encoder_bytes(shape: ModelShape, ranks: int, max_model_len: int) -> int:
    """The encoder over the largest picture or video; 0 for models without one.

    Its widths are not part of the shape: a vision transformer of the usual proportions (24 to 32 layers, four times
    as wide inside) with so many parameters is about sqrt(parameters / 336) wide.
    """
    if not shape.vision_parameters:
        return 0
    width = int((shape.vision_parameters / 336) ** 0.5)
    inner, hidden = ENCODER_COPIES
    pictures = max(1, min(VIDEO_PICTURES.get(shape.architecture, 1), max_model_len // PICTURE_TOKENS))
    patches = pictures * PICTURE_TOKENS * PATCHES_A_TOKEN
    return patches * (inner * 4 * width // ranks + hidden * width) * DTYPE_BYTES[shape.dtype]


def beside_peak(key: str, ranks: int, engine: Engine) -> list[Interval]:
    """What else the budget pays for, in bytes: workspaces, communicators, and the host's own use of unified memory."""
    found = [FIRST_BASE if engine.first_generation else BASE]
    if ranks > 1:
        found.append(links(key, ranks) if engine.links_inside else UNLINKED)
    if UNIFIED_NAME in key:
        found.append(UNIFIED)
    return found


def graphs(batch: Batch, eager: bool, engine: Engine) -> Interval:
    """What is taken off the budget for CUDA graphs, in bytes."""
    if eager or not engine.subtracts_graphs:
        return Interval.exactly(0.0)
    sizes = max(1, min(2 * batch.sequences, MOST_GRAPH_TOKENS) // GRAPH_SIZES_STEP)
    return Interval(
        FIRST_GRAPH.low + sizes * EACH_GRAPH.low,
        FIRST_GRAPH.likely + sizes * EACH_GRAPH.likely,
        FIRST_GRAPH.high + sizes * EACH_GRAPH.high,
    )


def unexplained(device_bytes: int) -> Interval:
    """What no term accounts for, in bytes."""
    less, more = UNEXPLAINED
    return Interval(-less * device_bytes, 0.0, more * device_bytes)


def links(key: str, ranks: int) -> Interval:
    """What communicators of so many ranks take on devices of this key, in bytes."""
    nvlink = "SXM" in key if by_key(key) else None
    return LINKED[nvlink, 4 if ranks >= 4 else 2]


def outside_bytes(shape: ModelShape, key: str, ranks: int, batch: Batch, engine: Engine) -> int:
    """What a device holds beyond the engine's budget, in bytes: the context, communicators that come before the first
    look, and a sampler that is tried after the last."""
    found = CONTEXT_BYTES
    if engine.samples_late:
        found += int(sampler_bytes(shape, batch, engine) * LATE_ROOM)
    if ranks > 1 and (engine.samples_late or not engine.links_inside):
        found += int(links(key, ranks).low)
    return found
