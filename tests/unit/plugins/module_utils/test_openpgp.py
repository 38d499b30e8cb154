# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fingerprints of key files, with a key whose fingerprint GnuPG printed (made for this test and thrown away)."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._openpgp import KeyFileError, fingerprints

ARMORED = b"""\
-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawMWlBYJKwYBBAHaRw8BAQdA/Gk50bzKN8C1QAClBLvOTXuV1EyUyjyYX65h
LuSzdSO0DWdwdWZsZWV0IHRlc3SIkAQTFggAOBYhBH9y8g+HJk3pSzxFBG1GvpYB
HyYLBQJrAxaUAhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4BAheAAAoJEG1GvpYBHyYL
APEBAO0WifUAxkTMoirz44R4y+en+8S1StAuZswJQqjQepNjAQCz1MnnBj9angHK
3ofxoDCMEFf0+WMQwV40z1VyuOQKAg==
=651G
-----END PGP PUBLIC KEY BLOCK-----
"""
FINGERPRINT = "7F72F20F87264DE94B3C45046D46BE96011F260B"


def packets():
    body = ARMORED.decode().split("\n\n", 1)[1].split("\n=")[0]
    return base64.b64decode(body)


def test_armored_and_plain():
    assert fingerprints(ARMORED) == (FINGERPRINT,)
    assert fingerprints(packets()) == (FINGERPRINT,)
    assert fingerprints(b"a comment\n" + ARMORED.replace(b"\n", b"\r\n")) == (FINGERPRINT,)


def test_every_key_is_told_wherever_it_hides():
    stranger = bytearray(packets())
    stranger[10] ^= 1
    both = fingerprints(packets() + bytes(stranger))
    assert (len(both), both[0]) == (2, FINGERPRINT)
    assert fingerprints(ARMORED + b"\n" + ARMORED) == (FINGERPRINT, FINGERPRINT)


def test_lengths_of_every_kind():
    _tag, body = 6, packets()[2 : 2 + packets()[1]]
    assert len(body) < 192
    old_two = bytes([0x99]) + len(body).to_bytes(2, "big") + body
    old_four = bytes([0x9A]) + len(body).to_bytes(4, "big") + body
    new_five = bytes([0xC6, 255]) + len(body).to_bytes(4, "big") + body
    new_one = bytes([0xC6, len(body)]) + body
    for block in (old_two, old_four, new_five, new_one):
        assert fingerprints(block) == (FINGERPRINT,)
    long = body + bytes(300)
    new_two = bytes([0xC6, 192 + ((len(long) - 192) >> 8), (len(long) - 192) & 0xFF]) + long
    assert len(fingerprints(new_two)) == 1


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no OpenPGP public key"),
        (b"<html>Not Found</html>", "no OpenPGP public key"),
        (bytes([0x98, 200]) + b"\x04", "in the middle of a packet"),
        (bytes([0x9B]) + b"\x04", "no stated length"),
        (bytes([0xC6, 230]) + b"\x04", "in parts"),
        (bytes([0xC6, 3]) + b"\x06\0\0", "version 6"),
        (bytes([0xC6, 2]) + b"\x04\0" + b"rest", "no sequence"),
    ],
)
def test_what_is_no_key_file(content, why):
    with pytest.raises(KeyFileError, match=why):
        fingerprints(content)
