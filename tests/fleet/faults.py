# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to a replica over several hosts, whatever its executor and its engine."""

from __future__ import annotations

import json
import time

from groups import ANSWER_TOKENS, Fault, Group, cut, kill, mend, podman
from harness import eventually, shell

# two looks of the guard: it has then seen the engine make a step
WATCHED_S = 12


class Faults:
    """Faults that every replica over several hosts heals from, in the order in which they are caused."""

    executor = "mp"

    def hang(self, group: Group) -> Fault:
        """The engine's server answers as if nothing were wrong: its core is only stopped."""
        return kill(group.head, "'[V]LLM::EngineCore'", signal="STOP")

    def test_a_rank_of_an_earlier_epoch_finds_nobody(self, group: Group) -> None:
        probe = f"import socket; socket.create_connection(('{group.addresses[0]}', {{}}), 3)"
        shell(group.other, f'python3 -c "{probe.format(group.engines_port())}"')
        said = shell(group.other, f'python3 -c "{probe.format(group.engines_port() - 1)}"', check=False)
        assert "ConnectionRefusedError" in said

    def test_hung_engine(self, group: Group) -> None:
        assert group.front_door.answers(group.model)
        time.sleep(WATCHED_S)
        group.heals(f"{self.executor}: hung engine", 60, self.hang(group))
        journal = f"journalctl -u {group.unit} --since -20min"
        assert "the engine hangs: it holds 2 requests and has made no step" in shell(group.head, journal)
        assert "Fatal Python error: Aborted" in shell(group.head, journal), "no stacks"

    def test_head_off(self, group: Group) -> None:
        off, on = podman("kill", group.head), podman("start", group.head)
        group.heals(f"{self.executor}: the head's host off", 30, off, undo=on, noticed_at=group.other)

    def test_host_off(self, group: Group) -> None:
        group.heals(f"{self.executor}: host off", 30, podman("kill", group.other), undo=podman("start", group.other))

    def test_host_frozen(self, group: Group) -> None:
        frozen, thawed = podman("pause", group.other), podman("unpause", group.other)
        group.heals(f"{self.executor}: host frozen", 60, frozen, undo=thawed)

    def test_network_cut(self, group: Group) -> None:
        severed, mended = cut(group.other, group.addresses[0]), mend(group.other)
        group.heals(f"{self.executor}: network cut both ways", 30, severed, undo=mended)

    def test_a_member_that_comes_late(self, group: Group) -> None:
        """Stopped, the replica finishes what it holds; it begins again when the other is back, a minute later."""
        before = max(group.epochs())
        with group.answers_under_way(ANSWER_TOKENS) as lost:
            shell(group.other, f"systemctl stop {group.unit}")
        assert lost == [], "a stop cut a request"
        time.sleep(60)
        told = group.guard(group.head)
        assert told["state"] == "meeting"
        assert f"waits at port 29501 for {group.other} ({group.addresses[1]})" in told["reason"]
        shell(group.other, f"systemctl start {group.unit}")
        met, served = group.begins_again(before)
        print(
            f"\n{self.executor}: a member 60 s late: met {met:.0f} s, serves {served:.0f} s after it came, lost 0 of 2"
        )

    def test_a_host_that_does_not_fit_is_refused_in_words(self, group: Group) -> None:
        """With other settings, as after a run that reached one host alone; from another address, which is shut out."""
        path, stranger = f"/etc/gpufleet/serve/{group.replica}.json", "10.89.77.254"
        before, told = max(group.epochs()), shell(group.other, f"cat {path}")
        settings = json.loads(told)["group"]["settings"]
        shell(group.other, f"cp -p {path} /root/settings; ip address add {stranger}/24 dev eth0")
        for what, another, refusal in (
            (settings, "of another run", f"{group.other} has other settings than {group.head}: run site.yml on both"),
            (group.addresses[1], stranger, f"{group.other} ({stranger}) is not yet with {group.head}"),
        ):
            shell(group.other, f"sed 's/{what}/{another}/' /root/settings > {path}; systemctl restart {group.unit}")
            eventually(lambda words=refusal: words in group.guard(group.other).get("reason", ""), 90, refusal)
        shell(group.other, f"cp -p /root/settings {path}; systemctl restart {group.unit}")
        shell(group.other, f"ip address delete {stranger}/24 dev eth0")
        group.begins_again(before)
