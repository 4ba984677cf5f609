"""What labels may say: words of closed sets, and names from sets that grow to a bound and not beyond.

A model or a tool is whatever a client or a provider calls it, and every new name would be a new series for as long as
the process lives (security.md R4). A set takes a name only from an answer that was good, keeps it, and is full some
day; every other name is `other`, and `none` is what is not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from lunaroute import dialects
from lunaroute.records import Exchange

MODELS = 200
TOOLS = 100
ACCOUNTS = 16
WINDOWS = 48
NONE, OTHER = "none", "other"
_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/@+()\[\]-]{0,127}")


class Capped:
    """A set of names that takes `room` of them, the first that come."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._names: set[str] = set()

    def __repr__(self) -> str:
        return f"<Capped {len(self._names)} of {self._room}>"

    def of(self, name: str | None, *, admit: bool = True) -> str:
        """The label for a name. admit: whether it may become one where it is none yet."""
        if not name:
            return NONE
        if name in self._names:
            return name
        if admit and len(self._names) < self._room and _NAME.fullmatch(name):
            self._names.add(name)
            return name
        return OTHER


class Models:
    """The label is the model that answered; without an answer, the one that answers such requests."""

    def __init__(self, room: int = MODELS) -> None:
        self._room = room
        self._names = Capped(room)
        self._answered: dict[str, str] = {}  # model asked for: label of the one that answers

    def of(self, asked: str | None, answered: str | None, good: bool) -> str:
        """good: the provider took the request."""
        if not good or not answered:
            return self._answered.get(asked or "") or self._names.of(asked, admit=False)
        label = self._names.of(answered)
        if asked and label != OTHER and (asked in self._answered or len(self._answered) < self._room):
            self._answered[asked] = label
        return label


class Known(NamedTuple):
    """The labels that most families have."""

    dialect: str
    provider: str
    model: str


class Labels:
    """One for all families, so that the same name is the same label everywhere. providers: the configured ones."""

    def __init__(self, providers: Iterable[str]) -> None:
        self._providers = frozenset(providers)
        self._models = Models()
        self.tools = Capped(TOOLS)
        self.accounts = Capped(ACCOUNTS)
        self.windows = Capped(WINDOWS)

    def of(self, exchange: Exchange) -> Known:
        good = exchange.status is not None and exchange.status < 400
        return Known(
            exchange.dialect if exchange.dialect in dialects.NAMES else dialects.OTHER,
            self.provider(exchange.provider),
            self._models.of(exchange.model_requested, exchange.model_used, good),
        )

    def provider(self, name: str | None) -> str:
        """A configured provider, `none` where there was none."""
        return (name if name in self._providers else OTHER) if name else NONE


def status_class(status: int | None) -> str:
    """2xx, ...; `none` where nothing was answered."""
    found = f"{status // 100}xx" if status else NONE
    return found if found in _CLASSES else NONE
