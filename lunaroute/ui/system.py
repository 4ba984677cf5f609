"""How things stand: settings with their origin, recording, sizes, versions; providers and attempts. Values only."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import msgspec

from lunaroute import __version__
from lunaroute.stores import charts, glance, queries
from lunaroute.stores.readonly import NoRecord, QueryError
from lunaroute.ui import dashboard, ranges
from lunaroute.ui.dashboard import Share
from lunaroute.ui.plot import Plot
from lunaroute.ui.source import Setting, Source


class StatusView(msgspec.Struct, kw_only=True):
    """How the recording is doing. settings: the configuration in force, by section."""

    observer: dict[str, Any]
    database: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, list[Setting]] = msgspec.field(default_factory=dict)
    trouble: str | None = None


class Provider(msgspec.Struct, kw_only=True):
    """A configured account and what went to it. attempts: by origin, of the newest exchanges."""

    name: str
    settings: dict[str, Any]
    share: Share | None = None
    attempts: list[dict[str, Any]] = msgspec.field(default_factory=list)


class RoutingView(msgspec.Struct, kw_only=True):
    """Providers over a time."""

    range: str
    words: str
    since: str
    until: str
    providers: list[Provider]
    plots: list[Plot] = msgspec.field(default_factory=list)
    note: str | None = None


def status(source: Source) -> StatusView:
    """Never raises: whatever is wrong elsewhere, this page must still tell the rest."""
    view = StatusView(
        observer={},
        database={"path": str(source.database)},
        versions={
            "LunaRoute": __version__,
            "Python": platform.python_version(),
            "SQLite": sqlite3.sqlite_version,
            **{name: metadata.version(name) for name in ("uvloop", "starlette", "uvicorn")},
            "System": f"{platform.system()} {platform.machine()}",
        },
    )
    try:
        view.observer = dict(source.status())
        for each in source.settings():
            section = each.key.rpartition(".")[0]
            view.settings.setdefault(section, []).append(each)
    except Exception as error:
        view.trouble = f"The recorder did not answer ({type(error).__name__}). `lunaroute logs` may say more."
    try:
        with source.open() as db:
            view.database |= queries.sizes(db)
        view.database["bytes"] = sum(
            file.stat().st_size
            for end in ("", "-wal", "-shm")
            if (file := source.database.with_name(source.database.name + end)).is_file()
        )
    except (QueryError, OSError) as error:
        view.database["error"] = str(error)
    return view


def routing(source: Source, query: Mapping[str, str]) -> RoutingView:
    """`range` or `since` and `until`."""
    over = ranges.asked(query, datetime.now(UTC))
    since, until = over.texts
    configured = _configured(source.settings())
    view = RoutingView(range=over.name, words=over.words, since=since, until=until, providers=[])
    shares: dict[str, Share] = {}
    tried: list[dict[str, Any]] = []
    try:
        with source.open() as db, db.snapshot():
            found = charts.charted(db, over.stretch)
            shares = {share.value: share for share in dashboard.shares(found, "provider")}
            tried = glance.attempts(db)
            view.plots = [dashboard.request_plot(found.columns, over), dashboard.first_plot(found, over)]
    except NoRecord as error:
        view.note = str(error)
    for name in dict.fromkeys([*configured, *shares]):
        view.providers.append(
            Provider(
                name=name,
                settings=configured.get(name, {}),
                share=shares.get(name),
                attempts=[each for each in tried if each["provider"] == name],
            )
        )
    return view


def _configured(settings: list[Setting]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for each in settings:
        head, _, rest = each.key.partition(".")
        if head == "providers" and rest:
            name, _, key = rest.partition(".")
            found.setdefault(name, {})[key] = each.value
    return found
