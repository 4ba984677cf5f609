"""The key of the installation: equal values get equal tokens by it, and nobody without it can find a value by trying.

It comes from the configuration (LUNAROUTE_PII_KEY), else from a file of its own in the data folder, made when it is
first needed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from lunaroute.errors import LunaRouteError
from lunaroute.folders import open_private, private_folder

NAME = "pii.key"
BYTES = 32


class Key:
    """See the module. warn: told once, where the file cannot be kept; then the key lasts only for this run."""

    def __init__(
        self, home: Path | None, given: str | None = None, warn: Callable[[str], None] = lambda text: None
    ) -> None:
        self._path = home / NAME if home is not None else None
        self._given = given
        self._warn = warn
        self._value: bytes | None = None

    def __repr__(self) -> str:
        return f"<Key {'given' if self._given else self._path or 'of this run'}>"

    @property
    def kept(self) -> bool:
        """Whether a later run will have the same key; asked after `value`."""
        return self._given is not None or self._path is not None

    @property
    def value(self) -> bytes:
        """32 bytes. Each use has its own: see `derived`."""
        if self._value is None:
            self._value = self._find()
        return self._value

    def derived(self, purpose: bytes) -> bytes:
        """A key for one purpose: knowing it does not tell the others."""
        return hashlib.blake2b(purpose, key=self.value, digest_size=BYTES).digest()

    def _find(self) -> bytes:
        if self._given is not None:
            # words of a person: made as long as a key, not stronger
            return hashlib.sha256(self._given.encode()).digest()
        if self._path is not None:
            try:
                return _read(self._path)
            except (OSError, LunaRouteError) as error:
                self._warn(f"{self._path} cannot be kept ({error}); tokens of this run will not be those of the next")
                self._path = None
        return os.urandom(BYTES)


def _read(path: Path) -> bytes:
    """The key in the file, which is made where there is none. What is there and is no key is left alone: it may be one
    that somebody edited."""
    private_folder(path.parent)
    with os.fdopen(open_private(path, os.O_RDWR | os.O_CREAT), "r+b") as file:
        key = file.read(BYTES + 1)
        if len(key) == BYTES:
            return key
        if key:
            raise OSError(f"it does not hold {BYTES} bytes; remove it and a new one is made")
        key = os.urandom(BYTES)
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    return key
