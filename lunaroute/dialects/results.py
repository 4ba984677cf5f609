"""How a tool did, by what the protocol or the client's own frame says. Pure; never guesses from the words of a result.

True, False, or None where nothing tells. Most clients tell little: OpenCode a text; Claude Code `is_error`, on failures
always and on successes of some tools; Codex the exit code, in one of the forms below.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from lunaroute.dialects.values import dumps, items, loads, mapping, whole

_HEAD = 1024
# a line of its own in what Codex writes above the command's output
_EXIT = re.compile(r"^(?:Process exited with code|Exit code:) (-?\d{1,10})\s*$", re.MULTILINE)
_OUTPUT = re.compile(r"^(?:Output|Total output lines):", re.MULTILINE)
_MAX_JSON = 4 * 1024 * 1024


def result_bytes(content: Any) -> int:
    """The size of a result: its text in UTF-8, of other parts their JSON. How it is wrapped makes no difference."""
    if content is None:
        return 0
    if isinstance(content, str):
        return len(content) if content.isascii() else len(content.encode("utf-8", "replace"))
    if isinstance(content, list):
        return sum(result_bytes(_plain(part)) for part in content)
    return _json_size(content)


def _plain(part: Any) -> Any:
    shown = mapping(part).get("text")
    return shown if isinstance(shown, str) else part


def _json_size(value: Any) -> int:
    try:
        return len(msgspec.json.encode(value))
    except (msgspec.MsgspecError, UnicodeEncodeError, TypeError, RecursionError):
        return len(dumps(value))


def success_of(entry: dict[str, Any]) -> bool | None:
    """Of a result block (Anthropic), item (Responses) or message (Chat), or a server's call that holds its result."""
    flag = entry.get("is_error")
    if isinstance(flag, bool):
        return not flag
    if isinstance(entry.get("error"), (dict, str)) and entry["error"]:
        return False
    content = entry.get("output") if "output" in entry else entry.get("content")
    told = _by_code(content)
    if told is not None:
        return told
    status = entry.get("status")
    if status in ("failed", "incomplete"):
        return False
    if status == "completed":
        return True
    return _by_kind(entry, content)


def _by_kind(entry: dict[str, Any], content: Any) -> bool | None:
    """Results of Anthropic's server tools: what was found, or an error object in its place."""
    kind = entry.get("type")
    if not isinstance(kind, str) or not kind.endswith("_tool_result") or kind == "mcp_tool_result":
        return None
    inner = mapping(content).get("type")
    if isinstance(inner, str):
        return not inner.endswith("_error")
    return True if isinstance(content, list) else None


def _by_code(content: Any) -> bool | None:
    if isinstance(content, str):
        return _of_text(content)
    if isinstance(content, dict):
        return _of_object(content)
    outcomes = [mapping(part) for part in items(content)]
    if outcomes and any("outcome" in part for part in outcomes):
        # shell_call_output: one outcome per command
        ends = [mapping(part.get("outcome")) for part in outcomes]
        return all(end.get("type") == "exit" and end.get("exit_code") == 0 for end in ends)
    texts = [part["text"] for part in outcomes if isinstance(part.get("text"), str)]
    return _of_parts(texts) if texts else None


def _of_parts(texts: list[str]) -> bool | None:
    """A script of Codex: a head of its own, then what the script wrote, which may be the result of one command."""
    if texts[0].startswith("Script failed\n"):
        return False
    if texts[0].startswith("Script completed\n"):
        return _of_json(texts[1]) if len(texts) == 2 else None
    return _of_text(texts[0])


def _of_text(text: str) -> bool | None:
    if text.startswith("{"):
        return _of_json(text)
    if text.startswith("Script failed\n"):
        return False
    head = text[:_HEAD]
    if (output := _OUTPUT.search(head)) is not None:
        head = head[: output.start()]
    elif not head.startswith(("Exit code:", "Process exited with code")):
        return None
    else:
        head = head.partition("\n")[0]
    found = _EXIT.search(head)
    return int(found[1]) == 0 if found else None


def _of_json(text: str) -> bool | None:
    # the code stands at either end: what has the word nowhere near is not read
    if len(text) > _MAX_JSON or ("exit_code" not in text and "isError" not in text):
        return None
    value = loads(text.encode("utf-8", "replace"))
    return _of_object(value) if isinstance(value, dict) else None


def _of_object(value: dict[str, Any]) -> bool | None:
    if isinstance(value.get("isError"), bool) and isinstance(value.get("content"), list):
        return not value["isError"]  # what an MCP server returned
    code = value.get("return_code")
    if code is None:
        code = mapping(value.get("metadata")).get("exit_code")
    if code is None and "output" in value:
        code = value.get("exit_code")
    if isinstance(code, bool) or not isinstance(code, (int, float)):
        return None
    return whole(code) == 0
