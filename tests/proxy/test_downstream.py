"""Clients that go away, half-close, are slow or pipeline: what the provider sees of it, and when."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from lunaroute import tap
from tests.peers import Peer, Proxy, Upstream, answer_to, get, looped, pair, post, reply, settle
from tests.proxy.test_faults import CHUNKED, begun, black_hole, chunk, http

ENDS = ["close", "reset"]
SOON = 1.0  # security.md M2

STREAM = CHUNKED + chunk(b"data: 1\n\n")
HALF = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
BEGINNINGS = {"before the first byte": b"", "inside a stream": STREAM, "inside a whole answer": HALF}


async def gone_in_time(served: Peer, proxy: Proxy, began: float) -> None:
    await served.until(lambda: served.over, "the provider to see that the client is gone")
    assert asyncio.get_running_loop().time() - began < SOON
    await proxy.until(proxy.closes, "the record")
    assert [(c.state, c.written) for c in proxy.closes()] == [("client_cancelled", True)]
    assert proxy.counter("requests_in_flight") == 0


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("beginning", BEGINNINGS.values(), ids=BEGINNINGS.keys())
@looped
async def test_a_client_that_is_gone_ends_the_providers_work(beginning: bytes, how: str) -> None:
    async with pair() as (proxy, upstream):
        proxy.tick_as_the_server()
        client, served = await begun(proxy, upstream, post())
        if beginning:
            served.send(beginning)
            await client.until(lambda: client.data)
        began = asyncio.get_running_loop().time()
        getattr(client, how)()
        await gone_in_time(served, proxy, began)


@pytest.mark.parametrize("how", ENDS)
@looped
async def test_a_client_that_is_gone_inside_its_request_body(how: str) -> None:
    async with pair() as (proxy, upstream):
        client = await proxy.sent(post(b"half", length=100))
        served = await upstream.accepted()
        await served.has(b"half")
        began = asyncio.get_running_loop().time()
        getattr(client, how)()
        await gone_in_time(served, proxy, began)
        assert served.data.endswith(b"half"), "nothing completes the request"


@pytest.mark.parametrize("how", ENDS)
@looped
async def test_a_client_that_is_gone_while_the_connection_is_made_costs_nothing(how: str) -> None:
    async with black_hole() as port, Proxy(f"http://127.0.0.1:{port}", http(connect_timeout_secs=0.4)) as proxy:
        client = await proxy.sent(post())
        pool = await proxy.until(lambda: [p for p in proxy.plans.pools.values() if p.waiters])
        getattr(client, how)()
        await proxy.until(lambda: not pool[0].waiters, "the wait to end")
        await proxy.until(proxy.closes)
        assert [(c.state, c.written) for c in proxy.closes()] == [("client_cancelled", False)]


@looped
async def test_a_client_that_was_gone_before_the_connection_was_there_is_not_sent_for() -> None:
    async with pair() as (proxy, upstream):
        client = await proxy.sent(post(b"never"))
        await proxy.until(lambda: any(p.waiters for p in proxy.plans.pools.values()))
        client.reset()
        served = await upstream.accepted()  # the connection comes up and becomes a spare one
        other = await proxy.sent(get())
        assert b"never" not in await served.head()
        served.send(reply())
        assert (await answer_to(other, "GET")).status == 200


@looped
async def test_a_killed_client_process_ends_the_providers_work() -> None:
    script = (
        "import socket,sys; s=socket.create_connection(('127.0.0.1',%d)); s.sendall(%r); s.recv(9); sys.stdin.read()"
    )
    async with pair() as (proxy, upstream):
        proxy.tick_as_the_server()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-c", script % (proxy.port, post()), stdin=asyncio.subprocess.PIPE
        )
        served = await upstream.accepted()
        await served.head()
        served.send(STREAM)
        began = asyncio.get_running_loop().time()
        process.kill()
        await process.wait()
        await gone_in_time(served, proxy, began)


@looped
async def test_a_client_that_half_closes_still_gets_its_answer() -> None:
    async with pair() as (proxy, upstream):
        proxy.tick_as_the_server()
        client = await proxy.sent(post())
        client.finish()
        served = await upstream.accepted()
        await served.head()
        await settle()
        proxy.settings.tick()
        served.send(STREAM)
        await client.has(b"data: 1")
        proxy.settings.tick()
        served.send(chunk(b"data: 2\n\n") + b"0\r\n\r\n")
        assert (await answer_to(client)).body == b"data: 1\n\ndata: 2\n\n"
        await client.until(lambda: client.over)
        assert [c.state for c in proxy.closes()] == ["ok"]


@looped
async def test_a_half_closed_client_that_goes_later_ends_the_providers_work() -> None:
    async with pair() as (proxy, upstream):
        proxy.tick_as_the_server()
        client, served = await begun(proxy, upstream, post())
        client.finish()
        await settle()
        assert not served.over
        began = asyncio.get_running_loop().time()
        client.close()
        await gone_in_time(served, proxy, began)


@looped
async def test_where_the_system_cannot_tell_a_half_close_counts_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lunaroute.proxy.downstream.has_gone", lambda transport: None)
    async with pair() as (proxy, upstream):
        proxy.tick_as_the_server()
        client, served = await begun(proxy, upstream, post())
        began = asyncio.get_running_loop().time()
        client.finish()
        await gone_in_time(served, proxy, began)


@pytest.mark.parametrize("how", ENDS)
@looped
async def test_a_client_that_is_gone_while_it_was_not_reading(how: str) -> None:
    async with pair() as (proxy, upstream):
        proxy.tick_as_the_server()
        client, served = await begun(proxy, upstream, post())
        client.transport.pause_reading()
        served.send(CHUNKED)
        await served.fill(chunk(b"x" * 262_144))
        began = asyncio.get_running_loop().time()
        getattr(client, how)()
        await gone_in_time(served, proxy, began)


@looped
async def test_a_client_that_is_gone_while_the_provider_did_not_read() -> None:
    async with pair() as (proxy, upstream):
        proxy.tick_as_the_server()
        client = await proxy.sent(post(b"", length=1 << 30))
        served = await upstream.accepted()
        await served.head()
        served.transport.pause_reading()
        await client.fill(b"x" * 262_144)
        began = asyncio.get_running_loop().time()
        client.reset()
        served.transport.resume_reading()
        await gone_in_time(served, proxy, began)


class Counting(Peer):
    """Keeps nothing of what it gets."""

    total = 0

    def data_received(self, data: bytes) -> None:
        self.total += len(data)
        self._note()


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a socket whether a process still has it")
@looped
async def test_a_client_that_is_gone_with_bytes_on_the_way_that_nobody_reads() -> None:
    """Its FIN stands behind them, and never comes."""
    async with pair(http(idle_timeout_secs=600)) as (proxy, upstream):
        client = await proxy.sent(post(b"", length=1 << 30))
        served = await upstream.accepted()
        await served.head()
        served.transport.pause_reading()
        await client.fill(b"x" * 262_144)
        client.transport.abort()
        await settle()
        assert not proxy.closes()
        proxy.pass_time(1.1)
        assert [(each.state, each.written) for each in proxy.closes()] == [("client_cancelled", True)]
        await proxy.until(lambda: proxy.counter("upstream_open") == 0)


@looped
async def test_a_slow_reader_of_a_gibibyte_holds_memory_flat() -> None:
    size, piece = 1 << 30, b"x" * (1 << 20)
    async with pair({"session_recording": {"enabled": False}}) as (proxy, upstream):
        _, client = await asyncio.get_running_loop().create_connection(Counting, "127.0.0.1", proxy.port)
        client.send(post())
        served = await upstream.accepted()
        await served.head()
        served.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        await client.until(lambda: client.total)
        client.transport.pause_reading()
        before = rss()
        peak = before

        async def produce() -> None:
            for _ in range(size // len(piece)):
                await served.flow(piece)

        producing = asyncio.get_running_loop().create_task(produce())
        head = client.total
        for stop in range(0, size, size // 16):  # a while of reading, then none again
            await served.until(lambda: served.write_paused or producing.done())
            peak = max(peak, rss())
            client.transport.resume_reading()
            await client.until(lambda stop=stop: client.total >= stop)
            client.transport.pause_reading()
        client.transport.resume_reading()
        await client.until(lambda: client.total == size + head)
        assert peak - before < 32 << 20, f"grew by {(peak - before) >> 20} MiB"
        client.close()


@looped
async def test_pipelined_requests_are_answered_in_their_order_and_bounded() -> None:
    async with pair() as (proxy, upstream):
        client = await proxy.sent(b"".join(post(b"%04d" % number) for number in range(2000)))
        served = await upstream.accepted()
        for number in range(2000):
            await served.head()
            assert await served.exactly(4) == b"%04d" % number
            if number < 3:
                await settle()
                assert len(served.data) == served.taken, "the next request waits for the answer to this one"
            served.send(reply(b"%04d" % number))
            assert (await answer_to(client)).body == b"%04d" % number


@looped
async def test_a_pipelining_client_is_not_read_without_bound() -> None:
    async with pair() as (proxy, upstream):
        client, served = await begun(proxy, upstream, post())
        body = b"x" * 100_000
        await client.fill(post(body))  # ends only by back-pressure
        for _ in range(5):  # and goes on from there, in the middle of a head or a body
            served.send(reply())
            assert (await answer_to(client)).status == 200
            await served.head()
            assert await served.exactly(len(body)) == body


@looped
async def test_a_client_gone_with_pipelined_requests_waiting_sends_none_of_them() -> None:
    async with pair() as (proxy, upstream):
        proxy.tick_as_the_server()
        client = await proxy.sent(post() + post(b"second"))
        served = await upstream.accepted()
        await served.head()
        await served.exactly(2)
        client.close()
        await served.until(lambda: served.over)
        await settle()
        assert b"second" not in b"".join(upstream.captured())


@looped
async def test_http_1_0_clients_get_no_chunks_and_a_close() -> None:
    async with pair() as (proxy, upstream):
        client = await proxy.sent(b"GET /v1/models HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n")
        served = await upstream.accepted()
        head = await served.head()
        assert head.startswith(b"GET /v1/models HTTP/1.1\r\n")
        assert b"onnection" not in head
        served.send(CHUNKED + chunk(b"one") + chunk(b"two") + b"0\r\n\r\n")
        raw = await client.ended()
        assert raw.endswith(b"\r\n\r\nonetwo")
        assert b"ransfer-" not in raw


@looped
async def test_a_close_delimited_answer_becomes_chunks_and_the_client_stays() -> None:
    async with pair() as (proxy, upstream):
        client, served = await begun(proxy, upstream, post())
        served.send(b"HTTP/1.1 200 OK\r\n\r\none")
        await client.has(b"one")
        served.send(b"two")
        await client.has(b"two")
        served.close()
        answer = await answer_to(client)
        assert answer.body == b"onetwo"
        assert answer.values("transfer-encoding") == [b"chunked"]
        client.send(get())
        fresh = await upstream.accepted()
        await fresh.head()
        fresh.send(reply())
        assert (await answer_to(client, "GET")).status == 200


@looped
async def test_a_keep_alive_connection_is_closed_when_it_was_idle_for_too_long() -> None:
    async with Upstream() as upstream, Proxy(upstream, {"limits": {"keepalive_timeout_secs": 60}}) as proxy:
        client, served = await begun(proxy, upstream, post())
        served.send(reply())
        await answer_to(client)
        proxy.pass_time(1)
        proxy.pass_time(58)
        await settle()
        assert not client.over
        proxy.pass_time(2)
        assert await client.ended() == b""


@looped
async def test_a_slow_reader_gets_the_whole_of_a_last_answer() -> None:
    async with pair() as (proxy, upstream):
        client = await proxy.client()
        client.transport.pause_reading()
        client.send(post(b"{}", "/v1/messages", "Connection: close"))
        served = await upstream.accepted()
        await served.head()
        served.send(CHUNKED)
        (connection,) = proxy.settings.live
        while not connection.transport.get_write_buffer_size():  # until the kernel takes no more
            served.send(chunk(b"x" * 20_000))
            await settle()
        served.send(b"0\r\n\r\n")
        await proxy.until(lambda: "lingering" in repr(connection))
        proxy.pass_time(60)
        await settle()
        client.transport.resume_reading()
        assert (await client.ended()).endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("cut", [-1, -2, -3, 0])
@looped
async def test_as_many_fields_as_allowed_pass_wherever_the_head_is_cut(cut: int) -> None:
    async with pair({"limits": {"header_count": 20}}) as (proxy, upstream):
        fields = b"".join(b"X-%d: 1\r\n" % n for n in range(19))
        head = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n" + fields + b"\r\n"
        client = await proxy.client()
        cut = cut or len(head)
        client.send(head[:cut])
        await settle()
        client.send(head[cut:])
        served = await upstream.accepted()
        await served.head()
        served.send(b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 0\r\n")
        await settle()
        served.send(b"\r\n")
        assert (await answer_to(client, "GET")).status == 200


@looped
async def test_blank_lines_are_bounded_over_all_pieces() -> None:
    async with pair() as (proxy, _):
        client = await proxy.client()
        for _ in range(5):
            client.send(b"\r\n")
            await settle()
        assert (await answer_to(client, "GET")).status == 400


@pytest.mark.parametrize("origin", ["http://[", "http://[zz]", "http://[::1", "null", "http://evil.example"])
@looped
async def test_an_origin_that_is_not_ours_is_refused_however_it_is_written(origin: str) -> None:
    async with pair() as (proxy, _):
        client = await proxy.sent(get("/v1/models", f"Origin: {origin}"))
        assert (await answer_to(client, "GET")).status == 403


@looped
async def test_two_origins_are_refused() -> None:
    async with pair() as (proxy, _):
        client = await proxy.sent(get("/v1/models", "Origin: http://evil.example", "Origin: http://localhost"))
        assert (await answer_to(client, "GET")).status == 400


@pytest.mark.parametrize("direction", ["request", "answer"])
@pytest.mark.parametrize("size_line", [b"1\r\n%c\r\n", b"01\r\n%c\r\n"], ids=["as we write them", "otherwise"])
@looped
async def test_chunks_of_one_byte_cost_one_event_a_read(direction: str, size_line: bytes) -> None:
    count = 20_000
    body = b"".join(size_line % (97 + n % 26) for n in range(count)) + b"0\r\n\r\n"
    payload = bytes(97 + n % 26 for n in range(count))
    async with pair() as (proxy, upstream):
        head = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        client = await proxy.sent(head + body if direction == "request" else post())
        served = await upstream.accepted()
        await served.head()
        if direction == "request":
            await served.has(b"0\r\n\r\n")
            assert unchunked(bytes(served.data).partition(b"\r\n\r\n")[2]) == payload
            served.send(reply())
        else:
            served.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        answer = await answer_to(client)
        if direction == "answer":
            assert answer.body == payload
        kind = tap.REQUEST_BODY if direction == "request" else tap.RESPONSE_BODY
        pieces = [event[3] for event in proxy.told() if event[0] == kind]
        assert b"".join(pieces) == (payload if direction == "request" or kind == tap.RESPONSE_BODY else b"")
        assert len(pieces) < 20


def unchunked(data: bytes) -> bytes:
    found = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        found, data = found + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return found
