"""The JSONL store: one file per session, one line per event, for people with `tail -f`, `jq` and `grep`.

Must not know who reads the files (stores/reading.py does). A session's path is fixed when it starts (its day in local
time, as `date` says it) and stays, however long the session lives. Lines only ever grow at the end.

A file that has not changed for some days becomes `session_<id>.jsonl.zst` (`zstdcat`, `zstdgrep` read it). A session
that goes on after that gets its plain file back first, so that a session is always one file, `seq` rises in it, and
`tail -f` shows all of it. Where a crash left both, the plain one counts and the other is removed at the next upkeep.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from lunaroute.errors import StoreError
from lunaroute.records import Closed, Exchange, Opened, Record
from lunaroute.stores import lines, packing
from lunaroute.stores.files import open_private, private_folder
from lunaroute.stores.reading import Trouble, numbered, packed
from lunaroute.stores.reading import found as either_form
from lunaroute.stores.upkeep import Keep

# open files; the least recently used is closed first
MAX_FILES = 64
_PATHS_KNOWN = 4096
_IDS_KNOWN = 4096
# how far back a restarted observer looks for what its predecessor wrote: the tap's ring holds no more than this
_LOOK_BACK = 64 * 1024 * 1024
_DAY = re.compile(r"^\d{4}-\d\d-\d\d$")
_OURS = re.compile(r"session_.+\.jsonl(\.zst(\.damaged)?)?")
_PART = re.compile(r"session_.+\.jsonl(\.zst)?\.part")
# a file that nobody wrote to for so long is closed at the next upkeep, so that it can be compressed or removed;
# one in which an exchange is still under way has longer
IDLE_S = 600.0
# at an explicit request to prune it is closed sooner
IDLE_PRUNED_S = 10.0
_IDLE_RUNNING_S = 86_400.0
# of a file that is closed: what it has told last, in case it is given again
_TOLD_KEPT = 64
_FORMS = ("", ".zst", ".part", ".zst.part", ".zst.damaged")
_PIECE = 1 << 20  # bytes written at once, about
_STEP = 100  # files looked at in one step of upkeep


class _Numbered(msgspec.Struct):
    sequence: int = 0


_numbered = msgspec.json.Decoder(_Numbered)


class _File:
    """A session's open file."""

    __slots__ = ("fd", "path", "seq", "told", "used")

    def __init__(self, path: Path, look_back: int, told: dict[str, int]) -> None:
        private_folder(path.parent)
        self.path = path
        self.used = 0.0
        self.fd = open_private(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            size = lines.repair(self.fd)
            self.seq = lines.last_seq(self.fd, size)
            self.told: OrderedDict[str, int] = OrderedDict(lines.told(self.fd, size, look_back) if look_back else told)
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

    def close(self) -> dict[str, int]:
        """Close it; what must be remembered of what it told."""
        os.close(self.fd)
        recent = set(list(self.told)[-_TOLD_KEPT:])
        return {ident: stage for ident, stage in self.told.items() if stage == 1 or ident in recent}


def _lines_of(seq: int, stage: int, record: Exchange | Closed) -> list[bytes]:
    """The lines that a record adds to a file of `seq` lines. stage: what was told of it: 1 the request, 2 all."""
    if isinstance(record, Closed):
        return [lines.closed_line(seq + 1, record)] if stage < 2 else []
    made: list[bytes] = []
    if seq == 0:
        made.append(lines.session_line(1, record))
    if stage == 0 or (stage == 1 and record.state is None):
        # the second time: more of the request came after its answer had begun
        made.append(lines.request_line(seq + len(made) + 1, record))
    if record.state is not None and stage < 2:
        made.append(lines.response_line(seq + len(made) + 1, record))
    return made


def _parts(records: Sequence[Exchange | Closed]) -> Iterator[Sequence[Exchange | Closed]]:
    """The records in runs of some megabytes at most."""
    start = size = 0
    for number, record in enumerate(records):
        more = len(record.request_body) + len(record.response_body) if isinstance(record, Exchange) else 0
        if size and size + more > _PIECE:
            yield records[start:number]
            start, size = number, 0
        size += more
    yield records[start:]


class JsonlStore:
    """See the module. replayed: an earlier observer of this run may have written part of what comes.

    clock: seconds that only ever rise, for what is in use; how old files are is told by their own dates.
    """

    name = "jsonl"
    refused = 0  # any bytes can be written

    def __init__(
        self,
        folder: Path,
        *,
        warn: Callable[[str], None],
        max_age_days: float | None = None,
        max_size_mb: float | None = None,
        compress_after_days: float | None = None,
        replayed: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = folder
        self._warn = warn
        self._max_age_s = None if max_age_days is None else max_age_days * 86400
        self._max_bytes = None if max_size_mb is None else int(max_size_mb * 1024 * 1024)
        self._compress_after_s = None if compress_after_days is None else compress_after_days * 86400
        self._clock = clock
        self._look_back = _LOOK_BACK if replayed else 0
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._paths: OrderedDict[str, Path] = OrderedDict()
        self._told: OrderedDict[str, dict[str, int]] = OrderedDict()
        self._tending: Generator[None, None, None] | None = None
        self._bytes = 0
        self.removed = 0  # files, by retention

    def __repr__(self) -> str:
        return f"<JsonlStore {self.path} {len(self._files)} open files>"

    def open(self) -> None:
        """Check that the folder can be used."""
        private_folder(self.path)
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise StoreError(f"the folder {self.path} cannot be written; run: chmod u+rwx '{self.path}'")

    def close(self) -> None:
        """Close all files."""
        if self._tending is not None:
            self._tending.close()
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
            days = self._days(newest_first=True)
            found = (day / name for day in days if (day / name).exists() or packed(day / name).exists())
            today = time.strftime("%Y-%m-%d", time.localtime(started_ns // 1_000_000_000))
            path = next(found, self.path / today / name)
            self._paths[session_id] = path
            if len(self._paths) > _PATHS_KNOWN:
                self._paths.popitem(last=False)
        return path

    def last_sequence(self, session_id: str) -> int:
        """The highest number that an exchange has in the session's file; 0 where there is none."""
        name, last = f"session_{session_id}.jsonl", 0
        for day in self._days(newest_first=True):
            path = either_form(day / name)
            if path.exists():
                for line in numbered(path):
                    if not isinstance(line, Trouble):
                        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                            last = max(last, _numbered.decode(line[1]).sequence)
                break
        return last

    def _days(self, newest_first: bool = False) -> list[Path]:
        try:
            names = [entry.name for entry in os.scandir(self.path) if _DAY.match(entry.name)]
        except OSError:
            return []
        return [self.path / name for name in sorted(names, reverse=newest_first)]

    # --- writing ---------------------------------------------------------------------------------------
    def write(self, batch: Sequence[Record]) -> None:
        """Append the lines; after a failure the same batch may be given again, and only what is missing is written."""
        sessions: dict[str, list[Exchange | Closed]] = {}
        for record in batch:
            if not isinstance(record, Opened) and record.session_id is not None:
                sessions.setdefault(record.session_id, []).append(record)
        for session_id, records in sessions.items():
            first = records[0]
            file = self._file(session_id, first.started_ns if isinstance(first, Exchange) else time.time_ns())
            for some in _parts(records):
                self._write_some(file, some)

    def _write_some(self, file: _File, records: Sequence[Exchange | Closed]) -> None:
        """What these records have to tell, in one piece."""
        seq, stages = file.seq, dict[str, int]()
        written: list[bytes] = []
        for record in records:
            stage = stages.get(record.id, file.told.get(record.id, 0))
            made = _lines_of(seq, stage, record)
            if made:
                written += made
                seq += len(made)
                stages[record.id] = 1 if isinstance(record, Exchange) and record.state is None else 2
        if written:
            data = written[0] if len(written) == 1 else b"".join(written)
            file.append(data)
            file.seq = seq
            self._bytes += len(data)
            for ident, stage in stages.items():
                file.note(ident, stage)

    def _file(self, session_id: str, started_ns: int) -> _File:
        file = self._files.get(session_id)
        if file is not None and file.moved():
            self._warn(f"{file.path} was moved or removed while in use; it is begun anew")
            self._files.pop(session_id).close()
            self._paths.pop(session_id, None)
            file = None
        if file is None:
            file = self._open(session_id, started_ns)
            if len(self._files) > MAX_FILES:
                self._shut(next(iter(self._files)))
        file.used = self._clock()
        self._files.move_to_end(session_id)
        return file

    def _open(self, session_id: str, started_ns: int) -> _File:
        path = self._path(session_id, started_ns)
        if not path.exists() and packed(path).exists():
            before = _size(packed(path))
            if packing.unpack(path):
                self._bytes += _size(path) - before
            else:
                self._warn(f"{packed(path)} is damaged; it was set aside and the session's file is begun anew")
        file = self._files[session_id] = _File(path, self._look_back, self._told.pop(session_id, {}))
        return file

    def _shut(self, session_id: str) -> None:
        self._told[session_id] = self._files.pop(session_id).close()
        if len(self._told) > _PATHS_KNOWN:
            self._told.popitem(last=False)

    # --- upkeep ----------------------------------------------------------------------------------------
    def tend(self, now: float) -> None:
        """All steps of upkeep at once."""
        for _ in self.tend_steps(now):
            pass

    def tend_steps(self, now: float, keep: Keep | None = None) -> Iterator[None]:
        """Remove what is too old, compress what is old enough, then remove the oldest until the rest is small enough.

        A step takes milliseconds, and between steps anything may be written. Files in use stay. What fails is left as
        it is; the last step raises the first StoreError. Beginning anew gives up what was not finished.
        keep: other bounds for this once, because somebody asked: then a file is in use only while an exchange in it is
        under way, or within seconds.
        """
        if self._tending is not None:
            self._tending.close()
        self._tending = self._tend(now, keep or self.keep, IDLE_S if keep is None else IDLE_PRUNED_S)
        return self._tending

    @property
    def keep(self) -> Keep:
        """How long and how much is kept."""
        return Keep(self._max_age_s / 86400 if self._max_age_s is not None else None, self._max_bytes)

    def plan(self, now: float, keep: Keep) -> list[Found]:
        """What an upkeep by these bounds would remove, the oldest first; reads only. In use or not is not known here,
        nor what compressing would save."""
        found = sorted(self.files())
        left = sum(each.size for each in found)
        gone = []
        for each in found:
            if not _old(each, now, keep) and (keep.max_bytes is None or left <= keep.max_bytes):
                break
            gone.append(each)
            left -= each.size
        return gone

    def files(self) -> list[Found]:
        """All files of ours."""
        found = []
        for day in self._days():
            with contextlib.suppress(OSError):
                for entry in os.scandir(day):
                    if _OURS.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                        said = entry.stat(follow_symlinks=False)
                        found.append(Found(said.st_mtime, said.st_size, Path(entry.path)))
        return found

    def delete(self, session_id: str, path: str | None = None) -> int:
        """Remove a session's files in every form, and forget it; `path`: where else it was begun. Bytes removed.

        What comes of the session after that begins a new file.
        """
        if self._tending is not None:
            self._tending.close()  # it may be compressing the file right now
        if session_id in self._files:
            self._files.pop(session_id).close()
        self._paths.pop(session_id, None)
        self._told.pop(session_id, None)
        name = f"session_{session_id}.jsonl"
        folders = self._days()
        if path is not None and Path(path).name == name and Path(path).is_absolute():
            folders.append(Path(path).parent)
        gone = 0
        for folder in folders:
            for suffix in _FORMS:
                gone += _unlink(folder / (name + suffix))
            with contextlib.suppress(OSError):
                if folder.parent == self.path:
                    folder.rmdir()  # only an empty one can be
        self._bytes = max(0, self._bytes - gone)
        return gone

    def let_go(self, session_id: str) -> None:
        """Close a session's file, for another one will have its name."""
        if self._tending is not None:
            self._tending.close()
        if session_id in self._files:
            self._shut(session_id)

    @property
    def overfull(self) -> bool:
        """Whether upkeep should come early: more is kept than may be."""
        return self._max_bytes is not None and self._bytes > self._max_bytes

    def _tend(self, now: float, keep: Keep, idle_s: float) -> Generator[None, None, None]:
        self._close_idle(idle_s)
        failed: list[StoreError] = []
        found: list[Found] = []
        for day in self._days():
            with contextlib.suppress(OSError):
                yield from self._look(day, found)
        self._bytes = sum(each.size for each in found)
        yield
        found.sort()
        yield from self._remove(found, lambda each: _old(each, now, keep), failed)
        for each in list(found):
            if self._compress_after_s is not None and now - each.changed > self._compress_after_s:
                yield from self._pack(each, found, failed)
        bound = keep.max_bytes
        yield from self._remove(found, lambda each: bound is not None and self._bytes > bound, failed)
        for day in self._days():
            with contextlib.suppress(OSError):
                day.rmdir()  # only an empty one can be
        if failed:
            raise failed[0]

    def _close_idle(self, idle_s: float) -> None:
        now = self._clock()
        for session, file in list(self._files.items()):
            running = 1 in file.told.values()
            if now - file.used > (_IDLE_RUNNING_S if running else idle_s):
                self._shut(session)

    def _look(self, day: Path, found: list[Found]) -> Iterator[None]:
        """What is in a day's folder; what a crash left there goes."""
        names = set()
        for number, entry in enumerate(os.scandir(day), start=1):
            if _PART.fullmatch(entry.name):
                os.unlink(entry.path)
            elif _OURS.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                names.add(entry.name)
            if number % _STEP == 0:
                yield
        for number, name in enumerate(sorted(names), start=1):
            path = day / name
            if name.endswith(".zst") and name.removesuffix(".zst") in names:
                os.unlink(path)
                continue
            with contextlib.suppress(FileNotFoundError):
                said = path.stat(follow_symlinks=False)
                found.append(Found(said.st_mtime, said.st_size, path))
            if number % _STEP == 0:
                yield
        yield

    def _in_use(self, path: Path) -> bool:
        return any(file.path == path for file in self._files.values())

    def _remove(
        self, found: list[Found], due: Callable[[Found], bool], failed: list[StoreError]
    ) -> Iterator[None]:
        """Remove from the oldest on as long as they are due."""
        for number, each in enumerate(list(found), start=1):
            if not due(each):
                return
            if not self._in_use(each.path):
                try:
                    self._drop(each)
                    found.remove(each)
                except StoreError as error:
                    failed.append(error)
            if number % _STEP == 0:
                yield

    def _drop(self, each: Found) -> None:
        try:
            each.path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"cannot remove the old file {each.path}: {error.strerror}") from None
        self._bytes -= each.size
        self.removed += 1
        session = each.path.name.removeprefix("session_").partition(".jsonl")[0]
        self._paths.pop(session, None)

    def _pack(self, each: Found, found: list[Found], failed: list[StoreError]) -> Iterator[None]:
        if each.path.suffix != ".jsonl" or not each.size or self._in_use(each.path):
            return
        try:
            yield from packing.pack(each.path, lambda: self._in_use(each.path))
        except StoreError as error:
            failed.append(error)
        small = packed(each.path)
        if not each.path.exists() and small.exists():
            self._bytes += _size(small) - each.size
            found[found.index(each)] = Found(each.changed, _size(small), small)


class Found(NamedTuple):
    """A file of ours, as upkeep sees it; in order of age."""

    changed: float
    size: int
    path: Path


def _old(each: Found, now: float, keep: Keep) -> bool:
    return keep.max_age_days is not None and now - each.changed > keep.max_age_days * 86400


def _unlink(path: Path) -> int:
    """Remove a file where there is one; its size."""
    try:
        size = path.stat(follow_symlinks=False).st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise StoreError(f"cannot remove {path}: {error.strerror}") from None
    return size


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
