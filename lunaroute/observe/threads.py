"""Which conversation a request continues, for clients that send no signal of their own. Must not know stores.

A request resends what was said before. Two kinds of evidence are kept, as hashes only:

- *places*: the chain of all marks up to where the model was asked. A later request that goes on from there, a retry
  and a fork have that place in their own chain. One made of nothing but the opening question is weak: other
  conversations may open with the same words, so it counts for a short while only, and until it has been answered.
- *ends*: a place together with the answer that was given there. It tells two conversations of one beginning apart.
- *links*: what the model answered. It finds the conversation of clients that rewrite what stands before (a repository
  map, the files of the moment, a system prompt with the time of day), so that no chain survives.

Everything is keyed by a scope that two users do not share. Marks are made of what stays equal between turns: no
cache_control, no thinking, a string like one text block, no blanks at the ends, no billing header.
"""

from __future__ import annotations

import base64
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from lunaroute.dialects.blocks import Message
from lunaroute.dialects.values import fields, items, loads, mapping, text
from lunaroute.observe.heads import Head

# the model's own words in a history are proof whenever they come; the window only ends what is a new day's work
IDLE_NS = 24 * 3600 * 1_000_000_000
# retries, forks and second turns of an opening question whose answer is not (or not yet) known
OPENING_NS = 30 * 60 * 1_000_000_000
KNOWN = 8192
MAX_MARKS = 20_000
SIGNAL = "conversation"

# shorter answers ("Done.") are given in many conversations: they count only together with the question
_ENOUGH = 64
# a call id of this length is made for one call; servers of the small kind count 0, 1, 2
_LONG_ID = 12
# places asked of the store: a client that goes on after a restart does so from the newest
_RECALLED = 4
# conversations that may have come to the same end
_SAME_END = 16
_BILLING = "x-anthropic-billing-header"
_CREDENTIALS = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "x-lunaroute-token")

USER, MODEL, FRAME = "user", "model", "frame"
Recall = Callable[[bytes], tuple[str, int, bool] | None]


def scope_of(head: Head, client: str | None, dialect: str, key: bytes) -> bytes:
    """Whose conversations these are: client, dialect and credential under a key. Nothing can be read back from it."""
    # an account stays when the token of its login is replaced
    account = head.get("chatgpt-account-id")
    return _scope(client or "", dialect, account, key, *map(head.get, _CREDENTIALS[bool(account) :]))


@lru_cache(maxsize=64)  # a client sends the same with each request
def _scope(client: str, dialect: str, account: str, key: bytes, *credentials: str) -> bytes:
    made = hashlib.blake2b(key=key[:64], digest_size=16, person=b"scope")
    for part in (client, dialect, account, *map(_owner, credentials)):
        made.update(part.encode("utf-8", "replace") + b"\0")
    return made.digest()


def _owner(credential: str) -> str:
    """The credential, or whom it was issued for: tokens of a login are renewed in mid-conversation."""
    parts = credential.split(".")
    if len(parts) != 3 or len(credential) > 16384:
        return credential
    try:
        # ValueError: no base64 after all
        claims = mapping(loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))))
    except ValueError:
        return credential
    subject = text(claims.get("sub"))
    return f"{text(claims.get('iss'))} {subject}" if subject else credential


# --- marks ------------------------------------------------------------------------------------------
class Mark(NamedTuple):
    """A piece of a conversation. weight: how much it tells, in characters."""

    side: str
    digest: bytes
    weight: int


class _Body(msgspec.Struct):
    system: Any = None
    instructions: Any = None
    # elements stay text until it is known that they are new; whatever has another shape is read by the lenient reader
    messages: list[msgspec.Raw] | str | None = None
    input: list[msgspec.Raw] | str | None = None


_body = msgspec.json.Decoder(_Body)
_sorted = msgspec.json.Encoder(order="sorted")


class Memo:
    """Marks of elements that were read before: a conversation resends all but its newest. Bounded in bytes."""

    __slots__ = ("_held", "_known", "_room")

    def __init__(self, room: int = 4 * 1024 * 1024) -> None:
        self._room = room
        self._held = 0
        self._known: OrderedDict[tuple[str, bytes], tuple[Mark, ...]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Memo {len(self._known)} elements, {self._held} bytes>"

    def marks(self, key: str, raw: bytes) -> tuple[Mark, ...]:
        """As fingerprint()."""
        place = (key, raw)
        made = self._known.get(place)
        if made is not None:
            self._known.move_to_end(place)
            return made
        made = self._known[place] = fingerprint(key, raw)
        self._held += _cost(raw, made)
        while self._held > self._room:
            (_, old), marks = self._known.popitem(last=False)
            self._held -= _cost(old, marks)
        return made


def _cost(raw: bytes, marks: tuple[Mark, ...]) -> int:
    return len(raw) + 300 + 170 * len(marks)


def marks_of(body: bytes, memo: Memo) -> list[Mark]:
    """All marks of a request body; none of one that is no JSON, or is made of more pieces than any client sends."""
    found = fields(_body, body)
    if found is None:
        return []
    made: list[Mark] = [*fingerprint("system", found.system), *fingerprint("instructions", found.instructions)]
    for key, value in (("messages", found.messages), ("input", found.input)):
        for part in value if isinstance(value, list) else (value,):
            made += memo.marks(key, bytes(part)) if isinstance(part, msgspec.Raw) else fingerprint(key, part)
            if len(made) > MAX_MARKS:
                return []
    return made


def fingerprint(key: str, element: Any) -> tuple[Mark, ...]:
    """The marks of one element of a body's `system`, `instructions`, `messages` or `input`: JSON or a value."""
    if isinstance(element, (bytes, msgspec.Raw)):
        element = loads(bytes(element))
    return tuple(_element(key, element))


def _element(key: str, element: Any) -> Iterator[Mark]:
    if key in ("system", "instructions"):
        yield from _contents(FRAME, element)
        return
    if isinstance(element, str):
        yield from _contents(USER, element)
        return
    entry = mapping(element)
    kind = entry.get("type")
    role = entry.get("role")
    if isinstance(kind, str) and kind not in ("message", ""):
        yield from _item(kind, entry)
    elif role == "tool":
        yield _result(entry.get("tool_call_id"), entry.get("content"))
    else:
        side = MODEL if role == "assistant" else FRAME if role in ("system", "developer") else USER
        yield from _contents(side, entry.get("content"))
        for each in items(entry.get("tool_calls")):
            call = mapping(each)
            asked = mapping(call.get("function")) or mapping(call.get("custom"))
            yield _call(call.get("id"), asked.get("name"), asked.get("arguments", asked.get("input")))


def answer_marks(message: Message) -> list[Mark]:
    """The marks of an answer, as they will be where the client sends it back."""
    made: list[Mark] = []
    for block in message.blocks:
        if block.kind == "text" and block.name is None:
            made += _contents(MODEL, block.text)
        elif block.kind == "tool_call":
            made.append(_call(block.call_id, block.name, block.arguments))
    return made


def _mark(side: str, kind: str, value: str, weight: int) -> Mark:
    made = hashlib.blake2b(f"{side}{kind}\0{value}".encode("utf-8", "replace"), digest_size=16)
    return Mark(side, made.digest(), weight)


def _contents(side: str, content: Any) -> Iterator[Mark]:
    for part in content if isinstance(content, list) else (content,):
        if isinstance(part, str):
            words: Any = part
        else:
            entry = mapping(part)
            words = entry.get("text") if "text" in entry else None
            if not isinstance(words, str):
                yield from _part(side, entry)
                continue
        words = words.strip()
        if words and not words.startswith(_BILLING):
            yield _mark(side, "text", words, len(words))


def _part(side: str, entry: dict[str, Any]) -> Iterator[Mark]:
    kind = entry.get("type")
    if not isinstance(kind, str) or kind in ("thinking", "redacted_thinking"):
        return
    if kind.endswith("tool_use"):
        yield _call(entry.get("id"), entry.get("name"), entry.get("input"))
    elif kind == "tool_result":
        yield _result(entry.get("tool_use_id"), entry.get("content"))
    else:
        yield _mark(side, kind, _canonical(entry), 0)


def _item(kind: str, item: dict[str, Any]) -> Iterator[Mark]:
    """An item of a Responses input that is no message."""
    if kind == "reasoning":
        return
    if kind.endswith("_call_output"):
        yield _result(item.get("call_id"), item.get("output"))
    elif kind.endswith("_call"):
        yield _call(
            item.get("call_id") or item.get("id"),
            item.get("name") or kind.removesuffix("_call"),
            item.get("arguments", item.get("input")),
        )
    else:
        yield from _part(FRAME if kind == "additional_tools" else USER, item)


def _call(ident: Any, name: Any, arguments: Any) -> Mark:
    # arguments are re-serialised by clients; the id is enough where it is one
    if isinstance(ident, str) and len(ident) >= _LONG_ID:
        return _mark(MODEL, "call", f"{ident}\0{name}", _ENOUGH)
    given = loads(arguments.encode("utf-8", "replace")) if isinstance(arguments, str) else arguments
    return _mark(MODEL, "call", f"{ident}\0{name}\0{arguments if given is None else _canonical(given)}", 16)


def _result(ident: Any, content: Any) -> Mark:
    if isinstance(content, list):
        parts = (mapping(part) for part in content)
        said = "\n".join(t if isinstance(t := part.get("text"), str) else _canonical(part) for part in parts)
    else:
        said = content if isinstance(content, str) else _canonical(content)
    return _mark(USER, "result", f"{ident}\0{said.strip()}", len(said))


def _canonical(value: Any) -> str:
    if isinstance(value, dict):
        value = {key: inner for key, inner in value.items() if key != "cache_control"}
    try:
        return _sorted.encode(value).decode()
    except (msgspec.MsgspecError, UnicodeEncodeError, TypeError, RecursionError):
        return repr(type(value))


# --- a request's trail ------------------------------------------------------------------------------
class Trail(NamedTuple):
    """What a request tells of its conversation.

    places: hashes of where the model was asked, oldest first, the last of them this request itself. links: of the
    answers in its history, oldest first. asked: the newest mark of the client's. The first place is the opening.
    end: the newest answer in its history, with all before it.
    """

    scope: bytes
    places: tuple[bytes, ...]
    links: tuple[bytes, ...]
    asked: Mark | None
    end: bytes | None = None

    @property
    def tip(self) -> bytes | None:
        """The one hash to keep with a session: where its newest request ends."""
        return self.places[-1] if self.places else None


def trail_of(scope: bytes, marks: Iterable[Mark]) -> Trail:
    """The trail of a request with these marks; without a place where nobody but the system spoke."""
    chain = hashlib.blake2b(scope, digest_size=16, person=b"place")
    places: list[bytes] = []
    links: list[bytes] = []
    run: list[Mark] = []  # of the model, one after the other
    asked: Mark | None = None
    end: bytes | None = None
    for mark in marks:
        if mark.side == MODEL:
            if not run and asked is not None:
                places.append(chain.copy().digest())
            run.append(mark)
        else:
            if run:
                links += _link(scope, asked, run)
                end = _after(places[-1], run) if places else None
                run = []
            if mark.side == USER:
                asked = mark
        chain.update(mark.digest)
    # words put into the model's mouth are no answer: the place before them is where it was asked
    if not run and asked is not None:
        places.append(chain.digest())
    return Trail(scope, tuple(places), tuple(links), asked, end)


def _after(place: bytes, answer: Sequence[Mark]) -> bytes:
    made = hashlib.blake2b(place, digest_size=16, person=b"end")
    for mark in answer:
        made.update(mark.digest)
    return made.digest()


def _link(scope: bytes, asked: Mark | None, answer: Sequence[Mark]) -> list[bytes]:
    weight = sum(mark.weight for mark in answer)
    made = hashlib.blake2b(scope, digest_size=16, person=b"link")
    if weight < _ENOUGH:
        if asked is None or not answer or weight + asked.weight < _ENOUGH:
            return []
        made.update(asked.digest)
    for mark in answer:
        made.update(mark.digest)
    return [made.digest()]


class _Known(msgspec.Struct):
    """What is known of a hash. answered: the request that it stands for was, in order.

    trunk: the place after it through which its session went on for two turns at least.
    """

    session: str
    at_ns: int
    answered: bool = False
    trunk: bytes | None = None


class Threads:
    """Conversations by what was said in them.

    The same opening once more is a retry until it has been answered, then another conversation. Where several end with
    the same words, the one that did so last goes on first. A fork stays in its session, as a question beside or a
    question put anew; but where the session has gone on from the place that was left, what goes on from the fork is a
    conversation of its own.

    recall: asked for hashes that are not known here (after a restart): (session, wall clock ns of its last exchange,
    whether one was answered). Memory is bounded: the hashes that were not met for the longest time go first.
    """

    def __init__(
        self,
        recall: Recall | None = None,
        *,
        idle_ns: int = IDLE_NS,
        opening_ns: int = OPENING_NS,
        known: int = KNOWN,
    ) -> None:
        self._recall = recall
        self._idle_ns = idle_ns
        self._opening_ns = opening_ns
        self._limit = known
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        # which sessions end with this answer, newest last; and the end that each session has
        self._ends: OrderedDict[bytes, list[tuple[str, int]]] = OrderedDict()
        self._end_of: OrderedDict[str, bytes] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Threads {len(self._known)} hashes>"

    def __len__(self) -> int:
        return len(self._known)

    def find(self, trail: Trail, now_ns: int) -> str | None:
        """The session that this request belongs to: the longest history counts, then answers, then the opening."""
        places = trail.places
        if not places:
            return None
        place = self._newest(places[1:], now_ns, self._idle_ns)
        known = self._known[place] if place is not None else None
        itself = place == places[-1]
        if known is not None and itself and not known.answered:
            return known.session
        for session, at_ns in reversed(self._ends.get(trail.end, ()) if trail.end else ()):
            if abs(now_ns - at_ns) <= self._idle_ns:
                return session
        if known is not None and itself:
            return known.session
        if place is None:
            place = self._newest(trail.links, now_ns, self._idle_ns)
        if place is None:
            place = self._newest(places[:1], now_ns, self._opening_ns)
            if place is None or (len(places) == 1 and self._known[place].answered):
                return None
        session = self._known[place].session
        return None if self._has_left(session, places, place) else session

    def _has_left(self, session: str, places: Sequence[bytes], place: bytes) -> bool:
        """Whether the session went on another way: from this place, or from the one before."""
        at = places.index(place) if place in places else 0
        for here, after in zip(places[max(0, at - 1) : at + 1], places[max(1, at) : at + 2], strict=False):
            known = self._known.get(here)
            if known is not None and known.session == session and known.trunk not in (None, after):
                return True
        return False

    def _newest(self, hashes: Sequence[bytes], now_ns: int, window_ns: int) -> bytes | None:
        """The last of the hashes that is known and not too old."""
        for each in reversed(hashes):
            found = self._known.get(each)
            if found is not None and abs(now_ns - found.at_ns) <= window_ns:
                self._known.move_to_end(each)
                return each
        for each in hashes[: -_RECALLED - 1 : -1] if self._recall else ():
            told = self._recall(each) if self._recall and each not in self._known else None
            if told is not None and abs(now_ns - told[1]) <= window_ns:
                self._note(each, _Known(*told))
                return each
        return None

    def asked(self, session: str, trail: Trail, now_ns: int) -> bytes | None:
        """A request was given to this session. The hash to store with the session, in place of its last one."""
        self._goes_on(session)
        tip = trail.tip
        if tip is not None:
            known = self._known.get(tip)
            if known is not None and known.session == session:
                known.at_ns = now_ns
                self._known.move_to_end(tip)
            else:
                self._note(tip, _Known(session, now_ns))
        return tip

    def _goes_on(self, session: str) -> None:
        """It ends no longer where it did."""
        end = self._end_of.pop(session, None)
        if end is None:
            return
        left = [each for each in self._ends.get(end, ()) if each[0] != session]
        if left:
            self._ends[end] = left
        else:
            self._ends.pop(end, None)

    def answered(self, session: str, trail: Trail, answer: Sequence[Mark], now_ns: int) -> bytes | None:
        """The answer to that request is known. A second hash that can be stored, if the first should not be enough."""
        if trail.tip is None:
            return None
        known = self._known.get(trail.tip)
        if known is not None and known.session == session:
            known.answered = True
        before = self._known.get(trail.places[-3]) if len(trail.places) > 2 else None
        if before is not None and before.session == session and before.trunk is None:
            before.trunk = trail.places[-2]
        if answer:
            self._goes_on(session)
            end = self._end_of[session] = _after(trail.tip, answer)
            self._ends[end] = [*self._ends.pop(end, ()), (session, now_ns)][-_SAME_END:]
            for kept in (self._ends, self._end_of):
                if len(kept) > self._limit:
                    kept.popitem(last=False)
        links = _link(trail.scope, trail.asked, answer)
        for link in links:
            self._note(link, _Known(session, now_ns))
        return links[0] if links else None

    def _note(self, each: bytes, known: _Known) -> None:
        self._known[each] = known
        self._known.move_to_end(each)
        if len(self._known) > self._limit:
            self._known.popitem(last=False)
