"""Plain detectors and plain rules, for tests of what is done with what is found. They know few forms, but well."""

from __future__ import annotations

import re
from typing import Any

from lunaroute.observe.pii import Redactor, Rules
from lunaroute.observe.pii.forms import Forms
from lunaroute.observe.pii.key import Key
from lunaroute.observe.pii.rules import BUILT_IN, rules_of
from lunaroute.observe.pii.texts import Texts

SETTINGS: dict[str, Any] = {
    "enabled": True,
    "redact_secrets": True,
    "detect_email": True,
    "detect_phone": True,
    "detect_ssn": True,
    "detect_credit_card": True,
    "detect_ip": True,
    "detect_iban": True,
    "detect_secrets": True,
    "redaction_mode": "tokenize",
    "modes": {},
    "custom_patterns": [],
    "allow": [],
    "private_addresses": False,
    "reserved_domains": False,
    "binary": "drop",
    "vault": False,
    "key": None,
}
_FORMS = re.compile(
    rb"(?P<email>[\w.+-]{1,64}@[a-z0-9-]{1,40}\.(?:com|org))"
    rb"|(?P<ssn>(?<!\d)\d{3}-\d{2}-\d{4}(?!\d))"
    rb"|(?P<credit_card>(?<!\d)\d{16}(?!\d))"
    rb"|(?P<secret>sk-test-[A-Za-z0-9]{16,40})",
    re.ASCII,
)
_TOLD = re.compile(rb"password", re.IGNORECASE)


def find(text: bytes, context: bytes = b"") -> list[tuple[int, int, str, str]]:
    """As Scanner.find."""
    text.decode()  # what comes is UTF-8, or the test fails
    if _TOLD.search(context) and text:
        return [(0, len(text), "secret", "password")]
    return [(m.start(), m.end(), str(m.lastgroup), str(m.lastgroup)) for m in _FORMS.finditer(text)]


def rules(**more: Any) -> Rules:
    """The rules of these settings."""
    return rules_of({**SETTINGS, **more})


def key() -> Key:
    """Always the same."""
    return Key(None, "a key for tests")


def texts(find: Any = find, **more: Any) -> Texts:
    """Texts by the plain detectors."""
    made = rules(**more)
    return Texts(made, find, Forms(made, key()))


def redactor(find: Any = find, **more: Any) -> Redactor:
    """A redactor with the plain detectors."""
    return Redactor(rules(**more), find, key())


def token(kind: str, value: str) -> str:
    """What stands for the value."""
    return Forms(rules(), key()).token(kind, value)


PLANTED = [
    ("email", "alice.b@corp.com"),
    ("email", "x_9@some-site.org"),
    ("ssn", "536-22-8714"),
    ("credit_card", "4111111111111111"),
    ("secret", "sk-test-a1B2c3D4e5F6g7H8i9"),
]
assert {kind for kind, _ in PLANTED} <= BUILT_IN.keys()
