"""The directions in which modules may know each other, by their source and by what importing them really loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import lunaroute

ROOT = Path(lunaroute.__file__).parent
IO = {
    "asyncio",
    "socket",
    "threading",
    "time",
    "sqlite3",
    "select",
    "selectors",
    "subprocess",
    "multiprocessing",
    "uvloop",
}
PURE = ("wire", "dialects", "routing")
BOTTOM = {"_fast": set(), "errors": set(), "records": set(), "tap": {"_fast"}}
EXPORTS_KNOW = {"stores.rows", "stores.lines", "ui", "ui.content", "ui.format", "ui.transcript"}
BUILDERS = {"server", "observe.worker"}  # the only ones that build objects of several layers


def name_of(file: Path) -> str:
    """`proxy.pool` for lunaroute/proxy/pool.py."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    return {name_of(file): file for file in sorted(ROOT.rglob("*.py"))}


def type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(tree: ast.AST) -> set[str]:
    """Full names of what is imported anywhere in the file, also inside functions; not for type checking alone."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if type_checking(node):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        found |= imports(node)
    return found


@cache
def known(name: str) -> frozenset[str]:
    """Our modules that a module imports, by their names below lunaroute."""
    found = set()
    for each in imports(ast.parse(modules()[name].read_text())):
        if each.startswith("lunaroute."):
            found.add(ours(each.removeprefix("lunaroute.")))
    return frozenset(found - {name})


def ours(name: str) -> str:
    """The module in which an imported name lives: `proxy.pool` for `proxy.pool.Pool`."""
    if package(name) == "_fast":
        return "_fast"
    while name and name not in modules():
        name = name.rpartition(".")[0]
    return name


def package(name: str) -> str:
    return name.partition(".")[0]


def reach(name: str) -> set[str]:
    """All that importing a module can come to, ours."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        for each in known(waiting.pop()) - seen:
            seen.add(each)
            if each in modules():
                waiting.append(each)
    return seen


def of(*packages: str) -> list[str]:
    return [name for name in modules() if package(name) in packages]


@pytest.mark.parametrize("bottom", BOTTOM)
def test_the_bottom_knows_nothing_above(bottom: str) -> None:
    for name in of(bottom):
        others = {package(each) for each in known(name)} - {bottom, ""}
        assert others <= BOTTOM[bottom], f"{name} imports {others}"


def test_the_compiled_modules_import_only_each_other() -> None:
    for file in (ROOT / "_fast").glob("*.p[yx]*"):
        if file.suffix not in (".pyx", ".pxd"):
            continue
        for line in file.read_text().splitlines():
            words = line.split()
            # `from lunaroute import tap` of the ring's reader: the names of its counters
            if words[:1] in (["from"], ["import"], ["cimport"]) and words[1].startswith("lunaroute"):
                ours = words[1].startswith("lunaroute._fast") or words == ["from", "lunaroute", "import", "tap"]
                assert ours, f"{file.name}: {line}"


@pytest.mark.parametrize("name", of(*PURE))
def test_rules_are_without_io_and_without_a_clock(name: str) -> None:
    loaded = {each.partition(".")[0] for each in imports(ast.parse(modules()[name].read_text()))}
    assert not loaded & IO


@pytest.mark.parametrize("name", of("proxy"))
def test_the_data_path_never_reaches_what_records(name: str) -> None:
    assert not {package(each) for each in reach(name)} & {"observe", "stores", "ui", "server", "cli"}


@pytest.mark.parametrize("name", of("observe", "stores", "ui"))
def test_what_records_never_reaches_the_data_path(name: str) -> None:
    assert not {package(each) for each in reach(name)} & {"proxy", "routing", "server"}


@pytest.mark.parametrize("name", of("stores"))
def test_stores_do_not_know_the_observer(name: str) -> None:
    assert not {package(each) for each in reach(name)} & {"observe", "ui"}


@pytest.mark.parametrize("name", of("export"))
def test_exports_are_pure(name: str) -> None:
    assert {package(each) for each in known(name)} <= {"export", "records", "dialects", "wire", "stores", "ui"}
    assert {each for each in known(name) if package(each) in ("stores", "ui")} <= EXPORTS_KNOW
    loaded = {each.partition(".")[0] for each in imports(ast.parse(modules()[name].read_text()))}
    assert not loaded & {*IO, "os", "pathlib"}


def test_only_the_builders_know_several_layers() -> None:
    layers = {"proxy", "observe", "stores", "ui"}
    for name in modules():
        if name in BUILDERS or package(name) == "cli":
            continue
        others = {package(each) for each in known(name)} & layers - {package(name)}
        # the pages read the record: that is what they are for
        assert (
            not others
            or (package(name) == "ui" and others == {"stores"})
            or package(name) == "export"
            or (package(name) == "observe" and others == {"stores"} and name == "observe.sink")
        ), f"{name} knows {others}"


LOADS = {
    "lunaroute.proxy.plans": {"sqlite3", "starlette", "uvicorn", "jinja2", "rich", "prometheus_client", "zstandard"},
    "lunaroute.server": {"sqlite3", "starlette", "uvicorn", "jinja2", "rich", "prometheus_client", "zstandard"},
    "lunaroute.stores.sqlite": {"uvloop", "httptools", "asyncio"},
    "lunaroute.routing.router": {"asyncio", "uvloop", "sqlite3"},
    "lunaroute.dialects.canonical": {"asyncio", "socket", "sqlite3"},
    "lunaroute.observe.observer": {"uvloop", "httptools", "lunaroute._fast.relay"},
}


@pytest.mark.parametrize("module", LOADS)
def test_importing_loads_only_what_the_layer_may_know(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert module in loaded
    assert not loaded & LOADS[module]
    layers = {name.split(".")[1] for name in loaded if name.startswith("lunaroute.")}
    if package(module.removeprefix("lunaroute.")) in ("proxy", "server"):
        assert not layers & {"observe", "stores", "ui"}
    else:
        assert not layers & {"proxy", "server"}


@pytest.mark.parametrize("name", [name for name in modules() if modules()[name].stat().st_size])
def test_each_module_says_what_it_is(name: str) -> None:
    tree = ast.parse(modules()[name].read_text())
    assert ast.get_docstring(tree), "a docstring on each module"
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


@pytest.mark.parametrize("name", modules())
def test_no_module_is_a_book(name: str) -> None:
    assert len(modules()[name].read_text().splitlines()) <= 600
