"""Folders and files that only their owner may touch (security.md L8): 0700 and 0600 from the moment they exist.

Refuses what somebody else owns or may write, and files that are symbolic links. Says what to do. Imports nothing heavy:
`lunaroute env` waits for it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from lunaroute.errors import StartError

SHARED = stat.S_IWGRP | stat.S_IWOTH


def absolute(path: str, base: Path, environ: Mapping[str, str]) -> str:
    """The path in full: `~` is the user's home, a relative one means from `base`."""
    if path == "~" or path.startswith("~/"):
        path = (environ.get("HOME") or os.path.expanduser("~")) + path[1:]
    return os.path.normpath(base / os.path.expanduser(path))


def home_folder(environ: Mapping[str, str]) -> Path:
    """Where everything is kept: $LUNAROUTE_HOME, or ~/.lunaroute."""
    return Path(absolute(environ.get("LUNAROUTE_HOME") or "~/.lunaroute", Path.cwd(), environ))


def config_file(named: str | None, environ: Mapping[str, str]) -> Path | None:
    """The file to read: the one named by the flag, by LUNAROUTE_CONFIG, or config.yaml of the home folder if there."""
    named = named or environ.get("LUNAROUTE_CONFIG")
    if named:
        return Path(absolute(named, Path.cwd(), environ))
    usual = home_folder(environ) / "config.yaml"
    return usual if os.path.lexists(usual) else None


def private_folder(folder: Path) -> Path:
    """The folder, made (0700) with its missing parents, or checked; a StartError if others could put files into it."""
    try:
        _make(folder)
        info = os.stat(folder)
        link = os.lstat(folder)
    except OSError as error:
        raise StartError(_why(folder, error)) from None
    if not stat.S_ISDIR(info.st_mode):
        raise StartError(f"{folder} is a file; a folder is needed there: move the file away or set LUNAROUTE_HOME")
    if info.st_uid != os.geteuid() or link.st_uid != os.geteuid():
        raise StartError(f"{folder} belongs to another user; give it to yourself (chown) or set LUNAROUTE_HOME")
    if info.st_mode & SHARED:
        raise StartError(f"{folder} can be written by other users; take that away: chmod 700 {folder}")
    return folder


def _make(folder: Path) -> None:
    if folder.is_dir():
        return
    if folder.parent != folder and not folder.parent.exists():
        _make(folder.parent)
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        if folder.is_symlink() and not folder.exists():
            raise StartError(f"{folder} is a link that leads nowhere; remove it or make its target") from None


def _why(path: Path, error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return f"{path} is a symbolic link; a plain file is needed there: remove the link"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path}: {error.strerror}; make it writable for yourself or set LUNAROUTE_HOME to another folder"
    if error.errno == errno.ENOSPC:
        return f"{path}: no space left on the disk; free some or set LUNAROUTE_HOME to another disk"
    return f"{path}: {error.strerror}"


def open_private(file: Path, flags: int) -> int:
    """A descriptor of a file of our own (0600 when made), or a StartError: no links, nothing of other users."""
    try:
        fd = os.open(file, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(_why(file, error)) from None
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid() or info.st_nlink > 1:
        os.close(fd)
        raise StartError(f"{file} is not a plain file of your own; move it away")
    if info.st_mode & 0o077:
        os.fchmod(fd, 0o600)
    return fd
