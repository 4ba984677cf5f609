"""Framing: the cases of tests/corpus/desync_*.json through the relay over real sockets, in every feed.

Each request case runs whole, in 16-byte pieces, byte by byte, before a clean GET and behind one on the same connection.
Whatever reaches the upstream is read again by h11, and compared with what a second, plain reader finds in the case.
"""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import h11
import pytest

from tests.peers import Parsed, Peer, answers_in, get, looped, pair, requests_in, settle

CORPUS = Path(__file__).parent.parent / "corpus"
Case = dict[str, Any]
REQUESTS: list[Case] = json.loads((CORPUS / "desync_cases.json").read_text())
ANSWERS: list[Case] = json.loads((CORPUS / "desync_response_cases.json").read_text())
HOP = {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"http2-settings",
       b"proxy-authorization", b"proxy-authenticate"}  # fmt: skip
NEXT = get("/v1/models?next=1")
NEXT_BODY = b'{"next":1}'
HEAD_SECONDS = 10.0
RECEIVING_HEAD = 1  # _fast/relay.pxd
BYTEWISE_MAX = 3000  # longer cases go in 16-byte pieces at the smallest
PIECES_MAX = 40_000

# Where the table leaves a choice ("accept_also"), this is ours; every other case does what its "expected" says.
CHOSEN = {"pipe-1000": "forward", "chunk-trailer-host": "forward"}
# Incomplete heads: refused when their time is over; no other case needs a clock.
NEED_TIME = {"pipe-bytes-after-cl"}


class Wanted(NamedTuple):
    """What `forward_check` of a case demands, beyond what holds for every forwarded request."""

    body: bytes = b""
    count: int = 1
    present: tuple[tuple[bytes, bytes], ...] = ()
    absent: tuple[bytes, ...] = ()


FRAMING_ABSENT = (b"content-length", b"transfer-encoding")
CHUNKED = ((b"transfer-encoding", b"chunked"),)
FORWARDED: dict[str, Wanted] = {
    "ok-get": Wanted(absent=FRAMING_ABSENT),
    "ok-post-cl-zero": Wanted(),
    "ok-post-no-framing": Wanted(absent=(b"transfer-encoding",)),
    "ok-header-obs-text": Wanted(present=((b"x-a", b"caf\xe9"),)),
    "ok-empty-header-value": Wanted(),
    "cl-underscore-name": Wanted(absent=FRAMING_ABSENT),
    "te-underscore-name": Wanted(body=b"hello", present=((b"content-length", b"5"),), absent=(b"transfer-encoding",)),
    "te-uppercase": Wanted(body=b"hello", present=CHUNKED),
    "te-tab-ows": Wanted(body=b"hello", present=CHUNKED),
    "te-trailing-space": Wanted(body=b"hello", present=CHUNKED),
    "chunk-trailer-valid": Wanted(body=b"hello", absent=(b"x-checksum",)),
    "chunk-trailer-auth": Wanted(body=b"hello", absent=(b"authorization",)),
    "rl-target-double-slash": Wanted(),
    "rl-target-dotdot": Wanted(),
    "rl-target-encoded-crlf": Wanted(absent=(b"x-evil",)),
    "rl-target-encoded-nul": Wanted(),
    "upgrade-ws-ok": Wanted(present=((b"upgrade", b"websocket"), (b"connection", b"Upgrade"))),
    "upgrade-h2c": Wanted(absent=(b"upgrade", b"http2-settings", b"connection")),
    "upgrade-no-connection": Wanted(absent=(b"upgrade",)),
    "upgrade-http10": Wanted(absent=(b"upgrade",)),
    "conn-names-cl": Wanted(body=b"hello", present=((b"content-length", b"5"),)),
    "conn-names-te": Wanted(body=b"hello", present=CHUNKED),
    "expect-no-body": Wanted(),
    "pipe-cl0-then-request": Wanted(count=2),
    "chunk-trailer-host": Wanted(body=b"hello"),
    "pipe-1000": Wanted(count=1000),
}  # fmt: skip


async def answering(peer: Peer) -> None:
    """An upstream that answers each whole request with 200."""
    done = 0
    while not peer.over:
        # a broken body must stay unanswered, and the test looks at it
        try:
            whole, rest = requests_in(bytes(peer.data[done:]))
        except h11.RemoteProtocolError:
            return
        done = len(peer.data) - len(rest)
        for _ in whole:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(NEXT_BODY), NEXT_BODY))
        seen = len(peer.data)
        await peer.until(lambda seen=seen: len(peer.data) > seen or peer.over, patience=3600)


class Ran(NamedTuple):
    """What became of one case."""

    got: bytes
    captured: list[bytes]

    def upstream(self) -> tuple[list[Parsed], bytes]:
        """(whole requests, what is left over) that reached the upstream, in order of connections."""
        requests: list[Parsed] = []
        left = b""
        for data in self.captured:
            whole, rest = requests_in(data)
            requests += whole
            left += rest
        return requests, left

    def statuses(self) -> list[int]:
        found, rest = answers_in(self.got, ["GET"] * 2000, closed=True)
        assert not rest, f"not an answer: {rest[:100]!r}"
        return [answer.status for answer in found]


def verdict_of(case: Case) -> str:
    return CHOSEN.get(case["name"], case["expected"])


async def play(
    raw: bytes, piece: int, answers: int, *, eof: bool, first_answered: bool = False, needs_time: bool = False
) -> Ran:
    """Send `raw` and wait for so many answers (0: until the proxy closes, after one answer where `first_answered`)."""
    async with pair(script=answering) as (proxy, upstream):
        client = await proxy.client()
        if piece:
            await client.send_in(raw, piece)
        else:
            client.send(raw)
        if eof:
            client.finish()
        await settle()
        if answers:
            await client.until(
                lambda: client.over or client.data.count(NEXT_BODY) + client.data.count(b"LunaRoute: ") >= answers
            )
        else:
            if first_answered:
                await client.until(lambda: client.over or NEXT_BODY in client.data)
            if needs_time:
                await proxy.until(lambda: [each.state for each in proxy.settings.live] == [RECEIVING_HEAD])
                proxy.pass_time(HEAD_SECONDS + 1)
            await client.until(lambda: client.over, "the proxy to close")
        await settle()
        ran = Ran(bytes(client.data), upstream.captured())
        if answers and not client.over:
            # the connection is in a good state: it serves what comes next
            client.send(NEXT)
            await client.until(lambda: client.data.count(NEXT_BODY) > answers or client.over)
            assert client.over or client.data.endswith(NEXT_BODY)
        return ran


def fields_of(head: bytes) -> list[tuple[bytes, bytes]]:
    """The field lines of a case's head, by splitting alone."""
    lines = head.split(b"\r\n")[1:]
    return [(name, value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]


def judge_forwarded(case: Case, requests: list[Parsed]) -> None:
    """P2: request line and fields as the client sent them, but Host, hop-by-hop fields and our own framing."""
    wanted = FORWARDED[case["name"]]
    head = case["raw"].encode("latin-1").partition(b"\r\n\r\n")[0]
    method, target, _ = head.partition(b"\r\n")[0].split(b" ")
    first = requests[0]
    assert first.first == (method, target)
    assert first.body == wanted.body
    names = [name.lower() for name, _ in first.fields]
    assert names.count(b"host") == 1 and b"localhost" not in first.values("host")[0]
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    for name, value in wanted.present:
        assert first.values(name.decode()) == [value]
    for name in wanted.absent:
        assert name not in names
    own = fields_of(head)
    options = b",".join(value for name, value in own if name.lower() == b"connection").split(b",")
    listed = {option.strip().lower() for option in options}
    kept_out = HOP | (listed - {b"content-length", b"transfer-encoding", b"host"}) | {b"host", b"transfer-encoding"}
    if case["name"] == "upgrade-ws-ok":
        kept_out = {b"host", b"connection"}
        first = first._replace(fields=[f for f in first.fields if f[0].lower() != b"connection"])
    assert [f for f in first.fields if f[0].lower() not in kept_out] == [f for f in own if f[0].lower() not in kept_out]


def judge(case: Case, verdict: str, requests: list[Parsed], left: bytes, statuses: list[int]) -> None:
    phase = case["phase"]
    if verdict == "forward":
        wanted = FORWARDED[case["name"]]
        assert len(requests) == wanted.count
        assert not left
        assert statuses == [200] * wanted.count
        judge_forwarded(case, requests)
    elif phase == "head":
        assert not requests and not left, "bytes of a refused head reached the upstream"
        if verdict == "reject":
            assert len(statuses) == 1 and 400 <= statuses[0] < 600, statuses
    elif phase == "body":
        assert not requests, "the upstream saw a complete request"
        if verdict == "reject":
            assert statuses == [400] or (statuses == [413] and "limit" in case["reason"]), statuses
    else:
        assert phase == "next"
        assert len(requests) <= 1 and not left, "more than the first request reached the upstream"
        assert statuses[: len(requests)] == [200] * len(requests), "the first answer was lost"


def feeds() -> list[Any]:
    made = []
    for case in REQUESTS:
        size = len(case["raw"])
        for piece in (0, 16, 1):
            if piece == 0 or (piece == 16 and size <= PIECES_MAX) or (piece == 1 and size <= BYTEWISE_MAX):
                feed = {0: "whole", 1: "bytes"}.get(piece, str(piece))
                made.append(pytest.param(case, piece, id=f"{case['name']}-{feed}"))
    return made


@pytest.mark.parametrize(("case", "piece"), feeds())
@looped
async def test_each_request_case_in_each_feed(case: Case, piece: int) -> None:
    verdict = verdict_of(case)
    answers = FORWARDED[case["name"]].count if verdict == "forward" else 0
    ran = await play(
        case["raw"].encode("latin-1"),
        piece,
        answers,
        eof=case["name"].startswith("eof-"),
        first_answered=case["phase"] == "next",
        needs_time=case["name"] in NEED_TIME,
    )
    requests, left = ran.upstream() if case["phase"] != "body" or verdict == "forward" else lenient(ran)
    judge(case, verdict, requests, left, ran.statuses())


def lenient(ran: Ran) -> tuple[list[Parsed], bytes]:
    """Like Ran.upstream() for bodies cut on purpose: nothing whole may be in it, whatever h11 makes of the end."""
    try:
        return ran.upstream()
    except h11.RemoteProtocolError:
        return [], b"".join(ran.captured)


@pytest.mark.parametrize("case", [c for c in REQUESTS if not c["name"].startswith("eof-")], ids=lambda c: c["name"])
@looped
async def test_a_clean_request_behind_a_case_gets_its_own_answer_or_a_closed_connection(case: Case) -> None:
    verdict = verdict_of(case)
    wanted = FORWARDED[case["name"]].count if verdict == "forward" else 0
    ran = await play(
        case["raw"].encode("latin-1") + NEXT,
        0,
        wanted and wanted + 1,
        eof=False,
        first_answered=case["phase"] == "next",
    )
    requests, left = ran.upstream() if case["phase"] != "body" or verdict == "forward" else lenient(ran)
    statuses = ran.statuses()
    if verdict == "forward" and len(requests) > wanted:
        assert requests.pop().first == (b"GET", b"/v1/models?next=1")
        assert statuses.pop() == 200
    judge(case, verdict, requests, left, statuses)
    assert not any(b"next=1" in request.first[1] for request in requests)
    assert b"next=1" not in left, "the second request went into the first one's body"


@pytest.mark.parametrize("case", REQUESTS, ids=lambda c: c["name"])
@looped
async def test_a_case_behind_a_clean_request_does_not_hurt_its_answer(case: Case) -> None:
    verdict = verdict_of(case)
    wanted = FORWARDED[case["name"]].count + 1 if verdict == "forward" else 0
    ran = await play(
        NEXT + case["raw"].encode("latin-1"),
        0,
        wanted,
        eof=case["name"].startswith("eof-"),
        first_answered=True,
        needs_time=case["name"] in NEED_TIME,
    )
    requests, left = ran.upstream() if case["phase"] != "body" or verdict == "forward" else lenient(ran)
    statuses = ran.statuses()
    if case["phase"] == "body" and verdict != "forward":
        requests = requests or [Parsed((b"GET", b"/v1/models?next=1"), [], b"")]
    assert requests.pop(0).first == (b"GET", b"/v1/models?next=1")
    assert statuses.pop(0) == 200
    judge(case, verdict, requests, left, statuses)


def test_the_table_is_known() -> None:
    """A case that is added to the corpus must get its expectation here."""
    forwarded = {c["name"] for c in REQUESTS if verdict_of(c) == "forward"}
    assert forwarded == set(FORWARDED)
    assert set(CHOSEN) <= {c["name"] for c in REQUESTS if CHOSEN.get(c["name"]) in c.get("accept_also", [])}


# --- answers -------------------------------------------------------------------------------------------------------


def bomb() -> bytes:
    """256 MB of zeros, gzipped, as one chunk."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    packed = b"".join(packer.compress(zeros) for _ in range(256)) + packer.flush()
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(packed), packed)


def staged(case: Case) -> tuple[str, bytes]:
    """(stage direction, bytes of the upstream)."""
    found = re.match(r"<([^<>]*)>", case["upstream"])
    stage, text = (found[1], case["upstream"][found.end() :]) if found else ("", case["upstream"])
    raw = text.encode("latin-1")
    return stage, raw.replace(b"<1 MB gzip of 1 GB zeros>", bomb()) if "gzip-bomb" in case["name"] else raw


class Played(NamedTuple):
    """What the client saw, and what became of the upstream's connection."""

    answer: Parsed | None
    got: bytes
    closed: bool
    reused: bool
    next_answer: Parsed


async def play_answer(case: Case, piece: int) -> Played:
    stage, raw = staged(case)
    early = "before the request body" in stage
    method = case["request_method"]
    async with pair() as (proxy, upstream):
        client = await proxy.client()
        body = b"x" * 1000 if early else b"{}"
        fields = f"Content-Length: {200_000 if early else 2}\r\n" if method == "POST" else ""
        target = "/v1/messages" if method == "POST" else "/v1/models"
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"
        client.send(head.encode() + (body if fields else b""))
        served = await upstream.accepted()
        await served.head()
        if fields:
            await served.exactly(len(body))
        if piece or case["upstream_end"] == "drip":
            await served.send_in(raw, piece or 1)
        else:
            served.send(raw)
        await settle()
        end = case["upstream_end"]
        if end in ("eof", "drip"):
            served.close()
        elif end == "rst":
            served.reset()
        elif end == "stall":
            proxy.pass_time(601)
        await settle()
        answer = await outcome(client, method)
        closed = client.over
        got = bytes(client.data)
        second = await proxy.sent(NEXT)
        fresh = len(upstream.connections) > 1 or served.over
        if not fresh:
            await settle()
            fresh = len(upstream.connections) > 1
        peer = await upstream.accepted() if fresh else served
        await peer.has(b"next=1")
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(NEXT_BODY), NEXT_BODY))
        await second.has(NEXT_BODY)
        (following,), rest = answers_in(bytes(second.data), ["GET"])
        assert not rest
        return Played(answer, got, closed, not fresh, following)


async def outcome(client: Peer, method: str) -> Parsed | None:
    """The whole answer, or None where the proxy closed before it was whole."""
    try:
        await client.until(lambda: answers_in(bytes(client.data), [method], client.over)[0] or client.over)
        found, rest = answers_in(bytes(client.data), [method], client.over)
    except h11.RemoteProtocolError:
        await client.until(lambda: client.over)
        return None
    assert not found or not rest
    return found[0] if found else None


# "accept_also": ours where it differs from "expected"
ANSWERED = {"r-ok-http10": "pass-close"}
PIECES = (0, 16, 1)


@pytest.mark.parametrize("piece", PIECES, ids=("whole", "16", "bytes"))
@pytest.mark.parametrize("case", ANSWERS, ids=lambda c: c["name"])
@looped
async def test_each_answer_case_in_each_feed(case: Case, piece: int) -> None:
    if piece and len(staged(case)[1]) > (BYTEWISE_MAX if piece == 1 else PIECES_MAX * 2):
        piece = 1460
    _, raw = staged(case)
    played = await play_answer(case, piece)
    verdict = ANSWERED.get(case["name"], case["expected"])
    method = case["request_method"]
    if verdict in ("pass", "pass-close"):
        wanted, _ = answers_in(raw, [method], closed=True)
        assert played.answer is not None
        assert played.answer.status == wanted[0].status
        assert played.answer.body == wanted[0].body
        assert played.answer.first[1] == wanted[0].first[1]
        assert played.reused == (verdict == "pass")
    elif verdict == "gateway-error":
        assert played.answer is not None
        assert played.answer.status in (502, 504)
        assert played.answer.values("x-should-retry") == [b"false"]
        assert not played.reused
    else:
        assert verdict == "abort"
        assert played.answer is None and played.closed
        assert played.got.startswith(b"HTTP/1.1 200"), "what came before the fault is passed on"
        assert not played.got.endswith(b"0\r\n\r\n")
        assert not played.reused
    assert played.next_answer.body == NEXT_BODY


def test_the_table_of_answers_leaves_no_choice_open() -> None:
    assert set(ANSWERED) <= {c["name"] for c in ANSWERS}


@looped
async def test_bytes_on_an_idle_connection_discard_it() -> None:
    async with pair() as (proxy, upstream):
        client = await proxy.sent(NEXT)
        first = await upstream.accepted()
        await first.head()
        first.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await client.head()
        first.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray")
        await first.until(lambda: first.over)
        client.send(NEXT)
        second = await upstream.accepted()
        await second.head()
        second.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await client.has(b"ok")
        assert b"stray" not in client.data
