"""What changes something: deleting, by same-origin POST only, through whoever writes the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lunaroute.errors import StoreError
from tests import recorded
from tests.ui.conftest import Serve


class Writer:
    """Stands where the observer does: keeps the orders and carries them out in the database."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.orders: list[dict[str, Any]] = []

    def __call__(self, order: dict[str, Any]) -> dict[str, Any]:
        self.orders.append(order)
        with recorded.store_at(self.path) as store:
            list(store.delete(order["sessions"], lambda session: None))
        return {"sessions": len(order["sessions"])}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = [*recorded.tool_loop(), recorded.exchange(9, "helper", parent_session_id="session-1")]
    return recorded.write(tmp_path / "db", made)


def test_deleting_asks_first(serve: Serve, path: Path) -> None:
    writer = Writer(path)
    site = serve(path, order=writer)
    assert "Delete this session?" in site.ask("/sessions/session-1/delete").text
    answer = site.ask("/sessions/session-1/delete", "POST", b"")
    assert (answer.status, answer.headers["location"]) == (303, "/sessions/session-1/delete") and writer.orders == []
    answer = site.ask("/sessions/session-1/delete", "POST", b"sure=yes")
    assert (answer.status, answer.headers["location"]) == (303, "/sessions?deleted=1")
    assert writer.orders == [{"cmd": "delete", "sessions": ["session-1"]}]
    assert site.ask("/sessions/session-1").status == 404 and site.ask("/sessions/helper").status == 200
    assert "Deleted" in site.ask("/sessions?deleted=1").text


def test_subagents_go_too_where_that_is_said(serve: Serve, path: Path) -> None:
    writer = Writer(path)
    serve(path, order=writer).ask("/sessions/session-1/delete", "POST", b"sure=yes&subagents=yes")
    assert writer.orders == [{"cmd": "delete", "sessions": ["session-1", "helper"]}]


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "http://evil.test"},
        {"Origin": "null"},
    ],
)
def test_no_other_site_can_delete(serve: Serve, path: Path, headers: dict[str, str]) -> None:
    writer = Writer(path)
    assert serve(path, order=writer).ask("/sessions/session-1/delete", "POST", b"sure=yes", **headers).status == 403
    assert writer.orders == []


def test_a_link_deletes_nothing(serve: Serve, path: Path) -> None:
    writer = Writer(path)
    site = serve(path, order=writer)
    for address in ("/sessions/session-1/delete?sure=yes", "/sessions/session-1?sure=yes"):
        site.ask(address)
    for method in ("DELETE", "PUT", "PATCH"):
        assert site.ask("/sessions/session-1/delete", method, b"").status == 405
    assert writer.orders == [] and site.ask("/sessions/session-1").status == 200


def test_what_goes_wrong_is_said(serve: Serve, path: Path) -> None:
    def broken(order: dict[str, Any]) -> dict[str, Any]:
        raise StoreError("the disk is full")

    answer = serve(path, order=broken).ask("/sessions/session-1/delete", "POST", b"sure=yes")
    assert answer.status == 503 and "the disk is full" in answer.text
    assert serve(path, order=broken).ask("/sessions/none/delete", "POST", b"sure=yes").status == 404


def test_without_a_writer_the_page_says_how(serve: Serve, path: Path) -> None:
    site = serve(path)
    assert "lunaroute sessions delete session-1" in site.ask("/sessions/session-1/delete").text
    assert site.ask("/sessions/session-1/delete", "POST", b"sure=yes").status == 400
