#!/usr/bin/env bash
# Builds llama_cy on a Mac with Metal embedded, from the sources here, and checks that Metal is there. Safe to repeat.
set -euo pipefail
cd "$(dirname "$0")"

usage() {
    cat <<'TEXT'
usage: ./build_metal.sh [--debug] [--clean] [--wheel] [--dry-run]
  --debug    symbols and assertions, no optimisation
  --clean    start from nothing
  --wheel    leave a wheel for any arm64 Mac in dist/ instead of installing into .venv
  --dry-run  print the commands
TEXT
}

debug='' clean='' wheel='' dry=''
for option in "$@"; do
    case "$option" in
        --debug) debug=1 ;;
        --clean) clean=1 ;;
        --wheel) wheel=1 ;;
        --dry-run) dry=1 ;;
        -h | --help) usage; exit 0 ;;
        *) echo "build_metal.sh: unknown option $option" >&2; usage >&2; exit 2 ;;
    esac
done

fail() {
    echo "build_metal.sh: $1" >&2
    exit 1
}

run() {
    printf '+ %s\n' "$*"
    if [ -z "$dry" ]; then "$@"; fi
}

python="${PYTHON:-python3}"
if [ -z "$dry" ]; then
    [ "$(uname -s)" = Darwin ] || fail "Metal needs macOS; on $(uname -s) use \`make build\`"
    [ "$(sysctl -n hw.optional.arm64 2>/dev/null || echo 0)" = 1 ] ||
        fail "Metal is built for Apple silicon; on an Intel Mac use \`make build\`"
    if [ "$(sysctl -n sysctl.proc_translated 2>/dev/null || echo 0)" = 1 ]; then
        # A Rosetta shell: what it starts would build for x86_64.
        exec arch -arm64 /bin/bash "$0" "$@"
    fi
    xcode-select -p >/dev/null 2>&1 || fail "no compiler; install it with \`xcode-select --install\`"
    command -v make >/dev/null || fail "no make; install it with \`xcode-select --install\`"
    command -v "$python" >/dev/null || fail "no $python; install it with \`brew install python\`"
    machine=$("$python" -c 'import platform; print(platform.machine())')
    [ "$machine" = arm64 ] ||
        fail "$python is $machine on an arm64 Mac; use an arm64 Python, for example from \`brew install python\`"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "$python is older than 3.10; install a newer one with \`brew install python\`"
fi

# setup.py turns Metal on and embeds its library unasked; with other settings `make test` would build once more.
if [ -n "$debug" ]; then
    export CMAKE_ARGS="-DCMAKE_BUILD_TYPE=Debug${CMAKE_ARGS:+ $CMAKE_ARGS}"
    printf '+ export CMAKE_ARGS=%q\n' "$CMAKE_ARGS"
fi
if [ -n "$clean" ]; then run make clean; fi
if [ -n "$wheel" ]; then
    # Code for the oldest Apple silicon, not for the one at hand.
    export LLAMA_CY_PORTABLE=1
    printf '+ export LLAMA_CY_PORTABLE=1\n'
    run "$python" -m pip wheel --no-deps --wheel-dir dist .
else
    run make build PYTHON="$python"
    run .venv/bin/python -c "
import llama_cy
kinds = [device.name for device in llama_cy.devices()]
assert any(name.startswith(('MTL', 'Metal')) for name in kinds), f'Metal is missing: {kinds}'
print('Metal is ready:', ', '.join(kinds))"
fi
