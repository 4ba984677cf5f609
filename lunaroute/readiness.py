"""Whether the proxy can serve, and how its parts stand: what /readyz and `lunaroute status` say. Values in, values out.

It can serve while one provider can be connected to, or nobody knows better. What concerns the record alone is a problem
that is said, and never a reason to send requests elsewhere: nothing of the record is needed for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

LATE_S = 30.0  # how far the record may be behind
# Seconds that a failed connection counts. Not for ever: who is told 503 may send nothing that would show it mended
UNREACHABLE_S = 30.0

Json = dict[str, Any]


def report(
    *, draining: bool, recording: bool, running: bool, providers: Json, pools: list[Json], told: Json | None
) -> Json:
    """The facts, `ready` and `problems` (sentences for people) among them.

    providers: by name {enabled, base_url, error}; error: why it could not be connected to just now. running: the
    observer is there; told: what it answered, None where it did not in time.
    """
    told = told or {}
    observer = {
        "running": running,
        "lag_bytes": told.get("lag_bytes"),
        "lag_seconds": told.get("lag_seconds"),
        "open_exchanges": told.get("open_exchanges"),
        "dropped": told.get("dropped", {}),
    }
    able = [name for name, each in providers.items() if each["enabled"] and not each["error"]]
    facts = {
        "ready": bool(able) and not draining,
        "draining": draining,
        "recording": "off" if not recording else "on" if running else "waiting for the observer",
        "providers": {name: {**each, "ok": name in able} for name, each in providers.items()},
        "pools": pools,
        "stores": told.get("stores", []),
        "observer": observer,
    }
    return {**facts, "problems": list(_problems(facts, bool(told)))}


def _problems(facts: Json, told: bool) -> Iterator[str]:
    if facts["draining"]:
        yield "the server is stopping"
    yield from dict.fromkeys(each["error"] for each in facts["providers"].values() if each["error"])
    if not any(each["enabled"] for each in facts["providers"].values()):
        yield "no provider is enabled (providers.<name>.enabled)"
    if facts["recording"] != "off":
        yield from _of_the_record(facts, told)


def _of_the_record(facts: Json, told: bool) -> Iterator[str]:
    observer = facts["observer"]
    if not told:
        yield "the observer does not answer; if it has ended it is started again by itself"
    for store in facts["stores"]:
        if not store["ok"]:
            yield f"{store['name']} takes no records: {store['error']}"
        if store.get("lost"):
            yield f"{store['lost']:,} exchanges are not in {store['name']}"
    if (observer["lag_seconds"] or 0) > LATE_S:
        yield f"the record is {observer['lag_seconds']:.0f} s behind"
    lost = observer["dropped"].get("tap_dropped_exchanges_total")
    if lost:
        yield f"{lost:,} exchanges were not recorded: the ring was full"
