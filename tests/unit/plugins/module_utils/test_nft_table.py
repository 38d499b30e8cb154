# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._nft_table import NftTable, TableError

RULES, OTHER = "table inet gpufleet { chain a { } }\n", "table inet gpufleet { chain b { } }\n"
BAD = "table inet gpufleet { what }\n"


class Host:
    """A kernel with one table, and systemd with one timer. The timer runs out when ``time_passes``."""

    def __init__(self, folder):
        self.folder = folder
        self.kernel = None
        self.timer = False
        self.fails_to_load = False
        self.table = NftTable("inet gpufleet", folder, self.run)

    def run(self, command, given):
        words = " ".join(command)
        if words == "nft --stateless list table inet gpufleet":
            return (0, self.kernel, "") if self.kernel else (1, "", "No such file or directory")
        if command[0] == "unshare" or words == "nft --check --file -":
            return (1, "", "syntax error,\n  unexpected what") if "what" in given else (0, listed(given), "")
        if command[:2] == ["nft", "--file"]:
            return self.load(given if command[2] == "-" else (self.folder / command[2]).read_text())
        if words == "systemctl is-active gpufleet-perimeter-rollback.timer":
            return (0, "active\n", "") if self.timer else (3, "inactive\n", "")
        assert command[0] == "systemctl" and command[1] in ("restart", "stop")
        self.timer = command[1] == "restart"
        return 0, "", ""

    def load(self, rules):
        if self.fails_to_load:
            return 1, "", "Operation not permitted"
        self.kernel = None if "delete table" in rules else listed(rules)
        return 0, "", ""

    def time_passes(self):
        if self.timer:
            self.timer = False
            self.load(self.table.confirmed.read_text())


def listed(rules):
    return f"listing of {rules}"


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def confirmed(host, rules):
    host.table.begin(rules)
    assert host.table.confirm(rules)
    return host


def test_rules_on_trial_are_in_force_and_do_not_stand(host):
    host.table.begin(RULES)
    assert host.kernel == listed(RULES) and host.timer
    assert not host.table.stands(RULES)


def test_the_first_rules_that_nobody_confirms_leave_nothing(host):
    host.table.begin(RULES)
    host.time_passes()
    assert host.kernel is None
    with pytest.raises(TableError, match="rolled back before they were confirmed"):
        host.table.confirm(RULES)


def test_later_rules_that_nobody_confirms_leave_those_of_before(host):
    confirmed(host, RULES).table.begin(OTHER)
    assert host.kernel == listed(OTHER)
    host.time_passes()
    assert host.kernel == listed(RULES)
    assert host.table.stands(RULES) and not host.table.stands(OTHER)


def test_confirmed_rules_stand_whatever_time_passes(host):
    confirmed(host, RULES).time_passes()
    assert host.kernel == listed(RULES)
    assert host.table.stands(RULES)
    assert not host.table.confirm(RULES)


def test_an_interrupted_trial_is_begun_again_and_goes_back_to_what_was_confirmed(host):
    confirmed(host, RULES).table.begin(OTHER)
    host.table.begin(OTHER)
    host.time_passes()
    assert host.kernel == listed(RULES)


def test_rules_that_somebody_flushed_or_changed_do_not_stand(host):
    confirmed(host, RULES)
    host.kernel = None
    assert not host.table.stands(RULES)
    host.kernel = listed(OTHER)
    assert not host.table.stands(RULES)


def test_other_rules_than_those_on_trial_are_not_confirmed(host):
    host.table.begin(RULES)
    with pytest.raises(TableError, match="not on trial"):
        host.table.confirm(OTHER)


def test_rules_that_nft_refuses_are_told_in_its_words(host):
    with pytest.raises(TableError, match="syntax error, unexpected what"):
        host.table.check(BAD)


def test_rules_that_do_not_load_leave_no_timer_behind(host):
    confirmed(host, RULES)
    host.fails_to_load = True
    with pytest.raises(TableError, match="not permitted"):
        host.table.begin(OTHER)
    assert not host.timer and host.kernel == listed(RULES)


def test_nothing_is_left_and_nothing_is_left_to_do(host):
    confirmed(host, RULES).table.begin(OTHER)
    assert host.table.exists()
    host.table.remove()
    assert (host.kernel, host.timer, list(host.folder.iterdir())) == (None, False, [])
    assert not host.table.exists()
