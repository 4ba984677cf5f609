"""`config check` and `config show`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lunaroute.cli.app import program
from lunaroute.config.settings import SETTINGS


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-dummy-canary")
    file = tmp_path / "c.yaml"
    file.write_text("port: 9000\naccess_tokens: [token-canary]\n")
    file.chmod(0o600)
    return file


def run(*words: str) -> Result:
    return CliRunner().invoke(program, ["config", *words])


def test_check(file: Path) -> None:
    assert run("check", "--config", str(file)).output == f"{file}: fine\n"
    assert run("check").output == "no configuration file: fine\n"
    file.write_text("prot: 1\nworkers: x\n")
    done = run("check", "--config", str(file))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f'lunaroute: {file}:1: prot: unknown key; did you mean "port"?',
        f'{file}:2: workers: expected a whole number from 1 to 64, got "x"',
    ]


def test_show_names_each_value_and_its_origin(file: Path) -> None:
    lines = run("show", "--config", str(file), "--ui-port", "9001").output.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    assert rows["port"] == ["9000", f"{file}:1"]
    assert rows["ui.port"] == ["9001", "flag", "--ui-port"]
    assert rows["providers.openai.api_key"] == ['"***"', "env", "OPENAI_API_KEY"]
    assert rows["access_tokens"] == ['["***"]', f"{file}:2"]
    assert rows["providers.anthropic.http_client.timeout_secs"] == ["600", "default"]
    shown = {key.replace("openai.", "<name>.", 1).replace("anthropic.", "<name>.", 1) for key in rows}
    assert shown == set(SETTINGS)


def test_show_only_what_is_set(file: Path) -> None:
    lines = run("show", "--set", "--config", str(file)).output.splitlines()
    assert [line.split()[0] for line in lines] == ["port", "providers.openai.api_key", "access_tokens"]


def test_show_as_json(file: Path) -> None:
    facts = json.loads(run("show", "--json", "--config", str(file)).output)
    assert facts["port"] == {"value": 9000, "origin": f"{file}:1"}


def test_no_credential_is_shown(file: Path) -> None:
    for words in (["show"], ["show", "--json"], ["show", "--set"]):
        assert "canary" not in run(*words, "--config", str(file)).output
