"""Where the time of an exchange went. Pure arithmetic over its timings."""

from __future__ import annotations

from lunaroute.records import Attempt, Split, Timings


def split(
    times: Timings, attempts: list[Attempt], last_byte: float | None, delivered: bool = True
) -> Split | None:
    """The seven parts, which add up to the whole; last_byte: of the answer, ms from the start. None without an end.

    A part that did not happen is None, and its time is in the part before it. With several attempts all of the time up
    to the last one is `before`: what it waited for is not the client's or the model's doing.

    delivered: the answer was there whole, so that what followed its last byte was the proxy's. Where it was cut, given
    up or waited for in vain, nothing was left to deliver: that time belongs to what was waited for.
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
    moments = {
        "upload_ms": times.request_sent,
        "wait_ms": times.response_head,
        "first_content_ms": times.first_content,
        "generation_ms": last_byte,
        "after_ms": done,
    }
    if not delivered:
        del moments["after_ms"]
        awaited = "upload_ms" if times.request_sent is None else "wait_ms"
        moments["generation_ms" if times.response_head is not None else awaited] = done
    for name, moment in moments.items():
        if moment is not None:
            then = max(at, min(moment, done))
            setattr(parts, name, round(then - at, 3))
            at = then
    return parts
