"""The logs that Claude Code and Codex keep for themselves, as exchanges. Must not know where the exchanges go.

Neither log holds requests: it holds what was said. So an exchange is made of an answer and of what was new before it;
its bodies are written by us in the dialect's form, hold only what was new, and are marked as altered. Ids are digests
of the vendor's answer ids (or of the place in the log), so that a second import, or a log that repeats another, adds
nothing.

The figures are those of the last line that tells them: the same answer stands in several lines, and snapshots are no
parts. Clients' own error messages are no answers of a model and have no figures.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from lunaroute import dialects
from lunaroute.dialects.canonical import Conversation, conversation
from lunaroute.dialects.request import first_words
from lunaroute.dialects.values import clean, dumps, items, loads, mapping, text, whole
from lunaroute.records import Exchange, State, Text, Timings, ToolCall, ToolResult
from lunaroute.stores.importing import nanoseconds, stamp
from lunaroute.stores.reading import Trouble, numbered

CLAUDE, CODEX = "claude-code-log", "codex-log"
OnTrouble = Callable[[Trouble], None]
Json = dict[str, Any]
_PLAIN_ID = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
_EXIT = re.compile(r"(?:exited with code |[Ee]xit code:? |\"exit_code\": ?)(-?\d{1,6})\b")
_LOOK = 50  # lines in which a log must show whose it is
_OPEN = 8  # answers that may still get lines
_NS = 1_000_000_000


class Log(msgspec.Struct, frozen=True):
    """Whose log a file is, and which session it tells of (as the proxy would name it)."""

    kind: str
    session_id: str


def log_of(path: Path) -> Log | None:
    """What the first lines say; None for a file of somebody else. Reads no more than it must."""
    for number, line in enumerate(_objects(path, lambda trouble: None)):
        if number >= _LOOK:
            break
        if line.get("type") == "session_meta" and (meta := mapping(line.get("payload"))):
            thread = text(meta.get("id")) or text(meta.get("session_id"))
            return Log(CODEX, _plain(thread)) if thread else None
        session = text(line.get("sessionId"))
        if session and ("message" in line or "uuid" in line):
            agent = text(line.get("agentId"))
            return Log(CLAUDE, _plain(f"{session}-{agent}" if agent else session))
    return None


def logs_below(folder: Path) -> Iterator[tuple[Path, Log]]:
    """The logs of both programs in a folder (`~/.claude/projects`, `~/.codex/sessions`) or a file, by name."""
    for path in sorted(folder.rglob("*.jsonl")) if folder.is_dir() else [folder]:
        if path.is_file() and (log := log_of(path)) is not None:
            yield path, log


def exchanges_of(path: Path, on_trouble: OnTrouble = lambda trouble: None) -> Iterator[Exchange]:
    """The exchanges of one log, in order; none where it is no log of the two."""
    log = log_of(path)
    if log is None:
        return
    reading = _Claude(log.session_id) if log.kind == CLAUDE else _Codex(log.session_id)
    for line in _objects(path, on_trouble):
        yield from reading.line(line)
    yield from reading.rest()


def _objects(path: Path, on_trouble: OnTrouble) -> Iterator[Json]:
    for each in numbered(path):
        if isinstance(each, Trouble):
            on_trouble(each)
            continue
        value = loads(each[1])
        if isinstance(value, dict):
            yield value
        else:
            on_trouble(Trouble(str(path), each[0], "it is not one JSON object"))


def _plain(ident: str) -> str:
    """The proxy's own rule for ids that name files (observe/sessions.py)."""
    if _PLAIN_ID.match(ident):
        return ident
    return hashlib.blake2b(f"\0{ident}".encode("utf-8", "replace"), digest_size=16).hexdigest()


def _ident(*parts: str) -> str:
    return "log-" + hashlib.blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=16).hexdigest()


def _moment(value: Any) -> int | None:
    """Nanoseconds of an ISO time."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        moment = datetime.fromisoformat(value)
        ns = nanoseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None
    return ns if 0 <= ns < 250_000_000_000 * _NS else None


class _Round(msgspec.Struct, kw_only=True):
    """An answer, and what was new before it."""

    ident: str
    asked: list[Json]
    started_ns: int | None
    ended_ns: int | None = None
    answer: Json = {}
    said: list[Json] = []
    usage: Json | None = None
    model_asked: str | None = None
    error: str | None = None
    kind: str = "turn"


class _Log:
    """What both have in common: facts of the session, and how an exchange is made of a round."""

    signal = ""
    client = ""
    provider = ""
    dialect = ""
    target = ""

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._parent: str | None = None
        self._project: str | None = None
        self._version: str | None = None
        self._title: str | None = None
        self._sequence = 0

    def line(self, line: Json) -> Iterator[Exchange]:
        raise NotImplementedError

    def rest(self) -> Iterator[Exchange]:
        raise NotImplementedError

    def _bodies(self, done: _Round) -> tuple[Json, Json]:
        raise NotImplementedError

    def _exchange(self, done: _Round) -> Iterator[Exchange]:
        started = done.started_ns if done.started_ns is not None else done.ended_ns
        if started is None:
            return  # a line without a time is none of the program's
        asked, answered = (dumps(body).encode("utf-8", "replace") for body in self._bodies(done))
        reader = dialects.reader(self.dialect)
        reader.feed(answered)
        facts = reader.finish()
        took = None if done.ended_ns is None else max(0.0, (done.ended_ns - started) / 1e6)
        self._title = self._title or first_words(asked)
        self._sequence += 1
        exchange = Exchange(
            id=done.ident, session_id=self._session_id, sequence=self._sequence, started_at=stamp(started),
            started_ns=started, signal=self.signal, parent_session_id=self._parent, title=self._title,
            project=self._project, state=State.UPSTREAM_ERROR if done.error else State.OK, error=done.error,
            method="POST", target=self.target, provider=self.provider, dialect=self.dialect, client=self.client,
            client_version=self._version, transport="import", kind=done.kind, model_requested=done.model_asked,
            timings=Timings(done=took), request_body=asked, response_body=answered,
            request_altered=True, response_altered=True,
        )  # fmt: skip
        if not done.error:
            exchange.model_used = facts.model
            exchange.stop_reason = facts.stop_reason
            exchange.response_id = facts.response_id
            if done.usage is not None:
                exchange.usage = facts.usage
        _words(exchange, conversation(self.dialect, asked, answered))
        yield exchange


def _words(exchange: Exchange, talk: Conversation) -> None:
    """Texts, tool calls and tool results: a round's request holds nothing but what was new."""
    for message in talk.messages:
        for block in message.blocks:
            if block.kind == "tool_result" and block.call_id:
                said = clean(block.text)
                exchange.tool_results.append(
                    ToolResult(
                        id=block.call_id, text=said, result_bytes=len(said.encode()),
                        success=_success(block.is_error, said), seen_ns=exchange.started_ns,
                    )
                )  # fmt: skip
                exchange.texts.append(Text(kind="tool_result", text=said))
            elif block.kind == "text" and message.role == "user" and block.text.strip():
                exchange.texts.append(Text(kind="prompt", text=clean(block.text)))
    if exchange.error:
        return
    for number, block in enumerate(talk.answer.blocks if talk.answer else [], start=1):
        if block.kind == "tool_call" and block.name:
            arguments = clean(block.arguments or "")
            took = int((exchange.timings.done or 0.0) * 1e6)
            exchange.tool_calls.append(
                ToolCall(
                    id=block.call_id or f"{exchange.id}-t{number}", name=block.name, arguments=arguments,
                    arguments_bytes=len(arguments.encode()), called_ns=exchange.started_ns + took,
                )
            )  # fmt: skip
            exchange.texts.append(Text(kind="tool_call", text=arguments))
        elif block.kind in ("text", "thinking") and block.text.strip():
            kind = "thinking" if block.kind == "thinking" else "answer"
            exchange.texts.append(Text(kind=kind, text=clean(block.text)))


def _success(is_error: bool | None, said: str) -> bool | None:
    """By the protocol's flag, or by the exit code that the program wrote."""
    if is_error is not None:
        return not is_error
    match = _EXIT.search(said[:400])
    return int(match[1]) == 0 if match else None


# --- Claude Code ------------------------------------------------------------------------------------
class _Claude(_Log):
    """Lines of type user and assistant; one answer stands in several lines, a block each or as a growing whole."""

    signal, client, provider, dialect, target = CLAUDE, "claude-code", "anthropic", "anthropic", "/v1/messages"

    def __init__(self, session_id: str) -> None:
        super().__init__(session_id)
        self._asked: list[Json] = []
        self._asked_ns: int | None = None
        self._sent: dict[str, int] = {}
        self._open: OrderedDict[str, _Round] = OrderedDict()
        self._done: set[str] = set()

    def line(self, line: Json) -> Iterator[Exchange]:
        kind = line.get("type")
        at = _moment(line.get("timestamp"))
        if kind == "api-request" and at is not None and (ref := text(line.get("id"))):
            self._sent = {ref: at}  # the one that the next answer refers to
            return
        message = mapping(line.get("message"))
        if kind not in ("user", "assistant") or not message or line.get("isVisibleInTranscriptOnly") is True:
            return
        self._facts(line)
        if kind == "user":
            self._asked.append({"role": "user", "content": message.get("content")})
            self._asked_ns = at if at is not None else self._asked_ns
            return
        yield from self._answer(line, message, at)

    def _facts(self, line: Json) -> None:
        self._project = self._project or text(line.get("cwd"), 4096)
        self._version = text(line.get("version")) or self._version
        session = text(line.get("sessionId"))
        if session and text(line.get("agentId")):
            self._parent = _plain(session)

    def _answer(self, line: Json, message: Json, at: int | None) -> Iterator[Exchange]:
        failed = line.get("isApiErrorMessage") is True
        if message.get("model") == "<synthetic>" and not failed:
            return  # words of the program itself
        named = text(message.get("id")) if not failed else None
        place = text(line.get("uuid")) or f"{self._session_id} {line.get('timestamp')}"
        ident = _ident(CLAUDE, named, text(line.get("requestId")) or "") if named else _ident(CLAUDE, place)
        if ident in self._done:
            return  # a log that was copied into this one
        found = self._open.get(ident)
        if found is None:
            sent = self._sent.get(text(line.get("requestRef")) or "", self._asked_ns)
            found = _Round(ident=ident, asked=self._asked, started_ns=sent)
            self._open[ident] = found
            self._asked, self._asked_ns = [], None
            if len(self._open) > _OPEN:
                yield from self._finish(next(iter(self._open)))
        found.ended_ns = at if at is not None else found.ended_ns
        found.answer = message
        found.said = _grown(found.said, items(message.get("content")))
        found.usage = mapping(message.get("usage")) or found.usage
        found.model_asked = text(line.get("requestedModel")) or found.model_asked or text(message.get("model"))
        if failed:
            words = (mapping(block).get("text") for block in items(message.get("content")))
            said = " ".join(word for word in words if isinstance(word, str))
            found.error = clean(said, 2000) or text(line.get("error")) or "the request failed"
            found.model_asked, found.usage = text(line.get("requestedModel")), None

    def rest(self) -> Iterator[Exchange]:
        for ident in list(self._open):
            yield from self._finish(ident)

    def _finish(self, ident: str) -> Iterator[Exchange]:
        self._done.add(ident)
        yield from self._exchange(self._open.pop(ident))

    def _bodies(self, done: _Round) -> tuple[Json, Json]:
        answer: Json = {"type": "message", "role": "assistant"} | done.answer | {"content": done.said}
        if done.usage is not None:
            answer["usage"] = done.usage
        return {"model": done.model_asked, "messages": done.asked}, answer


def _grown(known: list[Json], told: list[Any]) -> list[Json]:
    """The blocks of an answer after another line of it: one more block, or all of them again and further on."""
    fresh = [block for block in told if isinstance(block, dict)]
    same = sum(1 for old, new in zip(known, fresh, strict=False) if _continues(old, new))
    if known and same == len(known):
        return fresh
    return known + [block for block in fresh if block not in known]


def _continues(old: Json, new: Json) -> bool:
    """Whether a block is an earlier one, grown."""
    if old.get("type") != new.get("type"):
        return False
    if old.get("type") in ("text", "thinking"):
        before, now = old.get(old["type"]), new.get(old["type"])
        return isinstance(before, str) and isinstance(now, str) and now.startswith(before)
    return old.get("id") == new.get("id") and old.get("id") is not None


# --- Codex ------------------------------------------------------------------------------------------
_SAID = ("reasoning", "function_call", "custom_tool_call", "local_shell_call", "web_search_call", "tool_search_call")


class _Codex(_Log):
    """Items in the order in which they came; a round ends where something new is said after figures or tool results.

    Figures: `token_usage_record` names its answer; the older `token_count` may be told again unchanged, and before or
    after the items that it counts. Where it comes before, each call of one answer is followed by its own result.
    """

    signal, client, provider, dialect, target = CODEX, "codex", "openai", "responses", "/v1/responses"

    def __init__(self, session_id: str) -> None:
        super().__init__(session_id)
        self._asked: list[Json] = []
        self._asked_ns: int | None = None
        self._round: _Round | None = None
        self._response_id: str | None = None
        self._early: Json | None = None
        self._counted_early = False
        self._total: Any = None
        self._model: str | None = None
        self._begun = False
        self._recorded = False

    def line(self, line: Json) -> Iterator[Exchange]:
        kind, payload = line.get("type"), mapping(line.get("payload"))
        at = _moment(line.get("timestamp"))
        if kind == "session_meta" and not self._begun:
            self._begun = True  # a fork repeats the one of its origin
            self._meta(payload)
        elif kind == "turn_context":
            self._model = text(payload.get("model")) or self._model
            self._project = self._project or text(payload.get("cwd"), 4096)
        elif kind == "response_item":
            yield from self._item(payload, at)
        elif kind == "token_usage_record":
            self._recorded = True
            self._figures(mapping(payload.get("usage")), text(payload.get("response_id")))
        elif kind == "event_msg" and payload.get("type") == "token_count" and not self._recorded:
            info = mapping(payload.get("info"))
            if info and info.get("total_token_usage") != self._total:
                self._total = info.get("total_token_usage")
                self._figures(mapping(info.get("last_token_usage")), None)

    def _meta(self, meta: Json) -> None:
        self._project = text(meta.get("cwd"), 4096)
        self._version = text(meta.get("cli_version"))
        spawned = mapping(mapping(mapping(meta.get("source")).get("subagent")).get("thread_spawn"))
        parent = text(spawned.get("parent_thread_id")) or text(meta.get("session_id"))
        if parent and _plain(parent) != self._session_id:
            self._parent = _plain(parent)

    def _item(self, item: Json, at: int | None) -> Iterator[Exchange]:
        told = {name: value for name, value in item.items() if name != "internal_chat_message_metadata_passthrough"}
        if item.get("type") in _SAID or (item.get("type") == "message" and item.get("role") == "assistant"):
            if self._round is not None and self._ended():
                yield from self.rest()
            if self._round is None:
                self._round = _Round(ident="", asked=self._asked, started_ns=self._asked_ns, model_asked=self._model)
                self._asked, self._asked_ns = [], None
                self._counted_early = self._early is not None
                self._round.usage, self._early = self._early, None
            self._round.said.append(told)
            self._round.ended_ns = at if at is not None else self._round.ended_ns
        elif item.get("type"):
            self._asked.append(told)
            self._asked_ns = at if at is not None else self._asked_ns

    def _ended(self) -> bool:
        """Whether what is said now belongs to another answer than what was said last."""
        if self._response_id or not self._asked:
            return self._response_id is not None
        results_only = all(str(item.get("type")).endswith("_output") for item in self._asked)
        return not (self._counted_early and self._early is None and results_only)

    def _figures(self, usage: Json, response_id: str | None) -> None:
        if not usage:
            return
        if response_id is not None:
            # of the answer whose items have just come
            if self._round is not None:
                self._round.usage, self._response_id = usage, response_id
            return
        if self._round is None or self._round.usage not in (None, usage):
            self._early = usage
        else:
            self._round.usage = usage

    def rest(self) -> Iterator[Exchange]:
        done, self._round = self._round, None
        named, self._response_id = self._response_id, None
        if done is None:
            return
        place = f"{self._session_id} {self._sequence} {done.started_ns} {done.ended_ns}"
        done.ident = _ident(CODEX, named) if named else _ident(CODEX, place)
        done.answer = {"id": named} if named else {}
        yield from self._exchange(done)

    def _bodies(self, done: _Round) -> tuple[Json, Json]:
        answer: Json = {"object": "response", "status": "completed", "model": done.model_asked, "output": done.said}
        usage = done.usage or {}
        if done.usage is not None:
            answer["usage"] = {
                "input_tokens": whole(usage.get("input_tokens")),
                "input_tokens_details": _set(
                    cached_tokens=whole(usage.get("cached_input_tokens")),
                    cache_write_tokens=whole(usage.get("cache_write_input_tokens")),
                ),
                "output_tokens": whole(usage.get("output_tokens")),
                "output_tokens_details": _set(reasoning_tokens=whole(usage.get("reasoning_output_tokens"))),
                "total_tokens": whole(usage.get("total_tokens")),
            }
        return {"model": done.model_asked, "input": done.asked}, done.answer | answer


def _set(**values: int | None) -> Json:
    return {name: value for name, value in values.items() if value is not None}
