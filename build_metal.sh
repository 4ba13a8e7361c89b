#!/usr/bin/env bash
# Builds llama_cy on a Mac with Metal embedded, from the sources here, and checks that Metal is there. Safe to repeat.
set -euo pipefail
cd "$(dirname "$0")"

usage() {
    cat <<'TEXT'
usage: ./build_metal.sh [--debug] [--clean] [--wheel] [--dry-run]
  --debug    symbols, no optimisation
  --clean    start from nothing
  --wheel    leave a wheel in dist/ instead of installing into .venv
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
    xcode-select -p >/dev/null 2>&1 || fail "no compiler; install it with \`xcode-select --install\`"
    command -v "$python" >/dev/null || fail "no $python; install it with \`brew install python\`"
    machine=$("$python" -c 'import platform; print(platform.machine())')
    host=$(sysctl -n hw.optional.arm64 2>/dev/null || echo 0)
    if [ "$host" = 1 ] && [ "$machine" != arm64 ]; then
        fail "$python is $machine on an arm64 Mac; use an arm64 Python, for example from \`brew install python\`"
    fi
fi

export CMAKE_ARGS="-DGGML_METAL=ON -DGGML_METAL_EMBED_LIBRARY=ON ${debug:+-DCMAKE_BUILD_TYPE=Debug} ${CMAKE_ARGS:-}"
printf '+ export CMAKE_ARGS=%q\n' "$CMAKE_ARGS"
if [ -n "$clean" ]; then run make clean; fi
if [ -n "$wheel" ]; then
    run "$python" -m pip wheel --no-deps --wheel-dir dist .
else
    run make build PYTHON="$python"
    run .venv/bin/python -c "
import llama_cy
names = [device.name for device in llama_cy.devices()]
assert any('M' in name and 'CPU' not in name for name in names), f'Metal is missing: {names}'
print('Metal is ready:', ', '.join(names))"
fi
