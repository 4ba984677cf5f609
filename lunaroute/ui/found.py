"""What was taken out of the record, in words: for pages, `sessions show` and `stats`. Values in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lunaroute.stores.findings import FindingFigures, FindingRow

# parts of names that are written otherwise than with a capital
_WORDS = {
    **{
        word: word.upper() for word in ("api", "aws", "iban", "jcb", "jwt", "pem", "ssn", "uk", "us", "url", "de", "fr")
    },
    **{"github": "GitHub", "gitlab": "GitLab", "openai": "OpenAI", "openrouter": "OpenRouter", "pypi": "PyPI"},
    **{"npm": "npm", "ipv4": "IPv4", "ipv6": "IPv6", "huggingface": "Hugging Face", "in": "IN", "sendgrid": "SendGrid"},
    **{"digitalocean": "DigitalOcean", "nvidia": "NVIDIA", "xai": "xAI", "circleci": "CircleCI", "ai": "AI"},
}
_SMALL = frozenset((
    *("key", "token", "secret", "password", "authorization", "access", "client", "session", "storage", "oauth"),
    *("refresh", "webhook", "bot", "phone", "email", "id"),
))  # fmt: skip
_KINDS = {"credit_card": "card", "ip": "address", "ssn": "", "iban": "", "email": "address"}
SHOWN = 6


def name(kind: str, finer: str) -> str:
    """`AWS access key`, `Visa card`, `IPv4 address`; a pattern's own name as it is."""
    words = [_WORDS.get(word) or (word if word in _SMALL else word.capitalize()) for word in finer.split("_")]
    said = " ".join(word for word in words if word)
    more = _KINDS.get(kind, "")
    return f"{said} {more}" if more and kind in _KINDS else said


def an(words: str) -> str:
    """With its article."""
    vowel = words[:1] in "AEIOUaeio" or words[:2] in ("SS", "SM") or words.startswith(("npm", "xAI"))
    return f"{'an' if vowel else 'a'} {words}"


def leak(row: FindingRow) -> str:
    """`AWS access key left this machine in request 14`, for a secret; what came back is said so."""
    how = "left this machine in request" if row.place == "request" else "came back in the answer to request"
    return f"{name(row.kind, row.name)} {how} {row.sequence}"


def leaks(rows: Iterable[FindingRow]) -> list[FindingRow]:
    """The secrets that left this machine."""
    return [row for row in rows if row.kind == "secret" and row.place == "request"]


def counted(rows: Sequence[FindingRow]) -> str:
    """`3 email addresses, 1 Visa card`: different values, the most first; what left and what came back together."""
    counts: dict[str, set[str]] = {}
    for row in rows:
        counts.setdefault(name(row.kind, row.name), set()).add(row.digest)
    ranked = sorted(counts.items(), key=lambda item: (-len(item[1]), item[0]))
    return _listed([(words, len(values)) for words, values in ranked])


def summed(figures: Iterable[FindingFigures], place: str) -> str:
    """The same of figures."""
    return _listed([(name(each.kind, each.name), each.values) for each in figures if each.place == place])


def _listed(counts: list[tuple[str, int]]) -> str:
    said = [f"{count:,} {_many(words) if count != 1 else words}" for words, count in counts[:SHOWN]]
    more = [f"{len(counts) - SHOWN} other kinds"] if len(counts) > SHOWN else []
    return ", ".join([*said, *more])


def _many(words: str) -> str:
    return f"{words}es" if words.endswith("s") else f"{words}s"
