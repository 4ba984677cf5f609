"""The tap: what the relay tells the observer, and the ring of shared memory it goes through.

Imports nothing else of ours but the compiled ring. The relay side appends and never waits; the observer side reads.

An event is (kind, exchange, time_ns, payload): kind one of the constants below, exchange a number that is unique in
one relay process (0: the process itself), time_ns of CLOCK_MONOTONIC, payload bytes as described at each kind.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

# --- kinds -------------------------------------------------------------------------------------------------------
OPEN = 1  # OPEN_HEADER, then the request head exactly as received (request line to blank line)
REQUEST_BODY = 2  # a piece of the request body, transfer coding undone, content coding as sent
ATTEMPT = 3  # ATTEMPT_HEADER, then a JSON object {"provider","origin","dialect","path"} (target as sent upstream)
RESPONSE_HEAD = 4  # the upstream's head exactly as received; 1xx heads come as events of their own
RESPONSE_BODY = 5  # a piece of the response body, transfer coding undone
LOCAL_ANSWER = 6  # the whole answer (head and body) that the proxy itself gave
CLIENT_FRAMES = 7  # tunnel: raw WebSocket bytes, client to server
SERVER_FRAMES = 8  # tunnel: raw WebSocket bytes, server to client
CLOSE = 9  # CLOSE_HEADER, then one UTF-8 sentence why (may be empty): the last event of an exchange
ATTEMPT_FAILED = 10  # one UTF-8 sentence: the attempt begun last failed (the connect phase, or a provider's refusal)

KINDS = {
    OPEN: "open",
    REQUEST_BODY: "request_body",
    ATTEMPT: "attempt",
    RESPONSE_HEAD: "response_head",
    RESPONSE_BODY: "response_body",
    LOCAL_ANSWER: "local_answer",
    CLIENT_FRAMES: "client_frames",
    SERVER_FRAMES: "server_frames",
    CLOSE: "close",
    ATTEMPT_FAILED: "attempt_failed",
}

# --- fixed parts of payloads, little-endian ------------------------------------------------------------------------
# wall clock ns since the epoch, connection number, requests before this one on the connection
OPEN_HEADER = struct.Struct("<qII")
# attempt number (1..), reused connection 0/1, padding, connect microseconds, TLS microseconds (0 = not measured)
ATTEMPT_HEADER = struct.Struct("<HBxII")
# state (STATES), flags (FLAG_*), padding, request body bytes, response body bytes, body bytes the ring had no room for,
# then CLOCK_MONOTONIC ns of: request fully received, request fully sent (0 = never)
CLOSE_HEADER = struct.Struct("<BBxxxxxxQQQqq")

STATES = ("ok", "upstream_error", "client_cancelled", "timeout", "proxy_error")
FLAG_WRITTEN = 1  # bytes of the request may have reached the provider

# --- counters of the relay, kept in the ring's first page: pulled, never pushed --------------------------------------
COUNTERS = (
    "connections_open",
    "connections_total",
    "requests_total",
    "requests_in_flight",
    "upstream_open",
    "upstream_idle",
    "upstream_connects_total",
    "upstream_reuses_total",
    "tunnels_open",
    "rejected_total",
    "tap_events_total",
    "tap_dropped_events_total",
    "tap_dropped_bytes_total",
    "tap_dropped_exchanges_total",
    "observer_restarts_total",
    "responses_2xx_total",
    "responses_3xx_total",
    "responses_4xx_total",
    "responses_5xx_total",
    "tunnels_total",
    "connect_failures_total",
    "connect_retries_total",
)


class Event(NamedTuple):
    """One event as the ring's reader gives it."""

    kind: int
    exchange: int
    time_ns: int
    payload: bytes
