"""What tokens stand for, encrypted: so that who holds the key can look a value up again. Off unless it is asked for.

A file of lines `<day> <token> <base64 of nonce and AES-256-GCM ciphertext>`, to which only lines are added; the token
is authenticated with the value. Its key is made of the installation's (key.py): with the key in the file beside it, it
is as safe as that folder; with the key in the environment (LUNAROUTE_PII_KEY) the folder alone tells nothing.

It keeps values as long as the record keeps exchanges, and no more than so many. Two values may have one token (of 32
bits): then both are told. Raises nothing while recording: a value that cannot be kept here is warned of once.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lunaroute.errors import LunaRouteError
from lunaroute.folders import open_private
from lunaroute.observe.pii.key import Key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NAME = "pii.vault"
ENTRIES = 50_000
BYTES = 32 << 20
VALUE = 64 << 10  # bytes of one value
DAY = 86_400
_NONCE = 12


class Revealed(NamedTuple):
    """A value that a token stands for."""

    token: str
    kind: str
    name: str
    value: str


class Vault:
    """See the module. max_age_days: of an entry since it was last used."""

    def __init__(
        self,
        home: Path,
        key: Key,
        *,
        max_age_days: int = 30,
        warn: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = home / NAME
        self._key = key
        self._max_age = max_age_days
        self._warn = warn
        self._clock = clock
        self._cipher: AESGCM | None = None
        self._fd: int | None = None
        self._days: dict[str, int] = {}  # when each token was last written
        self._values: dict[tuple[str, str], None] = {}  # of this run: what need not be looked at again
        self._size = 0
        self._failed = False

    def __repr__(self) -> str:
        return f"<Vault {self.path} {len(self._days)} tokens>"

    # --- keeping -----------------------------------------------------------------------------------------------
    def keep(self, token: str, kind: str, name: str, value: str) -> None:
        """A value has become a token."""
        if self._failed or len(value.encode("utf-8", "replace")) > VALUE:
            return
        try:
            self._keep(token, kind, name, value)
        except (OSError, LunaRouteError, ImportError) as error:
            self._failed = True
            self._warn(f"{self.path} cannot be kept ({error}); tokens of this run cannot be revealed")

    def _keep(self, token: str, kind: str, name: str, value: str) -> None:
        today = int(self._clock() // DAY)
        if self._fd is None:
            self._open(today)
        known = (token, value) in self._values
        if self._days.get(token) == today and (known or self._has(token, value)):
            self._values[token, value] = None
            return
        if len(self._days) >= ENTRIES or self._size >= BYTES:
            self._shrink(today, ENTRIES // 2)
        line = self._line(today, token, json.dumps([kind, name, value]))
        assert self._fd is not None
        self._size += os.write(self._fd, line)
        self._days[token] = today
        if len(self._values) > ENTRIES:
            self._values.clear()
        self._values[token, value] = None

    def _has(self, token: str, value: str) -> bool:
        """Whether an earlier run has put this very value there; another one may have the same token."""
        return any(each.value == value for each in self.reveal(token))

    def _open(self, today: int) -> None:
        self._fd = open_private(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self._days = {token: day for day, token, _ in self._lines()}
        self._size = os.fstat(self._fd).st_size
        if any(day < today - self._max_age for day in self._days.values()):
            self._shrink(today, ENTRIES)

    def _shrink(self, today: int, most: int) -> None:
        """Written anew with what was used last, and not too long ago; of lines that say the same only the last."""
        kept: dict[tuple[str, str], bytes] = {}
        for day, token, blob in self._lines():
            plain = self._opened(token, blob)
            if plain is not None and day >= today - self._max_age:
                kept.pop((token, plain), None)
                kept[token, plain] = f"{day} {token} {blob}\n".encode()
        lines = list(kept.values())[-most:]
        part = self.path.with_name(f"{NAME}.part")
        fd = open_private(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with os.fdopen(fd, "wb") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        os.rename(part, self.path)
        self.close()
        self._fd = open_private(self.path, os.O_RDWR | os.O_APPEND)
        self._days = {token: day for day, token, _ in self._lines()}
        self._size = os.fstat(self._fd).st_size

    def close(self) -> None:
        """Nothing more comes."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    # --- revealing ---------------------------------------------------------------------------------------------
    def reveal(self, token: str) -> list[Revealed]:
        """The values of a token; `token` may be its digits alone. Raises OSError where there is no vault."""
        found: dict[tuple[str, str], Revealed] = {}
        for _, each, blob in self._lines():
            if token in (each, each[1:-1], each.rpartition(":")[2][:-1]):
                plain = self._opened(each, blob)
                if plain is not None:
                    kind, name, value = json.loads(plain)
                    found[each, value] = Revealed(each, kind, name, value)
        return list(found.values())

    def readable(self) -> bool:
        """Whether the key is the one that it was made with; True where nothing is in it."""
        for _, token, blob in self._lines():
            return self._opened(token, blob) is not None
        return True

    def _lines(self) -> Iterator[tuple[int, str, str]]:
        with self.path.open("rb") as file:
            for line in file:
                parts = line.decode("ascii", "replace").split()
                if len(parts) == 3 and parts[0].isdigit():  # else it was torn
                    yield int(parts[0]), parts[1], parts[2]

    def _aes(self) -> AESGCM:
        if self._cipher is None:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            self._cipher = AESGCM(self._key.derived(b"vault"))
        return self._cipher

    def _line(self, day: int, token: str, plain: str) -> bytes:
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._aes().encrypt(nonce, plain.encode("utf-8", "replace"), token.encode())
        return f"{day} {token} {base64.b64encode(sealed).decode()}\n".encode()

    def _opened(self, token: str, blob: str) -> str | None:
        from cryptography.exceptions import InvalidTag

        with contextlib.suppress(ValueError, InvalidTag):
            sealed = base64.b64decode(blob, validate=True)
            return self._aes().decrypt(sealed[:_NONCE], sealed[_NONCE:], token.encode()).decode()
        return None
