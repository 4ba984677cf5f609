"""Files and folders that only their owner can read: modes set when they are made, symbolic links refused.

Must not know what is written into them.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from lunaroute.errors import StoreError

FOLDER_MODE = 0o700
FILE_MODE = 0o600


def private_folder(path: Path) -> None:
    """Make `path` and what is missing above it, 0700; refuse a folder that others may write to."""
    missing = []
    folder = path
    while not folder.exists():
        if folder.is_symlink():
            raise StoreError(f"{folder} is a symbolic link that leads nowhere; remove it or make its target")
        missing.append(folder)
        folder = folder.parent
    try:
        for each in reversed(missing):
            # the mode goes into mkdir, not into a chmod afterwards: nobody can look in between
            each.mkdir(mode=FOLDER_MODE, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise StoreError(
            f"cannot make the folder {path}: {error.strerror}; give another path in session_recording"
        ) from None
    if not stat.S_ISDIR(found.st_mode):
        raise StoreError(f"{path} is not a folder; move it away or give another path in session_recording")
    if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
        raise StoreError(f"others may write to the folder {path}; run: chmod go-w '{path}'")


def open_private(path: Path, flags: int) -> int:
    """A descriptor of a regular file of ours, 0600; tightened when an existing file is looser."""
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        said = "it is a symbolic link" if path.is_symlink() else str(error.strerror)
        raise StoreError(f"cannot open {path}: {said}") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"{path} is not a regular file; move it away or give another path in session_recording")
        if found.st_mode & 0o077 and found.st_uid == os.geteuid():
            os.fchmod(fd, FILE_MODE)
    except BaseException:
        os.close(fd)
        raise
    return fd
