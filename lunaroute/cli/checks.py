"""What `lunaroute doctor` looks at. Each check yields findings: what is so, and what to do where it is wrong.

Looks only: nothing is changed, no request is sent to a provider (a connection is opened and closed), no credential read
from a tool's settings is shown.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from lunaroute.cli.setup import claude_file, codex_file
from lunaroute.config import Loaded, Provider
from lunaroute.errors import LunaRouteError
from lunaroute.folders import private_folder
from lunaroute.lifecycle import log_path, pid_path, read_pid
from lunaroute.probe import base_url, get, occupant, probe
from lunaroute.stores.readonly import Connection, NoRecord

OK, WARN, FAIL = "ok", "warn", "fail"
CONNECT_SECONDS = 5.0
LITTLE_SPACE = 1 << 30
NO_SPACE = 100 << 20


class Finding(NamedTuple):
    """One line of the report. `advice` says what to do; empty where nothing is wrong."""

    name: str
    state: str
    text: str
    advice: str = ""


def settings(loaded: Loaded) -> Iterator[Finding]:
    """The configuration was read already; what is left are its warnings."""
    yield Finding("config", OK, str(loaded.file or "no file, defaults and environment"))
    for warning in loaded.warnings:
        yield Finding("config", WARN, warning)


def server(loaded: Loaded) -> Iterator[Finding]:
    """Whether LunaRoute answers, can serve, and shows its UI."""
    host, port = loaded.config.host, loaded.config.port
    answer, base = probe(host, port), base_url(host, port)
    if not answer.ours:
        if answer.what:
            who = occupant(port) or answer.what
            yield Finding("server", FAIL, f"port {port} is taken by {who}", "stop that program or use --port")
        else:
            advice = f'start it: eval "$(lunaroute env)"; if that fails, see {log_path(loaded.home)}'
            yield Finding("server", FAIL, f"nothing answers at {base}", advice)
        return
    yield Finding("server", OK, f"LunaRoute {answer.version} at {base} (pid {answer.pid})")
    yield from _ready(host, port, loaded.config.access_tokens)
    if not loaded.config.ui.enabled:
        yield Finding("web UI", OK, "off")
    elif answer.ui is None:
        kept = read_pid(pid_path(loaded.home, host, port))
        if kept and kept.ui_error:
            advice = "lunaroute restart; on another port: lunaroute restart --ui-port 8092"
            yield Finding("web UI", FAIL, kept.ui_error, advice)
        else:
            yield Finding("web UI", WARN, "not up yet", "a busy machine takes its time: lunaroute doctor again")
    else:
        yield _page(answer.ui)


def _ready(host: str, port: int, tokens: list[str]) -> Iterator[Finding]:
    status, body = get(host, port, "/readyz", tokens[0] if tokens else "")
    facts: Any = {}
    with contextlib.suppress(ValueError):
        facts = json.loads(body)
    for store in _stores(facts):
        if not store.get("ok", True):
            text = f"{store.get('name')}: {store.get('error') or 'not written'} ({store.get('path')})"
            yield Finding("recording", FAIL, text, "free space or repair the path; recording resumes by itself")
    if status != 200:
        why = "; ".join(facts.get("problems", ())) if isinstance(facts, dict) else ""
        text = f"/readyz answers {status or 'nothing'}{why and f': {why}'}"
        yield Finding("server", WARN, text, "lunaroute logs -n 20 says more")


def _stores(facts: Any) -> list[dict[str, Any]]:
    found = facts.get("stores") if isinstance(facts, dict) else None
    return [store for store in found if isinstance(store, dict)] if isinstance(found, list) else []


def _page(url: str) -> Finding:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    status, body = get(host, port, "/healthz")
    if status == 200 and b'"lunaroute-ui"' not in body:
        who = occupant(port) or "another program"
        return Finding("web UI", FAIL, f"{url} is taken by {who}", "lunaroute restart --ui-port 8092")
    if status == 200:
        return Finding("web UI", OK, url)
    return Finding("web UI", FAIL, f"{url} answers {status or 'nothing'}", "lunaroute logs -n 20; lunaroute restart")


def storage(loaded: Loaded) -> Iterator[Finding]:
    """Whether the places of the record can be written and have room, and when something was last recorded."""
    recording = loaded.config.session_recording
    places = {"home": loaded.home}
    if recording.enabled and recording.sqlite.enabled:
        places["database"] = Path(recording.sqlite.path)
    if recording.enabled and recording.jsonl.enabled:
        places["log files"] = Path(recording.jsonl.directory)
    for name, place in places.items():
        yield _writable(name, place)
    yield _space(loaded.home)
    if "database" in places:
        yield _last(places["database"])
    else:
        yield Finding("recording", WARN, "off: nothing is recorded", "turn it on: session_recording.enabled")


def _writable(name: str, place: Path) -> Finding:
    folder = place.parent if name == "database" else place
    try:
        existing = folder
        while not os.path.lexists(existing):
            existing = existing.parent
        if existing == folder:
            private_folder(folder)
        if not os.access(existing, os.W_OK | os.X_OK):
            return Finding(name, FAIL, f"{existing} cannot be written", f"make it yours: chown or chmod 700 {existing}")
    except LunaRouteError as error:
        return Finding(name, FAIL, str(error))
    if name == "database" and place.is_symlink():
        return Finding(name, FAIL, f"{place} is a symbolic link", "put the file itself there, or set another path")
    if name == "database" and place.exists() and not os.access(place, os.W_OK):
        return Finding(name, FAIL, f"{place} cannot be written", f"chmod 600 {place}")
    return Finding(name, OK, str(place))


def _space(home: Path) -> Finding:
    existing = home
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    text = f"{free / (1 << 30):.1f} GiB free"
    if free < LITTLE_SPACE:
        advice = "free some, or set LUNAROUTE_HOME to another disk"
        return Finding("disk", FAIL if free < NO_SPACE else WARN, text, advice)
    return Finding("disk", OK, text)


def _last(database: Path) -> Finding:
    """The newest exchange: the plainest sign that traffic flows."""
    try:
        with Connection(database) as reader:
            rows = reader.rows("SELECT client, last_at FROM sessions ORDER BY last_at DESC LIMIT 1")
    except NoRecord:
        rows = []
    except LunaRouteError as error:
        return Finding("recording", FAIL, str(error))
    if not rows:
        return Finding("recording", WARN, "nothing recorded yet", "use an assistant in a shell with `lunaroute env`")
    return Finding("recording", OK, f"last: {rows[0]['client'] or 'a client without a name'}, {rows[0]['last_at']} UTC")


def upstream(name: str, provider: Provider) -> Finding:
    """Whether a connection to the provider can be opened, TLS checked as the proxy checks it."""
    parts = urlsplit(provider.base_url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    began = time.monotonic()
    try:
        with socket.create_connection((host, port), CONNECT_SECONDS) as peer:
            if parts.scheme == "https":
                context = ssl.create_default_context(cafile=provider.ca_file)
                with context.wrap_socket(peer, server_hostname=host):
                    pass
    except ssl.SSLCertVerificationError as error:
        advice = "a company proxy that opens TLS? give its certificate: providers.<name>.ca_file"
        return Finding(name, FAIL, f"{host}: certificate not accepted: {error.verify_message}", advice)
    except socket.gaierror:
        return Finding(name, FAIL, f"{host}: no such host", "is the network up, and the base_url right?")
    except OSError as error:
        why = "no answer" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__
        return Finding(name, FAIL, f"{host}:{port}: {why}", "is the network up? a firewall? is the base_url right?")
    return Finding(name, OK, f"{provider.base_url} reached in {(time.monotonic() - began) * 1000:.0f} ms")


def claude(base: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Claude Code: its settings file beats the shell's variable."""
    installed = shutil.which("claude") is not None
    file, value = claude_file(), None
    with contextlib.suppress(OSError, ValueError, AttributeError):
        value = json.loads(file.read_bytes()).get("env", {}).get("ANTHROPIC_BASE_URL")
    if value is not None:
        yield _points("Claude Code", str(value), base, f"env.ANTHROPIC_BASE_URL in {file}", "lunaroute setup claude")
    else:
        shell = environ.get("ANTHROPIC_BASE_URL")
        place = ("Claude Code", "ANTHROPIC_BASE_URL", "lunaroute setup claude")
        yield _variable(place, shell, base, missing=WARN if installed else OK)


def codex(base: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Codex: only its own settings count, or the function that `env` defines (which no other program can see)."""
    file, facts = codex_file(), dict[str, Any]()
    with contextlib.suppress(OSError, ValueError):
        facts = tomllib.loads(file.read_text("utf-8"))
    provider = facts.get("model_provider", "openai")
    if provider != "openai":
        own = facts.get("model_providers", {}).get(provider, {}).get("base_url", "")
        advice = f'set base_url of model_providers.{provider} to "{base}/v1", or take model_provider out'
        yield _points("Codex", str(own), f"{base}/v1", f"model_providers.{provider} in {file}", advice)
    elif value := facts.get("openai_base_url"):
        yield _points("Codex", str(value), f"{base}/v1", f"openai_base_url in {file}", "lunaroute setup codex")
    else:
        shell = environ.get("OPENAI_BASE_URL", "")
        evaluated = shell.rstrip("/") == f"{base}/v1"
        text = "goes through the proxy where `lunaroute env` was evaluated" if evaluated else "not pointed at the proxy"
        if shutil.which("codex") is None:
            yield Finding("Codex", OK, "not installed")
            return
        yield Finding(
            "Codex",
            OK if evaluated else WARN,
            text,
            "" if evaluated else 'lunaroute setup codex, or eval "$(lunaroute env)"',
        )


def sdks(base: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    """OpenAI's SDKs and what else reads the variable; and a proxy setting that would catch loopback traffic."""
    yield _variable(("SDKs", "OPENAI_BASE_URL", ""), environ.get("OPENAI_BASE_URL"), f"{base}/v1", missing=WARN)
    outer = [name for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy") if environ.get(name)]
    spared = (environ.get("NO_PROXY") or environ.get("no_proxy") or "").replace(" ", "").split(",")
    if outer and not {"127.0.0.1", "*"} & set(spared):
        advice = "export NO_PROXY=127.0.0.1,localhost (add to what is there)"
        yield Finding("SDKs", WARN, f"{outer[0]} is set: clients may send even local requests there", advice)


def _variable(place: tuple[str, str, str], value: str | None, wanted: str, missing: str) -> Finding:
    name, variable, setup = place
    advice = 'eval "$(lunaroute env)"' + (f", or for good: {setup}" if setup else "")
    if value:
        return _points(name, value, wanted, f"{variable} of this shell", advice)
    return Finding(name, missing, f"{variable} is not set in this shell", advice)


def _points(name: str, value: str, wanted: str, where: str, advice: str) -> Finding:
    if value.rstrip("/").replace("://localhost:", "://127.0.0.1:") == wanted.replace("://localhost:", "://127.0.0.1:"):
        return Finding(name, OK, f"goes through the proxy ({where})")
    host = urlsplit(value).netloc.rpartition("@")[2] or "somewhere else"
    return Finding(name, WARN, f"{where} points to {host}", advice)
