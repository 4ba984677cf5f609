"""The relay's own time, without the system's: real protocols over null transports (line.py).

Each test looks at both sides' bytes once before it measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import canned
from benchmarks.line import Line

FRAMINGS: dict[str, Callable[[bytes], list[bytes]]] = {
    "whole chunks": lambda whole: [whole],
    "cut in the middle": lambda whole: [whole[:70], whole[70:]],
    "two in one read": lambda whole: [whole + whole],
}

pytestmark = pytest.mark.benchmark(disable_gc=True)


@pytest.fixture(params=(False, True), ids=("recording off", "recording on"))
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    made = Line(request.param)
    made.check()
    yield made
    made.close()


@pytest.fixture
def quiet() -> Iterator[Line]:
    made = Line(False)
    made.check()
    yield made
    made.close()


def test_exchange(benchmark: BenchmarkFixture, line: Line) -> None:
    """A 2 kB request and its 2 kB answer."""
    benchmark.group = "one exchange"
    request, pieces = canned.request(), [canned.answer()]
    benchmark.pedantic(line.exchange, (request, pieces), rounds=200, iterations=20)


def test_large(benchmark: BenchmarkFixture, line: Line) -> None:
    """A request as large as the sink takes."""
    benchmark.group = "one exchange, 60 kB"
    request, answer = canned.request(60_000), canned.answer()
    benchmark.pedantic(line.exchange, (request, [answer]), rounds=100, iterations=5)


@pytest.mark.parametrize("more", (0, 20, 100))
def test_scan_and_rewrite(benchmark: BenchmarkFixture, quiet: Line, more: int) -> None:
    """The scanner, llhttp and the rewriting by how much a field more costs: (time of n more - time of none) / n."""
    benchmark.group = "head with further fields"
    extra = "".join(f"x-further-field-{number}: value of field {number}\n" for number in range(more))
    benchmark.pedantic(quiet.exchange, (canned.request(2048, extra), [canned.answer()]), rounds=200, iterations=10)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_pieces(benchmark: BenchmarkFixture, quiet: Line, framing: str) -> None:
    """A stream of 50 chunks; where reads and chunks do not coincide, we write chunks of our own."""
    benchmark.group = "stream of 50 chunks"
    head, *chunks, end = canned.stream(50)
    reads = FRAMINGS[framing]
    step = 2 if framing == "two in one read" else 1
    pieces = [head, *(piece for chunk in chunks[::step] for piece in reads(chunk)), end]
    benchmark.pedantic(quiet.exchange, (canned.request(), pieces), rounds=100, iterations=5)


def test_decision(benchmark: BenchmarkFixture, quiet: Line) -> None:
    """The router's decision and the plan made from it: once for each path and kind of credential."""
    benchmark.group = "decision"
    plan = benchmark(quiet.plans.plan, b"POST", b"/v1/messages", 48 | 128)
    assert plan.provider == "anthropic"


def test_remembered(benchmark: BenchmarkFixture, quiet: Line) -> None:
    """Two exchanges on paths that alternate: the table of plans helps, the connection's memory of the last does not."""
    benchmark.group = "one exchange"
    first, answer = canned.request(), [canned.answer()]
    second = first.replace(b"/v1/messages", b"/v1/messages/count_tokens", 1)

    def alternate() -> None:
        quiet.exchange(first, answer)
        quiet.exchange(second, answer)

    benchmark.extra_info["exchanges"] = 2
    benchmark.pedantic(alternate, rounds=200, iterations=10)
