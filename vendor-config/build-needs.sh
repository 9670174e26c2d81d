# Sourced by vendor-config/quickstart.sh and tests/run.sh: installs the tools that a build of joblet needs on a bare Debian 12,
# and nothing when all of them are there. It installs packages by name with apt and asks no question.
#
#   need_packages PACKAGE...            installs the missing ones
#   need_rust DIR                       finds a Rust of at least the rust-version of DIR/Cargo.toml, else installs Debian's
#                                       rustc-web and cargo-web
#   with_progress WHAT COMMAND...       runs the command and prints a line of progress every minute

# Minutes that a build takes on two processors when the target directory is empty, nearly all of it for gRPC's C++ core.
# shellcheck disable=SC2034 # the scripts that source this file print it
cold_build_minutes=15

build_packages=(build-essential g++ make cmake pkg-config libssl-dev ca-certificates)

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

package_is_installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

need_packages() {
    local missing=() package log
    for package in "$@"; do
        package_is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    echo "installing with apt: ${missing[*]}"
    log=$(mktemp)
    if ! { as_root apt-get update -q && as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        tail -20 "$log" >&2
        echo "apt could not install: ${missing[*]} (whole log: $log)" >&2
        return 1
    fi
    rm -f "$log"
}

wanted_rust() {
    sed -n 's/^rust-version = "\(.*\)"/\1/p' "$1/Cargo.toml"
}

# rust_is_enough DIR: succeeds when there are a cargo and a rustc of at least the rust-version of DIR/Cargo.toml
rust_is_enough() {
    local have
    cargo --version >/dev/null 2>&1 || return 1
    have=$(rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p')
    [ -n "$have" ] || return 1
    [ "$(printf '%s\n%s\n' "$(wanted_rust "$1")" "$have" | sort -V | head -1)" = "$(wanted_rust "$1")" ]
}

need_rust() {
    local dir=$1
    rust_is_enough "$dir" && return 0
    need_packages rustc-web cargo-web || return 1
    # An older toolchain of the user may come first in PATH.
    export PATH="/usr/bin:$PATH"
    hash -r
    rust_is_enough "$dir" && return 0
    echo "cannot install a Rust of at least $(wanted_rust "$dir"); found: $(rustc --version 2>&1 | head -1)" >&2
    return 1
}

# grpc_makefiles: the makefiles, in the current directory, of the library grpc and of every library that it depends on
grpc_makefiles() {
    awk '
        /^[^ ]+\.dir\/all: / {
            target = $1; sub(/\/all:$/, "", target)
            other = $2
            if (sub(/\/all$/, "", other)) needs[target] = needs[target] " " other
        }
        END {
            queue[last = 1] = "CMakeFiles/grpc.dir"
            for (at = 1; at <= last; at++) {
                print queue[at] "/build.make"
                n = split(needs[queue[at]], names, " ")
                for (i = 1; i <= n; i++) if (!(names[i] in seen)) { seen[names[i]]; queue[++last] = names[i] }
            }
        }' CMakeFiles/Makefile2
}

# cpp_progress: the share of gRPC's C++ files that are compiled, while some are not; cargo prints nothing about them
cpp_progress() {
    local target=${CARGO_TARGET_DIR:-target} build ready all
    build=$(find "$target"/release/build/grpcio-sys-*/out/build -maxdepth 1 -name Makefile -printf '%T@ %h\n' 2>/dev/null | sort -n | tail -1)
    build=${build#* }
    [ -n "$build" ] || return 0
    ready=$(find "$build" -name '*.o' | wc -l)
    all=$(cd "$build" && grpc_makefiles | xargs grep -hE '\.o: .*/flags\.make$' 2>/dev/null | sort -u | wc -l)
    [ "$ready" -ge "$all" ] || echo "; gRPC's C++: $((100 * ready / all)) % ($ready of $all files)"
}

with_progress() {
    local what=$1 started=$SECONDS pid
    shift
    "$@" &
    pid=$!
    while ! timeout 60 tail --pid="$pid" -f /dev/null; do
        echo "   ... $what: $((SECONDS - started)) s so far$(cpp_progress)"
    done
    wait "$pid"
}
