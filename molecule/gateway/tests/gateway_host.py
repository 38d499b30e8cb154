# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenario's host from outside: its addresses and keys, the mock engines on it, the playbooks that change it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from gateway_load import Endpoint, ask

CHECKOUT = Path(__file__).resolve().parents[3]
SCENARIO = CHECKOUT / "molecule/gateway"
SETTINGS = yaml.safe_load((SCENARIO / "inventory/hosts.yml").read_text(encoding="utf-8"))["test_hosts"]["vars"]
ADDRESS = "10.89.77.21"
KEYS = {key["name"]: key["key"] for key in SETTINGS["gateway_keys"]}
ENGINE_KEY = SETTINGS["gateway_engine_key"]
ENGINE_PORTS = SETTINGS["mock_ports"]["tiny"]
CERTIFICATES = CHECKOUT / ".cache/tls-of-the-gateway-tests"


def eventually(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait until ``condition`` is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.05)


class Engine:
    """One mock engine, through the door that it keeps for tests."""

    def __init__(self, host: Any, port: int) -> None:
        self.host = host
        self.unit = f"mock-tiny@{port}.service"
        self.server = f"{ADDRESS}:{port}"
        self.endpoint = Endpoint(ADDRESS, port)

    def fault(self, kind: str, status: int = 500, prompt: str = "") -> None:
        """Let requests whose prompt holds ``prompt`` meet a fault from now on."""
        answer = ask(self.endpoint, "POST", "/mock/fault", {"kind": kind, "status": status, "prompt": prompt})
        assert answer.ok, answer

    def seen(self) -> list[dict[str, str]]:
        """The last requests that it got, the newest last."""
        return ask(self.endpoint, "GET", "/mock/requests").json()

    def running(self) -> int:
        """Requests that it works on now."""
        metrics = ask(self.endpoint, "GET", "/metrics").body.decode().splitlines()
        return int(sum(float(line.split()[-1]) for line in metrics if line.startswith("vllm:num_requests_running")))

    def kill(self) -> None:
        """SIGKILL everything of it."""
        self.host.check_output("systemctl kill --signal=KILL %s", self.unit)

    def start(self) -> None:
        """Start it, if it does not run, and wait until it answers."""
        self.host.check_output("systemctl reset-failed %s; systemctl start %s", self.unit, self.unit)
        eventually(lambda: ask(self.endpoint, "GET", "/health").ok, 10, f"{self.unit} answers")


class Played:
    """What a run of a playbook said."""

    def __init__(self, status: int, output: str) -> None:
        self.status = status
        self.output = output

    @property
    def words(self) -> str:
        """The output with its line breaks folded, for looking for sentences."""
        return " ".join(self.output.split())

    @property
    def changed(self) -> bool:
        """Whether any task changed anything."""
        return "changed=0" not in self.output

    def expect(self, success: bool) -> Played:
        """This run, which must have ended so."""
        assert (self.status == 0) is success, self.output[-6000:]
        return self


def play(playbook: str, *arguments: str, **variables: Any) -> Played:
    """Run a playbook of this scenario over its host."""
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"),
        f"--inventory={CHECKOUT}/tests/hosts/inventory",
        f"--inventory={SCENARIO}/inventory",
        f"--extra-vars={json.dumps(variables)}",
        *arguments,
        str(SCENARIO / playbook),
    ]
    done = subprocess.run(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300
    )
    return Played(done.returncode, done.stdout)
