# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image comes from this machine's own apt sources, in either format, and from nobody else's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import image
from image import Source

MAIN = ("main",)

DEB822 = """\
# made by the installer
Types: deb deb-src
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY865UxYJKwYBBAHaRw8BAQdAd7Z0srwuhlB6JKFkcf4HU4SSS/xcRfwEQWzr
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://elsewhere.example/debian
Suites: bookworm-backports
Components: main

Types: deb-src
URIs: http://mirror.example/debian
Suites: sid
Components: main
"""

ONE_LINE = """\
# deb cdrom:[Debian GNU/Linux 12]/ bookworm main
deb http://mirror.example/debian bookworm main contrib  # the release
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] https://mirror.example/debian-security/ bookworm-security main
"""


def test_reads_stanzas():
    assert image.parse_deb822(DEB822) == [
        Source("http://mirror.example/debian", "bookworm", ("main", "contrib")),
        Source("http://mirror.example/debian", "bookworm-updates", ("main", "contrib")),
        Source("http://mirror.example/debian-security", "bookworm-security", MAIN),
    ]


def test_reads_lines():
    assert image.parse_one_line(ONE_LINE) == [
        Source("http://mirror.example/debian", "bookworm", ("main", "contrib")),
        Source("https://mirror.example/debian-security", "bookworm-security", MAIN),
    ]


def test_reads_every_file_that_apt_reads(tmp_path):
    (tmp_path / "sources.list").write_text("deb http://a.example/debian bookworm main\n")
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "b.list").write_text("deb http://b.example/debian bookworm main\n")
    (parts / "c.sources").write_text("Types: deb\nURIs: http://c.example/debian\nSuites: bookworm\nComponents: main\n")
    (parts / "d.list.disabled").write_text("deb http://d.example/debian bookworm main\n")
    assert [source.uri[7] for source in image.read_sources(tmp_path)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("distribution", "codename", "sources", "chosen"),
    [
        (
            "debian",
            "bookworm",
            [
                Source("https://packages.example/tool", "bookworm", MAIN),
                Source("http://mirror.example/debian", "bookworm", ("contrib",)),
                Source("cdrom:/debian", "bookworm", MAIN),
                Source("http://mirror.example/debian-security", "bookworm-security", MAIN),
                Source("http://mirror.example/debian", "bookworm", MAIN),
                Source("http://second.example/debian", "bookworm", MAIN),
                Source("http://mirror.example/debian", "bookworm-backports", MAIN),
            ],
            [4, 3],
        ),
        (
            "ubuntu",
            "noble",
            [
                Source("http://mirror.example/ubuntu", "noble-security", MAIN),
                Source("http://mirror.example/ubuntu", "noble-updates", MAIN),
                Source("http://mirror.example/ubuntu", "noble", MAIN),
            ],
            [2, 1, 0],
        ),
    ],
)
def test_takes_the_distributions_own_suites(distribution, codename, sources, chosen):
    assert image.choose_sources(sources, distribution, codename) == [sources[index] for index in chosen]


def test_says_where_it_looked_when_there_is_no_mirror():
    with pytest.raises(SystemExit, match="no apt source of debian bookworm under /etc/apt"):
        image.choose_sources([Source("http://mirror.example/ubuntu", "noble", MAIN)], "debian", "bookworm")


def test_another_recipe_is_another_image(monkeypatch):
    before = image.image_name("bookworm")
    assert image.image_name("bookworm") == before
    assert image.image_name("trixie") != before
    monkeypatch.setattr(image, "FETCHED", [*image.FETCHED, "one-more"])
    assert image.image_name("bookworm") != before
