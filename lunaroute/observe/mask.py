"""Taking credentials out of what will be kept: by name, and by value wherever the value turns up again.

Must not know stores. Personal data is another matter, with rules of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote

from lunaroute.dialects.values import dumps
from lunaroute.observe.heads import Head

MASK = "***"
# their values are replaced whole
SECRET_FIELDS = frozenset(
    {
        "authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "cookie",
        "set-cookie",
        "proxy-authorization",
        "proxy-authenticate",
        "chatgpt-account-id",
        "x-auth-token",
        "x-amz-security-token",
        "x-lunaroute-token",
    }
)
SECRET_QUERY = frozenset({"key", "api_key", "apikey", "api-key", "access_token", "token", "code", "sig", "signature"})
# shorter values are no secrets, and replacing them would tear other words apart
MIN_SECRET = 8
_QUERY = re.compile(r"([?&;])([^=&;?]+)=([^&;]*)")
# scheme words of Authorization: what follows is the secret
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9_-]{1,15} +")


@lru_cache(maxsize=64)  # a client sends the same one with each request; they stay in memory, as those of the settings
def forms(secret: str) -> list[bytes]:
    """How a value may be written in a body: as it is, in a JSON string (also one inside another), in a URL."""
    once = dumps(secret)[1:-1]
    texts = {secret, once, dumps(once)[1:-1]}
    # for a key of letters and digits all of these are the same
    written = {form.encode("utf-8", "replace") for text in texts for form in (text, quote(text, safe=""))}
    return [form for form in sorted(written, key=len, reverse=True) if len(form) >= MIN_SECRET]


class Masker:
    """Knows the configured secrets; per exchange it learns those that the request itself carried."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.known = _ordered(form for secret in secrets for form in forms(secret))

    def learn(self, secret: str) -> None:
        """One more secret from now on; may be called from another thread."""
        self.known = _ordered((*self.known, *forms(secret)))

    def for_request(self, head: Head) -> Mask:
        """The mask for an exchange that began with this head."""
        own = []
        for name, value in head.fields:
            if name.lower() in SECRET_FIELDS and value:
                own.append(_SCHEME.sub("", value))
                if name.lower() == "cookie":
                    own += [pair.partition("=")[2].strip() for pair in value.split(";")]
        for match in _QUERY.finditer(head.first[1]):
            if match[2].lower() in SECRET_QUERY:
                own.append(match[3])
        fresh = [form for secret in own if len(secret) >= MIN_SECRET for form in forms(secret)]
        return Mask(self, tuple(fresh))


def _ordered(found: Iterable[bytes]) -> tuple[bytes, ...]:
    # the longest first: a secret that contains another must not be left half masked
    return tuple(sorted(set(found), key=lambda form: (-len(form), form)))


class Mask:
    """Replaces the secrets of one exchange: its own, and those known at the time of replacing.

    What the proxy fills in may be learned only after the exchange has begun.
    """

    __slots__ = ("_known", "_masker", "_needles", "_own")

    def __init__(self, masker: Masker, own: tuple[bytes, ...]) -> None:
        self._masker, self._own = masker, own
        self._known: tuple[bytes, ...] | None = None
        self._needles: tuple[bytes, ...] = ()

    def _all(self) -> tuple[bytes, ...]:
        known = self._masker.known
        if known is not self._known:
            self._known, self._needles = known, _ordered((*known, *self._own)) if self._own else known
        return self._needles

    def again(self) -> Mask:
        """The same for another thread."""
        return Mask(self._masker, self._own)

    def body(self, data: bytes) -> bytes:
        """The bytes without any secret."""
        for needle in self._all():
            # `in` first: a search costs a tenth of a replace that finds nothing to do on large bodies
            if needle in data:
                data = data.replace(needle, MASK.encode())
        return data

    def text(self, value: str) -> str:
        """The text without any secret."""
        raw = value.encode("utf-8", "replace")
        masked = self.body(raw)
        return value if masked is raw else masked.decode("utf-8", "replace")

    def maybe(self, value: str | None) -> str | None:
        """As text(), for what may be missing."""
        return None if value is None else self.text(value)

    def fields(self, fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Header fields; those that carry credentials by name lose their value."""
        fields = [(name, MASK if name.lower() in SECRET_FIELDS else value) for name, value in fields]
        together = "\0".join([part for field in fields for part in field])
        if self.text(together) is together:
            return fields
        return [(self.text(name), value if value == MASK else self.text(value)) for name, value in fields]

    def target(self, target: str) -> str:
        """A request target; query values that are credentials by name lose their value."""
        hidden = _QUERY.sub(lambda m: f"{m[1]}{m[2]}={MASK}" if m[2].lower() in SECRET_QUERY else m[0], target)
        return self.text(hidden)
