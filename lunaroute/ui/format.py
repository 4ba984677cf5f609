"""Figures, spans and moments in the words of a page. Values in, text out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lunaroute.stores.rows import ExchangeRow, SessionRow

if TYPE_CHECKING:
    from lunaroute.ui.timeline import Piece

STATES = {
    "ok": "OK",
    "upstream_error": "Provider error",
    "client_cancelled": "Cancelled",
    "timeout": "Timed out",
    "proxy_error": "Proxy error",
    "interrupted": "Interrupted",
}
CLIENTS = {
    "claude-code": "Claude Code",
    "codex": "Codex",
    "opencode": "OpenCode",
    "gemini-cli": "Gemini CLI",
    "anthropic-python": "Anthropic SDK (Python)",
    "anthropic-js": "Anthropic SDK (JS)",
    "openai-python": "OpenAI SDK (Python)",
    "openai-js": "OpenAI SDK (JS)",
}
KINDS = {
    "turn": "Turn",
    "title": "Title",
    "count": "Token count",
    "models": "Model list",
    "prewarm": "Prewarm",
    "compaction": "Compaction",
    "handshake": "WebSocket handshake",
    "other": "Other request",
}
UNKNOWN = "\N{EN DASH}"


def count(number: int | None) -> str:
    """12, 1.2k, 34k, 1.2M; a dash where it is not known."""
    if number is None:
        return UNKNOWN
    for limit, unit, mark in ((999_500, 1e6, "M"), (999.5, 1e3, "k")):
        if number >= limit:
            short = number / unit
            return f"{short:.1f}{mark}" if short < 9.95 else f"{short:,.0f}{mark}"
    return str(number)


def exact(number: int | float | None) -> str:
    """1,234,567."""
    return UNKNOWN if number is None else f"{number:,.0f}"


def cost(dollars: float | None, kind: str | None = None, unknown: int = 0, short: bool = False) -> str:
    """$0.14, <$0.01, unknown; said to be less than all where some is unknown, or what an API would have taken.

    kind: api, api_equivalent (a subscription's traffic) or mixed. short: ~ and ≥ for the words.
    """
    if dollars is None:
        return "unknown"
    shown = "<$0.01" if 0 < dollars < 0.01 else f"${dollars:,.2f}"
    equivalent = kind not in (None, "api")
    if short:
        return f"{'≥' if unknown else ''}{'~' if equivalent else ''}{shown}"
    words = {"api_equivalent": " API-equivalent", "mixed": " partly API-equivalent"}.get(kind or "", "")
    return f"{'at least ' if unknown else ''}{shown}{words}"


def dollars(amount: float | None) -> str:
    """$0.14 for an axis: small amounts with the digits that tell them apart."""
    if not amount:
        return "$0"
    if amount < 0.1:
        return f"${amount:.2g}" if amount >= 0.0001 else "<$0.0001"
    return f"${amount:,.2f}" if amount < 100 else f"${amount:,.0f}"


def percent(share: float | None) -> str:
    """92 %, 99.6 %; a dash where it is not known."""
    if share is None:
        return UNKNOWN
    shown = 100 * share
    if 99 < shown < 100:
        return f"{min(shown, 99.9):.1f} %"
    return f"{shown:.0f} %" if shown >= 9.95 or shown == 0 else f"{shown:.1f} %"


def rate(tokens_per_second: float | None) -> str:
    """62 tok/s."""
    return UNKNOWN if tokens_per_second is None else f"{tokens_per_second:.0f} tok/s"


def many(number: int, noun: str) -> str:
    """1 request, 2,345 requests."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def span(milliseconds: float | None) -> str:
    """0.12 ms, 45 ms, 2.3 s, 1 min 5 s, 2 h 3 min, 3 d 4 h."""
    if milliseconds is None:
        return UNKNOWN
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms" if milliseconds >= 9.95 else f"{milliseconds:.2g} ms"
    seconds = milliseconds / 1000
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def size(octets: int | None) -> str:
    """812 B, 1.2 kB, 3.4 MB."""
    if octets is None:
        return UNKNOWN
    if octets < 1000:
        return f"{octets} B"
    for limit, unit, mark in ((999_500, 1e3, "kB"), (999_500_000, 1e6, "MB")):
        if octets < limit:
            return f"{octets / unit:.1f} {mark}" if octets / unit < 9.95 else f"{octets / unit:,.0f} {mark}"
    return f"{octets / 1e9:.1f} GB"


def moment(text: str) -> datetime | None:
    """The database's time text as a time."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None


def when(text: str, now: datetime) -> str:
    """A time near by as people say it: 14:02, yesterday 14:02, 21 Nov 14:02, 21 Nov 2025. In the zone of `now`."""
    found = moment(text)
    if found is None:
        return text
    local = found.astimezone(now.tzinfo)
    days = (now.date() - local.date()).days
    if days == 0:
        return f"{local:%H:%M}"
    if days == 1:
        return f"Yesterday {local:%H:%M}"
    if local.year == now.year:
        return f"{local.day} {local:%b %H:%M}"
    return f"{local.day} {local:%b %Y}"


def in_full(text: str, now: datetime) -> str:
    """2026-11-23 14:02:07 and the zone."""
    found = moment(text)
    return f"{found.astimezone(now.tzinfo):%Y-%m-%d %H:%M:%S %Z}" if found else text


def iso(text: str) -> str:
    """For `<time datetime>`."""
    found = moment(text)
    return found.isoformat().replace("+00:00", "Z") if found else ""


def input_moment(text: str, now: datetime) -> str:
    """For `<input type="datetime-local">`, in the zone of `now`."""
    found = moment(text)
    return f"{found.astimezone(now.tzinfo):%Y-%m-%dT%H:%M}" if found else ""


_WINDOWS = {
    "5h": "5 hours", "7d": "7 days", "unified": "all windows", "primary": "5 hours", "secondary": "weekly",
    "requests": "requests", "tokens": "tokens", "input-tokens": "input tokens", "output-tokens": "output tokens",
}  # fmt: skip


def window(name: str) -> str:
    """A rate-limit window as people call it."""
    return _WINDOWS.get(name, name.replace("_", " ").replace("-", " "))


def state(name: str | None) -> str:
    """How it ended, in words."""
    return "Running" if name is None else STATES.get(name, name)


def state_word(name: str) -> str:
    """The same for a filter, where `running` is a word like the others."""
    return state(None if name == "running" else name)


def client(name: str | None) -> str:
    return "Unknown client" if not name else CLIENTS.get(name, name)


def turn(row: ExchangeRow) -> str:
    """A turn in a line: its number, model, tokens, time, and its cost and state where there is something to say."""
    used = f"{count(row.input_tokens)} tokens in, {count(row.output_tokens)} out"
    told = [f"#{row.sequence}", row.model_used or row.model_requested, used, span(row.duration_ms)]
    if row.cost_usd is not None:
        told.append(cost(row.cost_usd, row.cost_kind))
    if row.state != "ok":
        told.append(state(row.state))
    return " · ".join(word for word in told if word)


PARTS = {
    "proxy": "LunaRoute",
    "connect": "Connecting",
    "upload": "Upload",
    "waiting": "Waiting",
    "first content": "First content",
    "generating": "Generating",
    "other": "Not known",
    "running": "Running",
    "tool": "Tools",
    "human": "You",
}
TEXT_KINDS = {
    "prompt": "Prompt",
    "answer": "Answer",
    "thinking": "Thinking",
    "tool_call": "Tool call",
    "tool_result": "Tool result",
}


def parts(pieces: Sequence[Piece]) -> str:
    """The pieces of a line of a waterfall in words."""
    return ", ".join(f"{PARTS.get(piece.part, piece.part)} {span(piece.ms)}" for piece in pieces)


def squeezed(text: str, limit: int = 60) -> str:
    """A text in one short line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def marked(text: str, marks: Sequence[tuple[int, int]]) -> Iterator[tuple[str, bool]]:
    """A snippet cut into what was found (True) and what stands between."""
    place = 0
    for start, end in marks:
        if start > place:
            yield text[place:start], False
        yield text[start:end], True
        place = max(place, end)
    if place < len(text):
        yield text[place:], False


def fresh(row: ExchangeRow | SessionRow) -> int | None:
    """Input tokens that no cache gave: OpenAI's figure includes what a cache gave, Anthropic's does not."""
    if row.input_tokens is None or row.dialect == "anthropic":
        return row.input_tokens
    return max(0, row.input_tokens - (row.cache_read_tokens or 0))


def prompt(row: ExchangeRow | SessionRow) -> int | None:
    """All input tokens, with what a cache gave or took."""
    if row.input_tokens is None or row.dialect != "anthropic":
        return row.input_tokens
    return row.input_tokens + (row.cache_read_tokens or 0) + (row.cache_write_tokens or 0)


def cached(row: ExchangeRow | SessionRow) -> float | None:
    """What of the input a cache gave, 0..1."""
    whole = prompt(row)
    return min(1.0, (row.cache_read_tokens or 0) / whole) if whole else None


def setting(value: object) -> str:
    """A setting's value as it would be written in a file."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False)
