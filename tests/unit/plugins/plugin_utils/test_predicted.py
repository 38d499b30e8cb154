# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.gpufleet.serving.plugins.plugin_utils._predicted import predicted
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils import examples, fleets

SERVE = yaml.safe_load((examples.REPOSITORY / "roles/serve/meta/argument_specs.yml").read_text(encoding="utf-8"))
VERIFY = SERVE["argument_specs"]["verify"]["options"]


def test_a_cpu_replicas_cache_is_predicted_to_the_block():
    """1 GiB a rank in blocks of 128 tokens; a token takes 2 x 4 layers x 1 head of 64 x 2 bytes on a rank."""
    made = fleets.planned(**fleets.demo())
    (entry,) = predicted(made, "node2")
    weights = entry.pop("weights_gib")
    assert entry == {"name": "tiny-1", "kv_blocks": 8192, "block_size": 128, "kv_tokens": 1048576, "kv_gib": 1.0}
    assert weights < 0.01


def test_each_kind_of_device_has_its_own_prediction():
    hosts = {"gpu1": fleets.gpu_host(1, "L40S-48GB", 1), "gpu2": fleets.gpu_host(2, "H100-SXM-80GB", 1)}
    wished = fleets.model("llama", replica_count=2, tensor_parallel_size=1, max_model_len=4096)
    shapes = {"llama": fleets.shape(fleets.LLAMA_8B)}
    made = fleets.planned(models=[wished], hosts=hosts, shapes=shapes, settings=fleets.PUBLIC)
    small, large = (predicted(made, host)[0] for host in ("gpu1", "gpu2"))
    assert small["kv_tokens"] < large["kv_tokens"]
    assert small["weights_gib"] == large["weights_gib"]


def test_a_held_replica_runs_as_before_and_has_none():
    before = fleets.planned(**fleets.demo())
    changed = fleets.model(source="controller:model", tensor_parallel_size=2, replica_count=2, max_num_seqs=4)
    held = fleets.planned(**fleets.demo(models=[changed], previous=fleets.applied(before)))
    assert predicted(held, "node1") == []


def test_a_host_without_replicas_has_none():
    assert predicted(fleets.planned(**fleets.demo()), "gw") == []


@pytest.mark.parametrize("name", examples.NAMES)
def test_predictions_are_what_the_role_asks_for(name):
    made = examples.example(name)
    for host in made["hosts"]:
        found = predicted(made, host)
        result = ArgumentSpecValidator(VERIFY).validate({"serve_predicted": found})
        assert result.error_messages == []
        assert result.validated_parameters["serve_predicted"] == found
