"""Who may talk to the proxy: Host, Origin and Sec-Fetch-Site, access tokens, and the bounds of what may be sent."""

from __future__ import annotations

import json

import pytest

from tests.peers import KEY, Parsed, Proxy, Upstream, answer_to, get, looped, pair, post, reply, settle
from tests.proxy.test_faults import begun

TOKEN = "lunaroute-dummy-token-0123456789"
FOREIGN = {
    "Origin: https://evil.test": 403,
    "Origin: http://localhost.evil.test": 403,
    "Origin: http://evil.test:8081": 403,
    "Origin: null": 403,
    "Origin: ": 403,
    "Origin: file://localhost": 403,
    "Origin: http://localhost@evil.test": 403,
    "Origin: chrome-extension://abcdef": 403,
    "Sec-Fetch-Site: cross-site": 403,
    "sec-fetch-site: Cross-Site": 403,
}
OWN = [
    "Origin: http://localhost:3000",
    "Origin: http://127.0.0.1:8082",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Site: none",
]


async def told(proxy: Proxy, upstream: Upstream, request: bytes) -> Parsed:
    """The proxy's own answer; nothing reached the upstream."""
    answer = await answer_to(await proxy.sent(request), request.split(b" ")[0].decode())
    await settle()
    assert not upstream.captured()
    return answer


async def passes(proxy: Proxy, upstream: Upstream, request: bytes) -> bytes:
    """The request reaches the upstream: its head there."""
    client = await proxy.sent(request)
    served = await upstream.accepted() if not upstream.connections else upstream.connections[0]
    head = await served.head()
    await served.exactly(len(request.partition(b"\r\n\r\n")[2]))
    served.send(reply())
    assert (await answer_to(client, request.split(b" ")[0].decode())).status == 200
    return head


@pytest.mark.parametrize("line", FOREIGN)
@looped
async def test_a_web_page_of_another_origin_is_refused(line: str) -> None:
    async with pair() as (proxy, upstream):
        assert (await told(proxy, upstream, post(b"{}", "/v1/messages", line))).status == FOREIGN[line]


@pytest.mark.parametrize("line", OWN)
@looped
async def test_a_web_page_of_this_machine_is_served(line: str) -> None:
    async with pair() as (proxy, upstream):
        assert line.encode() in await passes(proxy, upstream, post(b"{}", "/v1/messages", line))


@looped
async def test_a_websocket_of_a_foreign_page_is_refused() -> None:
    from tests.proxy.test_tunnel import handshake

    async with pair() as (proxy, upstream):
        assert (await told(proxy, upstream, handshake("/v1/responses", "Origin: https://evil.test"))).status == 403


HOSTS = {
    "localhost": True,
    "LOCALHOST:8081": True,
    "localhost.": True,
    "127.0.0.1:1": True,
    "[::1]:8081": True,
    "evil.test": False,
    "localhost.evil.test": False,
    "evil.test:8081": False,
    "127.0.0.2": False,
    "my.name": True,
    "sub.my.name": False,
    "0.0.0.0": False,
}


@pytest.mark.parametrize("path", ["/v1/messages", "/healthz", "/metrics", "/anything"])
@pytest.mark.parametrize("host", HOSTS)
@looped
async def test_the_host_must_be_one_of_ours_on_every_path(host: str, path: str) -> None:
    async with pair({"allowed_hosts": ["my.name"]}) as (proxy, upstream):
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nx-api-key: {KEY}\r\n\r\n".encode()
        if not HOSTS[host]:
            assert (await told(proxy, upstream, request)).status == 421
        elif path in ("/healthz", "/metrics"):
            assert (await told(proxy, upstream, request)).status == 200
        else:
            await passes(proxy, upstream, request)


GOOD = [
    f"X-LunaRoute-Token: {TOKEN}",
    f"x-api-key: {TOKEN}",
    f"Authorization: Bearer {TOKEN}",
    f"authorization: bearer {TOKEN}",
]
BAD = [
    "X-A: 1",
    f"X-LunaRoute-Token: {TOKEN}x",
    f"X-LunaRoute-Token: {TOKEN[:-1]}",
    "X-LunaRoute-Token: ",
    f"Authorization: {TOKEN}",
    f"X-Token: {TOKEN}",
]


@pytest.mark.parametrize("line", GOOD)
@looped
async def test_an_access_token_opens_and_goes_no_further(line: str) -> None:
    extra = {"access_tokens": [TOKEN], "providers": {"anthropic": {"api_key": "sk-ant-dummy-configured"}}}
    async with pair(extra) as (proxy, upstream):
        request = f"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\n{line}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
        head = await passes(proxy, upstream, request)
        assert TOKEN.encode() not in head
        assert head.count(b"x-api-key: sk-ant-dummy-configured") == 1


@pytest.mark.parametrize("line", BAD)
@looped
async def test_without_an_access_token_nothing_is_served(line: str) -> None:
    async with pair({"access_tokens": [TOKEN]}) as (proxy, upstream):
        for path in ("/v1/messages", "/metrics", "/readyz", "/"):
            request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{line}\r\n\r\n".encode()
            answer = await told(proxy, upstream, request)
            assert answer.status == 401
            assert TOKEN.encode() not in answer.body
        assert (await told(proxy, upstream, get("/healthz"))).status == 200  # `lunaroute env` asks without a token


@looped
async def test_a_token_beside_the_own_key_leaves_the_key() -> None:
    async with pair({"access_tokens": [TOKEN]}) as (proxy, upstream):
        head = await passes(proxy, upstream, post(b"{}", "/v1/messages", f"X-LunaRoute-Token: {TOKEN}"))
        assert f"x-api-key: {KEY}".encode() in head
        assert b"lunaroute" not in head.lower()


@looped
async def test_our_own_fields_never_reach_a_provider() -> None:
    async with pair() as (proxy, upstream):
        head = await passes(
            proxy, upstream, post(b"{}", "/v1/messages", "X-LunaRoute-Anything: 1", "x-lunaroute-token: 2")
        )
        assert b"lunaroute" not in head.lower()


# --- bounds ---


@looped
async def test_a_body_larger_than_allowed_is_a_413() -> None:
    async with pair({"limits": {"body_bytes": 1000}}) as (proxy, upstream):
        assert (await told(proxy, upstream, post(b"x" * 1001))).status == 413
        await passes(proxy, upstream, post(b"x" * 1000))


@looped
async def test_a_chunked_body_larger_than_allowed_is_a_413_when_it_gets_there() -> None:
    async with pair({"limits": {"body_bytes": 1000}}) as (proxy, upstream):
        client = await proxy.sent(
            b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        served = await upstream.accepted()
        await served.head()
        for _ in range(10):
            client.send(b"64\r\n" + b"x" * 100 + b"\r\n")
        await served.until(lambda: served.data.count(b"x" * 100) == 10)
        client.send(b"1\r\nx\r\n0\r\n\r\n")
        answer = await answer_to(client)
        assert answer.status == 413
        await served.until(lambda: served.over)
        assert not served.data.endswith(b"0\r\n\r\n"), "the upstream saw a complete request (F2)"


LIMITS = {"head_bytes": 4096, "url_bytes": 1000, "header_count": 20}
TOO_MUCH = {
    "a long header": (get("/v1/models", "X-A: " + "a" * 5000), 431),
    "a long header without an end": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 5000, 431),
    "many headers": (get("/v1/models", *[f"X-{n}: a" for n in range(30)]), 431),
    "a long target": (get("/v1/" + "a" * 1001), 414),
    "a long target without an end": (b"GET /" + b"a" * 5000, 414),
}


@pytest.mark.parametrize("piece", [0, 16, 1])
@pytest.mark.parametrize(("raw", "status"), TOO_MUCH.values(), ids=TOO_MUCH.keys())
@looped
async def test_heads_are_bounded_however_they_come(raw: bytes, status: int, piece: int) -> None:
    async with pair({"limits": LIMITS}) as (proxy, upstream):
        client = await proxy.client()
        if piece:
            await client.send_in(raw, piece)
        else:
            client.send(raw)
        answer = await answer_to(client, "GET")
        assert answer.status == status
        await client.ended()
        assert not upstream.captured()


@looped
async def test_the_time_for_a_head_is_absolute_however_it_drips() -> None:
    async with pair({"limits": {"head_timeout_secs": 10}}) as (proxy, _):
        client = await proxy.client()
        proxy.pass_time(0)
        for letter in b"GET /v1/mo":
            client.send(bytes([letter]))
            await settle()
            proxy.pass_time(0.9)
        await settle()
        assert not client.data
        proxy.pass_time(1.1)
        answer = await answer_to(client, "GET")
        assert answer.status == 408
        await client.ended()


@looped
async def test_one_connection_more_than_allowed_is_a_503() -> None:
    async with pair({"limits": {"connections": 2}}) as (proxy, upstream):
        first, second = await proxy.client(), await proxy.client()
        await proxy.until(lambda: len(proxy.settings.live) == 2)
        third = await proxy.sent(get())
        assert (await answer_to(third, "GET")).status == 503
        await third.ended()
        third.close()
        first.close()
        await proxy.until(lambda: len(proxy.settings.live) == 1)
        await passes(proxy, upstream, get())
        assert not second.over


ERRORS = [
    ("/v1/messages", True),
    ("/v1/messages/count_tokens", True),
    ("/v1/chat/completions", False),
    ("/v1/responses", False),
]


@pytest.mark.parametrize(("path", "anthropic"), ERRORS)
@looped
async def test_an_error_is_one_json_object_in_the_dialect_of_its_path(path: str, anthropic: bool) -> None:
    async with pair() as (proxy, upstream):
        answer = await told(proxy, upstream, post(b"{}", path, "Origin: https://evil.test"))
        assert answer.values("content-type") == [b"application/json"]
        body = json.loads(answer.body)
        assert (body.get("type") == "error") == anthropic
        assert body["error"]["type"] == "permission_error"
        assert "LunaRoute" in body["error"]["message"]
        assert KEY.encode() not in answer.body


@looped
async def test_a_refused_head_request_gets_no_body() -> None:
    async with pair() as (proxy, upstream):
        client = await proxy.sent(b"HEAD /v1/models HTTP/1.1\r\nHost: evil.test\r\n\r\n")
        raw = await client.ended()
        assert raw.startswith(b"HTTP/1.1 421 ")
        assert raw.endswith(b"\r\n\r\n") and raw.count(b"\r\n\r\n") == 1
        assert not upstream.connections


@looped
async def test_own_endpoints_answer_get_and_head_and_keep_the_connection() -> None:
    async with pair() as (proxy, upstream):
        client = await proxy.client()
        for path in ("/healthz", "/readyz", "/metrics", "/"):
            client.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert (await answer_to(client, "GET")).status == 200
            client.send(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert (await answer_to(client, "HEAD")).body == b""
        client.send(get())
        served = await upstream.accepted()
        await served.head()


@looped
async def test_a_body_to_an_own_endpoint_does_not_become_the_next_request() -> None:
    async with pair() as (proxy, upstream):
        body = get("/smuggled")
        request = f"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        for cut in (0, 1, len(body)):
            client = await proxy.sent(request + body[:cut])
            await answer_to(client, "GET")
            client.send(body[cut:])
            client.finish()
            await client.ended()
        await settle()
        assert not upstream.captured()


@looped
async def test_a_begun_exchange_is_not_hurt_by_a_refused_one() -> None:
    async with pair() as (proxy, upstream):
        client, served = await begun(proxy, upstream, post())
        assert (await answer_to(await proxy.sent(b"\0garbage\r\n\r\n"))).status == 400
        served.send(reply())
        assert (await answer_to(client)).status == 200
