"""Where pages come from: the database, and what is asked of whoever records. Must not know pages.

The pages run beside the observer (in a thread of its process) or by themselves over a database that is there
(`lunaroute ui`); then nobody is asked, and what only the observer knows is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from lunaroute.stores.readonly import Connection


class Setting(msgspec.Struct):
    """One setting as it is in force. origin: a flag, a variable, `file:line`, or `default`. Secrets are masked."""

    key: str
    value: Any
    origin: str


class Source:
    """See the module.

    status, metrics: how the recording stands. settings: the configuration in force. running: of an exchange that goes
    on (its id; whether its request is wanted) the dialect, the request and what has come of the answer; None of others.
    order: has something done by the one who writes (stores/orders.py), raises LunaRouteError; None: nobody can.
    """

    def __init__(
        self,
        database: Path,
        status: Callable[[], Mapping[str, object]],
        metrics: Callable[[], bytes],
        *,
        settings: Callable[[], list[Setting]] = list,
        running: Callable[[str, bool], tuple[str, bytes, bytes] | None] = lambda ident, with_request: None,
        order: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        self.database = database
        self.status = status
        self.metrics = metrics
        self.settings = settings
        self.running = running
        self.order = order

    def open(self, any_thread: bool = False) -> Connection:
        """A connection for one page. any_thread: it may be used by several threads, one after the other."""
        return Connection(self.database, any_thread=any_thread)
