"""Folders and files that only their owner may touch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lunaroute.errors import StartError
from lunaroute.folders import absolute, config_file, home_folder, open_private, private_folder


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_what_is_made_is_private(tmp_path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        folder = private_folder(tmp_path / "a" / "b")
        fd = open_private(folder / "f", os.O_WRONLY | os.O_CREAT)
        os.close(fd)
    finally:
        os.umask(old)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "a", folder, folder / "f")]
    assert modes == [0o700, 0o700, 0o600]


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(StartError, match=f"chmod 700 {folder}"):
        private_folder(folder)


@pytest.mark.parametrize("uid", [1234])
def test_a_folder_of_another_user_is_refused(tmp_path: Path, uid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with pytest.raises(StartError, match="belongs to another user"):
        private_folder(tmp_path)


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(StartError, match="is a file; a folder is needed"):
        private_folder(tmp_path / "f")
    with pytest.raises(StartError, match="Not a directory"):
        private_folder(tmp_path / "f" / "g")


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "l").symlink_to(tmp_path / "gone")
    with pytest.raises(StartError, match="leads nowhere"):
        private_folder(tmp_path / "l")


def test_a_link_to_a_folder_of_ones_own_is_fine(tmp_path: Path) -> None:
    private_folder(tmp_path / "real")
    (tmp_path / "l").symlink_to(tmp_path / "real")
    assert private_folder(tmp_path / "l") == tmp_path / "l"


def test_links_are_not_followed_and_not_written(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("keep")
    (tmp_path / "l").symlink_to(tmp_path / "t")
    os.link(tmp_path / "t", tmp_path / "hard")
    with pytest.raises(StartError, match="symbolic link"):
        open_private(tmp_path / "l", os.O_WRONLY)
    with pytest.raises(StartError, match="not a plain file"):
        open_private(tmp_path / "hard", os.O_WRONLY)
    assert (tmp_path / "t").read_text() == "keep"


def test_a_looser_file_is_tightened(tmp_path: Path) -> None:
    (tmp_path / "f").touch(mode=0o644)
    os.close(open_private(tmp_path / "f", os.O_RDONLY))
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p")
    with pytest.raises(StartError, match="not a plain file"):
        open_private(tmp_path / "p", os.O_RDWR)


def test_where_things_are(tmp_path: Path) -> None:
    assert home_folder({"HOME": "/h"}) == Path("/h/.lunaroute")
    assert home_folder({"HOME": "/h", "LUNAROUTE_HOME": "~/x"}) == Path("/h/x")
    assert home_folder({"HOME": "/h", "LUNAROUTE_HOME": "x"}) == Path.cwd() / "x"
    assert absolute("../a", Path("/b/c"), {}) == "/b/a"
    assert config_file(None, {"HOME": str(tmp_path)}) is None
    assert config_file("c.yaml", {"LUNAROUTE_CONFIG": "/d"}) == Path.cwd() / "c.yaml"
