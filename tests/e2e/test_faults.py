"""Real clients meet faults behind LunaRoute: they see them as without it, get over them, and all of it is recorded.

A cut must stay a cut (P3): a client only asks again because it saw one. Nothing is retried by the proxy itself.
"""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import anthropic
import httpx2
import pytest

from tests.answers import FINAL, Assistant, sse
from tests.conftest import Serve
from tests.e2e import programs
from tests.fakes import Request, Script, Upstream, Wire
from tests.faults import closed_before_head, cut_stream, held, once, refusal

pytestmark = pytest.mark.slow
BUSY = b'{"error":{"type":"rate_limit_error","message":"slow down, try again in 1s"},"type":"error"}'


def posts(request: Request) -> bool:
    return request.method == "POST"


def cut(assistant: Assistant, events: int, how: str) -> Script:
    """The first events of a real answer, then the fault."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.body()
        await cut_stream(assistant.answer(request)[1][:events], how)(request, wire)

    return script


@pytest.mark.parametrize("how", ["reset", "close"])
def test_claude_code_asks_again_after_a_cut_stream(how: str, tmp_path: Path, serve: Serve) -> None:
    assistant = Assistant()
    with Upstream(once(cut(assistant, 5, how), assistant, posts)) as upstream:
        luna = serve(upstream)
        ran = programs.claude(programs.fresh_home(tmp_path / "client"), luna.url)
        assert luna.stop() == 0
    assert ran.code == 0
    assert ran.lines()[0]["result"] == FINAL
    rows = [r for r in luna.exchanges() if r["kind"] == "turn"]
    assert [r["state"] for r in rows] == ["upstream_error", "ok", "ok"]
    assert rows[0]["error"]
    assert (rows[0]["usage_state"], rows[0]["input_tokens"]) == ("partial", assistant.told[0].usage["input_tokens"])
    assert len({r["session_id"] for r in rows}) == 1
    assert len([r for r in upstream.requests if posts(r)]) == 3


def test_codex_asks_again_after_a_stream_cut_before_its_head(tmp_path: Path, serve: Serve) -> None:
    assistant = Assistant()
    with Upstream(once(closed_before_head, assistant, posts)) as upstream:
        luna = serve(upstream)
        ran = programs.codex(programs.fresh_home(tmp_path / "client"), luna.url, custom=True)
        assert luna.stop() == 0
    assert ran.code == 0, ran
    assert FINAL in ran.out
    rows = luna.exchanges()
    assert [(r["state"], r["status"]) for r in rows] == [("upstream_error", 502), ("ok", 200), ("ok", 200)]
    assert len(upstream.requests) == 3, "the proxy never asks again by itself"


def test_codex_honours_the_retry_after_of_a_rate_limit(tmp_path: Path, serve: Serve) -> None:
    assistant = Assistant()
    limited = refusal(429, BUSY, [("retry-after", "1"), ("x-ratelimit-remaining-requests", "0")])
    with Upstream(once(limited, assistant, posts)) as upstream:
        luna = serve(upstream)
        ran = programs.codex(programs.fresh_home(tmp_path / "client"), luna.url, custom=True)
        assert luna.stop() == 0
    assert ran.code == 0, ran
    assert FINAL in ran.out
    rows = luna.exchanges()
    assert [(r["state"], r["status"]) for r in rows] == [("upstream_error", 429), ("ok", 200), ("ok", 200)]
    assert rows[0]["response_body"] == BUSY
    assert rows[1]["started_ns"] - rows[0]["started_ns"] >= 0.9e9


def test_opencode_asks_again_after_a_reset_stream(tmp_path: Path, serve: Serve) -> None:
    assistant = Assistant()
    with Upstream(once(cut(assistant, 3, "reset"), assistant, posts)) as upstream:
        luna = serve(upstream)
        ran = programs.opencode(programs.fresh_home(tmp_path / "client"), luna.url, dialect="chat")
        assert luna.stop() == 0
    assert ran.code == 0, ran
    assert FINAL in ran.out
    rows = luna.exchanges()
    assert [r["state"] for r in rows] == ["upstream_error", "ok", "ok"]
    assert rows[0]["usage_state"] == "unknown", "a chat stream that is cut has told no usage: unknown, not zero"


@pytest.mark.parametrize("how", ["reset", "close", "half_close"])
def test_an_sdk_sees_a_cut_as_an_error(how: str, serve: Serve) -> None:
    assistant = Assistant()
    with Upstream(once(cut(assistant, 5, how), assistant)) as upstream:
        luna = serve(upstream)
        with (
            anthropic.Anthropic(api_key="sk-ant-dummy-0000", base_url=luna.url, max_retries=0) as client,
            pytest.raises((anthropic.APIError, httpx2.TransportError)),
            stream_of(client) as stream,
        ):
            stream.until_done()
        assert luna.stop() == 0
    assert [r["state"] for r in luna.exchanges()] == ["upstream_error"]


def stream_of(client: anthropic.Anthropic) -> anthropic.MessageStreamManager[None]:
    return client.messages.stream(model="claude-sonnet-5", max_tokens=9, messages=[{"role": "user", "content": "hi"}])


def test_a_killed_client_frees_the_provider_at_once(tmp_path: Path, serve: Serve) -> None:
    reached = threading.Event()
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "usage": {"input_tokens": 7},
    }
    with Upstream(held([sse("message_start", {"message": message})], reached)) as upstream:
        luna = serve(upstream)
        process = claude(programs.fresh_home(tmp_path / "client"), luna.url)
        assert reached.wait(programs.LIMIT)
        process.kill()
        killed = time.monotonic()
        process.wait()
        upstream.wait_for(lambda: upstream.connections[-1].ended, "the provider is freed")
        assert time.monotonic() - killed < 1.0
        assert luna.stop() == 0
    (row,) = luna.exchanges()
    assert (row["state"], row["usage_state"], row["input_tokens"]) == ("client_cancelled", "partial", 7)


def claude(home: Path, url: str) -> subprocess.Popen[bytes]:
    keys = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": programs.KEYS["claude"]}
    return subprocess.Popen(
        [programs.program("claude"), *programs.CLAUDE_ARGUMENTS],
        env=programs.environment(home) | programs.QUIET_CLAUDE | keys, cwd=home / "work",
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
