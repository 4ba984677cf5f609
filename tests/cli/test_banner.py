"""The start-up banner (promise S7): mode, providers with where their key comes from, bypass, recording, UI."""

from __future__ import annotations

from pathlib import Path

import pytest

from lunaroute.cli.banner import banner, key_source
from lunaroute.config import Loaded, load


def loaded(tmp_path: Path, text: str = "", **environ: str) -> Loaded:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    file.chmod(0o600)
    return load(file, {"HOME": "/home/me", **environ}, {})


def test_the_defaults(tmp_path: Path) -> None:
    text = banner(load(None, {"HOME": "/home/me"}, {}), "http://127.0.0.1:8082", None)
    assert text.splitlines() == [
        "LunaRoute listens on http://127.0.0.1:8081",
        "  mode        passthrough, byte for byte: the OpenAI and the Anthropic API",
        "  OpenAI      https://api.openai.com/v1; the client's own credential",
        "  Anthropic   https://api.anthropic.com; the client's own credential",
        "  bypass      on: unknown paths go to the vendor their credentials belong to",
        "  recording   on: /home/me/.lunaroute/sessions.db, /home/me/.lunaroute/sessions/",
        "  redaction   on: secrets (tokenize)",
        "  web UI      http://127.0.0.1:8082",
        "  config      none (defaults)",
    ]


KEYS = [
    ("", {}, "the client's own credential"),
    ("", {"OPENAI_API_KEY": "sk-dummy-0"}, "the client's own credential, else the key from OPENAI_API_KEY"),
    ("{api_key: sk-dummy-0}", {}, "the client's own credential, else the key from FILE:2"),
    ("{api_key: '${K}'}", {"K": "sk-dummy-0"}, "the client's own credential, else the key from FILE:2 (${K})"),
    ("{api_key: sk-dummy-0, auth: config_only}", {}, "key from FILE:2, in place of the client's"),
    ("{auth: client_only}", {"OPENAI_API_KEY": "sk-dummy-0"}, "the client's own credential only"),
    (
        "{codex_auth: {enabled: true}}",
        {},
        "the client's own credential, else Codex's login (/home/me/.codex/auth.json)",
    ),
    ("{codex_auth: {enabled: true}, auth: config_only}", {}, "Codex's login, in place of the client's"),
]


@pytest.mark.parametrize(("openai", "environ", "said"), KEYS, ids=[said[:60] for *_, said in KEYS])
def test_where_a_key_comes_from(tmp_path: Path, openai: str, environ: dict[str, str], said: str) -> None:
    found = loaded(tmp_path, f"providers:\n  openai: {openai}\n", **environ)
    words = key_source("openai", found.config.providers["openai"], found.origins)
    assert words == said.replace("FILE", str(tmp_path / "c.yaml"))
    assert "sk-dummy-0" not in banner(found, None, None)


def test_what_is_off_is_said_to_be_off(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        "api_dialect: openai\nbypass: {enabled: false}\nui: {enabled: false}\n"
        "session_recording: {sqlite: {enabled: false}, jsonl: {enabled: false}}\n",
    )
    text = banner(found, None, None)
    for line in ("mode        passthrough, byte for byte: the OpenAI API only", "Anthropic   off", "bypass      off"):
        assert f"  {line}" in text
    assert "  recording   off\n  redaction   on: secrets (tokenize)\n  web UI      off\n" in text


def test_a_ui_that_did_not_start_is_said(tmp_path: Path) -> None:
    assert "  web UI      not available: port 8082 is taken" in banner(loaded(tmp_path), None, "port 8082 is taken")


def test_warnings_are_shown(tmp_path: Path) -> None:
    assert "  warning     environment variable LUNAROUTE_PROT is" in banner(
        loaded(tmp_path, LUNAROUTE_PROT="1"), None, None
    )


@pytest.mark.parametrize(
    ("pii", "said"),
    [
        ("{enabled: true, redaction_mode: mask}", "on: personal data and secrets (mask)"),
        ("{redact_secrets: false}", "off"),
        ("{enabled: true, redact_secrets: false, detect_secrets: false}", "on: personal data (tokenize)"),
    ],
)
def test_redaction(tmp_path: Path, pii: str, said: str) -> None:
    text = banner(loaded(tmp_path, f"session_recording: {{pii: {pii}}}\n"), None, None)
    assert f"  redaction   {said}\n" in text
