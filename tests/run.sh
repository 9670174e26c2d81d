#!/bin/bash
# Runs the tests and everything they need, on a bare Debian 12 machine as root, with package registries in reach.
#
#   tests/run.sh            all tiers: checks unit kernel e2e vm
#   tests/run.sh TIER...    some of: checks unit kernel e2e vm
#   tests/run.sh fast       unit kernel e2e: nothing is built twice, no virtual machine
#
# Ends with the names of what failed and what was skipped, and the line "N passed, N failed, N skipped".
# A test that cannot run here says so through $JOBLET_SKIP_LOG (tests/helper/skip.rs) and counts as skipped, not as passed.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
. vendor-config/build-needs.sh

export CARGO_TERM_COLOR=never
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
# What tests fetch or compile for themselves (kernel, Python packages, small C programs) survives between runs here.
export JOBLET_TEST_CACHE=${JOBLET_TEST_CACHE:-$CARGO_TARGET_DIR/joblet-tests}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export JOBLET_SKIP_LOG=$work/skipped
: >"$JOBLET_SKIP_LOG"
: >"$work/failed"
passed=0
failed=0

say() { printf '\n== %s\n' "$*"; }

fail() {
    failed=$((failed + 1))
    echo "$1" >>"$work/failed"
}

# check NAME COMMAND...: one counted check
check() {
    local name=$1
    shift
    say "check: $name"
    if "$@"; then
        passed=$((passed + 1))
    else
        fail "check: $name"
    fi
}

# tool NAME: is this part of cargo here? If not, the check counts as skipped.
tool() {
    cargo "$1" --version >/dev/null 2>&1 && return 0
    printf 'check: cargo %s\tthis Rust has no cargo %s (rustup component add, or Debian'"'"'s package)\n' "$1" "$1" >>"$work/ignored"
    return 1
}

# beat WHAT COMMAND...: runs the command with a sign of life every minute (gRPC's C++ is silent for a quarter of an hour)
beat() {
    local what=$1 started=$SECONDS pid
    shift
    "$@" &
    pid=$!
    while ! timeout 60 tail --pid="$pid" -f /dev/null; do
        echo "   ... $what, $((SECONDS - started)) s so far"
    done
    wait "$pid"
}

# run_tests TIER CARGO-ARGUMENTS...
run_tests() {
    local tier=$1 log=$work/$1.log n
    shift
    say "tier $tier"
    if ! beat "building the tests of tier $tier" cargo test --release --locked --no-run "$@"; then
        fail "tier $tier does not build"
        return
    fi
    cargo test --release --locked --no-fail-fast "$@" 2>&1 | tee "$log"
    local status=${PIPESTATUS[0]}
    n=$(sed -n 's/^test result: .* \([0-9]*\) passed;.*/\1/p' "$log" | awk '{s += $1} END {print s + 0}')
    passed=$((passed + n))
    n=$(sed -n 's/^test result: .* \([0-9]*\) failed;.*/\1/p' "$log" | awk '{s += $1} END {print s + 0}')
    failed=$((failed + n))
    sed -n "s/^test \(.*\) \.\.\. FAILED.*/$tier: \1/p" "$log" >>"$work/failed"
    sed -n "s/^test \(.*\) \.\.\. ignored.*/\1\tmarked #[ignore]/p" "$log" >>"$work/ignored"
    # A test program that died in the middle has no result line: it must not pass unseen.
    if [ "$status" -ne 0 ] && [ "$n" -eq 0 ]; then
        fail "tier $tier: a test program ended abnormally"
    fi
}

# rooted TIER: namespaces, mounts and cgroups are root's
rooted() {
    [ "$(id -u)" -eq 0 ] && return 0
    printf 'tier %s\tneeds root\n' "$1" >>"$work/ignored"
    return 1
}

tier_checks() {
    tool fmt && check "cargo fmt --check" cargo fmt --check
    tool clippy && check "cargo clippy" beat clippy cargo clippy --release --locked --all-targets -- -D warnings
    # The rooms' heads speak of their private parts: the book is of the whole house.
    RUSTDOCFLAGS=-Dwarnings check "cargo doc" beat rustdoc cargo doc --release --locked --no-deps --document-private-items
}

tier_unit() { run_tests unit --lib --bins --test house; }
tier_kernel() { rooted kernel && run_tests kernel --test kernel; }
tier_e2e() { rooted e2e && run_tests e2e --test e2e; }
tier_vm() { run_tests vm --test vm; }

# One function, read to its end before it runs: an edit of this file meanwhile does no harm.
main() {
    case "${1:-all}" in
    all) tiers=(checks unit kernel e2e vm) ;;
    fast) tiers=(unit kernel e2e) ;;
    -h | --help)
        sed -n '2,9s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *) tiers=("$@") ;;
    esac
    for tier in "${tiers[@]}"; do
        declare -F "tier_$tier" >/dev/null || { echo "unknown tier: $tier (try --help)" >&2; exit 2; }
    done

    need_packages "${build_packages[@]}" binutils openssl python3 python3-venv zsh fish groff-base || exit 1
    need_rust "$root" || exit 1
    case " ${tiers[*]} " in
    *" checks "*)
        # Debian's Rust has them in packages of their own.
        if [ "$(command -v rustc)" = /usr/bin/rustc ]; then need_packages rustfmt-web rust-web-clippy || exit 1; fi
        ;;
    esac
    case " ${tiers[*]} " in
    *" vm "*) need_packages qemu-system-x86 busybox-static cpio e2fsprogs dmsetup || exit 1 ;;
    esac

    for tier in "${tiers[@]}"; do
        "tier_$tier"
    done

    # Tests that skipped reported "ok" to the test harness.
    sort -u "$JOBLET_SKIP_LOG" >"$work/skips"
    passed=$((passed - $(wc -l <"$work/skips")))
    cat "$work/ignored" >>"$work/skips" 2>/dev/null
    skipped=$(wc -l <"$work/skips")

    say "summary of tests/run.sh ${*:-all}"
    while IFS= read -r line; do
        echo "FAILED   $line"
    done <"$work/failed"
    while IFS=$'\t' read -r name reason; do
        echo "skipped  $name: $reason"
    done <"$work/skips"
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
}

main "$@"; exit $?
