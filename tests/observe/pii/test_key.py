"""The key of the installation."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from lunaroute.observe.pii.key import NAME, Key


@pytest.fixture(autouse=True)
def private(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)


def test_it_is_made_when_it_is_first_needed_and_then_stays(tmp_path: Path) -> None:
    key = Key(tmp_path)
    assert not (tmp_path / NAME).exists()
    assert len(key.value) == 32
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600
    assert Key(tmp_path).value == key.value
    assert key.value.hex() not in repr(key)


def test_each_use_has_a_key_of_its_own(tmp_path: Path) -> None:
    key = Key(tmp_path)
    assert key.derived(b"tokens") != key.derived(b"vault") != key.value
    assert key.derived(b"tokens") == Key(tmp_path).derived(b"tokens")


def test_a_given_one_needs_no_file(tmp_path: Path) -> None:
    assert Key(tmp_path, "some words").value == Key(None, "some words").value != Key(None, "other words").value
    assert not (tmp_path / NAME).exists()


def test_a_file_that_is_no_key_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"edited")
    (tmp_path / NAME).chmod(0o600)
    said: list[str] = []
    key = Key(tmp_path, warn=said.append)
    assert len(key.value) == 32 == len(key.value) and len(said) == 1 and "remove it" in said[0]
    assert (tmp_path / NAME).read_bytes() == b"edited"
    assert Key(tmp_path).value != key.value


def test_a_folder_that_others_may_write_to_holds_no_key(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    said: list[str] = []
    assert len(Key(tmp_path, warn=said.append).value) == 32
    assert len(said) == 1 and not (tmp_path / NAME).exists()
