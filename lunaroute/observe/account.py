"""Whose credential an exchange used: an account of a subscription or of the API, told apart by a keyed digest.

Must not keep the credential: the digest is the only thing that leaves here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from lunaroute.errors import LunaRouteError
from lunaroute.folders import open_private
from lunaroute.observe.heads import Head

API, SUBSCRIPTION = "api", "api_equivalent"


def cost_kind(head: Head) -> str:
    """`api_equivalent` for traffic that a subscription pays: a login of Claude (OAuth) or of ChatGPT; else `api`."""
    bearer = head.get("authorization").removeprefix("Bearer ").strip()
    if head.get("chatgpt-account-id") or bearer.startswith("sk-ant-oat"):
        return SUBSCRIPTION
    # a ChatGPT login sends a JWT, a key of the API is none
    return SUBSCRIPTION if bearer.startswith("eyJ") and bearer.count(".") == 2 else API


def account(head: Head, key: bytes) -> str | None:
    """16 hex digits that are the same for the same account, and say nothing else; None without a credential."""
    said = head.get("chatgpt-account-id") or head.get("x-api-key") or head.get("authorization")
    if not said:
        return None
    return hashlib.blake2b(said.encode("utf-8", "replace"), key=key, digest_size=8, person=b"account").hexdigest()


def kept_key(path: Path, warn: Callable[[str], None]) -> bytes:
    """The key by which accounts are told apart, the same from run to run; without a file only for this run."""
    try:
        with os.fdopen(open_private(path, os.O_RDWR | os.O_CREAT), "r+b") as file:
            key = file.read(64)
            if len(key) != 32:
                key = os.urandom(32)
                file.seek(0)
                file.truncate()
                file.write(key)
        return key
    except (OSError, LunaRouteError) as error:
        warn(f"{path} cannot be kept ({error}); accounts look new after each start")
        return os.urandom(32)
