"""Rate limits and quotas as answers tell them in their headers, by the pattern of the names: new ones pass. Pure.

anthropic-ratelimit-<name>-{limit,remaining,reset}, -unified-[<window>-]{utilization,reset,status}, x-ratelimit-{limit,
remaining,reset}-<name>, x-codex-[<limit>-]{primary,secondary}-..., retry-after[-ms]. What cannot be read is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from lunaroute.dialects.values import clean, mapping, text
from lunaroute.records import Limit

MAX_LIMITS = 64
_MAX_VALUE = 256
_SECOND = 1_000_000_000
_FARTHEST = 20 * 366 * 86400  # seconds from now: later resets are no resets
_ANTHROPIC = "anthropic-ratelimit-"
_TELLING = (_ANTHROPIC, "x-ratelimit-", "x-codex-", "retry-after")
_UNIFIED = "unified-"
_OPENAI = re.compile(r"x-ratelimit-(limit|remaining|reset)(?:-([a-z0-9_.-]{1,64}))?$")
_CODEX = re.compile(
    r"x-codex-(?:([a-z0-9_.-]{1,48})-)?(primary|secondary)-(used-percent|window-minutes|reset-at|reset-after-seconds)$"
)
_CODEX_NAME = re.compile(r"x-codex-(?:([a-z0-9_.-]{1,48})-)?limit-name$")
_CREDITS = re.compile(r"x-codex-credits-(has-credits|unlimited|balance)$")
_WINDOW = re.compile(r"(\d{1,4})([mhd])(?:[-_]|$)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|[dhms])")
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_HTTP_DATE = re.compile(r"[A-Za-z]{3}, (\d\d) ([A-Za-z]{3}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT$")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def limits(fields: Iterable[tuple[str, str]], now_ns: int) -> list[Limit]:
    """The limits in a list of headers, in the order in which they first occur."""
    found = _Found(now_ns)
    for written, given in fields:
        name = written.lower()
        if not name.startswith(_TELLING):
            continue  # as nearly all
        value = given.strip()
        if len(value) > _MAX_VALUE:
            continue
        if name.startswith(_ANTHROPIC):
            found.anthropic(name.removeprefix(_ANTHROPIC), value)
        elif name.startswith("x-ratelimit-"):
            found.openai(name, value)
        elif name.startswith("x-codex-"):
            found.codex(name, value)
        elif name in ("retry-after", "retry-after-ms"):
            found.retry(name, value)
    return found.limits()


def limits_of_event(value: Any, now_ns: int) -> list[Limit]:
    """The limits in a `codex.rate_limits` event, which takes the headers' place over a WebSocket."""
    event = mapping(value)
    if event.get("type") != "codex.rate_limits":
        return []
    found = _Found(now_ns)
    # names of windows as in the headers: those of a limit of its own carry its name
    own = text(event.get("metered_limit_name")) or text(event.get("limit_name"))
    prefix = f"{own}-" if own and own != "codex" else ""
    found.windows(prefix, event.get("rate_limits"))
    found.windows("code-review-", event.get("code_review_rate_limits"))
    for name, more in list(mapping(event.get("additional_rate_limits")).items())[:MAX_LIMITS]:
        found.windows(f"{clean(name, 48)}-", mapping(more).get("rate_limits", more))
    credits = mapping(event.get("credits"))
    for key in ("has_credits", "unlimited", "balance"):
        if credits.get(key) is not None:
            found.credits(key.replace("_", "-"), str(credits[key]).lower()[:64])
    return found.limits()


class _Found:
    """Limits on their way: several headers tell of one."""

    def __init__(self, now_ns: int) -> None:
        self._now = now_ns
        self._limits: dict[str, Limit] = {}
        self._exact = False  # retry-after-ms was there

    def limits(self) -> list[Limit]:
        return [limit for limit in self._limits.values() if limit != Limit(name=limit.name)]

    def _set(self, name: str, field: str, value: float | int | str | None) -> None:
        if value is None or value == "":
            return
        limit = self._limits.get(name)
        if limit is None:
            if len(self._limits) >= MAX_LIMITS:
                return
            window = _WINDOW.match(name)
            minutes = int(window[1]) * {"m": 1.0, "h": 60.0, "d": 1440.0}[window[2]] if window else None
            limit = self._limits[name] = Limit(name=name, window_minutes=minutes)
        setattr(limit, field, value)

    def anthropic(self, rest: str, value: str) -> None:
        name, _, what = rest.rpartition("-")
        unified = rest.startswith(_UNIFIED)
        if unified:
            name = name.removeprefix(_UNIFIED.rstrip("-")).removeprefix("-") or "unified"
        if not name or len(name) > 64:
            return
        if what in ("limit", "remaining"):
            self._set(name, what, number(value))
        elif what == "utilization":
            self._set(name, "used", number(value))
        elif what == "reset":
            self._set(name, "resets_ns", self._when(value))
        elif what == "status":
            self._set(name, "status", clean(value, 64))
        elif unified:
            # the words beside the windows: representative-claim, fallback, overage-in-use, and the ones to come
            self._set(clean(rest.removeprefix(_UNIFIED), 64), "status", clean(value, 64))

    def openai(self, name: str, value: str) -> None:
        match = _OPENAI.match(name)
        if match is None:
            return
        of = match[2] or "requests"
        if match[1] == "reset":
            self._set(of, "resets_ns", self._when(value))
        else:
            self._set(of, match[1], number(value))

    def codex(self, name: str, value: str) -> None:
        if match := _CODEX.match(name):
            of = f"{match[1]}-{match[2]}" if match[1] else match[2]
            self._window(of, match[3].replace("-", "_"), number(value))
        elif match := _CREDITS.match(name):
            self.credits(match[1], value.lower())
        elif match := _CODEX_NAME.match(name):
            self._set(match[1] or "codex", "status", clean(value, 64))

    def windows(self, prefix: str, told: Any) -> None:
        for which in ("primary", "secondary"):
            window = mapping(mapping(told).get(which))
            # the moment is surer than the time left until then
            for key in ("used_percent", "window_minutes", "reset_after_seconds", "reset_at"):
                figure = window.get(key)
                if isinstance(figure, (int, float)) and not isinstance(figure, bool):
                    self._window(f"{prefix}{which}", key, _finite(figure))

    def _window(self, name: str, key: str, figure: float | None) -> None:
        if figure is None:
            return
        if key == "used_percent":
            self._set(name, "used", figure / 100)
        elif key == "window_minutes":
            self._set(name, "window_minutes", figure)
        elif key == "reset_at":
            self._set(name, "resets_ns", self._at(figure))
        elif name not in self._limits or self._limits[name].resets_ns is None:
            self._set(name, "resets_ns", self._after(figure))

    def credits(self, key: str, value: str) -> None:
        if key == "balance":
            self._set("credits", "remaining", number(value))
        elif key == "unlimited" and value == "true":
            self._set("credits", "status", "unlimited")
        elif key == "has-credits" and value in ("true", "false"):
            known = self._limits.get("credits")
            if known is None or known.status != "unlimited":
                self._set("credits", "status", "available" if value == "true" else "none")

    def retry(self, name: str, value: str) -> None:
        if name == "retry-after-ms":
            wait = number(value)
            if wait is not None:
                self._exact = True
                self._set("retry-after", "resets_ns", self._after(wait / 1000))
        elif not self._exact:
            wait = number(value)
            self._set("retry-after", "resets_ns", _http_date(value) if wait is None else self._after(wait))

    # --- times -----------------------------------------------------------------------------------------
    def _when(self, value: str) -> int | None:
        """A moment (RFC 3339, HTTP date, seconds since 1970) or a time from now (`6m0s`, `20ms`, plain seconds)."""
        figure = number(value)
        if figure is not None:
            return self._at(figure) if figure > 1e9 else self._after(figure)
        duration = _duration(value)
        if duration is not None:
            return self._after(duration)
        return _moment(value)

    def _after(self, seconds: float) -> int | None:
        return self._now + int(seconds * _SECOND) if 0 <= seconds < _FARTHEST else None

    def _at(self, moment: float) -> int | None:
        if moment > 1e11:
            moment /= 1000  # milliseconds
        return int(moment * _SECOND) if 0 < moment < 1e10 else None


@lru_cache(maxsize=64)  # a window is reset at the same moment, whoever asks before
def _moment(value: str) -> int | None:
    return _rfc3339(value) or _http_date(value)


def number(value: str) -> float | None:
    """A plain, finite, non-negative figure."""
    try:
        return _finite(float(value)) if len(value) < 40 and "_" not in value else None
    except ValueError:
        return None


def _finite(figure: float) -> float | None:
    try:
        figure = float(figure)
    except OverflowError:
        return None
    return figure if math.isfinite(figure) and figure >= 0 else None


def _duration(value: str) -> float | None:
    place, total = 0, 0.0
    while match := _DURATION.match(value, place):
        total += float(match[1]) * _UNITS[match[2]]
        place = match.end()
    return total if place and place == len(value) and math.isfinite(total) else None


def _rfc3339(value: str) -> int | None:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return _nanoseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _http_date(value: str) -> int | None:
    match = _HTTP_DATE.match(value)
    if match is None or match[2].lower() not in _MONTHS:
        return None
    year, month, day = int(match[3]), _MONTHS.index(match[2].lower()) + 1, int(match[1])
    try:
        moment = datetime(year, month, day, int(match[4]), int(match[5]), int(match[6]), tzinfo=UTC)
    except ValueError:
        return None
    return _nanoseconds(moment)


def _nanoseconds(moment: datetime) -> int | None:
    try:
        passed = moment - datetime(1970, 1, 1, tzinfo=UTC)
    except OverflowError:
        return None
    if not timedelta(0) < passed < timedelta(days=100_000):
        return None
    return (passed.days * 86400 + passed.seconds) * _SECOND + passed.microseconds * 1000
