"""The configuration: flag beats environment beats file beats default. Strict: what is not understood is an error.

`load` is the way in. Nothing here opens a socket, makes a folder or writes a file. A file in the working directory is
never read unless it is named: a cloned repository must not choose where credentials go (security.md L5).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from lunaroute.config.check import Draft
from lunaroute.config.settings import (
    PATH_KEYS,
    SECRET_KEYS,
    SETTINGS,
    Bypass,
    CodexAuth,
    Config,
    HttpClient,
    Limits,
    Logging,
    Provider,
    SessionRecording,
    Ui,
    general,
)
from lunaroute.config.source import (
    VENDORS,
    Entries,
    Entry,
    YamlFile,
    from_environment,
    from_flags,
    unknown_variables,
    vendor_key,
)
from lunaroute.errors import ConfigError
from lunaroute.folders import absolute, config_file, home_folder

__all__ = [
    "SETTINGS",
    "Bypass",
    "CodexAuth",
    "Config",
    "ConfigError",
    "HttpClient",
    "Limits",
    "Loaded",
    "Logging",
    "Provider",
    "SessionRecording",
    "Ui",
    "fingerprint",
    "flat",
    "load",
    "plain",
]

MASK = "***"
CREDENTIAL = re.compile(r"auth|key|token|cookie|secret|pass|cred|sign", re.IGNORECASE)  # names of headers
SHORT = 8  # a shorter credential would be found inside ordinary words


class Loaded(NamedTuple):
    """A checked configuration and where it came from.

    origins: for each concrete key `flag --port`, `env LUNAROUTE_PORT`, `<file>:<line>` or `default`.
    secrets: configured credentials, for exact masking. warnings: sentences that stop nothing.
    """

    config: Config
    origins: dict[str, str]
    secrets: list[str]
    file: Path | None
    home: Path
    warnings: list[str]


def load(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Loaded:
    """Reads and checks everything, or raises a ConfigError that names each problem on a line of its own."""
    home = home_folder(environ)
    found = config_file(str(file) if file is not None else None, environ)
    entries: Entries = {}
    problems: list[str] = []
    if found is not None:
        source = YamlFile(found, environ)
        entries, problems = source.entries, source.problems
    names = list(dict.fromkeys([*VENDORS, *(key.split(".")[1] for key in entries if key.startswith("providers."))]))
    _fill_keys(entries, environ, names)
    for layer in (from_environment(environ, names), from_flags(flags)):
        _paths_from_here(layer, environ)
        entries |= layer
    draft = Draft(entries, problems, names)
    config = draft.config(_Places(found.parent if found else Path.cwd(), home, environ).full)
    if draft.problems:
        raise ConfigError("\n".join(draft.problems))
    secrets = _secrets(config)
    return Loaded(
        config=config,
        origins=draft.origins,
        secrets=secrets,
        file=found,
        home=home,
        warnings=[*draft.warnings, *unknown_variables(environ, names), *_open_file(found, draft, secrets)],
    )


def plain(config: Config, mask: bool = True) -> dict[str, Any]:
    """The configuration as plain values; credentials as `***` unless told otherwise."""
    tree: dict[str, Any] = msgspec.to_builtins(config)
    if mask:
        for provider in tree["providers"].values():
            provider["api_key"] = MASK if provider["api_key"] else None
            headers = provider["headers"]
            provider["headers"] = {name: MASK if CREDENTIAL.search(name) else headers[name] for name in headers}
        tree["access_tokens"] = [MASK for _ in tree["access_tokens"]]
        pii = tree["session_recording"]["pii"]
        pii["key"] = MASK if pii["key"] else None
    return tree


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{concrete key: value} of a tree made by `plain`."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        key = prefix + name
        if isinstance(value, dict) and general(key) not in SETTINGS:
            found |= flat(value, key + ".")
        else:
            found[key] = value
    return found


def fingerprint(config: Config) -> str:
    """A short word that changes with the configuration (not with a credential: nothing is kept of those)."""
    return hashlib.sha256(msgspec.json.encode(plain(config), order="sorted")).hexdigest()[:16]


def _fill_keys(entries: Entries, environ: Mapping[str, str], names: list[str]) -> None:
    """The vendors' own variables fill in where the file names no key (they do not beat the file: each named
    provider may have an account of its own)."""
    for name in names:
        kind = entries.get(f"providers.{name}.type", Entry(name, "", False)).value
        key = f"providers.{name}.api_key"
        if kind in VENDORS and name in VENDORS and (key not in entries or entries[key].value is None):
            filled = vendor_key(environ, kind)
            if filled:
                entries[key] = filled


def _paths_from_here(layer: Entries, environ: Mapping[str, str]) -> None:
    """A relative path in the environment or a flag means: from the working directory."""
    for key, entry in layer.items():
        if general(key) in PATH_KEYS:
            layer[key] = entry._replace(value=absolute(entry.value, Path.cwd(), environ))


class _Places(NamedTuple):
    """Paths in full: defaults move with the home folder, relative ones mean from the folder of the file."""

    base: Path
    home: Path
    environ: Mapping[str, str]

    def full(self, key: str, value: str, origin: str) -> str:
        if origin == "default" and value.startswith("~/.lunaroute/"):
            return str(self.home / value.removeprefix("~/.lunaroute/"))
        if origin == "default" and value.startswith("~/.codex/") and self.environ.get("CODEX_HOME"):
            value = self.environ["CODEX_HOME"] + value.removeprefix("~/.codex")
        return absolute(value, self.base, self.environ)


def _secrets(config: Config) -> list[str]:
    values = [*config.access_tokens, config.session_recording.pii.key or ""]
    for provider in config.providers.values():
        values.append(provider.api_key or "")
        values += [value for name, value in provider.headers.items() if CREDENTIAL.search(name)]
    return [value for value in dict.fromkeys(values) if len(value) >= SHORT]


def _texts(value: object) -> list[str]:
    """The texts in a value of the file, whatever its shape."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, str)]


def _open_file(file: Path | None, draft: Draft, secrets: list[str]) -> list[str]:
    """A warning where a file with a credential in it can be read by others."""
    if file is None or not file.is_file() or not file.stat().st_mode & 0o044:
        return []
    written = [
        key
        for key, entry in draft.entries.items()
        if general(key) in SECRET_KEYS and entry.origin.startswith(f"{file}:") and not entry.lax
        if not set(secrets).isdisjoint(_texts(entry.value))
    ]
    return [f"{file} holds a credential ({written[0]}) and others can read it: chmod 600 {file}"] if written else []
