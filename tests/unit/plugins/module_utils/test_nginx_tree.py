# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import fcntl
import os
import re
import stat

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils import _nginx_tree
from ansible_collections.gpufleet.serving.plugins.module_utils._nginx_tree import (
    PROBE_FILE,
    SystemNginx,
    Tree,
    TreeError,
    TreeFile,
    TreeKeeper,
    differences,
    mark_servers,
    staged_configuration,
    without_secrets,
)

MAIN = """\
events { }
http {
    include /etc/nginx/mime.types;
    include /etc/nginx/conf.d/*.conf;
    include /etc/nginx/sites-enabled/*;
}
"""
POOL = """\
upstream a {
    zone a 256k;
    server 10.0.0.1:8000 weight=1 max_fails=2 fail_timeout=10s;
    server 10.0.0.2:8000 weight=1 max_fails=2 fail_timeout=10s;
    keepalive 64;
}
upstream a_again {
    server 10.0.0.1:8000 max_fails=0;
    server [fd00::2]:8000;
}
server {
    server_name 10.0.0.1:8000;
}
"""


def tree(pool=POOL, key="secret-key"):
    return Tree.of(
        [
            TreeFile("pools.conf", pool),
            TreeFile("server.conf", "ssl_certificate @tree@/gateway.crt;\n"),
            TreeFile("keys.conf", 'map "%s";\n' % key, secret=True),
            TreeFile(PROBE_FILE, "http://127.0.0.1:9145/tree\n"),
        ]
    )


class FakeNginx:
    """An nginx that reads the settings only when it is told to, and refuses any that say BAD."""

    def __init__(self, root, running=True, stuck=False):
        self.root, self.is_running, self.stuck = root, running, stuck
        self.reloads = 0
        self.tested = []
        self.folder = None

    def test(self, configuration):
        text = configuration.read_text()
        self.tested.append(text)
        for glob in re.findall(r"include (\S+/gpufleet/\S+);", text):
            folder = os.path.dirname(glob)
            for name in sorted(os.listdir(folder)):
                with open(os.path.join(folder, name)) as file:
                    if "BAD" in file.read():
                        return 'nginx: [emerg] unknown directive "BAD" in %s/%s:1' % (folder, name)
        return None

    def running(self):
        return self.is_running

    def reload(self):
        self.reloads += 1
        if not self.stuck:
            live = self.root / "conf.d" / "gpufleet.conf"
            match = re.search(r"include (\S+)/\*\.conf;", live.read_text()) if live.exists() else None
            self.folder = match.group(1) if match else None

    def told(self, probe):
        assert probe == "http://127.0.0.1:9145/tree"
        return self.folder


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "site.conf").write_text("# the site's own\n")
    (tmp_path / "nginx.conf").write_text(MAIN)
    monkeypatch.setattr(_nginx_tree, "PROBE_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(_nginx_tree, "RELOAD_SECONDS", 0.05)
    return tmp_path


@pytest.fixture
def nginx(root):
    return FakeNginx(root)


@pytest.fixture
def keeper(root, nginx):
    return TreeKeeper(nginx, root)


def listing(folder):
    """Every file below the folder with its mode and text."""
    return {
        str(path.relative_to(folder)): (stat.S_IMODE(path.stat().st_mode), path.read_text())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_id_is_that_of_names_contents_and_secrecy_in_any_order():
    assert tree().id == Tree.of(reversed(tree().files)).id
    assert len({tree().id, tree(pool="").id, tree(key="other").id}) == 3
    assert Tree.of([TreeFile("a", "x")]).id != Tree.of([TreeFile("a", "x", secret=True)]).id


def test_a_tree_is_put_in_force_with_its_folder_and_modes(keeper, nginx, root):
    assert keeper.put(tree()) is True
    folder = root / "gpufleet" / tree().id
    assert (root / "conf.d" / "gpufleet.conf").read_text().endswith("include %s/*.conf;\n" % folder)
    files = listing(folder)
    assert files["server.conf"] == (0o644, "ssl_certificate %s/gateway.crt;\n" % folder)
    assert files["keys.conf"][0] == 0o600
    assert nginx.folder == str(folder)
    assert keeper.in_force() == tree()


def test_the_same_tree_again_changes_nothing_and_tells_nginx_nothing(keeper, nginx, root):
    keeper.put(tree())
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    tested, reloads = len(nginx.tested), nginx.reloads
    assert keeper.put(tree()) is False
    assert (len(nginx.tested), nginx.reloads) == (tested, reloads)
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def test_another_tree_replaces_the_first_which_is_deleted(keeper, root):
    keeper.put(tree())
    assert keeper.put(tree(pool="# none\n")) is True
    assert [path.name for path in (root / "gpufleet").iterdir()] == [tree(pool="# none\n").id]


def test_the_staged_tree_is_tested_in_the_place_of_the_live_one_beside_the_sites_files(keeper, nginx, root):
    keeper.put(tree())
    keeper.put(tree(pool="# none\n"))
    staged = nginx.tested[-1]
    assert str(root / "gpufleet" / tree(pool="# none\n").id) in staged
    assert tree().id not in staged
    assert "include %s;" % (root / "conf.d" / "site.conf") in staged
    assert staged.splitlines()[4] == MAIN.splitlines()[4]
    assert sorted(path.name for path in root.iterdir()) == ["conf.d", "gpufleet", "nginx.conf"]


def test_a_tree_that_nginx_refuses_leaves_everything_as_it_was(keeper, nginx, root):
    keeper.put(tree())
    before = listing(root)
    with pytest.raises(TreeError, match=r'nginx says: .*unknown directive "BAD" in .*/pools.conf:1'):
        keeper.put(tree(pool="BAD\n"))
    assert listing(root) == before
    assert nginx.reloads == 1


def test_nginxs_words_about_a_secret_file_come_without_what_they_quote(keeper):
    with pytest.raises(TreeError) as refusal:
        keeper.put(tree(key="BAD\" 'secret-key"))
    assert "BAD" not in str(refusal.value)
    assert "(hidden)" in str(refusal.value)


def test_a_tree_that_nginx_accepts_and_does_not_run_is_taken_back(keeper, nginx, root):
    keeper.put(tree())
    include = (root / "conf.d" / "gpufleet.conf").read_text()
    nginx.stuck = True
    with pytest.raises(TreeError, match="The configuration of before was put back"):
        keeper.put(tree(pool="# none\n"))
    assert (root / "conf.d" / "gpufleet.conf").read_text() == include
    assert keeper.in_force() == tree()
    assert [path.name for path in (root / "gpufleet").iterdir()] == [tree().id]


def test_a_first_tree_that_nginx_does_not_run_leaves_no_include(root):
    with pytest.raises(TreeError, match="The configuration of before was put back"):
        TreeKeeper(FakeNginx(root, stuck=True), root).put(tree())
    assert not (root / "conf.d" / "gpufleet.conf").exists()


def test_a_reload_that_an_interrupted_run_left_out_is_made_up_for(root):
    TreeKeeper(FakeNginx(root, running=False), root).put(tree())
    nginx = FakeNginx(root)
    assert TreeKeeper(nginx, root).put(tree()) is True
    assert nginx.reloads == 1


def test_an_nginx_that_does_not_run_is_not_reloaded(root):
    nginx = FakeNginx(root, running=False)
    assert TreeKeeper(nginx, root).put(tree()) is True
    assert TreeKeeper(nginx, root).put(tree()) is False
    assert nginx.reloads == 0


@pytest.mark.parametrize(
    "meddle",
    [
        lambda folder: (folder / "pools.conf").write_text("# by hand\n"),
        lambda folder: (folder / "pools.conf").unlink(),
        lambda folder: (folder / "more.conf").write_text("# by hand\n"),
        lambda folder: (folder / "keys.conf").chmod(0o644),
    ],
    ids=["edited", "deleted", "added", "opened"],
)
def test_a_tree_that_somebody_changed_by_hand_is_put_right_and_reloaded(keeper, nginx, root, meddle):
    keeper.put(tree())
    right = listing(root)
    meddle(root / "gpufleet" / tree().id)
    assert keeper.put(tree()) is True
    assert listing(root) == right
    assert nginx.reloads == 2


def test_removal_takes_all_of_ours_and_nothing_else(keeper, nginx, root):
    before = listing(root)
    keeper.put(tree())
    assert keeper.remove() is True
    assert listing(root) == before
    assert not keeper.exists()
    assert nginx.folder is None
    assert keeper.remove() is False


def test_an_interrupted_removal_is_finished(keeper, nginx, root):
    keeper.put(tree())
    (root / "conf.d" / "gpufleet.conf").unlink()
    assert keeper.remove() is True
    assert nginx.folder is None
    assert not (root / "gpufleet").exists()


def test_removal_goes_no_further_when_the_rest_would_not_do_without_it(keeper, nginx, root):
    keeper.put(tree())
    nginx.test = lambda configuration: "nginx: [emerg] host not found in upstream"
    with pytest.raises(TreeError, match="host not found"):
        keeper.remove()
    assert keeper.in_force() == tree()


def test_drain_marks_a_server_in_every_upstream_and_gives_back_the_very_same_tree():
    down = tree().marked(["10.0.0.1:8000"], True)
    assert down.files[1].content.count("10.0.0.1:8000 weight=1 max_fails=2 fail_timeout=10s down;") == 1
    assert down.files[1].content.count("10.0.0.1:8000 max_fails=0 down;") == 1
    assert down.files[1].content.count(" down;") == 2
    assert down.marked(["10.0.0.1:8000"], True) == down
    assert down.marked(["10.0.0.1:8000"], False) == tree()


@pytest.mark.parametrize(
    "server, marked",
    [
        ("[fd00::2]:8000", ["    server [fd00::2]:8000 down;"]),
        ("10.0.0.9:8000", []),
        ("0.0.0.1:8000", []),
        ("10.0.0.1:800", []),
    ],
)
def test_only_the_server_that_is_named_is_marked(server, marked):
    assert [line for line in mark_servers(POOL, [server], True).splitlines() if "down" in line] == marked


def test_servers_are_those_of_the_upstreams():
    assert tree().servers() == ["10.0.0.1:8000", "10.0.0.2:8000", "[fd00::2]:8000"]


@pytest.mark.parametrize(
    "include",
    [
        "include /etc/nginx/conf.d/*.conf;",
        "  include conf.d/*.conf ;",
        'include "/etc/nginx/conf.d/*.conf";',
        "include conf.d/*;",
    ],
)
def test_the_include_is_found_however_it_is_written(include, tmp_path):
    live = tmp_path / "conf.d" / "b.conf"
    site = [tmp_path / "conf.d" / name for name in ("c.conf", "a.conf")]
    text = staged_configuration("http {\n%s\n}\n" % include, site, live, tmp_path / "staged")
    assert text.split("\n")[1].strip() == "include %s; include %s/*.conf; include %s;" % (
        site[1],
        tmp_path / "staged",
        site[0],
    )


@pytest.mark.parametrize(
    "main", ["http {\n}\n", "# include /etc/nginx/conf.d/*.conf;\n", "include /etc/nginx/sites-enabled/*;\n"]
)
def test_a_main_file_that_would_never_read_ours_is_refused(main, tmp_path):
    with pytest.raises(TreeError, match="Add the line 'include .*/conf.d/[*].conf;'"):
        staged_configuration(main, [], tmp_path / "conf.d" / "gpufleet.conf", None)


def test_what_changes_is_shown_but_not_secrets():
    shown = {part["after_header"]: part for part in differences(tree(), tree(pool="# none\n", key="other-key"))}
    assert sorted(shown) == ["keys.conf", "pools.conf"]
    assert shown["pools.conf"]["before"] == POOL
    assert "key" not in shown["keys.conf"]["before"] + shown["keys.conf"]["after"]
    assert shown["keys.conf"]["before"] != shown["keys.conf"]["after"]
    assert differences(None, tree())[0]["before"] == ""


@pytest.mark.parametrize(
    "words, shown",
    [
        (
            '[emerg] in "abc" in /etc/nginx/gpufleet/1/keys.conf:3',
            '[emerg] in "(hidden)" in /etc/nginx/gpufleet/1/keys.conf:3',
        ),
        (
            "[emerg] in 'abc' in /etc/nginx/gpufleet/1/keys.conf:3",
            '[emerg] in "(hidden)" in /etc/nginx/gpufleet/1/keys.conf:3',
        ),
        (
            '[emerg] in "abc" in /etc/nginx/gpufleet/1/pools.conf:3',
            '[emerg] in "abc" in /etc/nginx/gpufleet/1/pools.conf:3',
        ),
    ],
)
def test_only_words_about_secret_files_are_hidden(words, shown):
    assert without_secrets(words, tree().files) == shown


def test_a_second_run_waits_for_the_first_and_not_for_ever(keeper, root):
    descriptor = os.open(str(root), os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(TreeError, match="another run"), keeper.locked(timeout_s=0.02):
        pass
    os.close(descriptor)
    with keeper.locked(timeout_s=0.02):
        pass


def test_systemd_and_nginx_are_asked_as_their_manuals_say(tmp_path):
    asked = []

    def run(command):
        asked.append(command)
        return (1, "", "nginx: [emerg] no\n") if "-t" in command else (0, "", "")

    nginx = SystemNginx(run, "/usr/sbin/nginx")
    assert nginx.test(tmp_path) == "nginx: [emerg] no"
    assert nginx.running() is True
    nginx.reload()
    assert asked == [
        ["/usr/sbin/nginx", "-t", "-q", "-c", str(tmp_path)],
        ["systemctl", "is-active", "--quiet", "nginx.service"],
        ["systemctl", "reload", "nginx.service"],
    ]
    assert SystemNginx(run, None).test(tmp_path) is None


def test_a_reload_that_systemd_refuses_is_told():
    with pytest.raises(TreeError, match="Job failed"):
        SystemNginx(lambda command: (1, "", "Job failed\n"), "nginx").reload()


def test_a_probe_that_nobody_answers_tells_nothing():
    assert SystemNginx(lambda command: (0, "", ""), "nginx").told("http://127.0.0.1:1/tree") is None
