"""One file into its zstd-compressed copy, a piece at a time, and back. Must not know what is in it, nor when.

Crash rule: a copy is written under a temporary name, synced, renamed, and only then is the other one removed. So at any
moment one of the two is whole, and where both are there, the plain one is.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import zstandard

from lunaroute.errors import StoreError
from lunaroute.stores.files import open_private
from lunaroute.stores.reading import packed

PART = ".part"
DAMAGED = ".damaged"
PIECE = 256 * 1024  # about 3 ms
LEVEL = 6
# A session's file holds one conversation, resent whole with each request: whatever repeats does so within the length of
# two requests. 32 MiB reach over both and cost that much memory at most, 128 MiB would gain 1 % (measured).
WINDOW_LOG = 25
_LONG = 1 << 20  # from here on long repeats are looked for
_UNSYNCED = 4 * 1024 * 1024
_READ = 1 << 20


class _Changed(Exception):
    """The file is in use again, or is another one."""


def pack(path: Path, busy: Callable[[], bool]) -> Iterator[None]:
    """Replace the file by its compressed copy, piece by piece. Raises StoreError, and then all is as it was.

    `busy`: whether somebody of ours has the file open by now; then it stays as it is.
    """
    source = open_private(path, os.O_RDONLY)
    part = packed(path).with_name(packed(path).name + PART)
    try:
        before = os.fstat(source)

        def check() -> None:
            if busy() or _mark(os.fstat(source)) != _mark(before) or not _is(path, before):
                raise _Changed

        target = open_private(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            for _ in _squeeze(source, target, before.st_size):
                yield
                check()
            os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
            os.fsync(target)
            yield
            check()
            if not _is(part, os.fstat(target)):
                raise _Changed
            os.rename(part, packed(path))
            _sync_folder(path.parent)
        finally:
            os.close(target)
            with contextlib.suppress(OSError):
                os.unlink(part)
        yield
        # from here on the copy is whole; the plain file counts as long as it is there
        os.unlink(packed(path) if busy() or not _is(path, before) else path)
    except _Changed:
        return
    except OSError as error:
        raise StoreError(f"cannot compress {path}: {error.strerror}") from None
    except zstandard.ZstdError as error:
        raise StoreError(f"cannot compress {path}: {error}") from None
    finally:
        os.close(source)


def _squeeze(source: int, target: int, size: int) -> Iterator[None]:
    """One frame that knows its length and has a checksum."""
    window = min(max(size.bit_length(), zstandard.WINDOWLOG_MIN), WINDOW_LOG)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, source_size=max(size, 1), window_log=window, enable_ldm=size > _LONG,
        write_content_size=1, write_checksum=1,
    )  # fmt: skip
    squeezing = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=size)
    at = unsynced = 0
    while at < size:
        piece = os.pread(source, min(PIECE, size - at), at)
        if not piece:
            raise _Changed
        at += len(piece)
        unsynced += _write(target, squeezing.compress(piece))
        yield
        if unsynced > _UNSYNCED:  # a little at a time: one sync of it all would take long
            os.fdatasync(target)
            unsynced = 0
            yield
    _write(target, squeezing.flush())
    yield


def unpack(path: Path) -> bool:
    """Bring a compressed file back. At once: somebody waits to write to it. Raises StoreError, and all is as it was.

    False: it is damaged; it was set aside under another name, and there is no file now.
    """
    part = path.with_name(path.name + PART)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        source = open_private(packed(path), os.O_RDONLY)
        target = open_private(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            with os.fdopen(source, "rb") as file:
                size = zstandard.frame_content_size(file.read(18))
                file.seek(0)
                reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
                    file, read_across_frames=True
                )
                while piece := reader.read(_READ):
                    size -= _write(target, piece)
            if size > 0:
                raise zstandard.ZstdError("it ends too early")
            os.fdatasync(target)
            os.rename(part, path)
            _sync_folder(path.parent)
            os.unlink(packed(path))
        finally:
            os.close(target)
            with contextlib.suppress(OSError):
                os.unlink(part)
    except zstandard.ZstdError:
        with contextlib.suppress(OSError):
            os.rename(packed(path), packed(path).with_name(packed(path).name + DAMAGED))
        return False
    except OSError as error:
        raise StoreError(f"cannot unpack {packed(path)}: {error.strerror}") from None
    return True


def _write(fd: int, data: bytes) -> int:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    return len(data)


def _mark(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _is(path: Path, known: os.stat_result) -> bool:
    """Whether this name still means that file, unchanged in size."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return (found.st_dev, found.st_ino, found.st_size) == (known.st_dev, known.st_ino, known.st_size)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
