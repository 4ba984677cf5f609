#!/bin/sh
# Builds the compiled modules with AddressSanitizer and UndefinedBehaviorSanitizer in a copy, runs their tests there, and
# fuzzes the scanner of personal data: tests/sanitize.sh [MINUTES], 10 unless told otherwise. Needs gcc and the
# environment in .venv (or PYTHON=/path/to/python with what the tests need).
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
minutes=${1:-10}
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT

mkdir "$copy/tree"
cd "$root"
git ls-files -z setup.py pyproject.toml README.md LICENSE lunaroute tests | xargs -0 tar -cf - | tar -xf - -C "$copy/tree"
cd "$copy/tree"

export CFLAGS='-g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all'
"$python" setup.py -q build_ext --inplace >"$copy/build.log" 2>&1 || { tail -40 "$copy/build.log"; exit 1; }

LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so) $(gcc -print-file-name=libstdc++.so)"
export LD_PRELOAD
# Python itself leaks on purpose; its own allocator would hide what lies beside an object
export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc
"$python" -c "import lunaroute._fast.pii as m, sys; sys.exit(not m.__file__.startswith('$copy'))"
# not the test that starts a server: it does so in an environment of its own, without the library loaded above
"$python" -m pytest -q -p no:cacheprovider tests/fast --deselect tests/fast/test_slice.py::test_relay_and_observer_as_they_run
"$python" -m tests.fast.fuzz_pii "$minutes"
