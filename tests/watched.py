"""Traffic through a real server that moves every family of /metrics, and which family each piece of it moves.

Each function of TRAFFIC is one way of using or hurting the server, and says by its name in FAMILIES what it must move.
Scrapes are made at the web UI's port, so that they move nothing of the relay's themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import random
import signal
import sqlite3
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import trustme
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect

from tests.fakes import Request, Upstream, Wire
from tests.faults import Gate
from tests.running import PATIENCE, Running, nobody, processes_of

Json = dict[str, Any]
Scrape = dict[str, dict[tuple[tuple[str, str], ...], float]]
KEY = {"x-api-key": "sk-ant-dummy-0000000", "content-type": "application/json"}
SSE = ("Content-Type", "text/event-stream")
QUOTA = [
    ("anthropic-ratelimit-unified-5h-utilization", "0.42"),
    ("anthropic-ratelimit-unified-5h-reset", str(int(time.time()) + 7200)),
]
BUSY = ("requests_in_flight", "observer_open_exchanges", "observer_lag_bytes", "store_waiting_bytes")
MB = 1 << 20
LONG = 4 * PATIENCE  # the observer runs when nobody else wants to, and has much to read here
BIG = random.Random(1).randbytes(MB // 2 - 512).hex()  # nearly 1 MB, and nothing makes it smaller than half

# --- family: the traffic that moves it -------------------------------------------------------------------------------
FAMILIES = {
    "lunaroute_build_info": "start",
    "lunaroute_start_time_seconds": "start",
    "lunaroute_requests": "turn",
    "lunaroute_request_bytes": "turn",
    "lunaroute_response_bytes": "turn",
    "lunaroute_request_duration_seconds": "turn",
    "lunaroute_time_to_first_byte_seconds": "turn",
    "lunaroute_time_to_first_content_seconds": "turn",
    "lunaroute_piece_gap_seconds": "turn",
    "lunaroute_proxy_overhead_seconds": "turn",
    "lunaroute_streams": "turn",
    "lunaroute_tokens": "turn",
    "lunaroute_cost_usd": "turn",
    "lunaroute_tool_calls": "turn",
    "lunaroute_quota_used_ratio": "turn",
    "lunaroute_quota_reset_timestamp_seconds": "turn",
    "lunaroute_attempts": "turn",
    "lunaroute_connections": "turn",
    "lunaroute_relay_requests": "turn",
    "lunaroute_relay_responses": "turn",
    "lunaroute_tap_events": "turn",
    "lunaroute_upstream_connects": "turn",
    "lunaroute_upstream_connections_open": "turn",
    "lunaroute_upstream_connections_idle": "turn",
    "lunaroute_upstream_connect_seconds": "turn",
    "lunaroute_store_size_bytes": "turn",
    "lunaroute_tool_failures": "tool_result",
    "lunaroute_tool_duration_seconds": "tool_result",
    "lunaroute_upstream_reuses": "tool_result",
    "lunaroute_cost_unknown": "unpriced_model",
    "lunaroute_redacted_values": "secret",
    "lunaroute_requests_in_flight": "running",
    "lunaroute_connections_open": "running",
    "lunaroute_observer_open_exchanges": "running",
    "lunaroute_client_aborts": "client_that_leaves",
    "lunaroute_stream_cuts": "stream_that_breaks_off",
    "lunaroute_rate_limit_events": "rate_limit",
    "lunaroute_tunnels": "websocket",
    "lunaroute_tunnels_open": "websocket",
    "lunaroute_websocket_turns": "websocket",
    "lunaroute_upstream_tls_seconds": "websocket",
    "lunaroute_upstream_connect_failures": "provider_that_is_down",
    "lunaroute_upstream_connect_retries": "provider_that_is_down",
    "lunaroute_rejected_requests": "foreign_host",
    "lunaroute_retention_removed": "too_much_to_keep",
    "lunaroute_observer_restarts": "killed_observer",
    "lunaroute_store_ok": "locked_database",
    "lunaroute_store_errors": "locked_database",
    "lunaroute_store_waiting_bytes": "locked_database",
    "lunaroute_store_lost_exchanges": "locked_database",
    "lunaroute_tap_dropped_events": "stopped_observer",
    "lunaroute_tap_dropped_bytes": "stopped_observer",
    "lunaroute_tap_dropped_exchanges": "stopped_observer",
    "lunaroute_observer_lag_bytes": "stopped_observer",
    "lunaroute_observer_lag_seconds": "stopped_observer",
}
# nothing that passes moves it: tests/test_redaction.py puts a fault into the redactor
BY_FAULT = {"lunaroute_redaction_failures"}


def parsed(text: str) -> Scrape:
    """Families of a scrape, each with its samples."""
    found: Scrape = {}
    for family in text_string_to_metric_families(text):
        samples = found.setdefault(family.name, {})
        for sample in family.samples:
            samples[("__name__", sample.name), *sorted(sample.labels.items())] = sample.value
    return found


# --- the providers ---------------------------------------------------------------------------------------------------
def event(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


def begin(model: str) -> bytes:
    usage = {"input_tokens": 20, "cache_read_input_tokens": 300, "output_tokens": 1}
    message = {"id": "msg_1", "role": "assistant", "model": model, "content": [], "usage": usage}
    return event("message_start", message=message)


def block(start: Json, delta: Json) -> bytes:
    return (
        event("content_block_start", index=0, content_block=start)
        + event("content_block_delta", index=0, delta=delta)
        + event("content_block_stop", index=0)
    )


TEXT = block({"type": "text", "text": ""}, {"type": "text_delta", "text": "Hello"})
TOOL = block(
    {"type": "tool_use", "id": "toolu_long_enough", "name": "Bash", "input": {}},
    {"type": "input_json_delta", "partial_json": '{"command":"make"}'},
)
END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 40}) + event("message_stop")


class Provider:
    """Answers by the model that is asked for."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.calls = 0

    async def __call__(self, request: Request, wire: Wire) -> None:
        if request.header("upgrade"):
            await self._tunnel(wire)
            return
        body = await wire.body()
        model = json.loads(body)["model"]
        if model == "limited":
            error = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}
            await wire.answer(429, [("Content-Type", "application/json")], json.dumps(error).encode())
            return
        await wire.head(200, [SSE, *QUOTA, ("Transfer-Encoding", "chunked")])
        await wire.chunk(begin("claude-opus-5-5" if model in ("held", "broken") else model))
        if model == "held":
            await self.gate.passed()
        self.calls += 1
        for piece in (TEXT, TOOL.replace(b"enough", b"enough_%d" % self.calls), END):
            if model == "broken":
                wire.close()
                return
            await asyncio.sleep(0.002)  # pieces that are apart
            await wire.chunk(piece)
        await wire.send(b"0\r\n\r\n")

    async def _tunnel(self, wire: Wire) -> None:
        opened = await wire.websocket()
        while await opened.receive() is not None:
            usage = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}
            done = {"id": "resp_1", "model": "gpt-5.5", "status": "completed", "output": [], "usage": usage}
            for kind in ("response.created", "response.completed"):
                await opened.send(json.dumps({"type": kind, "response": done}))


# --- the traffic -----------------------------------------------------------------------------------------------------
class Watched:
    """A server with two providers (one by TLS, one of whose addresses nobody listens at), and its last scrape."""

    def __init__(self, folder: Path) -> None:
        self.provider = Provider()
        authority = trustme.CA()
        context = server_side(authority)
        (folder / "ca.pem").write_bytes(authority.cert_pem.bytes())
        self.plain, self.tls = Upstream(self.provider), Upstream(self.provider, context)
        self._folder = folder
        self.moved: dict[str, set[str]] = {}
        self.before: Scrape = {}

    @contextlib.contextmanager
    def running(self) -> Iterator[Watched]:
        with self.plain, self.tls, nobody() as down:
            openai = {
                "base_url": f"{self.tls.url}/v1",
                "ca_file": str(self._folder / "ca.pem"),
                "chatgpt_base_url": f"http://127.0.0.1:{down}/backend-api/codex",
                "http_client": {"max_retries": 2},
            }
            small = {store: {"retention": {"max_size_mb": 1}} for store in ("sqlite", "jsonl")}
            extra = {"providers": {"openai": openai}, "session_recording": {**small, "capture_limit_mb": 1}}
            self.luna = Running(self._folder / "luna", self.plain.url, extra)
            self.luna.start()
            try:
                yield self
            finally:
                self.provider.gate.open()
                self.luna.stop()

    def scrape(self) -> Scrape:
        """What the UI's port shows; nothing while there is no observer."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, text = self.luna.get("/metrics", self.luna.ui_url)
            if status == 200:
                return parsed(text.decode())
        return {}

    def go(self, name: str, traffic: Callable[[Watched], Iterator[set[str]]]) -> None:
        """Some traffic, and what it moved: it pauses where families must have moved already; at its end, all must."""
        wanted = {family for family, by in FAMILIES.items() if by == name}
        self.moved[name] = set()
        self.before = self.settled()
        for shown in traffic(self):
            self._look(name, {f"lunaroute_{family}" for family in shown})
        self._look(name, wanted)

    def again(self, *traffic: Callable[[Watched], Iterator[set[str]]]) -> None:
        """The same once more: a rate needs two values."""
        self.settled()
        for each in traffic:
            for _ in each(self):
                pass
        self.settled()

    def _look(self, name: str, wanted: set[str]) -> None:
        deadline = time.monotonic() + LONG
        while True:
            now = self.scrape()
            self.moved[name] |= {family for family, samples in now.items() if changed(self.before, family, samples)}
            if wanted <= self.moved[name] or time.monotonic() > deadline:
                return
            time.sleep(0.02)

    def settled(self) -> Scrape:
        """A scrape with nothing under way."""
        deadline = time.monotonic() + LONG
        while True:
            now = self.scrape()
            busy = {name for name in BUSY if not now or any(now[f"lunaroute_{name}"].values())}
            if not busy:
                return now
            assert time.monotonic() < deadline, (busy, self.luna.log())
            time.sleep(0.02)

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.luna.port, timeout=PATIENCE)

    def ask(self, model: str = "claude-opus-5-5", *messages: Json, path: str = "/v1/messages", **headers: str) -> int:
        """One request, its whole answer taken; the status."""
        said = list(messages) or [{"role": "user", "content": "hello"}]
        body = json.dumps({"model": model, "max_tokens": 10, "stream": True, "messages": said})
        connection = self.connection()
        try:
            connection.request("POST", path, body, {**KEY, **headers})
            answer = connection.getresponse()
            with contextlib.suppress(http.client.IncompleteRead):
                answer.read()
            return answer.status
        finally:
            connection.close()

    @property
    def observer(self) -> int:
        assert self.luna.process is not None
        return processes_of(self.luna.process.pid)[1]


def server_side(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def changed(before: Scrape, family: str, samples: dict[Any, float]) -> bool:
    return any(value != before.get(family, {}).get(key, 0.0) for key, value in samples.items())


def start(watched: Watched) -> Iterator[set[str]]:
    watched.before = {}
    yield set()


def killed_observer(watched: Watched) -> Iterator[set[str]]:
    os.kill(watched.observer, signal.SIGKILL)
    yield set()


HELLO = {"role": "user", "content": "Why does the build fail?"}


def turn(watched: Watched) -> Iterator[set[str]]:
    assert watched.ask("claude-opus-5-5", HELLO) == 200
    yield set()


def tool_result(watched: Watched) -> Iterator[set[str]]:
    """The tool that the turn before asked for."""
    ident = f"toolu_long_enough_{watched.provider.calls}"
    call = {"type": "tool_use", "id": ident, "name": "Bash", "input": {"command": "make"}}
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "No rule to make it", "is_error": True}
    said = {"type": "text", "text": "Hello"}
    history = [HELLO, {"role": "assistant", "content": [said, call]}, {"role": "user", "content": [result]}]
    assert watched.ask("claude-opus-5-5", *history) == 200
    yield set()


def unpriced_model(watched: Watched) -> Iterator[set[str]]:
    assert watched.ask("some-model-of-tomorrow") == 200
    yield set()


def secret(watched: Watched) -> Iterator[set[str]]:
    said = {"role": "user", "content": "the key is AKIAIOSFODNN7EXAMPLD"}
    assert watched.ask("claude-opus-5-5", said) == 200
    yield set()


def running(watched: Watched) -> Iterator[set[str]]:
    connection = watched.connection()
    connection.request("POST", "/v1/messages", json.dumps({"model": "held", "messages": [HELLO]}), KEY)
    answer = connection.getresponse()
    yield {"requests_in_flight", "connections_open", "observer_open_exchanges"}
    watched.provider.gate.open()
    answer.read()
    connection.close()


def client_that_leaves(watched: Watched) -> Iterator[set[str]]:
    watched.provider.gate = Gate()
    connection = watched.connection()
    connection.request("POST", "/v1/messages", json.dumps({"model": "held", "messages": [HELLO]}), KEY)
    answer = connection.getresponse()
    answer.read(10)
    answer.close()
    connection.close()
    yield set()
    watched.provider.gate.open()


def stream_that_breaks_off(watched: Watched) -> Iterator[set[str]]:
    assert watched.ask("broken") == 200
    yield set()


def rate_limit(watched: Watched) -> Iterator[set[str]]:
    assert watched.ask("limited") == 429
    yield set()


def websocket(watched: Watched) -> Iterator[set[str]]:
    url, key = f"ws://127.0.0.1:{watched.luna.port}/v1/responses", {"Authorization": "Bearer sk-proj-dummy"}
    with connect(url, additional_headers=key, proxy=None) as tunnel:
        tunnel.send(json.dumps({"type": "response.create", "model": "gpt-5.5", "input": []}))
        while json.loads(tunnel.recv(PATIENCE))["type"] != "response.completed":
            pass
        yield {"tunnels_open", "websocket_turns"}


def provider_that_is_down(watched: Watched) -> Iterator[set[str]]:
    login = {"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30.x", "chatgpt-account-id": "acc-1", "x-api-key": ""}
    assert watched.ask("gpt-5.5", path="/v1/responses", **login) == 502
    yield set()


def foreign_host(watched: Watched) -> Iterator[set[str]]:
    assert watched.ask(Host="evil.example") == 421
    yield set()


def too_much_to_keep(watched: Watched) -> Iterator[set[str]]:
    """More than 1 MiB in both stores, and a start after which they are looked at."""
    for number in range(4):
        assert watched.ask("claude-opus-5-5", {"role": "user", "content": BIG[number:] + BIG[:number]}) == 200
    watched.luna.stop()
    watched.luna.start()
    yield set()


def locked_database(watched: Watched) -> Iterator[set[str]]:
    """Until more waits than may (16 MiB)."""
    database = sqlite3.connect(watched.luna.data / "sessions.db", isolation_level=None)
    try:
        database.execute("BEGIN IMMEDIATE")
        for _ in range(20):
            assert watched.ask("claude-opus-5-5", {"role": "user", "content": BIG}) == 200
        yield {"store_ok", "store_errors", "store_waiting_bytes", "store_lost_exchanges"}
    finally:
        database.close()


def stopped_observer(watched: Watched) -> Iterator[set[str]]:
    """Until the ring of 64 MiB is full, even for beginnings (which may take more of it than bodies)."""
    observer = watched.observer
    os.kill(observer, signal.SIGSTOP)
    try:
        body = [{"role": "user", "content": BIG * 8}]
        for _ in range(8):
            watched.ask("limited", *body)
        for _ in range(150):
            watched.ask("limited", **{"X-Long": "x" * 60_000})
    finally:
        os.kill(observer, signal.SIGCONT)
    yield set()


# in this order: a new observer begins to count anew
TRAFFIC = (
    *(start, too_much_to_keep, killed_observer, turn, tool_result, unpriced_model, secret, running),
    client_that_leaves,
    *(stream_that_breaks_off, rate_limit, websocket, provider_that_is_down, foreign_host, locked_database),
    stopped_observer,
)
