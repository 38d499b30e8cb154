# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of whole fleets share: an inventory to change, playbooks to run on it, hosts to look at."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.gpufleet.serving.plugins.module_utils._openai import CompletionError, stream_completion

CHECKOUT = Path(__file__).resolve().parents[2]
TEST_HOSTS = CHECKOUT / "tests/hosts/inventory"
RECAP_LINE = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
# everything that the collection could change on a host, and nothing that changes by itself
LOOK = r"""
find /etc /opt /usr/local /var/lib/gpufleet /var/cache/gpufleet /run/gpufleet -xdev \( -type f -o -type l \) \
    -printf '%p %s %m %u %T@\n' 2>/dev/null |
    grep -v -e '/var/cache/gpufleet/[^/]*/.*/' -e /var/lib/gpufleet/home | sort
systemctl list-units --all --plain --no-legend 'gpufleet-*' nginx.service | sort
systemctl show --property=MainPID --value 'gpufleet-*.service' nginx.service
"""


@dataclass(frozen=True)
class Run:
    """One run of ansible-playbook."""

    rc: int
    output: str

    @property
    def changed(self) -> dict[str, int]:
        """Changed tasks by host, from the recap."""
        return {match[1]: int(match[3]) for match in RECAP_LINE.finditer(self.output)}

    @property
    def words(self) -> str:
        """The output with its line breaks and indents folded, for looking for sentences."""
        return " ".join(self.output.split())

    def expect(self, rc: int) -> Run:
        """The run itself, where it ended with this exit code."""
        assert self.rc == rc, f"exit code {self.rc} and not {rc}:\n{self.output[-6000:]}"
        return self

    def expect_unchanged(self) -> Run:
        """The run itself, where it succeeded and changed nothing."""
        self.expect(0)
        assert self.changed, f"no recap:\n{self.output[-6000:]}"
        assert not any(self.changed.values()), f"changed: {self.changed}\n{self.output[-6000:]}"
        return self


@dataclass
class Fleet:
    """An inventory of test hosts in a folder of its own, so that a test may change it."""

    folder: Path
    hosts: dict[str, Any]
    variables: dict[str, Any]
    secrets: Path
    settings: dict[str, Any] = field(default_factory=dict)

    def changed(self, **variables: Any) -> Fleet:
        """The same hosts under other variables."""
        return Fleet(self.folder, self.hosts, {**self.variables, **variables}, self.secrets, self.settings)

    def with_hosts(self, change: Callable[[dict[str, Any]], None]) -> Fleet:
        """The same variables over an inventory that ``change`` was applied to."""
        hosts = copy.deepcopy(self.hosts)
        change(hosts)
        return Fleet(self.folder, hosts, self.variables, self.secrets, self.settings)

    def write(self) -> Path:
        """The inventory as Ansible reads it."""
        inventory = {
            "all": {"vars": {"fleet_secrets_dir": str(self.secrets), **self.variables}, "children": self.hosts}
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
        return self.folder

    def start(self, playbook: str = "site.yml", *arguments: str, cwd: Path = CHECKOUT) -> subprocess.Popen[str]:
        """Begin a run and leave it running."""
        command = [
            str(Path(sys.executable).parent / "ansible-playbook"),
            f"--inventory={TEST_HOSTS}",
            f"--inventory={self.write()}",
            *arguments,
            str(CHECKOUT / playbook),
        ]
        return subprocess.Popen(
            command,
            cwd=cwd,
            env={
                **os.environ,
                "PWD": str(self.folder.parent),
                "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
                **self.settings,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, playbook: str = "site.yml", *arguments: str, cwd: Path = CHECKOUT, timeout_s: float = 900) -> Run:
        """Run a playbook to its end."""
        process = self.start(playbook, *arguments, cwd=cwd)
        try:
            output, _none = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            stop(process)
            raise
        return Run(process.returncode, output)

    def plan(self) -> dict[str, Any]:
        """The plan that the last run wrote down."""
        return json.loads((self.folder.parent / "plan.json").read_text(encoding="utf-8"))


def stop(process: subprocess.Popen[str]) -> str:
    """Kill a run and everything that it started, as a pulled plug would."""
    os.killpg(process.pid, signal.SIGKILL)
    output, _none = process.communicate()
    return output


def shell(host: str, command: str, check: bool = True) -> str:
    """What a shell on a test host prints."""
    done = subprocess.run(
        ["podman", "exec", host, "sh", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert not check or done.returncode == 0, f"{host}: {command}: exit code {done.returncode}: {done.stdout}"
    return done.stdout


def snapshot(hosts: list[str]) -> dict[str, str]:
    """Everything that the collection could have changed, by host."""
    return {host: shell(host, LOOK, check=False) for host in hosts}


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, list[str]]:
    """The lines in which two snapshots differ, by host; empty where nothing changed."""
    changes = {host: sorted(set(before[host].splitlines()) ^ set(after[host].splitlines())) for host in before}
    return {host: lines for host, lines in changes.items() if lines}


def main_pid(host: str, replica: str) -> int:
    """The main process of a replica's unit; 0 where none runs."""
    return int(shell(host, f"systemctl show --property=MainPID --value gpufleet-{replica}.service"))


def reboot(host: str, within_s: float = 60) -> None:
    """Boot a host, and return when its systemd is another."""

    def begun() -> str:
        return shell(host, "systemctl show --property=UserspaceTimestampMonotonic --value", check=False).strip()

    before = begun()
    shell(host, "systemctl reboot", check=False)
    eventually(lambda: begun().isdigit() and begun() != before, within_s, f"{host}: its boot")


def measured(host: str) -> dict[str, Any]:
    """What was measured of the replicas on a host, by replica."""
    return json.loads(shell(host, "cat /etc/ansible/facts.d/gpufleet_measured.fact"))["replicas"]


def left_by_benchmarks(host: str) -> str:
    """Processes and folders of load generators on a host; nothing where every one went away."""
    return shell(host, "pgrep -af '[b]ench serve'; find /tmp -name 'gpufleet-benchmark-*'", check=False)


def eventually(condition: Callable[[], Any], within_s: float, what: str) -> Any:
    """The first true value of ``condition``, asked every other second."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(2)
    raise AssertionError(f"{what}: not within {within_s:.0f} s")


@dataclass
class FrontDoor:
    """The endpoint as a client sees it."""

    url: str
    key: str
    ca_path: str

    def ask(
        self, model: str, max_tokens: int = 8, timeout_s: float = 60, prompt: str = "Tensor parallelism splits"
    ) -> str:
        """The text of one streamed completion; raises CompletionError."""
        body = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True}
        return stream_completion(self.url, body, self.key, self.ca_path, timeout_s).text

    def answers(self, model: str) -> bool:
        """Whether one streamed completion comes whole."""
        try:
            self.ask(model)
        except CompletionError:
            return False
        return True

    @contextmanager
    def load(self, model: str, clients: int = 2, pause_s: float = 0.2) -> Iterator[Mapping[str, list[str]]]:
        """A closed loop of clients for as long as the block runs; yields {"ok": [...], "failed": [...]}."""
        results: dict[str, list[str]] = {"ok": [], "failed": []}
        over = threading.Event()

        def client() -> None:
            while not over.is_set():
                try:
                    results["ok"].append(self.ask(model))
                except CompletionError as error:
                    results["failed"].append(f"{time.strftime('%H:%M:%S')} {error}")
                over.wait(pause_s)

        threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield results
        finally:
            over.set()
            for thread in threads:
                thread.join(timeout=90)
