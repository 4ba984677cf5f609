"""Which provider answers a request, and what of its head changes on the way. Pure: no I/O, no clock.

A decision follows from the path and the signals of the head alone (mission P1, P5): messages paths go to Anthropic,
chat, responses and models paths to OpenAI (models by the vendor's header fields), every other path to the vendor its
credential belongs to. A credential of one vendor never goes to another: an OpenAI path with an Anthropic credential
goes to Anthropic's OpenAI-compatible endpoint, an Anthropic path with nothing but an OpenAI credential is refused.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import msgspec

from lunaroute.config import Config, Provider
from lunaroute.errors import Reject
from lunaroute.routing.signals import OF_ANTHROPIC, OF_OPENAI, Credential, Signal

LOCAL = {b"/healthz": "healthz", b"/readyz": "readyz", b"/metrics": "metrics", b"/": "root"}

MESSAGES = re.compile(rb"/v1/messages(?:/.*)?", re.DOTALL)
CHAT = re.compile(rb"(?:/v1)?/chat/completions(?:/.*)?", re.DOTALL)
RESPONSES = re.compile(rb"(?:/v1)?/responses(?:/.*)?", re.DOTALL)
MODELS = re.compile(rb"(?:/v1)?/models(?:/.*)?", re.DOTALL)


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with a request.

    local: name of an endpoint of our own; otherwise the request goes to `provider` at `base`, its target with `strip`
    bytes taken from the front and `prefix` put there. drop: credential fields that go. fill: where the credential comes
    from that the head gets instead (`key` of the configuration, `codex` login file).
    """

    local: str | None = None
    provider: str = ""
    base: str = ""
    dialect: str = "other"
    prefix: bytes = b""
    strip: int = 0
    drop: Credential = Credential(0)
    fill: str | None = None
    websocket: bool = False


class Router:
    """The rules of the default mode over one configuration."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def decide(self, method: bytes, path: bytes, signals: int) -> Decision:
        """method and path (no query) as received, signals as Signal bits. Raises Reject."""
        marks = Signal(signals)
        if path in LOCAL and method in (b"GET", b"HEAD"):
            return Decision(local=LOCAL[path])
        dialect, kind = self._dialect(path, marks)
        if (
            kind == "anthropic"
            and marks & OF_OPENAI
            and not marks & OF_ANTHROPIC
            and not self._plain(marks, "anthropic")
        ):
            raise Reject(401, "an OpenAI credential is not sent to Anthropic")
        name = kind
        provider = self._provider(name)
        drop = self._foreign(name, marks)
        own = self._has_own(name, marks)
        fill: str | None = None
        chatgpt = name == "openai" and bool(marks & Signal.CHATGPT) and bool(marks & Signal.BEARER_JWT)
        if provider.auth == "config_only":
            drop, fill, chatgpt = Credential.ALL, self._filling(provider), False
            if fill is None:
                raise Reject(401, f"providers.{name}.auth is config_only, but no key is configured")
        elif not own and provider.auth == "client_first":
            fill = self._filling(provider)
        if marks & Signal.WEBSOCKET and not provider.websocket:
            return Decision(local="upgrade_required", dialect=dialect)
        base = provider.chatgpt_base_url if chatgpt else provider.base_url
        strip, prefix = mapped(base, path, known=dialect != "other" or bool(MODELS.fullmatch(path)))
        return Decision(
            provider=name,
            base=base,
            dialect=dialect,
            prefix=prefix,
            strip=strip,
            drop=drop,
            fill=fill,
            websocket=bool(marks & Signal.WEBSOCKET),
        )

    def chatgpt(self, decision: Decision, path: bytes) -> Decision:
        """The same decision, to the ChatGPT backend: where the credential filled in turns out to be a ChatGPT login."""
        base = self._provider(decision.provider).chatgpt_base_url
        strip, prefix = mapped(base, path, known=decision.dialect != "other" or bool(MODELS.fullmatch(path)))
        return msgspec.structs.replace(decision, base=base, strip=strip, prefix=prefix)

    def _dialect(self, path: bytes, marks: Signal) -> tuple[str, str]:
        """(dialect of the path, provider name)."""
        if MESSAGES.fullmatch(path):
            return self._served("anthropic", "anthropic")
        openai = (
            "anthropic"
            if marks & OF_ANTHROPIC and not marks & OF_OPENAI and not self._plain(marks, "openai")
            else "openai"
        )
        if CHAT.fullmatch(path):
            return self._served("chat", openai)
        if RESPONSES.fullmatch(path):
            return self._served("responses", openai)
        vendor = self._by_credential(marks)
        if MODELS.fullmatch(path):
            if marks & Signal.ANTHROPIC_FIELD and not marks & OF_OPENAI:
                vendor = "anthropic"
            return "other", vendor
        if not self.config.bypass.enabled:
            raise Reject(404, "this path is not served here (bypass.enabled is off)")
        if path == b"/api/hello":  # Claude Code's probe at start, sent without any credential (clients.md 4)
            vendor = "anthropic"
        return "other", vendor

    def _served(self, dialect: str, name: str) -> tuple[str, str]:
        wanted = self.config.api_dialect
        vendor = "anthropic" if dialect == "anthropic" else "openai"
        if wanted not in ("both", vendor):
            raise Reject(404, f"this path is not served here (api_dialect is {wanted})")
        return dialect, name

    def _by_credential(self, marks: Signal) -> str:
        """The vendor of a path that says nothing: by the credential's form, then by header fields."""
        if marks & OF_OPENAI:
            return "openai"
        if marks & OF_ANTHROPIC:
            return "anthropic"
        if marks & Signal.GOOGLE_KEY and not marks & (Signal.BEARER | Signal.KEY):
            raise Reject(404, "a Google credential belongs to no provider of this proxy")
        if marks & (Signal.ANTHROPIC_FIELD | Signal.KEY):
            return "anthropic"
        if marks & (Signal.BEARER | Signal.AZURE_KEY | Signal.OPENAI_FIELD):
            return "openai"
        enabled = [name for name in ("openai", "anthropic") if self._enabled(name)]
        return enabled[0] if enabled else "openai"

    def _enabled(self, name: str) -> bool:
        provider = self.config.providers.get(name)
        return provider is not None and provider.enabled

    def _provider(self, name: str) -> Provider:
        provider = self.config.providers.get(name)
        if provider is None or not provider.enabled:
            raise Reject(404, f"the provider {name} is not enabled (providers.{name}.enabled)")
        return provider

    @staticmethod
    def _plain(marks: Signal, vendor: str) -> bool:
        """There is a credential of no known form too: it counts as the path's own."""
        bearer = marks & Signal.BEARER and not marks & (Signal.BEARER_ANTHROPIC | Signal.BEARER_OPENAI)
        if marks & Signal.CHATGPT and vendor == "anthropic":
            bearer = Signal(0)
        key = marks & Signal.KEY and not marks & (Signal.KEY_ANTHROPIC | Signal.KEY_OPENAI)
        return bool(bearer) or (vendor == "anthropic" and bool(key))

    @staticmethod
    def _foreign(name: str, marks: Signal) -> Credential:
        """Credential fields that belong to another vendor than the one chosen."""
        drop = Credential(0)
        other_bearer, other_key = (
            (Signal.BEARER_OPENAI, Signal.KEY_OPENAI)
            if name == "anthropic"
            else (Signal.BEARER_ANTHROPIC, Signal.KEY_ANTHROPIC)
        )
        if marks & other_bearer or (name == "anthropic" and marks & Signal.CHATGPT and marks & Signal.BEARER_JWT):
            drop |= Credential.BEARER
        if marks & other_key:
            drop |= Credential.KEY
        foreign = Signal.AZURE_KEY if name == "anthropic" else Signal.VENDOR_KEY_ANTHROPIC
        if marks & (Signal.GOOGLE_KEY | foreign):
            drop |= Credential.VENDOR_KEY
        if name == "anthropic" and marks & Signal.CHATGPT:
            drop |= Credential.ACCOUNT
        return drop

    def _has_own(self, name: str, marks: Signal) -> bool:
        drop = self._foreign(name, marks)
        return bool(
            (marks & Signal.BEARER and not drop & Credential.BEARER)
            or (marks & Signal.KEY and not drop & Credential.KEY)
            or (marks & Signal.AZURE_KEY and not drop & Credential.VENDOR_KEY)
        )

    @staticmethod
    def _filling(provider: Provider) -> str | None:
        if provider.api_key:
            return "key"
        return "codex" if provider.type == "openai" and provider.codex_auth.enabled else None


def mapped(base: str, path: bytes, *, known: bool) -> tuple[int, bytes]:
    """(bytes to take from the target's front, bytes to put there) so that `path` means the same below `base`.

    `/v1` at the end of the base and at the front of the path is the same `/v1`. A path of the vendor's API (known) may
    leave it out. Other paths are relative to the base without its `/v1`; the ChatGPT backend's stand at the root.
    """
    root = urlsplit(base).path.rstrip("/")
    versioned = path == b"/v1" or path.startswith(b"/v1/")
    if versioned and root.endswith("/v1"):
        return 3, root.encode()
    if "/backend-api" in root:
        if versioned:
            return 3, root.encode()
        return (0, root.encode()) if known else (0, b"")
    if versioned:
        return 0, root.encode()
    if known:
        return 0, root.encode()
    return 0, root.removesuffix("/v1").encode()
