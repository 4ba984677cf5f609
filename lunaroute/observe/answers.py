"""Which exchange an answer's id came from, for requests that go on from it by that id alone. Must not know stores."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

KNOWN = 8192


class Place(NamedTuple):
    """Where an answer was recorded. whole: it has ended, and what it cost is known as far as it ever will be."""

    exchange: str
    session: str
    whole: bool = True


class Answers:
    """Which exchange an answer's id came from, for requests that name it as `previous_response_id`.

    Ids are unique within a scope at best: servers of the small kind count. recall: asked for ids not known here.
    """

    def __init__(self, recall: Callable[[str], Place | None] | None = None, *, known: int = KNOWN) -> None:
        self._recall = recall
        self._limit = known
        self._known: OrderedDict[tuple[bytes, str], Place] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Answers {len(self._known)} ids>"

    def __len__(self) -> int:
        return len(self._known)

    def told(self, scope: bytes, response_id: str | None, place: Place) -> None:
        """An answer has named itself; a later one of the same name takes its place."""
        if not response_id:
            return
        self._known[scope, response_id] = place
        self._known.move_to_end((scope, response_id))
        if len(self._known) > self._limit:
            self._known.popitem(last=False)

    def find(self, scope: bytes, response_id: str | None) -> Place | None:
        """Where the answer with this id is; None where it is not known."""
        if not response_id:
            return None
        found = self._known.get((scope, response_id))
        if found is not None:
            self._known.move_to_end((scope, response_id))
            return found
        return self._recall(response_id) if self._recall else None
