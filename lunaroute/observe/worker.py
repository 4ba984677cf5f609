"""The observer process: `python -m lunaroute.observe.worker --ring FD --wake FD --control FD`.

A plain blocking process. The main thread reads the ring, feeds the observer and writes the stores; one thread answers
the relay; the web UI has threads of its own. When the relay hangs up, what it had written is still read to its end.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import os
import signal
import socket
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lunaroute._fast.ring import Reader
from lunaroute.errors import LunaRouteError, StoreError
from lunaroute.observe import account, billing, errand, quiet
from lunaroute.observe.answers import Answers, Place
from lunaroute.observe.capture import Allowance
from lunaroute.observe.clock import Clock
from lunaroute.observe.control import Control
from lunaroute.observe.desk import Desk, desk_path
from lunaroute.observe.exchange import Context, Numbers
from lunaroute.observe.gears import Gears
from lunaroute.observe.mask import Masker
from lunaroute.observe.metrics import Metrics
from lunaroute.observe.news import Seen
from lunaroute.observe.observer import Observer
from lunaroute.observe.pii import Redactor, redactor_of
from lunaroute.observe.pricing import Prices
from lunaroute.observe.sink import Sink, settled, weight
from lunaroute.observe.threads import Threads
from lunaroute.records import Exchange, Json, Record
from lunaroute.stores.jsonl import JsonlStore
from lunaroute.stores.orders import Orders
from lunaroute.stores.sqlite import Resume, SqliteStore
from lunaroute.stores.upkeep import Price, Progress

Value = TypeVar("Value")

# A commit costs as much as some exchanges. So under steady load it waits for more of them, but not where nothing more
# comes, and not where much has come. What waits is in the ring until then: a killed observer loses nothing of it
COMMIT_S = 0.5
QUIET_S = 0.1
PILED = 64  # this part of the ring, read since the last commit
BATCH_BYTES = 8 * 1024 * 1024
READ_BYTES = 512 * 1024
# what all open exchanges may keep together: with the interpreter, the UI and a batch, the process stays below 100 MB
BUDGET_BYTES = 32 * 1024 * 1024
TEND_S = 600.0
IDLE_S = 0.5
LEFT_OPEN = "LunaRoute was stopped"
_DONE = object()
CHORE_S = 0.1  # under load, upkeep gets a step so often
OVERFULL_S = 10.0
UI_AGAIN_S = 2.0
EASY = 16  # with less than this part of the ring unread, what commands ask gets a step after each read
ORPHANED = "the proxy process ended"


class RunningUi(Protocol):
    """What lunaroute.ui.server.start gives."""

    url: str

    def stop(self) -> None: ...


class Worker:
    """Builds the observer's parts from the relay's first message and runs them."""

    def __init__(self, reader: Reader, wake_fd: int, control: Control, start: Json) -> None:
        self._reader = reader
        self._wake_fd = wake_fd
        self._control = control
        self._start = start
        self._config: Json = start["config"]
        self._clock = Clock()
        self._stop: Json | None = None
        self._orphaned = False
        self._deadline = float("inf")
        self._batch: list[Record] = []
        self._batch_bytes = 0
        self._flushed = 0.0
        self._caught_up = time.monotonic()  # when the ring was last read to its end
        self._heard = 0.0
        self._stored = 0  # the ring's position at the last commit
        self._tended = 0.0
        self._chored = 0.0
        self._chores: Iterator[object] | None = None
        self._aside = quiet.Aside()
        self._gears = Gears(self._turn)
        self._idle = 0  # waits in a row in which nothing came
        self._errors = 0
        self._dropped = 0
        self._unredacted = 0  # texts of which nothing was kept, as last said
        self._ui: RunningUi | None = None
        self._ui_error: str | None = None
        self._ui_due = float("inf")
        self._sinks: list[Sink] = []
        self._log_requests = bool(self._config.get("logging", {}).get("log_requests"))
        secrets = [word for word in (*start.get("secrets", ()), *start.get("access_tokens", ())) if word]
        self._masker = Masker(secrets)
        self._desk: Desk | None = None
        self._orders: Orders | None = None
        self._numbers = Numbers(self._last_sequence)
        recording = self._config["session_recording"]
        self._redactor = self._redacting(False)
        resume = self._open_stores()
        self._known_prices = self._prices()
        self._gaps: list[int] = []
        self._observer = Observer(
            Context(
                boot_id=start["boot_id"],
                masker=self._masker,
                numbers=self._numbers,
                budget=Allowance(BUDGET_BYTES),
                capture_limit=int(recording["capture_limit_mb"] * 1024 * 1024),
                places=resume.places,
                running=resume.running,
                seen=Seen(self._asked_store(lambda store, session: store.last_turn(session))),
                threads=Threads(self._asked_store(lambda store, digest: store.thread(digest))),
                answers=Answers(self._place),
                account_key=account.kept_key(Path(start["home"]) / "account.key", self._warn),
                price=self._fill,
                gaps=self._gaps,
                session=self._redactor.session,
            ),
            resume.finished,
        )
        self._metrics = Metrics(
            self._config.get("providers", {}),
            reader.counters,
            self._store_figures,
            self._lag,
            float(start.get("started_at_ns", 0)) / 1e9,
            self._redactor.figures,
        )

    # --- stores ----------------------------------------------------------------------------------------
    def _open_stores(self) -> Resume:
        recording = self._config["session_recording"]
        resume = Resume(finished=frozenset(), running=frozenset(), places={})
        self._sqlite: SqliteStore | None = None
        self._jsonl: JsonlStore | None = None
        if not recording["enabled"]:
            return resume
        retention = recording["jsonl"]["retention"]
        jsonl = JsonlStore(
            Path(recording["jsonl"]["directory"]),
            warn=self._warn,
            max_age_days=retention["max_age_days"],
            max_size_mb=retention["max_size_mb"],
            compress_after_days=retention["compress_after_days"] or None,
            replayed=self._reader.counters()["observer_restarts_total"] > 0,
        )
        if recording["jsonl"]["enabled"]:
            self._jsonl = jsonl
            self._sinks.append(self._sink(jsonl))
        if recording["sqlite"]["enabled"]:
            kept = recording["sqlite"]["retention"]
            self._sqlite = SqliteStore(
                Path(recording["sqlite"]["path"]),
                warn=self._warn,
                max_age_days=kept["max_age_days"],
                max_size_mb=kept["max_size_mb"],
            )
            if recording["jsonl"]["enabled"]:
                self._sqlite.locate_by(jsonl.locate)
            self._sinks.append(self._sink(self._sqlite))
            self._orders = Orders(
                self._sqlite,
                jsonl,
                price=self._new_prices,
                fill=self._fill,
                now=self._clock.now,
                renumbered=self._renumbered,
                redacting=self._redacting,
            )
        for sink in self._sinks:
            sink.write([])
        with contextlib.suppress(StoreError):
            if self._sqlite is not None and self._sqlite.is_open:
                resume = self._sqlite.resume(self._start["boot_id"])
                closed = self._sqlite.interrupt_former(self._start["boot_id"])
                if closed:
                    self._control.log("info", "exchanges of an earlier run were closed as interrupted", count=closed)
        return resume

    def _sink(self, store: JsonlStore | SqliteStore) -> Sink:
        return Sink(store, warn=self._warn, clock=time.monotonic)

    def _last_sequence(self, session: str) -> int:
        last = self._asked_store(lambda store, ident: store.last_sequence(ident))(session)
        if last:
            return last
        # there is no database, or it was lost: what its files tell may come back by an import
        return self._jsonl.last_sequence(session) if self._jsonl is not None else 0

    def _renumbered(self, session: str) -> None:
        self._numbers.forget(session)

    def _asked_store(self, ask: Callable[[SqliteStore, Any], Value | None]) -> Callable[[Any], Value | None]:
        """A question to the database that has no answer while it cannot be read."""

        def answer(about: Any) -> Value | None:
            if self._sqlite is not None and self._sqlite.is_open:
                with contextlib.suppress(StoreError):
                    return ask(self._sqlite, about)
            return None

        return answer

    def _place(self, response_id: str) -> Place | None:
        found = self._asked_store(lambda store, ident: store.response(ident))(response_id)
        return Place(*found) if found is not None else None

    def _prices(self) -> Prices:
        try:
            return Prices.load(Path(self._start["home"]) / "prices.yaml")
        except LunaRouteError as error:
            self._warn(f"{error}. Costs are worked out from the shipped prices alone")
            return Prices.load()

    def _new_prices(self) -> Price:
        """The prices as they are now, by which what comes is priced as well; raises where the user's are wrong."""
        self._known_prices = Prices.load(Path(self._start["home"]) / "prices.yaml")
        return billing.of_row(self._known_prices)

    def _fill(self, exchange: Exchange) -> None:
        billing.fill(self._known_prices, exchange)

    def _redacting(self, again: bool) -> Redactor:
        """again: for what was recorded before."""
        recording = self._config["session_recording"]
        return redactor_of(
            recording["pii"], Path(self._start["home"]), warn=self._warn, key=self._start.get("pii_key"),
            max_age_days=recording["sqlite"]["retention"]["max_age_days"], again=again,
        )  # fmt: skip

    # --- what commands ask -----------------------------------------------------------------------------
    def _open_desk(self) -> None:
        """Once the database is ours: then no other process has this desk."""
        if self._desk is not None or self._orders is None or self._sqlite is None or not self._sqlite.is_open:
            return
        desk = Desk(desk_path(Path(self._start["home"]), self._sqlite.path), self._carry_out, self._wake)
        try:
            desk.open()
        except LunaRouteError as error:
            self._warn(f"{error}. Until then `sessions delete`, `prune` and the like need the server stopped")
            self._orders = None
        else:
            self._desk = desk

    def _carry_out(self, order: Json) -> Generator[Progress, None, Json]:
        """What has come until now is stored first: it is there to be deleted, too."""
        assert self._orders is not None
        if self._waiting():
            self._store()
        if not self._clear():
            reasons = ", ".join(f"{sink.store.name}: {sink.error}" for sink in self._sinks if sink.error)
            raise StoreError(f"recording fails at the moment ({reasons}); nothing was done")
        return (yield from self._orders.carry_out(order))

    def _store_figures(self) -> dict[str, dict[str, float]]:
        return {
            sink.store.name: {
                "ok": int(sink.error is None),
                "bytes": sink.store.size(),
                "waiting_bytes": sink.waiting_bytes,
                "lost": sink.missing,
                "errors": sink.failures,
                "removed": sink.store.removed,
            }
            for sink in self._sinks
        }

    def _lag(self) -> dict[str, float]:
        """How far behind the relay this process is; asked by other threads."""
        unread = self._reader.unread_bytes
        behind = max(0.0, time.monotonic() - self._caught_up) if unread else 0.0
        return {"lag_bytes": unread, "lag_seconds": behind, "open_exchanges": self._observer.open}

    def _warn(self, message: str) -> None:
        self._control.log("warn", message)

    # --- the UI ----------------------------------------------------------------------------------------
    def _start_ui(self) -> None:
        """Starts it where it is wanted. Where its port is taken (an observer that died may not be quite gone), again
        and again, and the relay is told when it is there."""
        ui = self._config["ui"]
        if not ui["enabled"]:
            return
        before, self._ui_error = self._ui_error, None
        try:
            from lunaroute.ui import server
            from lunaroute.ui.source import Setting

            settings = [Setting(*each) for each in self._start.get("settings", ())]
            self._ui = server.start(
                Path(self._config["session_recording"]["sqlite"]["path"]),
                ui["host"],
                ui["port"],
                status=self.status,
                metrics=self._metrics.text,
                allowed_hosts=list(self._config.get("allowed_hosts", ())),
                access_tokens=list(self._start.get("access_tokens", ())),
                settings=lambda: settings,
                running=self._observer.running,
                order=self._hand_in,
            )
        except OSError as error:
            where = f"{ui['host']}:{ui['port']}"
            self._ui_error = (
                f"the web UI cannot listen on {where}: {error.strerror or error}; free the port or set ui.port"
            )
            self._ui_due = time.monotonic() + UI_AGAIN_S
        except Exception as error:  # recording must go on whatever the UI's fault is
            self._ui_error = f"the web UI could not start: {type(error).__name__}: {error}"
        if self._ui_error and self._ui_error != before:
            self._warn(self._ui_error)
        if self._ui is not None and before:
            self._control.send({"event": "ui", "ui_url": self._ui.url, "ui_error": None})
            self._control.log("info", "the web UI listens now", url=self._ui.url)

    def _hand_in(self, order: Json) -> Json:
        """An order of the pages, given at our own desk as a command would; waits until it is carried out."""
        return errand.hand_in_at(self._desk.path if self._desk is not None else None, order)

    # --- what the relay asks ---------------------------------------------------------------------------
    def status(self) -> Json:
        """How things stand."""
        counters = self._reader.counters()
        return {
            "ok": all(sink.error is None for sink in self._sinks),
            **self._lag(),
            "lag_events": sum(0 if sink.clear else 1 for sink in self._sinks) + len(self._batch),
            "stores": [
                {
                    "name": sink.store.name,
                    "ok": sink.error is None,
                    "error": sink.error,
                    "path": str(sink.store.path),
                    "bytes": sink.store.size(),
                    "lost": sink.missing,
                }
                for sink in self._sinks
            ],
            "ui": {"ok": self._ui is not None, "url": self._ui.url if self._ui else None, "error": self._ui_error},
            "dropped": {name: value for name, value in counters.items() if name.startswith("tap_dropped")},
            "redaction": {"failed": self._redactor.failed},
            "orphans": self._observer.orphans,
            "errors": self._errors,
            "counters": counters,
            "pid": os.getpid(),
            "version": self._start.get("version"),
            "proxy_url": self._start.get("proxy_url"),
            "started_at_ns": self._start.get("started_at_ns"),
        }

    def answer(self, request: Json) -> Json | None:
        """A request of the relay, in the control thread."""
        command = request.get("cmd")
        if command == "metrics":
            return {"text": self._metrics.text().decode()}
        if command == "status":
            return self.status()
        if command == "secret":
            self._masker.learn(str(request.get("value", "")))
            return None
        if command == "stop":
            self._deadline = time.monotonic() + float(request.get("timeout_s", 5))
            self._stop = request
            self._wake()
            return None  # given when all is stored
        return {"error": "unknown command"}

    def orphaned(self) -> None:
        """The relay hung up."""
        self._orphaned = True
        self._wake()

    def _wake(self) -> None:
        """End the main thread's sleep (where the bell is a pipe it has no end of ours: then within IDLE_S)."""
        with contextlib.suppress(OSError):
            os.write(self._wake_fd, (1).to_bytes(8, "little"))

    # --- the loop --------------------------------------------------------------------------------------
    def run(self) -> None:
        """Until told to stop, or until the relay is gone; then to the end of the ring."""
        self._start_ui()
        self._control.serve(self.answer, self.orphaned)
        self._open_desk()
        ui_url = self._ui.url if self._ui else None
        self._control.send({"event": "ready", "ui_url": ui_url, "ui_error": self._ui_error})
        gc.collect()
        gc.freeze()
        self._gears.run()
        self._end()
        if self._stop is not None:
            self._control.send({"id": self._stop.get("id"), "ok": True})

    def _turn(self) -> bool:
        """Read, store what is due, a step of upkeep, or sleep; False: all is read and the end was asked for."""
        ending = self._ending()
        read = self._read()
        now = time.monotonic()
        if read:
            self._heard = now
        if ending or self._due(now):
            self._flush(now)
        if now >= self._ui_due and not ending:
            self._ui_due = float("inf")
            self._start_ui()
        if read:
            self._idle = 0
            if now - self._chored >= CHORE_S or self._at_ease():
                self._chore()
                self._chored = now
            if now < self._deadline:
                return True
        if ending:
            return False
        if self._chore():
            return True
        if not self._reader.wait(QUIET_S if self._waiting() else IDLE_S):
            self._idle += 1
            if self._idle == 4:
                quiet.trim_memory()
        return True

    def _chore(self) -> bool:
        """One step of what commands ask, or of upkeep, where one is due: between records, never instead of them."""
        if self._desk is not None and self._desk.step():
            return True
        if self._chores is None:
            return False
        if next(self._chores, _DONE) is _DONE:
            self._chores = None
            return False
        return True

    def _at_ease(self) -> bool:
        """Somebody waits at the desk, and the ring is nearly empty."""
        return self._desk is not None and self._desk.busy and self._reader.unread_bytes * EASY < self._reader.size

    def _ending(self) -> bool:
        """Asked before each read: what was written before the end was asked for is then read for certain."""
        if self._stop is None and not self._orphaned:
            return False
        self._gears.hurry()
        return True

    def _read(self) -> bool:
        observer = self._observer
        observer.mark = self._reader.position
        events = self._reader.read(READ_BYTES)
        for event in events:
            try:
                records = observer.feed(*event)
            except Exception as error:  # one exchange's record is lost, never the observer
                self._errors += 1
                observer.discard(event[1])
                self._warn(f"an exchange could not be recorded: {type(error).__name__} in {_place(error)}")
                continue
            for record in records:
                self._batch.append(record)
                self._batch_bytes += weight(record)
                if isinstance(record, Exchange) and record.state is not None:
                    self._metrics.count(record)
                    if self._log_requests:
                        self._log_request(record)
            if self._batch_bytes > BATCH_BYTES:
                self._store()
        if not self._reader.unread_bytes:
            self._caught_up = time.monotonic()
        self._metrics.gaps(self._gaps)
        return bool(events)

    def _log_request(self, exchange: Exchange) -> None:
        self._control.log(
            "info",
            "request",
            id=exchange.id,
            method=exchange.method,
            path=self._redactor.target(exchange.target.partition("?")[0])[:200],
            status=exchange.status,
            state=exchange.state.value if exchange.state else None,
            provider=exchange.provider,
            duration_ms=exchange.timings.done,
        )

    def _store(self) -> None:
        self._batch += self._observer.progress()
        # nothing that is given to a store has not gone through here
        batch, self._batch, self._batch_bytes = self._redactor.records(settled(self._batch)), [], 0
        if self._redactor.failed >= 2 * self._unredacted + 1:
            self._unredacted = self._redactor.failed
            self._warn(
                f"{self._unredacted} texts could not be looked through for what must not be kept; "
                "[REDACTION FAILED] stands in their place (counted in /metrics)"
            )
        for sink in self._sinks:
            sink.write(batch)

    def _waiting(self) -> bool:
        return bool(self._batch) or self._observer.news or not self._clear()

    def _clear(self) -> bool:
        return all(sink.clear for sink in self._sinks)

    def _due(self, now: float) -> bool:
        """Whether what waits is to be stored now."""
        since = now - self._flushed
        if since >= COMMIT_S or self._batch_bytes > BATCH_BYTES:
            return True
        quiet = now - self._heard >= QUIET_S
        return since >= QUIET_S and (quiet or (self._reader.position - self._stored) * PILED > self._reader.size)

    def _flush(self, now: float) -> None:
        """Commit, then give back the ring's space that is no longer needed."""
        self._flushed, self._stored = now, self._reader.position
        # what the relay would drop for want of room counts for more than its caches
        self._aside.keep_off(None if self._reader.unread_bytes * 2 > self._reader.size else self._reader.core)
        if self._waiting():
            self._store()
        if self._reader.used_bytes * 2 > self._reader.size:
            # the relay's room counts for more than what a killed observer would lose
            self._observer.unpin()
            self._reader.release(None)
        elif self._clear():
            keep = self._observer.keep_from()
            self._reader.release(self._reader.position if keep is None else keep)
        self._open_desk()
        since = now - self._tended
        if since >= TEND_S or not self._tended or (since >= OVERFULL_S and self._overfull()):
            self._tended = now
            self._chores = itertools.chain.from_iterable(sink.tend(self._clock.now()) for sink in self._sinks)
        dropped = self._reader.counters()["tap_dropped_events_total"]
        if dropped != self._dropped:
            self._dropped = dropped
            self._warn("the tap's ring was full: recorded bodies are incomplete (counted in /metrics)")

    def _overfull(self) -> bool:
        return self._chores is None and any(sink.store.overfull for sink in self._sinks)

    def _end(self) -> None:
        why = ORPHANED if self._orphaned else LEFT_OPEN
        self._batch += self._observer.interrupt(why)
        self._store()
        if self._desk is not None:
            self._desk.close()
        for sink in self._sinks:
            sink.flush()
            sink.store.close()
        self._reader.release(None)
        if self._ui is not None:
            self._ui.stop()


def _place(error: Exception) -> str:
    """File and line of the fault: says where, and nothing of what was being recorded."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="lunaroute.observe.worker")
    for name in ("--ring", "--wake", "--control"):
        parser.add_argument(name, type=int, required=True)
    given: Any = parser.parse_args(arguments)
    os.umask(0o077)
    # Ctrl-C and a service manager's TERM go to whole groups: the relay decides when its observer ends, or hangs up
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    quiet.tune_memory()
    quiet.yield_session()
    control = Control(socket.socket(fileno=given.control), time.monotonic)
    start = control.receive()
    if start is None or start.get("cmd") != "start":
        return 2
    worker = Worker(Reader(given.ring, given.wake), given.wake, control, start)
    worker.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
