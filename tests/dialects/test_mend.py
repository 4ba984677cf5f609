"""Cut request bodies, read all the same: each dialect's shape, cut at every place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lunaroute.dialects.mend import mended

SAID = [
    {"role": "user" if n % 2 else "assistant", "content": [{"type": "text", "text": f'{n} }},{{"role": "x'}]}
    for n in range(9)
]
TOOL = {"name": "T", "input_schema": {"properties": {"metadata": {"type": "object"}}, "required": []}}
PARTS = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "anthropic": ("messages", {"model": "m", "messages": SAID, "system": [{"type": "text", "text": "s"}],
                  "tools": [TOOL], "metadata": {"user_id": "u"}, "stream": True}),
    "chat, the messages last": ("messages", {"model": "m", "messages": SAID}),
    "responses": ("input", {"model": "m", "stream": True, "input": [
        {"type": "message", "role": "user", "content": PARTS},
        *({"type": "function_call_output", "call_id": f"c{n}", "output": "x" * n} for n in range(9))], "store": False}),
}  # fmt: skip


@pytest.mark.parametrize("spaced", [True, False])
@pytest.mark.parametrize("name", BODIES)
def test_what_is_whole_at_either_end_is_kept(name: str, spaced: bool) -> None:
    key, value = BODIES[name]
    body = json.dumps(value, separators=None if spaced else (",", ":")).encode()
    made = 0
    for cut in range(len(body)):
        for tail in (b"", body[max(cut, len(body) - 500) :]):
            whole = mended(body[:cut], tail)
            if whole is None:
                continue
            made += 1
            found = json.loads(whole)
            rest = iter(value[key])
            assert all(each in rest for each in found[key]), "in order, and nothing that was not there"
            assert all(found[name] == value[name] for name in found if name != key)
            if tail and cut < len(body) - 600:
                assert found[key][-1] == value[key][-1]
                assert found.keys() == value.keys()
    assert made > len(body)


@pytest.mark.parametrize("head", [b"", b"{", b"null", b"\xff\x00" * 99, b'{"messages":[{"role":"user","content":"x'])
def test_what_cannot_be_mended(head: bytes) -> None:
    assert mended(head) is None
    assert mended(head, head) is None


def test_a_message_too_large_to_be_whole_keeps_its_beginning() -> None:
    text = 'x\\" \u00e9 \n' * 3000
    body = json.dumps({"messages": [user(text), user("b")], "model": "m", "stream": True}).encode()
    for cut in range(10_000, 10_020):
        found = json.loads(mended(body[:cut], body[-200:]) or b"")
        assert (found["model"], found["stream"], found["messages"][1:]) == ("m", True, [user("b")])
        (kept,) = (message["content"] for message in found["messages"][:1])
        assert text.startswith(kept) and len(kept) > 4000
    assert json.loads(mended(json.dumps({"model": "m", "input": text}).encode()[:9000]) or b"")["model"] == "m"


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}
