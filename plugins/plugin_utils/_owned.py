# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator may not hand to the engine past the plan: flags and variables that the plan owns, and secrets."""

from __future__ import annotations

import re
from typing import Any

from ._findings import Findings

SECRET_WORDS = re.compile(r"(^|_)(TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
MODEL_OPTION = "use the option {} of the model"
PLANNED = "leave it out: the plan decides it"
OWN_WORDS = {
    "tp": "tensor_parallel_size",
    "pp": "pipeline_parallel_size",
    "dp": "data_parallel_size",
    "dcp": "decode_context_parallel_size",
    "device_memory_utilization": "gpu_memory_utilization",
}
"""Further names of flags that are options of the model."""

OWNED_FLAGS = {
    **{
        name: MODEL_OPTION.format(name)
        for name in (
            "served_model_name",
            "max_model_len",
            "tensor_parallel_size",
            "pipeline_parallel_size",
            "data_parallel_size",
            "decode_context_parallel_size",
            "distributed_executor_backend",
            "gpu_memory_utilization",
            "max_num_seqs",
            "max_num_batched_tokens",
            "kv_cache_dtype",
            "quantization",
            "dtype",
            "revision",
            "trust_remote_code",
        )
    },
    **{name: MODEL_OPTION.format(option) for name, option in OWN_WORDS.items()},
    **dict.fromkeys(
        (
            "nnodes",
            "node_rank",
            "master_addr",
            "master_port",
            "headless",
            "device_ids",
            "data_parallel_size_local",
            "data_parallel_rank",
            "data_parallel_start_rank",
            "data_parallel_address",
            "data_parallel_rpc_port",
            "data_parallel_backend",
            "data_parallel_hybrid_lb",
            "data_parallel_external_lb",
            "data_parallel_multi_port_external_lb",
            "data_parallel_supervisor_port",
            "prefill_context_parallel_size",
            "grpc",
            "grpc_port",
            "api_server_count",
            "download_dir",
            "root_path",
            "uds",
        ),
        PLANNED,
    ),
    "model": MODEL_OPTION.format("source"),
    "tokenizer_revision": MODEL_OPTION.format("revision"),
    "code_revision": MODEL_OPTION.format("revision"),
    "host": "set fleet_address or fleet_fabric_interface on the host",
    "port": "set fleet_engine_port",
    "api_key": "list clients' keys in gateway_keys; the engine's own is made by the collection",
    "config": "write the flags themselves into engine_args",
    "shutdown_timeout": "set serve_shutdown_timeout",
    "ssl_keyfile": "set gateway_tls: the gateway is the one end of TLS",
    "ssl_certfile": "set gateway_tls: the gateway is the one end of TLS",
    "ssl_ca_certs": "set gateway_tls: the gateway is the one end of TLS",
    "ssl_ciphers": "set gateway_tls: the gateway is the one end of TLS",
    "ssl_cert_reqs": "set gateway_tls: the gateway is the one end of TLS",
    "enable_ssl_refresh": "set gateway_tls: the gateway is the one end of TLS",
}
"""Each owned flag and what to use instead."""

OWNED_ENVIRONMENT = {
    "VLLM_API_KEY": "the engine's key is made by the collection; clients' keys are gateway_keys",
    "CUDA_VISIBLE_DEVICES": "the plan assigns the devices",
    "VLLM_CPU_KVCACHE_SPACE": "set fleet_cpu_kv_gib on the host",
    "VLLM_HOST_IP": "set fleet_address or fleet_fabric_interface on the host",
    "VLLM_PORT": "set fleet_engine_port",
    "GLOO_SOCKET_IFNAME": "set fleet_fabric_interface on the host",
    "NCCL_SOCKET_IFNAME": "set fleet_fabric_interface on the host",
    "NCCL_IB_HCA": "set fleet_rdma_devices on the host",
    "RAY_ADDRESS": "the guard names the cluster of each start",
    "RAY_AUTH_MODE": "Ray asks for a token of the collection's own",
    "RAY_USAGE_STATS_ENABLED": "the collection sends no usage statistics",
    "HF_HUB_OFFLINE": "engines read the model store and never a hub",
    "HOME": "the unit sets it",
    "PATH": "the unit sets it",
}
"""Each owned environment variable and what to use instead."""


def is_secret(name: str) -> bool:
    """Whether a flag or a variable of this name holds a secret."""
    return SECRET_WORDS.search(name) is not None


def check_owned(flags: dict[str, Any], path: str, findings: Findings) -> None:
    """Refuses flags that the plan owns, and secrets. ``path``: of the engine_args, as messages name it."""
    for flag, value in sorted(flags.items()):
        if flag in OWNED_FLAGS:
            findings.refuse("owned_engine_flag", f"{path}.{flag}", "is not for engine_args", OWNED_FLAGS[flag])
        elif is_secret(flag) and isinstance(value, str):
            findings.refuse(
                "secret_in_plan",
                f"{path}.{flag}",
                "looks like a secret, and engine_args are written into the plan and onto the hosts for all to read",
                "leave it out: weights come from the model store, and engines need no token",
            )
