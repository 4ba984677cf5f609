"""`doctor`: each thing that can be wrong is found, and what to do is said."""

from __future__ import annotations

import json
import socket
import sqlite3
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner, Result

from lunaroute.cli import checks
from lunaroute.cli.app import program
from lunaroute.config import Loaded, load
from lunaroute.config.settings import Provider
from lunaroute.lifecycle import PidFile, Running

BASE = "http://127.0.0.1:8081"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    names = ("CODEX_HOME", "CLAUDE_CONFIG_DIR", "ANTHROPIC_BASE_URL", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def installed(home: Path, name: str) -> None:
    (home / "bin").mkdir(exist_ok=True)
    (home / "bin" / name).write_text("#!/bin/sh\n")
    (home / "bin" / name).chmod(0o755)


def loaded(home: Path, **flags: object) -> Loaded:
    with socket.create_server(("127.0.0.1", 0)) as free:
        flags.setdefault("port", free.getsockname()[1])
    return load(None, {"HOME": str(home)}, flags)


def run(*words: str) -> Result:
    return CliRunner().invoke(program, ["doctor", *words])


def test_the_report_without_a_server(home: Path) -> None:
    port = str(loaded(home).config.port)
    done = run("--offline", "--port", port)
    assert done.exit_code == 1
    assert f" FAIL  server       nothing answers at http://127.0.0.1:{port}\n" in done.output
    assert '-> start it: eval "$(lunaroute env)"' in done.output
    findings = json.loads(run("--offline", "--json", "--port", port).output)
    assert {"name", "state", "text", "advice"} == set(findings[0])


def test_every_problem_comes_with_advice(home: Path) -> None:
    found = json.loads(run("--offline", "--json", "--port", str(loaded(home).config.port)).output)
    assert [finding["name"] for finding in found if finding["state"] != "ok" and not finding["advice"]] == []


def test_a_foreign_program_on_the_port(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        found = list(checks.server(loaded(home, port=foreign.getsockname()[1])))
    assert [finding.state for finding in found] == ["fail"]
    assert "is taken by" in found[0].text


def test_a_ui_that_did_not_start_is_explained(home: Path) -> None:
    settings = loaded(home)
    host, port = settings.config.host, settings.config.port
    body = b'{"product":"lunaroute","version":"0.1.0","instance":"x","pid":5,"ui":null}'

    def serve(listener: socket.socket) -> None:
        for answer in (body, b'{"stores":[{"name":"sqlite","ok":false,"error":"disk full","path":"/x"}]}'):
            peer, _ = listener.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)

    with socket.create_server((host, port)) as listener, PidFile.take(settings.home, host, port) as held:
        held.write(Running(5, 1, "x", host, port, None, None, [], "", ui_error="port 8082 is taken by x"))
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        found = list(checks.server(settings))
        thread.join()
    assert [(f.name, f.state) for f in found] == [("server", "ok"), ("recording", "fail"), ("web UI", "fail")]
    assert found[1].text == "sqlite: disk full (/x)"
    assert found[2].text == "port 8082 is taken by x"


def test_places_of_the_record(home: Path) -> None:
    settings = loaded(home)
    assert {f.state for f in checks.storage(settings) if f.name in ("home", "database", "log files")} == {"ok"}
    assert not (home / ".lunaroute").exists()  # it only looks
    (home / ".lunaroute").mkdir(mode=0o700)
    (home / ".lunaroute").chmod(0o777)
    bad = {f.name: f for f in checks.storage(settings)}
    assert bad["home"].state == "fail" and "chmod 700" in bad["home"].text
    (home / ".lunaroute").chmod(0o700)
    (home / ".lunaroute/sessions.db").symlink_to("/dev/null")
    assert {f.name: f for f in checks.storage(settings)}["database"].state == "fail"


def test_what_was_recorded_last(home: Path) -> None:
    settings = loaded(home)
    database = Path(settings.config.session_recording.sqlite.path)
    assert "nothing recorded yet" in {f.name: f.text for f in checks.storage(settings)}["recording"]
    database.parent.mkdir(mode=0o700)
    with sqlite3.connect(database) as writer:
        writer.execute("CREATE TABLE sessions (client TEXT, last_at TEXT)")
        writer.execute(
            "INSERT INTO sessions VALUES ('claude-code', '2026-01-01 00:00:00'), ('codex', '2026-01-02 00:00:00')"
        )
    writer.close()
    last = {f.name: f for f in checks.storage(settings)}["recording"]
    assert (last.state, last.text) == ("ok", "last: codex, 2026-01-02 00:00:00 UTC")
    database.write_bytes(b"not a database at all" * 100)
    assert {f.name: f for f in checks.storage(settings)}["recording"].state == "fail"


def test_recording_that_is_off_is_said(home: Path) -> None:
    found = {f.name: f for f in checks.storage(loaded(home, **{"session_recording.enabled": False}))}
    assert found["recording"].state == "warn" and "off" in found["recording"].text


class Tls:
    """A TLS listener for the handshake only."""

    def __init__(self, authority: trustme.CA, name: str) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(self._context)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        peer, _ = self.listener.accept()
        try:
            with self._context.wrap_socket(peer, server_side=True):
                pass
        except OSError:
            pass

    def close(self) -> None:
        self._thread.join()
        self.listener.close()


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def listener(authority: trustme.CA, request: pytest.FixtureRequest) -> Iterator[Tls]:
    tls = Tls(authority, getattr(request, "param", "localhost"))
    yield tls
    tls.close()


def test_an_upstream_whose_certificate_is_accepted(listener: Tls, authority: trustme.CA, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    found = checks.upstream("openai", Provider(base_url=f"https://localhost:{listener.port}/v1", ca_file=str(file)))
    assert (found.state, found.name) == ("ok", "openai"), found


def test_an_upstream_with_an_unknown_authority(listener: Tls) -> None:
    found = checks.upstream("openai", Provider(base_url=f"https://localhost:{listener.port}/v1"))
    assert found.state == "fail" and "certificate not accepted" in found.text and "ca_file" in found.advice


@pytest.mark.parametrize("listener", ["other.test"], indirect=True)
def test_an_upstream_with_another_name(listener: Tls, authority: trustme.CA, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    found = checks.upstream("openai", Provider(base_url=f"https://localhost:{listener.port}/v1", ca_file=str(file)))
    assert found.state == "fail" and "certificate not accepted" in found.text


def test_an_upstream_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = checks.upstream("openai", Provider(base_url=f"http://127.0.0.1:{port}/v1"))
    assert found.state == "fail" and "refused" in found.text
    found = checks.upstream("openai", Provider(base_url="https://nowhere.invalid/v1"))
    assert found.state == "fail" and "no such host" in found.text


CLAUDE = [
    (None, {}, "warn", "ANTHROPIC_BASE_URL is not set in this shell"),
    (None, {"ANTHROPIC_BASE_URL": BASE}, "ok", "goes through the proxy (ANTHROPIC_BASE_URL of this shell)"),
    (None, {"ANTHROPIC_BASE_URL": "http://localhost:8081/"}, "ok", "goes through the proxy"),
    (None, {"ANTHROPIC_BASE_URL": "https://u:canary@gw.test/x"}, "warn", "points to gw.test"),
    ({"env": {"ANTHROPIC_BASE_URL": BASE}}, {}, "ok", "settings.json)"),
    ({"env": {"ANTHROPIC_BASE_URL": "https://gw.test"}}, {"ANTHROPIC_BASE_URL": BASE}, "warn", "points to gw.test"),
]


@pytest.mark.parametrize(("settings", "environ", "state", "said"), CLAUDE, ids=[said for *_, said in CLAUDE])
def test_claude_code(home: Path, settings: object, environ: dict[str, str], state: str, said: str) -> None:
    installed(home, "claude")
    if settings is not None:
        (home / ".claude").mkdir()
        (home / ".claude/settings.json").write_text(json.dumps(settings))
    (found,) = checks.claude(BASE, environ)
    assert (found.state, said in found.text) == (state, True), found
    assert "canary" not in str(found)


CODEX = [
    ("", {}, "warn", "not pointed at the proxy"),
    ("", {"OPENAI_BASE_URL": f"{BASE}/v1"}, "ok", "where `lunaroute env` was evaluated"),
    (f'openai_base_url = "{BASE}/v1"\n', {}, "ok", "goes through the proxy (openai_base_url in"),
    ('openai_base_url = "https://gw.test/v1"\n', {}, "warn", "points to gw.test"),
    ('model_provider = "m"\n[model_providers.m]\nbase_url = "https://gw.test"\n', {}, "warn", "points to gw.test"),
    (f'model_provider = "m"\n[model_providers.m]\nbase_url = "{BASE}/v1"\n', {}, "ok", "model_providers.m in"),
    ("not [ toml", {}, "warn", "not pointed at the proxy"),
]


@pytest.mark.parametrize(("settings", "environ", "state", "said"), CODEX, ids=[f"{c[0][:30]!r} {c[3]}" for c in CODEX])
def test_codex(home: Path, settings: str, environ: dict[str, str], state: str, said: str) -> None:
    installed(home, "codex")
    (home / ".codex").mkdir()
    (home / ".codex/config.toml").write_text(settings)
    (found,) = checks.codex(BASE, environ)
    assert (found.state, said in found.text) == (state, True), found


def test_tools_that_are_not_installed_are_no_problem(home: Path) -> None:
    assert [f.state for f in (*checks.codex(BASE, {}), *checks.claude(BASE, {}))] == ["ok", "ok"]


def test_a_proxy_that_would_catch_local_requests() -> None:
    environ = {"OPENAI_BASE_URL": f"{BASE}/v1", "HTTP_PROXY": "http://p.test"}
    assert [f.state for f in checks.sdks(BASE, environ)] == ["ok", "warn"]
    assert [f.state for f in checks.sdks(BASE, environ | {"NO_PROXY": "localhost,127.0.0.1"})] == ["ok"]
