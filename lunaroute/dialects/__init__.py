"""The registry of API shapes: which dialect a path speaks, and who reads its answers. Pure."""

from __future__ import annotations

from functools import lru_cache

from lunaroute.dialects import anthropic, openai_chat, openai_responses
from lunaroute.dialects.answer import TEXT_LIMIT, Answer, AnswerReader, Facts, OtherAnswer

__all__ = ["NAMES", "OTHER", "Answer", "AnswerReader", "Facts", "of_path", "reader"]

OTHER = "other"
NAMES = (anthropic.NAME, openai_chat.NAME, openai_responses.NAME, OTHER)

_ANSWERS: dict[str, type[Answer]] = {
    anthropic.NAME: anthropic.AnthropicAnswer,
    openai_chat.NAME: openai_chat.ChatAnswer,
    openai_responses.NAME: openai_responses.ResponsesAnswer,
}
_FIRST = {"messages": anthropic.NAME, "responses": openai_responses.NAME, "completions": openai_chat.NAME}
_COUNTED = ("embeddings",)  # no conversation, but usage in the words of Chat Completions


@lru_cache(maxsize=256)
def of_path(path: str) -> str:
    """The dialect of a request path (without query): /v1/messages, /v1/chat/completions, /v1/responses and below."""
    parts = [part for part in path.split("/") if part]
    # any prefix is allowed: base URLs have paths of their own (/backend-api/codex/responses, /proxy/x/v1/messages)
    for number, part in enumerate(parts):
        if part == "chat" and parts[number + 1 : number + 2] == ["completions"]:
            return openai_chat.NAME
        if part in _FIRST and not (part == "messages" and "threads" in parts):
            return _FIRST[part]
    return openai_chat.NAME if parts and parts[-1] in _COUNTED else OTHER


def reader(dialect: str, limit: int | None = None, text_limit: int = TEXT_LIMIT) -> AnswerReader:
    """A fresh reader of one answer. limit: bytes of a document kept to be parsed; text_limit: characters of texts."""
    answer = _ANSWERS.get(dialect, OtherAnswer)(text_limit)
    return AnswerReader(answer) if limit is None else AnswerReader(answer, limit)
