# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The secrets on the controller: few, private, and never made twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
SECRETS = CHECKOUT / ".cache/secrets-of-the-tests"


def test_only_their_owner_reads_them():
    assert SECRETS.stat().st_mode & 0o777 == 0o700
    for path in SECRETS.iterdir():
        assert path.stat().st_mode & 0o077 == 0 or path.suffix == ".crt", path


@pytest.mark.parametrize("name", ["engine.key", "ray.token"])
def test_what_the_engines_ask_for_is_long_and_random(name):
    key = (SECRETS / name).read_text(encoding="ascii")
    assert len(key) == 48
    assert key.isalnum()
    assert len(set(key)) > 15


def test_git_does_not_see_them():
    assert (SECRETS / ".gitignore").read_text(encoding="ascii") == "*\n"


@pytest.mark.parametrize("name, accepted", [("secrets-1", True), ("10.89.77.65", True), ("other.example.org", False)])
def test_the_certificate_is_of_its_authority_and_for_its_names(name, accepted):
    flag = "-verify_ip" if name[0].isdigit() else "-verify_hostname"
    done = subprocess.run(
        ["openssl", "verify", "-CAfile", str(SECRETS / "ca.crt"), flag, name, str(SECRETS / "gateway.crt")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) is accepted, done.stdout + done.stderr


def run_role(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            f"--inventory={CHECKOUT}/tests/hosts/inventory",
            f"--inventory={CHECKOUT}/molecule/secrets/inventory",
            str(CHECKOUT / "molecule/secrets/converge.yml"),
            *arguments,
        ],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        # molecule's configuration has failures printed there
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_a_second_controller_is_refused_and_given_no_new_ones(tmp_path):
    done = run_role("-e", f"fleet_secrets_dir={tmp_path}/none", "-e", "secrets_fleet_exists=true")
    assert done.returncode == 2, done.stdout
    words = " ".join(done.stdout.split())
    assert f"{tmp_path}/none/engine.key does not exist" in words
    assert "Copy the folder from the controller that made it" in words
    assert not (tmp_path / "none").exists()


def test_neither_key_nor_token_is_in_any_output():
    done = run_role("-vvv", "--diff")
    assert done.returncode == 0, done.stdout
    for name in ("engine.key", "ray.token"):
        assert (SECRETS / name).read_text(encoding="ascii") not in done.stdout
