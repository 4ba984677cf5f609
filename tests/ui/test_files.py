"""What leaves the pages as a file: CSV, curl, pictures, exports."""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from lunaroute.export import FORMATS
from lunaroute.records import Attempt
from lunaroute.stores import queries
from lunaroute.stores.readonly import Connection, NotFound
from lunaroute.ui import curl, images, sheets
from lunaroute.ui.analytics import SHEETS
from tests import recorded
from tests.ui import hostile
from tests.ui.conftest import Serve

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
EXCHANGE = f"{recorded.BOOT}-1"


# --- CSV --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("words", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\N{FULLWIDTH EQUALS SIGN}1"])
def test_text_is_no_formula(words: str) -> None:
    assert sheets.safe(words) == "'" + words


def test_numbers_stay_numbers_and_the_unknown_is_empty() -> None:
    text = sheets.csv_of(["a", "=b"], [[1, -2.5, None, float("nan"), 'x,"y"\nz', 123456789.0]])
    rows = list(csv.reader(io.StringIO(text)))
    assert rows == [["a", "'=b"], ["1", "-2.5", "", "", 'x,"y"\nz', "123456789"]]
    assert text.endswith("\r\n")


@pytest.mark.parametrize("name", SHEETS)
def test_every_table_is_a_file(serve: Serve, tmp_path: Path, name: str) -> None:
    site = serve(recorded.write(tmp_path / "db", [*hostile.exchanges(), *recorded.tool_loop()]))
    answer = site.ask(f"/analytics/{name}.csv?since=2020-01-01&until=2020-02-01")
    assert answer.status == 200 and answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="lunaroute-{name}.csv"'
    assert answer.headers["content-security-policy"].startswith("sandbox;")
    head, *rows = csv.reader(io.StringIO(answer.text))
    assert all(len(row) == len(head) for row in rows) and (rows or name in ("tools", "errors"))
    numbers = "0123456789"
    for cell in (cell for row in rows for cell in row):
        assert not cell.startswith(("=", "+", "@", "\t")) and (not cell.startswith("-") or cell[1] in numbers), cell


# --- curl -------------------------------------------------------------------------------------------------------------
class Heard(BaseHTTPRequestHandler):
    """Keeps what it is sent."""

    seen: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def origin() -> Iterator[str]:
    Heard.seen.clear()
    server = HTTPServer(("127.0.0.1", 0), Heard)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


BODIES = [b'{"messages":["it\'s $HOME `id` \\\\ \\n"]}', "Ω 田中\n'\"".encode(), b"\xff\x00\x01", b""]


@pytest.mark.parametrize("body", BODIES, ids=["shell", "text", "bytes", "none"])
def test_a_curl_line_sends_what_was_sent_but_the_key(tmp_path: Path, origin: str, body: bytes) -> None:
    assert shutil.which("curl"), "curl is needed: apt install curl"
    made = recorded.exchange(
        1, request_body=body, target="/v1/messages?beta='true'&x=$(id)",
        request_headers=[("Host", "127.0.0.1:8081"), ("X-Api-Key", "***"), ("X-Odd", "it's `id` $HOME"),
                         ("X-Empty", ""), ("Content-Type", "application/json"), ("Content-Length", "9")],
        attempts=[Attempt(number=1, provider="anthropic", origin=origin, sent=True, status=200)],
    )  # fmt: skip
    path = recorded.write(tmp_path / "db", [made])
    with Connection(path) as db:
        command = curl.command(queries.exchange(db, EXCHANGE), queries.bodies(db, EXCHANGE))
    assert "***" not in command and '"$ANTHROPIC_API_KEY"' in command
    if not body:
        command = f"{command.strip()} --data-raw ''"  # curl -X POST without a body sends no length
    environ = {"PATH": "/usr/bin:/bin", "ANTHROPIC_API_KEY": "sk-dummy", "HOME": "/none"}
    subprocess.run(["sh", "-c", command], check=True, capture_output=True, env=environ, timeout=20)
    ((address, headers, sent),) = Heard.seen
    assert address == "/v1/messages?beta='true'&x=$(id)" and sent == body
    assert headers["x-api-key"] == "sk-dummy" and headers["x-odd"] == "it's `id` $HOME" and headers["x-empty"] == ""
    assert headers["host"] == origin.removeprefix("http://")


def test_hostile_records_as_curl_are_words(tmp_path: Path) -> None:
    path = recorded.write(tmp_path / "db", hostile.exchanges())
    with Connection(path) as db:
        for one in hostile.exchanges():
            command = curl.command(queries.exchange(db, one.id), queries.bodies(db, one.id))
            checked = subprocess.run(["sh", "-n"], input=command.encode(), capture_output=True, check=False)
            assert checked.returncode == 0, command[:200]


# --- pictures ---------------------------------------------------------------------------------------------------------
def picture(content: bytes) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(content).decode()}
    return {"role": "user", "content": [{"type": "image", "source": source}]}


def test_pictures_by_their_number() -> None:
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"}}
    far = {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}}
    body = recorded.ask([picture(b"\xff\xd8\xff1"), {"role": "user", "content": [far, url]}])
    assert images.image(body, "0").media_type == "image/jpeg" and images.image(body, "1").content == PNG
    for number in ("2", "x", "-1", "99999"):
        with pytest.raises(NotFound):
            images.image(body, number)


@pytest.mark.parametrize("content", [b"<svg onload=canary()>", b"<html>", b"RIFF....AVI ", b""])
def test_only_raster_images_are_given_out(content: bytes) -> None:
    with pytest.raises(NotFound):
        images.image(recorded.ask([picture(content)]), "0")


def test_a_page_shows_its_pictures(serve: Serve, tmp_path: Path) -> None:
    made = recorded.exchange(1, request_body=recorded.ask([recorded.user("look"), picture(PNG)]))
    site = serve(recorded.write(tmp_path / "db", [made]))
    assert f'src="/exchanges/{EXCHANGE}/images/0"' in site.ask("/sessions/session-1").text
    answer = site.ask(f"/exchanges/{EXCHANGE}/images/0")
    assert answer.body == PNG and answer.headers["content-type"] == "image/png"
    assert (
        answer.headers["x-content-type-options"] == "nosniff" and "sandbox" in answer.headers["content-security-policy"]
    )


# --- exports ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", FORMATS)
def test_a_session_as_a_file(serve: Serve, tmp_path: Path, form: str) -> None:
    site = serve(recorded.write(tmp_path / "db", recorded.tool_loop()))
    answer = site.ask(f"/sessions/session-1/export?format={form}")
    assert answer.status == 200 and "make test" in answer.text
    assert answer.headers["content-disposition"] == f'attachment; filename="session_session-1.{FORMATS[form][0]}"'
    assert answer.headers["content-security-policy"].startswith("sandbox;")
    if form == "har":
        assert len(json.loads(answer.body)["log"]["entries"]) == 3


def test_what_cannot_be_exported(serve: Serve, tmp_path: Path) -> None:
    site = serve(recorded.write(tmp_path / "db", recorded.tool_loop()))
    assert site.ask("/sessions/session-1/export?format=exe").status == 400
    assert site.ask("/sessions/none/export").status == 404


def test_all_that_a_filter_lets_through_is_exported_by_post_only(serve: Serve, tmp_path: Path) -> None:
    made = [recorded.exchange(n, f"s{n}", client="codex" if n % 2 else "opencode") for n in range(1, 7)]
    site = serve(recorded.write(tmp_path / "db", made))
    assert site.ask("/export").status == 405
    answer = site.ask("/export", "POST", b"format=har&client=codex")
    entries = json.loads(answer.body)["log"]["entries"]
    assert sorted(entry["pageref"] for entry in entries) == ["s1", "s3", "s5"]
    assert site.ask("/export", "POST", b"format=exe").status == 400
    for header in ({"Sec_Fetch_Site": "cross-site"}, {"Origin": "http://evil.test"}):
        assert site.ask("/export", "POST", b"format=har", **header).status == 403
