"""Connections to a provider: which is used again, which is not, and who waits for one."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import pytest

from lunaroute._fast import relay
from lunaroute.config import HttpClient
from lunaroute.errors import ConnectFailed
from lunaroute.proxy.downstream import Downstream
from lunaroute.proxy.pool import Origin, Pool, own_listeners
from tests.peers import Peer, Proxy, Upstream, answer_to, get, looped, pair, post, reply, settle
from tests.proxy.test_faults import begun, http, reused


def only_pool(proxy: Proxy) -> Pool:
    (pool,) = proxy.plans.pools.values()
    return pool


async def ok(served: Peer, client: Peer, method: str = "POST") -> None:
    served.send(reply())
    assert (await answer_to(client, method)).status == 200


async def several(proxy: Proxy, upstream: Upstream, count: int) -> list[tuple[Peer, Peer]]:
    """Exchanges that run at the same time: each on a connection of its own."""
    return [await begun(proxy, upstream, post()) for _ in range(count)]


@looped
async def test_the_connection_used_last_is_used_next() -> None:
    async with pair(http(pool_warm=0)) as (proxy, upstream):
        running = await several(proxy, upstream, 3)
        for client, served in (running[1], running[2], running[0]):
            await ok(served, client)
        client = running[0][0]
        client.send(post(b"next"))
        await running[0][1].has(b"next")
        await ok(running[0][1], client)
        assert len(upstream.connections) == 3
        assert (proxy.counter("upstream_open"), proxy.counter("upstream_idle")) == (3, 3)
        assert proxy.counter("upstream_reuses_total") == 1


@looped
async def test_an_idle_connection_expires() -> None:
    async with pair(http(pool_idle_timeout_secs=60, pool_warm=0)) as (proxy, upstream):
        client, served = await reused(proxy, upstream)
        proxy.pass_time(59)
        only_pool(proxy).expire()
        await settle()
        assert not served.over
        proxy.pass_time(2)
        only_pool(proxy).expire()
        await served.until(lambda: served.over)
        assert proxy.counter("upstream_idle") == 0
        client.send(get())
        fresh = await upstream.accepted()
        await fresh.head()
        await ok(fresh, client, "GET")


@looped
async def test_an_expired_connection_is_not_used_even_before_it_is_swept() -> None:
    async with pair(http(pool_idle_timeout_secs=60)) as (proxy, upstream):
        client, served = await reused(proxy, upstream)
        proxy.pass_time(61)
        client.send(get())
        fresh = await upstream.accepted()
        await fresh.head()
        assert b"GET" not in served.data
        await ok(fresh, client, "GET")


@looped
async def test_no_more_idle_connections_are_kept_than_the_limit() -> None:
    async with pair(http(pool_max_idle_per_host=2, pool_warm=0)) as (proxy, upstream):
        running = await several(proxy, upstream, 4)
        for client, served in running:
            await ok(served, client)
        only_pool(proxy).expire()
        assert len(only_pool(proxy).idle) == 4, "a burst's connections are not dropped between two of its requests"
        proxy.pass_time(2)
        only_pool(proxy).expire()
        await running[0][1].until(lambda: running[0][1].over)
        await running[1][1].until(lambda: running[1][1].over)
        assert len(only_pool(proxy).idle) == 2
        assert not running[2][1].over and not running[3][1].over


@looped
async def test_one_that_waits_gets_the_connection_that_another_gives_back() -> None:
    """The first connect is answered late: the kernel completes it, but a released connection is there before."""
    async with pair(http(pool_warm=0)) as (proxy, upstream):
        client, served = await begun(proxy, upstream, post())
        other = await proxy.sent(post(b"waits"))
        await proxy.until(lambda: only_pool(proxy).waiters)
        # within one turn of the loop: the waiting request's own connection cannot be up yet
        served.send(reply())
        await answer_to(client)
        holders = [peer for peer in upstream.connections if b"waits" in peer.data]
        if not holders:
            await upstream.connections[-1].until(lambda: any(b"waits" in p.data for p in upstream.connections))
            holders = [peer for peer in upstream.connections if b"waits" in peer.data]
        await ok(holders[0], other)
        await proxy.until(lambda: not only_pool(proxy).waiters)


@looped
async def test_a_waiter_is_served_by_a_released_connection_where_connecting_is_slow() -> None:
    async with pair(http(pool_warm=0)) as (proxy, upstream):
        client, served = await begun(proxy, upstream, post())
        pool = only_pool(proxy)
        real = pool.connect
        pool.connect = pool.waiters.append  # type: ignore[method-assign]
        other = await proxy.sent(post(b"waits"))
        await proxy.until(lambda: pool.waiters)
        pool.connect = real  # type: ignore[method-assign]
        await ok(served, client)
        await served.has(b"waits")
        await ok(served, other)
        assert len(upstream.connections) == 1


@looped
async def test_a_lost_spare_is_replaced_while_the_origin_is_in_use() -> None:
    async with pair() as (proxy, upstream):
        _, served = await reused(proxy, upstream)
        pool = only_pool(proxy)
        served.close()
        spare = await upstream.accepted()  # comes by itself, after SPARE_PAUSE
        await proxy.until(lambda: pool.idle)
        client = await proxy.sent(get())
        await spare.head()
        await ok(spare, client, "GET")
        assert len(upstream.connections) == 2


@looped
async def test_no_spare_where_none_is_wanted() -> None:
    async with pair(http(pool_warm=0)) as (proxy, upstream):
        _, served = await reused(proxy, upstream)
        served.close()
        pool = only_pool(proxy)
        await proxy.until(lambda: not pool.idle)
        pool._warm()
        await settle()
        assert len(upstream.connections) == 1


@looped
async def test_one_pool_for_one_origin() -> None:
    async with pair() as (proxy, upstream):
        client, served = await reused(proxy, upstream)
        client.send(get("/v1/models", "Authorization: Bearer sk-proj-dummy"))
        await served.head()
        await ok(served, client, "GET")
        assert len(proxy.plans.pools) == 1
        assert len(upstream.connections) == 1


@looped
async def test_connect_failures_are_tried_again_and_only_they() -> None:
    """Nobody listens at first; the listener comes while the pool still tries."""
    from tests.running import free_port

    port = free_port()
    async with Proxy(f"http://127.0.0.1:{port}", http(max_retries=8)) as proxy:
        client = await proxy.sent(post())
        await proxy.until(lambda: proxy.plans.pools and only_pool(proxy).waiters)
        async with Upstream(port=port) as late:
            served = await late.accepted()
            await served.head()
            await ok(served, client)
        assert [(c.state, c.written) for c in proxy.closes()] == [("ok", True)]


STRAY = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"


@pytest.mark.parametrize("behind", [b"", STRAY], ids=["end", "stray bytes"])
@looped
async def test_a_connection_whose_end_came_with_the_answer_gets_no_further_request(behind: bytes) -> None:
    """Answer and FIN in one segment: the loop reads the one, and does not see the other before the next request."""
    async with pair() as (proxy, upstream):
        client = await proxy.sent(post(b"first") + post(b"second"))
        served = await upstream.accepted()
        await served.has(b"first")
        body = b"x" * 256_000  # what uvloop reads at once: what stands behind it is left in the socket
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(body) - 43)
        with served.raw() as raw:
            raw.setblocking(True)
            answer = (whole + body)[: len(body)] if behind else reply(b"first answer")
            raw.sendall(answer + behind, socket.MSG_MORE)
            if not behind:
                raw.shutdown(socket.SHUT_WR)
        fresh = await upstream.accepted()
        await fresh.has(b"second")
        fresh.send(reply(b"second answer"))
        await client.has(b"second answer")
        assert b"EVIL" not in client.data and b"second" not in served.data
        assert [each.state for each in proxy.closes()] == ["ok", "ok"]


@looped
async def test_one_that_waits_is_not_given_a_connection_that_has_ended() -> None:
    async with pair(http(pool_warm=0)) as (proxy, upstream):
        _, served = await begun(proxy, upstream, post())
        pool = only_pool(proxy)
        real = pool.connect
        waiting: list[Downstream] = []
        pool.connect = lambda each: (waiting.append(each), pool.waiters.append(each))[0]  # type: ignore[method-assign]
        other = await proxy.sent(post(b"waits"))
        await proxy.until(lambda: pool.waiters)
        with served.raw() as raw:
            raw.send(reply(), socket.MSG_MORE)
            raw.shutdown(socket.SHUT_WR)
        await proxy.until(lambda: proxy.counter("upstream_open") == 0)
        pool.waiters.clear()
        real(waiting[0])
        fresh = await upstream.accepted()
        await fresh.has(b"waits")
        await ok(fresh, other)
        assert b"waits" not in served.data


@looped
async def test_a_free_connection_with_stray_bytes_is_not_used() -> None:
    async with pair() as (proxy, upstream):
        client, served = await reused(proxy, upstream)
        proxy.pass_time(0.002)
        served.send_now(b"HTTP/1.1 408 Request Timeout\r\n\r\n")  # arrives together with the next request
        client.send(get())
        fresh = await upstream.accepted()
        await fresh.head()
        await ok(fresh, client, "GET")
        assert b"408" not in client.data


OWN = {
    ("127.0.0.1", "127.0.0.1", 8081): True,
    ("127.0.0.1", "127.0.0.1", 8082): False,
    ("127.0.0.1", "127.0.0.2", 8081): False,
    ("0.0.0.0", "127.0.0.1", 8081): True,
    ("0.0.0.0", "127.9.9.9", 8081): True,
    ("0.0.0.0", "0.0.0.0", 8081): True,
    ("::1", "::1", 8081): True,
    ("::1", "127.0.0.1", 8081): False,
    ("0.0.0.0", "192.0.2.1", 8081): False,
}


@pytest.mark.parametrize(("bound", "host", "port"), OWN)
def test_own_listeners_are_known(bound: str, host: str, port: int) -> None:
    ipaddress.ip_address(host)
    assert own_listeners([(bound, 8081)])(host, port) is OWN[(bound, host, port)]


AUTHORITIES = {
    Origin("https", "api.test", 443): "api.test",
    Origin("https", "api.test", 8443): "api.test:8443",
    Origin("http", "api.test", 80): "api.test",
    Origin("http", "::1", 80): "[::1]",
    Origin("http", "::1", 8080): "[::1]:8080",
}


@pytest.mark.parametrize("origin", AUTHORITIES)
def test_the_authority_is_what_stands_in_host(origin: Origin) -> None:
    assert origin.authority == AUTHORITIES[origin]
    assert str(origin) == f"{origin.scheme}://{AUTHORITIES[origin]}"


@looped
async def test_a_pool_says_what_it_holds() -> None:
    async with pair() as (proxy, upstream):
        await reused(proxy, upstream)
        assert "idle 1 open 1 waiting 0" in repr(only_pool(proxy))
        assert isinstance(only_pool(proxy), relay.Pool)
        assert HttpClient().pool_warm == 1


@looped
async def test_one_whose_connection_went_to_another_is_told_of_the_failure() -> None:
    """The first dial is stuck, the second one's connection serves the first request: then the first dial fails."""
    async with pair(http(pool_warm=0)) as (proxy, upstream):
        await reused(proxy, upstream)
        pool = only_pool(proxy)
        pool.discard_idle()
        await proxy.until(lambda: not pool.opened)
        real, stuck = pool._tries, asyncio.get_running_loop().create_future()

        async def first() -> relay.Upstream:
            pool._tries = real  # type: ignore[method-assign]
            await stuck
            raise ConnectFailed("stuck", 504)

        pool._tries = first  # type: ignore[method-assign]
        await proxy.sent(post(b"A"))
        await proxy.until(lambda: len(pool.waiters) == 1)
        orphan = await proxy.sent(post(b"B"))
        served = await upstream.accepted()
        await served.has(b"A")
        stuck.set_result(None)
        assert (await answer_to(orphan)).status == 504
        assert not pool.waiters
