"""The record where traffic is not as it usually is: too large, told late, without signals. Through real sockets."""

from __future__ import annotations

import time

from tests.conftest import Serve
from tests.fakes import Upstream
from tests.running import PATIENCE, Running
from tests.test_record import answers, ask, call, end, found, said, start, turn, user


def reply(text: str) -> list[bytes]:
    return [start(input_tokens=20, output_tokens=1), said(0, text), end(input_tokens=20, output_tokens=9)]


def settled(luna: Running, count: int) -> None:
    """Wait until so many exchanges are stored, however busy the machine is, and end the server."""
    deadline = time.monotonic() + 4 * PATIENCE
    while luna.rows("SELECT count(*) AS n FROM exchanges WHERE state IS NOT NULL")[0]["n"] < count:
        assert time.monotonic() < deadline, luna.log()
        time.sleep(0.1)
    assert luna.stop() == 0


def places(luna: Running, *words: str) -> list[int]:
    """Which exchanges of their sessions the search finds."""
    known = {row["id"]: row["sequence"] for row in luna.rows("SELECT id, sequence FROM exchanges")}
    return sorted(known[ident] for ident in found(luna, *words))


def test_the_newest_words_of_a_long_history_are_found_at_once_and_the_rest_later(serve: Serve) -> None:
    filler = [user(f"wombat{number} " + f"{number}x y " * 80_000) for number in range(4)]
    history = [*filler, user("where is the quokka")]
    with Upstream(answers(reply("one"), reply("two"))) as upstream:
        luna = serve(upstream)
        ask(luna, turn(*history), **{"x-lunaroute-session": "long"})
        ask(luna, turn(*history, user("and the numbat")), **{"x-lunaroute-session": "long"})
        settled(luna, 2)
    assert places(luna, "quokka") == places(luna, "wombat3") == [1]
    assert places(luna, "wombat0") == places(luna, "numbat") == [2]


def test_a_history_beyond_the_capture_limit_still_tells_what_tools_returned(serve: Serve) -> None:
    asked = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_long_enough_1", "name": "Bash"}]}
    block = {"type": "tool_result", "tool_use_id": "toolu_long_enough_1", "content": "echidna", "is_error": True}
    history = [user("look around"), *(user("many words " * 5_000) for _ in range(40)), user("go on")]
    one = [start(input_tokens=20, output_tokens=1), call(0, "toolu_long_enough_1", "ls"), end("tool_use")]
    with Upstream(answers(one, reply("two"))) as upstream:
        luna = serve(upstream, {"session_recording": {"capture_limit_mb": 1}})
        ask(luna, turn(*history), **{"x-lunaroute-session": "large"})
        ask(luna, turn(*history, asked, {"role": "user", "content": [block]}), **{"x-lunaroute-session": "large"})
        settled(luna, 2)
    assert luna.rows("SELECT success, result_bytes FROM tool_calls") == [{"success": 0, "result_bytes": 7}]
    assert places(luna, "echidna") == [2]
    assert places(luna, "look", "around") == [1]
