# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small fleets, models and states for the planner's tests. Every plan made here has passed the independent checker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.serving.plugins.module_utils._model_config import shape_from_config
from ansible_collections.gpufleet.serving.plugins.plugin_utils._plan import plan
from ansible_collections.gpufleet.serving.tests.plan_checker import accept
from jsonschema import Draft202012Validator

REVISION = "0123456789abcdef0123456789abcdef01234567"
CONTENT = "sha256:" + "ab" * 32
PUBLIC = {"gateway_public": True}
SCHEMA = Draft202012Validator(
    json.loads((Path(__file__).parents[4] / "docs/plan.schema.json").read_text(encoding="utf-8"))
)
"""What plan.json promises to programs."""

LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
LLAMA_70B = LLAMA_8B | {
    "num_hidden_layers": 80,
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
}
MIXTURE = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "num_hidden_layers": 48,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "decoder_sparse_step": 1,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}
TINY = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 4,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 2048,
    "torch_dtype": "bfloat16",
}


def shape(config: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """What the filter gets of a model that ``model_info`` read."""
    plain = shape_from_config((config or TINY) | changes).to_dict()
    return {"shape": json.loads(json.dumps(plain)), "content_id": CONTENT, "weight_bytes": None, "error": None}


def model(name: str = "tiny", **options: Any) -> dict[str, Any]:
    """One entry of fleet_models: weights that lie on the hosts, unless the options say otherwise."""
    return {"name": name, "source": f"/srv/models/{name}", "max_model_len": 1024} | options


def host(number: int, groups: str = "gpu_nodes", **words: Any) -> dict[str, Any]:
    """One host as the inventory describes it, not asked."""
    described = {
        "groups": groups.split(),
        "address": f"10.0.0.{number}",
        "reachable": None,
        "facts": None,
        "fleet_gpus": None,
        "fleet_cpu_devices": None,
        "fleet_cpu_kv_gib": None,
        "fleet_rack": None,
        "fleet_fabric_interface": None,
    }
    return described | words


def gpu_host(number: int, key: str = "H100-SXM-80GB", count: int = 8, **words: Any) -> dict[str, Any]:
    """A host whose GPUs the inventory states."""
    return host(number, fleet_gpus=[{"model": key, "count": count}], **words)


def cpu_host(number: int, devices: int = 2, kv_gib: int = 1, **words: Any) -> dict[str, Any]:
    return host(number, fleet_cpu_devices=devices, fleet_cpu_kv_gib=kv_gib, **words)


def facts(*gpus: dict[str, Any], state: str = "ok", **machine: Any) -> dict[str, Any]:
    """What ``gpu_info`` returns."""
    defaults = {
        "memory_total_bytes": 2**38,
        "cgroup_memory_limit_bytes": None,
        "disks": {},
        "interfaces": [],
        "default_interface": "eth0",
        "default_address": "10.9.9.9",
    }
    return {"gpus": list(gpus), "state": state, "state_reason": None, "host": defaults | machine}


def gpu(index: int, key: str | None = "H100-SXM-80GB", **values: Any) -> dict[str, Any]:
    """One GPU as a host with a driver tells it."""
    told = {
        "index": index,
        "uuid": f"GPU-{index:08d}",
        "name": "NVIDIA H100 80GB HBM3",
        "key": key,
        "candidates": [key] if key else [],
        "source": "driver",
        "memory_mib": 81559,
        "usable_gib": 79.18,
        "mig_mode": None,
        "mig_devices": [],
        "lost": False,
    }
    return told | values


def demo(**changes: Any) -> dict[str, Any]:
    """The inputs of the smallest whole fleet: two CPU hosts with two ranks each, a gateway, one model twice."""
    inputs = {
        "models": [model(source="controller:model", tensor_parallel_size=2, replica_count=2)],
        "hosts": {"node1": cpu_host(11), "node2": cpu_host(12), "gw": host(10, "gateways")},
        "shapes": {"tiny": shape()},
        "settings": {"gateway_key_names": ["demo"]},
    }
    return inputs | changes


LARGE_MODELS = 20


def large(hosts: int) -> dict[str, Any]:
    """The inputs of a large fleet: hosts of eight GPUs that answered, and twenty models that fill them."""
    answered = {}
    for number in range(hosts):
        gpus = [gpu(index, uuid=f"GPU-{number}-{index}") for index in range(8)]
        told = facts(*gpus, default_address=f"10.{number // 62500}.{number // 250 % 250}.{number % 250 + 1}")
        answered[f"gpu{number}"] = host(number, address=None, facts=told, reachable=True)
    models, shapes = [], {}
    for number in range(LARGE_MODELS):
        name, ranks = f"model-{number}", 2 ** (number % 4)
        wish = {"tensor_parallel_size": ranks, "replica_count": max(1, hosts * 8 // LARGE_MODELS // ranks)}
        models.append(model(name, max_model_len=8192, **wish))
        shapes[name] = shape(LLAMA_8B, num_hidden_layers=32 + number)
    return {"models": models, "hosts": answered, "shapes": shapes, "settings": PUBLIC}


def accepted(made: dict[str, Any]) -> dict[str, Any]:
    """The plan itself, where the independent checker and the schema accept it."""
    SCHEMA.validate(made)
    return dict(accept(made))


def planned(**inputs: Any) -> dict[str, Any]:
    """The plan of these inputs, accepted."""
    return accepted(plan(**inputs))


def refusals(**inputs: Any) -> dict[str, dict[str, Any]]:
    """The refusals of these inputs by code."""
    return {refusal["code"]: refusal for refusal in planned(**inputs)["refusals"]}


def warnings(**inputs: Any) -> dict[str, dict[str, Any]]:
    """The warnings of an applicable plan by code."""
    made = planned(**inputs)
    assert not made["refusals"], made["refusals"]
    return {warning["code"]: warning for warning in made["warnings"]}


def applied(made: dict[str, Any], live: bool = True, silent: tuple[str, ...] = ()) -> dict[str, Any]:
    """The state of a fleet that a plan was carried out on; of ``silent`` hosts only the plan's copy tells."""
    hosts = {}
    for name, roles in made["shares"].items():
        if name in silent:
            continue
        units = roles.get("serve", {}).get("serve_units", [])
        hosts[name] = {
            "roles": {role: _recorded(role, options) for role, options in roles.items()},
            "replicas": {unit["name"]: {"active": live, "live": live} for unit in units},
        }
    return {"hosts": hosts, "plan": made}


def _recorded(role: str, options: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in options.items() if name != f"{role}_share_id"}
    return {"share": options[f"{role}_share_id"], "options": kept}
