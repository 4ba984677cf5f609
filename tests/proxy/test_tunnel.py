"""The WebSocket tunnel: frames untouched both ways, and the ways of a refused handshake (issue item 3)."""

from __future__ import annotations

import base64
import hashlib
import random

import pytest

from lunaroute import tap
from tests.peers import KEY, Peer, Proxy, Upstream, answer_to, get, looped, pair, reply, settle

WEBSOCKET_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = base64.b64encode(
    hashlib.sha1(WEBSOCKET_KEY.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
)
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    + ACCEPT
    + b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
OFF = {"providers": {"openai": {"websocket": False}}}


def handshake(path: str = "/v1/responses", *fields: str) -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Connection: Upgrade",
        "upgrade: websocket",
        "Authorization: Bearer sk-proj-dummy",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {WEBSOCKET_KEY}",
        "sec-websocket-extensions: permessage-deflate; client_max_window_bits",
        *fields,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def opened(proxy: Proxy, upstream: Upstream, path: str = "/v1/responses") -> tuple[Peer, Peer]:
    client = await proxy.sent(handshake(path))
    served = await upstream.accepted()
    await served.head()
    served.send(ACCEPTED)
    await client.head()
    return client, served


@pytest.mark.parametrize("path", ["/v1/responses", "/responses"])
@looped
async def test_the_handshake_passes_as_it_is_but_for_host(path: str) -> None:
    async with pair() as (proxy, upstream):
        client = await proxy.sent(handshake(path, "X-Odd: 1"))
        served = await upstream.accepted()
        head = await served.head()
        sent = handshake("/v1/responses", "X-Odd: 1").replace(b"localhost", f"127.0.0.1:{upstream.port}".encode())
        assert head == sent
        served.send(ACCEPTED)
        assert await client.head() == ACCEPTED


@pytest.mark.parametrize("seed", range(5))
@looped
async def test_bytes_pass_untouched_both_ways_in_any_pieces(seed: int) -> None:
    dice = random.Random(seed)
    async with pair() as (proxy, upstream):
        client, served = await opened(proxy, upstream)
        sent = {client: b"", served: b""}
        for _ in range(200):
            peer = dice.choice((client, served))
            piece = dice.randbytes(dice.choice((1, 2, 7, 125, 4096, 70_000)))
            sent[peer] += piece
            await peer.flow(piece)
        assert await served.exactly(len(sent[client])) == sent[client]
        assert await client.exactly(len(sent[served])) == sent[served]
        tapped = {kind: b"".join(e[3] for e in proxy.told() if e[0] == kind) for kind in (7, 8)}
        assert tapped == {tap.CLIENT_FRAMES: sent[client], tap.SERVER_FRAMES: sent[served]}


@looped
async def test_a_tiny_frame_leaves_at_once() -> None:
    async with pair() as (proxy, upstream):
        client, served = await opened(proxy, upstream)
        for number in range(50):
            client.send(bytes([number]))
            assert await served.exactly(1) == bytes([number])
            served.send(bytes([number]))
            assert await client.exactly(1) == bytes([number])


@looped
async def test_early_data_waits_for_the_101() -> None:
    async with pair() as (proxy, upstream):
        client = await proxy.sent(handshake() + b"\x81\x80early")
        served = await upstream.accepted()
        await served.head()
        client.send(b" more")
        await settle()
        assert served.data.endswith(b"\r\n\r\n"), "raw mode starts only after the upstream's 101 (F5)"
        served.send(ACCEPTED + b"\x81\x05first")
        await client.head()
        assert await client.exactly(7) == b"\x81\x05first"
        assert await served.exactly(12) == b"\x81\x80early more"


@looped
async def test_early_data_is_not_sent_where_the_handshake_is_refused() -> None:
    async with pair() as (proxy, upstream):
        client = await proxy.sent(handshake() + get("/smuggled"))
        served = await upstream.accepted()
        await served.head()
        served.send(reply(b"no", 403, reason="Forbidden"))
        assert (await answer_to(client, "GET")).status == 403
        await settle()
        # a request behind a refused handshake is an ordinary one: it is answered or the connection closes
        assert served.data.count(b"/smuggled") <= 1
        assert all(peer.data.startswith(b"GET ") for peer in upstream.connections)


@pytest.mark.parametrize("status", [301, 400, 404, 405, 426, 500, 502, 503])
@looped
async def test_a_provider_without_websocket_becomes_a_426(status: int) -> None:
    async with pair() as (proxy, upstream):
        client = await proxy.sent(handshake())
        served = await upstream.accepted()
        await served.head()
        served.send(reply(b"{}", status))
        answer = await answer_to(client, "GET")
        assert answer.status == 426
        assert answer.values("upgrade")
        assert str(status).encode() in answer.body
        await served.ended()
        assert [c.state for c in proxy.closes()] == ["upstream_error"]
        assert any(kind == tap.RESPONSE_HEAD for kind, *_ in proxy.told()), "what it said is in the record"
        client.send(get())  # and the same connection goes on by HTTP
        fresh = await upstream.accepted()
        await fresh.head()
        fresh.send(reply())
        assert (await answer_to(client, "GET")).status == 200


@pytest.mark.parametrize("status", [401, 403, 429])
@looped
async def test_a_refused_credential_is_told_as_it_is(status: int) -> None:
    async with pair() as (proxy, upstream):
        client = await proxy.sent(handshake())
        served = await upstream.accepted()
        await served.head()
        raw = reply(b'{"error":"x"}', status, "retry-after: 3", reason="Own Words")
        served.send(raw)
        assert await client.exactly(len(raw)) == raw


@looped
async def test_websocket_that_is_off_is_a_426_without_asking_anybody() -> None:
    async with pair(OFF) as (proxy, upstream):
        client = await proxy.sent(handshake())
        answer = await answer_to(client, "GET")
        assert answer.status == 426
        await settle()
        assert not upstream.connections


WRONG = {
    "another key's accept": ACCEPTED.replace(ACCEPT, b"AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    "no accept": ACCEPTED.replace(b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n", b""),
    "another protocol": ACCEPTED.replace(b"Upgrade: websocket", b"Upgrade: foo"),
    "two accepts": ACCEPTED.replace(b"Sec-WebSocket-Extensions: permessage-deflate", b"Sec-WebSocket-Accept: x"),
}


@pytest.mark.parametrize("raw", WRONG.values(), ids=WRONG.keys())
@looped
async def test_a_101_that_answers_something_else_opens_no_tunnel(raw: bytes) -> None:
    async with pair() as (proxy, upstream):
        client = await proxy.sent(handshake() + b"frames")
        served = await upstream.accepted()
        await served.head()
        served.send(raw)
        assert (await answer_to(client, "GET")).status == 502
        await served.ended()
        assert b"frames" not in served.data


ENDS = ["close", "reset", "finish"]


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("side", ["client", "provider"])
@looped
async def test_an_end_of_one_side_ends_the_other(side: str, how: str) -> None:
    async with pair() as (proxy, upstream):
        client, served = await opened(proxy, upstream)
        first, other = (client, served) if side == "client" else (served, client)
        first.send(b"last words")
        getattr(first, how)() if how != "reset" else (await other.has(b"last words"), first.reset())
        if how != "reset":
            await other.has(b"last words")
        await other.until(lambda: other.over, "the other side's end")
        await proxy.until(proxy.closes)
        close = proxy.closes()[0]
        expected = "upstream_error" if (side, how) == ("provider", "reset") else "ok"
        assert close.state == expected
        assert proxy.counter("tunnels_open") == 0
        await proxy.until(lambda: not proxy.settings.live)


@looped
async def test_a_tunnel_knows_no_idle_time() -> None:
    async with pair({"providers": {"openai": {"http_client": {"idle_timeout_secs": 5, "timeout_secs": 5}}}}) as two:
        proxy, upstream = two
        client, served = await opened(proxy, upstream)
        proxy.pass_time(100_000)
        client.send(b"still here")
        await served.has(b"still here")


@looped
async def test_back_pressure_works_both_ways() -> None:
    async with pair({"session_recording": {"enabled": False}}) as (proxy, upstream):
        client, served = await opened(proxy, upstream)
        for reader, writer in ((client, served), (served, client)):
            reader.transport.pause_reading()
            await writer.fill(b"x" * 262_144)  # ends only by back-pressure
            reader.transport.resume_reading()
            await writer.until(lambda writer=writer: not writer.write_paused)


@looped
async def test_the_key_does_not_leave_through_the_record_of_a_close() -> None:
    async with pair() as (proxy, upstream):
        client, _ = await opened(proxy, upstream)
        client.close()
        await proxy.until(proxy.closes)
        assert KEY not in proxy.closes()[0].why


@looped
async def test_a_client_that_goes_while_the_provider_does_not_read_ends_the_tunnel() -> None:
    async with pair() as (proxy, upstream):
        client, served = await opened(proxy, upstream)
        served.transport.pause_reading()
        await client.fill(b"x" * 65_536)
        client.reset()
        await proxy.until(lambda: proxy.settings.tick() or not proxy.settings.live)
        assert proxy.counter("tunnels_open") == 0


@looped
async def test_a_provider_that_stopped_reading_does_not_keep_a_closed_tunnels_connection() -> None:
    async with pair() as (proxy, upstream):
        client, served = await opened(proxy, upstream)
        served.transport.pause_reading()
        while not proxy.counter("tunnels_open") or not await held_back(proxy, client):
            pass
        client.close()
        await proxy.until(lambda: proxy.counter("tunnels_open") == 0)
        await settle()
        assert proxy.counter("upstream_open") == 1, "what was on its way gets its time"
        proxy.pass_time(31)
        await proxy.until(lambda: proxy.counter("upstream_open") == 0)


async def held_back(proxy: Proxy, client: Peer) -> bool:
    """One piece more; whether bytes for the provider now wait in the relay."""
    client.send(b"x" * 32_768)
    await settle()
    (connection,) = proxy.settings.live
    return bool(connection.upstream.transport.get_write_buffer_size())


@looped
async def test_a_quiet_tunnel_ends_when_the_server_stops_and_says_that_it_goes() -> None:
    async with pair() as (proxy, upstream):
        client, served = await opened(proxy, upstream)
        served.send(b"\x81\x02hi")
        await client.exactly(4)
        proxy.pass_time(1)
        (connection,) = proxy.settings.live
        connection.close_idle()
        await settle()
        assert not client.over, "something moved in it a moment ago"
        proxy.pass_time(4)
        connection.close_idle()
        assert await client.ended() == b"\x88\x02\x03\xe9"
        await served.ended()
        assert [each.state for each in proxy.closes()] == ["ok"]


@looped
async def test_what_came_behind_a_handshake_that_was_refused_is_no_request() -> None:
    async with pair() as (proxy, upstream):
        client = await proxy.sent(handshake() + get("/smuggled"))
        served = await upstream.accepted()
        await served.head()
        served.send(reply(b"no", 404, reason="Not Found"))
        assert (await answer_to(client, "GET")).status == 426
        await client.ended()
        assert not any(b"smuggled" in peer.data for peer in upstream.connections)
