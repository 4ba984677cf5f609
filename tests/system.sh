#!/bin/sh
# Installs what the tests drive and pip cannot bring, where it may (apt, as root or by sudo without a password);
# elsewhere says what to install and fails, so that no test is left out in silence.
set -eu

# command (alternatives by |) : Debian package : Homebrew formula
wanted='
chromium|chromium-browser|google-chrome:chromium:chromium
zsh:zsh:zsh
ksh:ksh:ksh
dash:dash:dash
fish:fish:fish
jq:jq:jq
curl:curl:curl
git:git:git
ps:procps:
npm:npm:node
valgrind:valgrind:
fiu-run:fiu-utils:
'

have() {
    command -v "$1" >/dev/null 2>&1 && return 0
    # a browser on macOS is an application, not a command
    case $1 in
        chromium) [ -d /Applications/Chromium.app ] ;;
        google-chrome) [ -d "/Applications/Google Chrome.app" ] ;;
        *) return 1 ;;
    esac
}

missing() {
    for line in $wanted; do
        found=
        for name in $(echo "${line%%:*}" | tr '|' ' '); do
            if have "$name"; then found=1; fi
        done
        if [ -z "$found" ]; then echo "$line" | cut -d: -f"$1"; fi
    done
}

if [ "$(uname -s)" = Darwin ]; then
    need=$(missing 3 | xargs)
    [ -z "$need" ] && exit 0
    echo "The tests need more programs: brew install $need" >&2
    exit 1
fi

need=$(missing 2 | xargs)
[ -z "$need" ] && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "The tests need these programs, please install them: $need" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then sudo=; elif sudo -n true 2>/dev/null; then sudo=sudo; else
    echo "The tests need more programs: sudo apt-get install $need" >&2
    exit 1
fi
echo "Installing for the tests: $need"
$sudo apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $need >/dev/null
