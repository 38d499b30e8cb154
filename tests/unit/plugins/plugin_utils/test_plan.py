# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole plans: the example inventories, line for line, and what a plan promises as a document.

The expected tables are in fixtures/plans. After a change that is meant: GPUFLEET_WRITE_FIXTURES=1 pytest <this file>.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._explain import table
from ansible_collections.gpufleet.serving.plugins.plugin_utils._plan import plan
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils import examples, fleets

FIXTURES = Path(__file__).parent / "fixtures" / "plans"


@pytest.mark.parametrize("name", examples.NAMES)
def test_the_examples_are_planned_as_they_were(name):
    expected = FIXTURES / f"{name}.txt"
    found = table(examples.example(name))
    if os.environ.get("GPUFLEET_WRITE_FIXTURES"):
        expected.write_text(found, encoding="utf-8")
    assert found == expected.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "tier", "layouts"),
    [
        ("single_gpu", 1, {"qwen3-8b": (1, 1, 1)}),
        ("multi_gpu", 2, {"llama-70b": (4, 1, 1)}),
        ("multi_node", 3, {"llama-405b": (8, 2, 1), "llama-8b": (1, 1, 1)}),
        ("replicas", 4, {"llama-70b": (4, 1, 1), "llama-8b": (1, 1, 8)}),
        ("demo", 4, {"tiny": (2, 1, 2)}),
    ],
)
def test_the_examples_are_of_the_tier_that_they_show(name, tier, layouts):
    made = examples.example(name)
    assert made["tier"] == tier
    sizes = ("tensor_parallel_size", "pipeline_parallel_size", "replica_count")
    assert {model["name"]: tuple(model[size] for size in sizes) for model in made["models"]} == layouts


def test_the_demo_is_two_replicas_of_two_ranks_behind_a_gateway():
    made = examples.example("demo")
    (unit,) = made["shares"]["demo-node2"]["serve"]["serve_units"]
    assert unit == {
        "name": "tiny-1",
        "model": "tiny",
        "address": made["hosts"]["demo-node2"]["address"],
        "port": 8000,
        "engine_path": "/opt/gpufleet/engine/cpu-0.32.0",
        "model_path": "/var/lib/gpufleet/models/tiny/abababababab",
        "accelerator": "cpu",
        "devices": ["cpu:0", "cpu:1"],
        "cpu_kv_gib": 1,
        "config": {
            "served_model_name": "tiny",
            "max_model_len": 1024,
            "tensor_parallel_size": 2,
            "pipeline_parallel_size": 1,
            "distributed_executor_backend": "mp",
        },
        "engine_args": {},
        "engine_env": {"VLLM_CPU_OMP_THREADS_BIND": "nobind"},
    }
    (served,) = made["shares"]["demo-gw"]["gateway"]["gateway_models"]
    assert [upstream["replica"] for upstream in served["upstreams"]] == ["tiny-0", "tiny-1"]
    assert (made["endpoint"]["scheme"], made["endpoint"]["host"], made["endpoint"]["port"]) == ("https", "demo-gw", 443)


def test_a_pipeline_on_cpus_gets_the_one_compilation_mode_that_answers():
    models = [fleets.model(pipeline_parallel_size=2)]
    made = fleets.planned(
        models=models, hosts={"n": fleets.cpu_host(1)}, shapes={"tiny": fleets.shape()}, settings=fleets.PUBLIC
    )
    (unit,) = made["shares"]["n"]["serve"]["serve_units"]
    assert unit["config"]["compilation_config"] == '{"mode":2,"backend":"eager"}'
    assert (unit["config"]["tensor_parallel_size"], unit["config"]["pipeline_parallel_size"]) == (1, 2)


def test_a_lone_rank_on_a_lone_cpu_keeps_the_engines_own_binding():
    made = fleets.planned(
        models=[fleets.model()],
        hosts={"n": fleets.cpu_host(1, 1)},
        shapes={"tiny": fleets.shape()},
        settings=fleets.PUBLIC,
    )
    (unit,) = made["shares"]["n"]["serve"]["serve_units"]
    assert unit["engine_env"] == {}
    assert "distributed_executor_backend" not in unit["config"]


@pytest.mark.parametrize("name", examples.NAMES)
def test_the_same_input_gives_the_same_bytes(name):
    given = examples.inputs(name)
    backwards = given | {"hosts": dict(reversed(given["hosts"].items()))}
    assert json.dumps(plan(**given)) == json.dumps(plan(**backwards))


def test_a_refused_plan_can_be_shown_and_cannot_be_carried_out():
    made = fleets.planned(**fleets.demo(settings={}))
    assert [refusal["code"] for refusal in made["refusals"]] == ["no_gateway_key"]
    assert (made["shares"], made["steps"], made["held"]) == ({}, [], [])
    assert made["replicas"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("config.json: num_key_value_heads is missing", "config.json: num_key_value_heads is missing"),
        (None, "nothing is known of the shape of /srv/models/tiny"),
    ],
)
def test_a_model_of_unknown_shape_is_refused_with_what_was_said_of_it(error, reason):
    shapes = {"tiny": {"shape": None, "content_id": None, "weight_bytes": None, "error": error}}
    refusal = fleets.refusals(**fleets.demo(models=[fleets.model()], shapes=shapes))["unknown_model_shape"]
    assert (refusal["subject"], refusal["reason"]) == ("tiny", reason)


def test_weights_on_the_controller_must_have_been_read():
    shapes = {"tiny": fleets.shape() | {"content_id": None}}
    assert "unknown_model_shape" in fleets.refusals(**fleets.demo(shapes=shapes))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"attention": "mla"}, "bad_value"),
        ({"quantization": "hqq"}, "unknown_quantization"),
        ({"num_hidden_layers": 0}, "bad_value"),
        ({"dtype": "int4"}, "bad_value"),
        ({"vocab_size": None}, "bad_value"),
        ({"layers": 4}, "unknown_option"),
        ({"quantization": "fp8", "quantization_granularity": "block"}, "bad_value"),
        ({"quantization": "fp8", "quantization_ignored": ["re:("]}, "bad_value"),
    ],
)
def test_a_shape_that_cannot_be_reckoned_with_is_refused(change, code):
    shapes = {"tiny": fleets.shape()}
    shapes["tiny"]["shape"] |= change
    assert code in fleets.refusals(**fleets.demo(shapes=shapes))


def test_other_quantisations_are_not_sized_by_a_guess():
    models = [fleets.model(quantization="awq")]
    assert "unknown_quantization" in fleets.refusals(**fleets.demo(models=models))


def test_flags_are_held_against_the_version_that_the_model_gets():
    models = [fleets.model(engine_args={"enable_auto_tool_chioce": True})]
    for hosts, variant in (({"n": fleets.cpu_host(1)}, "0.32.0 (cpu)"), ({"n": fleets.gpu_host(1)}, "0.33.0 (cuda)")):
        refusal = fleets.refusals(**fleets.demo(models=models, hosts=hosts))["unknown_engine_flag"]
        assert refusal["reason"] == f"is no flag of vLLM {variant}"
        assert refusal["remedies"] == ["did you mean enable_auto_tool_choice?"]


def test_an_engine_version_whose_flags_nobody_recorded_is_refused():
    settings = fleets.PUBLIC | {"engine_versions": {"cuda": "9.9.9"}}
    refusal = fleets.refusals(**fleets.demo(hosts={"n": fleets.gpu_host(1)}, settings=settings))[
        "unknown_engine_version"
    ]
    assert refusal["subject"] == "fleet_engine_versions.cuda"


@pytest.mark.parametrize("flag", ["enforce_eager", "compilation_config"])
def test_a_pipeline_on_cpus_takes_no_other_mode(flag):
    models = [fleets.model(pipeline_parallel_size=2, engine_args={flag: True})]
    assert "owned_engine_flag" in fleets.refusals(**fleets.demo(models=models))


def test_leaving_kubernetes_must_be_allowed():
    past = {"hosts": {}, "plan": {"tier": 5, "hosts": {}, "shares": {}}}
    assert "tier_change" in fleets.refusals(**fleets.demo(previous=past))
    allowed = {"gateway_key_names": ["demo"], "allow_tier_change": True}
    assert fleets.refusals(**fleets.demo(previous=past, settings=allowed)) == {}


GIVEN = {
    "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 4, "hidden_size": 256, "intermediate_size": 512,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 512,
    "max_position_embeddings": 2048, "torch_dtype": "bfloat16",
}  # fmt: skip


def unknown():
    return {"tiny": {"shape": None, "content_id": None, "weight_bytes": None, "error": "nobody knows it"}}


def test_a_shape_of_the_inventory_is_planned_where_nobody_knows_the_model():
    models = [fleets.model(shape=GIVEN)]
    assert "unknown_model_shape" in fleets.refusals(**fleets.demo(models=[fleets.model()], shapes=unknown()))
    assert not fleets.refusals(**fleets.demo(models=models, shapes=unknown()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architectures": ["SecretForCausalLM"]}, "the weights of architecture SecretForCausalLM are not known here"),
        ({"vocab_size": None}, "vocab_size is missing"),
        ({"num_hidden_layers": 10**9}, "give a number up to 4096"),
        ({"layer_types": 7}, "its shape in fleet_models"),
        ({"block_configs": [1, 2, 3, 4]}, "its shape in fleet_models"),
    ],
)
def test_a_shape_of_the_inventory_that_cannot_be_read_is_refused(change, words):
    models = [fleets.model(shape=GIVEN | change)]
    assert words in fleets.refusals(**fleets.demo(models=models, shapes=unknown()))["unknown_model_shape"]["reason"]


def test_a_shape_of_the_inventory_may_not_contradict_the_weights():
    models = [fleets.model(shape=GIVEN | {"num_hidden_layers": 5})]
    assert "shape_disagrees" in fleets.refusals(**fleets.demo(models=models))
