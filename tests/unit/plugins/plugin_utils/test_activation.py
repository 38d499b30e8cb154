# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils import _model_catalogue
from ansible_collections.gpufleet.serving.plugins.plugin_utils._activation import (
    Batch,
    beside_peak,
    graphs,
    outside_bytes,
    peak,
)
from ansible_collections.gpufleet.serving.plugins.plugin_utils._engine_behaviour import engine, release
from ansible_collections.gpufleet.serving.plugins.plugin_utils._text import GIB

# Peaks that start-up logs print, in GiB: model, ranks, batch, version.
PRINTED = {
    "a whole context, one layer": ("Qwen/Qwen2.5-14B-Instruct", 1, Batch(32768, 256), "0.7.2", 3.79),
    "the same of a smaller model": ("Qwen/Qwen3-4B", 1, Batch(32768, 256), "0.7.2", 2.41),
    "on two ranks": ("Qwen/Qwen2.5-14B-Instruct", 2, Batch(32768, 256), "0.7.2", 2.84),
    "a sorting sampler": ("Qwen/Qwen3-0.6B", 1, Batch(8192, 1024), "0.11.0", 5.56),
    "of a large vocabulary": ("openai/gpt-oss-20b", 1, Batch(8192, 1024), "0.11.0", 7.38),
    "of few sequences": ("Qwen/Qwen3-235B-A22B-FP8", 8, Batch(2048, 256), "0.10.2", 1.40),
    "of the first generation": ("meta-llama/Llama-3.2-3B-Instruct", 1, Batch(10000, 256), "0.7.2", 1.22),
}


@pytest.mark.parametrize(("name", "ranks", "batch", "version", "printed"), PRINTED.values(), ids=PRINTED)
def test_peaks_as_start_up_logs_print_them(name, ranks, batch, version, printed):
    found = peak(_model_catalogue.shape(name), ranks, batch, 32768, engine(version), samples=True)
    assert found.likely / GIB == pytest.approx(printed, rel=0.025)
    assert found.low <= printed * GIB <= found.high


def test_only_the_last_stage_samples():
    shape = _model_catalogue.shape("Qwen/Qwen3-0.6B")
    first, last = (peak(shape, 1, Batch(2048, 1024), 4096, engine("0.11.0"), samples) for samples in (False, True))
    assert first.likely < last.likely / 10


def test_a_video_as_long_as_the_context_is_tried():
    shape = _model_catalogue.shape("Qwen/Qwen2.5-VL-3B-Instruct")
    peaks = [peak(shape, 1, Batch(2048, 8), length, engine("0.11.0"), True).likely for length in (8192, 32768, 128000)]
    assert peaks == pytest.approx([peaks[0], 2 * peaks[0], 7 * peaks[0]])


@pytest.mark.parametrize(
    ("version", "numbers"),
    [
        ("0.10.1.1", (0, 10, 1, 1)),
        ("0.11.1rc3.dev29+g3fa2c1218", (0, 11, 1)),
        ("0.13.0+faa43dbf.nv26.01", (0, 13, 0)),
        ("v0.6.4.post1", (0, 6, 4)),
        ("0.1.dev20051+g487ecf187.cu129", ()),
        ("nightly", ()),
        ("", ()),
        (None, ()),
    ],
)
def test_versions_in_every_spelling(version, numbers):
    assert release(version) == numbers


def test_a_build_of_no_release_behaves_like_the_newest():
    assert engine("0.1.dev20051+g487ecf187") == engine("0.33.0") == engine("1.0") == engine(None)


@pytest.mark.parametrize(
    ("version", "utilization", "subtracts", "grouped", "in_flight"),
    [
        ("0.7.2", 0.90, False, False, 1),
        ("0.9.0", 0.90, False, False, 1),
        ("0.11.2", 0.90, False, True, 1),
        ("0.20.3", 0.90, False, True, 1),
        ("0.21.0", 0.92, True, True, 1),
        ("0.33.0", 0.92, True, True, 2),
    ],
)
def test_what_versions_differ_in(version, utilization, subtracts, grouped, in_flight):
    found = engine(version)
    assert (found.utilization, found.subtracts_graphs) == (utilization, subtracts)
    assert (found.groups_layers, found.batches_in_flight) == (grouped, in_flight)


def test_graphs_cost_what_the_engine_takes_off():
    assert graphs(Batch(8192, 64), False, engine("0.20.0")).high == 0
    assert graphs(Batch(8192, 64), True, engine("0.33.0")).high == 0
    few, many = (graphs(Batch(8192, sequences), False, engine("0.33.0")) for sequences in (2, 1024))
    assert 0 < few.low < few.likely < many.likely < many.high


# Estimates that start-up logs since 0.21 print, in GiB, by the requests at once that the operator allowed.
@pytest.mark.parametrize(
    ("sequences", "printed"), [(2, 0.04), (10, 0.41), (30, 0.08), (32, 0.10), (32, 0.22), (64, 0.14)]
)
def test_printed_estimates_of_graphs_lie_in_the_interval(sequences, printed):
    found = graphs(Batch(8192, sequences), False, engine("0.22.0"))
    assert found.low <= printed * GIB <= found.high


def test_links_are_paid_for_by_the_budget_only_while_they_come_late():
    early = sum(term.likely for term in beside_peak("H100-SXM-80GB", 8, engine("0.10.0")))
    late = sum(term.likely for term in beside_peak("H100-SXM-80GB", 8, engine("0.33.0")))
    alone = sum(term.likely for term in beside_peak("H100-SXM-80GB", 1, engine("0.33.0")))
    assert alone < late < early
    assert early > sum(term.likely for term in beside_peak("L40S-48GB", 8, engine("0.10.0")))


def test_memory_that_is_shared_with_the_cpu_holds_the_processes_too():
    unified, own = (beside_peak(key, 1, engine("0.25.0")) for key in ("NVIDIA GB10", "L40S-48GB"))
    assert sum(term.likely for term in unified) - sum(term.likely for term in own) > 1.5 * GIB


def test_a_sampler_that_is_tried_last_needs_room_beyond_the_budget():
    """A model that vLLM 0.8.1 refused with 256 requests at once on two RTX 3090, and started with 8."""
    shape = _model_catalogue.shape("Qwen/Qwen2.5-32B-Instruct")
    left_alone = int(23.58 * GIB * 0.1)
    many, few = (outside_bytes(shape, "RTX-3090-24GB", 2, Batch(2048, count), engine("0.8.1")) for count in (256, 8))
    assert few < left_alone < many
