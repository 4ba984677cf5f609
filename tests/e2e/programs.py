"""The real assistants: where their programs are, and how each is run headless with a home of its own.

They are installed by `make clients`. No run needs the network beyond loopback, and every run has a time limit.
"""

from __future__ import annotations

import base64
import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.running import ROOT

Json = dict[str, Any]
PACKAGES = ROOT / "tests" / ".clients" / "node_modules"
CPU = {"x86_64": "x64", "AMD64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
HERE = f"{platform.system().lower()}-{CPU}"
LIMIT = 90.0  # seconds for one run of a client; they take one to eight
PROMPT = "say hi"
KEYS = {"claude": "sk-ant-dummy-claude-0000", "codex": "sk-dummy-codex-0000", "opencode": "sk-dummy-opencode-0000"}


def program(name: str) -> Path:
    """The native program of an assistant; its npm package only starts it."""
    places = {
        "claude": PACKAGES / "@anthropic-ai" / f"claude-code-{HERE}" / "claude",
        "codex": next(
            iter((PACKAGES / "@openai" / f"codex-{HERE}" / "vendor").glob("*/bin/codex")), PACKAGES / "codex"
        ),
        "opencode": PACKAGES / f"opencode-{HERE}" / "bin" / "opencode",
    }
    assert places[name].exists(), f"{name} is not installed: run `make clients` (looked for {places[name]})"
    return places[name]


def on_path(folder: Path) -> Path:
    """A folder for PATH in which the assistants have their usual names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("claude", "codex", "opencode"):
        (folder / name).symlink_to(program(name))
    return folder


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How one run ended."""

    code: int
    out: str
    err: str

    def lines(self) -> list[Json]:
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]


def fresh_home(home: Path) -> Path:
    """The same path, empty: what a client says of its surroundings is then the same in each run."""
    shutil.rmtree(home, ignore_errors=True)
    (home / "work").mkdir(parents=True)
    return home


def environment(home: Path) -> dict[str, str]:
    """All that a client gets to know of the machine."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "TERM": "dumb",
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
    }


def run(home: Path, argv: list[str | Path], environ: Mapping[str, str], limit: float = LIMIT) -> Ran:
    done = subprocess.run(
        argv, env=environment(home) | environ, cwd=home / "work", stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False, timeout=limit,
    )  # fmt: skip
    return Ran(code=done.returncode, out=done.stdout, err=done.stderr)


# --- Claude Code ---------------------------------------------------------------------------------------------------
QUIET_CLAUDE = {"DISABLE_TELEMETRY": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
CLAUDE_ARGUMENTS = ["-p", PROMPT, "--output-format", "json", "--allowedTools", "Bash"]


def claude(home: Path, url: str, *, arguments: list[str] | None = None, **environ: str) -> Ran:
    keys = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": KEYS["claude"]}
    return run(home, [program("claude"), *(arguments or CLAUDE_ARGUMENTS)], QUIET_CLAUDE | keys | environ)


# --- Codex ---------------------------------------------------------------------------------------------------------
CODEX_ARGUMENTS = ["exec", "--skip-git-repo-check", "--json", PROMPT]
CODEX_QUIET = """
check_for_update_on_startup = false
[analytics]
enabled = false
[features]
plugins = false
apps = false
"""


def codex_config(url: str, *, custom: bool, chatgpt: bool) -> str:
    """config.toml for a provider of one's own (plain HTTP), or for the built-in one (WebSocket first)."""
    if custom:
        own = f'name = "own"\nbase_url = "{url}/v1"\nenv_key = "OWN_KEY"\nwire_api = "responses"\n'
        return f'model_provider = "own"\nmodel = "gpt-5.5"\n{CODEX_QUIET}[model_providers.own]\n{own}'
    backend = f'chatgpt_base_url = "{url}/backend-api"\n' if chatgpt else ""
    return f'openai_base_url = "{url}/v1"\n{backend}{CODEX_QUIET}'


def codex(home: Path, url: str, *, custom: bool = False, chatgpt: bool = False, **environ: str) -> Ran:
    folder = home / ".codex"
    folder.mkdir()
    (folder / "config.toml").write_text(codex_config(url, custom=custom, chatgpt=chatgpt))
    if chatgpt:
        (folder / "auth.json").write_text(json.dumps(chatgpt_login()))
    keys = {} if chatgpt else {"OWN_KEY": KEYS["codex"]} if custom else {"CODEX_API_KEY": KEYS["codex"]}
    return run(home, [program("codex"), *CODEX_ARGUMENTS], keys | environ)


def chatgpt_login() -> Json:
    """auth.json of a ChatGPT login that nobody has: an unsigned token with dummy claims."""
    claims = {
        "iss": "https://auth.openai.com", "aud": ["app_dummy"], "iat": 1795421819, "exp": 4102444800,
        "email": "dummy@example.invalid",
        "https://api.openai.com/auth": {
            "chatgpt_plan_type": "pro", "chatgpt_account_id": "acct-dummy", "chatgpt_user_id": "user-dummy",
            "user_id": "user-dummy",
        },
        "https://api.openai.com/profile": {"email": "dummy@example.invalid"},
    }  # fmt: skip
    parts = [json.dumps(part).encode() for part in ({"alg": "RS256", "typ": "JWT"}, claims)]
    token = ".".join(base64.urlsafe_b64encode(p).decode().rstrip("=") for p in [*parts, b"dummysig"])
    tokens = {"id_token": token, "access_token": token, "refresh_token": "dummy-refresh", "account_id": "acct-dummy"}
    return {"auth_mode": "chatgpt", "OPENAI_API_KEY": None, "tokens": tokens, "last_refresh": "2026-11-23T08:16:59Z"}


# --- OpenCode ------------------------------------------------------------------------------------------------------
def opencode_config(url: str, dialect: str) -> Json:
    limit = {"context": 200000, "output": 32000}
    options = {"baseURL": f"{url}/v1", "apiKey": KEYS["opencode"]}
    providers: dict[str, tuple[str, Json]] = {
        "chat": ("own/own-model", {"npm": "@ai-sdk/openai-compatible", "name": "Own"}),
        "anthropic": ("anthropic/claude-sonnet-5", {}),
        "responses": ("openai/gpt-5.5", {}),
    }
    model, extra = providers[dialect]
    provider, name = model.split("/")
    models = {name: {"name": name, "limit": limit, "tool_call": True}}
    return {
        "autoupdate": False, "share": "disabled", "model": model, "small_model": model,
        "provider": {provider: extra | {"options": options, "models": models}},
    }  # fmt: skip


def opencode(home: Path, url: str, *, dialect: str) -> Ran:
    environ = {
        "NPM_CONFIG_REGISTRY": "http://127.0.0.1:9/",
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        "OPENCODE_CONFIG_CONTENT": json.dumps(opencode_config(url, dialect)),
    }
    return run(home, [program("opencode"), "run", "--title", "a title", PROMPT], environ)
