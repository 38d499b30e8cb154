# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole module, with this Python and with the oldest."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.modules import signing_key
from ansible_collections.gpufleet.serving.tests.unit.plugins.module_utils.test_openpgp import (
    ARMORED,
    FINGERPRINT,
    packets,
)
from ansible_collections.gpufleet.serving.tests.unit.plugins.modules.programs import INTERPRETERS, fails, succeeds

THIS_PYTHON = INTERPRETERS[0].values[0]


@pytest.fixture
def options(tmp_path):
    source = tmp_path / "source.pub"
    source.write_bytes(ARMORED)
    return {"url": f"file://{source}", "dest": str(tmp_path / "keys/nvidia.asc"), "fingerprints": [FINGERPRINT]}


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_a_key_is_brought_once(interpreter, options, tmp_path):
    first = succeeds(interpreter, signing_key, **options)
    assert (first["changed"], first["fingerprints"]) == (True, [FINGERPRINT])
    written = tmp_path / "keys/nvidia.asc"
    assert (written.read_bytes(), written.stat().st_mode & 0o777) == (ARMORED, 0o644)
    assert succeeds(interpreter, signing_key, **options)["changed"] is False


def test_check_mode_writes_nothing(options, tmp_path):
    announced = succeeds(THIS_PYTHON, signing_key, **options, _ansible_check_mode=True)
    assert announced["changed"] is True
    assert not (tmp_path / "keys").exists()


def test_fingerprints_may_be_written_as_people_do(options):
    spaced = " ".join(FINGERPRINT[start : start + 4].lower() for start in range(0, 40, 4))
    assert succeeds(THIS_PYTHON, signing_key, **options | {"fingerprints": [spaced]})["changed"]


def test_another_key_is_not_trusted_and_not_written(options, tmp_path):
    refused = fails(THIS_PYTHON, signing_key, **options | {"fingerprints": ["0" * 40]})
    assert f"it holds the key {FINGERPRINT}, and only {'0' * 40} may be there" in refused
    assert not (tmp_path / "keys").exists()


def test_one_stranger_among_known_keys_is_enough(options, tmp_path):
    stranger = bytearray(packets())
    stranger[10] ^= 1
    (tmp_path / "source.pub").write_bytes(packets() + bytes(stranger))
    assert "is not to be trusted: it holds the key" in fails(THIS_PYTHON, signing_key, **options)


@pytest.mark.parametrize(
    ("content", "why"), [(b"<html>404</html>", "no OpenPGP public key"), (None, "cannot be fetched")]
)
def test_what_is_no_key(content, why, options, tmp_path):
    source = tmp_path / "source.pub"
    source.unlink()
    if content is not None:
        source.write_bytes(content)
    assert why in fails(THIS_PYTHON, signing_key, **options)
