"""What becomes of credentials and configured fields on the wire, by each way of configuring them (P5)."""

from __future__ import annotations

import pytest

from tests.peers import Json, Parsed, Proxy, Upstream, answer_to, looped, pair, reply, requests_in, settle

OWN = "sk-ant-dummy-own"
CONFIGURED = "sk-ant-dummy-configured"
OPENAI_OWN = "sk-proj-dummy-own"
OPENAI_CONFIGURED = "sk-proj-dummy-configured"


def request(path: str, *fields: str) -> bytes:
    return (
        "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *fields, "Content-Length: 2"]).encode() + b"\r\n\r\n{}"
    )


async def at_upstream(extra: Json, raw: bytes) -> Parsed:
    """The request as the provider gets it."""
    async with pair(extra) as (proxy, upstream):
        client = await proxy.sent(raw)
        served = await upstream.accepted()
        await served.until(lambda: requests_in(bytes(served.data))[0])
        served.send(reply())
        assert (await answer_to(client)).status == 200
        ((parsed,), rest) = requests_in(bytes(served.data))
        assert not rest
        return parsed


def anthropic(**more: object) -> Json:
    return {"providers": {"anthropic": {"api_key": CONFIGURED, **more}, "openai": {"api_key": OPENAI_CONFIGURED}}}


@looped
async def test_the_clients_own_key_goes_first() -> None:
    got = await at_upstream(anthropic(), request("/v1/messages", f"x-api-key: {OWN}"))
    assert got.values("x-api-key") == [OWN.encode()]
    assert not got.values("authorization")


@looped
async def test_the_clients_own_login_goes_first() -> None:
    got = await at_upstream(anthropic(), request("/v1/messages", "Authorization: Bearer sk-ant-oat-dummy"))
    assert got.values("authorization") == [b"Bearer sk-ant-oat-dummy"]
    assert not got.values("x-api-key"), "two credentials would be one too many"


@looped
async def test_a_configured_key_fills_in() -> None:
    got = await at_upstream(anthropic(), request("/v1/messages", "anthropic-version: 2023-06-01"))
    assert got.values("x-api-key") == [CONFIGURED.encode()]
    assert got.values("anthropic-version") == [b"2023-06-01"]


@looped
async def test_a_configured_key_fills_in_for_openai_in_its_own_form() -> None:
    got = await at_upstream(anthropic(), request("/v1/responses"))
    assert got.values("authorization") == [f"Bearer {OPENAI_CONFIGURED}".encode()]
    assert not got.values("x-api-key")


@looped
async def test_config_only_replaces_what_the_client_sent() -> None:
    fields = (f"x-api-key: {OWN}", f"Authorization: Bearer {OWN}", "api-key: dummy", "x-goog-api-key: dummy")
    got = await at_upstream(anthropic(auth="config_only"), request("/v1/messages", *fields))
    assert got.values("x-api-key") == [CONFIGURED.encode()]
    for name in ("authorization", "api-key", "x-goog-api-key"):
        assert not got.values(name)


@looped
async def test_client_only_never_uses_the_configured_key() -> None:
    got = await at_upstream(anthropic(auth="client_only"), request("/v1/messages"))
    assert CONFIGURED.encode() not in b"".join(value for _, value in got.fields)


@looped
async def test_configured_fields_are_added_and_replace_the_clients() -> None:
    extra = anthropic(headers={"X-Team": "configured", "anthropic-beta": "configured"})
    fields = (f"x-api-key: {OWN}", "x-team: client", "X-TEAM: again", "anthropic-beta: client", "x-teams: stays")
    got = await at_upstream(extra, request("/v1/messages", *fields))
    assert got.values("x-team") == [b"configured"]
    assert got.values("anthropic-beta") == [b"configured"]
    assert got.values("x-teams") == [b"stays"]
    assert got.values("x-api-key") == [OWN.encode()]


@looped
async def test_a_configured_credential_field_replaces_the_clients() -> None:
    extra = {"providers": {"anthropic": {"headers": {"Authorization": "Bearer dummy-gateway"}}}}
    got = await at_upstream(extra, request("/v1/messages", "authorization: Bearer sk-ant-oat-dummy"))
    assert got.values("authorization") == [b"Bearer dummy-gateway"]


@looped
async def test_an_anthropic_key_on_an_openai_path_goes_to_anthropic_alone() -> None:
    async with pair(anthropic()) as (anthropic_proxy, upstream):
        client = await anthropic_proxy.sent(request("/v1/chat/completions", f"Authorization: Bearer {OWN}"))
        served = await upstream.accepted()
        head = await served.head()
        assert head.startswith(b"POST /v1/chat/completions ")
        assert OPENAI_CONFIGURED.encode() not in head and OWN.encode() in head
        served.send(reply())
        assert (await answer_to(client)).status == 200


@looped
async def test_an_openai_key_on_an_anthropic_path_goes_nowhere() -> None:
    async with pair() as (proxy, upstream):
        answer = await answer_to(await proxy.sent(request("/v1/messages", f"x-api-key: {OPENAI_OWN}")))
        assert answer.status == 401
        assert OPENAI_OWN.encode() not in answer.body
        await settle()
        assert not upstream.connections


MIXED = [
    (f"x-api-key: {OWN}", f"Authorization: Bearer {OPENAI_OWN}"),
    (f"Authorization: Bearer {OPENAI_OWN}", f"x-api-key: {OWN}"),
    (f"Authorization: Bearer {OWN}", f"Authorization: Bearer {OPENAI_OWN}"),
    (f"x-api-key: {OWN}", f"x-api-key: {OPENAI_OWN}"),
    (f"x-api-key: {OWN}", "chatgpt-account-id: account-dummy", "Authorization: Bearer eyJdummy"),
]
OF_OPENAI = (OPENAI_OWN.encode(), b"account-dummy", b"eyJdummy")


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions", "/v1/responses", "/v1/models", "/anything"])
@pytest.mark.parametrize("fields", MIXED)
@looped
async def test_of_two_vendors_credentials_only_the_right_one_goes(path: str, fields: tuple[str, ...]) -> None:
    """Told apart by port: each vendor has an upstream of its own."""
    async with Upstream() as openai, Upstream() as ant:
        extra = {
            "providers": {
                "openai": {"base_url": f"{openai.url}/v1", "chatgpt_base_url": f"{openai.url}/backend-api/codex"},
                "anthropic": {"base_url": ant.url},
            }
        }
        async with Proxy(ant, extra) as proxy:
            client = await proxy.sent(request(path, *fields))
            await proxy.until(lambda: client.data or openai.captured() or ant.captured())
            await settle()
            sent_openai, sent_anthropic = b"".join(openai.captured()), b"".join(ant.captured())
            assert OWN.encode() not in sent_openai
            assert not any(each in sent_anthropic for each in OF_OPENAI)


@looped
async def test_the_query_and_the_bytes_of_a_target_stay() -> None:
    target = "/v1/messages?beta=true&x=%2F&empty=&a=1;b=2"
    got = await at_upstream({}, request(target, f"x-api-key: {OWN}"))
    assert got.first[1] == target.encode()


@looped
async def test_a_base_with_a_path_stands_in_front() -> None:
    async with Upstream() as upstream:
        extra = {"providers": {"anthropic": {"base_url": f"{upstream.url}/gateway"}}}
        async with Proxy(upstream, extra) as proxy:
            await proxy.sent(request("/v1/messages", f"x-api-key: {OWN}"))
            served = await upstream.accepted()
            assert (await served.head()).startswith(b"POST /gateway/v1/messages HTTP/1.1\r\n")
