"""Orders to whoever writes the record: the observer of a running server at its desk, or, where none runs, ourselves.

Must not know what is ordered (stores/orders.py does). Imports nothing heavy before there is something to do.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from lunaroute.cli.options import fail
from lunaroute.errors import LunaRouteError, StoreError

if TYPE_CHECKING:
    from lunaroute.config import Loaded
    from lunaroute.observe.pii import Redactor
    from lunaroute.records import Exchange
    from lunaroute.stores.orders import Orders
    from lunaroute.stores.sqlite import SqliteStore
    from lunaroute.stores.upkeep import Price

Json = dict[str, Any]
Tell = Callable[[int, int], None]
WAIT_S = 10.0  # for another command, or for a server that is just starting
POLL_S = 0.1
ORDER_BYTES = 256 * 1024  # of one order: longer lists are several
INTERRUPTED = 130
_HINTS = {
    "disk is full": "free some space on that disk and run the command again",
    "No space left": "free some space on that disk and run the command again",
    "readonly": "make the file and its folder writable for yourself (chmod u+w)",
    "read-only": "make the file and its folder writable for yourself (chmod u+w)",
    "locked": "another program holds the database; close it and run the command again",
}


def parts(values: list[str]) -> Iterator[list[str]]:
    """Lists that each fit into one order."""
    part: list[str] = []
    size = 0
    for value in values:
        part.append(value)
        size += len(value.encode("utf-8", "surrogateescape")) + 4
        if size >= ORDER_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


@contextlib.contextmanager
def failing() -> Iterator[None]:
    """Ends the command in words: whatever goes wrong, and Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        fail("stopped; what was done by then is kept, nothing is half done", INTERRUPTED)
    except LunaRouteError as error:
        _explain(str(error))


def _explain(text: str) -> NoReturn:
    hint = next((hint for words, hint in _HINTS.items() if words.lower() in text.lower()), None)
    fail(f"{text}; {hint}" if hint and hint not in text else text)


@contextlib.contextmanager
def progress(title: str) -> Iterator[Tell]:
    """A bar on a terminal, nothing elsewhere. It goes when the work is done."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=max(total, 1))

        yield tell


def ask(loaded: Loaded, order: Json, tell: Tell) -> Json:
    """Have it done and return the answer; raises LunaRouteError."""
    from lunaroute.observe import errand
    from lunaroute.observe.desk import desk_path
    from lunaroute.stores.sqlite import InUse

    database = Path(loaded.config.session_recording.sqlite.path)
    path = desk_path(loaded.home, database)
    end = time.monotonic() + WAIT_S
    while True:
        connection = errand.connect(path)
        if connection is not None:
            with connection:
                answer = errand.hand_in(connection, order, tell)
            if answer is not None:
                return answer
            if time.monotonic() > end:
                raise StoreError("the server ends the conversation at once; look into `lunaroute logs`")
            time.sleep(POLL_S)
            continue
        try:
            return _ourselves(loaded, order, tell)
        except InUse as error:
            if time.monotonic() > end:
                raise StoreError(
                    f"{database} is in use by process {error.holder or 'unknown'}, which takes no orders here: stop it "
                    "(lunaroute stop), or use the LUNAROUTE_HOME that it was started with"
                ) from None
        time.sleep(POLL_S)


def onward(tell: Tell, before: int, whole: int) -> Tell:
    """Progress of one order among several."""
    return lambda done, total: tell(before + done, whole)


# --- without a server ---------------------------------------------------------------------------------------
def _ourselves(loaded: Loaded, order: Json, tell: Tell) -> Json:
    store, orders = _orders(loaded)
    try:
        store.open()
        steps = orders.carry_out(order)
        while True:
            try:
                tell(*next(steps))
            except StopIteration as end:
                answer: Json = end.value
                return answer
    finally:
        store.close()


def _orders(loaded: Loaded) -> tuple[SqliteStore, Orders]:
    import msgspec

    from lunaroute.observe import billing
    from lunaroute.observe.pii import redactor_of
    from lunaroute.observe.pricing import Prices
    from lunaroute.stores.jsonl import JsonlStore
    from lunaroute.stores.orders import Orders
    from lunaroute.stores.sqlite import SqliteStore

    recording = loaded.config.session_recording
    kept, files = recording.sqlite.retention, recording.jsonl.retention
    store = SqliteStore(
        Path(recording.sqlite.path), warn=_warn, replace=False, rewrite_bytes=None,
        max_age_days=kept.max_age_days, max_size_mb=kept.max_size_mb,
    )  # fmt: skip
    jsonl = JsonlStore(
        Path(recording.jsonl.directory), warn=_warn, max_age_days=files.max_age_days, max_size_mb=files.max_size_mb,
        compress_after_days=files.compress_after_days or None,
    )  # fmt: skip
    store.locate_by(jsonl.locate)
    loading: list[Prices] = []

    def prices() -> Prices:
        if not loading:
            loading.append(Prices.load(loaded.home / "prices.yaml"))
        return loading[0]

    def price() -> Price:
        return billing.of_row(prices())

    def fill(exchange: Exchange) -> None:
        billing.fill(prices(), exchange)

    def redacting(again: bool) -> Redactor:
        pii = recording.pii
        return redactor_of(
            msgspec.to_builtins(pii), loaded.home, warn=_warn, key=pii.key, max_age_days=kept.max_age_days, again=again
        )

    return store, Orders(store, jsonl, price=price, fill=fill, now=time.time, redacting=redacting)


def _warn(text: str) -> None:
    click.echo(f"lunaroute: {text}", err=True)


# --- words ---------------------------------------------------------------------------------------------------
def printable(text: str) -> str:
    """Without the characters that a terminal acts on."""
    return "".join(char if char.isprintable() else "\ufffd" for char in " ".join(text.split()))


def many(count: int, word: str) -> str:
    """`1 session`, `1,234 sessions`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def size(octets: float) -> str:
    """812 B, 1.2 kB, 3.4 MB."""
    from lunaroute.ui import format

    return format.size(int(octets))
