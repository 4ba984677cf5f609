"""The web server itself: binding, ending, many at once."""

from __future__ import annotations

import http.client
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lunaroute.errors import StartError
from tests import recorded
from tests.ui.conftest import Serve


def test_it_serves_as_soon_as_start_returns(serve: Serve) -> None:
    site = serve()
    assert site.ui.url == f"http://127.0.0.1:{site.address.port}" and site.ui.running
    answer = site.ask("/healthz")
    assert answer.status == 200
    # not the relay's name: whoever looks for the relay must not find the pages
    assert answer.json["product"] == "lunaroute-ui" and answer.json["status"] == "ok"
    assert "server" not in answer.headers


def test_a_taken_port_is_the_callers_error(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        serve(port=taken.getsockname()[1])


def test_beyond_loopback_it_needs_tokens(serve: Serve) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.test"):
        with pytest.raises(StartError, match="access_tokens"):
            serve(host=host)


def test_ipv6_loopback_has_brackets_in_its_url(serve: Serve) -> None:
    site = serve(host="::1")
    assert site.ui.url.startswith("http://[::1]:")
    assert site.ask("/healthz").status == 200


def test_stop_ends_idle_connections_and_frees_the_port(serve: Serve) -> None:
    site = serve()
    port = site.address.port
    assert port
    idle = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    idle.request("GET", "/healthz")
    idle.getresponse().read()
    site.ui.stop()
    site.ui.stop()
    assert not site.ui.running
    assert idle.sock.recv(1) == b""
    idle.close()
    serve(port=port)


def test_no_thread_stays_behind(serve: Serve) -> None:
    site = serve()
    names = {thread.name for thread in threading.enumerate()}
    assert "lunaroute-ui" in names
    site.ui.stop()
    assert "lunaroute-ui" not in {thread.name for thread in threading.enumerate()}


def test_twenty_tabs_at_once_while_the_recorder_writes(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with recorded.store_at(path) as store:
        store.write(recorded.tool_loop())
        site = serve(path)
        with ThreadPoolExecutor(20) as tabs:
            asked = [tabs.submit(site.ask, page) for page in ("/", "/sessions/session-1", "/settings") * 20]
            for number in range(10, 40):
                store.write([recorded.exchange(number, f"s{number}")])
            assert {one.result().status for one in asked} == {200}


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["no host", "two hosts", "no host in 1.0", "absolute form", "no http", "endless header", "two lengths"],
)
def test_odd_requests_get_no_page(serve: Serve, raw: bytes) -> None:
    site = serve()
    with socket.create_connection(("127.0.0.1", site.address.port or 0), timeout=10) as client:
        client.sendall(raw)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while piece := client.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert site.ask("/healthz").status == 200
