"""What `lunaroute env` prints for each kind of shell. Text only; imports nothing: the warm `env` waits for it.

For shells of the Bourne family the text must also survive `eval $(lunaroute env)` without quotes, where newlines become
blanks and globs expand: so every statement ends in `;`, there is no `*`, `?`, `[` or `|` (a glob character of zsh) and
no `#` (which starts no comment in an interactive zsh).
"""

from __future__ import annotations

SHELLS = ("posix", "bash", "zsh", "fish", "powershell")


def statements(shell: str, base: str) -> str:
    """The text to evaluate: both base URLs, and a `codex` that goes through the proxy.

    Codex ignores OPENAI_BASE_URL; `-c openai_base_url=...` is its own way for one run (TOML, else taken literally).
    """
    openai = f"{base}/v1"
    if shell == "fish":
        return (
            f"set -gx ANTHROPIC_BASE_URL {base};\nset -gx OPENAI_BASE_URL {openai};\n"
            f"function codex; command codex -c openai_base_url={openai} $argv; end;\n"
        )
    if shell == "powershell":
        return (
            f'$env:ANTHROPIC_BASE_URL = "{base}";\n$env:OPENAI_BASE_URL = "{openai}";\n'
            "function codex { $found = Get-Command codex -CommandType Application, ExternalScript"
            f' | Select-Object -First 1; & $found -c "openai_base_url={openai}" @args }};\n'
        )
    return f"export ANTHROPIC_BASE_URL={base};\nexport OPENAI_BASE_URL={openai};\n{_function(openai)}\n"


def _function(openai: str) -> str:
    """A function named codex, whatever the shell.

    With an alias of that name, `codex() {` is a syntax error in bash and zsh that would lose the exports too, so there
    (and in ksh) the form with `function` is taken, where a name is not alias-expanded; dash knows only the other form.
    Both stand in quotes until `eval`, so that no shell parses the form it does not know.
    """
    body = f'{{ command codex -c openai_base_url={openai} "$@"; }}'
    return (
        'if test -n "${BASH_VERSION-}${ZSH_VERSION-}${KSH_VERSION-}";'
        f" then eval 'function codex {body}';"
        f" else if unalias codex 2>/dev/null; then :; fi; eval 'codex() {body}'; fi;"
    )


def usage(shell: str) -> str:
    """How the text is evaluated."""
    return {
        "fish": "lunaroute env --shell fish | source",
        "powershell": "lunaroute env --shell powershell | Out-String | Invoke-Expression",
    }.get(shell, 'eval "$(lunaroute env)"')
