"""What is looked for and what becomes of it, out of the settings `session_recording.pii`. Must not know any text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

BUILT_IN = {
    "email": "EMAIL",
    "phone": "PHONE",
    "ssn": "SSN",
    "credit_card": "CREDIT_CARD",
    "ip": "IP",
    "iban": "IBAN",
    "secret": "SECRET",
}
"""The kinds of the detectors, and the word that stands in a token."""
SWITCHES = {
    "detect_email": "email",
    "detect_phone": "phone",
    "detect_ssn": "ssn",
    "detect_credit_card": "credit_card",
    "detect_ip": "ip",
    "detect_iban": "iban",
    "detect_secrets": "secret",
}
MODES = ("mask", "remove", "tokenize", "partial")
FENCE = "/"  # an entry of `allow` between two of these is a pattern


class Custom(msgspec.Struct, frozen=True):
    """A pattern of the configuration. regex: compiled by re2, whose time is linear in the text."""

    name: str
    label: str
    regex: Any


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """kinds: of the built-in detectors, those that are on. modes: by kind or by the name of a pattern; mode: of others.

    allow: values (canonical, see forms.py) that are left as they are; allow_patterns: as regexes, of a whole value.
    drop_binary: images and other binary parts are left out.
    """

    kinds: tuple[str, ...] = ()
    mode: str = "tokenize"
    modes: Mapping[str, str] = msgspec.field(default_factory=dict)
    customs: tuple[Custom, ...] = ()
    allow: frozenset[str] = frozenset()
    allow_patterns: tuple[Any, ...] = ()
    private_addresses: bool = False
    reserved_domains: bool = False
    drop_binary: bool = False
    vault: bool = False

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.kinds or self.customs or self.drop_binary)

    def mode_of(self, kind: str) -> str:
        """What becomes of a value of this kind."""
        return self.modes.get(kind, self.mode)

    def label_of(self, kind: str) -> str:
        """The word in its token."""
        return BUILT_IN.get(kind) or label(kind)


def rules_of(pii: Mapping[str, Any]) -> Rules:
    """The rules of a checked configuration (as plain values). Off as a whole, secrets may still be looked for."""
    enabled = bool(pii["enabled"])
    kinds = [kind for switch, kind in SWITCHES.items() if enabled and pii[switch]]
    if pii["redact_secrets"] and "secret" not in kinds:
        kinds.append("secret")
    exact = [entry for entry in pii["allow"] if not _is_pattern(entry)]
    patterns = [entry[1:-1] for entry in pii["allow"] if _is_pattern(entry)]
    return Rules(
        kinds=tuple(kinds),
        mode=pii["redaction_mode"],
        modes={**pii["modes"], **{each["name"]: each["mode"] for each in pii["custom_patterns"] if each["mode"]}},
        customs=tuple(
            Custom(each["name"], label(each["name"]), _compiled(each["pattern"]))
            for each in pii["custom_patterns"]
            if enabled
        ),
        allow=frozenset(exact),
        allow_patterns=tuple(map(_compiled, patterns)),
        private_addresses=bool(pii["private_addresses"]),
        reserved_domains=bool(pii["reserved_domains"]),
        drop_binary=enabled and pii["binary"] == "drop",
        vault=bool(pii["vault"]),
    )


def _is_pattern(entry: str) -> bool:
    return len(entry) > 2 and entry.startswith(FENCE) and entry.endswith(FENCE)


def _compiled(pattern: str) -> Any:
    from lunaroute.config.patterns import compiled  # with it comes a library of some size; most have no patterns

    return compiled(pattern)


def label(name: str) -> str:
    """The word in the tokens of a pattern: capitals, digits and underscores."""
    return "".join(each if each.isascii() and each.isalnum() else "_" for each in name).upper()[:40] or "CUSTOM"
