"""Nothing that should not be kept reaches a disk, and the wire is untouched (missions X1 and X2), through real sockets.

Each place where a value can stand gets values of its own: in requests and answers, in escapes, in pieces of a stream,
in tools, errors, heads, paths, WebSocket messages. The other side must have got each as it was sent; then everything
that LunaRoute wrote, served or printed is searched for all of them.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import re
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from websockets.sync.client import connect

from tests.conftest import Serve
from tests.fakes import Request, Upstream, Wire
from tests.observe.pii import plain
from tests.running import PATIENCE, Running, processes_of
from tests.test_leaks import cells, files, pages

Json = dict[str, Any]
KEY = {"x-api-key": "sk-ant-dummy-0000000"}
SENTINEL = "harmless-words"
PII = {"session_recording": {"pii": {"enabled": True}}, "logging": {"level": "trace", "log_requests": True}}


class Values:
    """Values for one place, made of its name."""

    def __init__(self, place: str) -> None:
        digest = hashlib.sha256(place.encode()).digest()
        self.place = place
        self.mail = f"{digest.hex()[:9]}.{place.replace(' ', '')[:3]}@corp-mail.com"
        self.key = "AKIA" + base64.b32encode(digest).decode()[:16]
        digits = "4" + str(int.from_bytes(digest[:8], "big"))[:14].rjust(14, "7")
        self.card = digits + luhn(digits)

    def __str__(self) -> str:
        return f"{SENTINEL} mail {self.mail}, key {self.key}, card {self.card}."

    @property
    def all(self) -> list[str]:
        return [self.mail, self.key, self.card]


def luhn(digits: str) -> str:
    total = sum(sum(divmod(int(each) * (2 - place % 2), 10)) for place, each in enumerate(reversed(digits)))
    return str(-total % 10)


PLACES: dict[str, Values] = {}


def at(place: str) -> str:
    PLACES[place] = Values(place)
    return str(PLACES[place])


def hidden(text: str) -> str:
    """Every character as an escape."""
    return "".join(f"\\u{ord(char):04x}" for char in text)


# --- what is sent --------------------------------------------------------------------------------------------
def request_body() -> bytes:
    given = json.dumps({"command": at("tool arguments"), "to": [at("nested arguments")]})
    body = {
        "model": "claude-opus-5-5",
        "max_tokens": 100,
        "stream": True,
        "system": [{"type": "text", "text": "You help. " * 80 + at("system")}],
        "metadata": {"user_id": at("metadata")},
        "messages": [
            {"role": "user", "content": at("prompt")},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "toolu_01ABCDEFGHJKLMN", "name": "Bash", "input": json.loads(given)}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_01ABCDEFGHJKLMN",
                 "content": f"$ cat\n{at('tool result')}"},
                {"type": "text", "text": "ESCAPED"}, {"type": "text", "text": "DEEPER"}]},
        ],
        "number": 4,
    }  # fmt: skip
    written = json.dumps(body).replace("ESCAPED", hidden(at("escaped")))
    deeper = json.dumps(json.dumps({"x": "MARK"}))[1:-1].replace("MARK", hidden(at("deeper")).replace("\\", "\\\\"))
    written = written.replace("DEEPER", deeper)
    return written.replace('"number": 4', f'"number": {Values("number").card}').encode()


PLACES["number"] = Values("number")


def event(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


def pieces(text: str) -> list[str]:
    """As cruelly as a stream can be cut: one, two or three characters."""
    out, step = [], 0
    while text:
        step = step % 3 + 1
        out.append(text[:step])
        text = text[step:]
    return out


def anthropic() -> list[bytes]:
    message = {
        "id": "msg_1",
        "role": "assistant",
        "model": "claude-opus-5-5",
        "content": [],
        "usage": {"input_tokens": 11},
    }
    said = [
        ("thinking", "thinking_delta", "thinking", at("thinking")),
        ("text", "text_delta", "text", at("answer")),
        ("tool_use", "input_json_delta", "partial_json",
         json.dumps({"command": "ESC", "to": at("called")}).replace("ESC", hidden(at("called escaped")))),
    ]  # fmt: skip
    stream = [event("message_start", message=message)]
    for index, (kind, _, _, _) in enumerate(said):
        block = (
            {"type": kind, "id": f"toolu_{index}", "name": "Bash", "input": {}}
            if kind == "tool_use"
            else {"type": kind}
        )
        stream.append(event("content_block_start", index=index, content_block=block))
    deltas = [
        [event("content_block_delta", index=index, delta={"type": delta, name: piece}) for piece in pieces(text)]
        for index, (_, delta, name, text) in enumerate(said)
    ]
    while any(deltas):  # side by side, as no vendor does, and one may
        stream += [each.pop(0) for each in deltas if each]
    stream += [event("content_block_stop", index=index) for index in range(3)]
    stream += [
        event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 22}),
        event("message_stop"),
    ]
    return [*stream, f": {at('comment')}\n\n".encode()]


def chat() -> list[bytes]:
    def chunk(delta: Json, **more: Any) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": None}]
        return f"data: {json.dumps({'id': 'chatcmpl-1', 'model': 'gpt-5.5', 'choices': choices, **more})}\n\n".encode()

    given = json.dumps({"to": at("chat arguments")})
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "send", "arguments": ""}}
    return [
        *(chunk({"content": piece}) for piece in pieces(at("chat"))),
        *(chunk({"reasoning": piece}) for piece in pieces(at("chat reasoning"))),
        chunk({"tool_calls": [call]}),
        *(chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in pieces(given)),
        chunk({}, usage={"prompt_tokens": 5, "completion_tokens": 6}),
        b"data: [DONE]\n\n",
    ]


def responses(place: str) -> list[Json]:
    text = at(place)
    given = json.dumps({"to": at(f"{place} arguments")})
    words = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    called = {"item_id": "fc_1", "output_index": 1}
    output = [
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]},
        {"type": "function_call", "call_id": "call_9", "name": "send", "arguments": given},
    ]
    whole = {"id": "resp_1", "model": "gpt-5.5", "status": "completed", "output": output,
             "usage": {"input_tokens": 7, "output_tokens": 8}}  # fmt: skip
    return [
        {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress", "output": []}},
        *({"type": "response.output_text.delta", **words, "delta": piece} for piece in pieces(text)),
        {"type": "response.output_text.done", **words, "text": text},
        *({"type": "response.function_call_arguments.delta", **called, "delta": piece} for piece in pieces(given)),
        {"type": "response.function_call_arguments.done", **called, "arguments": given},
        {"type": "response.completed", "response": whole},
    ]


MULTIPART = "\r\n".join([
    "--b", 'Content-Disposition: form-data; name="file"; filename="a.csv"', "Content-Type: text/csv", "",
    "name,mail\nx,{}", "--b", 'Content-Disposition: form-data; name="image"; filename="a.png"',
    "Content-Type: image/png", "", "\x89PNG\0\x01{}", "--b--", "",
])  # fmt: skip


def script() -> Any:
    """An upstream that answers each path in its own way."""

    async def answer(request: Request, wire: Wire) -> None:
        path = request.target.partition("?")[0]
        if request.method == "GET" and path.endswith("responses"):
            socket = await wire.websocket()
            while await socket.receive() is not None:
                for each in STREAMS["ws"]:
                    await socket.send(json.dumps(each))
            return
        await wire.body()
        if path.endswith("/files") or path.startswith("/v1/strange"):
            body = f"<p>{at_('error page')}</p>".encode()
            await wire.answer(500, [("Content-Type", "text/html"), ("X-Support", PLACES["header back"].mail)], body)
            return
        if b"wrong" in request.body:
            refusal = {"type": "error", "error": {"type": "invalid_request_error", "message": at_("error")}}
            await wire.answer(400, [("Content-Type", "application/json")], json.dumps(refusal).encode())
            return
        stream = (
            STREAMS["responses"] if path.endswith("responses") else STREAMS["chat" if "chat" in path else "anthropic"]
        )
        if path.endswith("responses"):
            stream = [f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in stream]
        await wire.stream([("Content-Type", "text/event-stream")], stream)

    return answer


def at_(place: str) -> str:
    return str(PLACES[place])


STREAMS: dict[str, Any] = {
    "anthropic": anthropic(), "chat": chat(), "responses": responses("responses"), "ws": responses("ws"),
}  # fmt: skip
BODY = request_body()
for _place in ("error", "error page", "header back", "header", "path", "query", "upload", "image", "form", "session id",
               "prompt chat", "prompt responses", "prompt ws", "aborted"):  # fmt: skip
    PLACES[_place] = Values(_place)
# none of theirs is written anywhere as it was; a file in a body is not looked into, it is left out
GONE = [value for values in PLACES.values() for value in values.all]


def send(luna: Running, path: str, body: bytes, kind: str = "application/json", **headers: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", luna.port, timeout=20)
    try:
        fields = {"Content-Type": kind, **headers}
        connection.request("POST", path, body, fields)
        response = connection.getresponse()
        return str(response.headers).encode() + response.read()
    finally:
        connection.close()


def traffic(luna: Running) -> Iterator[bytes]:
    """All that clients do; what they got."""
    yield send(
        luna,
        "/v1/messages?beta=true",
        BODY,
        **KEY,
        **{"X-Claude-Code-Session-Id": "session-one", "User-Agent": "claude-cli/2.1.34"},
    )
    yield send(luna, "/v1/messages", json.dumps({"messages": [], "wrong": 1}).encode(), **KEY)
    ask = {"model": "gpt-5.5", "stream": True, "messages": [{"role": "user", "content": at_("prompt chat")}]}
    yield send(luna, "/v1/chat/completions", json.dumps(ask).encode(), Authorization="Bearer sk-dummy-000000000")
    ask = {"model": "gpt-5.5", "stream": True, "input": at_("prompt responses")}
    yield send(luna, "/v1/responses", json.dumps(ask).encode(), **{"x-session-id": PLACES["session id"].card})
    query = f"mail={quote(PLACES['query'].mail, safe='')}&k={PLACES['query'].key}"
    strange = f"/v1/strange/{quote(PLACES['path'].mail, safe='')}/x?{query}"
    yield send(luna, strange, b"x=1", **{"X-Contact": PLACES["header"].mail, "X-Note": at_("header")})
    upload = MULTIPART.format(at_("upload"), at_("image")).encode("latin-1")
    yield send(luna, "/v1/files", upload, "multipart/form-data; boundary=b")
    form = f"mail={quote(PLACES['form'].mail, safe='')}&note={quote(at_('form'))}".encode()
    yield send(luna, "/v1/strange/form", form, "application/x-www-form-urlencoded")
    with connect(
        f"ws://127.0.0.1:{luna.port}/v1/responses", additional_headers={"Authorization": "Bearer sk-dummy-000000000"}
    ) as peer:
        peer.send(json.dumps({"type": "response.create", "model": "gpt-5.5", "input": at_("prompt ws")}))
        got = [peer.recv() for _ in STREAMS["ws"]]
        yield "\n".join(map(str, got)).encode()
    connection = http.client.HTTPConnection("127.0.0.1", luna.port, timeout=20)
    connection.putrequest("POST", "/v1/messages")
    connection.putheader("Content-Length", "100000")
    connection.endheaders(json.dumps({"messages": [{"role": "user", "content": at_("aborted")}]}).encode()[:-4])
    connection.close()


def left(found: Iterable[tuple[str, bytes]], gone: list[str] = GONE) -> list[str]:
    """Where one of the values is, in any of the ways that we might have written it."""
    bad = []
    for where, data in found:
        text = data.decode("utf-8", "replace")
        lower = text.lower()
        for value in gone:
            forms = {
                value,
                value.lower(),
                quote(value, safe=""),
                json.dumps(value)[1:-1],
                hidden(value),
                value[: len(value) * 2 // 3],
            }
            bad += [f"{value} in {where}" for form in forms if form.lower() in lower]
    return bad


def text_of(luna: Running) -> str:
    """All that the log files say."""
    return "".join(file.read_text() for file in luna.session_files())


def settled(luna: Running, count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while luna.rows("SELECT count(*) AS n FROM exchanges WHERE state IS NOT NULL")[0]["n"] < count:
        assert time.monotonic() < deadline, luna.log()
        time.sleep(0.05)


def test_nothing_of_it_reaches_a_disk_and_everything_reaches_the_other_side(serve: Serve) -> None:
    with Upstream(script()) as upstream:
        luna = serve(upstream, PII)
        got = b"".join(traffic(luna))
        settled(luna, 9)
        # the wire: the very bytes
        sent = b"".join(bytes(each.received) for each in upstream.connections)
        assert BODY in sent
        for values in (PLACES["upload"], PLACES["prompt ws"], PLACES["header"]):
            assert values.mail.encode() in sent or values.place == "prompt ws"
        for stream in (b"".join(STREAMS["anthropic"]), b"".join(STREAMS["chat"])):
            assert stream in got
        assert PLACES["error"].card.encode() in got and PLACES["header back"].mail.encode() in got
        # everything that it shows and has written, while it runs and afterwards
        shown = list(pages(luna))
        assert left(shown) == []
        assert sum(data.count(SENTINEL.encode()) for _, data in shown) > 20, "the pages show the exchanges"
        assert left(files(luna)) == [], "with the write-ahead log"
        said = facts(luna)
        commands(luna)
        figures = luna.get("/metrics")[1].decode()
        assert luna.stop() == 0
    assert left(files(luna)) == []
    assert left(cells(luna)) == []
    assert SENTINEL in text_of(luna)
    counted = dict(re.findall(r'lunaroute_redacted_values_total\{kind="(\w+)",place="request"\} ([\d.]+)', figures))
    assert {"email", "secret", "credit_card"} <= set(counted) and float(counted["email"]) >= 12
    assert "lunaroute_redaction_failures_total 0.0" in figures
    assert said["session-one"] == (11, 22)


def facts(luna: Running) -> dict[str, tuple[int, int]]:
    """Facts are those of what really passed; ids are as they were; what is stored can be read."""
    rows = luna.exchanges()
    assert {row["state"] for row in rows} <= {"ok", "upstream_error", "client_cancelled", "interrupted"}
    for row in rows:
        for name in ("request_body", "response_body"):
            body = row[name] or b""
            if body[:1] == b"{" and row["state"] == "ok":
                json.loads(body)
    tools = {row["call_id"]: row for row in luna.rows("SELECT * FROM tool_calls")}
    assert {"toolu_2", "call_1", "call_9"} <= set(tools)
    assert "[EMAIL:" in json.dumps([row["arguments"] for row in tools.values()])
    sessions = {row["session_id"]: row for row in luna.sessions()}
    assert "session-one" in sessions and any(name.startswith("redacted-") for name in sessions)
    return {name: (row["input_tokens"], row["output_tokens"]) for name, row in sessions.items()}


def commands(luna: Running) -> None:
    """Tokens are what is searched for, shown and exported; leaks are named; verify says that it is not the wire's."""
    show = luna.lunaroute("sessions", "show", "session-one").stdout
    assert "AWS access key left this machine in request 1" in show
    (mail, key) = re.findall(rf"{SENTINEL} mail \[EMAIL:(\w+)\], key \[SECRET:(\w+)\]", show)[0]
    for word in (mail, key):
        hits = json.loads(luna.lunaroute("sessions", "search", word, "--json").stdout)["hits"]
        assert [hit["session_id"] for hit in hits] == ["session-one"]
    stats = luna.lunaroute("stats").stdout
    assert "AWS access key left this machine in request 1 of session session-one" in stats
    exports = [
        luna.lunaroute("sessions", "export", "session-one", "--format", form).stdout
        for form in ("html", "jsonl", "md", "har")
    ]
    assert left([("export", each.encode()) for each in exports]) == []
    assert all("[EMAIL:" in each or "EMAIL:" in each for each in exports)
    checked = json.loads(luna.lunaroute("verify", "session-one", "--json").stdout)["exchanges"]
    assert {side["verdict"] for each in checked for side in (each["request"], each["response"])} == {"altered"}
    assert all(each["request"]["wire_sha256"] is None for each in checked)
    (page,) = [luna.get("/sessions/session-one", luna.ui_url)[1].decode()]
    assert "AWS access key left this machine in request 1" in page


def test_by_default_secrets_alone_are_redacted(serve: Serve) -> None:
    with Upstream(script()) as upstream:
        luna = serve(upstream)
        send(luna, "/v1/messages", BODY, **KEY)
        settled(luna, 1)
        assert luna.stop() == 0
    keys = [values.key for values in PLACES.values()]
    assert left(files(luna), keys) == [] and left(cells(luna), keys) == []
    text = text_of(luna)
    assert PLACES["prompt"].mail in text and PLACES["prompt"].card in text and "[SECRET:" in text
    assert json.loads(luna.exchanges()[0]["request_body"])["metadata"]["user_id"].startswith(SENTINEL)


def test_all_can_be_switched_off(serve: Serve) -> None:
    with Upstream(script()) as upstream:
        luna = serve(upstream, {"session_recording": {"pii": {"redact_secrets": False}}})
        send(luna, "/v1/messages", BODY, **KEY)
        settled(luna, 1)
        assert luna.stop() == 0
    (row,) = luna.exchanges()
    assert row["request_body"] == BODY
    assert row["response_body"] == b"".join(STREAMS["anthropic"])
    assert not (luna.data / "pii.key").exists()


def test_tokens_are_the_same_in_every_run_and_can_be_revealed(serve: Serve) -> None:
    key = {"LUNAROUTE_PII_KEY": "a-passphrase-for-tests"}
    extra = {"session_recording": {"pii": {"enabled": True, "vault": True}}}
    with Upstream(script()) as upstream:
        luna = serve(upstream, extra, **key)
        for _ in range(2):
            send(luna, "/v1/messages", BODY, **KEY)
            assert luna.stop() == 0
            luna.start()
        digests = {
            row["digest"] for row in luna.rows("SELECT digest FROM findings WHERE kind = 'email' AND place = 'request'")
        }
        assert luna.stop() == 0
    token = plain.Forms(plain.rules(), plain.Key(None, "a-passphrase-for-tests")).token("email", PLACES["prompt"].mail)
    assert token[7:-1] in digests
    assert text_of(luna).count(token) >= 2
    assert not (luna.data / "pii.key").exists()
    told = luna.lunaroute("pii", "reveal", token, "--config", str(luna.file))
    assert (told.returncode, told.stdout) == (0, PLACES["prompt"].mail + "\n")
    assert left((where, data) for where, data in files(luna) if "pii.vault" in where) == []
    del luna.environ["LUNAROUTE_PII_KEY"]
    other = luna.lunaroute("pii", "reveal", token, "--config", str(luna.file))
    assert other.returncode == 1 and "another key" in other.stderr and not other.stdout


def test_a_killed_observer_leaves_nothing_either(serve: Serve) -> None:
    with Upstream(script()) as upstream:
        luna = serve(upstream, PII)
        send(luna, "/v1/messages", BODY, **KEY)
        settled(luna, 1)
        assert luna.process is not None
        for pid in processes_of(luna.process.pid)[::-1]:
            os.kill(pid, signal.SIGKILL)
        luna.process.wait()
    assert left(files(luna)) == []


FAULTY = """
import importlib.machinery, sys, types

class Scanner:
    def __init__(self, *given, **more): pass
    def find(self, text, context=b""): raise RuntimeError(text)

class Broken:
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name == "lunaroute._fast.pii" else None
    def create_module(self, spec): return None
    def exec_module(self, module): module.Scanner = Scanner

sys.meta_path.insert(0, Broken())
"""


def test_a_fault_in_the_redactor_leaves_nothing_raw(tmp_path: Path) -> None:
    """The detectors of a real server are made to raise on every text."""
    with Upstream(script()) as upstream:
        luna = Running(tmp_path / "luna", upstream.url, PII)
        broken = tmp_path / "broken"
        broken.mkdir()
        (broken / "sitecustomize.py").write_text(FAULTY)
        program = luna.home / "bin" / "lunaroute"
        program.write_text(program.read_text().replace("PYTHONPATH=", f"PYTHONPATH={broken}:"))
        luna.start()
        try:
            got = send(luna, "/v1/messages", BODY, **KEY, **{"X-Note": at_("header")})
            assert b"".join(STREAMS["anthropic"]) in got, "the traffic goes on"
            settled(luna, 1)
            assert left(files(luna)) == [] and left(cells(luna)) == []
            assert "[REDACTION FAILED]" in text_of(luna) and SENTINEL not in text_of(luna)
            failures = re.findall(r"lunaroute_redaction_failures_total ([\d.]+)", luna.get("/metrics")[1].decode())
            assert failures and float(failures[0]) > 10
            assert json.loads(luna.get("/api/status", luna.ui_url)[1])["observer"]["redaction"]["failed"] > 10
        finally:
            luna.stop()
    (session,) = luna.sessions()
    assert (session["input_tokens"], session["output_tokens"]) == (11, 22), "facts are told from what passed"


def test_scan_takes_out_what_older_settings_let_through(serve: Serve) -> None:
    with Upstream(script()) as upstream:
        luna = serve(upstream, {"session_recording": {"pii": {"redact_secrets": False}}})
        for _ in traffic(luna):
            pass
        settled(luna, 9)
        assert luna.stop() == 0
        assert left(cells(luna)) != []
        config = json.loads(luna.file.read_text())
        config["session_recording"]["pii"] = {"enabled": True}
        luna.file.write_text(json.dumps(config))
        luna.start()
        looked = luna.lunaroute("pii", "scan", "--config", str(luna.file))
        assert looked.returncode == 1 and "AWS access key left this machine in request" in looked.stdout, looked
        done = luna.lunaroute("pii", "scan", "--apply", "--json", "--config", str(luna.file))
        assert done.returncode == 0, done
        assert json.loads(done.stdout)["files"]["not_rewritten"] == 0
        send(luna, "/v1/messages", BODY, **KEY)
        again = luna.lunaroute("pii", "scan", "--config", str(luna.file))
        assert again.returncode == 0 and "Nothing was found" in again.stdout, again
        assert luna.stop() == 0
    # the name of the file that a session's id had made is no content of ours: it is not renamed
    gone = [value for value in GONE if value != PLACES["session id"].card]
    # (what the first run printed when it ended is none of the record)
    assert left(((name, data) for name, data in files(luna) if name != "serve.out"), gone) == []
    assert left(cells(luna), gone) == []
    assert luna.lunaroute("verify", "--config", str(luna.file)).returncode == 0
