"""Every setting: the structs that hold the configuration, and SETTINGS, the one table read from them.

The types, the limits, the defaults and the sentences stand here once; the check of a file, `config show`, the help of
the flags and README's table (tests/test_docs.py) all come from here. Knows nothing of files, environments or flags
beyond their names.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec
from msgspec import Meta

Port = Annotated[int, Meta(ge=1, le=65535)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Bytes = Annotated[int, Meta(ge=1, le=1 << 40)]
HeadBytes = Annotated[int, Meta(ge=1, le=1 << 24)]  # held in memory, and offsets into it are 32 bits wide
Seconds = Annotated[float, Meta(gt=0, le=604_800)]
Text = Annotated[str, Meta(min_length=1)]
Key = Annotated[str, Meta(min_length=1, pattern=r"\A[\x21-\x7e]+\Z")]
Token = Annotated[str, Meta(min_length=8, pattern=r"\A[\x21-\x7e]+\Z")]

Dialect = Literal["openai", "anthropic"]
Auth = Literal["client_first", "config_only", "client_only"]
Level = Literal["trace", "debug", "info", "warn", "error"]
Mode = Literal["mask", "remove", "tokenize", "partial"]
PatternName = Annotated[str, Meta(min_length=1, pattern=r"\A[A-Za-z][A-Za-z0-9_-]{0,39}\Z")]
Passphrase = Annotated[str, Meta(min_length=16, pattern=r"\A[\x21-\x7e]+\Z")]

OPENAI_URL = "https://api.openai.com/v1"
CHATGPT_URL = "https://chatgpt.com/backend-api/codex"
ANTHROPIC_URL = "https://api.anthropic.com"


class HttpClient(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Connections to one provider."""

    timeout_secs: Annotated[Seconds, Meta(description="longest wait for the first byte of an answer")] = 600.0
    idle_timeout_secs: Annotated[Seconds, Meta(description="longest silence inside an answer")] = 600.0
    connect_timeout_secs: Annotated[Seconds, Meta(description="longest wait for a connection, TLS included")] = 10.0
    pool_max_idle_per_host: Annotated[Count, Meta(description="idle connections kept for reuse")] = 32
    pool_idle_timeout_secs: Annotated[Seconds, Meta(description="an idle connection is closed after this")] = 600.0
    pool_warm: Annotated[
        int, Meta(ge=0, le=64, description="spare connections kept open once the provider was used")
    ] = 1
    tcp_keepalive_secs: Annotated[Seconds, Meta(description="TCP keep-alive interval")] = 60.0
    max_retries: Annotated[
        int, Meta(ge=0, le=100, description="further tries to connect; a sent request is never repeated")
    ] = 3


class CodexAuth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Codex's own login file as a source of the credential."""

    enabled: Annotated[bool, Meta(description="use the token of Codex's login where a client sent none")] = False
    auth_file: Annotated[Text, Meta(description="Codex's login file")] = "~/.codex/auth.json"
    token_field: Annotated[Text, Meta(description="where in the file the token stands")] = "tokens.access_token"
    account_id: Annotated[Text | None, Meta(description="ChatGPT account; default: the one of the file")] = None


class Provider(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One account at a vendor. After loading, `type` and the addresses are always filled in."""

    type: Annotated[Dialect, Meta(description="the vendor's API; implied by the names `openai` and `anthropic`")] = (
        "openai"
    )
    enabled: Annotated[bool, Meta(description="off: requests for it are refused")] = True
    base_url: Annotated[str, Meta(description="where requests go")] = ""
    chatgpt_base_url: Annotated[str, Meta(description="where requests of a ChatGPT login go (type openai)")] = ""
    api_key: Annotated[Key | None, Meta(description="credential for clients that send none")] = None
    auth: Annotated[
        Auth,
        Meta(description="`client_first`: api_key only fills in; `config_only`: it replaces; `client_only`: unused"),
    ] = "client_first"
    websocket: Annotated[bool, Meta(description="off: WebSocket handshakes get 426 and the client falls back")] = True
    ca_file: Annotated[Text | None, Meta(description="PEM file with the certificate authorities to trust instead")] = (
        None
    )
    headers: Annotated[dict[str, str], Meta(description="headers set on every request to it")] = {}
    http_client: HttpClient = HttpClient()
    codex_auth: CodexAuth = CodexAuth()


class Bypass(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Paths that LunaRoute does not know."""

    enabled: Annotated[bool, Meta(description="pass unknown paths to the vendor their credentials belong to")] = True


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client may send."""

    head_bytes: Annotated[HeadBytes, Meta(description="request line and headers together")] = 65_536
    header_count: Annotated[int, Meta(ge=1, le=1024, description="header fields")] = 200
    url_bytes: Annotated[HeadBytes, Meta(description="request target")] = 16_384
    trailer_bytes: Annotated[HeadBytes, Meta(description="trailers of a chunked body")] = 16_384
    chunk_extension_bytes: Annotated[HeadBytes, Meta(description="chunk extensions of one body together")] = 16_384
    body_bytes: Annotated[Bytes, Meta(description="request body")] = 1 << 30
    connections: Annotated[int, Meta(ge=1, le=1_000_000, description="client connections at a time")] = 10_000
    head_timeout_secs: Annotated[
        Seconds, Meta(description="a head must be complete this long after its first byte")
    ] = 10.0
    keepalive_timeout_secs: Annotated[Seconds, Meta(description="an idle client connection is closed after this")] = (
        600.0
    )


class Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long and how much of the database is kept."""

    max_age_days: Annotated[int, Meta(ge=1, le=36_500, description="exchanges that are older are deleted")] = 30
    max_size_mb: Annotated[int, Meta(ge=1, le=1 << 24, description="above this the oldest exchanges are deleted")] = (
        1024
    )


class Sqlite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The database."""

    enabled: Annotated[bool, Meta(description="write the database")] = True
    path: Annotated[Text, Meta(description="the database file")] = "~/.lunaroute/sessions.db"
    retention: Kept = Kept()


class Retention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long and how much is kept of the log files."""

    max_age_days: Annotated[int, Meta(ge=1, le=36_500, description="log files unchanged for longer are deleted")] = 30
    max_size_mb: Annotated[int, Meta(ge=1, le=1 << 24, description="above this the oldest log files are deleted")] = (
        1024
    )
    compress_after_days: Annotated[
        int, Meta(ge=0, le=36_500, description="log files unchanged for longer are compressed (.jsonl.zst); 0: never")
    ] = 3


class Jsonl(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The log files, one a session."""

    enabled: Annotated[bool, Meta(description="write the log files")] = True
    directory: Annotated[Text, Meta(description="folder of the log files")] = "~/.lunaroute/sessions"
    retention: Retention = Retention()


class CustomPattern(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pattern of one's own. Its name, in capitals, stands in tokens."""

    name: PatternName
    pattern: Text
    mode: Mode | None = None


class Pii(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is taken out of the record before it reaches the disk."""

    enabled: Annotated[bool, Meta(description="redact personal data, all kinds that are not switched off")] = False
    redact_secrets: Annotated[
        bool, Meta(description="redact API keys, passwords and the like, also while `enabled` is false")
    ] = True
    redaction_mode: Annotated[
        Mode,
        Meta(
            description="what stands instead: `mask` its form, `remove` its kind, `tokenize` a token, `partial` a part"
        ),
    ] = "tokenize"
    modes: Annotated[
        dict[str, Mode],
        Meta(description="another mode for a kind (email, phone, ssn, credit_card, ip, iban, secret) or a pattern"),
    ] = {}
    detect_email: Annotated[bool, Meta(description="mail addresses")] = True
    detect_phone: Annotated[bool, Meta(description="phone numbers")] = True
    detect_ssn: Annotated[bool, Meta(description="US social security numbers")] = True
    detect_credit_card: Annotated[bool, Meta(description="card numbers")] = True
    detect_ip: Annotated[bool, Meta(description="IP addresses")] = True
    detect_iban: Annotated[bool, Meta(description="bank accounts (IBAN)")] = True
    detect_secrets: Annotated[bool, Meta(description="secrets, where `redact_secrets` is off")] = True
    private_addresses: Annotated[bool, Meta(description="addresses that reach nobody outside, too (10.0.0.1)")] = False
    reserved_domains: Annotated[bool, Meta(description="mail that reaches nobody, too (joe@example.com)")] = False
    custom_patterns: Annotated[
        list[CustomPattern], Meta(description="patterns of your own (RE2), while `enabled` is true")
    ] = []
    allow: Annotated[
        list[Text], Meta(description="values that stay: as they are, or patterns of whole ones as `/.../`")
    ] = []
    binary: Annotated[
        Literal["drop", "keep"], Meta(description="images and other files in bodies, while `enabled` is true")
    ] = "drop"
    key: Annotated[
        Passphrase | None, Meta(description="what tokens are made with; default: a key in the file pii.key")
    ] = None
    vault: Annotated[bool, Meta(description="keep what tokens stand for, encrypted, for `lunaroute pii reveal`")] = (
        False
    )


class SessionRecording(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of the traffic."""

    enabled: Annotated[bool, Meta(description="record the traffic")] = True
    sqlite: Sqlite = Sqlite()
    jsonl: Jsonl = Jsonl()
    capture_limit_mb: Annotated[int, Meta(ge=1, le=4096, description="most that is kept of one body")] = 16
    pii: Pii = Pii()


class Ui(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The web UI."""

    enabled: Annotated[bool, Meta(description="serve the web UI")] = True
    host: Annotated[Text, Meta(description="address the web UI listens on")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="port the web UI listens on")] = 8082


class Logging(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The server's log on stderr: one JSON object a line."""

    level: Annotated[Level, Meta(description="least level that is written")] = "info"
    log_requests: Annotated[bool, Meta(description="one line for each request")] = False


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration."""

    host: Annotated[Text, Meta(description="address the proxy listens on")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="port the proxy listens on")] = 8081
    workers: Annotated[int, Meta(ge=1, le=64, description="relay processes; more than 1 is not there yet")] = 1
    api_dialect: Annotated[
        Literal["both", "openai", "anthropic"], Meta(description="APIs that are served: both, openai or anthropic")
    ] = "both"
    providers: dict[str, Provider] = msgspec.field(
        default_factory=lambda: {"openai": Provider(type="openai"), "anthropic": Provider(type="anthropic")}
    )
    bypass: Bypass = Bypass()
    limits: Limits = Limits()
    session_recording: SessionRecording = SessionRecording()
    ui: Ui = Ui()
    logging: Logging = Logging()
    allowed_hosts: Annotated[list[Text], Meta(description="further Host names that clients may use")] = []
    access_tokens: Annotated[list[Token], Meta(description="tokens of which every client must send one")] = []


class Setting(NamedTuple):
    """One row of the table. In `key` a provider's name is written `<name>`."""

    key: str
    type: Any
    expected: str
    default: Any
    text: str
    env: tuple[str, ...]
    flag: str | None


# The name of a provider stands in upper case for <NAME>. (The keys of the two vendors are read by name, too.)
ENV = {
    "host": ("LUNAROUTE_HOST",),
    "port": ("LUNAROUTE_PORT",),
    "workers": ("LUNAROUTE_WORKERS",),
    "api_dialect": ("LUNAROUTE_DIALECT",),
    "providers.<name>.base_url": ("LUNAROUTE_<NAME>_BASE_URL",),
    "providers.<name>.http_client.timeout_secs": ("LUNAROUTE_<NAME>_TIMEOUT_SECS",),
    "providers.<name>.http_client.idle_timeout_secs": ("LUNAROUTE_<NAME>_IDLE_TIMEOUT_SECS",),
    "providers.<name>.http_client.connect_timeout_secs": ("LUNAROUTE_<NAME>_CONNECT_TIMEOUT_SECS",),
    "providers.<name>.http_client.pool_max_idle_per_host": ("LUNAROUTE_<NAME>_POOL_MAX_IDLE",),
    "providers.<name>.http_client.pool_idle_timeout_secs": ("LUNAROUTE_<NAME>_POOL_IDLE_TIMEOUT_SECS",),
    "providers.<name>.http_client.pool_warm": ("LUNAROUTE_<NAME>_POOL_WARM",),
    "providers.<name>.http_client.tcp_keepalive_secs": ("LUNAROUTE_<NAME>_TCP_KEEPALIVE_SECS",),
    "providers.<name>.http_client.max_retries": ("LUNAROUTE_<NAME>_MAX_RETRIES",),
    "session_recording.enabled": ("LUNAROUTE_ENABLE_SESSION_RECORDING",),
    "session_recording.sqlite.enabled": ("LUNAROUTE_ENABLE_SQLITE_WRITER",),
    "session_recording.sqlite.path": ("LUNAROUTE_SESSIONS_DB_PATH",),
    "session_recording.jsonl.enabled": ("LUNAROUTE_ENABLE_JSONL_WRITER",),
    "session_recording.jsonl.directory": ("LUNAROUTE_SESSIONS_DIR",),
    "session_recording.pii.enabled": ("LUNAROUTE_PII_ENABLED",),
    "session_recording.pii.key": ("LUNAROUTE_PII_KEY",),
    "ui.enabled": ("LUNAROUTE_UI_ENABLED",),
    "ui.host": ("LUNAROUTE_UI_HOST",),
    "ui.port": ("LUNAROUTE_UI_PORT",),
    "logging.level": ("LUNAROUTE_LOG_LEVEL",),
    "logging.log_requests": ("LUNAROUTE_LOG_REQUESTS",),
}
KEY_ENV = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
OTHER_ENV = {
    "LUNAROUTE_CONFIG": "the configuration file, as `--config`",
    "LUNAROUTE_HOME": "folder of everything LunaRoute keeps; default `~/.lunaroute`",
}
PATH_KEYS = frozenset(
    {
        "session_recording.sqlite.path",
        "session_recording.jsonl.directory",
        "providers.<name>.ca_file",
        "providers.<name>.codex_auth.auth_file",
    }
)
SECRET_KEYS = frozenset(
    {"providers.<name>.api_key", "providers.<name>.headers", "access_tokens", "session_recording.pii.key"}
)
DEFAULT_TEXT = {
    "providers.<name>.type": "the name",
    "providers.<name>.base_url": f"{OPENAI_URL} or {ANTHROPIC_URL}",
    "providers.<name>.chatgpt_base_url": CHATGPT_URL,
    "providers.<name>.api_key": "OPENAI_API_KEY or ANTHROPIC_API_KEY of the environment",
}

FLAGS = {
    "host": "--host",
    "port": "--port",
    "workers": "--workers",
    "api_dialect": "--dialect",
    "session_recording.enabled": "--record/--no-record",
    "ui.enabled": "--ui/--no-ui",
    "ui.host": "--ui-host",
    "ui.port": "--ui-port",
    "logging.level": "--log-level",
    "logging.log_requests": "--log-requests/--no-log-requests",
}


def section(kind: Any) -> type[msgspec.Struct] | None:
    """The struct class that `kind` is, None for a leaf."""
    return kind if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else None


def item_of(kind: Any) -> type[msgspec.Struct] | None:
    """The struct class of a list's items, None where it is no such list."""
    while get_origin(kind) is Annotated:
        kind = kind.__origin__
    return section(get_args(kind)[0]) if get_origin(kind) is list else None


def fields(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Name and type of each setting or section of a section."""
    return {field.encode_name: field.type for field in msgspec.structs.fields(struct)}


def expected(kind: Any) -> str:
    """What a value of this type looks like, in words: `a whole number from 1 to 65535`."""
    meta: list[Meta] = []
    while get_origin(kind) is Annotated:
        meta += [item for item in kind.__metadata__ if isinstance(item, Meta)]
        kind = kind.__origin__
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join("null" if part is type(None) else expected(part) for part in get_args(kind))
    if get_origin(kind) is Literal:
        *most, last = get_args(kind)
        return f"{', '.join(most)} or {last}"
    if get_origin(kind) is list:
        item = get_args(kind)[0]
        if inner := section(item):
            return f"a list, each item a mapping of {', '.join(fields(inner))}"
        return f"a list, each item {expected(item)}"
    if get_origin(kind) is dict:
        value = get_args(kind)[1]
        return f"a mapping of names to {'texts' if value is str else expected(value)}"
    if section(kind):
        return "a mapping"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[kind] + _bounds(meta)


def _bounds(meta: list[Meta]) -> str:
    found: dict[str, Any] = {}
    for item in meta:
        for name in ("ge", "gt", "le", "min_length"):
            if getattr(item, name) is not None:
                found[name] = getattr(item, name)
    if "min_length" in found:
        return f" of at least {found['min_length']} visible characters" if found["min_length"] > 1 else " (not empty)"
    low = f"from {found['ge']}" if "ge" in found else f"above {found['gt']}" if "gt" in found else ""
    return (f" {low}" if low else "") + (f" to {found['le']}" if "le" in found else "")


def _rows(struct: type[msgspec.Struct], prefix: str) -> Iterator[Setting]:
    for field in msgspec.structs.fields(struct):
        key, kind = prefix + field.encode_name, field.type
        if inner := section(kind):
            yield from _rows(inner, key + ".")
        elif key == "providers":
            yield from _rows(Provider, "providers.<name>.")
        else:
            text = " ".join(m.description for m in kind.__metadata__ if isinstance(m, Meta) and m.description)
            default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            yield Setting(key, kind, expected(kind), default, text, ENV.get(key, ()), FLAGS.get(key))


SETTINGS: dict[str, Setting] = {row.key: row for row in _rows(Config, "")}


def general(key: str) -> str:
    """The row's name of a concrete key: `providers.openai.auth` -> `providers.<name>.auth`."""
    head, _, rest = key.partition(".")
    return f"providers.<name>.{rest.partition('.')[2]}" if head == "providers" else key
