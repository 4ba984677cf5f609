"""A disk of three megabytes that a test may fill and free. Knows nothing of LunaRoute."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

BYTES = 3 << 20


class Disk:
    """A file system of its own where this may be mounted (root). Elsewhere a bound on the size of files stands for it:
    a write beyond it fails in the same place, only with another word."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mounted = False
        self._limited: dict[int, tuple[int, int]] = {}
        path.mkdir(mode=0o700)

    def mount(self) -> None:
        how = ["mount", "-t", "tmpfs", "-o", f"size={BYTES},mode=0700", "tmpfs", str(self.path)]
        with contextlib.suppress(OSError):
            self._mounted = subprocess.run(how, capture_output=True, check=False).returncode == 0

    def fill(self, *pids: int) -> None:
        """No room for another byte. pids: the processes that write there, if this one does not."""
        if self._mounted:
            with (self.path / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
                for size in (65536, 4096):
                    with contextlib.suppress(OSError):
                        while True:
                            file.write(bytes(size))
            return
        for pid in pids or (os.getpid(),):
            before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            self._limited.setdefault(pid, before)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, before[1]))

    def free(self) -> None:
        """Room again."""
        if self._mounted:
            (self.path / "filler").unlink(missing_ok=True)
            subprocess.run(["mount", "-o", f"remount,size={64 << 20}", str(self.path)], check=True)
        for pid, before in self._limited.items():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        self._limited.clear()

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Nothing can be written, for root neither."""
        if self._mounted:
            subprocess.run(["mount", "-o", "remount,ro", str(self.path)], check=True)
        else:
            self.path.chmod(0o500)
        try:
            yield
        finally:
            if self._mounted:
                subprocess.run(["mount", "-o", "remount,rw", str(self.path)], check=True)
            else:
                self.path.chmod(0o700)

    def unmount(self) -> None:
        self.free()
        if self._mounted:
            subprocess.run(["umount", "-l", str(self.path)], check=True)


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[Disk]:
    """A disk at `path` for as long as the block lasts."""
    disk = Disk(path)
    disk.mount()
    try:
        yield disk
    finally:
        disk.unmount()
