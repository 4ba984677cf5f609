"""How statistics are written for people: the summary of sessions and the breakdowns. Values in, text out.

`at_shutdown` is what the server prints when it ends.
"""

from __future__ import annotations

from pathlib import Path

from lunaroute.cli.record import inert
from lunaroute.stores import statistics
from lunaroute.stores.readonly import Connection, QueryError
from lunaroute.stores.statistics import Figures, SessionFigures, Summary, ToolFigures
from lunaroute.ui import format
from lunaroute.ui import found as taken

TOOLS = 12  # of one session


def at_shutdown(database: Path, since: str, boot_id: str | None = None) -> str | None:
    """The summary of what was recorded since then (the database's time text); None where there is nothing to say.

    boot_id: of the run that ends. Where it recorded nothing, it was another server that wrote the database.
    """
    try:
        with Connection(database) as db:
            if boot_id and not db.value(
                "SELECT 1 FROM exchanges WHERE id > ? AND id < ? LIMIT 1", [f"{boot_id}-", f"{boot_id}."]
            ):
                return None
            found = statistics.summary(db, since)
    except QueryError:
        return None
    return render(found) if found.session_count else None


def render(found: Summary) -> str:
    """Every session that is in it, and the sums over all."""
    lines = ["📊 Session Statistics Summary", ""]
    for each in found.sessions:
        lines += ["", *_session(each)]
    if found.session_count != 1:
        left = found.session_count - len(found.sessions)
        beyond = f", the newest {len(found.sessions)} are above" if left > 0 and found.sessions else ""
        lines += ["", f"All {found.session_count:,} sessions{beyond}", *_figures(found.total), *_tools(found.tools)]
        lines += _performance(found.total)
    lines += _redacted(found)
    lines += ["", f"💰 Estimated cost: {cost(found.total)}"]
    return "\n".join(lines)


def _redacted(found: Summary) -> list[str]:
    """What was taken out of the record, and which secrets left this machine."""
    if not found.found:
        return []
    lines = ["", "  Redacted:"]
    for place, words in (("request", "in requests:"), ("response", "in answers:")):
        said = taken.summed(found.found, place)
        if said:
            lines.append(f"    {words:<12} {said}")
    for each in found.leaks:
        lines.append(f"    ! {taken.leak(each)} of session {inert(each.session_id)}")
    return lines


def cost(figures: Figures) -> str:
    """With the currency, and how many requests have no price."""
    shown = _with_currency(format.cost(figures.cost_usd, figures.cost_kind, figures.cost_unknown))
    if not figures.cost_unknown:
        return shown
    requests = "1 request has" if figures.cost_unknown == 1 else f"{figures.cost_unknown:,} requests have"
    return f"{shown} ({requests} no known price, or not of all)"


def _with_currency(shown: str) -> str:
    """`at least $0.14 API-equivalent` as `at least $0.14 USD, API-equivalent`."""
    head, dollar, rest = shown.partition("$")
    if not dollar:
        return shown
    amount, _, more = rest.partition(" ")
    return f"{head}{dollar}{amount} USD{f', {more}' if more else ''}"


def _session(each: SessionFigures) -> list[str]:
    lines = [f"Session: {inert(each.session_id)}"]
    about = " · ".join(part for part in (format.client(each.client), each.model) if part)
    title = " ".join((each.title or "").split())
    if title:
        lines.append(f"  {inert(title[:100])}")
    lines.append(f"  {inert(about)}")
    return [
        *lines,
        *_figures(each.figures),
        *_tools(each.tools),
        *_performance(each.figures),
        "",
        f"  Cost: {cost(each.figures)}",
    ]


def _figures(figures: Figures) -> list[str]:
    errors = f" ({figures.errors:,} with an error)" if figures.errors else ""
    rows = [("Requests", f"{figures.requests:,}{errors}"), ("Input tokens", format.exact(figures.input_tokens))]
    if figures.cache_read_tokens or figures.cache_write_tokens:
        rows.append(("Cache read", format.exact(figures.cache_read_tokens)))
        rows.append(("Cache written", format.exact(figures.cache_write_tokens)))
    rows.append(("Output tokens", format.exact(figures.output_tokens)))
    within = "" if figures.thinking_tokens is None else " (part of the output)"
    rows.append(("Thinking tokens", f"{format.exact(figures.thinking_tokens)}{within}"))
    silent = f"{figures.usage_unknown:,} {'request' if figures.usage_unknown == 1 else 'requests'}"
    unknown = f" ({silent} did not tell, or not all)" if figures.usage_unknown else ""
    rows.append(("Total tokens", f"{format.least(format.exact(figures.total_tokens), figures.usage_unknown)}{unknown}"))
    return [f"  {name + ':':<16} {words}" for name, words in rows]


def _tools(tools: list[ToolFigures]) -> list[str]:
    if not tools:
        return []
    shown = tools[:TOOLS]
    width = max(len(inert(tool.name)) for tool in shown) + 1
    lines = ["", "  Tool usage:"]
    for tool in shown:
        calls = f"{tool.calls:,} {'call' if tool.calls == 1 else 'calls'}"
        facts = [f"avg {format.span(tool.average_ms)}"] if tool.average_ms is not None else []
        facts += [f"{tool.failures:,} failed"] if tool.failures else []
        rest = f" ({', '.join(facts)})" if facts else ""
        lines.append(f"    {inert(tool.name) + ':':<{width}} {calls}{rest}")
    if len(tools) > len(shown):
        lines.append(f"    and {len(tools) - len(shown)} more tools")
    return lines


def _performance(figures: Figures) -> list[str]:
    share = figures.overhead_share
    proxy, provider = "unknown", "unknown"
    if share is not None:
        proxy = f"{format.span(figures.overhead_ms)} total ({_percent(share)})"
        provider = f"{format.span(figures.provider_ms)} ({_percent(1 - share)})"
    rows = [
        ("Avg response time", format.span(figures.average_ms)),
        ("Proxy overhead", proxy),
        ("Provider latency", provider),
    ]
    return ["", "  Performance:", *(f"    {name + ':':<18} {words}" for name, words in rows)]


def _percent(share: float) -> str:
    """0.5%, and neither 0% nor 100% for what is not quite that."""
    if 0 < share < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 < share < 1 else f"{100 * share:.1f}%"
