# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell the fingerprints of an OpenPGP key file, as far as pinning needs it (RFC 4880, version 4 keys).

Hosts have gpgv and often no gpg; a fingerprint is one hash over one packet.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator

PUBLIC_KEY = 6
"""Packet tag of a primary public key."""
_ARMOR = re.compile(
    r"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\r\n]+: [^\r\n]*\r?\n)*\r?\n(?P<body>.*?)(?:\r?\n=[^\r\n]{4})?\r?\n"
    r"-----END PGP PUBLIC KEY BLOCK-----",
    re.DOTALL,
)


class KeyFileError(ValueError):
    """The bytes are no key file that this module can read; the text says why."""


def fingerprints(content: bytes) -> tuple[str, ...]:
    """Return the fingerprint of every primary key in a key file, armored or not: 40 upper-case hex digits each."""
    found = [_fingerprint(body) for block in _blocks(content) for tag, body in _packets(block) if tag == PUBLIC_KEY]
    if not found:
        raise KeyFileError("it holds no OpenPGP public key")
    return tuple(found)


def _blocks(content: bytes) -> list[bytes]:
    if content[:1] and content[0] & 0x80:
        return [content]
    text = content.decode("ascii", errors="replace")
    try:
        return [base64.b64decode("".join(match["body"].split()), validate=True) for match in _ARMOR.finditer(text)]
    except binascii.Error as error:
        raise KeyFileError(f"its armor is damaged: {error}") from error


def _packets(block: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(block):
        header = block[position]
        if not header & 0x80:
            raise KeyFileError("it is no sequence of OpenPGP packets")
        tag = header & 0x3F if header & 0x40 else (header >> 2) & 0x0F
        start, length = _extent(block, position, header)
        if start + length > len(block):
            raise KeyFileError("it ends in the middle of a packet")
        yield tag, block[start : start + length]
        position = start + length


def _extent(block: bytes, position: int, header: int) -> tuple[int, int]:
    """Where a packet's body begins, and its length (sections 4.2.1 and 4.2.2)."""
    if not header & 0x40:
        octets = {0: 1, 1: 2, 2: 4}.get(header & 0x03)
        if octets is None:
            raise KeyFileError("it has a packet of no stated length")
        return position + 1 + octets, int.from_bytes(block[position + 1 : position + 1 + octets], "big")
    first = block[position + 1] if position + 1 < len(block) else 0
    if first < 192:
        return position + 2, first
    if first < 224:
        second = block[position + 2] if position + 2 < len(block) else 0
        return position + 3, ((first - 192) << 8) + second + 192
    if first == 255:
        return position + 6, int.from_bytes(block[position + 2 : position + 6], "big")
    raise KeyFileError("it has a packet in parts, which no key is")


def _fingerprint(body: bytes) -> str:
    if body[:1] != b"\x04":
        raise KeyFileError(f"it holds a key of version {body[0] if body else 'unknown'}, and only 4 is known")
    # OpenPGP's own definition of a fingerprint; nothing rests on its collision resistance
    return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()  # noqa: S324
