"""The configuration: what is read from where, what beats what, and what is said when it cannot be used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lunaroute import config
from lunaroute.config import ConfigError, Loaded, flat, load, plain
from lunaroute.config.settings import ENV, FLAGS, SETTINGS


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    return {"HOME": str(home)}


def write(folder: Path, text: str | bytes, name: str = "config.yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    file.chmod(0o600)
    return file


def problems(file: Path | None, environ: dict[str, str], **flags: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(file, environ, flags)
    return str(caught.value).splitlines()


def test_nothing_configured_works(environ: dict[str, str], home: Path) -> None:
    loaded = load(None, environ, {})
    assert (loaded.config.host, loaded.config.port, loaded.config.ui.port) == ("127.0.0.1", 8081, 8082)
    assert loaded.config.providers["openai"].base_url == "https://api.openai.com/v1"
    assert loaded.config.providers["openai"].chatgpt_base_url == "https://chatgpt.com/backend-api/codex"
    assert loaded.config.providers["anthropic"].base_url == "https://api.anthropic.com"
    assert loaded.config.providers["anthropic"].type == "anthropic"
    assert loaded.config.session_recording.sqlite.path == str(home / ".lunaroute/sessions.db")
    assert loaded.config.session_recording.jsonl.directory == str(home / ".lunaroute/sessions")
    assert loaded.config.providers["openai"].codex_auth.auth_file == str(home / ".codex/auth.json")
    assert set(loaded.origins.values()) == {"default"}
    assert (loaded.file, loaded.secrets, loaded.warnings) == (None, [], [])


def test_flag_beats_environment_beats_file_beats_default(environ: dict[str, str], tmp_path: Path) -> None:
    file = write(tmp_path, "port: 1001\nworkers: 2\nui:\n  port: 1002\nlogging:\n  level: warn\n")
    environ |= {"LUNAROUTE_PORT": "2001", "LUNAROUTE_UI_PORT": "2002"}
    loaded = load(file, environ, {"port": "3001"})
    assert (loaded.config.port, loaded.origins["port"]) == (3001, "flag --port")
    assert (loaded.config.ui.port, loaded.origins["ui.port"]) == (2002, "env LUNAROUTE_UI_PORT")
    assert (loaded.config.logging.level, loaded.origins["logging.level"]) == ("warn", f"{file}:6")
    assert (loaded.config.ui.host, loaded.origins["ui.host"]) == ("127.0.0.1", "default")


README_ENVIRONMENT = {
    "LUNAROUTE_DIALECT": ("openai", "api_dialect", "openai"),
    "OPENAI_API_KEY": ("sk-dummy-openai", "providers.openai.api_key", "sk-dummy-openai"),
    "ANTHROPIC_API_KEY": ("sk-ant-dummy", "providers.anthropic.api_key", "sk-ant-dummy"),
    "LUNAROUTE_ENABLE_SESSION_RECORDING": ("false", "session_recording.enabled", False),
    "LUNAROUTE_ENABLE_SQLITE_WRITER": ("0", "session_recording.sqlite.enabled", False),
    "LUNAROUTE_SESSIONS_DB_PATH": ("/data/x.db", "session_recording.sqlite.path", "/data/x.db"),
    "LUNAROUTE_ENABLE_JSONL_WRITER": ("False", "session_recording.jsonl.enabled", False),
    "LUNAROUTE_SESSIONS_DIR": ("/data/s", "session_recording.jsonl.directory", "/data/s"),
    "LUNAROUTE_PII_ENABLED": ("true", "session_recording.pii.enabled", True),
    "LUNAROUTE_PII_KEY": ("a-passphrase-of-ours", "session_recording.pii.key", "a-passphrase-of-ours"),
    "LUNAROUTE_LOG_LEVEL": ("trace", "logging.level", "trace"),
    "LUNAROUTE_LOG_REQUESTS": ("true", "logging.log_requests", True),
    "LUNAROUTE_HOST": ("127.0.0.2", "host", "127.0.0.2"),
    "LUNAROUTE_PORT": ("8090", "port", 8090),
    "LUNAROUTE_UI_ENABLED": ("false", "ui.enabled", False),
    "LUNAROUTE_UI_HOST": ("::1", "ui.host", "::1"),
    "LUNAROUTE_UI_PORT": ("8092", "ui.port", 8092),
    "LUNAROUTE_WORKERS": ("2", "workers", 2),
    "LUNAROUTE_OPENAI_TIMEOUT_SECS": ("300", "providers.openai.http_client.timeout_secs", 300.0),
    "LUNAROUTE_OPENAI_POOL_MAX_IDLE": ("64", "providers.openai.http_client.pool_max_idle_per_host", 64),
    "LUNAROUTE_ANTHROPIC_IDLE_TIMEOUT_SECS": ("1.5", "providers.anthropic.http_client.idle_timeout_secs", 1.5),
    "LUNAROUTE_ANTHROPIC_CONNECT_TIMEOUT_SECS": ("3", "providers.anthropic.http_client.connect_timeout_secs", 3.0),
    "LUNAROUTE_OPENAI_POOL_IDLE_TIMEOUT_SECS": ("20", "providers.openai.http_client.pool_idle_timeout_secs", 20.0),
    "LUNAROUTE_OPENAI_POOL_WARM": ("0", "providers.openai.http_client.pool_warm", 0),
    "LUNAROUTE_OPENAI_TCP_KEEPALIVE_SECS": ("30", "providers.openai.http_client.tcp_keepalive_secs", 30.0),
    "LUNAROUTE_OPENAI_MAX_RETRIES": ("0", "providers.openai.http_client.max_retries", 0),
    "LUNAROUTE_OPENAI_BASE_URL": ("https://gw.test/v1", "providers.openai.base_url", "https://gw.test/v1"),
}


@pytest.mark.parametrize("variable", README_ENVIRONMENT)
def test_each_variable_sets_its_key(environ: dict[str, str], variable: str) -> None:
    text, key, value = README_ENVIRONMENT[variable]
    loaded = load(None, environ | {variable: text}, {})
    assert flat(plain(loaded.config, mask=False))[key] == value
    assert loaded.origins[key] == f"env {variable}"
    assert [name for name, origin in loaded.origins.items() if origin != "default"] == [key]


def test_every_documented_variable_is_tested() -> None:
    named = {name for names in ENV.values() for name in names}
    tested = {v.replace("OPENAI_", "<NAME>_").replace("ANTHROPIC_", "<NAME>_") for v in README_ENVIRONMENT}
    assert named <= tested


def test_a_variable_that_is_set_but_empty_counts_as_not_set(environ: dict[str, str]) -> None:
    loaded = load(None, environ | {"LUNAROUTE_PORT": "", "OPENAI_API_KEY": ""}, {})
    assert (loaded.config.port, loaded.config.providers["openai"].api_key) == (8081, None)


def test_a_key_in_the_file_is_not_replaced_by_the_vendors_variable(environ: dict[str, str], tmp_path: Path) -> None:
    file = write(tmp_path, "providers:\n  openai:\n    api_key: sk-file-dummy\n")
    loaded = load(file, environ | {"OPENAI_API_KEY": "sk-env-dummy"}, {})
    assert loaded.config.providers["openai"].api_key == "sk-file-dummy"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot: 1\n", ':1: prot: unknown key; did you mean "port"?'),
        ("\nui:\n  prot: 1\n", ':3: ui.prot: unknown key; did you mean "port"?'),
        ("zzzz: 1\n", ":1: zzzz: unknown key; valid here: access_tokens, allowed_hosts,"),
        ("port: eight\n", ':1: port: expected a whole number from 1 to 65535, got "eight"'),
        ("port: true\n", ":1: port: expected a whole number from 1 to 65535, got true"),
        ('port: "8081"\n', ':1: port: expected a whole number from 1 to 65535, got "8081"'),
        ("port: 0\n", ":1: port: expected a whole number from 1 to 65535, got 0"),
        ("port: 65536\n", ":1: port: expected a whole number"),
        ("port: null\n", ":1: port: expected a whole number from 1 to 65535, got null"),
        ("port:\n  - 1\n", ":1: port: expected a whole number from 1 to 65535, got a list"),
        ("workers: 65\n", ":1: workers: expected a whole number from 1 to 64, got 65"),
        ("ui:\n  enabled: 'yes'\n", ':2: ui.enabled: expected true or false, got "yes"'),
        ("ui: 8082\n", ":1: ui: expected a mapping (`key: value` lines), got a single value"),
        ("- a\n", ":1: expected a mapping (`key: value` lines), got a list"),
        ("api_dialect: gemini\n", ':1: api_dialect: expected both, openai or anthropic, got "gemini"'),
        ("logging:\n  level: loud\n", ':2: logging.level: expected trace, debug, info, warn or error, got "loud"'),
        ("host: 127.0.0.1\nhost: 127.0.0.1\n", ":2: host: given twice; expected once"),
        ("port: 1\n  x: 2\n", ":2: not valid YAML: "),
        ("host: [\n", ": not valid YAML: "),
        ("a: *b\n", ":1: not valid YAML: found undefined alias"),
        ("x: !!python/object/apply:os.system [ls]\n", ":1: x: unknown key"),
        ("host: !!python/object/apply:os.system [ls]\n", ":1: not valid YAML: could not determine a constructor"),
        ("host: a\n---\nhost: b\n", ":2: not valid YAML: expected a single document"),
        ("host: ${NOT_SET}\n", ":1: host: environment variable NOT_SET is not set; set it"),
        ("host: ${}\n", ":1: host: expected ${NAME}"),
        ("host: ${A-B}\n", ":1: host: expected ${NAME}"),
        ("host: ${A\n", ":1: host: expected ${NAME}"),
        ("allowed_hosts: [a, '${NOT_SET}']\n", ":1: allowed_hosts: environment variable NOT_SET is not set"),
        ("providers:\n  Backup: {type: openai}\n", ":2: providers.Backup: expected a name of small letters"),
        ("providers:\n  backup: {}\n", ":2: providers.backup: expected a `type` (openai or anthropic)"),
        ("providers:\n  backup: {type: gemini}\n", ":2: providers.backup.type: expected openai or anthropic"),
        ("providers:\n  openai: {type: anthropic}\n", ":2: providers.openai.type: expected openai: the name"),
        (
            "providers:\n  openai:\n    base_ulr: x\n",
            ':3: providers.openai.base_ulr: unknown key; did you mean "base_u',
        ),
        ("providers:\n  openai: {base_url: ftp://x}\n", ":2: providers.openai.base_url: expected an address like"),
        ("providers:\n  openai: {base_url: ''}\n", ":2: providers.openai.base_url: expected an address like"),
        (
            "providers:\n  openai: {base_url: 'https://a:b@x'}\n",
            ":2: providers.openai.base_url: expected an address wi",
        ),
        ("providers:\n  openai: {base_url: 'https://x/?k=v'}\n", ":2: providers.openai.base_url: expected an address"),
        (
            "providers:\n  openai: {base_url: 'http://127.0.0.1:8081/v1'}\n",
            "providers.openai.base_url: is LunaRoute's ow",
        ),
        (
            "providers:\n  anthropic: {chatgpt_base_url: 'https://x'}\n",
            "chatgpt_base_url: expected only beside type op",
        ),
        ("providers:\n  openai: {auth: config_only}\n", ":2: providers.openai.auth: config_only needs a credential"),
        ("providers:\n  openai: {auth: always}\n", "expected client_first, config_only or client_only"),
        ("providers:\n  openai: {ca_file: /does/not/exist}\n", ":2: providers.openai.ca_file: expected a PEM file"),
        ("providers:\n  openai: {ca_file: /dev/null}\n", ":2: providers.openai.ca_file: expected a PEM file with"),
        ("limits: {head_bytes: 8589934592}\n", ":1: limits.head_bytes: expected a whole number from 1 to 16777216"),
        ("limits: {header_count: 1025}\n", ":1: limits.header_count: expected a whole number from 1 to 1024"),
        ("providers:\n  openai: {headers: {'Content-Length': '5'}}\n", "expected a header name that may be set"),
        ("providers:\n  openai: {headers: {'a b': '5'}}\n", "expected a header name that may be set"),
        ('providers:\n  openai: {headers: {x: "a\\r\\nb"}}\n', "expected printable ASCII as value of x"),
        ("providers:\n  openai: {headers: {x: a, x: b}}\n", "headers.x: given twice"),
        ("host: 0.0.0.0\n", ":1: host: 0.0.0.0 can be reached from other machines and there are no `access_tokens`"),
        ("ui: {host: '::'}\n", ":1: ui.host: :: can be reached from other machines"),
        ("host: 'a b'\n", ":1: host: expected an address or a host name"),
        ("ui: {port: 8081}\n", ":1: ui.port: 8081 is the proxy's own port"),
        ("access_tokens: [short]\n", ":1: access_tokens: expected a list, each item a text of at least 8 visible"),
        ("allowed_hosts: ['http://x']\n", ":1: allowed_hosts: expected host names without scheme"),
        ("limits: {header_count: 0}\n", ":1: limits.header_count: expected a whole number from 1"),
        (b"host: \xff\n", ":1: not UTF-8 text"),
        (b"a\x00b: 1\n", ": not valid YAML: "),
    ],
    ids=lambda value: (value if isinstance(value, str) else repr(value))[:40],
)
def test_what_is_wrong_is_said_with_file_and_line(
    environ: dict[str, str], tmp_path: Path, text: str | bytes, said: str
) -> None:
    file = write(tmp_path, text)
    found = problems(file, environ)
    assert any(said in line for line in found), found
    assert all(line.startswith(f"{file}:") for line in found)


def test_all_problems_are_told_at_once(environ: dict[str, str], tmp_path: Path) -> None:
    file = write(tmp_path, "prot: 1\nworkers: x\nui: {enabled: 5}\n")
    assert len(problems(file, environ)) == 3


@pytest.mark.parametrize("text", ["", "# nothing\n", "ui:\n", "providers:\n  openai:\n", "---\n"])
def test_empty_sections_are_no_error(environ: dict[str, str], tmp_path: Path, text: str) -> None:
    assert load(write(tmp_path, text), environ, {}).config == load(None, environ, {}).config


def test_variables_are_put_into_values_only(environ: dict[str, str], tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "port: ${P}\nproviders:\n  openai:\n    api_key: x${K}y\n    headers: {'x-a': 'p$${K}q $K', '${K}': v}\n",
    )
    found = problems(file, environ | {"P": "9000", "K": "mid"})
    assert any("${K}" in line and "header name" in line for line in found)  # a name is taken literally
    file = write(tmp_path, file.read_text().replace(", '${K}': v", ""))
    loaded = load(file, environ | {"P": "9000", "K": "mid"}, {})
    assert loaded.config.port == 9000
    assert loaded.config.providers["openai"].api_key == "xmidy"
    assert loaded.config.providers["openai"].headers == {"x-a": "p${K}q $K"}
    assert loaded.origins["port"] == f"{file}:1 (${{P}})"


def test_a_value_is_never_expanded_twice(environ: dict[str, str], tmp_path: Path) -> None:
    file = write(tmp_path, "providers: {openai: {api_key: '${A}'}}\n")
    loaded = load(file, environ | {"A": "${HOME}"}, {})
    assert loaded.config.providers["openai"].api_key == "${HOME}"


@pytest.mark.parametrize("how", ["missing", "folder", "unreadable", "large", "world-writable"])
def test_a_file_that_cannot_be_used(environ: dict[str, str], tmp_path: Path, how: str) -> None:
    file = write(tmp_path, "port: 8081\n")
    expected = {
        "missing": "cannot be read: No such file",
        "folder": "Is a directory",
        "unreadable": "cannot be read: Not a directory",
        "large": "larger than",
        "world-writable": "chmod 600",
    }[how]
    if how == "missing":
        file = tmp_path / "other.yaml"
    elif how == "folder":
        file = tmp_path
    elif how == "unreadable":  # a permission would not stop root
        file = file / "below"
    elif how == "large":
        file.write_bytes(b"#" * (2 << 20))
    else:
        file.chmod(0o666)
    (line,) = problems(file, environ)
    assert line.startswith(f"{file}:")
    assert expected in line


def test_where_the_file_is_looked_for(environ: dict[str, str], home: Path, tmp_path: Path) -> None:
    usual = write(home / ".lunaroute", "port: 1001\n")
    assert load(None, environ, {}).file == usual
    named = write(tmp_path, "port: 1002\n", "named.yaml")
    environ["LUNAROUTE_CONFIG"] = str(named)
    assert load(None, environ, {}).config.port == 1002
    flag = write(tmp_path, "port: 1003\n", "flag.yaml")
    assert load(flag, environ, {}).config.port == 1003


def test_a_file_in_the_working_directory_is_never_read(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("config.yaml", "lunaroute.yaml", ".lunaroute.yaml", ".lunaroute/config.yaml"):
        write((tmp_path / name).parent, "providers: {anthropic: {base_url: 'https://evil.test'}}\n", Path(name).name)
    monkeypatch.chdir(tmp_path)
    loaded = load(None, environ, {})
    assert (loaded.file, loaded.config.providers["anthropic"].base_url) == (None, "https://api.anthropic.com")


def test_lunaroute_home_moves_everything(environ: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path / "moved", "port: 1001\n")
    loaded = load(None, environ | {"LUNAROUTE_HOME": str(tmp_path / "moved")}, {})
    assert loaded.home == tmp_path / "moved"
    assert loaded.config.port == 1001
    assert loaded.config.session_recording.sqlite.path == str(tmp_path / "moved/sessions.db")
    assert loaded.config.session_recording.jsonl.directory == str(tmp_path / "moved/sessions")


def test_paths_are_in_full(
    environ: dict[str, str], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    file = write(tmp_path / "etc", "session_recording: {sqlite: {path: a.db}, jsonl: {directory: ~/logs}}\n")
    loaded = load(file, environ | {"LUNAROUTE_SESSIONS_DB_PATH": "b.db", "CODEX_HOME": "/codex"}, {})
    assert loaded.config.session_recording.sqlite.path == str(here / "b.db")
    assert loaded.config.session_recording.jsonl.directory == str(home / "logs")
    assert loaded.config.providers["openai"].codex_auth.auth_file == "/codex/auth.json"
    assert load(file, environ, {}).config.session_recording.sqlite.path == str(tmp_path / "etc/a.db")


def test_a_provider_of_another_name(environ: dict[str, str], tmp_path: Path) -> None:
    file = write(tmp_path, "providers:\n  anthropic-backup: {type: anthropic}\n")
    loaded = load(file, environ | {"LUNAROUTE_ANTHROPIC_BACKUP_TIMEOUT_SECS": "5", "ANTHROPIC_API_KEY": "k"}, {})
    assert list(loaded.config.providers) == ["openai", "anthropic", "anthropic-backup"]
    backup = loaded.config.providers["anthropic-backup"]
    assert (backup.base_url, backup.http_client.timeout_secs) == ("https://api.anthropic.com", 5.0)
    assert backup.api_key is None  # another account: the vendor's variable is not meant for it
    assert loaded.warnings == ["providers.anthropic-backup: nothing leads to it; rules for routing are not there yet"]


def test_what_is_not_there_yet_is_said(environ: dict[str, str]) -> None:
    assert load(None, environ, {"workers": 1}).warnings == []
    assert "one relay process is started" in load(None, environ, {"workers": 4}).warnings[0]


SEED = """
# Save as config.yaml
host: "127.0.0.1"
port: 8081
api_dialect: "both"  # Already the default!

providers:
  openai:
    enabled: true
    base_url: "https://api.openai.com/v1"  # Or use ChatGPT backend
    # api_key: "sk-..."  # Optional: defaults to OPENAI_API_KEY env var
    http_client:
      timeout_secs: 600              # Request timeout (default: 600)
      connect_timeout_secs: 10       # Connection timeout (default: 10)
      pool_max_idle_per_host: 32     # Pool size (default: 32)
      pool_idle_timeout_secs: 600    # Idle timeout (default: 600)
      tcp_keepalive_secs: 60         # Keepalive (default: 60)
      max_retries: 3                 # Retries (default: 3)

  anthropic:
    enabled: true

session_recording:
  enabled: true
  sqlite:
    enabled: true
    path: "~/.lunaroute/sessions.db"
  jsonl:
    enabled: true
    directory: "~/.lunaroute/sessions"
    retention:
      max_age_days: 30
      max_size_mb: 1024

ui:
  enabled: true
  host: "127.0.0.1"
  port: 8082
"""


def test_the_file_that_users_know_is_the_default_written_out(environ: dict[str, str], tmp_path: Path) -> None:
    assert load(write(tmp_path, SEED), environ, {}).config == load(None, environ, {}).config


def test_other_machines_may_connect_with_tokens(environ: dict[str, str], tmp_path: Path) -> None:
    file = write(tmp_path, "host: 0.0.0.0\naccess_tokens: ['${TOKEN}']\n")
    loaded = load(file, environ | {"TOKEN": "token-dummy-1"}, {})
    assert loaded.config.host == "0.0.0.0"
    assert loaded.secrets == ["token-dummy-1"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_needs_no_token(environ: dict[str, str], host: str) -> None:
    assert load(None, environ, {"host": host}).config.host == host.strip("[]")


def test_secrets_are_masked_and_collected(environ: dict[str, str], tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "access_tokens: [token-dummy-1]\nproviders:\n  openai:\n    api_key: sk-dummy-openai\n"
        "    headers: {x-api-key: header-dummy, x-team: platform-team}\n",
    )
    loaded = load(file, environ, {})
    secrets = {"token-dummy-1", "sk-dummy-openai", "header-dummy"}
    assert set(loaded.secrets) == secrets
    shown = repr(plain(loaded.config))
    assert not any(secret in shown for secret in secrets)
    assert plain(loaded.config)["providers"]["openai"]["api_key"] == "***"
    assert plain(loaded.config)["providers"]["openai"]["headers"] == {"x-api-key": "***", "x-team": "platform-team"}
    assert plain(loaded.config, mask=False)["providers"]["openai"]["api_key"] == "sk-dummy-openai"


def test_an_error_never_quotes_a_credential(environ: dict[str, str], tmp_path: Path) -> None:
    file = write(tmp_path, "access_tokens: sk-canary-0001\nproviders: {openai: {api_key: [sk-canary-0002]}}\n")
    assert not any("canary" in line for line in problems(file, environ | {"A": "b"}))
    file = write(tmp_path, "providers: {openai: {api_key: 'sk canary'}}\n")
    assert not any("canary" in line for line in problems(file, environ))


def test_a_value_in_an_error_cannot_forge_a_line(environ: dict[str, str], tmp_path: Path) -> None:
    file = write(tmp_path, 'port: "a\\n\\u001b[31mb\\u009b"\n')
    (line,) = problems(file, environ)
    assert line.isprintable() and line.isascii()


def warnings(file: Path | None, environ: dict[str, str]) -> list[str]:
    loaded: Loaded = load(file, environ, {})
    return loaded.warnings


def test_warnings(environ: dict[str, str], tmp_path: Path) -> None:
    (line,) = warnings(None, environ | {"LUNAROUTE_PROT": "1"})
    assert line == 'environment variable LUNAROUTE_PROT is not read by LunaRoute; did you mean "LUNAROUTE_PORT"?'
    file = write(tmp_path, "providers: {openai: {base_url: 'http://gw.test/v1'}}\n")
    assert "unencrypted" in warnings(file, environ)[0]
    file = write(tmp_path, "providers: {openai: {api_key: sk-dummy-openai}}\n")
    file.chmod(0o644)
    assert f"chmod 600 {file}" in warnings(file, environ)[0]
    file.write_text("providers: {openai: {api_key: '${K}'}}\n")
    assert warnings(file, environ | {"K": "sk-dummy-openai"}) == []


def test_the_table_names_every_setting_once() -> None:
    keys = {key.replace("providers.openai.", "providers.<name>.") for key in flat(plain(config.Config()))}
    keys = {key for key in keys if not key.startswith("providers.anthropic.")}
    assert keys == set(SETTINGS)
    assert set(FLAGS) <= set(SETTINGS) and set(ENV) <= set(SETTINGS)
    assert all(row.text and row.expected for row in SETTINGS.values())


def test_the_fingerprint_changes_with_a_setting_and_not_with_a_secret(environ: dict[str, str]) -> None:
    one = config.fingerprint(load(None, environ, {}).config)
    assert one == config.fingerprint(load(None, environ, {}).config)
    assert one != config.fingerprint(load(None, environ, {"ui.enabled": False}).config)
    keys = [load(None, environ | {"OPENAI_API_KEY": f"sk-dummy-{n}"}, {}).config for n in (1, 2)]
    assert config.fingerprint(keys[0]) == config.fingerprint(keys[1])


def test_the_process_environment_is_not_looked_at(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "LUNAROUTE_PORT", "1")
    monkeypatch.setitem(os.environ, "LUNAROUTE_HOME", "/elsewhere")
    assert load(None, environ, {}).config.port == 8081


# --- redaction --------------------------------------------------------------------------------------
SEED_PII = """
session_recording:
  pii:
    enabled: true
    detect_email: true
    detect_phone: true
    detect_ssn: true
    detect_credit_card: true
    redaction_mode: "tokenize"  # mask, remove, tokenize, or partial
"""


def test_the_block_of_the_first_readme(environ: dict[str, str], tmp_path: Path) -> None:
    pii = load(write(tmp_path, SEED_PII), environ, {}).config.session_recording.pii
    assert (pii.enabled, pii.redaction_mode, pii.redact_secrets, pii.binary) == (True, "tokenize", True, "drop")


WRONG = {
    "redaction_mode: hash": ":4: redaction_mode: expected mask, remove, tokenize or partial",
    "detect_mail: true": ':4: detect_mail: unknown key; did you mean "detect_email"?',
    "modes: {email: mask, mail: mask}": ':4: modes.mail: unknown kind; did you mean "email"?',
    "modes: {email: hide}": ":4: modes: expected a mapping of names to mask, remove,",
    "custom_patterns:\n      - {name: a, pattern: x}\n      - name: b\n        pattern: '(?<=a)b'": (
        ":6: custom_patterns[1].pattern: expected a pattern that RE2 takes, "
        'got "(?<=a)b": invalid perl operator: (?<'
    ),
    "custom_patterns:\n      - {name: a, pattern: 'x('}": (
        ':5: custom_patterns[0].pattern: expected a pattern that RE2 takes, got "x(": missing ): x('
    ),
    "custom_patterns: [{name: a, pattern: 'x*'}]": ':4: custom_patterns[0].pattern: expected a pattern that RE2 takes, '
    'got "x*": it matches the empty text',
    "custom_patterns:\n      - name: a\n        patern: x": (
        ':6: custom_patterns[0].patern: unknown key; did you mean "pattern"?'
    ),
    "custom_patterns: [{name: a}]": (
        ":4: custom_patterns: expected a list, each item a mapping of name, pattern, mode"
    ),
    "custom_patterns: [{name: email, pattern: x}]": (
        ':4: custom_patterns[0].name: expected a name of its own, "email" is taken'
    ),
    "custom_patterns: [{name: a, pattern: x}, {name: a, pattern: y}]": (
        ':4: custom_patterns[1].name: expected a name of its own, "a" is taken'
    ),
    "allow: ['/a(/']": ':4: allow: expected a pattern that RE2 takes, got "a(": missing ): a(',
    "key: short": ":4: key: expected a text of at least 16 visible characters",
    "binary: maybe": ":4: binary: expected drop or keep",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_with_redaction(environ: dict[str, str], tmp_path: Path, text: str) -> None:
    file = write(tmp_path, f"session_recording:\n  pii:\n    enabled: true\n    {text}\n")
    line, key, said = WRONG[text].split(": ", 2) if WRONG[text].count(": ") > 1 else ("", "", "")
    found = problems(file, environ)
    assert any(each.startswith(f"{file}{line}: session_recording.pii.{key}: {said}") for each in found), found


def test_patterns_that_nothing_uses_are_said(environ: dict[str, str], tmp_path: Path) -> None:
    file = write(tmp_path, "session_recording:\n  pii:\n    custom_patterns: [{name: a, pattern: x}]\n")
    block = "session_recording.pii"
    assert load(file, environ, {}).warnings == [
        f"{block}.custom_patterns: nothing is looked for by them until {block}.enabled is true"
    ]


def test_the_key_of_tokens_is_a_secret(environ: dict[str, str], tmp_path: Path) -> None:
    loaded = load(None, environ | {"LUNAROUTE_PII_KEY": "a-passphrase-of-ours"}, {})
    assert "a-passphrase" not in str(plain(loaded.config))
    assert loaded.secrets == ["a-passphrase-of-ours"]
