"""Codex's login file as a source of the credential: where a request goes follows what the file holds now."""

from __future__ import annotations

import json
from pathlib import Path

from tests.peers import answer_to, looped, pair, reply

REQUEST = b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
LOGIN = "eyJhbGciOiJub25lIn0.e30.x"


def write(file: Path, token: str) -> None:
    file.write_text(json.dumps({"tokens": {"access_token": token, "account_id": "account-1"}}))


@looped
async def _follows(file: Path) -> None:
    extra = {"providers": {"openai": {"codex_auth": {"enabled": True, "auth_file": str(file)}}}}
    async with pair(extra) as (proxy, upstream):
        client = await proxy.sent(REQUEST)
        served = await upstream.accepted()
        heads = [await served.head()]
        for token in (LOGIN, "sk-proj-dummy-after"):
            served.send(reply())
            await answer_to(client)
            write(file, token)
            await served.exactly(2)
            client.send(REQUEST)
            heads.append(await served.head())
        targets = [head.split()[1] for head in heads]
        assert targets == [b"/v1/responses", b"/backend-api/codex/responses", b"/v1/responses"]
        assert b"Authorization" not in heads[0]
        assert f"Bearer {LOGIN}\r\nchatgpt-account-id: account-1\r\n".encode() in heads[1]
        assert b"Bearer sk-proj-dummy-after\r\n" in heads[2] and b"account-1" not in heads[2]
        assert len(proxy.warnings) == 1


def test_a_login_that_comes_and_changes_leads_to_its_own_address(tmp_path: Path) -> None:
    _follows(tmp_path / "auth.json")
