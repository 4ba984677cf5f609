"""Instructions per request and per streamed piece, counted by callgrind, against the committed figures.

    python -m benchmarks.instructions              count, compare, exit 1 on more than 3 % growth
    python -m benchmarks.instructions --update     count and write to instructions.json
    python -m benchmarks.instructions --functions  where they go

Counts depend on what is compiled and interpreted, not on the machine's speed or load: two runs differ by less than
0.01 %. valgrind shows every program the same processor (one with AVX2, whatever the host has beyond that), so libc and
OpenSSL choose the same variants of their functions everywhere. What does matter is the toolchain: Python, C compiler,
libc, Cython, httptools. So each toolchain has figures of its own; for one that has none the nearest known serves, with
a wider limit, and the output says so. --update moves the figures of the other toolchains by the same factor.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from benchmarks import driver

FIGURES = Path(__file__).with_name("instructions.json")
ROOT = Path(__file__).resolve().parent.parent
LIMIT = 1.03
# measured: two builds of Python 3.11 differ by up to 3 % (streamed piece), 3.11 and 3.13 by 4 % (request) to 17 %
NEAR_LIMIT, FAR_LIMIT = 1.06, 1.2
CEILING = 60_000  # per request with all features, design goal
OURS = "lunaroute/_fast"

Figures = dict[str, dict[str, float]]


class Count(NamedTuple):
    """Instructions of one phase, or the difference of two, by object file and by function of it."""

    objects: Counter[str]
    functions: Counter[tuple[str, str]]

    @property
    def total(self) -> int:
        return self.objects.total()


def main() -> int:
    """Exit code: 0 all is well, 1 more instructions than allowed, 2 it cannot be counted here."""
    options = _options()
    if sys.platform != "linux":
        print("instructions are counted on Linux only: there is no valgrind for this system")
        return 0
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        print("instructions cannot be counted: valgrind is missing (apt install valgrind)", file=sys.stderr)
        return 2
    counts = differences(count(valgrind))
    found = {name: per_unit(name, each) for name, each in counts.items()}
    if options.functions:
        _print_functions(counts)
    known: dict[str, Figures] = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    here = toolchain()
    if options.update:
        update(known, here, found)
        FIGURES.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
    print(f"instructions with {here}")
    return compare(found, known, here)


def update(known: dict[str, Figures], here: str, found: Figures) -> None:
    """Keep what was found; what was counted with other toolchains moves along."""
    for name, parts in found.items():
        before = known.get(here, {}).get(name, {}).get("total")
        if not before:
            continue
        for other in known.values():
            if name in other:
                other[name]["total"] = round(other[name]["total"] * parts["total"] / before, 1)
    known[here] = found


def nearest(known: dict[str, Figures], here: str) -> tuple[str, float]:
    """The toolchain most like this one, and how much more its figures allow."""

    def python(name: str) -> str:
        return name.rpartition(" (")[0].rpartition(".")[0]

    best = max(
        known, key=lambda name: (python(name) == python(here), len(set(name.split(", ")) & set(here.split(", "))))
    )
    return best, NEAR_LIMIT if python(best) == python(here) else FAR_LIMIT


def compare(found: Figures, known: dict[str, Figures], here: str) -> int:
    """Prints each figure beside the committed one. 1 where one has grown past its limit."""
    base, limit = known.get(here), LIMIT
    if base is None and known:
        name, limit = nearest(known, here)
        base = known[name]
        print(f"This toolchain has no committed figures. Those of {name}\nserve, with {limit - 1:.0%} instead of 3 %.")
    bad = False
    for name, parts in found.items():
        total, before = parts["total"], (base or {}).get(name, {}).get("total")
        words = _verdict(name, total, before, limit)
        bad |= words.startswith("FAILED")
        change = "new" if before is None else f"{total / before - 1:+.2%}"
        ours = parts["ours"]
        print(f"{name:32} {total:9,.0f}  (our own code {ours:7,.0f})  {change} {words}")
        if words.startswith("FAILED") and base is not None and name in base:
            _print_growth(parts, base[name])
    if bad:
        print("If the cost is worth it, say why in the commit and run: python -m benchmarks.instructions --update")
    return int(bad)


def _verdict(name: str, total: float, before: float | None, limit: float) -> str:
    if name.startswith("request") and total > CEILING:
        return f"FAILED: above the ceiling of {CEILING:,}"
    if before is None:
        return ""
    if total > before * limit:
        return f"FAILED: more than {limit - 1:.0%} above the committed figure"
    return "less: --update keeps it" if limit == LIMIT and total < before / LIMIT else ""


def count(valgrind: str) -> list[Count]:
    """One count for each of the driver's phases."""
    environ = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    environ |= {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C"}
    tool = [valgrind, "--tool=callgrind", "--dump-before=getppid", "--compress-strings=no", "--compress-pos=no"]
    with tempfile.TemporaryDirectory(prefix="instructions-") as folder:
        out = Path(folder) / "out"
        done = subprocess.run(
            [*tool, f"--callgrind-out-file={out}", sys.executable, "-m", "benchmarks.driver"],
            env=environ,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"the driver failed under valgrind:\n{done.stderr[-3000:]}")
        wanted = len(driver.phases())
        # part 1 is all before the first mark; part n + 2 is phase n
        return [_read(out.with_name(f"out.{part + 2}")) for part in range(wanted)]


def differences(counts: list[Count]) -> dict[str, Count]:
    """What the longer phase of each pair has more than the shorter one."""
    phases = driver.phases()
    found = {}
    for at in range(0, len(phases), 2):
        short, long = counts[at], counts[at + 1]
        objects, functions = Counter(long.objects), Counter(long.functions)
        objects.subtract(short.objects)
        functions.subtract(short.functions)
        found[phases[at].name] = Count(objects, functions)
    return found


def units(name: str) -> int:
    """How many requests, or pieces, the difference of a pair holds."""
    short, long = (phase for phase in driver.phases() if phase.name == name)
    return long.rounds - short.rounds if short.chunks == 0 else short.rounds * (long.chunks - short.chunks)


def per_unit(name: str, each: Count) -> dict[str, float]:
    """The figures that are kept: the total, our own extension modules', and each object file's."""
    n = units(name)
    largest = [(path, cost / n) for path, cost in each.objects.most_common() if cost >= n]
    objects = {Path(path).name.split(".")[0]: round(cost, 1) for path, cost in largest}
    ours = sum(cost for path, cost in each.objects.items() if OURS in path)
    return {"total": round(each.total / n, 1), "ours": round(ours / n, 1), **objects}


def toolchain() -> str:
    """All that decides which instructions there are, beside our own sources."""
    build = sys.version.split()[0], platform.python_compiler().replace("GCC ", "gcc ")
    cc = subprocess.run(["cc", "-dumpfullversion", "-dumpversion"], capture_output=True, text=True, check=False).stdout
    parts = [
        f"Python {build[0]} ({build[1]})", f"cc {cc.strip() or 'unknown'}", " ".join(platform.libc_ver()),
        f"httptools {version('httptools')}", f"Cython {_cython()}", platform.machine(),
    ]  # fmt: skip
    return ", ".join(parts)


def _cython() -> str:
    """The version that wrote the C file of the relay."""
    source = ROOT / "lunaroute" / "_fast" / "relay.c"
    if not source.exists():
        return "unknown"
    with source.open(encoding="utf-8", errors="replace") as lines:
        found = re.match(r"/\* Generated by Cython (\S+) \*/", lines.readline())
    return found[1] if found else "unknown"


def _read(path: Path) -> Count:
    """A callgrind file with neither names nor positions compressed: only self costs count."""
    objects: Counter[str] = Counter()
    functions: Counter[tuple[str, str]] = Counter()
    where = name = "?"
    of_callee = False
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("ob="):
                where = line[3:].strip()
            elif line.startswith("fn="):
                name = line[3:].strip()
            elif line.startswith("calls="):
                of_callee = True
            elif line[:1].isdigit():
                if not of_callee:
                    cost = int(line.split()[1])
                    objects[where] += cost
                    functions[Path(where).name.split(".")[0], name.split("'")[0]] += cost
                of_callee = False
    return Count(objects, functions)


def _print_functions(counts: dict[str, Count]) -> None:
    for name, each in counts.items():
        print(f"\n{name}")
        for (where, function), cost in each.functions.most_common(25):
            print(f"{cost / units(name):10.1f}  {where:12} {function}")
    print()


def _print_growth(parts: dict[str, float], before: dict[str, float]) -> None:
    for part in sorted(parts.keys() - {"total", "ours"}, key=lambda part: before.get(part, 0) - parts[part])[:4]:
        print(f"    {part}: {before.get(part, 0):,.0f} -> {parts[part]:,.0f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions")
    parser.add_argument("--update", action="store_true", help="keep what is counted now as the figures to compare with")
    parser.add_argument("--functions", action="store_true", help="print the functions that cost the most")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
