# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which layout wins, and what is said of those that did not, seen through whole plans."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils import _model_catalogue
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.fleets import (
    LLAMA_8B,
    LLAMA_70B,
    MIXTURE,
    PUBLIC,
    applied,
    cpu_host,
    gpu_host,
    model,
    planned,
    refusals,
    shape,
)

H100, L40S, H200 = "H100-SXM-80GB", "L40S-48GB", "H200-SXM-141GB"
SMALL, LARGE = LLAMA_8B, LLAMA_70B
LENGTHS = {"prompt_tokens": 1000, "output_tokens": 300}


def entry(hosts, config=SMALL, previous=None, **wishes):
    """The plan's entry of one model."""
    made = planned(
        models=[model("it", **({"max_model_len": 8192} | wishes))],
        hosts=hosts,
        shapes={"it": shape(config)},
        previous=previous,
        settings=PUBLIC,
    )
    assert not made["refusals"], made["refusals"]
    return made["models"][0]


def behind(found):
    """What is said of each layout that was not chosen."""
    sizes = ("tensor_parallel_size", "pipeline_parallel_size", "device_key")
    return {tuple(other[size] for size in sizes): other["behind"] for other in found["runners_up"]}


def test_fewer_devices_win_where_the_workload_is_met():
    found = entry({"gpu1": gpu_host(1)})
    assert (found["tensor_parallel_size"], found["replica_count"]) == (1, 1)
    assert behind(found)[2, 1, H100] == "takes 2 devices in all, the chosen one 1"


def test_of_as_many_devices_those_that_serve_more_a_second_win():
    found = entry({"gpu1": gpu_host(1)}, workload=LENGTHS | {"concurrent_requests": 2000})
    second = next(other for other in found["runners_up"] if other["tensor_parallel_size"] == 2)
    assert second["devices"] == found["replica_count"] * found["tensor_parallel_size"] == 6
    ours = found["capacity"]["total_requests_per_second"]["likely"]
    assert second["requests_per_second"] < ours
    assert second["behind"] == (
        f"serves {second['requests_per_second']:.3g} requests/s in all, the chosen one {ours:.3g}"
    )


def test_a_layout_that_does_not_carry_the_workload_stands_back():
    found = entry({"gpu1": gpu_host(1, count=4)}, LARGE, replica_count=1, workload={"concurrent_requests": 40})
    assert found["tensor_parallel_size"] == 4
    assert "of it do not carry the workload" in behind(found)[2, 1, H100]


def test_a_layout_that_does_not_find_enough_free_devices_stands_back():
    found = entry({"gpu1": gpu_host(1)}, workload=LENGTHS | {"concurrent_requests": 2400})
    assert (found["tensor_parallel_size"], found["replica_count"]) == (1, 8)
    assert behind(found)[4, 1, H100] == "too few devices are free for 3 replicas of 4"


def test_gpus_stand_before_cpus():
    found = entry({"gpu1": gpu_host(1, count=1), "cpu1": cpu_host(2, devices=1, kv_gib=64)})
    assert found["device_key"] == H100
    assert "runs on CPUs" in behind(found).values()


def test_the_smallest_of_devices_that_do_the_same_is_taken():
    hosts = {"gpu1": gpu_host(1, H200, 1), "gpu2": gpu_host(2, H100, 1)}
    found = entry(hosts)
    assert found["device_key"] == H100
    assert behind(found)[1, 1, H200] == "takes other devices for the same"


def test_stages_inside_a_host_stand_behind_tensor_parallelism():
    found = entry({"gpu1": gpu_host(1, L40S, 4)}, LARGE, quantization="fp8")
    assert found["pipeline_parallel_size"] == 1
    assert "which wait for one another" in " ".join(behind(found).values())


def test_an_applied_layout_says_that_another_would_be_chosen_today():
    hosts = {"gpu1": gpu_host(1)}
    before = planned(
        models=[model("it", max_model_len=8192, tensor_parallel_size=4)],
        hosts=hosts,
        shapes={"it": shape(SMALL)},
        settings=PUBLIC,
    )
    found = entry(hosts, previous=applied(before))
    assert found["tensor_parallel_size"] == 4
    assert behind(found)[1, 1, H100] == "would be chosen for a new fleet; the applied layout is kept"


def test_no_more_than_three_are_kept():
    assert len(entry({"gpu1": gpu_host(1)})["runners_up"]) == 3


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"tensor_parallel_size": 2, "pipeline_parallel_size": 1}, "as asked for"),
        ({}, "with no workload stated"),
        ({"workload": {"concurrent_requests": 12}}, "with 12 requests at once to hold"),
        (
            {"workload": LENGTHS | {"concurrent_requests": 12, "requests_per_second": 2.5}},
            "with 12 requests at once to hold, 2.5 a second to serve",
        ),
    ],
)
def test_the_reason_names_the_goal(wishes, words):
    assert words in entry({"gpu1": gpu_host(1)}, **wishes)["reason"]


def test_the_only_layout_is_called_so():
    assert "the only layout that fits" in entry({"gpu1": gpu_host(1, count=1)})["reason"]


SPREAD = {"engine_args": {"enable_expert_parallel": True}}


def test_copies_of_attention_are_tried_where_experts_are_spread():
    found = entry({"gpu1": gpu_host(1)}, MIXTURE, data_parallel_size=2, tensor_parallel_size=2, **SPREAD)
    alone = entry({"gpu1": gpu_host(1)}, MIXTURE, tensor_parallel_size=4, **SPREAD)
    assert (found["data_parallel_size"], found["tensor_parallel_size"]) == (2, 2)
    assert found["memory"][0]["rank"] == "0-3"
    assert found["memory"][0]["weights_gib"] < 2 * alone["memory"][0]["weights_gib"]
    assert found["fits_requests"] % 2 == 0


def test_of_several_layouts_that_do_copies_are_one():
    """Without a wish, copies are among the layouts that the search compares."""
    wishes = {"workload": LENGTHS | {"concurrent_requests": 3000}, "replica_count": 1, **SPREAD}
    found = entry({"gpu1": gpu_host(1)}, MIXTURE, **wishes)
    sizes = [found, *found["runners_up"]]
    assert any(layout["data_parallel_size"] > 1 for layout in sizes)


@pytest.mark.parametrize(
    ("config", "wishes", "words"),
    [
        (SMALL, {}, "is for routed experts, and it has none"),
        (MIXTURE, {}, "spreads routed experts, which engine_args do not allow"),
        (MIXTURE, SPREAD | {"pipeline_parallel_size": 2}, "does not go together with pipeline_parallel_size 2"),
    ],
)
def test_copies_that_would_not_pay_are_refused_with_the_other_way(config, wishes, words):
    inputs = {
        "models": [model("it", max_model_len=8192, data_parallel_size=2, **wishes)],
        "hosts": {"gpu1": gpu_host(1)},
        "shapes": {"it": shape(config)},
        "settings": PUBLIC,
    }
    refusal = refusals(**inputs)["data_parallel_not_possible"]
    assert words in refusal["reason"]
    assert "replica_count" in refusal["remedies"][0]


def test_tokens_dealt_out_among_ranks_are_that_many_more_and_reach_the_engine():
    alone, dealt = (
        planned(
            models=[model("it", max_model_len=8192, tensor_parallel_size=8, **more)],
            hosts={"gpu1": gpu_host(1)},
            shapes={"it": shape() | {"shape": _model_catalogue.shape("deepseek-ai/DeepSeek-V2-Lite").to_dict()}},
            settings=PUBLIC,
        )
        for more in ({}, {"decode_context_parallel_size": 8})
    )
    (before,), (after,) = ([rank["kv_tokens"] for rank in plan["models"][0]["memory"]] for plan in (alone, dealt))
    assert after == 8 * before
    (unit,) = dealt["shares"]["gpu1"]["serve"]["serve_units"]
    assert unit["config"]["decode_context_parallel_size"] == 8


def test_dealing_tokens_out_among_ranks_that_keep_different_heads_is_refused():
    inputs = {
        "models": [model("it", max_model_len=8192, tensor_parallel_size=2, decode_context_parallel_size=2)],
        "hosts": {"gpu1": gpu_host(1)},
        "shapes": {"it": shape(SMALL)},
        "settings": PUBLIC,
    }
    refusal = refusals(**inputs)["decode_context_parallel_not_possible"]
    assert "ranks that keep the same" in refusal["reason"]
    assert "decode_context_parallel_size" in refusal["remedies"][0]
