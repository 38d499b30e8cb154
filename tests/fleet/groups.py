# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A replica over several hosts as tests see it: its guards, its processes, and how it heals."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.serving.plugins.module_utils._openai import CompletionError
from harness import FrontDoor, eventually, shell

# two engines of this size meet and load in one to two minutes on two quiet cores
BACK_WITHIN_S = 400
LONG_ANSWER_TOKENS = 600
# two of this length end before a stop's patience does (120 s), at the 3 tokens a second of an engine on a busy machine
ANSWER_TOKENS = 200

Fault = Callable[[], object]
"""Something that is done to a host."""


@dataclass(frozen=True)
class Group:
    """The hosts of one replica, the head first, and their addresses."""

    replica: str
    model: str
    hosts: tuple[str, ...]
    addresses: tuple[str, ...]
    front_door: FrontDoor

    @property
    def head(self) -> str:
        """The host that answers requests."""
        return self.hosts[0]

    @property
    def other(self) -> str:
        """The host behind the head."""
        return self.hosts[1]

    @property
    def unit(self) -> str:
        """The unit's name, the same on all hosts."""
        return f"gpufleet-{self.replica}.service"

    def guard(self, host: str) -> dict[str, Any]:
        """What a host's guard wrote down; nothing where the host cannot be asked."""
        said = shell(host, f"cat /var/cache/gpufleet/{self.replica}/guard.json", check=False)
        return json.loads(said) if said.startswith("{") else {"epoch": -1, "state": ""}

    def epochs(self) -> list[int]:
        """The epoch of each host."""
        return [self.guard(host)["epoch"] for host in self.hosts]

    def engines_port(self) -> int:
        """Where the engines, or the parts of Ray, of the present epoch meet."""
        settings = json.loads(shell(self.head, f"cat /etc/gpufleet/serve/{self.replica}.json"))["group"]
        return settings["master_port"] + 1 + self.epochs()[0] % 15

    def processes(self, host: str) -> set[str]:
        """Whatever is in the unit's control group: ids, with the time of their start since a host counts anew."""
        group = shell(host, f"systemctl show --property=ControlGroup --value {self.unit}").strip()
        files = " ".join(f"/sys/fs/cgroup{folder}{group}/cgroup.procs" for folder in ("/systemd", ""))
        # behind the name, which may hold anything, the start is the twentieth word
        each = "sed \"s/.*) /$pid /\" /proc/$pid/stat | cut -d ' ' -f 1,21"
        return set(shell(host, f"for pid in $(cat {files} 2>/dev/null); do {each}; done", check=False).splitlines())

    def has_noticed(self, host: str, before: int) -> bool:
        """Whether a host has ended, or begun anew, since an epoch."""
        told = self.guard(host)
        return told["state"] in ("failed", "meeting", "waiting") or told["epoch"] > before

    def heals(
        self, fault: str, noticed_within_s: float, cause: Fault, undo: Fault | None = None, noticed_at: str = ""
    ) -> None:
        """Cause a fault while answers are on their way, and wait until the replica serves again.

        Prints how long everything took. Asserts that the fault is noticed in time, at the head where no other host is
        named, that the hosts meet once more and no oftener, that nothing of the earlier start is left when the next one
        begins, and no shared memory afterwards.
        """
        before, processes = max(self.epochs()), {host: self.processes(host) for host in self.hosts}
        with self.answers_under_way() as lost:
            begun = time.monotonic()
            cause()
            witness = noticed_at or self.head
            eventually(lambda: self.has_noticed(witness, before), noticed_within_s + 15, f"{fault}: noticed")
            noticed = time.monotonic() - begun
            self.forget_failures()
            if undo:
                undo()
            mended = time.monotonic() - begun if undo else 0.0
            eventually(lambda: self.epochs() == [before + 1] * len(self.hosts), BACK_WITHIN_S, f"{fault}: met again")
            met = time.monotonic() - begun
            for host in self.hosts:
                left = self.processes(host) & processes[host]
                assert not left, f"{host}: processes of the earlier start are left: {left}"
        eventually(lambda: self.front_door.answers(self.model), BACK_WITHIN_S, f"{fault}: serves")
        served = time.monotonic() - begun
        print(
            f"\n{fault}: noticed {noticed:.0f} s{f', undone {mended:.0f} s' if undo else ''}, met again {met:.0f} s, "
            f"serves {served:.0f} s (load {served - met:.0f} s), lost {len(lost)} of 2 requests under way"
        )
        assert noticed <= noticed_within_s, fault
        assert self.epochs() == [before + 1] * len(self.hosts), "it began anew more than once"
        for host in self.hosts:
            assert not self.forgotten_memory(host), f"{host}: shared memory that nobody has mapped"

    def begins_again(self, before: int, met_within_s: float = 60) -> tuple[float, float]:
        """Wait until all hosts have met once more since an epoch, and it serves; both in seconds from now."""
        begun = time.monotonic()
        eventually(lambda: self.epochs() == [before + 1] * len(self.hosts), met_within_s, "met again")
        met = time.monotonic() - begun
        eventually(lambda: self.front_door.answers(self.model), BACK_WITHIN_S, "serves")
        return met, time.monotonic() - begun

    def forgotten_memory(self, host: str) -> str:
        """Shared memory that nobody has mapped or open: the host's, and of an earlier start the unit's own.

        What the present start has of its own goes with it: an engine that compiled leaves a semaphore.
        """
        return shell(
            host,
            f"show='systemctl show --timestamp=unix --value {self.unit}'; pid=$($show --property=MainPID); "
            'earlier="! -newermt $($show --property=ExecMainStartTimestamp)"; '
            "for file in $(find /dev/shm -type f; nsenter --target $pid --mount find /dev/shm -type f $earlier); do "
            "grep -qsF $file /proc/[0-9]*/maps || ls -l /proc/[0-9]*/fd 2>&1 | grep -qF $file || echo $file; done",
        )

    def forget_failures(self) -> None:
        """Have the head start without the pauses that follow upon several failures; its guard is between two starts."""
        path = f"/var/cache/gpufleet/{self.replica}/guard.json"
        shell(self.head, f"""sed -i 's/"failures": [[][^]]*[]]/"failures": []/' {path}""", check=False)

    @contextmanager
    def answers_under_way(self, tokens: int = LONG_ANSWER_TOKENS) -> Iterator[list[str]]:
        """Two answers that have begun; yields the reasons of those that broke off."""
        lost: list[str] = []

        def ask() -> None:
            try:
                self.front_door.ask(self.model, tokens, timeout_s=120)
            except CompletionError as error:
                lost.append(str(error))

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        eventually(lambda: self.requests_held() == len(threads), 60, "the engine holds both requests")
        yield lost
        for thread in threads:
            thread.join(timeout=130)

    def requests_held(self) -> int:
        """Requests that the engine works at."""
        ask = (
            "import json, urllib.request; unit = json.load(open('/etc/gpufleet/serve/%s.json')); "
            "print(urllib.request.urlopen('http://%%s:%%s/metrics' %% (unit['address'], unit['port'])).read().decode())"
        ) % self.replica
        text = shell(self.head, f'python3 -c "{ask}"', check=False)
        held = [line.split()[-1] for line in text.splitlines() if line.startswith("vllm:num_requests_running{")]
        return round(float(held[0])) if held else 0


def kill(host: str, pattern: str, signal: str = "KILL") -> Fault:
    """A fault: a signal to the processes whose command line fits."""
    return lambda: shell(host, f"pkill -{signal} -f {pattern}")


def podman(*words: str) -> Fault:
    """What is done to a whole host."""
    return lambda: subprocess.run(["podman", *words], check=True, capture_output=True)


def cut(host: str, address: str) -> Fault:
    """A fault: nothing passes any more between a host and an address, in either direction."""
    return lambda: shell(
        host,
        "nft add table inet cut && "
        "nft 'add chain inet cut in { type filter hook input priority -300; }' && "
        "nft 'add chain inet cut out { type filter hook output priority -300; }' && "
        f"nft add rule inet cut in ip saddr {address} drop && nft add rule inet cut out ip daddr {address} drop",
    )


def mend(host: str) -> Fault:
    """The end of ``cut``."""
    return lambda: shell(host, "nft delete table inet cut")
