"""Rate-limit and quota headers of both vendors, by pattern."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute.dialects.limits import MAX_LIMITS, limits, limits_of_event
from lunaroute.records import Limit

S = 1_000_000_000
NOW = 1_795_000_000 * S  # 2026-11-18T11:06:40Z
Fields = list[tuple[str, str]]

CASES: list[tuple[str, Fields, list[Limit]]] = [
    (
        "anthropic-api",
        [
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-requests-reset", "2026-11-18T11:07:40Z"),
            ("Anthropic-RateLimit-Input-Tokens-Remaining", "19000"),
        ],
        [
            Limit(name="requests", limit=50, remaining=49, resets_ns=NOW + 60 * S),
            Limit(name="input-tokens", remaining=19000),
        ],
    ),
    (
        "anthropic-subscription",
        [
            ("anthropic-ratelimit-unified-status", "allowed"),
            ("anthropic-ratelimit-unified-reset", "1795003600"),
            ("anthropic-ratelimit-unified-5h-utilization", "0.25"),
            ("anthropic-ratelimit-unified-5h-reset", "1795003600"),
            ("anthropic-ratelimit-unified-5h-status", "allowed_warning"),
            ("anthropic-ratelimit-unified-7d_oi-utilization", "1.02"),
            ("anthropic-ratelimit-unified-7d-sonnet-utilization", "0.5"),
            ("anthropic-ratelimit-unified-representative-claim", "five_hour"),
            ("anthropic-ratelimit-unified-overage-status", "rejected"),
            ("anthropic-ratelimit-unified-overage-in-use", "false"),
            ("anthropic-ratelimit-unified-fallback-percentage", "0.5"),
        ],
        [
            Limit(name="unified", status="allowed", resets_ns=NOW + 3600 * S),
            Limit(name="5h", used=0.25, resets_ns=NOW + 3600 * S, status="allowed_warning", window_minutes=300),
            Limit(name="7d_oi", used=1.02, window_minutes=10080),
            Limit(name="7d-sonnet", used=0.5, window_minutes=10080),
            Limit(name="representative-claim", status="five_hour"),
            Limit(name="overage", status="rejected"),
            Limit(name="overage-in-use", status="false"),
            Limit(name="fallback-percentage", status="0.5"),
        ],
    ),
    (
        "openai-api",
        [
            ("x-ratelimit-limit-requests", "5000"),
            ("x-ratelimit-remaining-requests", "4999"),
            ("x-ratelimit-reset-requests", "20ms"),
            ("x-ratelimit-limit-tokens", "800000"),
            ("x-ratelimit-reset-tokens", "6m0s"),
            ("x-ratelimit-reset-tokens_usage_based", "1h2m1.5s"),
            ("x-ratelimit-remaining", "7"),
        ],
        [
            Limit(name="requests", limit=5000, remaining=7, resets_ns=NOW + 20_000_000),
            Limit(name="tokens", limit=800_000, resets_ns=NOW + 360 * S),
            Limit(name="tokens_usage_based", resets_ns=NOW + 3721 * S + S // 2),
        ],
    ),
    (
        "codex",
        [
            ("x-codex-primary-used-percent", "42.5"),
            ("x-codex-primary-window-minutes", "300"),
            ("x-codex-primary-reset-at", "1795000060"),
            ("x-codex-secondary-used-percent", "7"),
            ("x-codex-secondary-reset-after-seconds", "90"),
            ("x-codex-bengal-primary-used-percent", "1"),
            ("x-codex-bengal-limit-name", "Spark"),
            ("x-codex-credits-has-credits", "True"),
            ("x-codex-credits-unlimited", "False"),
            ("x-codex-credits-balance", "12.5"),
            ("x-codex-turn-state", "opaque"),
            ("x-codex-promo-message", "buy"),
        ],
        [
            Limit(name="primary", used=0.425, window_minutes=300, resets_ns=NOW + 60 * S),
            Limit(name="secondary", used=0.07, resets_ns=NOW + 90 * S),
            Limit(name="bengal-primary", used=0.01),
            Limit(name="bengal", status="Spark"),
            Limit(name="credits", remaining=12.5, status="available"),
        ],
    ),
    (
        "codex-moment-before-time-left",
        [("x-codex-primary-reset-at", "1795000060"), ("x-codex-primary-reset-after-seconds", "7")],
        [Limit(name="primary", resets_ns=NOW + 60 * S)],
    ),
    (
        "codex-unlimited",
        [("x-codex-credits-unlimited", "true"), ("x-codex-credits-has-credits", "true")],
        [Limit(name="credits", status="unlimited")],
    ),
    ("retry-seconds", [("Retry-After", "2")], [Limit(name="retry-after", resets_ns=NOW + 2 * S)]),
    (
        "retry-date",
        [("retry-after", "Wed, 18 Nov 2026 11:07:40 GMT")],
        [Limit(name="retry-after", resets_ns=NOW + 60 * S)],
    ),
    (
        "retry-ms-wins",
        [("retry-after-ms", "1200"), ("retry-after", "2")],
        [Limit(name="retry-after", resets_ns=NOW + 1_200_000_000)],
    ),
    (
        "retry-ms-wins-later",
        [("retry-after", "2"), ("retry-after-ms", "1200")],
        [Limit(name="retry-after", resets_ns=NOW + 1_200_000_000)],
    ),
    (
        "nonsense",
        [
            ("anthropic-ratelimit-requests-limit", "many"),
            ("anthropic-ratelimit-requests-remaining", "-1"),
            ("anthropic-ratelimit-requests-reset", "soon"),
            ("anthropic-ratelimit-tokens-limit", "nan"),
            ("anthropic-ratelimit-tokens-reset", "2026-13-40T00:00:00Z"),
            ("anthropic-ratelimit-unified-5h-utilization", "1e999"),
            ("anthropic-ratelimit-", "1"),
            ("anthropic-ratelimit-limit", "1"),
            ("x-ratelimit-reset-tokens", "5 parsecs"),
            ("x-ratelimit-reset-other", "9" * 39),
            ("x-ratelimit-oddity", "1"),
            ("retry-after", "Wed, 99 Foo 2026 11:07:40 GMT"),
            ("x-codex-primary-used-percent", "1_0"),
            ("x-ratelimit-limit-tokens", "1" * 300),
            ("content-type", "text/plain"),
        ],
        [],
    ),
]


@pytest.mark.parametrize(("fields", "want"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_limits(fields: Fields, want: list[Limit]) -> None:
    assert limits(fields, NOW) == want


def test_bounded() -> None:
    found = limits([(f"x-ratelimit-limit-n{number}", "1") for number in range(1000)], NOW)
    assert len(found) == MAX_LIMITS


_NAMES = st.sampled_from([name for case in CASES for name, _ in case[1]])


@given(
    st.lists(st.tuples(_NAMES | st.text(max_size=40), st.text(max_size=30) | st.from_regex(r"[0-9.hmse:TZ+-]{1,20}")))
)
def test_hostile(fields: Fields) -> None:
    for limit in limits(fields, NOW):
        assert len(limit.name) <= 128
        assert limit.resets_ns is None or 0 < limit.resets_ns < 1 << 63


EVENTS: list[tuple[str, Any, list[Limit]]] = [
    (
        "both-windows",
        {
            "type": "codex.rate_limits",
            "plan_type": "pro",
            "rate_limits": {
                "allowed": True,
                "primary": {"used_percent": 7, "window_minutes": 300, "reset_after_seconds": 9, "reset_at": 1795000060},
                "secondary": {"used_percent": 29.5, "window_minutes": 10080, "reset_after_seconds": 30},
            },
            "code_review_rate_limits": None,
            "credits": {"has_credits": False, "unlimited": False, "balance": "0"},
        },
        [
            Limit(name="primary", used=0.07, window_minutes=300, resets_ns=NOW + 60 * S),
            Limit(name="secondary", used=0.295, window_minutes=10080, resets_ns=NOW + 30 * S),
            Limit(name="credits", status="none", remaining=0),
        ],
    ),
    (
        "limit-of-its-own",
        {"type": "codex.rate_limits", "metered_limit_name": "bengal", "rate_limits": {"primary": {"used_percent": 1}}},
        [Limit(name="bengal-primary", used=0.01)],
    ),
    ("another-event", {"type": "response.created", "rate_limits": {"primary": {"used_percent": 1}}}, []),
    ("no-windows", {"type": "codex.rate_limits", "rate_limits": {"primary": None, "secondary": [1]}}, []),
    (
        "wrong-types",
        {"type": "codex.rate_limits", "rate_limits": {"primary": {"used_percent": True, "reset_at": 10**400}}},
        [],
    ),
    ("no-object", [1], []),
]


@pytest.mark.parametrize(("value", "want"), [case[1:] for case in EVENTS], ids=[case[0] for case in EVENTS])
def test_limits_of_event(value: Any, want: list[Limit]) -> None:
    assert limits_of_event(value, NOW) == want
