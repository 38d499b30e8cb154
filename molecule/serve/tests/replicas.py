# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenario's replicas: run the role over them, ask them, look at them."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.gpufleet.serving.plugins.module_utils._openai import (
    Completion,
    CompletionError,
    stream_completion,
)

CHECKOUT = Path(__file__).resolve().parents[3]
SCENARIO = CHECKOUT / "molecule/serve"
SETTINGS = yaml.safe_load((SCENARIO / "inventory/hosts.yml").read_text(encoding="utf-8"))["test_hosts"]["vars"]
ADDRESS = "10.89.77.51"
KEY = SETTINGS["serve_engine_key"]
GATEWAY_PORT = SETTINGS["gateway_listen_port"]
REPLICAS = {"tiny-0": 8000, "tiny-1": 8001}


def eventually(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait until ``condition`` is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.2)


def units(**changes: dict[str, Any]) -> list[dict[str, Any]]:
    """The replicas as converged, each with the given changes; None takes one away, a new name adds one like tiny-0."""
    wanted = {"tiny-0": SETTINGS["tiny_0"], "tiny-1": SETTINGS["tiny_1"]}
    for name, change in changes.items():
        replica = name.replace("_", "-")
        if change is None:
            del wanted[replica]
        else:
            wanted[replica] = {**wanted.get(replica, SETTINGS["tiny_0"]), "name": replica, **change}
    return copy.deepcopy(list(wanted.values()))


class Played:
    """What a run of the role said."""

    def __init__(self, status: int, output: str) -> None:
        self.status = status
        self.output = output

    @property
    def words(self) -> str:
        """The output with its line breaks folded, for looking for sentences."""
        return " ".join(self.output.split())

    def expect(self, success: bool) -> Played:
        """Insist on how the run ended."""
        assert (self.status == 0) is success, self.output[-6000:]
        return self

    def expect_unchanged(self) -> Played:
        """Insist that the run went well and found nothing to do."""
        assert "changed=0" in self.expect(True).output, self.output[-6000:]
        return self


def play(*arguments: str, **variables: Any) -> Played:
    """Run the role over the host."""
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"),
        f"--inventory={CHECKOUT}/tests/hosts/inventory",
        f"--inventory={SCENARIO}/inventory",
        f"--extra-vars={json.dumps(variables)}",
        *arguments,
        str(SCENARIO / "converge.yml"),
    ]
    done = subprocess.run(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300
    )
    return Played(done.returncode, done.stdout)


def complete(port: int, tokens: int = 3, key: str = KEY) -> Completion:
    """A streamed completion from an engine, or from the gateway at GATEWAY_PORT."""
    body = {"model": "org/tiny", "prompt": "Once", "max_tokens": tokens}
    return stream_completion(f"http://{ADDRESS}:{port}/v1", body, key=key, timeout_s=30)


@contextmanager
def load() -> Iterator[dict[str, list[str]]]:
    """Streams of a second each through the gateway, one after another from four clients, until the end."""
    results: dict[str, list[str]] = {"ok": [], "failed": []}
    done = threading.Event()

    def client() -> None:
        while not done.is_set():
            try:
                results["ok"].append(complete(GATEWAY_PORT, tokens=100).text)
            except CompletionError as error:
                results["failed"].append(str(error))

    clients = [threading.Thread(target=client) for _ in range(4)]
    for thread in clients:
        thread.start()
    try:
        yield results
    finally:
        done.set()
        for thread in clients:
            thread.join(60)


def shown(host: Any, replica: str, prop: str) -> str:
    """A property of a replica's unit."""
    return host.check_output("systemctl show --property=%s --value gpufleet-%s.service", prop, replica)


def pids(host: Any) -> dict[str, str]:
    """The main process of each replica."""
    return {replica: shown(host, replica, "MainPID") for replica in REPLICAS}


def files(host: Any) -> str:
    """Everything that the role could write, by content and time."""
    return host.check_output(
        "find /etc/gpufleet /etc/systemd/system /etc/ansible -type f -printf '%%p %%m %%u %%T@\\n' "
        "-exec sha256sum '{}' ';' | sort"
    )
