"""One exchange being rebuilt from its events, up to the record that is kept. Must not know the ring nor any store."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

import msgspec

from lunaroute import dialects
from lunaroute._fast.cuts import Cuts, cut
from lunaroute.dialects.canonical import conversation
from lunaroute.dialects.limits import limits
from lunaroute.dialects.mend import mended
from lunaroute.dialects.request import Request, first_words, project, read
from lunaroute.dialects.values import clean, loads, mapping, text
from lunaroute.observe.account import account, cost_kind
from lunaroute.observe.answers import Answers, Place
from lunaroute.observe.capture import TAIL_BYTES, Allowance, Capture
from lunaroute.observe.heads import Head, status_of
from lunaroute.observe.mask import Mask, Masker
from lunaroute.observe.news import News, Seen
from lunaroute.observe.sessions import OWN, client_of, fetched, identify, kind_of
from lunaroute.observe.split import split
from lunaroute.observe.threads import (
    SIGNAL as THREAD,
)
from lunaroute.observe.threads import (
    Memo,
    Threads,
    Trail,
    answer_marks,
    marks_of,
    scope_of,
    trail_of,
)
from lunaroute.records import PAID, Attempt, Exchange, Limit, Opened, SessionKey, State, Timings, Usage
from lunaroute.tap import ATTEMPT_HEADER, FLAG_WRITTEN

_SESSIONS_KNOWN = 4096
_PROJECT_TRIES = 2
# of an answer, so many pieces may wait to be read, if they are small ones
UNREAD, SMALL = 64, 2048
# whose words and tools belong to the conversation
TOLD = frozenset(("turn", "queued", "compaction"))


def stamp(wall_ns: int) -> str:
    """UTC in SQLite's own text form, with milliseconds."""
    seconds, rest = divmod(wall_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(seconds))}.{rest // 1_000_000:03d}"


class Numbers:
    """The next number in each session, and whether it has a title. Asks the store for sessions of an earlier time."""

    def __init__(self, last: Callable[[str], int]) -> None:
        self._last = last
        self._known: OrderedDict[str, list[int]] = OrderedDict()

    def next(self, key: SessionKey, *, fresh: bool = False) -> int:
        """The number of one more exchange in this session. fresh: no earlier time can have known it."""
        entry = self._known.get(key.id)
        if entry is None:
            entry = self._known[key.id] = [0 if fresh else self._last(key.id), 0, 0]
            if len(self._known) > _SESSIONS_KNOWN:
                self._known.popitem(last=False)
        self._known.move_to_end(key.id)
        entry[0] += 1
        return entry[0]

    def forget(self, session: str) -> None:
        """The store has given its exchanges other numbers."""
        self._known.pop(session, None)

    def wants_project(self, session: str) -> bool:
        """True for a session's first turns: in one of them a client names its folder, if it does at all."""
        entry = self._known.get(session)
        if entry is None or entry[2] >= _PROJECT_TRIES:
            return False
        entry[2] += 1
        return True

    def wants_title(self, session: str) -> bool:
        """True once per session, for its first words."""
        entry = self._known.get(session)
        if entry is None or entry[1]:
            return False
        entry[1] = 1
        return True


class Context(msgspec.Struct, kw_only=True):
    """What all exchanges share.

    seen: what was said in each session. account_key: by which accounts are told apart. price: fills in what an exchange
    cost. session: what a session is called where it is kept. threads, answers, memo: what conversations and answers
    there have been. gaps: ns between pieces of answers, until somebody takes them. places: session and number of the
    exchanges that an earlier observer had begun; running: those it had not ended.
    """

    boot_id: str
    masker: Masker
    numbers: Numbers
    budget: Allowance
    capture_limit: int
    seen: Seen = msgspec.field(default_factory=Seen)
    account_key: bytes = b""
    price: Callable[[Exchange], None] = lambda exchange: None
    session: Callable[[str], str] = lambda ident: ident
    threads: Threads = msgspec.field(default_factory=Threads)
    answers: Answers = msgspec.field(default_factory=Answers)
    memo: Memo = msgspec.field(default_factory=Memo)
    gaps: list[int] = msgspec.field(default_factory=list)
    places: Mapping[str, tuple[str | None, int | None]] = msgspec.field(default_factory=dict)
    running: frozenset[str] = frozenset()


class Pending:
    """An exchange that has begun. Times are CLOCK_MONOTONIC nanoseconds."""

    def __init__(self, context: Context, ident: str, head: Head, wall_ns: int, time_ns: int) -> None:
        self._context = context
        self.id = ident
        self.head = head
        self.wall_ns = wall_ns
        self._zero = time_ns
        self.last_ns = time_ns
        self._mask: Mask = context.masker.for_request(head)
        self.method, target, self.version = head.first
        self.target = self._mask.target(target)
        self.path = target.partition("?")[0]
        self.transport = "websocket" if head.get("upgrade").lower() == "websocket" else "http"
        self.announced = False  # an Opened has been made of it
        self.turn = False  # of a WebSocket; else the handshake itself
        self.provider: str | None = None
        self.dialect = dialects.of_path(self.path)
        self.client, self.client_version = client_of(head)
        self._allowance = Allowance(context.capture_limit, context.budget)
        self.request = Capture(self._allowance, head.joined("content-encoding"), tail_bytes=TAIL_BYTES)
        self.response = Capture(self._allowance)
        self._reader = dialects.reader(self.dialect, context.capture_limit)
        self._asked: Request | None = None
        self._asked_bytes = -1
        self._recorded: int | None = None
        self._kind: str | None = None
        self._cuts: Cuts | None = None
        self._altered = False
        self._news: News | None = None
        self._scope = b""
        self._digest: str | None = None
        self.project: str | None = None
        self._trail: Trail | None = None
        self.thread: bytes | None = None
        self.continues: str | None = None
        self.quota: list[Limit] = []  # told in the answer itself
        self._called: list[int] = []  # when each tool call was complete
        self._unread: list[tuple[int, bytes]] = []  # of the answer, with the time it came
        self._last_byte: float | None = None
        self.key: SessionKey | None = None
        self.own_session = ident
        self.sequence = 0
        self.title: str | None = None
        self.status: int | None = None
        self.response_head: Head | None = None
        self.attempts: list[Attempt] = []
        self.timings = Timings(head_received=0.0)
        length = head.get("content-length")
        self._expected = int(length) if length.isascii() and length.isdigit() and len(length) < 16 else None
        if self._expected is None and not head.get("transfer-encoding"):
            self._expected = 0

    def __repr__(self) -> str:
        return f"<Pending {self.id} {self.method} {self.path[:40]} {self.status or 'no answer yet'}>"

    def since(self, time_ns: int) -> float:
        """Milliseconds from the first byte to then."""
        return round(max(0, time_ns - self._zero) / 1e6, 3)

    def wall_at(self, time_ns: int) -> int:
        """The wall clock at a later moment, by the steady clock's account."""
        return self.wall_ns + time_ns - self._zero

    def opened(self) -> Opened:
        return Opened(
            id=self.id,
            session_id=None,
            started_at=stamp(self.wall_ns),
            started_ns=self.wall_ns,
            method=clean(self.method, 32),
            target=clean(self.target, 4096),
        )

    # --- events ----------------------------------------------------------------------------------------
    @property
    def request_whole(self) -> bool:
        """As far as the request's own framing tells (a chunked body's end is not in the tap)."""
        return self._expected is not None and self.request.raw_bytes >= self._expected

    @property
    def asked(self) -> bool:
        """Whether anything is known of the request's body."""
        return self._asked is not None

    @property
    def outgrown(self) -> bool:
        """Whether more of the request has come since it was recorded."""
        return self._recorded is not None and self._recorded != self.request.raw_bytes

    @property
    def told(self) -> bool:
        """Whether a record with the request as it is now has been made."""
        return self._asked_bytes == self.request.raw_bytes

    def begin_attempt(self, payload: bytes, time_ns: int) -> None:
        self.digest()
        number, reused, connect_us, tls_us = ATTEMPT_HEADER.unpack_from(payload)
        said = mapping(loads(payload[ATTEMPT_HEADER.size :]))
        self.provider = text(said.get("provider"))
        told = text(said.get("dialect"))
        if told in dialects.NAMES and told not in (dialects.OTHER, self.dialect):
            self.dialect = told
            self._reader = dialects.reader(told, self._context.capture_limit)
            self._kind = None
        if self.attempts:
            # an earlier attempt's refusal was not what the client got
            self._begin_answer("")
        self.attempts.append(
            Attempt(
                number=number,
                provider=self.provider or "",
                origin=text(said.get("origin")) or "",
                reused=bool(reused),
                connect_ms=connect_us / 1000 if connect_us else None,
                tls_ms=tls_us / 1000 if tls_us else None,
            )
        )
        self.timings.attempt_started = self.since(time_ns)

    def fail_attempt(self, sentence: str) -> None:
        if self.attempts:
            self.attempts[-1].error = self._mask.text(clean(sentence, 1000))

    def answer_head(self, head: Head, time_ns: int) -> None:
        """A response head; interim ones (1xx but 101) are none of ours."""
        status = status_of(head)
        if status is not None and status < 200 and status != 101:
            return
        self.status = status
        self.response_head = head
        self.timings.response_head = self.since(time_ns)
        if self.attempts:
            self.attempts[-1].status = status
        self._begin_answer(head.joined("content-encoding"))

    def _begin_answer(self, content_encoding: str) -> None:
        self.digest()
        if not content_encoding and not self._reader.pieces and not self.response.coded:
            return  # what there is has not been used
        self._called = []
        self.response.drop()
        self.response = Capture(self._allowance, content_encoding)
        self._reader = dialects.reader(self.dialect, self._context.capture_limit)

    def answer_piece(self, piece: bytes, time_ns: int) -> None:
        """Take a piece of the answer. Read later, many in one go: most tell nothing by themselves."""
        unread = self._unread
        unread.append((time_ns, piece))
        if len(unread) >= UNREAD or len(piece) > SMALL:
            self.digest()

    def digest(self) -> None:
        """Read what has come of the answer."""
        if not self._unread:
            return
        times, pieces = zip(*self._unread, strict=True)
        self._unread.clear()
        reader = self._reader
        first, told = reader.pieces, len(reader.called_at)
        if self.timings.first_body is None:
            self.timings.first_body = self.since(times[0])
        self._last_byte = self.since(times[-1])
        reader.feed_all(self.response.feed_all(pieces))
        if self.timings.first_content is None and reader.content_at is not None:
            self.timings.first_content = self.since(times[reader.content_at - first])
        self._called += [times[at - first] for at in reader.called_at[told:]]

    def so_far(self, with_request: bool) -> tuple[str, bytes, bytes]:
        """Dialect, request (masked when it was read) and what has come of the answer: for another thread to look at."""
        request = self.request.peek() if with_request and self.told else b""
        unread, read = list(self._unread), self.response.peek()
        while self._unread[: len(unread)] != unread:  # they have been read meanwhile
            unread, read = list(self._unread), self.response.peek()
        answer = read if self.response.coded else read + b"".join(piece for _, piece in unread)
        return self.dialect, request, self._mask.again().body(answer)

    # --- records ---------------------------------------------------------------------------------------
    def requested(self) -> Exchange:
        """The record of the request as it is now."""
        self._recorded = self.request.raw_bytes
        self.digest()
        self.ask()
        return self._record(None, None)

    def ask(self) -> None:
        """Read the request's facts; settle session and number the first time."""
        if self._asked is not None and self.told:
            return
        self._asked_bytes = self.request.raw_bytes
        self._kind = None
        body = self.request.body()
        readable = self._readable(body)
        asked = self._asked = read(readable, locate=False)
        if self.key is None:
            self._seat(asked, readable)
        if self.title is None and self.kind == "turn" and self._context.numbers.wants_title(self._session_id):
            self.title = self._mask.maybe(first_words(readable))
        self._digest = self.request.sha256
        masked = self._mask.body(body)
        if masked is not body:
            self._altered = True
            self.request.replace(masked)
        self._cuts = None
        if self.project is None and self.kind == "turn" and self._context.numbers.wants_project(self._session_id):
            self.project = self._mask.maybe(project(readable))
        if self.request_whole:
            self.request.rest()

    def _learn(self) -> None:
        """What is new in the whole request; once, at its end, so that what was cut short counts as it was."""
        body = self.request.body()
        self._cuts = cuts = cut(body)
        readable = self._readable(body)
        if readable is not body:
            cuts = cut(readable)
        alone = self.key is None or self.key.source == OWN
        # a count or a title call carries words of the conversation, which the conversation's own turns will bring
        if self.kind in TOLD:
            self._news = self._context.seen.request(None if alone else self._session_id, self.dialect, readable, cuts)

    def _readable(self, body: bytes) -> bytes:
        """For facts: of a body that was cut, what is whole in it."""
        return (mended(body, self.request.tail) or body) if self.request.truncated else body

    def _seat(self, asked: Request, body: bytes) -> None:
        context = self._context
        self._scope = scope_of(self.head, self.client, self.dialect, context.account_key)
        looked_at = fetched(self.method, self.path)
        before = context.answers.find(self._scope, looked_at or asked.previous_response_id)
        self.continues = before.exchange if before is not None else None
        key = identify(self.head, asked, self.client)
        if key is not None:
            above = context.session(key.parent) if key.parent else None
            key = SessionKey(context.session(key.id), key.source, key.client, above)
        if looked_at and before is not None:
            key = SessionKey(before.session, key.source if key else THREAD, self.client)
        if key is None and self.kind in TOLD:
            key = self._thread(body, before.session if before is not None else None)
        if key is None:
            # lists of models, probes and the like belong to no conversation: one session for all of a run
            if self.kind in ("models", "poll", "embedding", "other") and self.transport == "http":
                key = SessionKey(f"{context.boot_id}-other", "none")
            else:
                key = SessionKey(self.own_session, OWN, self.client)
        self.key = key
        self.client = key.client or self.client
        place = context.places.get(self.id)
        if place is not None and place[1] is not None:
            self.sequence = place[1]
        else:
            self.sequence = context.numbers.next(key, fresh=key.id == self.own_session)

    def _thread(self, body: bytes, before: str | None) -> SessionKey | None:
        """By what was said, for clients that send no signal. None: of a tunnel, whose turns are one session anyway."""
        context = self._context
        trail = trail_of(self._scope, marks_of(body, context.memo))
        place = context.places.get(self.id)
        found = (place[0] if place is not None else None) or before or context.threads.find(trail, self.wall_ns)
        session = found or self.own_session
        self._trail = trail
        self.thread = context.threads.asked(session, trail, self.wall_ns)
        return SessionKey(session, THREAD, self.client) if found or self.transport == "http" else None

    @property
    def _session_id(self) -> str:
        return self.key.id if self.key else self.id

    @property
    def kind(self) -> str:
        """What the exchange is for, as far as its request is known."""
        if self._kind is None:
            self._kind = self._kind_of()
        return self._kind

    def _kind_of(self) -> str:
        if self.transport == "websocket" and not self.turn:
            return "handshake"
        method = "POST" if self.turn else self.method
        return kind_of(method, self.path, self.head, self._asked or Request(), self.dialect, self.request.body())

    def finish(
        self,
        state: State,
        error: str | None,
        time_ns: int,
        *,
        flags: int = 0,
        lost: int = 0,
        received: int = 0,
        sent: int = 0,
    ) -> Exchange:
        """The final record. The relay's word on the state is corrected by what the answer itself said."""
        self.digest()
        self.request.wake()
        self.response.wake()
        self.ask()
        self._learn()
        self.request.finish()
        self.response.finish()
        facts = self._reader.finish()
        self.timings.done = self.since(time_ns)
        self.timings.request_received = self.since(received) if received else None
        self.timings.request_sent = self.since(sent) if sent else None
        if self.turn:
            # a message passes whole, on a connection that is there
            self.timings.attempt_started = self.timings.request_received = self.timings.request_sent = 0.0
        if self.attempts:
            self.attempts[-1].sent = bool(flags & FLAG_WRITTEN)
        self._settle_kind(facts)
        refused = self.status is not None and self.status >= 400 and self.dialect != dialects.OTHER
        delivered = state in (State.OK, State.PROXY_ERROR)
        known = facts.model is not None or facts.response_id is not None
        unread = lost or self.response.decode_error or self.status == 101 or self.response.truncated
        if state is State.OK and (facts.error or refused):
            state = State.UPSTREAM_ERROR
        elif state is State.OK and facts.stream and known and not facts.done and not unread:
            # framed as if it were whole, but the dialect says that it is not: clients retry after this
            state, error = State.UPSTREAM_ERROR, "the stream ended without its final event"
        elif state is State.CLIENT_CANCELLED and facts.done and not facts.error and not refused and not lost:
            # closing at the last event is how Codex and the SDKs end a good answer (clients.md section 9)
            state, error = State.OK, None
        elif state is State.CLIENT_CANCELLED and self.kind == "handshake" and self.status == 101:
            # a tunnel ends when its client goes; a turn that was under way then has a state of its own
            state, error = State.OK, None
        if state is not State.OK:
            error = error or facts.error or (f"the provider answered {self.status}" if refused else None)
        record = self._record(state, error)
        record.lost_bytes = lost
        record.truncated = record.truncated or lost > 0
        record.overhead_ms = self._overhead(delivered)
        record.split = split(self.timings, self.attempts, self._last_byte, delivered)
        self._tell(record, facts, time_ns)
        self._context.price(record)
        self.request.drop()
        self.response.drop()
        return record

    def _settle_kind(self, facts: dialects.Facts) -> None:
        """Of a response in the background its answer says whether this request is what its turn is counted with."""
        asked = self._asked or Request()
        ended = facts.stop_reason is not None
        if self.kind == "turn" and asked.background and facts.response_id and not ended:
            self._kind = "queued"
        elif self.kind == "poll" and ended and self.continues is not None:
            place = self._context.answers.find(self._scope, facts.response_id)
            if place is not None and not place.whole:
                self._kind, self.continues = "turn", place.exchange

    def _tell(self, record: Exchange, facts: dialects.Facts, time_ns: int) -> None:
        mask = self._mask
        record.model_used = mask.maybe(facts.model)
        record.stop_reason = mask.maybe(facts.stop_reason)
        record.response_id = mask.maybe(facts.response_id)
        record.error_kind = mask.maybe(facts.error_kind)
        record.cache_miss_reason = facts.cache_miss_reason
        record.stream = record.stream or facts.stream
        record.usage = facts.usage if record.kind in PAID else Usage()
        if self.turn and self.status is None:
            record.status = facts.error_status
        kept = self.response.body()
        self._remember(record, facts, kept)
        record.response_body = mask.body(kept)
        record.response_headers = mask.fields(self.response_head.fields) if self.response_head else []
        record.response_decode_error = self.response.decode_error
        record.response_sha256 = self.response.sha256
        record.response_altered = (
            record.response_body is not kept or self.response.coded or self.response.truncated or self.turn
        )
        record.cost_kind = cost_kind(self.head)
        if self.response_head is not None:
            record.limits = limits(record.response_headers, self.wall_at(time_ns))
        if self.quota:
            told = {limit.name for limit in self.quota}
            record.limits = [*self.quota, *(limit for limit in record.limits if limit.name not in told)]
        if record.limits:
            record.credential = account(self.head, self._context.account_key)
        if record.kind == "title" and record.state is State.OK:
            record.title = self._named(record)
        self._tell_words(record, facts, time_ns)

    def _remember(self, record: Exchange, facts: dialects.Facts, kept: bytes) -> None:
        """What a later request may go on from."""
        context = self._context
        if record.kind != "poll":
            place = Place(self.id, self._session_id, record.kind != "queued")
            context.answers.told(self._scope, facts.response_id, place)
        if self._trail is not None and record.state is State.OK:
            said = conversation(self.dialect, b"", kept).answer
            marks = answer_marks(said) if said is not None else []
            context.threads.answered(self._session_id, self._trail, marks, self.wall_ns)

    def _tell_words(self, record: Exchange, facts: dialects.Facts, time_ns: int) -> None:
        """Tool calls, results, and the words that are new."""
        if record.kind not in TOLD:
            return
        mask = self._mask
        calls = [call.id for call in facts.tool_calls]
        self._called += [time_ns] * (len(facts.tool_calls) - len(self._called))
        for number, (call, at) in enumerate(zip(facts.tool_calls, self._called, strict=True), start=1):
            call.id = mask.text(call.id) or f"{self.id}-t{number}"
            call.name, call.arguments = mask.text(call.name), mask.text(call.arguments)
            call.called_ns = self.wall_at(at)
            if call.result is not None:
                call.result.id, call.result.seen_ns = call.id, call.called_ns
        record.tool_calls = facts.tool_calls
        if self._news is not None:
            record.tool_results = self._news.results
            for result in record.tool_results:
                result.id, result.seen_ns = mask.text(result.id), self.wall_ns
            record.texts = self._news.texts
        record.texts += facts.texts
        self._context.seen.answer(self._session_id, facts.texts, calls)
        if not mask.clear([said.text for said in record.texts]):
            for said in record.texts:
                said.text = mask.text(said.text)

    def _named(self, record: Exchange) -> str | None:
        """The title that a client's title call was answered with."""
        message = conversation(self.dialect, b"", record.response_body).answer
        words = next((block.text for block in message.blocks if block.kind == "text"), "") if message else ""
        said = mapping(loads(words.encode("utf-8", "replace"))).get("title") if words.startswith("{") else words
        return text(" ".join(said.split()), 120) if isinstance(said, str) else None

    def _overhead(self, delivered: bool) -> float | None:
        """From the whole request received to the whole request sent, less what connecting took; and from the last
        byte of the answer received to its last byte sent. (An answer that was cut or given up has no last byte: what
        followed was waiting for more.)"""
        times = self.timings
        if times.request_received is None or times.request_sent is None or len(self.attempts) != 1:
            return None
        only = self.attempts[0]
        connecting = 0.0 if only.reused else (only.connect_ms or 0.0) + (only.tls_ms or 0.0)
        before = max(0.0, times.request_sent - times.request_received - connecting)
        last = self._last_byte if delivered else None
        after = times.done - last if times.done is not None and last is not None else 0.0
        return round(before + max(0.0, after), 3)

    def _record(self, state: State | None, error: str | None) -> Exchange:
        asked = self._asked or Request()
        mask = self._mask
        return Exchange(
            id=self.id,
            session_id=self._session_id,
            sequence=self.sequence,
            started_at=stamp(self.wall_ns),
            started_ns=self.wall_ns,
            signal=self.key.source if self.key else None,
            parent_session_id=self.key.parent if self.key else None,
            title=self.title,
            state=state,
            error=mask.maybe(clean(error, 2000) if error else None),
            method=clean(self.method, 32),
            target=clean(self.target, 4096),
            http_version=self.version.removeprefix("HTTP/"),
            status=self.status,
            reason=mask.maybe(self.response_head.first[2] if self.response_head else None),
            provider=self.provider,
            dialect=self.dialect,
            client=self.client,
            client_version=self.client_version,
            transport=self.transport,
            kind=self.kind,
            model_requested=mask.maybe(asked.model),
            stream=asked.stream,
            attempts=self.attempts,
            timings=self.timings,
            request_headers=mask.fields(self.head.fields),
            request_body=self.request.body(),
            request_bytes=self.request.raw_bytes,
            response_bytes=self.response.raw_bytes,
            request_decode_error=self.request.decode_error,
            truncated=self.request.truncated or self.response.truncated,
            project=self.project,
            continues=self.continues,
            thread=self.thread,
            cuts=self._cuts,
            request_sha256=self._digest,
            request_altered=self._altered or self.request.coded or self.request.truncated or self.turn,
        )
