# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._findings import Findings
from ansible_collections.gpufleet.serving.plugins.plugin_utils._owned import OWNED_FLAGS
from ansible_collections.gpufleet.serving.plugins.plugin_utils._settings import Settings
from ansible_collections.gpufleet.serving.plugins.plugin_utils._wishes import Source, Workload, read_models

REVISION = "0123456789abcdef0123456789abcdef01234567"


def models(*entries, **settings):
    findings = Findings()
    return read_models(list(entries), Settings(**settings), findings), findings


def one(**options):
    return models({"name": "m", "source": "/srv/m"} | options)


def test_a_model_needs_a_name_and_a_source_and_the_rest_is_chosen():
    (model,), findings = one()
    assert not findings.refusals
    assert (model.name, model.source, model.served_model_name) == ("m", Source("host", "/srv/m"), "m")
    assert model.replica_count is None
    assert model.tensor_parallel_size is None
    assert model.workload == Workload()


def test_every_option_is_read():
    (model,), findings = models(
        {
            "name": "llama-70b",
            "source": "meta-llama/Llama-3.1-70B-Instruct",
            "revision": REVISION,
            "max_model_len": 8192,
            "workload": {
                "concurrent_requests": 64,
                "prompt_tokens": 1000,
                "output_tokens": 300,
                "requests_per_second": 20,
            },
            "replica_count": "auto",
            "tensor_parallel_size": 4,
            "pipeline_parallel_size": "auto",
            "data_parallel_size": 1,
            "distributed_executor_backend": "mp",
            "gpu_memory_utilization": 0.9,
            "max_num_seqs": 64,
            "max_num_batched_tokens": 4096,
            "kv_cache_dtype": "fp8",
            "quantization": "fp8",
            "dtype": "bfloat16",
            "served_model_name": "meta/llama",
            "engine_args": {"enable-auto-tool-choice": True, "tool_call_parser": "llama3_json", "none": None},
            "engine_env": {"VLLM_LOGGING_LEVEL": "DEBUG", "VLLM_FLAG": True, "N": 3},
            "default": True,
            "priority": 5,
            "trust_remote_code": True,
        }
    )
    assert not findings.refusals
    assert model.source == Source("hub", "meta-llama/Llama-3.1-70B-Instruct")
    assert model.workload.tokens_per_request == 1300
    assert model.workload.requests_per_second == 20.0
    assert model.engine_args == {"enable_auto_tool_choice": True, "tool_call_parser": "llama3_json"}
    assert model.engine_env == {"VLLM_LOGGING_LEVEL": "DEBUG", "VLLM_FLAG": "true", "N": "3"}
    assert (model.kv_cache_dtype, model.quantization, model.priority) == ("fp8", "fp8", 5)


@pytest.mark.parametrize(
    ("source", "kind", "place"),
    [
        ("/srv/models/x/", "host", "/srv/models/x"),
        ("controller:models/x", "controller", "models/x"),
        ("controller:/srv/x", "controller", "/srv/x"),
        ("Qwen/Qwen3-8B", "hub", "Qwen/Qwen3-8B"),
    ],
)
def test_a_source_is_on_the_hosts_on_the_controller_or_a_hub(source, kind, place):
    (model,), findings = one(source=source, revision=REVISION)
    assert not findings.refusals
    assert model.source == Source(kind, place)


BAD = [
    ({"nam": "x"}, "unknown_option", "fleet_models[0] (m).nam", "did you mean name?"),
    ({"tensor_parallel": 2}, "unknown_option", "fleet_models[0] (m).tensor_parallel", "tensor_parallel_size"),
    (
        {"workload": {"concurrent": 1}},
        "unknown_option",
        "fleet_models[0] (m).workload.concurrent",
        "concurrent_requests",
    ),
    ({"name": "Llama 8B"}, "bad_name", "fleet_models[0] (Llama 8B).name", "such as llama-8b"),
    ({"name": "a" * 58}, "bad_name", ".name", "57 characters"),
    ({"name": "-a"}, "bad_name", ".name", "such as a"),
    ({"name": "a\n"}, "bad_name", ".name", "such as a"),
    ({"name": 7}, "bad_name", ".name", "a to z"),
    ({"name": None}, "missing_option", "fleet_models[0].name", "llama-8b"),
    ({"source": None}, "missing_option", ".source", "org/name"),
    ({"source": "llama"}, "bad_source", ".source", "org/name"),
    ({"source": "controller:"}, "bad_source", ".source", "controller:<directory>"),
    ({"source": "a/b/c"}, "bad_source", ".source", "org/name"),
    ({"source": "/tmp/model"}, "bad_source", ".source", "no folder below /tmp"),
    ({"source": "/srv/my model"}, "bad_source", ".source", "letters"),
    ({"source": "/"}, "bad_source", ".source", "letters"),
    ({"source": "a/b"}, "revision_missing", ".revision", "40 hexadecimal digits"),
    ({"source": "a/b", "revision": "main"}, "revision_missing", ".revision", "40 hexadecimal digits"),
    ({"replica_count": 0}, "bad_value", ".replica_count", "from 1"),
    ({"tensor_parallel_size": 10**12}, "bad_value", ".tensor_parallel_size", "from 1 to 1024"),
    ({"engine_env": {"A": "x\x00"}}, "bad_value", ".engine_env.A", "text"),
    ({"replica_count": "two"}, "bad_value", ".replica_count", "from 1"),
    ({"max_model_len": "8k"}, "bad_value", ".max_model_len", "whole number"),
    ({"gpu_memory_utilization": 92}, "bad_value", ".gpu_memory_utilization", "at most 1"),
    ({"distributed_executor_backend": "uni"}, "bad_value", ".distributed_executor_backend", "auto, mp, ray"),
    ({"kv_cache_dtype": "fp4"}, "bad_value", ".kv_cache_dtype", "fp8"),
    ({"served_model_name": "a b"}, "bad_value", ".served_model_name", "text"),
    ({"served_model_name": "é"}, "bad_value", ".served_model_name", "text"),
    ({"workload": [1]}, "bad_value", ".workload", "mapping"),
    ({"engine_args": "--foo"}, "bad_value", ".engine_args", "mapping"),
    ({"engine_args": {"a-b": 1, "a_b": 2}}, "bad_value", ".engine_args", "keep one"),
    ({"engine_args": {"hf_token": "x"}}, "secret_in_plan", ".engine_args.hf_token", "leave it out"),
    ({"engine_env": {"A": [1]}}, "bad_value", ".engine_env.A", "text"),
    ({"engine_env": {"A": "x\ny"}}, "bad_value", ".engine_env.A", "text"),
    ({"engine_env": {"A B": "x"}}, "bad_value", ".engine_env.A B", "letters"),
    ({"engine_env": {"HF_TOKEN": "x"}}, "secret_in_plan", ".engine_env.HF_TOKEN", "leave it out"),
    ({"engine_env": {"aws_secret": "x"}}, "secret_in_plan", ".engine_env.aws_secret", "leave it out"),
    ({"engine_env": {"VLLM_API_KEY": "x"}}, "owned_engine_env", ".engine_env.VLLM_API_KEY", "gateway_keys"),
    ({"engine_env": {"CUDA_VISIBLE_DEVICES": "0"}}, "owned_engine_env", "CUDA_VISIBLE_DEVICES", "the plan"),
    (
        {"max_model_len": 1000, "workload": {"prompt_tokens": 900, "output_tokens": 200}},
        "workload_too_long",
        ".workload",
        "1100",
    ),
    ({"trust_remote_code": "perhaps"}, "bad_value", ".trust_remote_code", "true or false"),
]


@pytest.mark.parametrize(("options", "code", "subject", "remedy"), BAD)
def test_a_mistake_is_named_where_it_was_typed_with_its_remedy(options, code, subject, remedy):
    _models, findings = one(**options)
    (refusal,) = findings.refusals
    assert refusal.code == code
    assert subject in refusal.subject
    assert remedy in " ".join(refusal.remedies)


@pytest.mark.parametrize("flag", sorted(OWNED_FLAGS))
def test_flags_that_the_plan_owns_are_refused_naming_the_option_to_use(flag):
    _models, findings = one(engine_args={flag.replace("_", "-"): "x"})
    (refusal,) = findings.refusals
    assert (refusal.code, refusal.subject) == ("owned_engine_flag", f"fleet_models[0] (m).engine_args.{flag}")
    assert refusal.remedies == (OWNED_FLAGS[flag],)


def test_an_unpinned_hub_source_is_taken_when_that_is_allowed():
    (model,), findings = models({"name": "m", "source": "a/b", "revision": "main"}, allow_unpinned_models=True)
    assert not findings.refusals
    assert model.revision == "main"


def test_all_mistakes_are_found_in_one_run():
    _models, findings = models({"name": "A", "source": "x", "foo": 1, "replica_count": -1}, "text", {"name": "b"})
    codes = [refusal.code for refusal in findings.refusals]
    assert sorted(codes) == ["bad_name", "bad_source", "bad_value", "bad_value", "missing_option", "unknown_option"]


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ({"name": "a"}, {"name": "a"}, "duplicate_model"),
        ({"name": "a", "served_model_name": "x"}, {"name": "b", "served_model_name": "x"}, "duplicate_model"),
        ({"name": "a"}, {"name": "b", "served_model_name": "a"}, "duplicate_model"),
        ({"name": "a", "default": True}, {"name": "b", "default": True}, "two_defaults"),
    ],
)
def test_two_models_cannot_be_one(first, second, code):
    _models, findings = models(first | {"source": "/srv/a"}, second | {"source": "/srv/b"})
    assert [refusal.code for refusal in findings.refusals] == [code]


@pytest.mark.parametrize("value", [None, [], {}, "llama", 7])
def test_without_models_there_is_nothing_to_plan(value):
    findings = Findings()
    assert read_models(value, Settings(), findings) == ()
    assert [refusal.code for refusal in findings.refusals] == ["no_models"]
