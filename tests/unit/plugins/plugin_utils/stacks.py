# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the role vllm_stack for tests, completed with the role's own defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROLE = Path(__file__).resolve().parents[4] / "roles" / "vllm_stack"
DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))


def model(name: str = "llama", **changes: Any) -> dict[str, Any]:
    """A model of four GPUs whose weights lie on the nodes."""
    config = {
        "served_model_name": f"org/{name}",
        "max_model_len": 8192,
        "tensor_parallel_size": 4,
        "pipeline_parallel_size": 1,
        "distributed_executor_backend": "mp",
    }
    made = {
        "name": name,
        "source_kind": "store",
        "source": f"/var/lib/gpufleet/models/{name}/abababababab",
        "version": "abababababab",
        "engine_version": "0.33.0",
        "accelerator": "cuda",
        "device": "H100-SXM-80GB",
        "ranks": 4,
        "nodes": 1,
        "cpus": 6,
        "memory_gib": 28,
        "load_seconds": 900,
        "min_replicas": 2,
        "max_replicas": 16,
        "node_port": 30800,
        "config": config,
        "engine_args": {},
        "engine_env": {},
    }
    return made | changes


def group(name: str = "giant", **changes: Any) -> dict[str, Any]:
    """A model of two nodes with eight GPUs each."""
    config = model(name)["config"] | {"tensor_parallel_size": 8, "pipeline_parallel_size": 2}
    made = {"ranks": 16, "nodes": 2, "max_replicas": 2, "node_port": 30801, "config": config}
    return model(name, **made) | changes


def options(*models: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The role's options with these models, each on every node."""
    given = list(models) or [model()]
    nodes = [{"name": f"gpu{n}", "address": f"10.0.0.{n}", "models": [m["name"] for m in given]} for n in (1, 2)]
    made = {
        "vllm_stack_models": given,
        "vllm_stack_nodes": nodes,
        "vllm_stack_key_secret": "engine-key-0123456789",
        "vllm_stack_hf_token_secret": "",
    }
    return DEFAULTS | made | changes


KINDS_OF_STACK = {
    "keda": options(),
    "hpa": options(vllm_stack_autoscaler="hpa"),
    "hpa on the cache": options(vllm_stack_autoscaler="hpa", vllm_stack_scaling_signal="kv_cache"),
    "nothing scales": options(vllm_stack_autoscaler="none"),
    "one may not scale": options(model(max_replicas=2), model("other", node_port=30802)),
    "hub and router": options(
        model(source_kind="hub", source="org/name", revision="0" * 40),
        vllm_stack_model_source="hub",
        vllm_stack_hf_token_secret="hub-token-0123456789",
        vllm_stack_router_tag="v0.1.12",
        vllm_stack_router_logic="session",
        vllm_stack_router_session_key="x-user-id",
    ),
    "cpu": options(
        model(accelerator="cpu", cpu_kv_gib=4, ranks=2, engine_version="0.32.0"),
        vllm_stack_cpu_image="registry.example.org/vllm-cpu",
    ),
    "over nodes": options(group(), model(), vllm_stack_autoscaler="hpa"),
    "pinned image": options(vllm_stack_cuda_image_digest="sha256:" + "ab" * 32),
}
"""A stack of every kind that the role can hand over."""
