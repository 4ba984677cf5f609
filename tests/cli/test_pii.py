"""`lunaroute pii`: what would be redacted, in a pipe and in a terminal; the record looked through; tokens revealed.

What a running server does at a command's word is in tests/test_redaction.py.
"""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lunaroute.cli.app import program
from lunaroute.observe.pii.key import Key
from lunaroute.observe.pii.vault import Vault
from tests import recorded

README = Path(__file__).resolve().parents[2] / "README.md"
TEXT = "Hello joe@corp-mail.com,\nuse AKIAQX7HZPL2MN4KJT6W and 4111 1111 1111 1111.\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("LUNAROUTE_HOME", str(folder))
    monkeypatch.setenv("LUNAROUTE_PII_KEY", "a-passphrase-for-tests")
    return folder


def run(*words: str, code: int = 0, given: str | None = None) -> Result:
    result = CliRunner().invoke(program, ["pii", *words], input=given)
    assert result.exit_code == code, result.output
    return result


def configure(home: Path, **pii: Any) -> None:
    (home / "config.yaml").write_text(json.dumps({"session_recording": {"pii": pii}}))
    (home / "config.yaml").chmod(0o600)


# --- test -----------------------------------------------------------------------------------------------
def test_a_text_as_it_would_be_kept(home: Path, tmp_path: Path) -> None:
    configure(home, enabled=True)
    file = tmp_path / "a.txt"
    file.write_text(TEXT)
    result = run("test", str(file), code=1)
    assert re.fullmatch(r"Hello \[EMAIL:\w{8}\],\nuse \[SECRET:\w{8}\] and \[CREDIT_CARD:\w{8}\]\.\n", result.stdout)
    assert result.stderr == "1 email, 1 secret, 1 credit card\n"
    assert run("test", code=1, given=TEXT).stdout == result.stdout
    assert not list(home.glob("pii.*")), "a try leaves nothing behind"


def test_nothing_found(home: Path) -> None:
    configure(home, enabled=True)
    result = run("test", "-", given="def f(): return 1\n")
    assert (result.stdout, result.stderr) == ("def f(): return 1\n", "Nothing found.\n")


def test_what_is_off_is_said(home: Path) -> None:
    result = run("test", code=1, given=TEXT)
    assert "joe@corp-mail.com" in result.stdout and "AKIA" not in result.stdout
    assert "session_recording.pii.enabled is false (--all does)" in result.stderr
    everything = run("test", "--all", code=1, given=TEXT)
    assert "joe" not in everything.stdout and "enabled" not in everything.stderr


def test_values_with_their_places(home: Path) -> None:
    lines = [line.split("\t") for line in run("test", "--all", "--values", code=1, given=TEXT).stdout.splitlines()]
    assert [line[:5] for line in lines] == [
        ["1", "7", "email", "email", "joe@corp-mail.com"],
        ["2", "5", "secret", "aws_access_key", "AKIAQX7HZPL2MN4KJT6W"],
        ["2", "30", "credit_card", "visa", "4111 1111 1111 1111"],
    ]


def test_as_json(home: Path) -> None:
    body = json.dumps({"a": "mail joe@corp-mail.com", "password": "hunter2secret"})
    told = json.loads(run("test", "--all", "--json", code=1, given=body).stdout)
    assert told["counts"] == {"email": 1, "secret": 1}
    kept = json.loads(told["redacted"])
    assert kept["a"] == f"mail {told['found'][0]['replacement']}"
    for each in told["found"]:
        assert body[each["start"] : each["end"]] == each["value"]


def test_a_recorded_stream(home: Path) -> None:
    stream = "".join(f'data: {{"delta": {{"text": "{piece}"}}}}\n\n' for piece in ("mail joe@co", "rp-mail.com!"))
    kept = run("test", "--all", code=1, given=stream).stdout
    assert re.fullmatch(
        r'data: \{"delta": \{"text": "mail \[EMAIL:\w{8}\]"\}\}\n\ndata: \{"delta": \{"text": "!"\}\}\n\n', kept
    )


def test_a_file_that_is_not_there(home: Path) -> None:
    assert "no such file" in run("test", "/nowhere/at/all", code=2).stderr


def test_the_example_of_the_readme(home: Path) -> None:
    before, after = re.findall(r"\*\*Before:\*\* `([^`]+)` \*\*After:\*\* `([^`]+)`", README.read_text())[0]
    kept = run("test", "--all", code=1, given=before).stdout
    assert re.sub(r":\w{8}\]", ":#]", kept) == re.sub(r":\w{8}\]", ":#]", after)


def terminal(home: Path, *words: str, **environ: str) -> str:
    """What a terminal is shown."""
    main, side = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **environ}
    env.pop("NO_COLOR", None) if "NO_COLOR" not in environ else None
    done = subprocess.Popen(
        [sys.executable, "-m", "lunaroute", "pii", *words], env=env, stdin=subprocess.DEVNULL, stdout=side, stderr=side
    )
    os.close(side)
    shown = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    done.wait(20)
    os.close(main)
    return shown.decode()


def test_colours_by_kind(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text(TEXT + "\x1b[31mnot ours\n")
    shown = terminal(home, "test", "--all", str(file))
    codes = re.findall(r"\x1b\[([\d;]+)m\[(EMAIL|SECRET|CREDIT_CARD):", shown)
    assert [kind for _, kind in codes] == ["EMAIL", "SECRET", "CREDIT_CARD"]
    assert len({code for code, _ in codes}) == 3
    assert "\x1b[31mnot ours" not in shown
    plain = terminal(home, "test", "--all", str(file), NO_COLOR="1")
    assert not re.search(r"\x1b\[[\d;]*3\dm", plain) and "[EMAIL:" in plain
    values = terminal(home, "test", "--all", "--values", str(file))
    assert "joe@corp-mail.com" in values and "1:7" in values


# --- scan -----------------------------------------------------------------------------------------------
def record(home: Path) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": TEXT}]}).encode()
    recorded.write(home / "sessions.db", [recorded.exchange(1, "session-a", request_body=body)])


def test_the_record_is_looked_through_without_a_server(home: Path) -> None:
    record(home)
    configure(home, enabled=True)
    found = run("scan", code=1).stdout
    assert "Looked through 1 exchange and 0 log files. Found:" in found
    assert re.search(r"1 AWS access key +in 1 exchange of 1 session", found)
    assert "! AWS access key left this machine in request 1 of session session-a" in found
    assert "lunaroute pii scan --apply" in found
    assert "Taken out:" in run("scan", "--apply").stdout
    assert "Nothing was found." in run("scan").stdout
    assert b"AKIAQX" not in (home / "sessions.db").read_bytes()
    show = CliRunner().invoke(program, ["sessions", "show", "session-a"]).output
    assert "Redacted: " in show and "! AWS access key left this machine in request 1" in show


def test_only_secrets_where_the_rest_is_off(home: Path) -> None:
    record(home)
    told = json.loads(run("scan", "--json", code=1).stdout)
    assert [row["kind"] for row in told["found"]] == ["secret"]
    assert "Personal data is not looked for" in run("scan", code=1).stdout


def test_nothing_recorded(home: Path) -> None:
    assert "nothing has been recorded" in run("scan", code=2).stderr


# --- reveal ---------------------------------------------------------------------------------------------
def test_a_token_is_revealed(home: Path) -> None:
    key = Key(home, "a-passphrase-for-tests")
    Vault(home, key).keep("[EMAIL:a3f8e9d2]", "email", "email", "joe@corp-mail.com")
    assert run("reveal", "[EMAIL:a3f8e9d2]").stdout == "joe@corp-mail.com\n"
    assert run("reveal", "a3f8e9d2").stdout == "joe@corp-mail.com\n"
    told = json.loads(run("reveal", "a3f8e9d2", "--json").stdout)
    assert told == [{"token": "[EMAIL:a3f8e9d2]", "kind": "email", "name": "email", "value": "joe@corp-mail.com"}]
    assert "no such token; it keeps values for 30 days" in run("reveal", "ffffffff", code=1).stderr


def test_without_the_key_or_a_vault(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "session_recording.pii.vault is false" in run("reveal", "a3f8e9d2", code=1).stderr
    Vault(home, Key(home, "another-passphrase")).keep("[EMAIL:a3f8e9d2]", "email", "email", "joe@corp-mail.com")
    result = run("reveal", "a3f8e9d2", code=1)
    assert "made with another key" in result.stderr and "joe" not in result.output
