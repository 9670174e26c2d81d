# Sourced by vendor-config/quickstart.sh and tests/run.sh: installs what a build of joblet needs on a bare Debian 12, and
# nothing when everything is there. Only packages by name from apt; no question is asked.
#
#   need_packages PACKAGE...    installs the missing ones
#   need_rust                   a Rust of at least the package's rust-version, else Debian's rustc-web and cargo-web

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

# rust_is_enough DIR: is there a cargo, and a rustc that is not older than DIR/Cargo.toml asks for?
rust_is_enough() {
    local have
    cargo --version >/dev/null 2>&1 || return 1
    have=$(rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p')
    [ -n "$have" ] || return 1
    [ "$(printf '%s\n%s\n' "$(wanted_rust "$1")" "$have" | sort -V | head -1)" = "$(wanted_rust "$1")" ]
}

# need_rust DIR
need_rust() {
    local dir=$1
    rust_is_enough "$dir" && return 0
    need_packages rustc-web cargo-web || return 1
    # An old toolchain of the user's own may stand earlier in PATH.
    export PATH="/usr/bin:$PATH"
    hash -r
    rust_is_enough "$dir" && return 0
    echo "no Rust of at least $(wanted_rust "$dir") to be had: $(rustc --version 2>&1 | head -1)" >&2
    return 1
}
