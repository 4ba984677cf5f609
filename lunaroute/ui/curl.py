"""A recorded request as a command line of curl, with the credential left open. Pure.

Everything recorded stands in single quotes, where a shell changes nothing. Credentials were masked before they were
recorded; in their place is a variable of the shell that the person has to set.
"""

from __future__ import annotations

import base64

from lunaroute.stores.rows import Bodies, ExchangeRow

MASK = "***"
KEYS = {"anthropic": "ANTHROPIC_API_KEY"}
OTHER_KEY = "OPENAI_API_KEY"
# what curl writes by itself, or what belonged to that one connection
_OWN = frozenset(
    ("host", "content-length", "connection", "transfer-encoding", "keep-alive", "te", "upgrade", "expect", "trailer")
)
_SCHEMED = frozenset(("authorization", "proxy-authorization"))


def command(row: ExchangeRow, kept: Bodies) -> str:
    """Lines for a POSIX shell."""
    lines = [f"curl -X {quoted(row.method or 'POST')} {quoted(_url(row, kept))}"]
    key = KEYS.get(row.dialect or "", OTHER_KEY)
    coded = False
    for name, value in kept.request_headers:
        low = name.lower()
        if low in _OWN or low.startswith("sec-websocket-") or (low == "content-encoding" and kept.request_altered):
            continue
        if low == "accept-encoding":
            coded = True
            continue
        lines.append(f"-H {_header(name, value, key)}")
    if coded:
        lines.append("--compressed")
    if not kept.request_body:
        return _joined(lines)
    try:
        body = kept.request_body.decode()
    except UnicodeDecodeError:
        body = "\0"
    if "\0" in body:
        coded_body = base64.b64encode(kept.request_body).decode()
        return f"printf %s {quoted(coded_body)} | base64 -d | {_joined([*lines, '--data-binary @-'])}"
    return _joined([*lines, f"--data-raw {quoted(body)}"])


def _joined(lines: list[str]) -> str:
    return " \\\n  ".join(lines) + "\n"


def quoted(text: str) -> str:
    """A word of the shell. A line's end inside stays one."""
    clean = text.replace("\0", "").encode("utf-8", "replace").decode()
    return "'" + clean.replace("'", "'\\''") + "'"


def _header(name: str, value: str, key: str) -> str:
    if value != MASK:
        return quoted(f"{name}: {value}" if value else f"{name};")
    scheme = "Bearer " if name.lower() in _SCHEMED else ""
    return f'{quoted(f"{name}: {scheme}")}"${key}"'


def _url(row: ExchangeRow, kept: Bodies) -> str:
    origin = str(kept.attempts[-1].get("origin") or "") if kept.attempts else ""
    if not origin:
        host = next((value for name, value in kept.request_headers if name.lower() == "host"), "127.0.0.1:8081")
        origin = f"http://{host}"
    return origin + (row.target or "/")
