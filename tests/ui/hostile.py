"""Recorded text that would like to do something. Each tries to call `canary()` or to reach `canary.test`."""

from __future__ import annotations

from typing import Any

from lunaroute.records import Attempt, Exchange
from tests import recorded

CANARY = "canary.test"
STRINGS = (
    "<script>canary()</script>",
    "</script><script>canary()</script>",
    "<img src=x onerror=canary()>",
    f"<img src=//{CANARY}/a.png>",
    f'<link rel=stylesheet href="http://{CANARY}/a.css"><style>@import "//{CANARY}/b.css"</style>',
    "<svg onload=canary()><script>canary()</script><use href='data:image/svg+xml,<svg onload=canary()>'/></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=x onerror=canary()&gt;'>",
    "\"><svg/onload=canary()>",
    "' autofocus onfocus='canary()",
    '" style="background:url(//canary.test/c)" x="',
    "<details open ontoggle=canary()>",
    "<iframe srcdoc='<script>parent.canary()</script>'></iframe>",
    f"<form action=//{CANARY}><input name=q></form><base href=//{CANARY}/>",
    "<meta http-equiv=refresh content='0;url=javascript:canary()'>",
    "</pre></code></div></details></article></main><script>canary()</script>",
    "<!--><script>canary()</script>-->",
    "]]><script>canary()</script>",
    "[click](javascript:canary())",
    "[click](JaVaScRiPt&colon;canary())",
    "[click](data:text/html,<script>canary()</script>)",
    "[click](vbscript:canary())",
    f"![picture](http://{CANARY}/p.png)",
    f"[![picture](http://{CANARY}/q.png)](http://{CANARY}/)",
    f"<http://{CANARY}/auto>",
    "[ref]\n\n[ref]: javascript:canary() \"<img src=x onerror=canary()>\"",
    "```html\"><img src=x onerror=canary()>\n<script>canary()</script>\n```",
    "```json\n{\"</pre><script>canary()</script>\": 1}\n```",
    "| <script>canary()</script> | `<img src=x onerror=canary()>` |\n|:-:|--:|\n| [x](javascript:canary()) | y |",
    "{{ self.__init__.__globals__ }}{% for x in ().__class__.__base__.__subclasses__() %}{% endfor %}",
    "${canary()} `${canary()}` {{constructor.constructor('canary()')()}}",
    "\u2028canary()\u2029",
    "\u202egnp.exe\u202c \u2066x\u2069",
    "\x1b]0;title\x07\x1b[31mred\x1b[2J\x9b31m\x08\x08",
    "\x00\x01\ufeff\ufffe",
    "Ω≈ç√∫µ≤≥÷ 田中さん 👩‍👩‍👧‍👦 Z̮̞̠͙͔ͅḀ̗̞͈̻̗Ḷ͙͎̯̹̞͓G̻O̭̗̮ ﷽",
    "a" * 3000,
    "=cmd|' /C calc'!A0",
    "'; DROP TABLE sessions; --",
    "%0d%0aSet-Cookie:%20x=1\r\nX-Injected: yes",
    "../../../etc/passwd",
    "<!doctype html><html><body onload=canary()>",
    "event: x\ndata: <script>canary()</script>\n\n",
)  # fmt: skip


def exchanges(session: str = "hostile-1") -> list[Exchange]:
    """One exchange per string, with it in every field that a client, a provider or a model can fill."""
    return [_exchange(number, session, words) for number, words in enumerate(STRINGS, 1)]


def _exchange(number: int, session: str, words: str) -> Exchange:
    # a store binds text, and text there cannot hold half a surrogate; every other character may come
    call = recorded.call(words, words, command=words, **{words: words})
    history: list[dict[str, Any]] = [
        recorded.user(words),
        recorded.user(f"<system-reminder>\n{words}\n</system-reminder>"),
        {"role": "system", "content": words},
        recorded.assistant(recorded.thinking(words), recorded.text(words), call),
        recorded.result(words, words, failed=True),
        {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": words, "media_type": words}}]},
        {"role": "user", "content": [{"type": "document", "title": words, "source": {"type": "text", "data": words}}]},
        {"role": "user", "content": [{"type": words, words: words}]},
    ]
    answer = recorded.stream(recorded.thinking(words), recorded.text(words), call, recorded.text(words))
    failure = recorded.sse({"type": "error", "error": {"type": words, "message": words}})
    return recorded.exchange(
        number,
        session if number % 3 else f"{session}-{number}",
        sequence=number,
        title=words,
        client=words,
        client_version=words,
        signal=words,
        provider=words,
        model_requested=words,
        model_used=words,
        method=words,
        target="/" + words,
        error=words,
        reason=words,
        kind="title" if number % 7 == 0 else "turn",
        stop_reason=words,
        response_id=words,
        parent_session_id=None if number % 3 else session,
        request_headers=[(words, words)],
        response_headers=[(words, words)],
        attempts=[Attempt(number=1, provider=words, origin=words, error=words)],
        request_body=recorded.ask(history, system=words, tools=[{"name": words}]),
        response_body=answer + (failure if number % 2 else b"") + f"event: {words}\ndata: {words}\n\n".encode(),
        request_decode_error=words,
        response_decode_error=words,
    )


def plain_exchanges(session: str = "hostile-plain") -> list[Exchange]:
    """The strings as whole bodies of no known dialect."""
    return [
        recorded.exchange(
            1000 + number, session, sequence=number, dialect="other", kind="turn",
            request_body=words.encode(), response_body=words.encode(),
        )
        for number, words in enumerate(STRINGS, 1)
    ]  # fmt: skip
