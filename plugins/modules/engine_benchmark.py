#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drive a bounded load at one replica and tell what it did."""

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_benchmark
short_description: Drive a bounded load at one replica and tell what it did
version_added: "0.2.0"
description:
  - Runs vLLM's own load generator, C(vllm bench serve), on the replica's host, from the replica's environment, against
    the address that the engine binds. It fetches nothing, and the key is in its environment alone.
  - Ends at the latest after O(time_limit), and leaves no process and no file behind.
  - Writes nothing either. The figures are put together with those that are known, as the content of
    C(/etc/ansible/facts.d/gpufleet_measured.fact).
options:
  unit:
    description: The replica, as the role P(gpufleet.serving.serve#role) recorded it in C(serve_units).
    type: dict
    required: true
  key:
    description: The engine's API key.
    type: str
    required: true
  user:
    description: The system user that the load generator runs as.
    type: str
    default: vllm
  concurrency:
    description: Requests at once.
    type: int
    required: true
  prompt_tokens:
    description: Tokens of each prompt.
    type: int
    required: true
  output_tokens:
    description: Tokens of each answer.
    type: int
    required: true
  num_prompts:
    description: Requests in all.
    type: int
    required: true
  time_limit:
    description: Seconds after which the load is ended, the start of the load generator included.
    type: int
    default: 600
author:
  - The gpufleet authors (@gpufleet)
attributes:
  check_mode:
    description: Drives no load in check mode, and says so.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: See what a replica does
  gpufleet.serving.engine_benchmark:
    unit: "{{ serve_units[0] }}"
    key: "{{ serve_engine_key }}"
    concurrency: 16
    prompt_tokens: 1000
    output_tokens: 300
    num_prompts: 64
  register: benchmark
"""

RETURN = r"""
benchmark:
  description: What the replica did. Times are in milliseconds.
  type: dict
  returned: when the load was driven
  sample:
    concurrency: 16
    prompt_tokens: 1000
    output_tokens: 300
    num_prompts: 64
    requests_per_second: 3.125
    output_tokens_per_second: 937.5
    ttft_ms: {p50: 210.4, p99: 480.2}
    tpot_ms: {p50: 16.2, p99: 18.9}
    itl_ms: {p50: 15.9, p99: 31.0}
    tool: vllm bench serve 0.33.0
clients:
  description: Requests of others that the engine held when the load began. With any, it can do more than it did.
  type: int
  returned: when the load was driven
  sample: 0
fact:
  description: The content of the fact file with these figures.
  type: str
  returned: when the load was driven
"""

import os
import platform
import pwd
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.serving.plugins.module_utils._benchmark import (
    RESULT,
    BenchmarkError,
    Load,
    command,
    environment,
    read_result,
)
from ansible_collections.gpufleet.serving.plugins.module_utils._command import Outcome, run_bounded
from ansible_collections.gpufleet.serving.plugins.module_utils._engine import Engine, EngineSilent
from ansible_collections.gpufleet.serving.plugins.module_utils._measured_fact import (
    MEASURED,
    FactError,
    fact_text,
    now,
    read_fact,
    unit_id,
    with_benchmark,
)

# the guard that ends the load where this module itself was killed
GUARD_SECONDS = 15
TOLD_LINES = 15


def benchmark(unit: dict[str, Any], key: str, user: str, load: Load, limit_s: int) -> dict[str, Any]:
    """Drive the load, and return its figures. Raises BenchmarkError."""
    with _folder_of(user) as folder:
        drive = command(unit, load, folder, seed=secrets.randbelow(2**31))
        guarded = ["timeout", "--signal=KILL", str(limit_s + GUARD_SECONDS), *_as_user(user), *drive]
        outcome = run_bounded(guarded, limit_s, environment(unit, key, folder))
        if outcome.timed_out:
            raise BenchmarkError(
                f"not done after {limit_s} s, and ended: send fewer prompts (benchmark_num_prompts, now "
                f"{load.num_prompts}), shorter ones, or give it longer (benchmark_time_limit)"
            )
        try:
            report = (Path(folder) / RESULT).read_text(encoding="utf-8")
        except OSError:
            raise BenchmarkError(f"it ended with exit status {outcome.rc} and no report. {_last(outcome)}") from None
    try:
        return read_result(report, load)
    except BenchmarkError as error:
        raise BenchmarkError(f"{error}. {_last(outcome)}") from None


@contextmanager
def _folder_of(user: str) -> Iterator[str]:
    """A folder that only the user can enter, for as long as the block runs. Raises BenchmarkError."""
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise BenchmarkError(f"there is no user {user}: name the one that the engine runs as") from None
    folder = tempfile.mkdtemp(prefix="gpufleet-benchmark-")
    try:
        os.chown(folder, account.pw_uid, account.pw_gid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_user(user: str) -> list[str]:
    return [] if pwd.getpwnam(user).pw_uid == os.geteuid() else ["runuser", "--user", user, "--"]


def _last(outcome: Outcome) -> str:
    return "The last lines that it wrote:\n" + "\n".join(outcome.text.splitlines()[-TOLD_LINES:])


def main() -> None:
    """Run the module."""
    amount = {"type": "int", "required": True}
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "dict", "required": True},
            "key": {"type": "str", "required": True, "no_log": True},
            "user": {"type": "str", "default": "vllm"},
            "concurrency": amount,
            "prompt_tokens": {**amount, "no_log": False},
            "output_tokens": {**amount, "no_log": False},
            "num_prompts": amount,
            "time_limit": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    asked = module.params
    unit, path = asked["unit"], Path("/") / MEASURED
    load = Load(asked["concurrency"], asked["prompt_tokens"], asked["output_tokens"], asked["num_prompts"])
    if module.check_mode:
        module.exit_json(changed=False, skipped=True, msg="no load is driven in check mode")
    engine = Engine(unit["address"], int(unit["port"]))
    try:
        known, clients, version = read_fact(path), engine.requests_in_flight(), engine.version()
        figures = benchmark(unit, asked["key"], asked["user"], load, asked["time_limit"])
    except (FactError, EngineSilent, ValueError) as error:
        module.fail_json(msg=f"{platform.node()}: no load was driven at {unit['name']}: {error}")
    except BenchmarkError as error:
        module.fail_json(msg=f"{platform.node()}: the load on {unit['name']} gave no figures: {error}")
    told = {**figures, "tool": f"vllm bench serve {version}"}
    replicas = with_benchmark(known, unit["name"], unit_id(unit), told, now())
    module.exit_json(changed=False, benchmark=told, clients=clients, fact=fact_text(replicas))


if __name__ == "__main__":
    main()
