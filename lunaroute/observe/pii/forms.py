"""What stands for a value: a token, a mask, a part of it, or its kind alone. ASCII, and nothing that JSON would escape.

A token is `[EMAIL:a3f8e9d2]`: 32 bits of HMAC-SHA-256 over the kind and the canonical value, under the key of the
installation. Canonical means: as it would be had it been typed plainly, so that one value has one token however it is
written.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import unicodedata
from collections.abc import Callable

from lunaroute.observe.pii.key import Key
from lunaroute.observe.pii.rules import Rules

FAILED = b"[REDACTION FAILED]"
TOKEN = re.compile(rb"\[[A-Z][A-Z0-9_]{0,39}(?::[0-9a-f]{8})?\]")
"""A token, or a kind that is left where a value was removed."""
_STARS = frozenset(b"* -./()+:@_")
_DIGITS = frozenset(("phone", "ssn", "credit_card"))
_KEPT = frozenset(" -./()+:@_")  # separators that a mask keeps
_MASK_MOST = 64  # characters of a mask: a key file's length is nothing that anybody needs
_REMEMBERED = 4096
_FEW = 16  # characters of a secret below which no part of it is shown
_SHOWN = 4


def plain(value: str) -> str:
    """Compatibility forms (full-width digits) made plain, what cannot be seen taken out."""
    if value.isascii():
        return value
    return "".join(each for each in unicodedata.normalize("NFKC", value) if unicodedata.category(each) != "Cf")


def canonical(kind: str, value: str) -> str:
    """The value as it is compared."""
    value = plain(value).strip()
    if kind == "email":
        return value.lower()
    if kind in _DIGITS:
        digits = "".join(str(unicodedata.digit(each)) for each in value if unicodedata.digit(each, None) is not None)
        return digits.removeprefix("00") if kind == "phone" else digits
    if kind == "ip":
        try:
            return str(ipaddress.ip_address(value.strip("[]").partition("%")[0]))
        except ValueError:
            return value.lower()
    if kind == "iban":
        return "".join(each for each in value if each.isalnum()).upper()
    return value


class Forms:
    """Replacements by the rules. sealed: is told (token, kind, name, value) of each value that becomes a token."""

    def __init__(self, rules: Rules, key: Key, sealed: Callable[[str, str, str, str], None] | None = None) -> None:
        self._rules = rules
        self._key = key
        self._hmac: bytes | None = None
        self._sealed = sealed
        self._digests: dict[tuple[str, str], str] = {}

    def digest(self, kind: str, value: str) -> str:
        """Eight hexadecimal digits that stand for the value."""
        known = self._digests.get((kind, value))
        if known is None:
            if self._hmac is None:
                self._hmac = self._key.derived(b"tokens")
            word = f"{kind}\0{canonical(kind, value)}".encode("utf-8", "surrogatepass")
            known = hmac.new(self._hmac, word, hashlib.sha256).hexdigest()[:8]
            if len(self._digests) >= _REMEMBERED:
                self._digests.clear()
            self._digests[kind, value] = known
        return known

    def token(self, kind: str, value: str) -> str:
        """The token of the value, whatever the mode is."""
        return f"[{self._rules.label_of(kind)}:{self.digest(kind, value)}]"

    def replacement(self, kind: str, name: str, value: str) -> bytes:
        """What is kept instead of the value."""
        mode = self._rules.mode_of(kind)
        if mode == "remove":
            return f"[{self._rules.label_of(kind)}]".encode()
        if mode == "mask":
            return masked(value).encode()
        if mode == "partial":
            return partial(kind, value).encode()
        token = self.token(kind, value)
        if self._sealed is not None:
            self._sealed(token, kind, name, value)
        return token.encode()


def hidden(value: bytes, again: bool = False) -> bool:
    """Whether it is one of our own forms: of what was redacted before, nothing is found anew. again: what is looked at
    was redacted before, so that three stars in a row are ours, whatever stands around them."""
    if b"*" in value:
        return _STARS.issuperset(value) or (again and b"***" in value)
    return b"[" in value and (TOKEN.fullmatch(value) is not None or value == FAILED)


def masked(value: str) -> str:
    """Its form: stars for letters and digits, separators as they are."""
    made = "".join(each if each in _KEPT else " " if each.isspace() else "*" for each in plain(value))
    return made if len(made) <= _MASK_MOST else "*" * _MASK_MOST


def partial(kind: str, value: str) -> str:
    """The last four characters; of a mail its first letter and its domain; of an address its first half."""
    value = plain(value)
    if kind == "email":
        local, at, domain = value.rpartition("@")
        return f"{_safe(local[:1])}***{at}{domain if _is_safe(domain) else masked(domain)}"
    if kind == "ip":
        return _half(value)
    if kind in _DIGITS or kind == "iban":
        return _last(value)
    return f"***{value[-_SHOWN:] if len(value) >= _FEW and _is_safe(value[-_SHOWN:]) else ''}"


def _last(value: str) -> str:
    """All but the last four letters and digits masked."""
    left = sum(each.isalnum() for each in value) - _SHOWN
    out = []
    for each in value:
        if each.isalnum() and left > 0:
            left -= 1
            out.append("*")
        else:
            out.append(_safe(each))
    return "".join(out)


def _half(value: str) -> str:
    parts = value.split(".")
    if len(parts) == 4 and ":" not in value:
        return ".".join((*parts[:2], "*", "*")) if _is_safe(value) else masked(value)
    try:
        groups = ipaddress.IPv6Address(value.strip("[]").partition("%")[0]).exploded.split(":")
    except ValueError:
        return masked(value)
    return f"{int(groups[0], 16):x}:{int(groups[1], 16):x}:*"


def _safe(char: str) -> str:
    return char if char in _KEPT or _is_safe(char) else " " if char.isspace() else "*"


def _is_safe(text: str) -> bool:
    return text.isascii() and all(each.isalnum() or each in "-._:" for each in text)
