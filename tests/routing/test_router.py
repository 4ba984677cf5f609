"""Which provider answers, and which credentials go with the request: every combination of signals (mission P5)."""

from __future__ import annotations

import itertools
from functools import cache

import pytest

from lunaroute.config import Config
from lunaroute.errors import Reject
from lunaroute.routing.router import Decision, Router, mapped
from lunaroute.routing.signals import Credential, Signal
from tests.peers import configured

PATHS = [
    b"/v1/messages", b"/v1/messages/count_tokens", b"/v1/chat/completions", b"/chat/completions", b"/v1/responses",
    b"/responses", b"/v1/models", b"/models/x", b"/v1/embeddings", b"/api/hello", b"/anything", b"/backend-api/x",
]  # fmt: skip
NEEDS = {
    Signal.BEARER_ANTHROPIC: Signal.BEARER,
    Signal.BEARER_OPENAI: Signal.BEARER,
    Signal.BEARER_JWT: Signal.BEARER,
    Signal.KEY_ANTHROPIC: Signal.KEY,
    Signal.KEY_OPENAI: Signal.KEY,
}
FREE = [s for s in Signal if s is not Signal.CONTROL]


def possible() -> list[Signal]:
    """All combinations that a head can have: a credential's form only where the credential is."""
    found = []
    for size in range(len(FREE) + 1):
        for each in itertools.combinations(FREE, size):
            marks = Signal(0)
            for one in each:
                marks |= one
            if all(not marks & form or marks & field for form, field in NEEDS.items()):
                found.append(marks)
    return found


COMBINATIONS = possible()
KEYS = {"openai": {"api_key": "sk-proj-dummy"}, "anthropic": {"api_key": "sk-ant-dummy"}}
CODEX = {"openai": {"codex_auth": {"enabled": True, "auth_file": "/nowhere/auth.json"}}}
CONFIGS: dict[str, dict[str, object]] = {
    "nothing configured": {},
    "keys": {"providers": KEYS},
    "keys, client only": {"providers": {name: {**tree, "auth": "client_only"} for name, tree in KEYS.items()}},
    "keys, config only": {"providers": {name: {**tree, "auth": "config_only"} for name, tree in KEYS.items()}},
    "codex login": {"providers": CODEX},
    "without WebSocket": {"providers": {"openai": {"websocket": False}, "anthropic": {"websocket": False}}},
    "only openai": {"providers": {"anthropic": {"enabled": False}}},
    "only anthropic": {"providers": {"openai": {"enabled": False}}},
    "openai dialect": {"api_dialect": "openai"},
    "anthropic dialect": {"api_dialect": "anthropic"},
    "no bypass": {"bypass": {"enabled": False}},
}


@cache
def config(name: str) -> Config:
    return configured("https://vendor.test", 8081, CONFIGS[name])


def kept(marks: Signal, decision: Decision) -> Signal:
    """The credentials that go on to the provider."""
    left = marks
    for field, signals in {
        Credential.BEARER: Signal.BEARER | Signal.BEARER_ANTHROPIC | Signal.BEARER_OPENAI | Signal.BEARER_JWT,
        Credential.KEY: Signal.KEY | Signal.KEY_ANTHROPIC | Signal.KEY_OPENAI,
        Credential.VENDOR_KEY: Signal.AZURE_KEY | Signal.GOOGLE_KEY,
        Credential.ACCOUNT: Signal.CHATGPT,
    }.items():
        if decision.drop & field:
            left &= ~signals
    return left


NEVER = {
    "anthropic": Signal.BEARER_OPENAI | Signal.KEY_OPENAI | Signal.AZURE_KEY | Signal.GOOGLE_KEY | Signal.CHATGPT,
    "openai": Signal.BEARER_ANTHROPIC | Signal.KEY_ANTHROPIC | Signal.GOOGLE_KEY,
}


@pytest.mark.parametrize("path", PATHS, ids=bytes.decode)
@pytest.mark.parametrize("name", CONFIGS)
def test_no_credential_goes_to_another_vendor(name: str, path: bytes) -> None:
    router = Router(config(name))
    for marks in COMBINATIONS:
        try:
            decision = router.decide(b"POST", path, int(marks))
        except Reject as refused:
            assert 400 <= refused.status < 500
            assert "sk-" not in str(refused)
            continue
        if decision.local is not None:
            assert decision.local == "upgrade_required"
            continue
        left = kept(marks, decision)
        assert not left & NEVER[decision.provider], f"{marks!r} to {decision.provider} keeps {left!r}"
        if decision.provider == "anthropic":
            assert not (marks & Signal.CHATGPT and left & Signal.BEARER_JWT), "a ChatGPT login went to Anthropic"
        judge_filling(name, marks, decision, left)


def judge_filling(name: str, marks: Signal, decision: Decision, left: Signal) -> None:
    """P5: the client's own by default; a configured one fills in, or replaces, or is not used at all."""
    own = left & (Signal.BEARER | Signal.KEY | Signal.AZURE_KEY)
    if name == "keys, config only":
        assert not left & (Signal.BEARER | Signal.KEY | Signal.AZURE_KEY | Signal.GOOGLE_KEY | Signal.CHATGPT)
        assert decision.fill == "key"
    elif name == "keys":
        assert (decision.fill == "key") == (not own), f"{marks!r}"
    elif name == "codex login":
        assert (decision.fill == "codex") == (not own and decision.provider == "openai")
    else:
        assert decision.fill is None


@pytest.mark.parametrize("path", PATHS, ids=bytes.decode)
def test_the_decision_depends_on_nothing_else(path: bytes) -> None:
    router = Router(config("keys"))
    for marks in COMBINATIONS[::97]:
        first, second = (outcome(router, path, marks) for _ in range(2))
        assert first == second


def outcome(router: Router, path: bytes, marks: Signal) -> object:
    try:
        return router.decide(b"POST", path, int(marks))
    except Reject as refused:
        return (refused.status, str(refused))


ANTHROPIC = Signal.KEY | Signal.KEY_ANTHROPIC
ANTHROPIC_LOGIN = Signal.BEARER | Signal.BEARER_ANTHROPIC
OPENAI = Signal.BEARER | Signal.BEARER_OPENAI
CHATGPT = Signal.BEARER | Signal.BEARER_JWT | Signal.CHATGPT
UNKNOWN = Signal.BEARER

GOES = [
    (b"/v1/messages", ANTHROPIC, "anthropic", "anthropic"),
    (b"/v1/messages", ANTHROPIC_LOGIN, "anthropic", "anthropic"),
    (b"/v1/messages", UNKNOWN, "anthropic", "anthropic"),
    (b"/v1/messages", Signal(0), "anthropic", "anthropic"),
    (b"/v1/chat/completions", OPENAI, "openai", "chat"),
    (b"/v1/chat/completions", ANTHROPIC, "anthropic", "chat"),
    (b"/v1/chat/completions", ANTHROPIC_LOGIN, "anthropic", "chat"),
    (b"/v1/chat/completions", UNKNOWN, "openai", "chat"),
    (b"/chat/completions", OPENAI, "openai", "chat"),
    (b"/v1/responses", OPENAI, "openai", "responses"),
    (b"/responses", CHATGPT, "openai", "responses"),
    (b"/v1/models", OPENAI, "openai", "other"),
    (b"/v1/models", ANTHROPIC, "anthropic", "other"),
    (b"/v1/models", UNKNOWN | Signal.ANTHROPIC_FIELD, "anthropic", "other"),
    (b"/v1/models", UNKNOWN, "openai", "other"),
    (b"/api/hello", Signal(0), "anthropic", "other"),
    (b"/v1/embeddings", OPENAI, "openai", "other"),
]


@pytest.mark.parametrize(("path", "marks", "provider", "dialect"), GOES)
def test_who_answers(path: bytes, marks: Signal, provider: str, dialect: str) -> None:
    decision = Router(config("nothing configured")).decide(b"POST", path, int(marks))
    assert (decision.provider, decision.dialect) == (provider, dialect)


REFUSED = [
    ("nothing configured", b"/v1/messages", OPENAI, 401),
    ("nothing configured", b"/v1/messages", CHATGPT, 401),
    ("only openai", b"/v1/messages", ANTHROPIC, 404),
    ("only anthropic", b"/v1/chat/completions", OPENAI, 404),
    ("openai dialect", b"/v1/messages", ANTHROPIC, 404),
    ("anthropic dialect", b"/v1/responses", OPENAI, 404),
    ("no bypass", b"/v1/embeddings", OPENAI, 404),
    ("nothing configured", b"/anything", Signal.GOOGLE_KEY, 404),
]


@pytest.mark.parametrize(("name", "path", "marks", "status"), REFUSED)
def test_who_is_refused(name: str, path: bytes, marks: Signal, status: int) -> None:
    with pytest.raises(Reject) as refused:
        Router(config(name)).decide(b"POST", path, int(marks))
    assert refused.value.status == status


def test_a_chatgpt_login_goes_to_its_own_base() -> None:
    tree = config("nothing configured")
    decision = Router(tree).decide(b"POST", b"/v1/responses", int(CHATGPT))
    assert decision.base == tree.providers["openai"].chatgpt_base_url
    assert (decision.strip, decision.prefix) == (3, b"/backend-api/codex")
    plain = Router(tree).decide(b"POST", b"/v1/responses", int(OPENAI))
    assert plain.base == tree.providers["openai"].base_url


@pytest.mark.parametrize("path", [b"/healthz", b"/readyz", b"/metrics", b"/"])
def test_own_endpoints_are_for_reading(path: bytes) -> None:
    router = Router(config("nothing configured"))
    assert router.decide(b"GET", path, 0).local is not None
    assert router.decide(b"HEAD", path, 0).local is not None
    assert router.decide(b"POST", path, int(OPENAI)).local is None


def test_a_handshake_is_a_426_where_websocket_is_off() -> None:
    marks = int(OPENAI | Signal.WEBSOCKET)
    assert Router(config("without WebSocket")).decide(b"GET", b"/v1/responses", marks).local == "upgrade_required"
    assert Router(config("nothing configured")).decide(b"GET", b"/v1/responses", marks).websocket


MAPPED = [
    ("https://a.test/v1", b"/v1/chat/completions", True, b"/v1/chat/completions"),
    ("https://a.test/v1/", b"/v1/models", True, b"/v1/models"),
    ("https://a.test/v1", b"/chat/completions", True, b"/v1/chat/completions"),
    ("https://a.test", b"/v1/messages", True, b"/v1/messages"),
    ("https://a.test/proxy", b"/v1/messages", True, b"/proxy/v1/messages"),
    ("https://a.test/x/v1", b"/v1/responses", True, b"/x/v1/responses"),
    ("https://a.test/v1", b"/other", False, b"/other"),
    ("https://a.test/v1", b"/v1", False, b"/v1"),
    ("https://a.test/v1", b"/v1beta/x", False, b"/v1beta/x"),
    ("https://a.test/backend-api/codex", b"/v1/responses", True, b"/backend-api/codex/responses"),
    ("https://a.test/backend-api/codex", b"/responses", True, b"/backend-api/codex/responses"),
    ("https://a.test/backend-api/codex", b"/backend-api/me", False, b"/backend-api/me"),
]


@pytest.mark.parametrize(("base", "path", "known", "expected"), MAPPED)
def test_paths_mean_the_same_below_the_base(base: str, path: bytes, known: bool, expected: bytes) -> None:
    strip, prefix = mapped(base, path, known=known)
    assert prefix + path[strip:] == expected
