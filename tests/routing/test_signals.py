"""Signal and credential bits: the scanner's in C and the router's in Python must be the same; what the scanner sets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lunaroute import _fast
from lunaroute.errors import Reject
from lunaroute.routing.signals import OF_ANTHROPIC, OF_OPENAI, Credential, Signal
from tests.peers import looped, pair

PXD = (Path(_fast.__file__).parent / "http1.pxd").read_text()


def members(name: str) -> list[tuple[str, str]]:
    """(name, value or "") of the enum's members, in their order."""
    body = re.search(rf"^cdef enum {name}:\n((?:    .*\n|\n)+)", PXD, re.MULTILINE)
    assert body is not None
    return re.findall(r"^    ([A-Z_]+)(?: = (\d+))?", body[1], re.MULTILINE)


def test_signals_are_those_of_the_scanner() -> None:
    assert {name: int(value) for name, value in members("Signal")} == {s.name: s.value for s in Signal}


def test_credentials_are_bits_of_the_scanners_kinds() -> None:
    kinds = {name: index for index, (name, _) in enumerate(members("Kind"))}
    assert members("Kind")[0] == ("OTHER", "0")
    expected = {
        Credential.BEARER: "AUTHORIZATION",
        Credential.KEY: "API_KEY",
        Credential.VENDOR_KEY: "VENDOR_KEY",
        Credential.ACCOUNT: "ACCOUNT",
    }
    assert {c: 1 << kinds[name] for c, name in expected.items()} == {c: c.value for c in expected}
    assert Credential.BEARER | Credential.KEY | Credential.VENDOR_KEY | Credential.ACCOUNT == Credential.ALL


HEADS = {
    "": Signal(0),
    "Authorization: Bearer sk-ant-api03-x": Signal.BEARER | Signal.BEARER_ANTHROPIC,
    "authorization: bearer   sk-ant-oat01-x": Signal.BEARER | Signal.BEARER_ANTHROPIC,
    "Authorization: Bearer sk-proj-x": Signal.BEARER | Signal.BEARER_OPENAI,
    "Authorization: Bearer sk-svcacct-x": Signal.BEARER | Signal.BEARER_OPENAI,
    "Authorization: Bearer sk-admin-x": Signal.BEARER | Signal.BEARER_OPENAI,
    "Authorization: Bearer sk-aT3BlbkFJb": Signal.BEARER | Signal.BEARER_OPENAI,
    "Authorization: Bearer eyJhbGciOi": Signal.BEARER | Signal.BEARER_JWT,
    "Authorization: Bearer sk-or-v1-x": Signal.BEARER,
    "Authorization: Basic sk-ant-x": Signal.BEARER | Signal.BEARER_ANTHROPIC,
    "Authorization: sk-ant-x": Signal.BEARER | Signal.BEARER_ANTHROPIC,
    "Authorization: Bearer\tsk-ant-x": Signal.BEARER | Signal.BEARER_ANTHROPIC,
    'Authorization: Bearer "sk-ant-x"': Signal.BEARER | Signal.BEARER_ANTHROPIC,
    "Authorization: sk-proj-x": Signal.BEARER | Signal.BEARER_OPENAI,
    "Authorization: Token sk-aT3BlbkFJb": Signal.BEARER | Signal.BEARER_OPENAI,
    "Authorization: Bearer\teyJhbGciOi": Signal.BEARER | Signal.BEARER_JWT,
    "Authorization: eyJhbGciOi": Signal.BEARER,
    "Authorization:": Signal.BEARER,
    "x-api-key: sk-ant-x": Signal.KEY | Signal.KEY_ANTHROPIC,
    "X-API-KEY: sk-proj-x": Signal.KEY | Signal.KEY_OPENAI,
    "x-api-key: Bearer sk-ant-x": Signal.KEY | Signal.KEY_ANTHROPIC,
    "x-api-key: anything": Signal.KEY,
    "api-key: x": Signal.AZURE_KEY,
    "api-key: sk-ant-x": Signal.AZURE_KEY | Signal.VENDOR_KEY_ANTHROPIC,
    "x-goog-api-key: x": Signal.GOOGLE_KEY,
    "chatgpt-account-id: x": Signal.CHATGPT,
    "anthropic-version: 2023-06-01": Signal.ANTHROPIC_FIELD,
    "Anthropic-Beta: x": Signal.ANTHROPIC_FIELD,
    "openai-organization: x": Signal.OPENAI_FIELD,
    "OpenAI-Beta: x": Signal.OPENAI_FIELD,
    "x-lunaroute-token: sk-ant-x": Signal(0),
    "xapi-key: sk-ant-x": Signal(0),
    "x-authorization: Bearer sk-ant-x": Signal(0),
}


@pytest.mark.parametrize("line", HEADS)
@looped
async def test_the_scanner_sets(line: str) -> None:
    fields = [line] if line else []
    assert await signals_of("GET /x HTTP/1.1", *fields) == HEADS[line]


async def signals_of(first: str, *fields: str) -> Signal:
    """What the scanner says about a head: asked at the gate, before anything is decided."""
    async with pair() as (proxy, _):
        seen: list[int] = []

        def gate(method: bytes, path: bytes, fields: object, signals: int) -> tuple[int, int]:
            seen.append(signals)
            raise Reject(418, "seen")

        proxy.settings.gate = gate
        client = await proxy.sent("\r\n".join([first, "Host: localhost", *fields, "", ""]).encode("latin-1"))
        await client.has(b" 418 ")
        (signals,) = seen
        return Signal(signals)


HANDSHAKES = {
    "GET /x HTTP/1.1|Upgrade: websocket|Connection: upgrade": True,
    "GET /x HTTP/1.1|upgrade: WebSocket|connection: keep-alive, Upgrade": True,
    "GET /x HTTP/1.1|Upgrade: websocket": False,
    "GET /x HTTP/1.1|Upgrade: h2c|Connection: upgrade": False,
    "GET /x HTTP/1.0|Upgrade: websocket|Connection: upgrade": False,
    "POST /x HTTP/1.1|Upgrade: websocket|Connection: upgrade": False,
}


@pytest.mark.parametrize("head", HANDSHAKES)
@looped
async def test_what_is_a_websocket_handshake(head: str) -> None:
    assert bool(await signals_of(*head.split("|")) & Signal.WEBSOCKET) == HANDSHAKES[head]


def test_the_groups_do_not_overlap() -> None:
    assert not OF_ANTHROPIC & OF_OPENAI
