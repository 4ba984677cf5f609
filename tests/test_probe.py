"""Who answers on a port. (Foreign programs and what is said of them: test_lifecycle.py.)"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable

import pytest

from lunaroute.probe import Answer, base_url, occupant, probe

BODY = b'{"product":"lunaroute","version":"9","instance":"abc","pid":5,"ui":"http://u","started_at":"then"}'


def answering(*pieces: bytes) -> tuple[int, Callable[[], bytes]]:
    """A server for one connection; gives back its port and, later, what it was asked."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            asked.append(peer.recv(4096))
            for piece in pieces:
                peer.sendall(piece)
        listener.close()

    thread = threading.Thread(target=serve)
    thread.start()

    def question() -> bytes:
        thread.join()
        return asked[0]

    return listener.getsockname()[1], question


def test_lunaroute_is_known_by_its_answer() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    port, question = answering(head + BODY)
    assert probe("127.0.0.1", port) == Answer(True, "", "9", "abc", 5, "http://u", "then")
    assert question().startswith(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode())


@pytest.mark.parametrize("size", [1, 7, 64])
def test_in_pieces_and_without_a_length(size: int) -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + BODY
    port, question = answering(*(raw[i : i + size] for i in range(0, len(raw), size)))
    assert probe("127.0.0.1", port).instance == "abc"
    question()


def test_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert probe("127.0.0.1", port) == Answer(False)


def test_a_silent_program() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        assert "does not answer" in probe("127.0.0.1", mute.getsockname()[1], timeout=0.05).what


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::1", "http://localhost:80"),
        ("::", "http://localhost:80"),
        ("localhost", "http://localhost:80"),
        ("10.0.0.5", "http://10.0.0.5:80"),
        ("fd00::5", "http://[fd00::5]:80"),
    ],
)
def test_the_address_for_clients(host: str, url: str) -> None:
    assert base_url(host, 80) == url


def test_the_occupant_of_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert str(occupant(listener.getsockname()[1])).endswith(f"(pid {os.getpid()})")
        port = listener.getsockname()[1]
    assert occupant(port) is None
