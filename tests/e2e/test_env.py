"""After `eval "$(lunaroute env)"` in a real bash, plain `claude`, `codex` and SDKs go through LunaRoute (S1, S3)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.answers import FINAL, Assistant
from tests.e2e import programs
from tests.fakes import Upstream
from tests.running import Running

pytestmark = pytest.mark.slow

# The SDKs with nothing but their defaults: addresses and keys come from the environment.
SDK = """
import anthropic, openai
with anthropic.Anthropic() as client:
    answer = client.messages.create(model="claude-sonnet-5", max_tokens=9, messages=[{"role": "user", "content": "hi"}])
    print("anthropic:", answer.content[0].text)
with openai.OpenAI() as client:
    print("openai:", client.responses.create(model="gpt-5.5", input="hi").output_text)
"""
SHELL = """
set -eu
eval "$(lunaroute env --config "$CONFIG")"
cd "$HOME/work"
claude -p "say hi" --allowedTools Bash </dev/null
codex exec --skip-git-repo-check "say hi" </dev/null
"$PYTHON" -c "$SDK"
"""


def test_plain_commands_go_through_the_proxy_after_env(tmp_path: Path) -> None:
    assistant = Assistant()
    with Upstream(assistant) as upstream:
        luna = Running(tmp_path / "luna", upstream.url)
        try:
            done = work(luna, programs.fresh_home(tmp_path / "client"))
            status = luna.lunaroute("status", "--port", str(luna.port))
        finally:
            stopped = luna.lunaroute("stop", "--port", str(luna.port))
    assert done.returncode == 0, (done.stdout, done.stderr, luna.log())
    assert done.stdout.count(FINAL) >= 4, done.stdout
    assert f"anthropic: {FINAL}" in done.stdout
    assert f"openai: {FINAL}" in done.stdout
    assert status.returncode == 0, status
    assert stopped.returncode == 0, stopped
    rows = luna.exchanges()
    assert {r["client"] for r in rows} == {"claude-code", "codex", "anthropic-python", "openai-python"}
    assert {r["state"] for r in rows} == {"ok"}
    assert sorted(r["response_id"] for r in rows if r["response_id"]) == sorted(t.id for t in assistant.told)
    assert {r["transport"] for r in rows if r["client"] == "codex"} == {"websocket"}
    credentials = {r.header("authorization") or r.header("x-api-key") for r in upstream.requests}
    assert credentials == {
        programs.KEYS["claude"],
        f"Bearer {programs.KEYS['claude']}",
        f"Bearer {programs.KEYS['codex']}",
        "Bearer sk-dummy-sdk-0000",
    }


def work(luna: Running, home: Path) -> subprocess.CompletedProcess[str]:
    """One shell session of a developer."""
    (home / ".codex").mkdir()
    (home / ".codex" / "config.toml").write_text(programs.CODEX_QUIET)
    tools = programs.on_path(home / "bin")
    environ = luna.environ | programs.QUIET_CLAUDE | {
        "PATH": f"{tools}:{luna.environ['PATH']}",
        "HOME": str(home), "TMPDIR": str(home), "TERM": "dumb",
        "CONFIG": str(luna.file), "PYTHON": sys.executable, "SDK": SDK,
        "ANTHROPIC_API_KEY": programs.KEYS["claude"],
        "OPENAI_API_KEY": "sk-dummy-sdk-0000",
        "CODEX_API_KEY": programs.KEYS["codex"],
    }  # fmt: skip
    return subprocess.run(
        ["bash", "-c", SHELL], env=environ, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, timeout=programs.LIMIT,
    )  # fmt: skip
