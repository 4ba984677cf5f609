"""The JSONL store: one file per session, one line per event, for people with `tail -f`, `jq` and `grep`.

Must not know who reads the files. A session's path is fixed when it starts (its day in local time, as `date` says it)
and stays, however long the session lives. Lines only ever grow at the end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from lunaroute.errors import StoreError
from lunaroute.records import Closed, Exchange, Record
from lunaroute.stores import lines
from lunaroute.stores.files import open_private, private_folder

# open files; the least recently used is closed first
MAX_FILES = 64
_PATHS_KNOWN = 4096
_IDS_KNOWN = 4096
# how far back a restarted observer looks for what its predecessor wrote: the tap's ring holds no more than this
_LOOK_BACK = 64 * 1024 * 1024
_DAY = re.compile(r"^\d{4}-\d\d-\d\d$")


class _File:
    """A session's open file."""

    __slots__ = ("fd", "path", "seq", "told")

    def __init__(self, path: Path, look_back: int) -> None:
        private_folder(path.parent)
        self.path = path
        self.fd = open_private(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            size = lines.repair(self.fd)
            self.seq = lines.last_seq(self.fd, size)
            self.told: OrderedDict[str, int] = OrderedDict(lines.told(self.fd, size, look_back) if look_back else {})
        except OSError as error:
            os.close(self.fd)
            raise StoreError(f"cannot read {path}: {error.strerror}") from None

    def moved(self) -> bool:
        """Whether another file, or none, has our name now."""
        try:
            found = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return True
        mine = os.fstat(self.fd)
        return (found.st_dev, found.st_ino) != (mine.st_dev, mine.st_ino)

    def append(self, data: bytes) -> None:
        """Write whole, or leave the file as it was."""
        size = os.fstat(self.fd).st_size
        try:
            written = os.write(self.fd, data)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, size)
            raise StoreError(f"cannot write {self.path}: {error.strerror}") from None

    def note(self, ident: str, stage: int) -> None:
        self.told[ident] = stage
        self.told.move_to_end(ident)
        if len(self.told) > _IDS_KNOWN:
            self.told.popitem(last=False)

    def close(self) -> None:
        os.close(self.fd)


class JsonlStore:
    """See the module. replayed: an earlier observer of this run may have written part of what comes."""

    name = "jsonl"

    def __init__(
        self,
        folder: Path,
        *,
        warn: Callable[[str], None],
        max_age_days: float | None = None,
        max_size_mb: float | None = None,
        replayed: bool = False,
    ) -> None:
        self.path = folder
        self._warn = warn
        self._max_age_s = None if max_age_days is None else max_age_days * 86400
        self._max_bytes = None if max_size_mb is None else int(max_size_mb * 1024 * 1024)
        self._look_back = _LOOK_BACK if replayed else 0
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._paths: OrderedDict[str, Path] = OrderedDict()
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<JsonlStore {self.path} {len(self._files)} open files>"

    def open(self) -> None:
        """Check that the folder can be used."""
        private_folder(self.path)
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise StoreError(f"the folder {self.path} cannot be written; run: chmod u+rwx '{self.path}'")

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def size(self) -> int:
        """Bytes of all files, as of the last upkeep, and what was written since."""
        return self._bytes

    # --- paths -----------------------------------------------------------------------------------------
    def locate(self, session_id: str, started_ns: int) -> str:
        """The path of a session's file: where it was begun, or where it would be begun now."""
        return str(self._path(session_id, started_ns))

    def _path(self, session_id: str, started_ns: int) -> Path:
        path = self._paths.get(session_id)
        if path is None:
            name = f"session_{session_id}.jsonl"
            found = (day / name for day in self._days(newest_first=True) if (day / name).exists())
            today = time.strftime("%Y-%m-%d", time.localtime(started_ns // 1_000_000_000))
            path = next(found, self.path / today / name)
            self._paths[session_id] = path
            if len(self._paths) > _PATHS_KNOWN:
                self._paths.popitem(last=False)
        return path

    def _days(self, newest_first: bool = False) -> list[Path]:
        try:
            names = [entry.name for entry in os.scandir(self.path) if _DAY.match(entry.name)]
        except OSError:
            return []
        return [self.path / name for name in sorted(names, reverse=newest_first)]

    # --- writing ---------------------------------------------------------------------------------------
    def write(self, batch: Sequence[Record]) -> None:
        """Append the lines; after a failure the same batch may be given again, and only what is missing is written."""
        for record in batch:
            if isinstance(record, Exchange):
                self._write_exchange(record)
            elif isinstance(record, Closed) and record.session_id is not None:
                self._write_closed(record, record.session_id)

    def _write_exchange(self, exchange: Exchange) -> None:
        file = self._file(exchange.session_id, exchange.started_ns)
        if file.seq == 0:
            self._append(file, lines.session_line(1, exchange))
        stage = file.told.get(exchange.id, 0)
        if stage == 0 or (stage == 1 and exchange.state is None):
            # the second time: more of the request came after its answer had begun
            self._append(file, lines.request_line(file.seq + 1, exchange))
            file.note(exchange.id, 1)
        if exchange.state is not None and stage < 2:
            self._append(file, lines.response_line(file.seq + 1, exchange))
            file.note(exchange.id, 2)

    def _write_closed(self, closed: Closed, session_id: str) -> None:
        file = self._file(session_id, time.time_ns())
        if file.told.get(closed.id, 0) < 2:
            self._append(file, lines.closed_line(file.seq + 1, closed))
            file.note(closed.id, 2)

    def _append(self, file: _File, line: bytes) -> None:
        file.append(line)
        file.seq += 1
        self._bytes += len(line)

    def _file(self, session_id: str, started_ns: int) -> _File:
        file = self._files.get(session_id)
        if file is not None and file.moved():
            self._warn(f"{file.path} was moved or removed while in use; it is begun anew")
            self._files.pop(session_id).close()
            self._paths.pop(session_id, None)
            file = None
        if file is None:
            file = _File(self._path(session_id, started_ns), self._look_back)
            self._files[session_id] = file
            if len(self._files) > MAX_FILES:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(session_id)
        return file

    # --- retention -------------------------------------------------------------------------------------
    def tend(self, now: float) -> None:
        """Remove what is too old, then the oldest until the rest is small enough; files in use stay."""
        found: list[tuple[float, int, Path]] = []
        in_use = {file.path for file in self._files.values()}
        for day in self._days():
            with contextlib.suppress(OSError):
                for entry in os.scandir(day):
                    if entry.name.startswith("session_") and entry.is_file(follow_symlinks=False):
                        said = entry.stat(follow_symlinks=False)
                        found.append((said.st_mtime, said.st_size, day / entry.name))
        found.sort()
        total = sum(size for _, size, _ in found)
        for changed, size, path in found:
            old = self._max_age_s is not None and now - changed > self._max_age_s
            much = self._max_bytes is not None and total > self._max_bytes
            if not (old or much):
                break
            if path in in_use:
                continue
            self._remove(path)
            total -= size
        self._bytes = total
        for day in self._days():
            with contextlib.suppress(OSError):
                day.rmdir()  # only an empty one can be

    def _remove(self, path: Path) -> None:
        try:
            path.unlink()
        except OSError as error:
            raise StoreError(f"cannot remove the old file {path}: {error.strerror}") from None
        session = path.name.removeprefix("session_").removesuffix(".jsonl")
        self._paths.pop(session, None)
