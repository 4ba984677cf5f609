"""Events in, records out: the observer's whole mind, without I/O. Must not know the ring nor any store."""

from __future__ import annotations

from collections.abc import Iterable

from lunaroute import tap
from lunaroute.observe.exchange import Context, Pending
from lunaroute.observe.heads import body_offset, read_head
from lunaroute.observe.tunnel import Tunnel
from lunaroute.records import Closed, Record, State

# an exchange whose end was lost would stay for ever; this many open ones no client has
MAX_OPEN = 20_000
_STATES = tuple(State(word) for word in tap.STATES)
# the proxy's own endpoints: nothing was asked of a model, and a probe every few seconds would bury the sessions
_OWN = frozenset(("/", "/healthz", "/readyz", "/metrics"))


class Observer:
    """Feed the tap's events in order.

    mark: where the current batch of events begins in the ring. `keep_from` gives the mark of the oldest exchange that
    is still open, so that the caller can leave its events in the ring until its record is stored.
    """

    def __init__(self, context: Context, finished: Iterable[str] = ()) -> None:
        self._context = context
        self._finished = set(finished)
        self._open: dict[int, Pending] = {}
        self._tunnels: dict[int, Tunnel] = {}
        self._pins: dict[int, int] = {}
        self._skipped: set[int] = set()
        self._news: dict[int, Pending] = {}
        self.mark = 0
        self.orphans = 0

    def __repr__(self) -> str:
        return f"<Observer {len(self._open)} open, {len(self._tunnels)} tunnels>"

    @property
    def open(self) -> int:
        """Exchanges that have begun and not ended."""
        return len(self._open)

    def keep_from(self) -> int | None:
        """The ring's position from which events are still needed; None when none are."""
        return next(iter(self._pins.values()), None)

    def unpin(self) -> None:
        """The ring needs its room: what is open now will not survive this process."""
        self._pins.clear()

    @property
    def news(self) -> bool:
        """Whether progress() would tell anything."""
        return bool(self._news)

    def progress(self) -> list[Record]:
        """What has begun, or become known of a request, since this was last called, of exchanges that go on.

        Asked once a batch: most exchanges begin and end within one, and their last record says all.
        """
        records: list[Record] = []
        for pending in self._news.values():
            if not pending.announced:
                pending.announced = True
                records.append(pending.opened())
            if pending.asked:
                records.append(pending.requested())
        self._news.clear()
        return records

    def feed(self, kind: int, exchange: int, time_ns: int, payload: bytes) -> list[Record]:
        """Take one event; the records of what has ended with it."""
        pending = self._open.get(exchange)
        if kind == tap.RESPONSE_BODY and pending is not None:  # by far the most frequent, in a stream
            pending.last_ns = time_ns
            pending.answer_piece(payload, time_ns)
            return []
        if kind == tap.OPEN:
            return self._begin(exchange, time_ns, payload)
        if pending is None:
            return self._stray(kind, exchange, payload)
        pending.last_ns = time_ns
        if kind == tap.CLOSE:
            return self._end(exchange, pending, time_ns, payload)
        if kind in (tap.CLIENT_FRAMES, tap.SERVER_FRAMES):
            return self._frames(exchange, pending, kind, time_ns, payload)
        if kind == tap.REQUEST_BODY:
            pending.request.feed(payload)
            if pending.request_whole:
                self._asked(exchange, pending)
        if kind == tap.ATTEMPT:
            pending.begin_attempt(payload, time_ns)
        elif kind == tap.ATTEMPT_FAILED:
            pending.fail_attempt(payload.decode("utf-8", "replace"))
        elif kind in (tap.RESPONSE_HEAD, tap.LOCAL_ANSWER):
            self._answer(exchange, pending, kind, time_ns, payload)
        return []

    def running(self, ident: str, with_request: bool) -> tuple[str, bytes, bytes] | None:
        """What there is of an exchange that goes on (see Pending.so_far). Any thread may ask: nothing is changed."""
        boot, _, place = ident.partition("-")
        number, _, turn = place.partition("-")
        if boot != self._context.boot_id or not (number.isascii() and number.isdigit() and len(number) < 20):
            return None
        pending = self._open.get(int(number))
        if turn:
            tunnel = self._tunnels.get(int(number))
            pending = tunnel.turn(ident) if tunnel is not None else None
        return pending.so_far(with_request) if pending is not None else None

    def discard(self, exchange: int) -> None:
        """Forget an exchange whose rebuilding failed."""
        self._open.pop(exchange, None)
        self._news.pop(exchange, None)
        self._tunnels.pop(exchange, None)
        self._pins.pop(exchange, None)

    def interrupt(self, why: str) -> list[Record]:
        """The relay is gone: close all that is open with what had come."""
        records: list[Record] = []
        for exchange, pending in list(self._open.items()):
            time_ns = pending.last_ns
            tunnel = self._tunnels.pop(exchange, None)
            if tunnel is not None:
                records += tunnel.close(State.INTERRUPTED, why, time_ns, 0)
            records.append(pending.finish(State.INTERRUPTED, why, time_ns))
        self._open.clear()
        self._news.clear()
        self._pins.clear()
        return records

    # --- events ----------------------------------------------------------------------------------------
    def _begin(self, exchange: int, time_ns: int, payload: bytes) -> list[Record]:
        ident = f"{self._context.boot_id}-{exchange}"
        if ident in self._finished:
            self._skipped.add(exchange)
            return []
        wall_ns, _connection, _before = tap.OPEN_HEADER.unpack_from(payload)
        head = read_head(payload[tap.OPEN_HEADER.size :])
        if head.first[0] in ("GET", "HEAD") and head.first[1].partition("?")[0] in _OWN:
            self._skipped.add(exchange)
            return []
        pending = Pending(self._context, ident, head, wall_ns, time_ns)
        records: list[Record] = []
        if len(self._open) >= MAX_OPEN:
            records += self._give_up()
        self._open[exchange] = pending
        self._pins[exchange] = self.mark
        self._news[exchange] = pending
        if pending.request_whole:
            self._asked(exchange, pending)
        return records

    def _give_up(self) -> list[Record]:
        """Close the oldest exchange: its end was most likely dropped from a full ring."""
        exchange, pending = next(iter(self._open.items()))
        del self._open[exchange]
        self._news.pop(exchange, None)
        self._pins.pop(exchange, None)
        tunnel = self._tunnels.pop(exchange, None)
        why = "its end was never seen"
        turns = tunnel.close(State.INTERRUPTED, why, pending.last_ns, 0) if tunnel else []
        return [*turns, pending.finish(State.INTERRUPTED, why, pending.last_ns)]

    def _asked(self, exchange: int, pending: Pending) -> None:
        if not pending.told:
            pending.ask()
            self._news[exchange] = pending

    def _answer(self, exchange: int, pending: Pending, kind: int, time_ns: int, payload: bytes) -> None:
        head = read_head(payload)
        pending.answer_head(head, time_ns)
        if kind == tap.LOCAL_ANSWER:
            pending.answer_piece(payload[body_offset(payload) :], time_ns)
        # a chunked request's end is not told; that the answer has begun is the best sign of it
        if pending.status is not None:
            self._asked(exchange, pending)

    def _frames(self, exchange: int, pending: Pending, kind: int, time_ns: int, payload: bytes) -> list[Record]:
        tunnel = self._tunnels.get(exchange)
        if tunnel is None:
            tunnel = self._tunnels[exchange] = Tunnel(self._context, pending)
        read = tunnel.from_client if kind == tap.CLIENT_FRAMES else tunnel.from_server
        return self._unseen(read(payload, time_ns))

    def _end(self, exchange: int, pending: Pending, time_ns: int, payload: bytes) -> list[Record]:
        number, flags, _sent, _got, lost, received_ns, sent_ns = tap.CLOSE_HEADER.unpack_from(payload)
        state = _STATES[number] if number < len(_STATES) else State.PROXY_ERROR
        error = payload[tap.CLOSE_HEADER.size :].decode("utf-8", "replace") or None
        del self._open[exchange]
        self._news.pop(exchange, None)
        self._pins.pop(exchange, None)
        records: list[Record] = []
        tunnel = self._tunnels.pop(exchange, None)
        if tunnel is not None:
            records += self._unseen(tunnel.close(state, error, time_ns, lost))
        if pending.outgrown:
            records.append(pending.requested())
        return [
            *records,
            pending.finish(state, error, time_ns, flags=flags, lost=lost, received=received_ns, sent=sent_ns),
        ]

    def _unseen(self, records: list[Record]) -> list[Record]:
        """Turns that an earlier observer has stored are not told again."""
        return [record for record in records if record.id not in self._finished] if self._finished else records

    def _stray(self, kind: int, exchange: int, payload: bytes) -> list[Record]:
        """An event of an exchange whose beginning this process never saw."""
        if exchange in self._skipped:
            if kind == tap.CLOSE:
                self._skipped.discard(exchange)
            return []
        self.orphans += 1
        if kind != tap.CLOSE:
            return []
        ident = f"{self._context.boot_id}-{exchange}"
        records: list[Record] = []
        for known in sorted(self._context.running):
            if known == ident or known.startswith(f"{ident}-"):
                session = self._context.places[known][0]
                state = _STATES[payload[0]] if payload and payload[0] < len(_STATES) else State.PROXY_ERROR
                why = "the record was lost when the observer was restarted"
                records.append(Closed(id=known, session_id=session, state=state, error=why))
        return records
