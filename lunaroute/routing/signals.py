"""What a request head says about whose request it is: the bits that the head scanner sets.

The same numbers stand in `_fast/http1.pxd` (Signal) and `_fast/relay.pxd`; tests/routing/test_signals.py compares.
"""

from __future__ import annotations

from enum import IntFlag


class Signal(IntFlag):
    """Facts of a head, one bit each."""

    BEARER = 1  # an Authorization field
    BEARER_ANTHROPIC = 2  # ... of Anthropic's form (sk-ant-)
    BEARER_OPENAI = 4  # ... of OpenAI's form
    BEARER_JWT = 8  # ... a JSON web token (ChatGPT login)
    KEY = 16  # an x-api-key field
    KEY_ANTHROPIC = 32
    KEY_OPENAI = 64
    ANTHROPIC_FIELD = 128  # anthropic-version, anthropic-beta, ...
    OPENAI_FIELD = 256  # openai-organization, openai-beta, ...
    CHATGPT = 512  # chatgpt-account-id
    AZURE_KEY = 1024  # api-key
    GOOGLE_KEY = 2048  # x-goog-api-key
    WEBSOCKET = 4096  # a WebSocket handshake
    CONTROL = 8192  # an x-lunaroute-* field
    VENDOR_KEY_ANTHROPIC = 16384  # an api-key or x-goog-api-key field of Anthropic's form


class Credential(IntFlag):
    """Credential fields that a decision takes out of the head: `1 << Kind` of `_fast/http1.pxd`."""

    BEARER = 1 << 8
    KEY = 1 << 9
    VENDOR_KEY = 1 << 10
    ACCOUNT = 1 << 11
    ALL = BEARER | KEY | VENDOR_KEY | ACCOUNT


OF_ANTHROPIC = Signal.BEARER_ANTHROPIC | Signal.KEY_ANTHROPIC | Signal.VENDOR_KEY_ANTHROPIC
OF_OPENAI = Signal.BEARER_OPENAI | Signal.KEY_OPENAI | Signal.CHATGPT
