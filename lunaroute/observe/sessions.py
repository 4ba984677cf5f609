"""Which conversation an exchange belongs to, who asked, and what for: by each client's own signals (clients.md).

Must not know stores. Ids that come from outside name files and rows, so only the plain ones are taken as they are.
Clients that send nothing are left to threads.py.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Any

from lunaroute import dialects
from lunaroute._fast.find import find
from lunaroute.dialects.request import Request
from lunaroute.dialects.values import loads, mapping, text
from lunaroute.observe.heads import Head
from lunaroute.records import SessionKey

_PLAIN_ID = re.compile(r"^[A-Za-z0-9_-]{1,64}\Z")
OWN = "own"
# any client can name its conversation with this field; the signals of its own come first
OPT_IN = "x-lunaroute-session"

# single-field signals of other clients, tried after those with rules of their own
_SIMPLE = (
    ("x-client-session-id", "copilot"),
    ("x-interaction-id", "vscode"),
    ("x-kilocode-taskid", "kilo"),
    ("x-mux-workspace-id", "mux"),
    ("x-session-id", None),
    ("x-session-affinity", None),
    ("session_id", None),
    ("conversation_id", None),
)
# a cache key that was made for one conversation; a word like `my-app` is shared by all that the application asks
_MADE = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-|(?=[A-Za-z]*[0-9][A-Za-z]*[0-9])[A-Za-z0-9]{16}")


def plain(ident: str, scope: str = "") -> str:
    """An id that is safe as a file name: itself, or a digest of it."""
    if _PLAIN_ID.match(ident):
        return ident
    return hashlib.blake2b(f"{scope}\0{ident}".encode("utf-8", "replace"), digest_size=16).hexdigest()


def identify(head: Head, request: Request, client: str | None) -> SessionKey | None:
    """The session named by the headers or, failing that, the body; None where the client sends nothing."""
    return _claude(head, request, client) or _codex(head, request) or _opencode(head) or _simple(head, request, client)


def _key(session: str, source: str, client: str | None, parent: str | None = None) -> SessionKey:
    # nobody is the parent of itself
    return SessionKey(session, source, client, parent=parent if parent != session else None)


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
    return _key(plain(f"{session}-{agent}"), source, "claude-code", plain(parent))


def _codex(head: Head, request: Request) -> SessionKey | None:
    said = request.client_metadata
    # over a WebSocket the handshake's ids may be older than the message's
    session = said.get("session_id") or head.get("session-id")
    thread = said.get("thread_id") or head.get("thread-id")
    source = "thread-id"
    about: dict[str, Any] = {}
    if not thread and (head.get("x-codex-window-id") or said.get("x-codex-window-id")):
        about = _turn_metadata(head, request)
        session = session or text(about.get("session_id")) or ""
        thread, source = text(about.get("thread_id")) or session, "x-codex-turn-metadata"
    if not thread or not (session or head.get("x-codex-window-id")):
        return None
    parent = said.get("x-codex-parent-thread-id") or said.get("parent_thread_id") or text(about.get("parent_thread_id"))
    if not parent and head.get("thread-id") in ("", thread):
        # of the same thread: a handshake's parent is none of another thread's
        parent = head.get("x-codex-parent-thread-id")
    if not parent and session and session != thread:
        parent = session
    return _key(plain(thread), source, "codex", plain(parent) if parent else None)


def _opencode(head: Head) -> SessionKey | None:
    for name in _OPENCODE if _is_opencode(head) else ():
        if session := head.get(name):
            parent = head.get("x-parent-session-id")
            return _key(plain(session), "x-session-id", "opencode", plain(parent) if parent else None)
    return None


_OPENCODE = ("x-opencode-session", "x-session-affinity", "x-session-id")


def _is_opencode(head: Head) -> bool:
    """By its name, or by ids of its form: other programs have fields of these names, too."""
    if head.get("user-agent").startswith("opencode/") or head.get("x-opencode-session"):
        return True
    return any(head.get(name).startswith("ses_") for name in _OPENCODE)


def _simple(head: Head, request: Request, client: str | None) -> SessionKey | None:
    for name, named in _SIMPLE:
        if value := head.get(name):
            parent = head.get("x-parent-session-id") if name == "x-session-id" else ""
            return _key(plain(value, name), name, named or client, plain(parent, name) if parent else None)
    if request.session:
        return SessionKey(plain(request.session, "body"), "metadata", client)
    if value := head.get(OPT_IN):
        return SessionKey(plain(value, OPT_IN), OPT_IN, client)
    if request.prompt_cache_key and _MADE.search(request.prompt_cache_key):
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
    """(client, version) by User-Agent, or by what else Codex says of itself."""
    return _client(head.get("user-agent"), head.get("originator").startswith("codex"))


@lru_cache(maxsize=256)
def _client(agent: str, codex: bool) -> tuple[str | None, str | None]:
    if not agent:
        return None, None
    version = _VERSION.search(agent)
    lower = agent.lower()
    if lower.startswith("codex") or codex:
        return "codex", version[1] if version else None
    for start, name in _AGENTS:
        if lower.startswith(start):
            return name, version[1] if version else None
    product = _PRODUCT.match(agent)
    return (product[1].lower() if product else None), (version[1] if version else None)


# --- what for ---------------------------------------------------------------------------------------
KINDS = (
    *("turn", "queued", "background", "poll", "title", "count", "models", "prewarm", "compaction", "probe"),
    *("embedding", "handshake", "other"),
)
# bodies of a client's side calls are small; nothing is searched in others
_SMALL = 2048
_ONE_TOKEN = re.compile(rb'"max_tokens"\s*:\s*1\s*[,}]')
_QUOTA = re.compile(rb'"content"\s*:\s*"quota"')
# how Claude Code's compaction prompts begin, as the first words of a text
_COMPACTION_WORDS = (
    b'"CRITICAL: Respond with TEXT ONLY',
    b'"Your task is to create a detailed summary of the ',
    b'"You are a helpful AI assistant tasked with summarizing conversations.',
)
_NEXT_TURN = re.compile(rb'"role"\s*:\s*"(?:user|assistant)"')


def kind_of(
    method: str, path: str, head: Head, request: Request, dialect: str = dialects.OTHER, body: bytes = b""
) -> str:
    """One of KINDS, but what only an answer tells. dialect: what the relay routed a path of no name as.
    body: as far as it is known.
    """
    parts = [part for part in path.split("/") if part]
    last = parts[-1] if parts else ""
    if last in ("count_tokens", "input_tokens"):
        return "count"
    if fetched(method, path) is not None:
        return "poll"
    if "models" in parts[-2:] and method in ("GET", "HEAD"):
        return "models"
    asked = _codex_kind(head, request) or _claude_kind(head)
    if asked == "compaction" or request.compaction or (last == "compact" and "responses" in parts):
        return "compaction"
    if asked == "prewarm" or not request.generate:
        return "prewarm"
    if last == "embeddings" and method == "POST":
        return "embedding"
    named = last in ("messages", "completions", "responses")
    routed = dialect != dialects.OTHER and dialects.of_path(path) == dialects.OTHER
    if method != "POST" or not (named or routed):
        return "other"
    told = (request.title_words and _is_opencode(head)) or (request.json_answer and head.get("x-app") == "cli")
    if told and not request.has_tools:
        return "title"
    return _claude_side(head, body) or "turn"


def fetched(method: str, path: str) -> str | None:
    """The id of the response that a request looks at or stops: /v1/responses/ID, and its /cancel."""
    if "responses/" not in path:
        return None
    parts = [part for part in path.split("/") if part]
    if method == "POST" and parts[-1:] == ["cancel"]:
        parts.pop()
    elif method != "GET":
        return None
    return text(parts[-1]) if parts[-2:-1] == ["responses"] else None


def _turn_metadata(head: Head, request: Request) -> dict[str, Any]:
    said = request.client_metadata.get("x-codex-turn-metadata")
    if not said and head.get("upgrade").lower() != "websocket":
        # a handshake tells of the turn that opened the socket, not of those that follow
        said = head.get("x-codex-turn-metadata")
    return mapping(loads(said.encode("utf-8", "replace"))) if said else {}


def _codex_kind(head: Head, request: Request) -> str | None:
    if head.get("x-openai-subagent") == "compact" or request.client_metadata.get("x-openai-subagent") == "compact":
        return "compaction"
    return text(_turn_metadata(head, request).get("request_kind"))


def _claude_kind(head: Head) -> str | None:
    return "compaction" if head.get("x-claude-code-compaction") else head.get("x-claude-code-request-class")


def _claude_side(head: Head, body: bytes) -> str | None:
    """What Claude Code says in no header: its quota check, and (without the hint headers) its compaction."""
    if not body or not (head.get("x-claude-code-session-id") or head.get("user-agent").startswith("claude-")):
        return None
    if len(body) < _SMALL and _ONE_TOKEN.search(body) and _QUOTA.search(body):
        return "probe"
    for words in _COMPACTION_WORDS:
        place = body.rfind(words) if find(body, words) > 0 else -1  # a search backwards is slow, and rarely needed
        # as a text's own beginning, not quoted in one; and asked now, not earlier in a history
        if place > 0 and body[place - 1] != 0x5C and _NEXT_TURN.search(body, place) is None:
            return "compaction"
    return None
