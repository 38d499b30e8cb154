# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shares of a plan: hashes, and every option as the role's own argument spec wants it."""

from __future__ import annotations

import json

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.gpufleet.serving.plugins.plugin_utils._share import (
    UnknownHostError,
    canonical,
    digest,
    share,
    with_id,
)
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils import examples, fleets

DUMMY_SECRET = "a-secret-of-no-worth-0123456789"
FREE_FORM = {"engine_args", "engine_env"}


def specification(role):
    path = examples.REPOSITORY / "roles" / role / "meta" / "argument_specs.yml"
    assert path.is_file(), f"a share names the role {role}, which has no argument spec"
    return yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]


def faults(role, options):
    """What the role's argument spec says of a share, once the secrets are there that no plan holds."""
    spec = specification(role)
    missing = {name for name, option in spec.items() if option.get("required") and name not in options}
    secrets = {name: DUMMY_SECRET for name in missing if spec[name].get("no_log")}
    result = ArgumentSpecValidator(spec).validate(options | secrets)
    return result.error_messages


def all_shares(plan):
    return [(role, options) for roles in plan["shares"].values() for role, options in roles.items()]


@pytest.mark.parametrize("name", examples.NAMES)
def test_every_share_of_every_example_is_what_its_role_asks_for(name):
    plan = examples.example(name)
    assert plan["refusals"] == []
    for role, options in all_shares(plan):
        assert faults(role, json.loads(json.dumps(options))) == []


def test_shares_of_every_kind_are_what_their_roles_ask_for():
    """Empty shares, held replicas, every option of a unit."""
    models = [
        fleets.model(
            source="controller:tiny",
            max_num_seqs=4,
            max_num_batched_tokens=64,
            kv_cache_dtype="fp8",
            quantization="fp8",
            dtype="bfloat16",
            gpu_memory_utilization=0.5,
            tensor_parallel_size=2,
            trust_remote_code=True,
            engine_args={"compilation_config": {"mode": 3}},
            engine_env={"VLLM_LOGGING_LEVEL": "DEBUG"},
        )
    ]
    asked = {"shapes": {"tiny": fleets.shape(), "other": fleets.shape()}, "settings": fleets.PUBLIC}
    hosts = {"gpu1": fleets.gpu_host(1), "gpu2": fleets.gpu_host(2)}
    before = fleets.planned(models=models, hosts=hosts, **asked)
    held = fleets.planned(
        models=[models[0] | {"max_num_seqs": 8}], hosts=hosts, previous=fleets.applied(before), **asked
    )
    gone = fleets.planned(models=[fleets.model("other")], hosts=hosts, previous=fleets.applied(before), **asked)
    assert held["held"]
    (unit,) = before["shares"]["gpu1"]["serve"]["serve_units"]
    assert json.loads(unit["config"]["compilation_config"]) == {"mode": 3}
    assert unit["engine_args"] == {"trust_remote_code": True}
    for plan in (before, held, gone):
        for role, options in all_shares(plan):
            assert faults(role, json.loads(json.dumps(options))) == []


def test_the_specs_would_notice_a_wrong_share():
    options = examples.example("demo")["shares"]["demo-node1"]["serve"]
    assert faults("serve", options | {"serve_unit": []})
    assert faults("serve", options | {"serve_units": [{"name": "x"}]})


@pytest.mark.parametrize("role", ["engine", "model_store", "serve", "gateway"])
def test_no_option_of_a_share_is_a_mapping_without_a_shape(role):
    def bare(options, path):
        for name, option in options.items():
            inner = option.get("options")
            takes_mappings = "dict" in (option.get("type"), option.get("elements"))
            if takes_mappings and inner is None and name not in FREE_FORM:
                yield f"{path}.{name}"
            yield from bare(inner or {}, f"{path}.{name}")

    assert list(bare(specification(role), role)) == []


def test_canonical_json_has_one_spelling():
    assert canonical({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"\\u00e9"]}'
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_the_id_of_a_share_is_a_hash_of_its_other_options_without_nulls():
    options = {"engine_environments": [{"path": "/x", "note": None}], "engine_other": None}
    made = with_id("engine", options)
    assert made == {
        "engine_environments": [{"path": "/x"}],
        "engine_share_id": digest({"engine_environments": [{"path": "/x"}]}),
    }


def test_a_host_gets_its_own_share_and_only_hosts_of_the_fleet_do():
    plan = examples.example("demo")
    assert set(share(plan, "demo-node1")) == {"engine", "model_store", "perimeter", "serve"}
    assert set(share(plan, "demo-gw")) == {"gateway", "perimeter"}
    with pytest.raises(UnknownHostError, match="nobody is in no group of the fleet"):
        share(plan, "nobody")


def test_weights_are_asked_for_at_the_address_of_the_engines():
    plan = examples.example("demo")
    store = share(plan, "demo-node1")["model_store"]
    assert store["model_store_address"] == plan["hosts"]["demo-node1"]["address"]


def test_one_hosts_change_does_not_touch_anothers_share():
    inputs = {
        "models": [fleets.model(replica_count=2)],
        "shapes": {"tiny": fleets.shape()},
        "settings": fleets.PUBLIC,
    }
    gateway = {"gw": fleets.host(9, "gateways")}
    before = fleets.planned(
        hosts=gateway | {"gpu1": fleets.gpu_host(1, count=1), "gpu2": fleets.gpu_host(2, count=1)}, **inputs
    )
    after = fleets.planned(
        hosts=gateway | {"gpu1": fleets.gpu_host(1, count=1), "gpu3": fleets.gpu_host(3, count=1)}, **inputs
    )
    assert before["shares"]["gpu1"] == after["shares"]["gpu1"]
    assert before["id"] != after["id"]


def test_the_id_of_a_plan_does_not_change_with_estimates():
    asked = {"hosts": {"gpu1": fleets.gpu_host(1)}, "shapes": {"tiny": fleets.shape()}, "settings": fleets.PUBLIC}
    few, more = (
        fleets.planned(
            models=[fleets.model(workload={"concurrent_requests": 2, "prompt_tokens": 9, "output_tokens": n})], **asked
        )
        for n in (1, 500)
    )
    assert few["id"] == more["id"]


def test_no_secret_is_in_a_plan():
    """The planner is given names of keys; whatever looks like a secret elsewhere is refused and repeated nowhere."""
    marker = "MARKER-7f3a"
    models = [fleets.model(engine_env={"HF_TOKEN": marker, "MY_PASSWORD": marker}, engine_args={"hf_token": marker})]
    plan = fleets.planned(models=models, hosts={"gpu1": fleets.gpu_host(1)}, shapes={"tiny": fleets.shape()})
    assert [refusal["code"] for refusal in plan["refusals"]].count("secret_in_plan") == 3
    assert marker not in json.dumps(plan)
