"""Where values come from: a YAML file with its line numbers, the environment, the flags. Not yet checked.

Each source yields entries {concrete key: Entry}. All that is wrong in a file is collected, not only the first thing.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import yaml

from lunaroute.config.settings import (
    ENV,
    FLAGS,
    KEY_ENV,
    OTHER_ENV,
    SETTINGS,
    Config,
    Provider,
    fields,
    general,
    item_of,
    section,
)
from lunaroute.errors import ConfigError

PROVIDER_NAME = re.compile(r"\A[a-z0-9][a-z0-9_-]{0,63}\Z")
VARIABLE = re.compile(r"\$(\$?)\{([^}]*)\}?")
VARIABLE_NAME = re.compile(r"\A[A-Za-z_][A-Za-z0-9_]*\Z")
MAX_FILE_BYTES = 1 << 20


class Entry(NamedTuple):
    """A value as found. `lax`: it came as text (environment, `${VAR}`), so "8090" may stand for a number."""

    value: Any
    origin: str
    lax: bool


Entries = dict[str, Entry]


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?`, or the list of what there is."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else f"; valid here: {', '.join(known)}"


def read_text(file: Path) -> str:
    """The file's text, or a ConfigError that says why it cannot be used."""
    try:
        with file.open("rb") as stream:
            info = os.fstat(stream.fileno())
            if not stat.S_ISREG(info.st_mode) and not stat.S_ISFIFO(info.st_mode) and str(file) != "/dev/stdin":
                raise ConfigError(f"{file}: not a file; expected a YAML file")
            if stat.S_ISREG(info.st_mode) and info.st_mode & stat.S_IWOTH:
                raise ConfigError(f"{file}: everybody may write this file; expected mode 600: chmod 600 {file}")
            raw = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"{file}: larger than {MAX_FILE_BYTES} bytes; expected a small YAML file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}: not UTF-8 text; expected a YAML file in UTF-8") from None


class YamlFile:
    """One configuration file, read into entries; `problems` are sentences that begin with `file:line: key:`."""

    def __init__(self, file: Path, environ: Mapping[str, str]) -> None:
        self.file = file
        self.entries: Entries = {}
        self.problems: list[str] = []
        self._environ = environ
        text = read_text(file)
        try:
            self._loader = yaml.SafeLoader(text)
            root = self._loader.get_single_node()
            if root is not None:
                self._section(root, Config, "")
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            said = ", ".join(part for part in (error.context, error.problem) if part)
            raise ConfigError(f"{file}:{line}: not valid YAML: {said}") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigError(f"{file}: not valid YAML: {said}") from None

    def _problem(self, node: yaml.Node, key: str, text: str) -> None:
        self.problems.append(f"{self._origin(node)}: {key}: {text}" if key else f"{self._origin(node)}: {text}")

    def _origin(self, node: yaml.Node) -> str:
        return f"{self.file}:{node.start_mark.line + 1}"

    def _pairs(self, node: yaml.Node, key: str) -> list[tuple[str, yaml.Node, yaml.Node]]:
        """(name, key node, value node) of a mapping; an empty section (`ui:`) is an empty mapping."""
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
            return []
        if not isinstance(node, yaml.MappingNode):
            self._problem(node, key, f"expected a mapping (`key: value` lines), got {_shape(node)}")
            return []
        seen: set[str] = set()
        for name, _ in node.value:  # before merge keys are resolved: those may repeat a name on purpose
            if isinstance(name, yaml.ScalarNode) and name.tag != "tag:yaml.org,2002:merge":
                if name.value in seen:
                    self._problem(name, f"{key}{'.' if key else ''}{name.value}", "given twice; expected once")
                seen.add(name.value)
        self._loader.flatten_mapping(node)
        pairs = {}
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode):
                pairs[name.value] = (name.value, name, value)
            else:
                self._problem(name, key, "expected a plain name as key")
        return list(pairs.values())

    def _section(self, node: yaml.Node, struct: type[Any], prefix: str) -> None:
        known = fields(struct)
        for name, name_node, value in self._pairs(node, prefix.rstrip(".")):
            key = prefix + name
            if name not in known:
                self._problem(name_node, key, f"unknown key{nearest(name, known)}")
            elif key == "providers":
                self._providers(value)
            elif inner := section(known[name]):
                self._section(value, inner, key + ".")
            else:
                self._leaf(name_node, value, key)

    def _providers(self, node: yaml.Node) -> None:
        for name, name_node, value in self._pairs(node, "providers"):
            key = f"providers.{name}"
            if not PROVIDER_NAME.match(name):
                self._problem(name_node, key, "expected a name of small letters, digits, - and _")
                continue
            self.entries[key] = Entry(None, self._origin(name_node), False)
            self._section(value, Provider, key + ".")

    def _leaf(self, name_node: yaml.Node, node: yaml.Node, key: str) -> None:
        self._repeats(node, key)
        self._items(node, key)
        value = self._loader.construct_object(node, deep=True)
        found: list[str] = []
        try:
            expanded = self._expand(value, found)
        except ConfigError as error:
            self._problem(node, key, str(error))
            return
        variables = "".join(f" (${{{name}}})" for name in dict.fromkeys(found))
        self.entries[key] = Entry(expanded, self._origin(name_node) + variables, bool(found))

    def _repeats(self, node: yaml.Node, key: str) -> None:
        if isinstance(node, yaml.MappingNode):  # `headers`: the same care as in sections
            self._pairs(node, key)

    def _items(self, node: yaml.Node, key: str) -> None:
        """The items of a list of mappings: their names are checked, and where each stands is kept (as `key[0]`)."""
        item = item_of(SETTINGS[general(key)].type)
        if item is None or not isinstance(node, yaml.SequenceNode):
            return
        known = fields(item)
        for number, each in enumerate(node.value):
            self.entries[f"{key}[{number}]"] = Entry(None, self._origin(each), False)
            for name, name_node, _ in self._pairs(each, f"{key}[{number}]"):
                if name not in known:
                    self._problem(name_node, f"{key}[{number}].{name}", f"unknown key{nearest(name, known)}")

    def _expand(self, value: Any, found: list[str]) -> Any:
        if isinstance(value, str):
            return VARIABLE.sub(lambda match: self._variable(match, found), value)
        if isinstance(value, list):
            return [self._expand(item, found) for item in value]
        if isinstance(value, dict):  # in values only, never in names
            return {name: self._expand(item, found) for name, item in value.items()}
        return value

    def _variable(self, match: re.Match[str], found: list[str]) -> str:
        doubled, name = match[1], match[2]
        if doubled:  # `$${NAME}` stands for the text `${NAME}`
            return match[0][1:]
        if not match[0].endswith("}") or not VARIABLE_NAME.match(name):
            raise ConfigError("expected ${NAME} with the name of an environment variable ($${ for a plain ${)")
        if name not in self._environ:
            raise ConfigError(f"environment variable {name} is not set; set it, or take ${{{name}}} out")
        found.append(name)
        return self._environ[name]


def _shape(node: yaml.Node) -> str:
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


def variable_name(name: str) -> str:
    """A provider's name as it stands in environment names: `anthropic-backup` -> `ANTHROPIC_BACKUP`."""
    return name.upper().replace("-", "_")


def from_environment(environ: Mapping[str, str], providers: Iterable[str]) -> Entries:
    """What the environment sets. A variable that is set but empty counts as not set."""
    entries: Entries = {}
    for name in providers:
        general = {key: names for key, names in ENV.items() if "<name>" in key}
        for key, names in general.items():
            for variable in names:
                _take(entries, environ, key.replace("<name>", name), variable.replace("<NAME>", variable_name(name)))
    for key, names in ENV.items():
        for variable in names:
            if "<name>" not in key:
                _take(entries, environ, key, variable)
    return entries


def _take(entries: Entries, environ: Mapping[str, str], key: str, variable: str) -> None:
    if environ.get(variable):
        entries[key] = Entry(environ[variable], f"env {variable}", True)


def unknown_variables(environ: Mapping[str, str], providers: Iterable[str]) -> list[str]:
    """One sentence for each LUNAROUTE_ variable that nothing reads: most often a slip of the pen."""
    known = set(OTHER_ENV) | {"LUNAROUTE_DEBUG"}
    for names in ENV.values():
        for name in names:
            known |= {name.replace("<NAME>", variable_name(provider)) for provider in providers}
    strange = [name for name in environ if name.startswith("LUNAROUTE_") and name not in known]
    return [f"environment variable {name} is not read by LunaRoute{_similar(name, known)}" for name in sorted(strange)]


def _similar(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.8)
    return f'; did you mean "{close[0]}"?' if close else ""


def from_flags(flags: Mapping[str, object]) -> Entries:
    """What the command line sets; None means not given."""
    return {
        key: Entry(value, f"flag {flag_name(key, value)}", True) for key, value in flags.items() if value is not None
    }


def flag_name(key: str, value: object) -> str:
    """The flag as typed: `--no-ui` where False was given."""
    names = FLAGS[key].split("/")
    return names[-1] if value is False else names[0]


def vendor_key(environ: Mapping[str, str], vendor: str) -> Entry | None:
    """The vendor's own key variable."""
    variable = KEY_ENV[vendor]
    return Entry(environ[variable], f"env {variable}", True) if environ.get(variable) else None


VENDORS: tuple[str, ...] = get_args(fields(Provider)["type"].__origin__)
