"""What `lunaroute serve` says when it is ready (promise S7): the mode, the providers with where their key comes from,
the bypass, the recording, the UI. Pure: facts in, text out.
"""

from __future__ import annotations

from lunaroute.config import Loaded, Provider
from lunaroute.probe import base_url

BYPASS = {
    True: "on: unknown paths go to the vendor their credentials belong to",
    False: "off: unknown paths are refused",
}
NAMES = {"openai": "OpenAI", "anthropic": "Anthropic"}


def banner(loaded: Loaded, ui_url: str | None, ui_error: str | None) -> str:
    """The text, some lines of it."""
    config = loaded.config
    base = base_url(config.host, config.port)
    lines = [
        f"LunaRoute listens on {base}",
        f"  mode        passthrough, byte for byte: {_dialects(config.api_dialect)}",
        *(_provider(name, provider, loaded) for name, provider in config.providers.items()),
        f"  bypass      {BYPASS[config.bypass.enabled]}",
        f"  recording   {_recording(loaded)}",
        *_redaction(loaded),
        f"  web UI      {_ui(loaded, ui_url, ui_error)}",
        f"  config      {loaded.file or 'none (defaults)'}",
    ]
    return "\n".join([*lines, *(f"  warning     {warning}" for warning in loaded.warnings)])


def _dialects(dialect: str) -> str:
    both = "the OpenAI and the Anthropic API"
    one = {"openai": "the OpenAI API only", "anthropic": "the Anthropic API only"}
    return one.get(dialect, both)


def key_source(name: str, provider: Provider, origins: dict[str, str]) -> str:
    """Where the credential comes from, in words."""
    origin = origins[f"providers.{name}.api_key"]
    configured = f"key from {origin.removeprefix('env ')}"
    if provider.auth == "client_only":
        return "the client's own credential only"
    if provider.auth == "config_only":
        return (
            f"{configured}, in place of the client's" if provider.api_key else "Codex's login, in place of the client's"
        )
    if provider.api_key:
        return f"the client's own credential, else the {configured}"
    if provider.codex_auth.enabled:
        return f"the client's own credential, else Codex's login ({provider.codex_auth.auth_file})"
    return "the client's own credential"


def _provider(name: str, provider: Provider, loaded: Loaded) -> str:
    label = f"  {NAMES.get(name, name):<11} "
    if not provider.enabled or loaded.config.api_dialect not in ("both", provider.type):
        return f"{label}off"
    return f"{label}{provider.base_url}; {key_source(name, provider, loaded.origins)}"


def _recording(loaded: Loaded) -> str:
    recording = loaded.config.session_recording
    places = []
    if recording.sqlite.enabled:
        places.append(recording.sqlite.path)
    if recording.jsonl.enabled:
        places.append(f"{recording.jsonl.directory}/")
    return f"on: {', '.join(places)}" if recording.enabled and places else "off"


def _redaction(loaded: Loaded) -> list[str]:
    recording = loaded.config.session_recording
    if not recording.enabled:
        return []
    pii = recording.pii
    said = "personal data and secrets" if pii.enabled else "secrets"
    if pii.enabled and not (pii.redact_secrets or pii.detect_secrets):
        said = "personal data"
    return [f"  redaction   {f'on: {said} ({pii.redaction_mode})' if pii.enabled or pii.redact_secrets else 'off'}"]


def _ui(loaded: Loaded, url: str | None, error: str | None) -> str:
    if not loaded.config.ui.enabled:
        return "off"
    return url or (f"not available: {error}" if error else "still starting: lunaroute status says when it is there")
