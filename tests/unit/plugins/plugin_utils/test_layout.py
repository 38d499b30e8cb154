# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which layout a model gets, seen through whole plans."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.fleets import (
    LLAMA_8B,
    LLAMA_70B,
    PUBLIC,
    applied,
    cpu_host,
    facts,
    gpu,
    gpu_host,
    host,
    model,
    planned,
    refusals,
    shape,
    warnings,
)

H100, L40S, A100 = "H100-SXM-80GB", "L40S-48GB", "A100-SXM-40GB"
SIZES = {"small": LLAMA_8B, "large": LLAMA_70B}


def inputs(hosts, previous=None, settings=None, name="large", config=None, **wishes):
    return {
        "models": [model(name, **({"max_model_len": 8192} | wishes))],
        "hosts": hosts,
        "shapes": {name: shape(config or SIZES.get(name))},
        "previous": previous,
        "settings": PUBLIC | (settings or {}),
    }


def chosen(*arguments, **wishes):
    """Tensor and pipeline parallel size, replicas and kind of device of the one model."""
    (entry,) = planned(**inputs(*arguments, **wishes))["models"]
    sizes = (entry["tensor_parallel_size"], entry["pipeline_parallel_size"])
    return (*sizes, entry["replica_count"], entry["device_key"])


def server(key=H100, count=8, number=1):
    return {f"gpu{number}": gpu_host(number, key, count)}


@pytest.mark.parametrize(
    ("key", "name", "wishes", "expected"),
    [
        (H100, "small", {}, (1, 1, 1)),
        (H100, "large", {}, (2, 1, 1)),
        (L40S, "large", {}, (4, 1, 1)),
        (A100, "large", {}, (4, 1, 1)),
        (L40S, "large", {"quantization": "fp8"}, (2, 1, 1)),
        (
            H100,
            "large",
            {"workload": {"concurrent_requests": 64, "prompt_tokens": 1000, "output_tokens": 300}},
            (4, 1, 1),
        ),
        (H100, "large", {"workload": {"concurrent_requests": 64}, "tensor_parallel_size": 8}, (8, 1, 1)),
        (H100, "small", {"workload": {"concurrent_requests": 100}}, (1, 1, 2)),
        (H100, "small", {"replica_count": 8}, (1, 1, 8)),
        (H100, "small", {"tensor_parallel_size": 2, "replica_count": 4}, (2, 1, 4)),
        (H100, "large", {"pipeline_parallel_size": 2}, (1, 2, 1)),
        (H100, "large", {"tensor_parallel_size": 1, "pipeline_parallel_size": 4}, (1, 4, 1)),
    ],
)
def test_the_fewest_devices_that_meet_the_workload(key, name, wishes, expected):
    assert chosen(server(key), name=name, **wishes) == (*expected, key)


def test_stages_come_in_where_the_heads_do_not_divide():
    odd = LLAMA_70B | {
        "num_attention_heads": 63,
        "num_key_value_heads": 9,
        "hidden_size": 63 * 128,
        "intermediate_size": 28728,
    }
    assert chosen(server(H100, 4), name="odd", config=odd)[:2] == (3, 1)
    prime = LLAMA_70B | {"num_attention_heads": 61, "num_key_value_heads": 61, "hidden_size": 61 * 128}
    assert chosen(server(H100, 4), name="prime", config=prime)[:2] == (1, 3)


def test_the_cheapest_kind_that_does_is_taken_and_gpus_before_cpus():
    both = server(H100, 8, 1) | server(L40S, 8, 2) | {"cpu": cpu_host(3, 8, 64)}
    assert chosen(both, name="small")[3] == L40S
    assert chosen(both, name="large")[3] == H100


def test_replicas_of_one_model_may_be_on_different_kinds_and_get_traffic_accordingly():
    mixed = server(H100, 1, 1) | server(L40S, 1, 2)
    made = planned(**inputs(mixed, name="small", replica_count=2, max_num_seqs=4096))
    (entry,) = made["models"]
    assert {row["device_key"] for row in entry["memory"]} == {H100, L40S}
    upstreams = made["shares"]["gpu1"]["gateway"]["gateway_models"][0]["upstreams"]
    assert [upstream["weight"] for upstream in upstreams] == [1, 3]
    assert entry["fits_requests"] == min(row["kv_tokens"] // 8192 for row in entry["memory"])


def test_slices_are_for_models_that_fit_on_one():
    slices = [{"uuid": f"MIG-{n}", "profile": "3g.40gb", "memory_mib": 40448, "index": n} for n in range(2)]
    sliced = {"gpu1": host(1, facts=facts(gpu(0, mig_mode="Enabled", mig_devices=slices)), reachable=True)}
    assert chosen(sliced, name="small") == (1, 1, 1, f"{H100}/3g.40gb")
    assert "model_too_large" in refusals(**inputs(sliced))
    refused = refusals(**inputs(sliced, name="small", tensor_parallel_size=2))
    assert "slices" in refused["not_enough_devices"]["reason"]


def test_a_model_that_fits_nowhere_is_refused_with_what_would_make_it_fit():
    refusal = refusals(**inputs(server(L40S, 2)))["model_too_large"]
    assert refusal["subject"] == "large"
    assert "2 devices of L40S-48GB (44.42 GiB each)" in refusal["reason"]
    assert "are missing on each" in refusal["reason"]
    assert refusal["remedies"] == [
        "say quantization: fp8: it then fits on 2 x L40S-48GB",
        "use a host with 4 x L40S-48GB",
        "use 2 hosts with 2 x L40S-48GB each, in one subnet",
        "use a host with 1 x B200-SXM-180GB",
        "use a host with 2 x H100-PCIE-80GB",
    ]


def test_a_context_that_does_not_fit_is_refused_with_the_length_that_would():
    refusal = refusals(**inputs(server("L4-24GB", 1), name="small", max_model_len=131072))["model_too_large"]
    length = int(refusal["remedies"][0].split()[3])
    assert refusal["remedies"][0] == f"set max_model_len to {length} at most"
    assert chosen(server("L4-24GB", 1), name="small", max_model_len=length)[:3] == (1, 1, 1)
    assert "model_too_large" in refusals(**inputs(server("L4-24GB", 1), name="small", max_model_len=length + 16))


def test_fixed_sizes_that_are_too_small_are_named():
    refusal = refusals(**inputs(server(H100, 8), tensor_parallel_size=1, pipeline_parallel_size=1))["model_too_large"]
    assert "1 device of H100-SXM-80GB (79.18 GiB each), as asked for" in refusal["reason"]
    assert refusal["remedies"][0] == "set tensor_parallel_size to 2, on a host with 2 x H100-SXM-80GB"


def test_remedies_keep_what_they_promise():
    """Every server that a refusal proposes does hold the model."""
    remedies = refusals(**inputs(server(L40S, 2)))["model_too_large"]["remedies"][1:]
    for remedy in (remedy for remedy in remedies if remedy.startswith("use a host")):
        count, key = remedy.split()[4], remedy.split()[6]
        assert chosen(server(key, int(count)))[0] == int(count)
    assert chosen(server(L40S, 2) | server(L40S, 2, 2))[:2] == (2, 2)


def test_a_tensor_size_that_does_not_divide_is_refused_with_those_that_do():
    refusal = refusals(**inputs(server(), tensor_parallel_size=6))["tensor_parallel_does_not_divide"]
    assert refusal["reason"] == "tensor_parallel_size 6 does not divide its 64 attention heads"
    assert refusal["remedies"] == [
        "set tensor_parallel_size to one of 1, 2, 4, 8, or to auto",
        "for 6 devices say tensor_parallel_size: 2, pipeline_parallel_size: 3",
    ]


@pytest.mark.parametrize(
    ("hosts", "wishes", "code"),
    [
        (server(H100, 4), {"tensor_parallel_size": 8}, "not_enough_devices"),
        (server(H100, 8) | server(H100, 4, 2), {"tensor_parallel_size": 16}, "not_enough_devices"),
        ({"cpu": cpu_host(1, 2)}, {"tensor_parallel_size": 4}, "cpu_ranks"),
        (server(), {"pipeline_parallel_size": 81}, "pipeline_parallel_too_large"),
    ],
)
def test_sizes_beyond_all_hosts_are_refused(hosts, wishes, code):
    refusal = refusals(**inputs(hosts, **wishes))[code]
    assert refusal["subject"] == "large"
    if code == "cpu_ranks":
        assert "evenly in several" in refusal["reason"]


def test_a_replica_that_does_not_find_devices_is_refused_with_how_many_did():
    refusal = refusals(**inputs(server(H100, 4), replica_count=3))["not_enough_devices"]
    assert "needs 3 replicas of 2 devices" in refusal["reason"]
    assert "room for 2" in refusal["reason"]
    assert refusal["remedies"][:2] == ["add hosts with 2 x H100-SXM-80GB in all", "or set replica_count: 2"]


def test_cpu_replicas_need_the_ram_of_their_host():
    machine = {"memory_total_bytes": 5 * 2**30}
    small = {"cpu": cpu_host(1, 2, facts=facts(state="no_gpu", **machine), reachable=True)}
    refusal = refusals(**inputs(small, name="tiny", tensor_parallel_size=2, max_model_len=1024))["not_enough_memory"]
    assert "give cpu more RAM: a replica takes 6.75 GiB" in refusal["remedies"][0]
    assert chosen(small, name="tiny", max_model_len=1024)[:3] == (1, 1, 1)


@pytest.mark.parametrize(
    ("tier", "wishes", "allowed"),
    [
        (1, {"name": "small"}, True),
        (1, {"name": "large"}, False),
        (2, {"name": "large"}, True),
        (3, {"name": "small", "replica_count": 2}, False),
        (4, {"name": "small", "replica_count": 2}, True),
        (2, {"name": "small", "workload": {"concurrent_requests": 100}}, True),
        (1, {"name": "small", "workload": {"concurrent_requests": 100}}, False),
    ],
)
def test_the_tier_is_an_upper_bound_within_which_another_layout_is_sought(tier, wishes, allowed):
    codes = refusals(**inputs(server(), settings={"tier": tier}, **wishes))
    assert ("tier_too_low" not in codes) == allowed
    if not allowed:
        assert f"fleet_tier is {tier}" in codes["tier_too_low"]["reason"]


def test_tier_5_without_kubernetes_is_above_what_is_possible():
    assert "tier_too_high" in refusals(**inputs(server(), settings={"tier": 5}))


def test_a_context_beyond_the_models_is_refused_unless_it_is_stretched():
    assert "context_too_long" in refusals(**inputs(server(), max_model_len=200_000))
    stretched = {"engine_args": {"hf_overrides": {"rope_scaling": {"factor": 2.0}}}}
    assert "context_too_long" not in refusals(**inputs(server(), max_model_len=200_000, **stretched))


def test_without_a_wish_the_context_is_the_models_own():
    (entry,) = planned(**inputs(server(), name="small", max_model_len=None))["models"]
    assert entry["max_model_len"] == 131072


@pytest.mark.parametrize(
    ("wishes", "code"),
    [
        ({"name": "large", "tensor_parallel_size": 2}, "few_requests"),
        ({"name": "small", "replica_count": 1, "workload": {"concurrent_requests": 900}}, "workload_not_met"),
        ({"name": "small", "workload": {"requests_per_second": 5}}, "rate_not_used"),
        ({"name": "small", "engine_args": {"enable_lora": True}}, "memory_not_reckoned"),
    ],
)
def test_what_is_legal_and_hardly_meant_is_warned_of(wishes, code):
    hosts = server(H100, 2)
    assert warnings(**inputs(hosts, **wishes))[code]["remedies"]


def test_an_applied_layout_is_kept_although_another_would_be_chosen_today():
    before = planned(**inputs(server(H100, 8), tensor_parallel_size=4))
    assert chosen(server(H100, 8), applied(before))[:2] == (4, 1)
    assert chosen(server(H100, 8))[:2] == (2, 1)


def test_auto_adds_replicas_of_the_applied_layout_when_the_workload_grows():
    before = planned(**inputs(server(H100, 8), name="small", workload={"concurrent_requests": 10}))
    grown = inputs(server(H100, 8), applied(before), name="small", workload={"concurrent_requests": 300})
    made = planned(**grown)
    assert made["diff"]["untouched"] == ["small-0"]
    assert len(made["diff"]["added"]) == made["models"][0]["replica_count"] - 1 > 1
