# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one engine under systemd, and ends it where it must begin anew: it hangs, or a host of its replica is gone.

    python3 guard.py SETTINGS ENGINE [ARGUMENT...]

It is the unit's main process and the engine its child. To end is all that it does about a fault: systemd then kills
what is left in the unit's control group and starts the unit again, so that nothing of an earlier start survives.

The hosts of one replica meet before their engines start. The first listens; the others come with a hash of their
settings and stay connected. When all are there, the first counts one *epoch* on and all start their engines, at a port
of that epoch: an engine of an earlier one would find nobody there. The connections stay. One that closes, or says
nothing for ``SILENCE_S``, ends the engines of all; a host comes back only after its own old engine is gone.

Where the engine runs over Ray, each guard starts its host's part of a Ray cluster that lives for one epoch, and the
first host its engine once every device is in the cluster. So Ray begins and ends with the engine, and nothing of it is
left to be joined by mistake.

Runs on the host's Python, 3.9 and newer, with the standard library alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TICK_S = 1.0
BEAT_S = 2.0
SILENCE_S = 20.0
"""A host that was gone for less goes on as if nothing had been: engines wait for each other that long and longer."""
CONNECT_S = 5.0
RETRY_S = 2.0
LOOK_S = 5.0
ANSWER_S = 5.0
UNWATCHED_S = 4 * LOOK_S
"""Between two looks of a guard that runs lies less."""
EPOCH_PORTS = 15
"""Ports above that of the meeting which engines of successive epochs use in turn."""
FIRST_STEP_S = 600.0
"""The first step of an engine may compile; later ones take seconds, even with a batch of the largest size."""
STACKS_S = 3.0
"""Time to write the stacks of a hung engine down."""

PARTING_S = 30.0
"""How much longer than its drain takes the first host of a replica is waited for when another is stopped."""

RAY_PORTS = 64
"""Ports of a Ray cluster on each of its hosts: six of its services, and one for each of its processes."""
RAY_WHOLE_S = 180.0
"""Within this all hosts must have brought their devices into the Ray cluster."""
RAY_OBJECT_STORE_BYTES = 256 * 2**20
"""The engine sends no tensors through Ray, whose own default is 30 % of the RAM."""
RAY_NODES = Path(__file__).with_name("ray_nodes.py")

FREE_FAILURES = 2
"""Failures that are followed by a start at once; each further one doubles the pause."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 10.0, 300.0
MEMORY_S = 3600.0
"""Failures that are older do not count."""
SOUND_S = 600.0
"""An engine that served for so long has nothing in common with the failures before it."""

MESSAGE_LIMIT = 65536
IN_FLIGHT = re.compile(r"^vllm:num_requests_(?:running|waiting)(?:\{.*\})? (\S+)", re.MULTILINE)
STEPS = re.compile(
    r"^vllm:(?:iteration_tokens_total_count|generation_tokens_total|prompt_tokens_total|request_success_total)"
    r"(?:\{.*\})? (\S+)",
    re.MULTILINE,
)


class Ended(Exception):
    """The engine must end, or has; the text says why."""


class Lost(Exception):
    """A connection is of no use any more; the text says how that was noticed."""


@dataclass(frozen=True)
class Ray:
    """Each host's part in a Ray cluster.

    ``engine``: the virtual environment. ``first_port``: of the ``RAY_PORTS`` that are the cluster's on each host.
    ``devices``: how many each host gives.
    """

    engine: str
    first_port: int
    devices: int

    def identity(self) -> dict[str, str]:
        """What must be alike on all hosts; the token in a form that tells nothing of it. Raises Ended without Ray."""
        found = sorted(Path(self.engine).glob("lib/python3.*/site-packages/ray-*.dist-info"))
        if not found:
            raise Ended(f"{self.engine} has no Ray: use an engine version whose lock names it, or the executor mp")
        release, python = found[0].name.split("-")[1].removesuffix(".dist"), found[0].parents[1].name
        token = hashlib.sha256(os.environ.get("RAY_AUTH_TOKEN", "").encode()).hexdigest()
        return {"release": f"Ray {release} on {python}", "token": token}

    def command(self, group: Group, epoch: int) -> list[str]:
        """What runs this host's part of the cluster of an epoch."""
        services = (
            "--node-manager-port",
            "--object-manager-port",
            "--runtime-env-agent-port",
            "--dashboard-agent-grpc-port",
            "--dashboard-agent-listen-port",
            "--metrics-export-port",
        )
        head = ["--head", f"--port={group.engine_port(epoch)}", "--include-dashboard=false"]
        return [
            *(f"{self.engine}/bin/ray", "start", "--block"),
            *(head if group.node_rank == 0 else [f"--address={group.meeting_place(epoch)}"]),
            f"--node-ip-address={group.addresses[group.node_rank]}",
            *(f"{service}={self.first_port + place}" for place, service in enumerate(services)),
            f"--min-worker-port={self.first_port + len(services)}",
            f"--max-worker-port={self.first_port + RAY_PORTS - 1}",
            f"--num-gpus={self.devices}",
            "--num-cpus=1",
            f"--object-store-memory={RAY_OBJECT_STORE_BYTES}",
        ]


@dataclass(frozen=True)
class Group:
    """The hosts of a replica in the order of their ranks; ``settings`` is a hash of what all must run alike.

    ``ray``: how they run over Ray; None where the engine spans them by itself.
    """

    node_rank: int
    hosts: Sequence[str]
    addresses: Sequence[str]
    master_port: int
    settings: str
    ray: Ray | None = None

    def named(self, rank: int) -> str:
        """A host for a sentence."""
        return f"{self.hosts[rank]} ({self.addresses[rank]})"

    @property
    def others(self) -> list[int]:
        """The ranks of the other hosts."""
        return [rank for rank in range(len(self.hosts)) if rank != self.node_rank]

    def engine_port(self, epoch: int) -> int:
        """Where the engines of an epoch meet."""
        return self.master_port + 1 + epoch % EPOCH_PORTS

    def meeting_place(self, epoch: int) -> str:
        """The same with its address."""
        first = self.addresses[0]
        return f"{f'[{first}]' if ':' in first else first}:{self.engine_port(epoch)}"


@dataclass(frozen=True)
class Settings:
    """What the role wrote.

    ``settings`` is a hash of all that the engine runs with. Seconds: ``stall_s`` without a step is a hang,
    ``quarantine_s`` is a quarantine's length, ``drain_s`` is what a stopped engine gives its requests.
    """

    replica: str
    address: str
    port: int
    record: Path
    settings: str
    stall_s: float
    quarantine_after: int
    quarantine_s: float
    drain_s: float
    group: Group | None = None

    @property
    def is_first(self) -> bool:
        """Whether this host answers requests: the only one of its replica, or the first."""
        return self.group is None or self.group.node_rank == 0

    @property
    def ray(self) -> Ray | None:
        """How the replica runs over Ray, if it does."""
        return self.group.ray if self.group else None


def read_settings(path: Path) -> Settings:
    """The settings file. Raises OSError, ValueError, KeyError, TypeError."""
    told = json.loads(path.read_text(encoding="utf-8"))
    group = told.pop("group", None)
    ray = group.pop("ray", None) if group else None
    return Settings(
        **{**told, "record": Path(told["record"])},
        group=Group(**group, ray=Ray(**ray) if ray else None) if group else None,
    )


@dataclass
class Record:
    """What is kept over restarts and told to whoever looks: the last epoch, the failures, and what happens now.

    Failures count against the settings that they happened with: what was changed since is taken for a repair.
    """

    path: Path
    settings: str = ""
    epoch: int = 0
    failures: list[float] = field(default_factory=list)
    last_failure: str = ""
    state: str = ""
    reason: str = ""

    @classmethod
    def read(cls, path: Path, settings: str) -> Record:
        """The record as it was left; a new one where it cannot be read."""
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            failures = [float(at) for at in told["failures"]] if told["settings"] == settings else []
            return cls(path, settings, int(told["epoch"]), failures, str(told["last_failure"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path, settings)

    def say(self, state: str, reason: str = "") -> None:
        """Note what happens now; a line in the journal where it is something new."""
        if (state, reason) != (self.state, self.reason):
            self.state, self.reason = state, reason
            print(f"gpufleet guard: {state}" + (f": {reason}" if reason else ""), file=sys.stderr, flush=True)
            self.write()

    def write(self) -> None:
        """Write it down, as a whole; a full disk must not end an engine."""
        words = ("epoch", "failures", "last_failure", "reason", "settings", "state")
        told = {word: getattr(self, word) for word in words}
        with contextlib.suppress(OSError):
            fresh = self.path.with_suffix(".new")
            fresh.write_text(json.dumps(told, sort_keys=True) + "\n", encoding="utf-8")
            fresh.replace(self.path)

    def failed(self, reason: str, now: float, served_s: float) -> None:
        """Note a failure; those before a long sound run are forgotten."""
        kept = [] if served_s >= SOUND_S else [at for at in self.failures if 0 <= now - at < MEMORY_S]
        self.failures, self.last_failure = [*kept, now], reason
        self.say("failed", reason)
        self.write()


def pause(failures: Sequence[float], now: float, settings: Settings) -> tuple[str, float]:
    """How an engine with these failures starts: ``starting``, ``waiting`` or ``quarantined``, and after which pause."""
    recent = sum(0 <= now - at < MEMORY_S for at in failures)
    if recent >= settings.quarantine_after:
        return "quarantined", settings.quarantine_s
    if recent <= FREE_FAILURES:
        return "starting", 0.0
    return "waiting", min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (recent - FREE_FAILURES - 1))


@dataclass(frozen=True)
class Look:
    """One look at an engine's metrics: requests that it holds, and a sum that grows with each of its steps."""

    in_flight: float
    steps: float


def parse_metrics(text: str) -> Look | None:
    """The figures among an engine's metrics; None where they are not the metrics of an engine."""
    held = IN_FLIGHT.findall(text)
    if not held:
        return None
    return Look(sum(map(float, held)), sum(map(float, STEPS.findall(text))))


@dataclass
class Watch:
    """Tells a hung engine from a busy, a loading and an idle one, by looks at its metrics.

    An engine that holds requests makes steps. One that never answered is loading. ``None`` is a look without an answer.
    """

    stall_s: float
    answered: bool = False
    warm: bool = False
    last: Look = Look(0.0, 0.0)
    since: float = 0.0
    looked: float = 0.0

    def problem(self, look: Look | None, now: float) -> str:
        """Why the engine counts as hung; empty while it does not."""
        # while nobody looked, as on a host that was frozen, nobody knows
        self.since += max(0.0, now - self.looked - UNWATCHED_S)
        self.looked = now
        if look is None:
            return self._overdue(now, self.stall_s, "it has not answered") if self.answered else ""
        last, self.last = self.last, look
        if not self.answered or look.in_flight == 0 or last.in_flight == 0 or look.steps != last.steps:
            self.warm = self.warm or (self.answered and look.steps != last.steps)
            self.answered, self.since = True, now
            return ""
        limit = self.stall_s if self.warm else max(FIRST_STEP_S, self.stall_s)
        return self._overdue(now, limit, f"it holds {look.in_flight:g} requests and has made no step")

    def _overdue(self, now: float, limit: float, what: str) -> str:
        return f"{what} for {now - self.since:.0f} s" if now - self.since > limit else ""


def ask_metrics(address: str, port: int) -> str | None:
    """The engine's metrics; None where no whole answer came in time."""
    received = bytearray()
    deadline = time.monotonic() + ANSWER_S
    try:
        with socket.socket(_family(address)) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect((address, port))
            connection.sendall(b"GET /metrics HTTP/1.0\r\nHost: engine\r\nConnection: close\r\n\r\n")
            while time.monotonic() < deadline:
                data = connection.recv(65536)
                if not data:
                    return received.decode("utf-8", "replace")
                received += data
    except OSError:
        pass
    return None


class Link:
    """A connection to another host of the group: one JSON object a line, and a beat where there is nothing to say."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.connection.settimeout(CONNECT_S)
        self.heard = self.beaten = time.monotonic()
        self._received = b""

    def fileno(self) -> int:
        """What ``select`` waits for."""
        return self.connection.fileno()

    def send(self, **message: Any) -> None:
        """Raises Lost."""
        try:
            self.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise Lost(str(error)) from error

    def receive(self) -> Iterator[Mapping[str, Any]]:
        """The messages that have come; to be called where there is something to read. Raises Lost."""
        try:
            data = self.connection.recv(MESSAGE_LIMIT)
        except OSError as error:
            raise Lost(str(error)) from error
        if not data:
            raise Lost("it closed the connection")
        self.heard = time.monotonic()
        *lines, self._received = (self._received + data).split(b"\n")
        if len(self._received) > MESSAGE_LIMIT:
            raise Lost("it sent what is no message")
        for line in lines:
            message = _parsed(line)
            if message:
                yield message

    def keep(self) -> None:
        """Beat when it is time. Raises Lost where the other has been silent for too long."""
        now = time.monotonic()
        if now - self.heard > SILENCE_S:
            raise Lost(f"it has said nothing for {SILENCE_S:.0f} s")
        if now - self.beaten >= BEAT_S:
            self.beaten = now
            self.send()

    def close(self) -> None:
        """The other side is told at once."""
        self.connection.close()


def _parsed(line: bytes) -> Mapping[str, Any]:
    try:
        message = json.loads(line)
    except ValueError as error:
        raise Lost("it sent what is no message") from error
    if not isinstance(message, dict):
        raise Lost("it sent what is no message")
    return message


def _heard(link: Link, within_s: float = 0.0) -> Iterator[Mapping[str, Any]]:
    """The messages that have come, or come within some seconds. Raises Lost."""
    return link.receive() if select.select([link], [], [], within_s)[0] else iter(())


def connect(own: str, other: str, port: int) -> socket.socket:
    """A connection from one planned address to the other. Raises OSError."""
    return socket.create_connection((other, port), timeout=CONNECT_S, source_address=(own, 0))


def listen(address: str, port: int) -> socket.socket:
    """A listener at a planned address. Raises Ended."""
    try:
        return socket.create_server((address, port), family=_family(address), backlog=64)
    except OSError as error:
        raise Ended(f"cannot listen at {address} port {port}: {error}; see with: ip address; ss -ltnp") from error


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Meeting:
    """How the hosts of one replica come together and part.

    ``links``: by rank, of those that are here. ``leaving``: the host whose unit is being stopped, if one is.
    """

    def __init__(self, settings: Settings, group: Group, record: Record) -> None:
        self.settings = settings
        self.group = group
        self.record = record
        self.links: dict[int, Link] = {}
        self.leaving = ""

    def hold(self, running: Running) -> None:
        """Come together, and agree on the next epoch. Returns early where the unit is stopped."""
        if self.group.node_rank == 0:
            self._gather(running)
        else:
            self._join(running)

    def keep(self) -> None:
        """Read and beat. Raises Ended where a host is gone."""
        for rank in self.links:
            self._keep(rank)

    def _keep(self, rank: int) -> None:
        link = self.links[rank]
        try:
            for message in _heard(link):
                if "end" in message:
                    raise Ended(str(message["end"]))
                if "stop" in message:
                    self.leaving = self.group.named(rank)
            link.keep()
        except Lost as error:
            raise Ended(f"{self.group.named(rank)} is lost: {error}") from error

    def stop(self) -> None:
        """Ask the first host to finish its requests: without this one it cannot."""
        with contextlib.suppress(Lost):
            self.links[0].send(stop=True)

    def end(self, reason: str) -> None:
        """Tell the others why this host's engine ends."""
        for link in self.links.values():
            with contextlib.suppress(Lost):
                link.send(end=f"{self.group.named(self.group.node_rank)} ended: {reason}")
            link.close()

    def _gather(self, running: Running) -> None:
        """The first host: wait for all others, then have all start."""
        group, epochs = self.group, {0: self.record.epoch}
        with listen(group.addresses[0], group.master_port) as listener:
            strangers: list[Link] = []
            while len(self.links) < len(group.others) and not running.stopping:
                missing = [group.named(rank) for rank in group.others if rank not in self.links]
                self.record.say(
                    "meeting",
                    f"{group.named(0)} waits at port {group.master_port} for {', '.join(missing)}: see gpufleet-"
                    f"{self.settings.replica} there, and let all TCP pass between these hosts on their network",
                )
                waited_for: list[Any] = [listener, *strangers]
                readable = select.select(waited_for, [], [], TICK_S)[0]
                if listener in readable:
                    strangers.append(Link(listener.accept()[0]))
                strangers = [link for link in strangers if not self._welcome(link, epochs)]
                self.links = {rank: link for rank, link in self.links.items() if self._stays(link)}
        if not running.stopping:
            self.record.epoch = max(epochs.values()) + 1
            for rank in self.links:
                self._send_off(rank)

    def _send_off(self, rank: int) -> None:
        try:
            self.links[rank].send(start=self.record.epoch)
        except Lost as error:
            raise Ended(f"{self.group.named(rank)} is lost: {error}") from error

    def _stays(self, link: Link) -> bool:
        """Whether a host that has come is still there."""
        try:
            for _message in _heard(link):
                pass
            link.keep()
        except Lost:
            link.close()
            return False
        return True

    def _welcome(self, link: Link, epochs: dict[int, int]) -> bool:
        """Take in a host that has introduced itself; true where the connection is dealt with."""
        try:
            link.keep()
            hello = next((message for message in _heard(link) if "node_rank" in message), None)
            if hello is None:
                return False
            rank, refusal = self._judged(hello, link)
            if refusal:
                link.send(refused=refusal)
                link.close()
                return True
            if rank in self.links:
                self.links[rank].close()
            self.links[rank], epochs[rank] = link, int(hello.get("epoch", 0))
        except (Lost, ValueError, TypeError, KeyError):
            link.close()
        return True

    def _judged(self, message: Mapping[str, Any], link: Link) -> tuple[int, str]:
        """The rank of a host that introduces itself, and why it cannot take part, if so."""
        group, rank = self.group, int(message["node_rank"])
        came_from = link.connection.getpeername()[0]
        if message.get("replica") != self.settings.replica or rank not in group.others:
            return rank, f"{group.named(0)} expects no {message.get('replica')} node {rank}"
        if message.get("settings") != group.settings:
            return rank, f"{group.hosts[rank]} has other settings than {group.hosts[0]}: run site.yml on both"
        if came_from != group.addresses[rank]:
            return (
                rank,
                f"{group.hosts[rank]} came from {came_from}, and its planned address is {group.addresses[rank]}",
            )
        if group.ray and (difference := self._other_ray(group.ray, rank, message.get("ray"))):
            return rank, difference
        try:
            connect(group.addresses[0], group.addresses[rank], int(message["listens"])).close()
        except OSError as error:
            return rank, f"{group.named(0)} does not reach {group.named(rank)} port {message['listens']}: {error}"
        return rank, ""

    def _other_ray(self, ray: Ray, rank: int, theirs: Any) -> str:
        """What of another host's Ray does not fit this one's; empty where all does."""
        (first, other), ours = (self.group.hosts[0], self.group.hosts[rank]), ray.identity()
        told = theirs if isinstance(theirs, dict) else {}
        if told.get("release") != ours["release"]:
            return (
                f"{other} has {told.get('release', 'no Ray')}, and {first} has {ours['release']}: "
                "have the role engine build both from one lock, for one version of Python"
            )
        if told.get("token") != ours["token"]:
            return (
                f"{other} has another Ray token than {first}: run site.yml on both, from a controller that has the "
                "fleet's secrets"
            )
        return ""

    def _join(self, running: Running) -> None:
        """Another host: come to the first one, again and again, until it says to start."""
        with listen(self.group.addresses[self.group.node_rank], 0) as back:
            while not running.stopping and not self._try_to_join(back.getsockname()[1], running):
                running.wait(RETRY_S)

    def _try_to_join(self, listens: int, running: Running) -> bool:
        """Whether the first host said to start. ``listens``: the port at which it can reach this one."""
        group = self.group
        own, first = group.addresses[group.node_rank], group.addresses[0]
        try:
            link = Link(connect(own, first, group.master_port))
        except OSError as error:
            self._not_yet(
                f"{error}: start gpufleet-{self.settings.replica} there, and let all TCP pass between the two"
            )
            return False
        try:
            link.send(
                replica=self.settings.replica,
                node_rank=group.node_rank,
                settings=group.settings,
                epoch=self.record.epoch,
                listens=listens,
                ray=group.ray.identity() if group.ray else None,
            )
            self.record.say("meeting", f"{group.named(group.node_rank)} is with {group.named(0)}")
            if self._told_to_start(link, running):
                self.links[0] = link
                return True
        except Lost as error:
            self._not_yet(str(error))
        link.close()
        return False

    def _told_to_start(self, link: Link, running: Running) -> bool:
        while not running.stopping:
            for message in _heard(link, TICK_S):
                if "refused" in message:
                    raise Lost(str(message["refused"]))
                if "start" in message:
                    self.record.epoch = int(message["start"])
                    return True
            link.keep()
        return False

    def _not_yet(self, reason: str) -> None:
        group = self.group
        self.record.say(
            "meeting",
            f"{group.named(group.node_rank)} is not yet with {group.named(0)} port {group.master_port}: {reason}",
        )


class Running:
    """Whether systemd has told the unit to stop."""

    def __init__(self) -> None:
        self.stopping = False

    def stop(self, _signal: int, _frame: object) -> None:
        """Handle SIGTERM."""
        self.stopping = True

    def wait(self, seconds: float) -> None:
        """Wait, no longer than the unit may run."""
        deadline = time.monotonic() + seconds
        while not self.stopping and time.monotonic() < deadline:
            time.sleep(min(TICK_S, max(0.0, deadline - time.monotonic())))


class Guard:
    """One start of one engine, of which a host that only takes part over Ray has none.

    ``children``: what runs, by the name that a sentence gives it.
    """

    def __init__(self, settings: Settings, command: Sequence[str], running: Running) -> None:
        self.settings = settings
        self.command = list(command)
        self.running = running
        self.record = Record.read(settings.record, settings.settings)
        self.meeting = Meeting(settings, settings.group, self.record) if settings.group else None
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.serving_since: float | None = None

    def run(self) -> int:
        """Start the engine, and stay until it ends; returns the exit status of the unit."""
        try:
            self._hold_back()
            if self.meeting:
                self.meeting.hold(self.running)
            if not self.running.stopping:
                self._start()
                self._attend()
                self._stop()
        except Ended as reason:
            return self._fail(str(reason))
        except OSError as error:
            return self._fail(f"{error}")
        self._finish()
        return 0

    def _hold_back(self) -> None:
        """Wait where starts have failed. Other hosts wait for the first, which alone holds back."""
        if not self.settings.is_first:
            return
        state, seconds = pause(self.record.failures, time.time(), self.settings)
        if seconds:
            failures = f"{len(self.record.failures)} failures within an hour, the last: {self.record.last_failure}"
            self.record.say(state, f"{failures}; starts again {seconds:.0f} s after {time.strftime('%H:%M:%S')}")
            self.running.wait(seconds)

    def _start(self) -> None:
        group, ray, first = self.settings.group, self.settings.ray, self.settings.is_first
        self.record.say("starting" if first else "running", self._epoch())
        if group and ray:
            if not first:
                self._wait_for_rays_head(group)
            self._run("Ray", ray.command(group, self.record.epoch))
            if first:
                variables = {**os.environ, "RAY_ADDRESS": group.meeting_place(self.record.epoch)}
                self._make_ray_whole(group, ray, variables)
                self._run("the engine", self.command, variables)
        elif group:
            self._run("the engine", [*self.command, "--master-port", str(group.engine_port(self.record.epoch))])
        else:
            self._run("the engine", self.command)

    def _run(self, what: str, command: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
        if not self._leaves():
            self.children[what] = subprocess.Popen(command, env=variables)

    def _epoch(self) -> str:
        return f"epoch {self.record.epoch}" if self.settings.group else ""

    def _wait_for_rays_head(self, group: Group) -> None:
        """Begin no ``ray start`` that cannot join yet: it gives up after 30 s. The first host bounds the whole."""
        own, head = group.addresses[group.node_rank], group.addresses[0]
        while not self._leaves():
            self._check()
            with contextlib.suppress(OSError), connect(own, head, group.engine_port(self.record.epoch)):
                return
            self.running.wait(TICK_S)

    def _make_ray_whole(self, group: Group, ray: Ray, variables: Mapping[str, str]) -> None:
        """Wait until all hosts have brought their devices: the engine would wait for half an hour and name nobody."""
        wanted = [[group.named(rank), address, ray.devices] for rank, address in enumerate(group.addresses)]
        missing, deadline = "no host has joined", time.monotonic() + RAY_WHOLE_S
        command = [f"{ray.engine}/bin/python", str(RAY_NODES), variables["RAY_ADDRESS"], json.dumps(wanted)]
        with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE) as asking:
            try:
                while asking.poll() is None and not self._leaves():
                    self._check()
                    missing = _last_line(asking, TICK_S) or missing
                    self.record.say("starting", f"{self._epoch()}: {missing}")
                    if time.monotonic() > deadline:
                        raise Ended(f"the Ray cluster is not whole after {RAY_WHOLE_S:.0f} s: {missing}")
            finally:
                asking.kill()
        if asking.returncode != 0 and not self._leaves():
            raise Ended(f"the Ray cluster could not be asked for its hosts: {RAY_NODES} ended with {asking.returncode}")
        self.record.say("starting", self._epoch())

    def _leaves(self) -> bool:
        """Whether this unit is to stop, or that of another host."""
        return self.running.stopping or bool(self.meeting and self.meeting.leaving)

    def _attend(self) -> None:
        """Return when the unit, or that of another host, is to stop. Raises Ended in every other case."""
        watch, next_look = Watch(self.settings.stall_s), 0.0
        while True:
            self.running.wait(TICK_S)
            if self._leaves():
                return
            self._check()
            now = time.monotonic()
            if now >= next_look and self.settings.is_first:
                next_look = now + LOOK_S
                self._look(watch, now)

    def _check(self) -> None:
        """Raises Ended where something that this host runs has ended, or another host is lost."""
        for what, child in self.children.items():
            status = child.poll()
            if status is not None:
                raise Ended(f"{what} ended by itself with status {status}")
        if self.meeting:
            self.meeting.keep()

    def _look(self, watch: Watch, now: float) -> None:
        look = self._ask()
        if look and self.serving_since is None:
            self.serving_since = now
            self.record.say("serving", self._epoch())
        problem = watch.problem(look, time.monotonic())
        if problem:
            self._write_stacks()
            raise Ended(f"the engine hangs: {problem}; the stacks of its processes are above")

    def _ask(self) -> Look | None:
        text = ask_metrics(self.settings.address, self.settings.port)
        return parse_metrics(text) if text is not None else None

    def _write_stacks(self) -> None:
        """Have Python write every thread's stack into the journal: the engine runs with PYTHONFAULTHANDLER=1."""
        for process in (process for child in self.children.values() for process in descendants(child.pid)):
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGABRT)
                os.kill(process, signal.SIGCONT)
        time.sleep(STACKS_S)

    def _stop(self) -> None:
        """End the engine when it holds no request. What else runs here ends with the unit."""
        if self.meeting and not self.settings.is_first:
            self.meeting.stop()
            self._wait_while(self._is_with_others, self.settings.drain_s + PARTING_S)
        elif self.settings.ray and self.serving_since is not None:
            # over Ray the engine does not finish its requests when it is told to stop
            self._wait_while(self._holds_requests, self.settings.drain_s)
        engine = self.children.get("the engine")
        if engine:
            engine.terminate()
            self._wait_while(lambda: engine.poll() is None, self.settings.drain_s + PARTING_S)

    def _wait_while(self, what: Callable[[], bool], longest_s: float) -> None:
        """Wait, in touch with the other hosts: one that is lost cannot stop any more what stops anyway."""
        deadline = time.monotonic() + longest_s
        while time.monotonic() < deadline and what():
            self._is_with_others()
            time.sleep(TICK_S)

    def _is_with_others(self) -> bool:
        try:
            if self.meeting:
                self.meeting.keep()
        except Ended:
            return False
        return True

    def _holds_requests(self) -> bool:
        """Whether the engine has something to finish; one that does not answer in time may."""
        look = self._ask()
        return self.children["the engine"].poll() is None and (look is None or look.in_flight > 0)

    def _fail(self, reason: str) -> int:
        served_s = time.monotonic() - self.serving_since if self.serving_since is not None else 0.0
        self.record.failed(reason, time.time(), served_s)
        if self.meeting:
            self.meeting.end(reason)
        return 1

    def _finish(self) -> None:
        """The unit was stopped, or that of another host: whoever did that has seen to what was wrong."""
        self.record.failures = []
        leaving = self.meeting.leaving if self.meeting else ""
        self.record.say("stopped", f"the unit of {leaving} is" if leaving else "")
        if self.meeting:
            self.meeting.end("the unit was stopped")


def _last_line(process: subprocess.Popen[bytes], within_s: float) -> str:
    """The last line of what a process has written; empty where that is nothing."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], within_s)[0]:
        return ""
    lines = os.read(process.stdout.fileno(), MESSAGE_LIMIT).decode("utf-8", "replace").splitlines()
    return lines[-1] if lines else ""


def descendants(process: int, root: Path = Path("/proc")) -> list[int]:
    """A process and all that it and its children started, as far as they can be seen."""
    children: dict[int, list[int]] = {}
    for path in root.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # the name stands in brackets and may hold anything
            parent = int(path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = [process]
    for each in found:
        found.extend(children.get(each, []))
    return found


def main(arguments: Sequence[str]) -> int:
    """Run the program; returns its exit status."""
    if len(arguments) < 2:
        print("usage: guard.py SETTINGS ENGINE [ARGUMENT...]", file=sys.stderr)
        return 2
    running = Running()
    signal.signal(signal.SIGTERM, running.stop)
    return Guard(read_settings(Path(arguments[0])), arguments[1:], running).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
