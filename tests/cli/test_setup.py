"""`setup codex|claude`: the tool's own file gets one value; `--undo` brings exactly the old file back."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lunaroute.cli.app import program

CODEX = '# mine\nmodel = "gpt-5.5"  # fast\n\n# tools\n[features]\nplugins = false\n'
CLAUDE = '{\n  "permissions": {"allow": ["Bash(ls:*)"]},\n  "env": {"ANTHROPIC_AUTH_TOKEN": "dummy"}\n}\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CODEX_HOME", "CLAUDE_CONFIG_DIR", "LUNAROUTE_HOME", "LUNAROUTE_PORT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(program, ["setup", *words])


FILES = {"codex": (".codex/config.toml", CODEX), "claude": (".claude/settings.json", CLAUDE)}


def prepared(home: Path, tool: str, text: str | None = None) -> Path:
    name, usual = FILES[tool]
    file = home / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(usual if text is None else text)
    file.chmod(0o640)
    return file


def value(tool: str, file: Path) -> object:
    if tool == "codex":
        return tomllib.loads(file.read_text()).get("openai_base_url")
    return json.loads(file.read_text()).get("env", {}).get("ANTHROPIC_BASE_URL")


WANTED = {"codex": "http://127.0.0.1:8081/v1", "claude": "http://127.0.0.1:8081"}


@pytest.mark.parametrize("tool", FILES)
def test_set_and_undone(home: Path, tool: str) -> None:
    file = prepared(home, tool)
    done = run(tool)
    assert done.exit_code == 0, done.output
    assert value(tool, file) == WANTED[tool]
    assert file.stat().st_mode & 0o777 == 0o640
    backup = Path(f"{file}.before-lunaroute")
    assert backup.read_text() == FILES[tool][1]
    assert backup.stat().st_mode & 0o777 == 0o640
    done = run(tool, "--undo")
    assert done.exit_code == 0, done.output
    assert file.read_text() == FILES[tool][1]
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("tool", FILES)
def test_a_file_that_was_not_there_is_gone_again(home: Path, tool: str) -> None:
    file = home / FILES[tool][0]
    assert run(tool).exit_code == 0
    assert value(tool, file) == WANTED[tool]
    assert file.stat().st_mode & 0o777 == 0o600
    assert run(tool, "--undo").exit_code == 0
    assert not file.exists()


@pytest.mark.parametrize("tool", FILES)
def test_changes_made_since_stay(home: Path, tool: str) -> None:
    file = prepared(home, tool)
    run(tool)
    changed = {"codex": ('model = "gpt-5.5"', 'model = "gpt-6"'), "claude": ("Bash(ls:*)", "Bash(cat:*)")}[tool]
    file.write_text(file.read_text().replace(*changed))
    assert "your changes since then stay" in run(tool, "--undo").output
    assert value(tool, file) is None
    assert changed[1] in file.read_text()


@pytest.mark.parametrize("tool", FILES)
def test_an_old_address_comes_back(home: Path, tool: str) -> None:
    text = {
        "codex": 'openai_base_url = "http://gw.test/v1"\n',
        "claude": '{"env": {"ANTHROPIC_BASE_URL": "http://gw.test/v1"}}',
    }
    file = prepared(home, tool, text[tool])
    run(tool)
    file.write_text(file.read_text() + "\n")
    run(tool, "--undo")
    assert value(tool, file) == "http://gw.test/v1"


@pytest.mark.parametrize("tool", FILES)
def test_run_twice_and_with_another_port(home: Path, tool: str) -> None:
    file = prepared(home, tool)
    run(tool)
    once = file.read_text()
    assert "already goes through the proxy" in run(tool).output
    assert file.read_text() == once
    run(tool, "--port", "8090")
    assert value(tool, file) == WANTED[tool].replace("8081", "8090")
    run(tool, "--undo")
    assert file.read_text() == FILES[tool][1]


@pytest.mark.parametrize("tool", FILES)
def test_an_address_that_the_user_set_since_is_left_alone(home: Path, tool: str) -> None:
    file = prepared(home, tool)
    run(tool)
    file.write_text(file.read_text().replace("127.0.0.1:8081", "gw.test"))
    mine = file.read_text()
    assert "left as it is" in run(tool, "--undo").output
    assert file.read_text() == mine


@pytest.mark.parametrize("tool", FILES)
def test_nothing_to_undo(home: Path, tool: str) -> None:
    done = run(tool, "--undo")
    assert done.exit_code == 1
    assert "nothing to undo" in done.stderr


@pytest.mark.parametrize("tool", FILES)
def test_a_broken_file_is_left_alone(home: Path, tool: str) -> None:
    file = prepared(home, tool, "{ [ not valid")
    done = run(tool)
    assert done.exit_code == 1
    assert str(file) in done.stderr and "nothing was changed" in done.stderr
    assert file.read_text() == "{ [ not valid"
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("tool", FILES)
def test_a_link_into_dotfiles_stays_a_link(home: Path, tool: str) -> None:
    file = prepared(home, tool)
    real = home / "dotfiles"
    file.rename(real)
    file.symlink_to(real)
    run(tool)
    assert file.is_symlink() and value(tool, real) == WANTED[tool]
    run(tool, "--undo")
    assert file.is_symlink() and real.read_text() == FILES[tool][1]


def test_another_model_provider_is_pointed_out(home: Path) -> None:
    prepared(home, "codex", 'model_provider = "mine"\n')
    assert 'model_provider is "mine"' in run("codex").output


def test_the_tools_own_folder_variables_count(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_HOME", str(home / "c"))
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(home / "d"))
    run("codex")
    run("claude")
    assert (home / "c/config.toml").exists() and (home / "d/settings.json").exists()
