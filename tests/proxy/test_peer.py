"""What the kernel says of a client's socket, asked for real sockets of this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from lunaroute.proxy.peer import has_gone, inode

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as server:
        client = socket.create_connection(server.getsockname()[:2])
        served, _ = server.accept()
    with client, served:
        yield client, served


class Transport:
    """get_extra_info() of an accepted connection."""

    def __init__(self, peer: object, own: object) -> None:
        self.facts = {"peername": peer, "sockname": own}

    def get_extra_info(self, name: str) -> object:
        return self.facts[name]


def of(served: socket.socket) -> Transport:
    return Transport(served.getpeername(), served.getsockname())


def test_an_open_client_is_there(pair: Pair) -> None:
    assert has_gone(of(pair[1])) is False


def test_a_client_that_shut_its_sending_side_is_still_there(pair: Pair) -> None:
    pair[0].shutdown(socket.SHUT_WR)
    assert pair[1].recv(1) == b""
    assert has_gone(of(pair[1])) is False


def test_a_client_that_closed_is_gone(pair: Pair) -> None:
    pair[0].close()
    assert pair[1].recv(1) == b""
    assert has_gone(of(pair[1])) is True


def test_a_socket_that_never_was_has_no_inode(pair: Pair) -> None:
    host = pair[1].getsockname()[0]
    assert inode((host, 1), (host, 2)) is None


def test_a_client_elsewhere_cannot_be_told() -> None:
    assert has_gone(Transport(("192.0.2.1", 1), ("192.0.2.2", 2))) is None


def test_where_nothing_is_known_of_the_connection_it_is_over() -> None:
    assert has_gone(Transport(None, None)) is True


def test_a_kernel_that_does_not_tell_is_no_error(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK")
    assert has_gone(of(pair[1])) is None
