#!/bin/sh
# Builds the runtime of a recipe, inside of its job. Lines that begin with "==> phase" are what its client sees as phases.
set -eu
here=/work/build
runtime=/opt/runtime
PATH=$runtime/venv/bin:$runtime/npm/bin:$runtime/bin:$PATH
export PATH

phase() { echo "==> phase $1: $2"; }
fail() {
    echo "$*" >&2
    exit 1
}

hook() {
    [ -s "$here/$2" ] || {
        phase "$1" "no hook"
        return 0
    }
    phase "$1" "running the hook, $HOOK_TIMEOUT seconds at most"
    (cd /work && timeout -k 10 "$HOOK_TIMEOUT" "$here/$2") || fail "hook $2 ended with exit code $?"
}

# installed NAME PROGRAM...: the program with the packages and options of this name
installed() {
    name=$1
    shift
    while IFS= read -r word; do set -- "$@" "$word"; done <"$here/${name}_options"
    if [ "$name" = pip ]; then
        set -- "$@" -r "$here/pip"
    else
        while IFS= read -r word; do set -- "$@" "$word"; done <"$here/$name"
    fi
    "$@"
}

version() {
    case $LANGUAGE in
    python) python3 -c 'import platform; print(platform.python_version())' ;;
    java) java -version 2>&1 | sed -n 's/.*version "\([^"]*\)".*/\1/p' ;;
    node) node --version | tr -d v ;;
    go) go version | sed 's/.* go\([0-9.]*\).*/\1/' ;;
    rust) rustc --version | cut -d' ' -f2 ;;
    esac
}

hook 4 pre_install

phase 5 "looking for $LANGUAGE $LANGUAGE_VERSION"
found=$(version 2>/dev/null || true)
case $found in
'') fail "this host has no $LANGUAGE; install it there, or bring it with the hook pre_install in $runtime/bin" ;;
"${LANGUAGE_VERSION:-$found}" | "${LANGUAGE_VERSION:-$found}".*) echo "$LANGUAGE $found" ;;
*) fail "this host has $LANGUAGE $found and not $LANGUAGE_VERSION; change base.version, or bring it with the hook pre_install in $runtime/bin" ;;
esac
if [ "$LANGUAGE" = python ]; then
    if [ ! -s "$here/pip" ]; then
        python3 -m venv --without-pip "$runtime/venv"
    elif python3 -c 'import ensurepip' 2>/dev/null; then
        python3 -m venv "$runtime/venv"
    elif python3 -c 'import pip' 2>/dev/null; then
        python3 -m venv --without-pip "$runtime/venv"
        pip_of="--python $runtime/venv/bin/python3"
    else
        fail "this host's python3 has no ensurepip and no pip (Debian: install python3-venv)"
    fi
fi

if [ -s "$here/pip" ]; then
    phase 6 "installing $(wc -l <"$here/pip") packages"
    python=$runtime/venv/bin/python3
    [ -z "${pip_of:-}" ] || python=/usr/bin/python3
    # shellcheck disable=SC2086 # two words or none
    installed pip "$python" -m pip ${pip_of:-} --no-input --no-cache-dir --disable-pip-version-check install
else
    phase 6 "no packages"
fi

if [ -s "$here/npm" ]; then
    command -v npm >/dev/null || fail "this host has no npm; install it there, or bring it with the hook pre_install in $runtime/bin"
    phase 7 "installing $(wc -l <"$here/npm") packages"
    installed npm npm install --global --prefix "$runtime/npm" --no-audit --no-fund --no-update-notifier --cache /tmp/npm
else
    phase 7 "no packages"
fi

hook 8 post_install
