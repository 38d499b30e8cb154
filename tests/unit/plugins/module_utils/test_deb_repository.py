# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What apt is asked for and what is made of its answers. The scenario airgap has the real apt."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils import _deb_repository
from ansible_collections.gpufleet.serving.plugins.module_utils._deb_repository import PackageError, fetch

APT = """\
#!/bin/sh
for word in "$@"; do case $word in
  Dir::Cache::archives=*) folder=${word#*=} ;;
  --print-uris) for name in a_1 b_2; do echo "'http://mirror/$name.deb' $name.deb 3 SHA256:x"; done; exit ;;
  missing) echo "E: Unable to locate package missing" >&2; exit 100 ;;
esac; done
touch $folder/a_1.deb; [ -e NO_B ] || touch $folder/b_2.deb
"""


@pytest.fixture(autouse=True)
def apt(tmp_path, monkeypatch):
    """An apt-get that knows two packages."""
    program = tmp_path / "bin/apt-get"
    program.parent.mkdir()
    program.write_text(APT.replace("NO_B", str(tmp_path / "no_b")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_what_an_earlier_run_left_over_goes_and_what_is_wanted_comes(tmp_path):
    folder = tmp_path / "debs"
    folder.mkdir()
    (folder / "a_0.deb").touch()
    fetch(["a"], str(folder))
    assert sorted(path.name for path in folder.glob("*.deb")) == ["a_1.deb", "b_2.deb"]


def test_what_apt_says_is_passed_on(tmp_path):
    with pytest.raises(PackageError, match="could not fetch missing: E: Unable to locate package missing"):
        fetch(["missing"], str(tmp_path / "debs"))


def test_an_apt_that_is_content_too_early_is_not_believed(tmp_path):
    (tmp_path / "no_b").touch()
    with pytest.raises(PackageError, match=r"lacks b_2\.deb"):
        fetch(["a"], str(tmp_path / "debs"))


def test_a_machine_without_apt_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackageError, match="apt-get cannot be run"):
        fetch(["a"], str(tmp_path / "debs"))


def test_the_index_has_what_dpkg_says_and_where_the_file_is(tmp_path, monkeypatch):
    program = tmp_path / "bin/dpkg-deb"
    program.write_text("#!/bin/sh\necho Package: a\n")
    program.chmod(0o755)
    (tmp_path / "a_1.deb").write_text("abc")
    assert _deb_repository.index(str(tmp_path)) == (
        "Package: a\nFilename: ./a_1.deb\nSize: 3\n"
        "SHA256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n"
    )
