"""Where the time of an exchange went. Pure arithmetic over its timings."""

from __future__ import annotations

from lunaroute.records import Attempt, Split, Timings


def split(times: Timings, attempts: list[Attempt], last_byte: float | None) -> Split | None:
    """The seven parts, which add up to the whole; last_byte: of the answer, ms from the start. None without an end.

    A part that did not happen is None, and its time is in the part before it. With several attempts all of the time up
    to the last one is `before`: what it waited for is not the client's or the model's doing.
    """
    if times.done is None:
        return None
    done = times.done
    last = attempts[-1] if attempts else None
    connecting = 0.0 if last is None or last.reused else (last.connect_ms or 0.0) + (last.tls_ms or 0.0)
    begun = times.attempt_started
    parts = Split()
    if begun is None:
        parts.before_ms = round(done, 3)
        return parts
    begun = min(begun, done)
    connecting = min(connecting, begun)
    parts.before_ms = round(begun - connecting, 3)
    if connecting:
        parts.connect_ms = round(connecting, 3)
    # each moment is at or after the one before: what came out of order (an early answer) counts where it is seen
    at = begun
    for name, moment in (
        ("upload_ms", times.request_sent),
        ("wait_ms", times.response_head),
        ("first_content_ms", times.first_content),
        ("generation_ms", last_byte),
        ("after_ms", done),
    ):
        if moment is not None:
            then = max(at, min(moment, done))
            setattr(parts, name, round(then - at, 3))
            at = then
    return parts
