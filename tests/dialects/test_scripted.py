"""What the scripted assistant of the other tests tells is what is read in it: text, calls, usage, in each form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.answers import SHELLS, Assistant, dump
from tests.dialects.corpus import read

ASKED: dict[str, dict[str, Any]] = {
    "_anthropic": {
        "messages": [{"role": "user", "content": "x"}],
        "tools": [{"name": SHELLS[0]}],
        "thinking": {"type": "adaptive"},
    },
    "_chat": {
        "messages": [{"role": "user", "content": "x"}],
        "tools": [{"function": {"name": SHELLS[3]}}],
        "stream_options": {"include_usage": True},
    },
    "_responses": {"input": "x", "tools": [{"name": SHELLS[2]}]},
}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "document"])
@pytest.mark.parametrize("form", ASKED)
def test_read_as_told(form: str, stream: bool) -> None:
    assistant = Assistant()
    _, events, whole = getattr(assistant, form)({"model": "m", "stream": stream, **ASKED[form]})
    (told,) = assistant.told
    facts = read(told.dialect, *events) if stream else read(told.dialect, dump(whole))
    assert (facts.model, facts.response_id, facts.stop_reason) == (told.model, told.id, told.stop)
    for name, count in told.usage.items():
        assert getattr(facts.usage, name) == count, name
    assert told.calls
    assert [(c.id, c.name, json.loads(c.arguments)) for c in facts.tool_calls] == [
        (ident, name, json.loads(arguments)) for ident, name, arguments in told.calls
    ]
