"""The token of Codex's own login file, for requests whose client sent none (config: providers.<name>.codex_auth).

The file is read again when it changed. Missing, unreadable or without a token: a warning, once per change, and the
request goes without a credential; never an error of the proxy.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from lunaroute.config import CodexAuth

MAX_BYTES = 1 << 20


class CodexLogin:
    """One login file. warn gets sentences for people; learned each token, so that it can be masked in the record."""

    def __init__(self, config: CodexAuth, warn: Callable[[str], None], learned: Callable[[str], None]) -> None:
        self.config, self._warn, self._learned = config, warn, learned
        self._seen: tuple[int, ...] | None = None
        self._token: str | None = None
        self._account: str | None = None
        # at start already: the record must know the token before the first request that it fills in
        self._refresh()

    def lines(self) -> bytes:
        """Header lines with the credential; empty where there is none."""
        self._refresh()
        if self._token is None:
            return b""
        lines = f"Authorization: Bearer {self._token}\r\n"
        if self._account and self._is_login():
            lines += f"chatgpt-account-id: {self._account}\r\n"
        return lines.encode("latin-1")

    def is_chatgpt(self) -> bool:
        """The file holds a ChatGPT login rather than an API key: its token is for the ChatGPT backend only."""
        self._refresh()
        return self._is_login()

    def _is_login(self) -> bool:
        return self._token is not None and self._token.startswith("eyJ")

    def _refresh(self) -> None:
        path = Path(self.config.auth_file)
        try:
            status = path.stat()
            seen: tuple[int, ...] = (status.st_ino, status.st_mtime_ns, status.st_size)
        except OSError:
            seen = ()
        if seen == self._seen:
            return
        self._seen = seen
        self._token = self._account = None
        try:
            self._take(_read(path))
        except (OSError, msgspec.DecodeError, ValueError) as error:
            self._warn(
                f"codex_auth: {path} cannot be used ({_why(error)}); run `codex login`, or switch codex_auth off"
            )

    def _take(self, tree: Any) -> None:
        value = tree
        for name in self.config.token_field.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError(f"no token at {self.config.token_field}")
        self._token = value
        self._learned(value)
        tokens = tree.get("tokens")
        account = self.config.account_id or (tokens.get("account_id") if isinstance(tokens, dict) else None)
        if isinstance(account, str) and account.isascii() and account.isprintable():
            self._account = account


def _read(path: Path) -> Any:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        raw = os.read(fd, MAX_BYTES)
    finally:
        os.close(fd)
    tree = msgspec.json.decode(raw)
    if not isinstance(tree, dict):
        raise ValueError("not a JSON object")
    return tree


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or "unreadable").lower()
    return "not JSON" if isinstance(error, msgspec.DecodeError) else str(error)
