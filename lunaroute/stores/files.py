"""Private files and folders as stores need them: lunaroute.folders, with failures as StoreError."""

from __future__ import annotations

from pathlib import Path

from lunaroute import folders
from lunaroute.errors import StartError, StoreError


def private_folder(path: Path) -> None:
    """Make `path` and what is missing above it, 0700; refuse a folder that others may write to."""
    try:
        folders.private_folder(path)
    except StartError as error:
        raise StoreError(str(error)) from None


def open_private(path: Path, flags: int) -> int:
    """A descriptor of a regular file of ours, 0600, never through a symbolic link."""
    try:
        return folders.open_private(path, flags)
    except StartError as error:
        raise StoreError(str(error)) from None
