#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until an engine holds no request."""

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_idle
short_description: Wait until a vLLM engine holds no request
version_added: "0.1.0"
description:
  - Reads the engine's own metrics until it neither runs nor queues a request. Meant for an engine that the gateway has
    stopped sending to, before it is stopped.
  - The wait is bounded, and its end is no failure; a warning names the requests that were still held.
options:
  address:
    description: The address that the engine binds.
    type: str
    required: true
  port:
    description: The port that the engine binds.
    type: int
    required: true
  timeout:
    description: Seconds to wait in all.
    type: float
    default: 600
  interval:
    description: Seconds between two readings.
    type: float
    default: 1
author:
  - The gpufleet authors (@gpufleet)
attributes:
  check_mode:
    description: Waits in check mode as well; reading changes nothing.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Wait for the streams to end
  gpufleet.serving.engine_idle:
    address: 10.0.0.11
    port: 8000
    timeout: 300
"""

RETURN = r"""
idle:
  description: Whether the engine came to hold no request, or was gone.
  type: bool
  returned: success
in_flight:
  description: The requests running and waiting at the last reading; null when there was none.
  type: int
  returned: success
  sample: 0
seconds:
  description: How long it took.
  type: float
  returned: success
  sample: 12.0
"""

import platform
import time
from typing import Callable, NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.serving.plugins.module_utils._engine import Engine, EngineBusy, EngineSilent

# one reading of zero may fall between a request's arrival at the port and its entry into the gauge
QUIET_READINGS = 2


class Outcome(NamedTuple):
    """Whether the engine came to rest, what it held at the last reading, and the seconds that passed."""

    idle: bool
    in_flight: int | None
    seconds: float


def wait_for_idle(
    read: Callable[[], int],
    timeout_s: float,
    interval_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Wait until ``read()`` gave zero twice in a row, or the engine is gone. Raises ValueError as ``read()`` does."""
    begun = clock()
    quiet = 0
    in_flight = None
    while True:
        try:
            in_flight = read()
            quiet = 0 if in_flight else quiet + 1
        except EngineBusy:
            quiet = 0
        except EngineSilent:
            return Outcome(True, in_flight, clock() - begun)
        if quiet == QUIET_READINGS or clock() - begun >= timeout_s:
            return Outcome(quiet == QUIET_READINGS, in_flight, clock() - begun)
        sleep(interval_s)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "timeout": {"type": "float", "default": 600},
            "interval": {"type": "float", "default": 1},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    engine = Engine(wanted["address"], wanted["port"])
    try:
        outcome = wait_for_idle(engine.requests_in_flight, wanted["timeout"], wanted["interval"])
    except ValueError as error:
        module.fail_json(
            msg=f"{platform.node()}: {engine.url}/metrics: {error}. Does another program listen there?",
        )
    if not outcome.idle:
        held = "an unknown number of" if outcome.in_flight is None else outcome.in_flight
        module.warn(f"{platform.node()}: {engine.url} still held {held} requests after {outcome.seconds:g} s")
    module.exit_json(changed=False, **outcome._asdict())


if __name__ == "__main__":
    main()
