"""The leak canary (mission X2): no credential in any file, log, page, metric or answer of our own, in no encoding.

A server under trace logging is given unique credentials in every place where one can stand, by clients, configuration,
environment and Codex's login file. The upstream echoes what it got in errors, streams, header fields and WebSocket
messages; requests are refused, cut, aborted and left without an upstream. Then everything that LunaRoute wrote, served
or printed is searched for each credential.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import os
import re
import signal
import socket
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
import zstandard

from lunaroute.stores import packs
from tests.answers import sse
from tests.conftest import Serve
from tests.fakes import Request, Upstream, Wire
from tests.running import Running, free_port, processes_of

# A text that is no secret, sent beside each: where it is found, the search looked where it had to.
SENTINEL = "canary-was-here"


def canary(place: str, prefix: str = "sk-") -> str:
    """A credential for one place. What every encoding writes differently is in its middle; its ends are its own."""
    digest = hashlib.sha256(place.encode()).hexdigest()
    return f'{prefix}{digest[:12]}/+"\\=~{digest[12:24]}'


def plain(place: str, prefix: str = "sk-") -> str:
    """As canary(), where quotes cannot stand."""
    digest = hashlib.sha256(place.encode()).hexdigest()
    return f"{prefix}{digest[:12]}/+=~{digest[12:24]}"


OF_CLIENT = {
    "authorization": canary("authorization", "sk-ant-"),
    "authorization-openai": canary("authorization-openai", "sk-proj-"),
    "x-api-key": canary("x-api-key", "sk-ant-"),
    "query": plain("query", ""),
    "query-api-key": plain("query-api-key", ""),
    "cookie": plain("cookie", ""),
    "set-cookie": plain("set-cookie", ""),
    "account": plain("account", "acct-"),
}
CONFIGURED = {
    "config": canary("config", "sk-"),
    "header": plain("header", ""),
    "environment": plain("environment", "sk-ant-"),
    "codex": plain("codex", ""),
    "token": plain("token", ""),
}
ALL = OF_CLIENT | CONFIGURED


def forms(secret: str) -> set[bytes]:
    """How a text can be written without being changed: as it is, escaped for URL, JSON and HTML, base64, hex, UTF-16.

    And its ends: eight characters of a credential are too many.
    """
    raw = secret.encode()
    found = {raw, quote(secret, safe="").encode(), quote(secret).encode(), quote_plus(secret).encode()}
    found |= {json.dumps(secret)[1:-1].encode(), json.dumps(json.dumps(secret)[1:-1])[1:-1].encode()}
    found |= {html.escape(secret).encode(), html.escape(secret, quote=False).encode()}
    found |= {raw.hex().encode(), raw.hex().upper().encode(), secret.encode("utf-16-le"), secret.encode("utf-16-be")}
    for shift in range(3):  # where base64's groups of three begin decides its letters; the ends mix with neighbours
        whole = base64.b64encode(b"\0" * shift + raw)
        inner = whole[4 if shift else 0 : -4]
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    digest = re.sub(r"^(sk-ant-|sk-proj-|sk-|acct-)", "", secret)
    return found | {digest[:8].encode(), digest[-8:].encode()}


FORMS = {place: forms(secret) for place, secret in ALL.items()}


def leaks(data: bytes) -> list[str]:
    return [place for place, written in FORMS.items() if any(form in data for form in written)]


# --- the upstream: echoes ------------------------------------------------------------------------------------------
async def echo(request: Request, wire: Wire) -> None:
    """Says back all that it was sent, in the way that the path names."""
    if request.header("upgrade"):
        opened = await wire.websocket()
        while (message := await opened.receive()) is not None:
            said = {"type": "response.completed", "response": {"id": "r", "echo": request.head.decode("latin-1")}}
            await opened.send(json.dumps(said))
            await opened.send(message.decode())
        return
    await wire.body()
    text = request.head.decode("latin-1") + request.body.decode("latin-1")
    error = json.dumps({"error": {"type": "authentication_error", "message": f"{SENTINEL}: invalid key in {text}"}})
    echoed = [("Content-Type", "application/json"), ("Set-Cookie", f"id={ALL['set-cookie']}; Path=/")]
    echoed += [("X-Echo", v) for n, v in request.headers if n.lower() in ("authorization", "x-api-key", "x-corp-token")]
    if "chat" in request.path:
        await streamed(wire, text, echoed)
    elif "gzip" in request.target:
        await wire.answer(401, [*echoed, ("Content-Encoding", "gzip")], gzip.compress(error.encode()))
    elif "urlencoded" in request.target:
        await wire.answer(400, echoed, f"{SENTINEL} {quote(text, safe='')}".encode())
    else:
        await wire.answer(401, echoed, error.encode())


async def streamed(wire: Wire, text: str, echoed: list[tuple[str, str]]) -> None:
    """A stream that is cut; one credential lies across the border of two pieces."""
    await wire.head(200, [("Content-Type", "text/event-stream"), *echoed[1:], ("Transfer-Encoding", "chunked")])
    event = sse("error", {"message": f"{SENTINEL} {text}"})
    border = event.find(ALL["authorization-openai"][8:20].encode())
    for piece in (event[:border], event[border:], sse("delta", {"text": SENTINEL})) if border > 0 else (event,):
        await wire.chunk(piece)
    wire.reset()


# --- the clients ---------------------------------------------------------------------------------------------------
def ask(port: int, head: str, body: bytes = b"", *, abort: bool = False) -> bytes:
    """Sends one request as it is and reads to the end of the connection."""
    lines = [head, "Host: 127.0.0.1", "Connection: close"]
    with socket.create_connection(("127.0.0.1", port), timeout=30) as peer:
        if "Content-Length" not in head:
            lines.append(f"Content-Length: {len(body)}")
        peer.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        if abort:
            return b""
        received = bytearray()
        try:
            while piece := peer.recv(1 << 16):
                received += piece
        except ConnectionResetError:
            pass
        return bytes(received)


ANTHROPIC = (
    f"Authorization: Bearer {ALL['authorization']}\r\nx-api-key: {ALL['x-api-key']}\r\nCookie: a=b; s={ALL['cookie']}"
)
OPENAI = f"Authorization: Bearer {ALL['authorization-openai']}\r\nchatgpt-account-id: {ALL['account']}"
QUERY = f"key={ALL['query']}&api_key={quote(ALL['query-api-key'], safe='')}"
BODY = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": SENTINEL}]}).encode()
KEY_IN_BODY = json.dumps({"model": "m", "api_key": ALL["authorization"], "input": ALL["x-api-key"]}).encode()


def attempts(port: int) -> Iterator[bytes]:
    """Every manner of request; what came back where LunaRoute itself answered."""
    ask(port, f"POST /v1/messages?beta=true&{QUERY} HTTP/1.1\r\n{ANTHROPIC}", BODY)
    ask(port, f"POST /v1/messages?gzip&{QUERY} HTTP/1.1\r\n{ANTHROPIC}", KEY_IN_BODY)
    ask(port, f"POST /v1/messages?urlencoded HTTP/1.1\r\n{ANTHROPIC}", KEY_IN_BODY)
    ask(port, f"POST /v1/chat/completions HTTP/1.1\r\n{OPENAI}", BODY)
    ask(port, f"POST /v1/responses?{QUERY} HTTP/1.1\r\n{OPENAI}", BODY)
    ask(port, "POST /v1/responses HTTP/1.1", BODY)  # the configured key fills in
    ask(port, "POST /v1/messages HTTP/1.1", BODY)  # the environment's does
    ask(port, f"GET /v1/files/x?{QUERY} HTTP/1.1\r\n{OPENAI}")
    ask(port, f"POST /v1/messages HTTP/1.1\r\n{ANTHROPIC}", BODY, abort=True)
    upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    websocket(
        port, f"GET /v1/responses?{QUERY} HTTP/1.1\r\n{OPENAI}\r\n{upgrade}\r\nHost: 127.0.0.1\r\nConnection: Upgrade"
    )
    # refused by the proxy itself: broken framing, too long, a foreign page, a foreign name, no HTTP at all
    yield ask(
        port, f"POST /v1/messages?{QUERY} HTTP/1.1\r\n{ANTHROPIC}\r\nContent-Length: 5\r\nContent-Length: 6", BODY
    )
    yield ask(port, f"POST /v1/messages?{QUERY} HTTP/1.1\r\n{ANTHROPIC}\r\nX-Long: {'x' * 70000}", BODY)
    yield ask(port, f"POST /v1/messages HTTP/1.1\r\n{ANTHROPIC}\r\nOrigin: https://evil.example", BODY)
    yield ask(port, f"POST /v1/messages HTTP/1.1\r\n{ANTHROPIC}\r\nHost: evil.example", BODY)
    yield ask(port, f"POST /v1/messages?{QUERY} HTTP/1.1\r\nBad Field {ALL['x-api-key']}: 1\r\n{ANTHROPIC}", BODY)
    yield ask(port, f"POST http://{ALL['query']}@evil.example/v1/messages?{QUERY} HTTP/1.1\r\n{ANTHROPIC}", BODY)
    yield ask(port, f"POST /v1/{ALL['x-api-key']}/\x01 HTTP/9.9\r\n{ANTHROPIC}", BODY)


def websocket(port: int, head: str) -> None:
    """A handshake, one message with a key in it, the echo, the end."""
    message = json.dumps(
        {"type": "response.create", "model": "m", "input": f"{SENTINEL} {ALL['authorization-openai']}"}
    )
    frame = b"\x81\xfe" + len(message).to_bytes(2) + b"\0\0\0\0" + message.encode()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as peer:
        peer.sendall(f"{head}\r\n\r\n".encode() + frame)
        received = b""
        while SENTINEL.encode() not in received:
            piece = peer.recv(1 << 16)
            assert piece, received
            received += piece


# --- the search ----------------------------------------------------------------------------------------------------
def pages(luna: Running) -> Iterator[tuple[str, bytes]]:
    """Everything that its two ports serve: the endpoints, and each page reached by a link from the first."""
    for path in ("/", "/healthz", "/readyz", "/metrics"):
        yield f"proxy {path}", luna.get(path)[1]
    waiting, seen = ["/", "/metrics", "/settings", "/api", "/api/sessions", "/api/status", "/nothing"], set()
    while waiting:
        path = waiting.pop()
        if path in seen or path.startswith(("/static/", "/api/live")):  # the second one never ends
            continue
        seen.add(path)
        body = luna.get(path, luna.ui_url)[1]
        yield f"ui {path}", body
        found = re.findall(r'(?:href|src)="(/[^"#]*)"|"(/api/[^"]+)"', body.decode())
        waiting += [html.unescape(a or b) for a, b in found]
        waiting += [f"/api/exchanges/{i}" for i in re.findall(r'"id":"([0-9a-f]{12}-[\w-]+)"', body.decode())]


def commands(luna: Running) -> Iterator[tuple[str, bytes]]:
    """What the command line prints about it."""
    config = ["--config", str(luna.file)]
    lines: list[list[str]] = [
        ["config", "show", *config], ["config", "check", *config], ["status", "--port", str(luna.port)],
        ["doctor", *config], ["logs"], ["env", *config], ["sessions", "list"],
    ]  # fmt: skip
    lines += [["sessions", "show", row["session_id"]] for row in luna.sessions()]
    for line in lines:
        done = luna.lunaroute(*line)
        yield "lunaroute " + " ".join(line), (done.stdout + done.stderr).encode()


def broken_configs(luna: Running) -> Iterator[tuple[str, bytes]]:
    """Complaints about a configuration show where, not what."""
    for number, key in enumerate(("api_key: [{}]", "api_keyy: {}", "headers: {}", "base_url: 'http://u:{}@127.0.0.1'")):
        file = luna.home / f"broken{number}.yaml"
        file.write_text(f"providers:\n  openai:\n    {key.format(json.dumps(ALL['query']))}\n")
        done = luna.lunaroute("config", "check", "--config", str(file))
        assert done.returncode != 0 or number == 3, done
        yield f"config check: {key}", (done.stdout + done.stderr).encode()


def files(luna: Running) -> Iterator[tuple[str, bytes]]:
    """Every file below its homes, but those in which the user wrote the credentials down."""
    given = {luna.file, luna.home / ".codex" / "auth.json", *luna.home.glob("broken*.yaml")}
    for file in sorted(luna.home.rglob("*")):
        if file.is_file() and file not in given:
            yield str(file.relative_to(luna.home)), file.read_bytes()


def cells(luna: Running) -> Iterator[tuple[str, bytes]]:
    """Every value of the database, what is compressed decompressed."""
    with sqlite3.connect(f"file:{luna.data}/sessions.db?mode=ro", uri=True) as connection:
        # the search index is a virtual table; what it is made of is among the others
        named = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
        tables = [name for (name,) in connection.execute(named)]
        for table in tables:
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                for value in row:
                    if isinstance(value, bytes | str):
                        yield f"table {table}", opened(value if isinstance(value, bytes) else value.encode())
        yield from unpacked(connection)
    connection.close()


def unpacked(connection: sqlite3.Connection) -> Iterator[tuple[str, bytes]]:
    """What the packs and blobs hold, without the part that is compressed by another one."""
    shelf = packs.shelf(lambda sql, *values: connection.execute(sql, values).fetchone())
    numbers = [number for (number,) in connection.execute("SELECT exchange FROM packs ORDER BY exchange")]
    assert numbers, "nothing was packed"
    for number in numbers:
        whole = shelf.whole(number)
        assert whole is not None
        yield f"pack {number}", packs.encode(whole.pack) + b"".join(whole.pieces)
    for number, data in connection.execute("SELECT blob, data FROM blobs"):
        yield f"blob {number}", packs.unfold(data)


def opened(value: bytes) -> bytes:
    if value.startswith(b"\x28\xb5\x2f\xfd"):
        try:
            return zstandard.ZstdDecompressor().decompressobj().decompress(value)
        except zstandard.ZstdError:
            return value  # a pack or blob, compressed with a dictionary: unpacked() reads those
    if value.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(wbits=31).decompress(value)
    return value


def processes(luna: Running) -> Iterator[tuple[str, bytes]]:
    """What `ps` shows to everybody."""
    assert luna.process is not None
    for pid in processes_of(luna.process.pid):
        line = Path(f"/proc/{pid}/cmdline")
        if line.exists():
            yield f"process {pid}", line.read_bytes()


def search(found: Iterable[tuple[str, bytes]]) -> tuple[list[str], int]:
    """(places with a credential in them, how often the sentinel was seen)."""
    bad, seen = [], 0
    for where, data in found:
        seen += data.count(SENTINEL.encode())
        bad += [f"{place} in {where}" for place in leaks(data)]
    return bad, seen


def received(upstream: Upstream) -> set[str]:
    """The places whose credentials the upstream really got."""
    sent = b"".join(bytes(c.received) for c in upstream.connections).decode("latin-1")
    return {place for place, secret in ALL.items() if secret in sent or quote(secret, safe="") in sent}


def test_no_credential_is_ever_written_served_or_printed(serve: Serve, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    extra = {
        "logging": {"level": "trace", "log_requests": True},
        "providers": {"openai": {"api_key": ALL["config"], "headers": {"X-Corp-Token": ALL["header"]}}},
    }
    with Upstream(echo) as upstream:
        luna = serve(upstream, extra, ANTHROPIC_API_KEY=ALL["environment"], TMPDIR=str(scratch))
        answers = list(attempts(luna.port))
        assert received(upstream) == set(ALL) - {"set-cookie", "codex", "token"}
        assert all(b" 4" in answer.split(b"\r\n")[0] for answer in answers), answers
        assert search((f"answer {n}", a) for n, a in enumerate(answers))[0] == []
        assert luna.stop() == 0
        luna.start()
        nothing_leaks_while_it_runs(luna)
        assert luna.process is not None
        os.kill(luna.process.pid, signal.SIGABRT)
        luna.process.wait()
    nothing_leaks_on_disk(luna)
    assert search((str(f), f.read_bytes()) for f in scratch.rglob("*") if f.is_file())[0] == []


def nothing_leaks_while_it_runs(luna: Running) -> None:
    seen_pages = list(pages(luna))
    assert len(seen_pages) > 20, [where for where, _ in seen_pages]
    bad, seen = search(seen_pages)
    assert bad == []
    assert seen > 5, "the pages show the exchanges"
    for group in (commands(luna), broken_configs(luna), processes(luna)):
        assert search(group)[0] == []
    assert search(files(luna))[0] == [], "with the write-ahead log"


def nothing_leaks_on_disk(luna: Running) -> None:
    bad, seen = search(files(luna))
    assert bad == []
    assert seen > 1, "the session files hold the exchanges"
    bad, seen = search(cells(luna))
    assert bad == []
    assert seen > 1, "the database holds the exchanges"
    assert not list(luna.home.rglob("core*"))


def test_the_token_of_codex_own_login_stays_in_its_file(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "luna0" / ".codex" / "auth.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"tokens": {"access_token": ALL["codex"]}}))
    file.chmod(0o600)
    with Upstream(echo) as upstream:
        luna = serve(upstream, {"providers": {"openai": {"codex_auth": {"enabled": True}}}})
        ask(luna.port, "POST /v1/responses HTTP/1.1", BODY)
        assert received(upstream) == {"codex"}
        assert luna.stop() == 0
    nothing_leaks_on_disk(luna)


@pytest.mark.parametrize(
    "field",
    [f"X-LunaRoute-Token: {ALL['token']}", f"Authorization: Bearer {ALL['token']}", f"x-api-key: {ALL['token']}"],
)
def test_an_access_token_goes_no_further(field: str, serve: Serve) -> None:
    with Upstream(echo) as upstream:
        luna = serve(
            upstream, {"access_tokens": [ALL["token"]], "providers": {"anthropic": {"api_key": ALL["config"]}}}
        )
        assert b" 401 " in ask(luna.port, "POST /v1/messages HTTP/1.1", BODY).split(b"\r\n")[0]
        assert upstream.requests == []
        assert SENTINEL.encode() in ask(luna.port, f"POST /v1/messages HTTP/1.1\r\n{field}", BODY)
        assert received(upstream) == {"config"}
        assert luna.stop() == 0
    nothing_leaks_on_disk(luna)


def test_no_credential_shows_where_no_provider_answers(serve: Serve) -> None:
    luna = serve(f"http://127.0.0.1:{free_port()}", {"providers": {"openai": {"api_key": ALL["config"]}}})
    requests = [f"POST /v1/messages?{QUERY} HTTP/1.1\r\n{ANTHROPIC}", "POST /v1/responses HTTP/1.1"]
    answers = [ask(luna.port, head, BODY) for head in requests]
    assert all(a.startswith(b"HTTP/1.1 502") for a in answers), answers
    assert search((f"answer {n}", a) for n, a in enumerate(answers))[0] == []
    assert luna.stop() == 0
    nothing_leaks_on_disk(luna)


@pytest.mark.parametrize("secret", ["authorization", "query", "cookie"])
def test_the_search_finds_what_is_there(secret: str) -> None:
    value = ALL[secret]
    written = [
        f"x{value}y", json.dumps({"a": value}), quote(f"/?{value}"), html.escape(f"<b>{value}"), value.encode().hex(),
        *(base64.b64encode(b"-" * n + value.encode() + b"tail").decode() for n in range(3)),
    ]  # fmt: skip
    for text in written:
        assert leaks(text.encode()) == [secret], text
    assert leaks(opened(zstandard.compress(value.encode()))) == [secret]
    assert leaks(b"nothing to see, sk-ant-, Bearer ***") == []
