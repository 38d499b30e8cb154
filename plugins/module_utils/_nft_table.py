# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One nftables table of our own: put on trial, confirmed, or taken away, with no other table touched.

Rules on trial are rolled back by a systemd timer, whatever becomes of whoever put them there. The folder holds
``rules.nft``, which is confirmed and loaded at boot and by the timer, and ``trial.nft``, which is neither.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Optional

# run(command, standard input) -> (exit status, standard output, standard error)
Run = Callable[[list[str], Optional[str]], tuple[int, str, str]]

ROLLBACK = "gpufleet-perimeter-rollback"
"""The timer, and the service that it starts, by which rules on trial end."""
ACTIVE = ("active", "activating", "reloading", "deactivating")


class TableError(Exception):
    """Rules that nft refuses, or a trial that is over; the text says what was seen and what to do."""


class NftTable:
    """The table ``name`` (family and name, as ``inet gpufleet``), whose files lie in ``folder``."""

    def __init__(self, name: str, folder: Path, run: Run) -> None:
        self.name = name
        self.confirmed = folder / "rules.nft"
        self.trial = folder / "trial.nft"
        self._run = run

    @property
    def nothing(self) -> str:
        """Rules that take the table away, whether it is there or not."""
        return f"table {self.name}\ndelete table {self.name}\n"

    def in_force(self) -> str | None:
        """The table as the kernel has it, without counters; None where it has none, or nothing can ask it."""
        status, listing, _errors = self._run(["nft", "--stateless", "list", "table", *self.name.split()], None)
        return listing if status == 0 else None

    def listing(self, rules: str) -> str:
        """The table as the kernel would list it, loaded in a network namespace that ends with the command.

        Raises:
            TableError: nft or the kernel refuses the rules.
        """
        load = f"nft --file - && nft --stateless list table {self.name}"
        return self._checked(["unshare", "--net", "sh", "-c", load], rules)

    def stands(self, rules: str) -> bool:
        """Whether the rules are confirmed and the kernel has them, with no trial pending. Raises TableError."""
        if self.is_on_trial() or _text(self.confirmed) != rules:
            return False
        in_force = self.in_force()
        return in_force is not None and in_force == self.listing(rules)

    def is_on_trial(self) -> bool:
        """Whether the timer runs that will roll back."""
        _status, state, _errors = self._run(["systemctl", "is-active", f"{ROLLBACK}.timer"], None)
        return state.strip() in ACTIVE

    def check(self, rules: str) -> None:
        """Let nft judge the rules, with everything else that is in force. Raises TableError with its words."""
        self._checked(["nft", "--check", "--file", "-"], rules)
        self.listing(rules)

    def begin(self, rules: str) -> None:
        """Put checked rules in force, the timer running before they are. Raises TableError; then nothing is."""
        if not self.confirmed.exists():
            self.confirmed.write_text(self.nothing, encoding="utf-8")
        self.trial.write_text(rules, encoding="utf-8")
        self._checked(["systemctl", "restart", f"{ROLLBACK}.timer"])
        try:
            self._checked(["nft", "--file", str(self.trial)])
        except TableError:
            self._stop_rollback()
            raise

    def confirm(self, rules: str) -> bool:
        """Keep rules that are on trial; whether there was a trial to end.

        Raises:
            TableError: the rules on trial are others, or have been rolled back.
        """
        if self.stands(rules):
            return False
        if _text(self.trial) != rules:
            raise TableError("these rules are not on trial. Put them on trial first.")
        self._stop_rollback()
        if self.in_force() != self.listing(rules):
            raise TableError("the rules on trial were rolled back before they were confirmed. Run again.")
        self.trial.replace(self.confirmed)
        return True

    def exists(self) -> bool:
        """Whether anything of the table is left, in the kernel or in files."""
        return self.in_force() is not None or self.confirmed.exists() or self.trial.exists()

    def remove(self) -> None:
        """Take the table and its files away. Raises TableError."""
        if self.in_force() is not None:
            self._checked(["nft", "--file", "-"], self.nothing)
        self._stop_rollback()
        for path in (self.trial, self.confirmed):
            if path.exists():
                path.unlink()

    def _stop_rollback(self) -> None:
        """Where the units are not there yet, or no longer, there is nothing to stop."""
        self._run(["systemctl", "stop", f"{ROLLBACK}.timer", f"{ROLLBACK}.service"], None)

    def _checked(self, command: list[str], given: str | None = None) -> str:
        status, output, errors = self._run(command, given)
        if status != 0:
            raise TableError(f"'{' '.join(command)}' ended with {status}: {_on_one_line(errors or output)}")
        return output


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
