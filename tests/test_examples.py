"""Every file under examples/ is a configuration that loads, and says what its first line promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
import yaml

from lunaroute.config import Loaded, flat, load, plain
from lunaroute.config.settings import SETTINGS, general

FOLDER = Path(__file__).resolve().parent.parent / "examples"
FILES = sorted(file for file in FOLDER.glob("*.yaml") if file.name != "prices.yaml")


def loaded(name: str, tmp_path: Path) -> Loaded:
    authority = tmp_path / "company.pem"
    authority.write_bytes(trustme.CA().cert_pem.bytes())
    environ = {
        "HOME": str(tmp_path),
        "TEAM_OPENAI_KEY": "sk-dummy-openai",
        "TEAM_ANTHROPIC_KEY": "sk-ant-dummy",
        "COMPANY_CA_FILE": str(authority),
        "LUNA_TOKEN_ALICE": "dummy-token-alice",
        "LUNA_TOKEN_BOB": "dummy-token-bob",
    }
    return load(FOLDER / name, environ, {})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_loads(file: Path, tmp_path: Path) -> None:
    found = loaded(file.name, tmp_path)
    assert found.warnings == []
    assert any(str(file) in origin for origin in found.origins.values())
    assert file.read_text().startswith("# ")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_credential_stands_in_an_example(file: Path) -> None:
    for key, value in flat(yaml.safe_load(file.read_text())).items():
        if key.endswith(("api_key", "access_tokens")) and value:
            assert value == "none" or all(
                item.startswith("${") for item in ([value] if isinstance(value, str) else value)
            )


def test_all_settings_is_all_and_default(tmp_path: Path) -> None:
    found = loaded("all-settings.yaml", tmp_path)
    assert plain(found.config) == plain(load(None, {"HOME": str(tmp_path)}, {}).config)
    named = {general(key) for key, origin in found.origins.items() if origin != "default"}
    assert named == set(SETTINGS)


def test_what_the_examples_promise(tmp_path: Path) -> None:
    assert loaded("minimal.yaml", tmp_path).config.port == 8090
    keys = loaded("own-keys.yaml", tmp_path)
    assert keys.secrets == ["sk-dummy-openai", "sk-ant-dummy"]
    assert keys.config.providers["anthropic"].auth == "config_only"
    assert not loaded("company-gateway.yaml", tmp_path).config.providers["openai"].websocket
    assert loaded("local-model.yaml", tmp_path).config.api_dialect == "openai"
    assert loaded("codex-login.yaml", tmp_path).config.providers["openai"].codex_auth.enabled
    assert loaded("team.yaml", tmp_path).config.access_tokens == ["dummy-token-alice", "dummy-token-bob"]
    assert not loaded("no-recording.yaml", tmp_path).config.session_recording.enabled
    logs = loaded("logs-only.yaml", tmp_path).config.session_recording
    assert (logs.sqlite.enabled, logs.jsonl.directory) == (False, str(tmp_path / "llm-sessions"))
    pii = loaded("redaction.yaml", tmp_path).config.session_recording.pii
    assert pii.enabled and [each.name for each in pii.custom_patterns] == ["ticket", "employee"]
    assert loaded("debugging.yaml", tmp_path).config.logging.log_requests
