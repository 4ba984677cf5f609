"""From entries to a checked Config: each value against its type, then what must fit together.

Pure but for one look into a `ca_file`. Every problem names the origin (file and line, variable or flag),
the key, and what was expected.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from lunaroute.config.settings import (
    ANTHROPIC_URL,
    CHATGPT_URL,
    OPENAI_URL,
    PATH_KEYS,
    SECRET_KEYS,
    SETTINGS,
    Config,
    general,
)
from lunaroute.config.source import VENDORS, Entries, Entry, nearest

HEADER_NAME = re.compile(r"\A[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
HEADER_VALUE = re.compile(r"\A[\x20-\x7e\t]*\Z")
# Framing and routing are the proxy's own; a config must not be able to break them.
OWN_HEADERS = frozenset(
    {"connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"}
    | {"transfer-encoding"}
)
HOST = re.compile(r"\A(?!-)[A-Za-z0-9._-]+\Z|\A[0-9A-Fa-f:.]+\Z")
Place = Callable[[str, str, str], str]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


class Draft:
    """The entries on their way to a Config. `problems` and `warnings` grow; `origins` is whole after `config`."""

    def __init__(self, entries: Entries, problems: list[str], names: list[str]) -> None:
        self.entries = entries
        self.problems = problems
        self.warnings: list[str] = []
        self.origins: dict[str, str] = {}
        self._names = names

    def config(self, place: Place) -> Config:
        """The Config; meaningless if there are problems."""
        tree: dict[str, Any] = {}
        for row in SETTINGS.values():
            if "<name>" not in row.key:
                _put(tree, row.key, self._value(row.key, row.default, place))
        tree["providers"] = {name: self._provider(name, place) for name in self._names}
        if self.problems:
            return Config()
        tree["host"], tree["ui"]["host"] = tree["host"].strip("[]"), tree["ui"]["host"].strip("[]")
        config = msgspec.convert(tree, Config)
        self._listeners(config)
        self._redaction(config)
        self._not_yet(config)
        for name in self._names:
            self._destinations(config, name)
        return config

    def _bad(self, key: str, text: str, place: str | None = None) -> None:
        """place: the key whose line is meant, where it is another one."""
        entry = self.entries.get(place or key)
        origin = self.origins.get(place or key) or (entry.origin if entry else "default")
        self.problems.append(f"{origin}: {key}: {text}")

    def _value(self, key: str, default: Any, place: Place) -> Any:
        row = SETTINGS[general(key)]
        entry = self.entries.get(key, Entry(default, "default", False))
        self.origins[key] = entry.origin
        value = entry.value
        if entry.origin != "default":
            try:
                value = msgspec.convert(value, row.type, strict=not entry.lax)
            except msgspec.ValidationError:
                self._bad(key, f"expected {row.expected}, got {_shown(row.key, value)}")
                return default
        return place(key, value, entry.origin) if row.key in PATH_KEYS and value else value

    def _provider(self, name: str, place: Place) -> dict[str, Any]:
        prefix, tree = f"providers.{name}.", dict[str, Any]()
        kind = self._type(name)
        addresses = {
            "base_url": ANTHROPIC_URL if kind == "anthropic" else OPENAI_URL,
            "chatgpt_base_url": "" if kind == "anthropic" else CHATGPT_URL,
        }
        for row in SETTINGS.values():
            if row.key.startswith("providers.<name>.") and row.key != "providers.<name>.type":
                key = row.key.removeprefix("providers.<name>.")
                _put(tree, key, self._value(prefix + key, addresses.get(key, row.default), place))
        tree["type"] = kind
        self._provider_facts(name, tree)
        return tree

    def _type(self, name: str) -> str:
        """A provider's type: implied for the two vendors' names, asked for otherwise."""
        key = f"providers.{name}.type"
        given = self.entries.get(key)
        self.origins[key] = given.origin if given else "default"
        if given is None and name not in VENDORS:
            self.origins[f"providers.{name}"] = self.entries[f"providers.{name}"].origin
            self._bad(f"providers.{name}", "expected a `type` (openai or anthropic) beside a name of your own")
        elif given and given.value not in VENDORS:
            self._bad(key, f"expected openai or anthropic, got {_shown('', given.value)}")
        elif given and name in VENDORS and given.value != name:
            self._bad(key, f'expected {name}: the name "{name}" stands for that vendor; choose another name')
        elif given:
            return str(given.value)
        return name if name in VENDORS else "openai"

    def _provider_facts(self, name: str, tree: dict[str, Any]) -> None:
        prefix = f"providers.{name}."
        for key in ("base_url", "chatgpt_base_url"):
            if tree[key] or self.origins[prefix + key] != "default":
                self._address(prefix + key, tree[key])
        if tree["type"] == "anthropic":
            for key in ("chatgpt_base_url", "codex_auth.enabled"):
                if self.origins[prefix + key] != "default":
                    self._bad(prefix + key, "expected only beside type openai")
        if tree["auth"] == "config_only" and not tree["api_key"] and not tree["codex_auth"]["enabled"]:
            self._bad(prefix + "auth", "config_only needs a credential: expected `api_key` beside it")
        if tree["ca_file"] and (fault := _ca_fault(tree["ca_file"])):
            self._bad(prefix + "ca_file", f"expected a PEM file with certificates, {tree['ca_file']} {fault}")
        for header, value in tree["headers"].items():
            if not HEADER_NAME.match(header) or header.lower() in OWN_HEADERS:
                self._bad(prefix + "headers", f"expected a header name that may be set, got {_shown('', header)}")
            elif not HEADER_VALUE.match(value):
                self._bad(prefix + "headers", f"expected printable ASCII as value of {header}")

    def _address(self, key: str, url: str) -> None:
        try:
            parts = urlsplit(url)
            fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            fine = False
        if not fine or not url.isascii() or any(c <= " " or c == "\\" for c in url):
            self._bad(key, f"expected an address like {OPENAI_URL}")
        elif parts.username is not None or parts.query or parts.fragment or "?" in url or "#" in url:
            self._bad(key, "expected an address without user, query or fragment (credentials go into `api_key`)")
        elif parts.scheme == "http" and not is_loopback(str(parts.hostname)):
            self.warnings.append(f"{key}: credentials travel unencrypted to {parts.hostname}; https is safer")

    def _listeners(self, config: Config) -> None:
        for key, host in (("host", config.host), ("ui.host", config.ui.host)):
            if not HOST.match(host):
                self._bad(key, "expected an address or a host name, like 127.0.0.1")
            elif not is_loopback(host) and not config.access_tokens and (key == "host" or config.ui.enabled):
                self._bad(
                    key,
                    f"{host} can be reached from other machines and there are no `access_tokens`; expected 127.0.0.1,"
                    " or `access_tokens` in the config file",
                )
        if config.ui.enabled and config.ui.port == config.port:
            self._bad("ui.port", f"{config.port} is the proxy's own port; expected another one")
        for host in config.allowed_hosts:
            if not HOST.match(host):
                self._bad("allowed_hosts", f"expected host names without scheme, port or *, got {_shown('', host)}")

    def _redaction(self, config: Config) -> None:
        pii = config.session_recording.pii
        key = "session_recording.pii."
        kinds = {name.removeprefix("detect_") for name in type(pii).__struct_fields__ if name.startswith("detect_")}
        kinds = {"secret" if kind == "secrets" else kind for kind in kinds}
        names = [each.name for each in pii.custom_patterns]
        for number, each in enumerate(pii.custom_patterns):
            place = f"{key}custom_patterns[{number}]"
            if each.name in kinds or names.index(each.name) < number:
                self._bad(f"{place}.name", f'expected a name of its own, "{each.name}" is taken', place)
            self._pattern(f"{place}.pattern", each.pattern, place)
        for kind in pii.modes:
            if kind not in kinds and kind not in names:
                self._bad(f"{key}modes.{kind}", f"unknown kind{nearest(kind, {*kinds, *names})}", f"{key}modes")
        for entry in pii.allow:
            if len(entry) > 2 and entry.startswith("/") and entry.endswith("/"):
                self._pattern(f"{key}allow", entry[1:-1], f"{key}allow")
        if pii.vault and not _is_there("cryptography"):
            self._bad(f"{key}vault", "needs the package cryptography; install it: pip install 'lunaroute[vault]'")
        if pii.custom_patterns and not pii.enabled:
            self.warnings.append(f"{key}custom_patterns: nothing is looked for by them until {key}enabled is true")

    def _pattern(self, key: str, pattern: str, place: str) -> None:
        """As the redactor compiles it (observe/pii/rules.py); only where there is one, for re2 takes memory."""
        from lunaroute.config.patterns import compiled

        try:
            compiled(pattern)
        except ValueError as error:
            self._bad(key, f"expected a pattern that RE2 takes, got {_shown(key, pattern)}: {error}", place)

    def _not_yet(self, config: Config) -> None:
        """What is accepted and does nothing so far is said, so that nobody relies on it."""
        if config.workers > 1:
            self.warnings.append(f"workers: {config.workers}: one relay process is started; more are not there yet")
        for name in self._names:
            if name not in VENDORS:
                self.warnings.append(f"providers.{name}: nothing leads to it; rules for routing are not there yet")

    def _destinations(self, config: Config, name: str) -> None:
        """A provider that is ourselves would be an endless loop (security.md L5)."""
        provider = config.providers[name]
        for key in ("base_url", "chatgpt_base_url"):
            url = getattr(provider, key)
            if url and is_loopback(urlsplit(url).hostname or "") and _port(url) in (config.port, config.ui.port):
                self._bad(f"providers.{name}.{key}", "is LunaRoute's own address; expected the provider's")


def _ca_fault(file: str) -> str | None:
    """What is wrong with a file of certificate authorities; found now, not at the first request."""
    import ssl  # takes as long to import as all the rest of a configuration, and few need it

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError:
        return "has none"
    except OSError as error:
        return f"cannot be read ({(error.strerror or 'unreadable').lower()})"
    return None


def _is_there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for name in path:
        tree = tree.setdefault(name, {})
    tree[last] = value


def _shown(key: str, value: Any) -> str:
    """A value in an error text: short, and never a credential."""
    if key in SECRET_KEYS:
        return "something else"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = value if isinstance(value, str) else repr(value)
    text = text.encode("ascii", "backslashreplace").decode().replace("\n", "\\n").replace("\r", "\\r")
    text = "".join(c if c >= " " and c != "\x7f" else f"\\x{ord(c):02x}" for c in text)
    return f'"{text[:60]}"' if isinstance(value, str) else text[:60]
