"""Markdown: a parser that allows HTML finds none of it, no picture, and our own structure undisturbed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from markdown_it import MarkdownIt

from lunaroute.export import markdown
from tests import recorded
from tests.export.test_html import told
from tests.ui import hostile

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
TRICKS = (
    *hostile.STRINGS,
    "```\nnever closed\n<script>canary()</script>",
    "~~~\n```\n<img src=x>",
    "    ```\n<script>canary()</script>\n    ```",
    "- ```\n<script>canary()</script>",
    "> ```\n<script>canary()</script>",
    "``<b>`` ` <script>canary()</script> `",
    "`a\n<script>canary()</script>`",
    "\\`<script>canary()</script>\\`",
    "```x`y\n<script>canary()</script>",
    "<a\nhref=x>y</a>",
    "![a][b]\n\n[b]: http://canary.test/x.png",
    "[x\n![y](http://canary.test/)](z)",
    "a\n===\n\nb\n---",
    "# heading\n\n###### six",
    "| a |\n|---|\n| <img src=x> |",
)


def acting(text: str) -> list[str]:
    tokens = PARSER.parse(text)
    kinds = [token.type for token in (*tokens, *(child for token in tokens for child in token.children or ()))]
    return [kind for kind in kinds if kind in ("html_block", "html_inline", "image")]


def sections(text: str) -> list[str]:
    tokens = PARSER.parse(text)
    heads = [(token, after) for token, after in pairwise(tokens) if token.type == "heading_open"]
    return [after.content for token, after in heads if token.tag in ("h1", "h2")]


def test_a_conversation() -> None:
    text = "".join(markdown.pieces([told(recorded.tool_loop(), title="Why *so*?")]))
    assert sections(text)[:3] == ["Why \\*so\\*?", "User", "Assistant"]
    places = [
        text.index(words)
        for words in (
            "- Session: s", "*System prompt*", "Why does `make test` fail in **this** folder?", "\\#1", "*Thinking*",
            "Let me look.", '**Bash**\n\n```json\n{"command": "ls -la"}\n```', "Result:\n\n```\ntotal 4",
            "**Read** (failed)", "The file is **empty**.\n\n```python\nprint('hello')\n```", "| a | b |",
        )
    ]  # fmt: skip
    assert places == sorted(places)
    assert "".join(markdown.pieces([told(recorded.tool_loop())] * 2)).count("\n---\n\n# ") == 1


@pytest.mark.parametrize("words", TRICKS, ids=lambda words: ascii(words)[:30])
def test_what_was_said_cannot_act_nor_break_out(words: str) -> None:
    for made in (markdown.prose(words), markdown.line(words), markdown.fenced(words, "json")):
        document = f"{made}\n\n## After\n"
        assert acting(document) == []
        assert sections(document)[-1:] == ["After"]
    assert "\n" not in markdown.line(words)


def test_hostile_records() -> None:
    for number in range(len(hostile.STRINGS)):
        made = [hostile.exchanges()[number], hostile.plain_exchanges()[number]]
        words = hostile.STRINGS[number]
        text = "".join(markdown.pieces([told(made, title=words, client=words, project=words)])) + "\n\n## After\n"
        assert acting(text) == [] and sections(text)[-1] == "After"


def test_very_long_text_goes_into_a_fence() -> None:
    assert markdown.prose("x" * 100_000).startswith("```\nx")
