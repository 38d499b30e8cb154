# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbooks do with a replica over several hosts, whatever its executor and its engine."""

from __future__ import annotations

from groups import ANSWER_TOKENS, Group
from harness import Fleet, shell


class WhileItServes:
    """To be asked of a replica as it was converged."""

    def test_a_second_run_changes_nothing(self, group: Group, fleet: Fleet) -> None:
        before = [group.processes(host) for host in group.hosts]
        fleet.run().expect_unchanged()
        assert [group.processes(host) for host in group.hosts] == before

    def test_verify_shows_the_group_in_one_line(self, group: Group, fleet: Fleet) -> None:
        words = fleet.run("playbooks/verify.yml").expect(0).words
        epoch = group.epochs()[0]
        line = f"{group.replica} on {group.head} serving (epoch {epoch}), {group.other} running (epoch {epoch})"
        assert f"group: {line}" in words


class AtItsEnd:
    """To be asked last: nothing is left."""

    def test_nothing_of_it_answers_who_is_not_of_it(self, fleet: Fleet) -> None:
        fleet.run("playbooks/audit.yml").expect(0)

    def test_a_host_leaves_the_group_and_no_answer_is_cut_off(self, group: Group, fleet: Fleet) -> None:
        alone = {"tensor_parallel_size": 1, "pipeline_parallel_size": 1}
        smaller = fleet.changed(fleet_models=[fleet.variables["fleet_models"][0] | alone])
        with group.answers_under_way(ANSWER_TOKENS) as lost:
            run = smaller.run("site.yml", "-e", "fleet_allow_restart=true").expect(0)
        assert lost == []
        assert "still held" not in run.words
        assert not group.processes(group.other)
        assert group.front_door.ask(group.model)

    def test_reset_takes_the_group_and_its_perimeter_away(self, fleet: Fleet) -> None:
        fleet.run("playbooks/reset.yml", "-e", "fleet_confirm_reset=inventory").expect(0)
        for host in fleet.hosts["gpu_nodes"]["hosts"]:
            assert not shell(host, "nft list tables | grep gpufleet; pgrep -af '[g]uard.py|[v]llm'", check=False)
            assert not shell(host, "ls -d /etc/gpufleet/serve /usr/local/lib/gpufleet 2>/dev/null", check=False)
        fleet.run("playbooks/reset.yml", "-e", "fleet_confirm_reset=inventory").expect_unchanged()
