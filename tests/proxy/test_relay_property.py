"""Properties of the relay: any legal message with any cuts arrives equal; no bytes at all make it fail or desync.

The bytes go straight into the protocol objects, so that each cut is exactly where hypothesis put it; what they write
goes over real sockets to the peers. The oracle below is plain Python over lists of lines; h11 is the third opinion.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NamedTuple

import h11
import pytest
import uvloop
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lunaroute import tap
from tests import peers
from tests.peers import KEY, Peer, Proxy, Upstream, answers_in, get, post, requests_in
from tests.proxy.test_framing import ANSWERS, REQUESTS, answering, staged

TCHAR = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
HOP = {
    *("connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "http2-settings"),
    *("transfer-encoding", "proxy-authorization", "proxy-authenticate"),
}
SPECIAL = HOP | {
    *("host", "content-length", "expect", "origin", "sec-fetch-site"),
    *("authorization", "x-api-key", "api-key", "x-goog-api-key", "chatgpt-account-id"),
}


def examples(count: int) -> settings:
    return settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), database=None)


class World:
    """One relay and one upstream for all examples of a test."""

    def __init__(self, script: Callable[[Peer], Any] | None = None) -> None:
        self._script = script
        self.stray: list[dict[str, Any]] = []

    def __enter__(self) -> World:
        self._patience, peers.PATIENCE = peers.PATIENCE, 3.0  # many examples, and shrinking
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._runner.get_loop().set_exception_handler(lambda _, context: self.stray.append(context))
        self.run(self._open())
        return self

    def __exit__(self, *exc: object) -> None:
        self.run(self._close())
        self._runner.close()
        peers.PATIENCE = self._patience

    async def _open(self) -> None:
        self.upstream = await Upstream(self._script).__aenter__()
        self.proxy = await Proxy(self.upstream).__aenter__()

    async def _close(self) -> None:
        await self.proxy.__aexit__()
        await self.upstream.__aexit__(None)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self._runner.run(work)
        assert not self.stray, self.stray

    async def client(self) -> tuple[Peer, Any]:
        """A fresh client and the relay's object for it."""
        before = set(self.proxy.settings.live)
        peer = await self.proxy.client()
        await self.proxy.until(lambda: self.proxy.settings.live - before)
        (downstream,) = self.proxy.settings.live - before
        return peer, downstream

    async def left(self, client: Peer, downstream: Any) -> None:
        """The client goes; the relay forgets it."""
        client.close()
        await self.proxy.until(lambda: downstream not in self.proxy.settings.live)
        assert self.proxy.counter("requests_in_flight") == 0
        pools = self.proxy.plans.pools.values()
        await self.proxy.until(lambda: self.proxy.counter("upstream_idle") == sum(len(pool.idle) for pool in pools))
        assert self.proxy.counter("upstream_open") == sum(pool.opened for pool in pools)
        beginnings = [event[1] for event in self.proxy.told() if event[0] == tap.OPEN]
        assert sorted(beginnings) == sorted(close.exchange for close in self.proxy.closes()), "each record has its end"
        self.proxy.told().clear()


@pytest.fixture
def world() -> Iterator[World]:
    with World() as opened:
        yield opened


@pytest.fixture
def answering_world() -> Iterator[World]:
    with World(answering) as opened:
        yield opened


# --- legal messages ---

names = st.text(TCHAR, min_size=1, max_size=20).filter(
    lambda name: name.lower() not in SPECIAL and not name.lower().startswith("x-lunaroute-")
)
inner = st.text([chr(n) for n in (*range(0x20, 0x7F), 9, *range(0x80, 0x100))], max_size=30)
values = inner.map(lambda text: text.strip(" \t"))
blanks = st.sampled_from(["", " ", "  ", "\t", " \t "])
lines = st.builds(lambda n, a, v, b: f"{n}:{a}{v}{b}", names, blanks, values, blanks)
repeated = st.lists(lines, max_size=6).flatmap(lambda made: st.permutations([*made, *made[:1]]))
hops = st.lists(
    st.sampled_from(["Keep-Alive: timeout=5", "proxy-connection: keep-alive", "TE: trailers", "Trailer: X-T"]),
    unique=True,
)
bodies = st.one_of(st.binary(max_size=60), st.integers(60_000, 80_000).map(lambda n: (b"0123456789abcdef" * 5000)[:n]))
cuts = st.lists(st.floats(0, 1), max_size=8)


class Coding(NamedTuple):
    """How a body is framed on the way in."""

    kind: str  # none, length, chunked, close
    sizes: tuple[int, ...] = ()
    extension: str = ""
    trailer: str = ""
    upper: bool = False
    zeros: int = 0

    def apply(self, body: bytes) -> bytes:
        if self.kind != "chunked":
            return body
        out, at, number = b"", 0, 0
        while at < len(body):
            size = self.sizes[number % len(self.sizes)] if self.sizes else len(body)
            size = max(size, len(body) // 40, 1)
            part = body[at : at + size]
            digits = f"{len(part):X}" if self.upper else f"{len(part):x}"
            out += f"{'0' * self.zeros}{digits}{self.extension}\r\n".encode() + part + b"\r\n"
            at, number = at + len(part), number + 1
        return out + f"0{self.extension}\r\n{self.trailer}\r\n".encode()

    def line(self, body: bytes) -> list[str]:
        if self.kind == "chunked":
            return ["Transfer-Encoding: chunked"]
        return [f"Content-Length: {len(body)}"] if self.kind == "length" else []


chunked = st.builds(
    Coding,
    st.just("chunked"),
    st.lists(st.integers(1, 40), max_size=5).map(tuple),
    st.sampled_from(["", ";a", ";a=b", ';a="q;\\"x"', ";a=b;c"]),
    st.sampled_from(["", "X-T: 1\r\n", "X-T: 1\r\nX-U:\r\n"]),
    st.booleans(),
    st.integers(0, 3),
)
length = st.just(Coding("length"))


class Ask(NamedTuple):
    """A request as it is sent."""

    method: str
    target: str
    minor: int
    lines: list[str]
    coding: Coding
    body: bytes

    def raw(self) -> bytes:
        head = [f"{self.method} {self.target} HTTP/1.{self.minor}", *self.lines, *self.coding.line(self.body)]
        return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + self.coding.apply(self.body)

    def kept(self) -> list[bytes]:
        return [line.encode("latin-1") for line in self.lines if passed(line, self.lines)]


class Tell(NamedTuple):
    """An answer as the provider sends it."""

    interim: list[tuple[int, list[str]]]
    minor: int
    status: int
    reason: str
    lines: list[str]
    coding: Coding
    body: bytes

    def bodyless(self, method: str) -> bool:
        return method == "HEAD" or self.status in (204, 304)

    def raw(self, method: str) -> bytes:
        out = b""
        for status, fields in self.interim:
            out += ("\r\n".join([f"HTTP/1.1 {status} Wait", *fields]) + "\r\n\r\n").encode("latin-1")
        framing = [] if self.status == 204 else self.coding.line(self.body)
        head = [f"HTTP/1.{self.minor} {self.status} {self.reason}", *self.lines, *framing]
        out += ("\r\n".join(head) + "\r\n\r\n").encode("latin-1")
        return out if self.bodyless(method) else out + self.coding.apply(self.body)

    def kept(self) -> list[bytes]:
        return [line.encode("latin-1") for line in self.lines if passed(line, self.lines)]


def passed(line: str, lines: list[str]) -> bool:
    """RFC 9110 7.6.1, by hand: hop-by-hop fields and those that Connection names stay here."""
    name = line.partition(":")[0].lower()
    listed = [
        o.strip().lower() for each in lines if each.lower().startswith("connection:") for o in each[11:].split(",")
    ]
    return name not in HOP and name not in listed and name not in ("host", "content-length")


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    method = draw(st.sampled_from(["GET", "HEAD", "POST", "POST", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]))
    suffix = draw(st.text([chr(n) for n in range(0x21, 0x7F) if n != ord("#")], max_size=30))
    minor = draw(st.sampled_from([1, 1, 1, 0]))
    fields = [*draw(repeated), *draw(hops), "Host: localhost", f"x-api-key: {KEY}"]
    if fields and draw(st.booleans()):
        listed = fields[0].partition(":")[0]
        if "," not in listed and listed.lower() not in ("close", "keep-alive", "upgrade", "host", "x-api-key"):
            fields.append(f"Connection: {listed}")
    coding = draw(st.one_of(st.just(Coding("none")), length, *([chunked] if minor else [])))
    body = b"" if coding.kind == "none" else draw(bodies)
    return Ask(method, "/v1/messages" + suffix, minor, draw(st.permutations(fields)), coding, body)


@st.composite
def tells(draw: st.DrawFn) -> Tell:
    interim = draw(st.lists(st.tuples(st.sampled_from([100, 102, 103]), st.lists(lines, max_size=2)), max_size=3))
    status = draw(st.one_of(st.sampled_from([200, 200, 204, 304, 429, 500]), st.integers(200, 599)))
    reason = draw(values)
    minor = draw(st.sampled_from([1, 1, 1, 0]))
    coding = draw(st.one_of(length, st.just(Coding("close")), *([chunked] if minor else [])))
    fields = [*draw(repeated), *draw(hops), *draw(st.sampled_from([[], [], ["Connection: close"]]))]
    return Tell(interim, minor, status, reason, draw(st.permutations(fields)), coding, draw(bodies))


def pieces(data: bytes, where: list[float]) -> Iterator[bytes]:
    points = sorted({0, len(data), *(int(each * len(data)) for each in where)})
    for start, end in itertools.pairwise(points):
        yield data[start:end]


def split(raw: bytes) -> tuple[list[bytes], bytes]:
    """(lines of the first head, what is behind it)."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), rest


def lines_of(got: list[bytes]) -> list[bytes]:
    """The field lines without framing and hop-by-hop ones, as they came."""
    own = (b"host", b"content-length", b"transfer-encoding", b"connection")
    return [line for line in got[1:] if line.partition(b":")[0].lower() not in own]


async def answered(client: Peer, start: int, method: str, interim: int) -> tuple[list[list[bytes]], Any, int]:
    """(heads, the answer by h11, where the next one begins) of the first answer behind `start`."""

    def whole() -> Any:
        return answers_in(bytes(client.data[start:]), [method], client.over)[0]

    (parsed,) = await client.until(whole, "a whole answer")
    rest = bytes(client.data[start:])
    heads = []
    for _ in range(interim + 1):
        head, rest = split(rest)
        heads.append(head)
    _, left = answers_in(bytes(client.data[start:]), [method], client.over)
    return heads, parsed, len(client.data) - len(left)


async def one(world: World, client: Peer, downstream: Any, ask: Ask, tell: Tell, where: list[float], start: int) -> int:
    """The provider's side of one exchange whose request is on its way, then the client's view of the answer."""
    await world.proxy.until(lambda: downstream.upstream is not None, "a connection")
    link = downstream.upstream
    served = next(
        p for p in world.upstream.connections if not p.over and p.port == link.transport.get_extra_info("sockname")[1]
    )
    await served.until(lambda: requests_in(bytes(served.data[served.taken :]))[0], "the whole request")
    raw = served.take()
    (request,), rest = requests_in(raw)
    assert not rest
    head, _ = split(raw)
    assert request.first == (ask.method.encode(), ask.target.encode())
    assert head[0].endswith(b" HTTP/1.1")
    assert lines_of(head) == ask.kept()
    assert request.body == ask.body
    assert request.values("host") == [f"127.0.0.1:{world.upstream.port}".encode()]
    assert len(request.values("content-length")) + len(request.values("transfer-encoding")) == (
        ask.coding.kind != "none"
    )

    for piece in pieces(tell.raw(ask.method), where):
        link.data_received(piece)
    if tell.coding.kind == "close" and not tell.bodyless(ask.method):
        served.close()
    interim = tell.interim if ask.minor else []
    heads, answer, end = await answered(client, start, ask.method, len(interim))
    assert answer.interim == tuple(status for status, _ in interim)
    for (_, fields), got in zip(interim, heads, strict=False):
        assert lines_of(got) == [line.encode("latin-1") for line in fields if passed(line, fields)]
    assert answer.first == (tell.status, tell.reason.encode("latin-1"))
    assert lines_of(heads[-1]) == tell.kept()
    assert answer.body == (b"" if tell.bodyless(ask.method) else tell.body)
    return end


async def conversation(
    world: World, turns: list[tuple[Ask, Tell]], up: list[float], down: list[float], ahead: bool
) -> None:
    """All requests of one connection, each when the one before was answered, or all of them ahead (pipelined)."""
    client, downstream = await world.client()
    start = 0
    raws = [ask.raw() for ask, _ in turns]
    if ahead:
        raws = [b"".join(raws), *[b""] * (len(raws) - 1)]
    for (ask, tell), raw in zip(turns, raws, strict=True):
        for piece in pieces(raw, up):
            downstream.data_received(piece)
        start = await one(world, client, downstream, ask, tell, down, start)
        if client.over or not ask.minor:
            break
    await world.left(client, downstream)


def test_any_legal_conversation_with_any_cuts_arrives_equal(world: World) -> None:
    @examples(300)
    @given(st.lists(st.tuples(asks(), tells()), min_size=1, max_size=3), cuts, cuts, st.booleans())
    def check(turns: list[tuple[Ask, Tell]], up: list[float], down: list[float], ahead: bool) -> None:
        world.run(conversation(world, turns, up, down, ahead))

    check()


def test_any_short_message_byte_by_byte_arrives_equal(world: World) -> None:
    every = [n / 4096 for n in range(4096)]

    @examples(60)
    @given(asks().filter(lambda a: len(a.raw()) < 2000), tells().filter(lambda t: len(t.raw("GET")) < 2000))
    def check(ask: Ask, tell: Tell) -> None:
        world.run(conversation(world, [(ask, tell)], every, every, False))

    check()


# --- any bytes ---

SEEDS = [case["raw"].encode("latin-1") for case in REQUESTS if len(case["raw"]) < 600]
ANSWER_SEEDS = [
    raw for raw in (staged(case)[1] for case in ANSWERS if "bomb" not in case["name"]) if 0 < len(raw) < 600
]
TOKENS = [
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b":",
    b"0\r\n\r\n",
    b"\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 3\r\n",
    b"Host: localhost\r\n",
    b"Connection: close\r\n",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"GET / HTTP/1.1\r\n",
    b"\0",
    b"\xff",
    b"5\r\nhello\r\n",
    b";a=b",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
    b"Expect: 100-continue\r\n",
    b"\t",
    b"ffffffffffffffff\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 X\r\n\r\n",
]


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    data = b"".join(draw(st.lists(st.sampled_from(seeds), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.integers(0, 12))
        middle = draw(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=8), st.just(data[at : at + 3 * size])))
        data = data[:at] + middle + data[at + draw(st.sampled_from([0, size])) :]
    return data


async def attacked(world: World, data: bytes, where: list[float]) -> None:
    """Feed the bytes as a client, then end: there must be an end, and what was forwarded must be clean."""
    seen = {peer: len(peer.data) for peer in world.upstream.connections}
    client, downstream = await world.client()
    for piece in pieces(data, where):
        if client.over or downstream.transport.is_closing():
            break
        downstream.data_received(piece)
        await asyncio.sleep(0)
    if not client.over:
        client.finish()
    await client.until(lambda: client.over, f"an end after {data!r}")
    answers_in(bytes(client.data), ["GET"] * 50)
    for peer in world.upstream.connections:
        whole, _ = requests_in(bytes(peer.data[seen.get(peer, 0) :]))
        assert all(request.values("host") == [f"127.0.0.1:{world.upstream.port}".encode()] for request in whole)
    await world.left(client, downstream)


def test_no_bytes_of_a_client_make_it_fail_or_desync(answering_world: World) -> None:
    @examples(500)
    @given(st.one_of(mutated(SEEDS), mutated([post(b"hello"), get()]), st.binary(max_size=200)), cuts)
    @example(b"", [])
    def check(data: bytes, where: list[float]) -> None:
        answering_world.run(attacked(answering_world, data, where))

    check()


async def misled(world: World, method: str, data: bytes, where: list[float]) -> None:
    """Feed the bytes as a provider's answer, then end: the client gets an answer or a cut, all legal."""
    client, downstream = await world.client()
    downstream.data_received(get("/v1/models").replace(b"GET", method.encode()))
    await world.proxy.until(lambda: downstream.upstream is not None)
    link = downstream.upstream
    for piece in pieces(data, where):
        if link.owner is None or link.lost:
            break
        link.data_received(piece)
        await asyncio.sleep(0)
    link.transport.abort()
    await client.until(lambda: client.over or answers_in(bytes(client.data), [method])[0], f"an end after {data!r}")
    try:
        found, _ = answers_in(bytes(client.data), [method])
    except h11.RemoteProtocolError as refused:
        raise AssertionError(f"the client got what h11 refuses: {bytes(client.data)!r}") from refused
    assert found or client.over
    await world.left(client, downstream)


def test_no_bytes_of_a_provider_make_it_fail_or_desync(world: World) -> None:
    @examples(500)
    @given(st.sampled_from(["GET", "HEAD"]), st.one_of(mutated(ANSWER_SEEDS), st.binary(max_size=200)), cuts)
    def check(method: str, data: bytes, where: list[float]) -> None:
        world.run(misled(world, method, data, where))

    check()
