#!/bin/bash
# Installs the tools that the tests need and runs the tests: as root, on a bare Debian 12 machine that reaches package registries.
#
#   tests/run.sh            all tiers but programs and soak: checks unit kernel e2e vm
#   tests/run.sh TIER...    some of: checks unit kernel e2e vm programs soak
#   tests/run.sh fast       unit kernel e2e: no check of the sources, no virtual machine
#
# The tests of all requested tiers are built once, before the first of them runs. The tier programs installs about fifty
# programs of Debian with apt and compares each inside and outside of a job; e2e has the first twelve of them. The tier soak repeats the long loops of the
# tiers kernel and e2e (tests/helper/soak.rs) for hours. The script ends with the time of each tier, the names of failed and
# skipped tests, and the line "N passed, N failed, N skipped". A test that cannot run on this host reports that through
# $JOBLET_SKIP_LOG (tests/helper/skip.rs) and counts as skipped, not as passed.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
. vendor-config/build-needs.sh

export CARGO_TERM_COLOR=never
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
# The cache keeps what tests fetch or compile (kernel, Python packages, small C programs) between runs.
export JOBLET_TEST_CACHE=${JOBLET_TEST_CACHE:-$CARGO_TARGET_DIR/joblet-tests}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export JOBLET_SKIP_LOG=$work/skipped
: >"$JOBLET_SKIP_LOG"
: >"$work/failed"
: >"$work/times"
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

# tool NAME: succeeds when cargo has this subcommand; else the check counts as skipped
tool() {
    cargo "$1" --version >/dev/null 2>&1 && return 0
    printf 'check: cargo %s\tthis Rust has no cargo %s (rustup component add, or Debian'"'"'s package)\n' "$1" "$1" >>"$work/ignored"
    return 1
}

# timed NAME COMMAND...: runs the command and keeps its time for the summary
timed() {
    local name=$1 started=$SECONDS status=0 took
    shift
    "$@" || status=$?
    took=$((SECONDS - started))
    printf 'time     %-8s %3d min %2d s\n' "$name" $((took / 60)) $((took % 60)) >>"$work/times"
    return $status
}

# targets TIER: the arguments by which cargo knows the test programs of a tier. The programs joblet and rnx have no unit tests.
targets() {
    case $1 in
    unit) echo --lib --test house ;;
    kernel) echo --test kernel ;;
    e2e) echo --test e2e --test cloudwatch --test programs ;;
    vm) echo --test vm ;;
    programs) echo --test programs ;;
    soak) echo --test kernel --test e2e ;;
    esac
}

# build_tests TIER...: one build for all of them, so that cargo compiles independent programs side by side
build_tests() {
    local arguments=() tier
    for tier in "$@"; do
        # shellcheck disable=SC2207 # words
        arguments+=($(targets "$tier"))
    done
    [ ${#arguments[@]} -gt 0 ] || return 0
    say "building the tests of: $*"
    timed build with_progress "building the tests" cargo test --release --locked --no-run "${arguments[@]}" && return 0
    fail "the tests do not build"
    return 1
}

# sum LOG WORD: the sum of the numbers in front of "passed" or "failed" in the result lines of all test programs
sum() { sed -n "s/^test result: .* \([0-9]*\) $2;.*/\1/p" "$1" | awk '{s += $1} END {print s + 0}'; }

# run_tests TIER ARGUMENTS-OF-THE-TEST-PROGRAMS...
run_tests() {
    local tier=$1 log=$work/$1.log arguments status n
    shift
    say "tier $tier"
    read -ra arguments <<<"$(targets "$tier")"
    cargo test --release --locked --no-fail-fast "${arguments[@]}" -- "$@" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    passed=$((passed + $(sum "$log" passed)))
    n=$(sum "$log" failed)
    failed=$((failed + n))
    sed -n "s/^test \(.*\) \.\.\. FAILED.*/$tier: \1/p" "$log" >>"$work/failed"
    sed -n "s/^test \(.*\) \.\.\. ignored.*/\1\tmarked #[ignore]/p" "$log" >>"$work/ignored"
    # A test program that died in the middle has no result line: it must not pass unseen.
    if [ "$status" -ne 0 ] && [ "$n" -eq 0 ]; then
        fail "tier $tier: a test program ended abnormally"
    fi
}

# soak_tests: the names of the tests that have a long version
soak_tests() {
    awk '
        FNR == 1 { test = ""; path = FILENAME; gsub(/^tests\/(kernel\/)?|\.rs$/, "", path); gsub(/\//, "::", path) }
        /^ *#\[test\]/ { marked = 1 }
        /^ *(pub )?fn / { test = ""; if (marked) { test = $2; sub(/\(.*/, "", test) } marked = 0 }
        /soak::rounds\(/ && test != "" && !(test in seen) { seen[test]; print path "::" test }
    ' tests/kernel/*.rs tests/e2e/*.rs
}

# rooted TIER: succeeds as root, who alone may make namespaces, mounts and cgroups; else the tier counts as skipped
rooted() {
    [ "$(id -u)" -eq 0 ] && return 0
    printf 'tier %s\tneeds root\n' "$1" >>"$work/ignored"
    return 1
}

tier_checks() {
    tool fmt && check "cargo fmt --check" cargo fmt --check
    tool clippy && check "cargo clippy" with_progress clippy cargo clippy --release --locked --all-targets -- -D warnings
    # The heads of the rooms describe private parts too. The programs are one call each and have no pages of their own.
    RUSTDOCFLAGS=-Dwarnings check "cargo doc" with_progress rustdoc cargo doc --release --locked --lib --no-deps --document-private-items
}

tier_unit() { run_tests unit; }
tier_kernel() { rooted kernel && run_tests kernel; }
tier_e2e() { rooted e2e && run_tests e2e --skip programs::table::long --skip programs::network::long; }
# One test at a time: some programs take a processor and a gigabyte.
tier_programs() { rooted programs && run_tests programs --test-threads=1; }
# A test waits for the verdict of its guest: with a thread for each, guests that may run side by side do.
tier_vm() { run_tests vm --test-threads=100; }
# One test at a time: the load is each test's own.
# shellcheck disable=SC2046 # words
tier_soak() { rooted soak && JOBLET_TEST_SOAK=1 run_tests soak --exact --test-threads=1 --show-output $(soak_tests); }

# Bash reads a function to its end before it runs it: an edit of this file meanwhile does no harm.
main() {
    case "${1:-all}" in
    all) tiers=(checks unit kernel e2e vm) ;;
    fast) tiers=(unit kernel e2e) ;;
    -h | --help)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"
        exit 0
        ;;
    *) tiers=("$@") ;;
    esac
    for tier in "${tiers[@]}"; do
        declare -F "tier_$tier" >/dev/null || { echo "unknown tier: $tier (try --help)" >&2; exit 2; }
    done

    need_packages "${build_packages[@]}" binutils openssl python3 python3-venv zsh fish groff-base iproute2 nftables jq strace xfsprogs busybox-static || exit 1
    need_rust "$root" || exit 1
    case " ${tiers[*]} " in
    *" checks "*)
        # Debian's Rust has them in packages of their own.
        if [ "$(command -v rustc)" = /usr/bin/rustc ]; then need_packages rustfmt-web rust-web-clippy || exit 1; fi
        ;;
    esac
    case " ${tiers[*]} " in
    *" e2e "*)
        need_packages busybox-static umoci skopeo python3-pip openjdk-17-jdk-headless || exit 1
        # A Node of another origin brings an npm of its own, beside which Debian's cannot be installed.
        command -v npm >/dev/null || need_packages npm || exit 1
        ;;
    esac
    case " ${tiers[*]} " in
    *" vm "*) need_packages qemu-system-x86 busybox-static cpio e2fsprogs dmsetup procps || exit 1 ;;
    esac

    if build_tests "${tiers[@]}"; then
        for tier in "${tiers[@]}"; do
            timed "$tier" "tier_$tier"
        done
    elif [[ " ${tiers[*]} " = *" checks "* ]]; then
        # clippy reports the same error with a better explanation.
        timed checks tier_checks
    fi

    # The test harness counted skipped tests as passed.
    sort -u "$JOBLET_SKIP_LOG" >"$work/skips"
    passed=$((passed - $(wc -l <"$work/skips")))
    cat "$work/ignored" >>"$work/skips" 2>/dev/null
    skipped=$(wc -l <"$work/skips")

    say "summary of tests/run.sh ${*:-all}"
    cat "$work/times"
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
