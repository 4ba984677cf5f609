"""README.md says what the program does: its tables, commands, options, files and queries are compared with the code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lunaroute.cli.app import COMMANDS, program
from lunaroute.cli.shell import SHELLS, statements, usage
from lunaroute.config import load
from lunaroute.config.settings import DEFAULT_TEXT, KEY_ENV, OTHER_ENV, SETTINGS, Setting
from lunaroute.observe.metrics import Metrics, labels
from lunaroute.readiness import UNREACHABLE_S
from lunaroute.records import State

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
QUERY = """SELECT model_used, COUNT(*), SUM(input_tokens), SUM(output_tokens)
FROM sessions
WHERE started_at > datetime('now', '-7 days')
GROUP BY model_used;"""


def default(row: Setting) -> str:
    """A default as the table writes it."""
    if row.key in DEFAULT_TEXT:
        return DEFAULT_TEXT[row.key]
    words = {"True": "true", "False": "false", "None": "none", "[]": "none", "{}": "none"}
    return words.get(str(row.default), f"{row.default:g}" if isinstance(row.default, float) else str(row.default))


def rows(heading: str) -> list[str]:
    """The rows of the table that begins with this heading."""
    lines = README.splitlines()
    start = lines.index(heading) + 2
    end = next(i for i in range(start, len(lines)) if not lines[i].startswith("|"))
    return lines[start:end]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_table_of_settings() -> None:
    expected = [f"| `{r.key}` | {r.text} | {r.expected} | {default(r)} |" for r in SETTINGS.values()]
    assert rows("| setting | what it is | value | default |") == expected


def test_the_table_of_variables() -> None:
    found = rows("| variable | sets | flag |")
    expected = [f"| `{r.env[0]}` | `{r.key}` | {f'`{r.flag}`' if r.flag else ''} |" for r in SETTINGS.values() if r.env]
    assert found[: len(expected)] == expected
    assert [row.split("`")[1] for row in found[len(expected) :]] == [*KEY_ENV.values(), *OTHER_ENV]


def test_the_table_of_metrics() -> None:
    """The labels in it are compared with a real scrape in tests/test_metrics.py."""
    found = [row.split(" | ") for row in rows("| family | type | labels | what it says |")]
    expected = []
    for family in text_string_to_metric_families(Metrics([], dict).text().decode()):
        suffix = "_total" if family.type == "counter" else ""
        expected.append((f"| `{family.name}{suffix}`", family.type, f"{family.documentation} |"))
    assert [(row[0], row[1], row[-1]) for row in found] == expected


def test_the_bounds_of_labels() -> None:
    bounds = f"{labels.MODELS} models, {labels.TOOLS} tools, {labels.ACCOUNTS} accounts (a digest) and {labels.WINDOWS}"
    assert bounds in README and f"{UNREACHABLE_S:.0f} seconds, stores" in README


def commands() -> Iterator[list[str]]:
    """Each `lunaroute ...` of the page, from its blocks and its text."""
    shown = [line.partition("#")[0] for block in (*blocks("bash"), *blocks("console")) for line in block.splitlines()]
    shown += re.findall(r"`(lunaroute[^`]*)`", README)
    for text in shown:
        for found in re.findall(r"(?:^|\$\(|\$ )lunaroute((?: +[a-z][a-z-]*| +-{1,2}[a-z-]+)*)", text.strip()):
            yield shlex.split(found)


WORDS = sorted({tuple(words) for words in commands() if words})


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_every_command_and_option_exists(words: tuple[str, ...]) -> None:
    command: click.Command = program
    rest = list(words)
    while rest and isinstance(command, click.Group):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, rest[0]
        command = found
        rest.pop(0)
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
    assert {word for word in rest if word.startswith("-")} <= known


def test_every_command_is_in_the_table() -> None:
    named = " ".join(rows("| command | what it does |"))
    assert [name for name in COMMANDS if f"`lunaroute {name}" not in named] == []


def test_the_lines_for_each_shell_are_the_ones_that_env_names() -> None:
    page = "\n".join(blocks("bash"))
    assert all(usage(shell) in page for shell in SHELLS)
    text = statements("posix", "http://127.0.0.1:8081").splitlines()
    assert "\n".join(text[:2]) in README


def test_every_file_that_is_named_is_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    named = re.findall(r"`((?:lunaroute|tests|examples)/[^`*<>]*)`", README)
    assert [path for path in (*links, *named) if not (ROOT / path).exists()] == []


def test_every_make_target_is_there() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"\bmake ([a-z]+)", README)
    assert {"run", "test"} <= set(named) <= set(targets)


@pytest.mark.parametrize("number", range(len(blocks("yaml"))))
def test_every_yaml_block_loads(number: int, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(blocks("yaml")[number])
    file.chmod(0o600)
    assert load(file, {"HOME": str(tmp_path)}, {}).warnings == []


def test_the_query_is_the_promised_one() -> None:
    assert blocks("sql") == [f"{QUERY}\n"]


def test_the_states_are_all_named() -> None:
    text = README[README.index("and how it ended:") :]
    assert re.findall(r"`([a-z_]+)`", text)[: len(State)] == [state.value for state in State]


def test_the_variables_in_the_text_exist() -> None:
    known = {name for row in SETTINGS.values() for name in row.env} | set(OTHER_ENV) | set(KEY_ENV.values())
    known |= {name.replace("<NAME>", vendor) for name in known for vendor in ("OPENAI", "ANTHROPIC")}
    assert {name for name in re.findall(r"LUNAROUTE_[A-Z_<>]+", README)} <= known
