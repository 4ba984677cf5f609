"""A month of a developer's sessions as they look in life: for pictures of the pages, and for tests that look at all.

Everything is made by one seed, except the moments, which are before `now`: what runs, runs now.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lunaroute.records import Attempt, Exchange, Limit, Split, State, Text, Timings, ToolCall, ToolResult, Usage
from lunaroute.stores.upkeep import Keep
from tests import recorded
from tests.recorded import assistant, call, result, text, thinking, user

WORK = (
    ("orbit-api", "Fix the flaky retry test in the upload client"),
    ("orbit-api", "Why does /v2/search time out for long queries?"),
    ("orbit-web", "Move the billing page to the new form components"),
    ("orbit-web", "Dark mode: tables are unreadable"),
    ("tidepool", "Write a migration that splits the events table"),
    ("tidepool", "Profile the importer, it takes 40 minutes"),
    ("dotfiles", "Make the prompt show the git branch"),
    ("orbit-api", "Review the rate limiter for races"),
    ("orbit-web", "Add keyboard navigation to the command palette"),
    ("tidepool", "Explain how backpressure works in the consumer"),
    ("orbit-api", "Upgrade to Python 3.13 and fix the warnings"),
    ("notes", "Summarise the incident review into an action list"),
    ("orbit-web", "Chart tooltips flicker on hover"),
    ("tidepool", "Add a dry-run flag to the backfill job"),
)
TOOLS = (
    ("Bash", 30),
    ("Read", 28),
    ("Edit", 20),
    ("Grep", 14),
    ("Write", 5),
    ("WebFetch", 2),
    ("mcp__linear__get_issue", 1),
)
CLIENTS = (
    ("claude-code", "claude-opus-5-5", "anthropic", "anthropic", 55),
    ("claude-code", "claude-sonnet-5", "anthropic", "anthropic", 20),
    ("codex", "gpt-5.5", "openai", "responses", 20),
    ("opencode", "gpt-5.5-mini", "openai", "chat", 8),
)  # fmt: skip
PRICE = {"claude-opus-5-5": (5, 25), "claude-sonnet-5": (3, 15), "gpt-5.5": (2, 12), "gpt-5.5-mini": (0.4, 2)}
HERO = "7f3a9c21-5b1d-4e0a-9d57-2f6c8e14ab90"
RUNNING = f"{recorded.BOOT}-running"


def write(path: Path, now: datetime | None = None, days: int = 30) -> Path:
    """The database, with the sums of its hours."""
    moment = now or datetime.now(UTC)
    luck = random.Random(11)
    with recorded.store_at(path) as store:
        batch = [*_month(moment, days, luck), *hero(moment)]
        for start in range(0, len(batch), 500):
            store.write(batch[start : start + 500])
        for _ in store.tend_steps(moment.timestamp(), Keep()):
            pass
    return path


def _month(now: datetime, days: int, luck: random.Random) -> Iterator[Exchange]:
    number = 10
    for back in range(days, -1, -1):
        day = (now - timedelta(days=back)).replace(minute=0, second=0, microsecond=0)
        busy = 1 if day.weekday() >= 5 else luck.randint(4, 8)
        for _ in range(busy):
            start = day.replace(hour=0) + timedelta(hours=luck.triangular(7, 20, 14), minutes=luck.randint(0, 59))
            if start > now - timedelta(minutes=25):
                continue
            for one in _session(number, start, now, luck):
                number += 1
                yield one


def _session(first: int, start: datetime, now: datetime, luck: random.Random) -> Iterator[Exchange]:
    project, title = luck.choice(WORK)
    client, model, provider, dialect, _ = luck.choices(CLIENTS, [each[-1] for each in CLIENTS])[0]
    session = f"{luck.randrange(1 << 32):08x}-4c1e-4b7a-8f02-{first:012x}"
    context, at = luck.randint(14_000, 22_000), start
    turns = min(60, int(luck.paretovariate(1.1) * 4))
    for turn in range(turns):
        if at > now - timedelta(minutes=2):
            return
        grown = luck.randint(300, 5200)
        cold = turn == 0 or luck.random() < 0.04
        made = _turn(first + turn, session, turn, at, (client, model, provider, dialect), context, grown, cold, luck)
        made.title, made.project = title, f"/home/mika/src/{project}"
        yield made
        context = min(context + grown, 168_000)
        at += timedelta(milliseconds=made.timings.done or 0, seconds=luck.expovariate(1 / 14))


def _turn(
    number: int, session: str, turn: int, at: datetime, who: tuple[str, str, str, str], context: int, grown: int,
    cold: bool, luck: random.Random,
) -> Exchange:  # fmt: skip
    client, model, provider, dialect = who
    fate = luck.random()
    state = State.UPSTREAM_ERROR if fate < 0.012 else State.CLIENT_CANCELLED if fate < 0.03 else State.OK
    out = int(luck.lognormvariate(5.6, 0.9))
    first = luck.lognormvariate(7.0, 0.45) * (1.6 if cold else 1)
    speed = {"claude-opus-5-5": 62, "claude-sonnet-5": 84, "gpt-5.5": 71, "gpt-5.5-mini": 140}[model]
    done = first + out / speed * 1000 * luck.uniform(0.8, 1.3)
    read, fresh = (0, context + grown) if cold else (context, grown)
    usage = Usage(input_tokens=read + fresh, cache_read_tokens=read, output_tokens=out, thinking_tokens=out // 3)
    if dialect == "anthropic":
        usage = Usage(input_tokens=luck.randint(3, 60), cache_read_tokens=read, cache_write_tokens=fresh,
                      output_tokens=out, thinking_tokens=out // 4)  # fmt: skip
    paid = PRICE[model]
    cost = (fresh * paid[0] * (1.25 if dialect == "anthropic" else 1) + read * paid[0] / 10 + out * paid[1]) / 1e6
    ns = int(at.timestamp() * 1e9)
    failed = state is State.UPSTREAM_ERROR
    name = luck.choices([tool for tool, _ in TOOLS], [weight for _, weight in TOOLS])[0]
    took = {"Bash": 2200, "Read": 25, "Edit": 40, "Grep": 60, "Write": 35, "WebFetch": 1800}.get(name, 700)
    ended = ns + int(done * 1e6)
    calls = [] if failed else [ToolCall(id=f"c{number}", name=name, arguments=json.dumps({"command": "make test"}),
                                        arguments_bytes=24, called_ns=ended - 5_000_000)]  # fmt: skip
    seen = ns - int(luck.uniform(1, 30) * 1e6)
    results = [] if turn == 0 else [
        ToolResult(id=f"c{number - 1}", text="ok", result_bytes=900, success=luck.random() > 0.05,
                   seen_ns=seen if took < 500 else ns)
    ]  # fmt: skip
    return recorded.exchange(
        number, session, at=at, sequence=turn + 1, client=client, provider=provider, dialect=dialect, state=state,
        model_requested=model, model_used=None if failed else model, status=529 if failed else 200,
        error="overloaded_error: Overloaded" if failed else None, error_kind="overloaded_error" if failed else None,
        usage=Usage() if failed else usage, cost_usd=None if failed else cost, cost_kind="api", price_id="sample",
        target="/v1/messages?beta=true" if dialect == "anthropic" else "/v1/responses",
        attempts=[Attempt(number=1, provider=provider, origin=f"https://api.{provider}.com", sent=True,
                          status=529 if failed else 200, reused=turn > 0,
                          connect_ms=None if turn else 18.0, tls_ms=None if turn else 24.0)],
        timings=Timings(head_received=0.1, request_received=0.5, attempt_started=0.6, request_sent=1.4,
                        response_head=first * 0.7, first_body=first * 0.71,
                        first_content=None if failed else first, done=done),
        split=Split(before_ms=0.12, connect_ms=None if turn else 42.0, upload_ms=luck.uniform(1, 9),
                    wait_ms=first * 0.7, first_content_ms=first * 0.3, generation_ms=max(1.0, done - first),
                    after_ms=0.05),
        overhead_ms=luck.lognormvariate(-2.2, 0.4), tool_calls=calls, tool_results=results, stream=True,
        texts=[Text(kind="prompt", text=f"turn {turn} of this work"), Text(kind="answer", text="I will look at it.")],
        request_bytes=4 * (read + fresh), response_bytes=40 * out,
    )  # fmt: skip


# --- one session to read -------------------------------------------------------------------------------------------
PLAN = """The test fails only when the fake server answers **before** the client has sent its body: then `retry_after`
is read from a response that nobody waited for.

Two things to change:

1. `upload.py` must not look at the answer until the body is out, *or* it must cancel the upload.
2. The test should make the order explicit instead of sleeping.

```python
async def _send(self, body: bytes) -> Response:
    sending = asyncio.create_task(self._write(body))
    answer = await self._first_answer()
    if answer.status >= 400 and not sending.done():
        sending.cancel()  # the server has made up its mind
    return answer
```

| run | before | after |
|---|--:|--:|
| failures in 200 | 7 | 0 |
| time | 41 s | 38 s |
"""
SYSTEM = "You are a coding assistant. Work in small steps, run the tests, and say what you changed.\n" * 12


def hero(now: datetime) -> list[Exchange]:
    """A session of five turns with a subagent, a title call and an answer that is under way."""
    at = now - timedelta(minutes=9)
    ask = user("The retry test in the upload client fails about once in thirty runs. Find out why and fix it.")
    one = [thinking("Flaky at 1 in 30: timing. I should look at the test and at the client first."),
           text("I'll look at the test and the client."), call("u1", "Grep", pattern="retry_after", path="src"),
           call("u2", "Read", file_path="tests/test_upload.py")]  # fmt: skip
    got = [result("u1", "src/upload.py:88:    wait = answer.headers.get('retry-after')"),
           result("u2", "async def test_retry_waits(server):\n    await asyncio.sleep(0.05)\n    ...")]  # fmt: skip
    two = [text("The sleep hides an order that is not guaranteed. Let me make it happen every time."),
           call("u3", "Bash", command="pytest tests/test_upload.py -x --count 200")]  # fmt: skip
    failed = [result("u3", "7 failed, 193 passed in 41.02s\nE   KeyError: 'retry-after'", failed=True)]
    three = [text(PLAN), call("u4", "Edit", file_path="src/upload.py", old_string="wait = ...", new_string="...")]
    edited = [result("u4", "The file src/upload.py has been updated.")]
    four = [call("u5", "Bash", command="pytest tests/test_upload.py -x --count 200")]
    passed = [result("u5", "200 passed in 38.11s")]
    five = [text("All 200 runs pass now. The cause was an early answer; the client now stops sending when it has one.")]
    history: list[dict[str, Any]] = [ask]
    turns: list[tuple[list[Any], list[Any]]] = [([], one), (got, two), (failed, three), (edited, four), (passed, five)]
    made: list[Exchange] = []
    read = 0
    for number, (more, answer) in enumerate(turns):
        history = [*history, *more]
        size = 16_400 + 2_900 * number
        body = recorded.ask(history, system=SYSTEM)
        made.append(_told(number, at, body, answer, read, size - read, now))
        read = size
        history = [*history, assistant(*answer)]
        at += timedelta(milliseconds=made[-1].timings.done or 0, seconds=[2, 42, 3, 39, 0][number])
    asked = user("Good. Now add a changelog entry, and check whether the download client has the same problem.")
    running = recorded.exchange(
        900_006, HERO, at=now - timedelta(seconds=8), sequence=8, id=RUNNING, state=None, usage=Usage(),
        project="/home/mika/src/orbit-api", request_body=recorded.ask([*history, asked], system=SYSTEM),
        model_used=None, timings=Timings(head_received=0.1), overhead_ms=None, attempts=[],
    )  # fmt: skip
    title = recorded.exchange(
        900_007, HERO, at=now - timedelta(minutes=9), sequence=1, kind="title", cost_usd=0.0004, cost_kind="api",
        title="Fix the flaky retry test in the upload client", model_used="claude-haiku-4-5",
        request_body=recorded.ask([ask]), response_body=recorded.stream(text('{"title": "Fix the flaky retry test"}')),
        usage=Usage(input_tokens=310, output_tokens=14),
    )  # fmt: skip
    helper = recorded.exchange(
        900_008, f"{HERO}-agent", at=now - timedelta(minutes=7), sequence=1, parent_session_id=HERO,
        title="Explore: who else reads retry-after", cost_usd=0.031, cost_kind="api",
        request_body=recorded.ask([user("Find every reader of the retry-after header.")]),
        response_body=recorded.stream(text("Only `src/upload.py` and `src/download.py` read it.")),
    )  # fmt: skip
    return [title, *made[:2], helper, *made[2:], running]


def _told(
    number: int, at: datetime, body: bytes, answer: list[Any], read: int, fresh: int, now: datetime
) -> Exchange:  # fmt: skip
    ns = int(at.timestamp() * 1e9)
    first, done = 900.0 + 140 * number, 3_400.0 + 2_100 * (number % 3)
    calls = [
        ToolCall(
            id=block["id"], name=block["name"], arguments=json.dumps(block["input"]), called_ns=ns + int(done * 1e6)
        )
        for block in answer
        if block["type"] == "tool_use"
    ]
    before = {1: ["u1", "u2"], 2: ["u3"], 3: ["u4"], 4: ["u5"]}.get(number, [])
    results = [ToolResult(id=each, text="x", result_bytes=90, success=each != "u3", seen_ns=ns) for each in before]
    resets = int((now + timedelta(hours=2, minutes=12)).timestamp() * 1e9)
    weekly = int((now + timedelta(days=3, hours=4)).timestamp() * 1e9)
    return recorded.exchange(
        900_000 + number, HERO, at=at, sequence=number + 2, title="Fix the flaky retry test in the upload client",
        project="/home/mika/src/orbit-api", request_body=body, response_body=recorded.stream(*answer), stream=True,
        usage=Usage(input_tokens=12, cache_read_tokens=read, cache_write_tokens=fresh,
                    output_tokens=210 + 160 * number),
        cost_usd=0.02 + fresh * 6.25e-6, cost_kind="api", tool_calls=calls, tool_results=results,
        texts=[Text(kind="answer", text=" ".join(block.get("text", "") for block in answer))],
        timings=Timings(head_received=0.1, request_received=0.6, attempt_started=0.7, request_sent=4.0,
                        response_head=first * 0.8, first_body=first * 0.81, first_content=first, done=done),
        split=Split(before_ms=0.1, upload_ms=3.3, wait_ms=first * 0.8 - 4, first_content_ms=first * 0.2,
                    generation_ms=done - first, after_ms=0.04),
        limits=[Limit(name="5h", used=0.64, resets_ns=resets, window_minutes=300.0, status="allowed"),
                Limit(name="7d", used=0.31, resets_ns=weekly, window_minutes=10_080.0, status="allowed")],
        credential="a41f90",
    )  # fmt: skip
