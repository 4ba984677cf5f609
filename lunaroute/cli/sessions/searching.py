"""`lunaroute sessions search`: where something was said, the newest first."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from lunaroute.cli import record
from lunaroute.cli.record import inert
from lunaroute.stores import search as finding
from lunaroute.stores.rows import Hit, SearchPage, Snippet

if TYPE_CHECKING:
    from rich.text import Text

KINDS = {"tool_call": "tool", "tool_result": "result"}
KIND_WIDTH = 9


@click.command("search")
@record.database_options
@click.option("--limit", "-n", type=click.IntRange(1, finding.HITS_LIMIT), default=20, help="How many.  [default: 20]")
@record.filter_options
@click.option("--after", metavar="MARK", help="Go on after the last hit of the page that named this mark.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.argument("text", nargs=-1, required=True)
def search(config: str | None, db: str | None, text: tuple[str, ...], **asked: Any) -> None:
    """Find exchanges in which all of TEXT was said, the newest first.

    Looked at is what was new in an exchange: what was asked, the answer, its thinking, the arguments of its tool calls
    and the results that tools gave. Whole words are matched, in any case and with or without accents.

    \b
        connection reset        both words, anywhere in the exchange
        '"connection reset"'    the phrase, as it stands
        src/main.py  C++        a word with signs in it, as it stands
        connect*                words that begin so

    Chinese, Japanese, Thai and other writing without blanks, and signs and emoji, are found as they stand anywhere in
    a text. For these there is no index: a second's part of the newest exchanges is read, --after goes on.
    --since, --until and --state are asked of the exchange, the other filters of its session.
    """
    wanted = record.wanted((), asked)
    with record.database(config, db) as connection:
        page = finding.search(connection, " ".join(text), wanted, limit=asked["limit"], after=asked["after"])
    if asked["as_json"]:
        click.echo(json.dumps(msgspec.to_builtins(page), indent=2))
        return
    if sys.stdout.isatty():
        _print(page)
    else:
        for hit in page.hits:
            first = hit.snippets[0] if hit.snippets else Snippet(kind="", text="")
            record.line(hit.session_id, hit.sequence, hit.id, hit.started_at, hit.model, first.kind, first.text)
    if page.unfinished:
        click.echo(f"Not all was read in the time for one search. Go on: --after {page.older}", err=True)
    elif page.older:
        click.echo(f"There is more: --after {page.older}", err=True)
    elif not page.hits:
        click.echo("Nothing found. Words are matched whole; `begin*` finds all that begin so.", err=True)


def _print(page: SearchPage) -> None:
    from rich.text import Text

    console = record.console()
    now = datetime.now().astimezone()
    for hit in page.hits:
        console.print(_head(hit, now))
        if hit.title:
            console.print(Text(inert(" ".join(hit.title.split())), "bold"), no_wrap=True, overflow="ellipsis")
        for snippet in hit.snippets:
            console.print(_snippet(snippet))
        console.print()


def _head(hit: Hit, now: datetime) -> Text:
    from rich.text import Text

    from lunaroute.ui import format

    facts = [format.when(hit.started_at, now), format.client(hit.client), hit.model]
    if hit.cost_usd is not None:
        facts.append(format.cost(hit.cost_usd, hit.cost_kind))
    if hit.state != "ok":
        facts.append(format.state(hit.state))
    rest = " · ".join(inert(fact) for fact in facts if fact)
    return Text.assemble((inert(hit.session_id or hit.id), "cyan"), f" #{hit.sequence}  ", (rest, "dim"))


def _snippet(snippet: Snippet) -> Text:
    """The kind, and the text with what was found marked. Marks count characters of the text before it is made inert."""
    from rich.text import Text

    kind = inert(KINDS.get(snippet.kind, snippet.kind))[:KIND_WIDTH]
    shown = Text.assemble((f"  {kind:<{KIND_WIDTH}} ", "dim"))
    place = 0
    for start, end in snippet.marks:
        shown.append(inert(snippet.text[place:start]))
        shown.append(inert(snippet.text[start:end]), "bold yellow")
        place = end
    return shown.append(inert(snippet.text[place:]))
