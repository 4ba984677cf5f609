"""Which conversation an exchange belongs to, who asked, and what for: by each client's own signals (clients.md).

Must not know stores. Ids that come from outside name files and rows, so only the plain ones are taken as they are.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from lunaroute import dialects
from lunaroute.dialects.request import Request
from lunaroute.dialects.values import loads, mapping, text
from lunaroute.observe.heads import Head
from lunaroute.records import SessionKey

_PLAIN_ID = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
OWN = "own"

# single-field signals of other clients, tried after those with rules of their own
_SIMPLE = (
    ("x-client-session-id", "copilot"),
    ("x-interaction-id", "vscode"),
    ("x-kilocode-taskid", "kilo"),
    ("x-mux-workspace-id", "mux"),
    ("session_id", None),
    ("conversation_id", None),
)


def plain(ident: str, scope: str = "") -> str:
    """An id that is safe as a file name: itself, or a digest of it."""
    if _PLAIN_ID.match(ident):
        return ident
    return hashlib.blake2b(f"{scope}\0{ident}".encode("utf-8", "replace"), digest_size=16).hexdigest()


def identify(head: Head, request: Request, client: str | None) -> SessionKey | None:
    """The session named by the headers or, failing that, the body; None where the client sends nothing."""
    return _claude(head, request, client) or _codex(head, request) or _opencode(head) or _simple(head, request, client)


def _claude(head: Head, request: Request, client: str | None) -> SessionKey | None:
    session = head.get("x-claude-code-session-id")
    source = "x-claude-code-session-id"
    if not session:
        session, source = request.session or "", "metadata.user_id"
    if not session or not (head.get("x-claude-code-session-id") or client == "claude-code"):
        return None
    agent = head.get("x-claude-code-agent-id")
    if not agent:
        return SessionKey(plain(session), source, "claude-code")
    above = head.get("x-claude-code-parent-agent-id")
    parent = f"{session}-{above}" if above else session
    return SessionKey(plain(f"{session}-{agent}"), source, "claude-code", parent=plain(parent))


def _codex(head: Head, request: Request) -> SessionKey | None:
    said = request.client_metadata
    # over a WebSocket the handshake's ids may be older than the message's
    session = said.get("session_id") or head.get("session-id")
    thread = said.get("thread_id") or head.get("thread-id")
    if not thread or not (session or head.get("x-codex-window-id")):
        return None
    parent = said.get("x-codex-parent-thread-id") or head.get("x-codex-parent-thread-id")
    if not parent and session and session != thread:
        parent = session
    return SessionKey(plain(thread), "thread-id", "codex", parent=plain(parent) if parent else None)


def _opencode(head: Head) -> SessionKey | None:
    session = head.get("x-opencode-session") or head.get("x-session-affinity") or head.get("x-session-id")
    if not session:
        return None
    parent = head.get("x-parent-session-id")
    return SessionKey(plain(session), "x-session-id", "opencode", parent=plain(parent) if parent else None)


def _simple(head: Head, request: Request, client: str | None) -> SessionKey | None:
    for name, named in _SIMPLE:
        if value := head.get(name):
            return SessionKey(plain(value, name), name, named or client)
    if request.session:
        return SessionKey(plain(request.session, "body"), "metadata", client)
    if request.prompt_cache_key:
        # an application's own key may cover many conversations, but it is what the application calls one
        return SessionKey(plain(request.prompt_cache_key, "prompt_cache_key"), "prompt_cache_key", client)
    return None


# --- who --------------------------------------------------------------------------------------------
_AGENTS = (
    ("claude-cli/", "claude-code"),
    ("claude-code/", "claude-code"),
    ("opencode/", "opencode"),
    ("geminicli", "gemini-cli"),
    ("anthropic/python ", "anthropic-python"),
    ("asyncanthropic/python ", "anthropic-python"),
    ("anthropic/js ", "anthropic-js"),
    ("openai/python ", "openai-python"),
    ("asyncopenai/python ", "openai-python"),
    ("openai/js ", "openai-js"),
    ("curl/", "curl"),
)
_VERSION = re.compile(r"[/ ]v?(\d[\w.+-]{0,31})")
_PRODUCT = re.compile(r"^([A-Za-z][\w.-]{0,31})/")


def client_of(head: Head) -> tuple[str | None, str | None]:
    """(client, version) by User-Agent."""
    agent = head.get("user-agent")
    if not agent:
        return None, None
    version = _VERSION.search(agent)
    lower = agent.lower()
    if lower.startswith("codex") or head.get("originator").startswith("codex"):
        return "codex", version[1] if version else None
    for start, name in _AGENTS:
        if lower.startswith(start):
            return name, version[1] if version else None
    product = _PRODUCT.match(agent)
    return (product[1].lower() if product else None), (version[1] if version else None)


# --- what for ---------------------------------------------------------------------------------------
def kind_of(method: str, path: str, head: Head, request: Request, dialect: str = dialects.OTHER) -> str:
    """turn, title, count, models, prewarm, compaction or other. dialect: what the relay routed a path of no name as."""
    parts = [part for part in path.split("/") if part]
    last = parts[-1] if parts else ""
    if last in ("count_tokens", "input_tokens"):
        return "count"
    if "models" in parts[-2:] and method in ("GET", "HEAD"):
        return "models"
    asked = _codex_kind(head, request) or head.get("x-claude-code-request-class")
    if asked == "compaction" or request.compaction or (last == "compact" and "responses" in parts):
        return "compaction"
    if asked == "prewarm" or not request.generate:
        return "prewarm"
    named = last in ("messages", "completions", "responses")
    routed = dialect != dialects.OTHER and dialects.of_path(path) == dialects.OTHER
    if method != "POST" or not (named or routed):
        return "other"
    if not request.has_tools and (request.title_words or (request.json_answer and head.get("x-app") == "cli")):
        return "title"
    return "turn"


def _codex_kind(head: Head, request: Request) -> str | None:
    said: Any = request.client_metadata.get("x-codex-turn-metadata") or head.get("x-codex-turn-metadata")
    if not said:
        return None
    return text(mapping(loads(said.encode("utf-8", "replace"))).get("request_kind"))
