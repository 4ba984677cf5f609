"""What was taken out, in words."""

from __future__ import annotations

import pytest

from lunaroute._fast.pii import NAMES
from lunaroute.stores.findings import FindingFigures, FindingRow
from lunaroute.ui import found


def row(kind: str, finer: str, place: str = "request", digest: str = "00000000", sequence: int = 14) -> FindingRow:
    return FindingRow(
        session_id="s", place=place, kind=kind, name=finer, digest=digest, count=1, exchange_id="b-1",
        sequence=sequence, started_at="2026-01-01 00:00:00.000",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "finer", "said"),
    [
        ("secret", "aws_access_key", "AWS access key"),
        ("secret", "anthropic_key", "Anthropic key"),
        ("secret", "github_token", "GitHub token"),
        ("secret", "jwt", "JWT"),
        ("secret", "password", "password"),
        ("credit_card", "visa", "Visa card"),
        ("ip", "ipv6", "IPv6 address"),
        ("email", "email", "email address"),
        ("phone", "us_phone", "US phone"),
        ("ssn", "us_ssn", "US SSN"),
        ("iban", "iban", "IBAN"),
        ("ticket", "ticket", "Ticket"),
    ],
)
def test_names(kind: str, finer: str, said: str) -> None:
    assert found.name(kind, finer) == said


def test_every_name_of_the_detectors_has_words() -> None:
    for kind, names in NAMES.items():
        for each in names:
            assert found.name(kind, each).strip() and "_" not in found.name(kind, each)


def test_sentences() -> None:
    assert found.leak(row("secret", "aws_access_key")) == "AWS access key left this machine in request 14"
    assert found.leak(row("secret", "jwt", "response")) == "JWT came back in the answer to request 14"


def test_counts_are_of_different_values() -> None:
    rows = [row("email", "email", digest="1"), row("email", "email", "response", "1"),
            row("email", "email", digest="2"), row("credit_card", "visa")]  # fmt: skip
    assert found.counted(rows) == "2 email addresses, 1 Visa card"
    assert found.leaks(rows) == []
    many = [row("secret", name) for name in NAMES["secret"][:9]]
    assert found.counted(many).endswith(", 3 other kinds")
    figures = [FindingFigures(place="request", kind="ip", name="ipv4", values=2, sessions=1)]
    assert (found.summed(figures, "request"), found.summed(figures, "response")) == ("2 IPv4 addresses", "")
