"""Facts of request bodies: sessions, kinds, titles, bodies that are cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lunaroute.dialects.request import Request, first_words, project, read

UUID = "550e8400-e29b-41d4-a716-446655440000"


def body(**values: Any) -> bytes:
    return json.dumps(values).encode()


CASES: list[tuple[str, bytes, dict[str, Any]]] = [
    ("plain", body(model="m", stream=True, messages=[]), {"model": "m", "stream": True}),
    ("stream-false", body(model="m", stream=False), {"model": "m"}),
    (
        "claude-user-id",
        body(metadata={"user_id": json.dumps({"device_id": "d", "session_id": UUID})}),
        {"session": UUID},
    ),
    ("claude-legacy-user-id", body(metadata={"user_id": f"user_ab_account_cd_session_{UUID}"}), {"session": UUID}),
    ("other-user-id", body(metadata={"user_id": "alice"}), {}),
    ("user-id-no-json", body(metadata={"user_id": "{not json"}), {}),
    ("cline", body(litellm_session_id="abc"), {"session": "abc"}),
    ("tools", body(tools=[{"name": "Bash"}]), {"has_tools": True}),
    ("tools-empty", body(tools=[]), {}),
    ("tools-null", body(tools=None), {}),
    ("title-schema", body(output_config={"format": {"type": "json_schema"}}), {"json_answer": True}),
    ("prewarm", body(type="response.create", generate=False), {"generate": False}),
    ("compaction", body(input=[{"type": "compaction_trigger"}]), {"compaction": True}),
    ("tier", body(service_tier="flex"), {"service_tier": "flex"}),
    (
        "cache-key",
        body(prompt_cache_key="k", previous_response_id="r"),
        {"prompt_cache_key": "k", "previous_response_id": "r"},
    ),
    ("client-metadata", body(client_metadata={"thread_id": "t", "n": 1}), {"client_metadata": {"thread_id": "t"}}),
    (
        "wrong-types",
        body(model=3, stream="yes", metadata=[], client_metadata="x", tools=5, output_config=[]),
        {"has_tools": True},
    ),
    ("no-object", b"[1,2]", {}),
    ("empty", b"", {}),
    (
        "surrogate",
        b'{"model":"m","stream":true,"tools":[1],"x":"\\ud800"}',
        {"model": "m", "stream": True, "has_tools": True},
    ),
    ("cut", body(model="claude-x", messages=["a" * 50], stream=True)[:40], {"model": "claude-x"}),
    ("deep", b'{"model":"m","input":' + b"[" * 100_000, {"model": "m"}),
]


@pytest.mark.parametrize(("raw", "facts"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_read(raw: bytes, facts: dict[str, Any]) -> None:
    assert read(raw) == Request(**facts)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


TITLES: list[tuple[str, dict[str, Any], str | None]] = [
    ("string", {"messages": [user("fix the bug")]}, "fix the bug"),
    ("blocks", {"messages": [user([{"type": "text", "text": "hello"}])]}, "hello"),
    (
        "after-frames",
        {"messages": [user([{"text": "<system-reminder>\nx\n</system-reminder>"}, {"text": "do it"}])]},
        "do it",
    ),
    ("frame-in-front", {"messages": [user("<context>a</context>\n\n  go\n on ")]}, "go on"),
    (
        "codex",
        {"input": [user([{"text": "<environment_context>x</environment_context>"}]), user([{"text": "say hi"}])]},
        "say hi",
    ),
    ("agents-file", {"input": [user([{"text": "# AGENTS.md instructions for /x"}]), user([{"text": "real"}])]}, "real"),
    ("input-string", {"input": "just this"}, "just this"),
    ("developer-first", {"input": [{"role": "developer", "content": "rules"}, user("q")]}, "q"),
    ("long", {"messages": [user("word " * 100)]}, ("word " * 100)[:119] + "\u2026"),
    ("none", {"messages": [{"role": "assistant", "content": "x"}]}, None),
    ("odd", {"messages": [1, None, user(5), user([None, {"text": 7}])]}, None),
]


@pytest.mark.parametrize(("value", "title"), [case[1:] for case in TITLES], ids=[case[0] for case in TITLES])
def test_first_words(value: dict[str, Any], title: str | None) -> None:
    assert first_words(json.dumps(value).encode()) == title


def test_first_words_of_no_json() -> None:
    assert first_words(b"{") is None


INTRO = "# Environment\nYou have been invoked in the following environment: \n"
CLAUDE = INTRO + " - Primary working directory: {}\n - Platform: linux"
ENV = "You are\n<env>\n  Working directory: {}\n  Is directory a git repo: yes\n</env>"
CODEX = "<environment_context>\n  <cwd>{}</cwd>\n  <shell>bash</shell>\n</environment_context>"
PROJECTS: list[tuple[str, bytes, str | None]] = [
    (
        "claude",
        body(messages=[user("x"), {"role": "system", "content": CLAUDE.format("/home/u/my proj")}]),
        "/home/u/my proj",
    ),
    ("claude-legacy", body(system=[{"text": ENV.format("/src").replace("  ", "")}]), "/src"),
    ("opencode", body(messages=[{"role": "system", "content": ENV.format("/tmp/x")}]), "/tmp/x"),
    ("opencode-responses", body(input=[{"role": "developer", "content": ENV.format("/tmp/x")}]), "/tmp/x"),
    ("codex", body(input=[user([{"text": CODEX.format("/work")}])]), "/work"),
    ("windows", body(system=CLAUDE.format("C:\\new\\app")), "C:\\new\\app"),
    ("quotes", body(system=CLAUDE.format('/a "b"')), '/a "b"'),
    ("unicode", body(system=CLAUDE.format("/tmp/ü")), "/tmp/ü"),
    ("said-in-words", body(messages=[user("Working directory: /etc and <cwd>/x</cwd>")]), None),
    (
        "words-before-the-frame",
        body(messages=[user("Working directory: /etc")], system=CLAUDE.format("/real")),
        "/real",
    ),
    (
        "at-the-end-of-a-long-one",
        body(messages=[user("a" * 900_000)], system=CLAUDE.format("/far"), tools=["t" * 50_000]),
        "/far",
    ),
    ("in-the-middle-of-a-long-one", body(m=["a" * 900_000, CLAUDE.format("/far"), "a" * 900_000]), None),
    ("cut-body", body(system=CLAUDE.format("/real"), x="y" * 50)[:-20], "/real"),
    ("cut-path", body(system=CLAUDE.format("/real" * 100))[:300], None),
    ("relative", body(system=CLAUDE.format("proj")), None),
    ("too-long", body(system=CLAUDE.format("/a" * 3000)), None),
    ("empty", b"", None),
]


@pytest.mark.parametrize(("raw", "folder"), [case[1:] for case in PROJECTS], ids=[case[0] for case in PROJECTS])
def test_project(raw: bytes, folder: str | None) -> None:
    assert project(raw) == folder
    assert read(raw).project == folder
    assert read(raw, locate=False).project is None
