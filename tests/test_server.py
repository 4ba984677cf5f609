"""A real server in its own process: how it stops, what a taken port says, and what the death of each process costs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lunaroute.errors import StartError
from lunaroute.server import listen
from tests.conftest import Serve
from tests.fakes import Request, Upstream, Wire
from tests.faults import Gate, drip, held
from tests.running import PATIENCE, Running, alive, processes_of

BODY = b'{"model":"m","stream":true}'
POST = (
    b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nx-api-key: sk-ant-dummy\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
FIRST, SECOND = b"event: ping\ndata: {}\n\n", b'event: ping\ndata: {"n":2}\n\n'


class Client:
    """A blocking connection to the proxy."""

    def __init__(self, running: Running, request: bytes = b"") -> None:
        self.socket = socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE)
        self.data = b""
        self.socket.sendall(request)

    def has(self, wanted: bytes) -> None:
        while wanted not in self.data:
            piece = self.socket.recv(1 << 16)
            assert piece, f"ended before {wanted!r}: {self.data!r}"
            self.data += piece

    def rest(self) -> bytes:
        """All that comes until the proxy closes."""
        while piece := self.socket.recv(1 << 16):
            self.data += piece
        return self.data

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def clients() -> Iterator[list[Client]]:
    opened: list[Client] = []
    yield opened
    for client in opened:
        client.close()


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


def eventually(fact: object) -> None:
    """Wait for a fact about another process, which has no event to wait for."""
    end = time.monotonic() + PATIENCE
    while not fact():  # type: ignore[operator]
        assert time.monotonic() < end, "never happened"
        os.sched_yield()


async def whole(request: Request, wire: Wire) -> None:
    await wire.body()
    await wire.answer(200, [("Content-Type", "application/json")], b'{"id":"msg_1","usage":{"output_tokens":1}}')


def test_sigterm_lets_a_running_stream_end_and_exits_0(serve: Serve, clients: list[Client]) -> None:
    gate = Gate()
    with Upstream(drip([(FIRST, None), (SECOND, gate)])) as upstream:
        luna = serve(upstream)
        idle = Client(luna)
        clients += [client := Client(luna, POST), idle]
        client.has(FIRST)
        assert luna.process is not None
        luna.process.send_signal(signal.SIGTERM)
        assert idle.rest() == b"", "an idle connection goes at once"
        eventually(lambda: refused(luna.port))
        gate.open()
        data = client.rest()
        assert data.endswith(b"\r\n0\r\n\r\n") and SECOND in data
        assert luna.process.wait(PATIENCE) == 0
    (row,) = [r for r in luna.exchanges() if r["method"] == "POST"]
    assert (row["state"], row["response_body"]) == ("ok", FIRST + SECOND)


def test_a_second_sigterm_cuts_off_visibly_and_still_records(serve: Serve, clients: list[Client]) -> None:
    reached = threading.Event()
    with Upstream(held([FIRST], reached)) as upstream:
        luna = serve(upstream)
        clients.append(client := Client(luna, POST))
        client.has(FIRST)
        assert luna.process is not None
        luna.process.send_signal(signal.SIGTERM)
        eventually(lambda: refused(luna.port))
        luna.process.send_signal(signal.SIGTERM)
        try:
            data = client.rest()
        except ConnectionResetError:
            data = client.data
        assert not data.endswith(b"0\r\n\r\n"), "the cut looks like an end"
        assert luna.process.wait(PATIENCE) == 0
        upstream.wait_for(lambda: upstream.connections[0].ended, "the provider's connection to end")
    (row,) = [r for r in luna.exchanges() if r["method"] == "POST"]
    assert row["response_body"] == FIRST
    assert row["state"] not in (None, "ok")


def test_sighup_is_survived(serve: Serve) -> None:
    with Upstream(whole) as upstream:
        luna = serve(upstream)
        assert luna.process is not None
        luna.process.send_signal(signal.SIGHUP)
        assert luna.get("/healthz")[0] == 200
        assert luna.stop() == 0


def test_a_second_server_on_the_same_port_says_who_is_there(serve: Serve) -> None:
    with Upstream(whole) as upstream:
        luna = serve(upstream)
        second = luna.lunaroute("serve", "--config", str(luna.file))
        assert second.returncode not in (0, None)
        assert "LunaRoute already runs" in second.stderr
        assert "--port" in second.stderr
        assert "Traceback" not in second.stdout + second.stderr
        assert luna.get("/healthz")[0] == 200


def test_a_port_taken_by_another_program_is_one_plain_sentence(tmp_path: Path) -> None:
    luna = Running(tmp_path / "luna", "http://127.0.0.1:9")
    with socket.create_server(("127.0.0.1", luna.port)):
        ran = luna.lunaroute("serve", "--config", str(luna.file))
    assert ran.returncode not in (0, None)
    assert f"port {luna.port} is taken" in ran.stderr
    assert "--port" in ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr


def test_a_taken_port_names_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartError, match=f"port {port} is taken.*choose another port"):
            listen("127.0.0.1", port)


def test_a_host_that_is_no_address_of_this_machine_is_named() -> None:
    with pytest.raises(StartError, match=r"192\.0\.2\.1:0 cannot be listened on"):
        listen("192.0.2.1", 0)


def observers(luna: Running) -> list[int]:
    """Pids of the relay's children that are the observer."""
    assert luna.process is not None
    found = []
    for pid in processes_of(luna.process.pid)[1:]:
        with contextlib.suppress(OSError):  # it may end while it is looked at
            if b"lunaroute.observe.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are read from /proc")


@needs_proc
def test_an_observer_killed_mid_stream_costs_nothing(serve: Serve, clients: list[Client]) -> None:
    gates = [Gate() for _ in range(3)]
    pieces = [b'event: ping\ndata: {"n":%d}\n\n' % n for n in range(4)]
    with Upstream(drip(zip(pieces, [None, *gates], strict=True))) as upstream:
        luna = serve(upstream)
        (old,) = observers(luna)
        clients.append(client := Client(luna, POST))
        client.has(pieces[0])
        os.kill(old, signal.SIGKILL)
        gates[0].open()
        client.has(pieces[1])  # while there is no observer
        eventually(lambda: [pid for pid in observers(luna) if pid != old])
        gates[1].open()
        client.has(pieces[2])
        gates[2].open()
        client.has(b"\r\n0\r\n\r\n")
        assert luna.stop() == 0
    rows = [r for r in luna.exchanges() if r["method"] == "POST"]
    assert [r["state"] for r in rows] == ["ok"]
    assert rows[0]["response_body"] == b"".join(pieces), "nothing is lost: the ring kept it"
    assert (rows[0]["truncated"], rows[0]["lost_bytes"]) == (0, 0)
    assert "the observer ended and is started again" in luna.log()


@needs_proc
def test_requests_during_an_observers_death_are_all_recorded_once(serve: Serve, clients: list[Client]) -> None:
    with Upstream(whole) as upstream:
        luna = serve(upstream)
        for number in range(30):
            if number in (5, 15):
                (pid,) = observers(luna)
                os.kill(pid, signal.SIGKILL)
                eventually(lambda pid=pid: [each for each in observers(luna) if each != pid])
            client = Client(luna, POST)
            client.has(b'"output_tokens":1}}')
            client.close()
        assert luna.stop() == 0
        assert len(upstream.requests) == 30
    rows = [r for r in luna.exchanges() if r["method"] == "POST"]
    assert len(rows) == 30
    assert {r["state"] for r in rows} == {"ok"}
    lines = [line for line in luna.jsonl() if line.get("type", "exchange") == "exchange"]
    ids = [line.get("id") for line in lines if line.get("id")]
    assert len(ids) == len(set(ids))


@needs_proc
def test_what_a_dead_observer_left_is_written_when_the_server_stops(serve: Serve, clients: list[Client]) -> None:
    with Upstream(whole) as upstream:
        luna = serve(upstream)
        for number in range(6):  # each death doubles the pause before the next start: the last one is long
            eventually(lambda: observers(luna))
            for pid in observers(luna):
                os.kill(pid, signal.SIGKILL)
            if number < 5:
                eventually(lambda: observers(luna))
        clients.append(client := Client(luna, POST))
        client.has(b'"output_tokens":1}}')
        assert luna.stop() == 0
    assert [r["state"] for r in luna.exchanges() if r["method"] == "POST"] == ["ok"]


@needs_proc
def test_a_relay_that_is_killed_leaves_closed_records(serve: Serve, clients: list[Client]) -> None:
    reached = threading.Event()
    first = [True]

    async def script(request: Request, wire: Wire) -> None:
        await (whole if first.pop() else held([FIRST], reached))(request, wire)
        first.append(False)

    with Upstream(script) as upstream:
        luna = serve(upstream)
        (observer,) = observers(luna)
        done = Client(luna, POST)
        done.has(b'"output_tokens":1}}')
        done.close()
        first[:] = [False]
        clients.append(running := Client(luna, POST))
        running.has(FIRST)
        assert luna.get("/healthz")[0] == 200, "the relay has gone on: the piece that the client has is in the ring"
        assert luna.process is not None
        luna.process.kill()
        luna.process.wait()
        eventually(lambda: not alive(observer))
        upstream.wait_for(lambda: all(c.ended for c in upstream.connections), "the connections to end")
    rows = [r for r in luna.exchanges() if r["method"] == "POST"]
    assert [r["state"] for r in rows] == ["ok", "interrupted"]
    assert rows[1]["response_body"] == FIRST


@needs_proc
def test_the_observer_that_always_dies_does_not_disturb_requests(serve: Serve) -> None:
    with Upstream(whole) as upstream:
        luna = serve(upstream)
        for _ in range(2):
            for pid in observers(luna):
                os.kill(pid, signal.SIGKILL)
            client = Client(luna, POST)
            client.has(b'"output_tokens":1}}')
            client.close()
            eventually(lambda: observers(luna))
        status, text = luna.get("/healthz")
        assert status == 200
        assert b"lunaroute" in text
        assert luna.stop() == 0


def test_no_core_file_may_hold_a_key(serve: Serve) -> None:
    with Upstream(whole) as upstream:
        luna = serve(upstream)
        assert luna.process is not None
        limits = Path(f"/proc/{luna.process.pid}/limits")
        if not limits.exists():
            pytest.skip("limits are read from /proc")
        (line,) = [each for each in limits.read_text().splitlines() if "core file" in each]
        assert line.split()[4:6] == ["0", "0"]


def test_everything_is_closed_at_the_end(serve: Serve) -> None:
    with Upstream(whole) as upstream:
        luna = serve(upstream)
        pids = processes_of(luna.process.pid if luna.process else 0)
        assert luna.stop() == 0
        eventually(lambda: not any(alive(pid) for pid in pids))
        again = subprocess.run([str(luna.home / "bin" / "lunaroute"), "--version"], env=luna.environ, check=False)
        assert again.returncode == 0
