"""What tokens stand for: encrypted, for who holds the key, bounded, and never a reason to stop recording."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from lunaroute.observe.pii import vault
from lunaroute.observe.pii.key import Key
from lunaroute.observe.pii.vault import DAY, Revealed, Vault

MAIL = "alice.b@corp.com"
TOKEN = "[EMAIL:a3f8e9d2]"


@pytest.fixture(autouse=True)
def private(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)


def made(home: Path, passphrase: str = "one passphrase", **more: Any) -> Vault:
    return Vault(home, Key(None, passphrase), **more)


def test_what_was_kept_is_revealed_to_who_holds_the_key(tmp_path: Path) -> None:
    first = made(tmp_path)
    first.keep(TOKEN, "email", "email", MAIL)
    first.keep("[SSN:00000001]", "ssn", "us_ssn", "536-22-8714")
    first.close()
    for asked in (TOKEN, TOKEN[1:-1], "a3f8e9d2"):
        assert made(tmp_path).reveal(asked) == [Revealed(TOKEN, "email", "email", MAIL)]
    assert made(tmp_path).reveal("[EMAIL:ffffffff]") == []
    raw = (tmp_path / vault.NAME).read_bytes()
    assert MAIL.encode() not in raw and b"536-22" not in raw and TOKEN.encode() in raw
    assert stat.S_IMODE((tmp_path / vault.NAME).stat().st_mode) == 0o600
    other = made(tmp_path, "another passphrase")
    assert other.reveal(TOKEN) == [] and not other.readable()
    assert made(tmp_path).readable()


def test_a_line_of_one_token_says_nothing_under_another(tmp_path: Path) -> None:
    made(tmp_path).keep(TOKEN, "email", "email", MAIL)
    file = tmp_path / vault.NAME
    file.write_bytes(file.read_bytes().replace(TOKEN.encode(), b"[EMAIL:00000000]"))
    assert made(tmp_path).reveal("[EMAIL:00000000]") == []


def test_two_values_of_one_token_are_both_told(tmp_path: Path) -> None:
    first = made(tmp_path)
    first.keep(TOKEN, "email", "email", MAIL)
    first.keep(TOKEN, "email", "email", "x@y.org")
    first.keep(TOKEN, "email", "email", MAIL)
    assert [each.value for each in first.reveal(TOKEN)] == [MAIL, "x@y.org"]
    again = made(tmp_path)
    again.keep(TOKEN, "email", "email", "z@y.org")
    assert [each.value for each in again.reveal(TOKEN)] == [MAIL, "x@y.org", "z@y.org"]


def test_a_value_is_written_once_a_day(tmp_path: Path) -> None:
    now = [100.0 * DAY]
    for _ in range(2):
        kept = made(tmp_path, clock=lambda: now[0])
        for _ in range(3):
            kept.keep(TOKEN, "email", "email", MAIL)
        kept.close()
    file = tmp_path / vault.NAME
    assert file.read_bytes().count(b"\n") == 1
    now[0] += DAY
    made(tmp_path, clock=lambda: now[0]).keep(TOKEN, "email", "email", MAIL)
    assert file.read_bytes().count(b"\n") == 2


def test_what_was_not_used_for_long_goes(tmp_path: Path) -> None:
    now = [100.0 * DAY]
    first = made(tmp_path, clock=lambda: now[0], max_age_days=10)
    first.keep(TOKEN, "email", "email", MAIL)
    now[0] += 8 * DAY
    first.keep("[EMAIL:00000001]", "email", "email", "x@y.org")
    first.close()
    now[0] += 5 * DAY
    later = made(tmp_path, clock=lambda: now[0], max_age_days=10)
    later.keep("[EMAIL:00000002]", "email", "email", "z@y.org")
    assert later.reveal(TOKEN) == []
    assert [each.value for each in later.reveal("[EMAIL:00000001]")] == ["x@y.org"]


def test_it_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "ENTRIES", 20)
    kept = made(tmp_path)
    for number in range(50):
        kept.keep(f"[EMAIL:{number:08x}]", "email", "email", f"m{number}@y.org")
    assert (tmp_path / vault.NAME).read_bytes().count(b"\n") <= 21
    assert [each.value for each in kept.reveal("[EMAIL:00000031]")] == ["m49@y.org"]
    assert kept.reveal("[EMAIL:00000000]") == []
    kept.keep(TOKEN, "secret", "pem_key", "x" * 100_000)
    assert kept.reveal(TOKEN) == [], "one value has a bound, too"


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    made(tmp_path).keep(TOKEN, "email", "email", MAIL)
    with (tmp_path / vault.NAME).open("ab") as file:
        file.write(b"12 [EMAIL:0000")
    assert [each.value for each in made(tmp_path).reveal(TOKEN)] == [MAIL]


def test_a_fault_is_warned_of_once_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / vault.NAME).symlink_to(os.devnull)
    said: list[str] = []
    kept = made(tmp_path, warn=said.append)
    kept.keep(TOKEN, "email", "email", MAIL)
    kept.keep(TOKEN, "email", "email", MAIL)
    assert len(said) == 1 and "cannot be kept" in said[0] and MAIL not in said[0]
