#!/bin/bash
# From a bare Debian 12 machine to a running, isolated job, in one command:
#
#   bash vendor-config/quickstart.sh [--dir DIR] [--keep] [--network none]
#
# The script installs the build tools (apt), builds the release programs (cargo; the first build compiles gRPC's C++ core, and
# the script prints how long that takes), and sets up a node in DIR (default ~/.joblet-quickstart) with its own certificates.
# It starts the daemon, analyses a web server's log in a job, lets a hostile program try to escape from a job, and stops the
# daemon again unless --keep is given. Its jobs reach the internet through an interface joblet0 and a table of nftables, which
# go with the daemon; with --network none they have no network, and nothing of the host's is touched. It asks no question. A second run uses the programs and the node of the first.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dir=$HOME/.joblet-quickstart
keep=no
network=bridge
daemon=

while [ $# -gt 0 ]; do
    case $1 in
    --dir) dir=${2:?--dir needs a directory}; shift 2 ;;
    --dir=*) dir=${1#--dir=}; shift ;;
    --keep) keep=yes; shift ;;
    --network) network=${2:?--network needs a mode}; shift 2 ;;
    --network=*) network=${1#--network=}; shift ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) echo "unknown argument: $1 (try --help)" >&2; exit 2 ;;
    esac
done

dir=$(realpath -m "$dir")

say() { printf '\n== %s\n' "$*"; }
die() { echo "quickstart: $*" >&2; exit 1; }

# show COMMAND...: prints the command as a user would type it, then runs it
show() {
    local words=${*//$rnx/rnx}
    printf '\n$ %s\n' "${words/ --config $dir\/rnx-config.yml/}"
    "$@"
}

# The output of the build goes to a file; one line a minute shows its progress.
build() {
    local log=$1
    cargo_build() { (cd "$root" && cargo build --release --locked --bins) >"$log" 2>&1; }
    with_progress "building" cargo_build || { tail -30 "$log" >&2; die "the build failed; whole log: $log"; }
}

cgroup_mount() { awk '/ - cgroup2 / {print $5; exit}' /proc/self/mountinfo; }

# The enforcement mode for this host: strict where a cgroup v2 hierarchy has every controller, else best-effort and the
# missing controllers.
enforcement() {
    local mount controllers=" " wanted missing=
    mount=$(cgroup_mount)
    [ -n "$mount" ] && controllers=" $(cat "$mount/cgroup.controllers") "
    for wanted in cpu memory io pids cpuset; do
        case $controllers in *" $wanted "*) ;; *) missing="$missing $wanted" ;; esac
    done
    if [ -z "$missing" ]; then
        echo strict
    else
        echo "best-effort$missing"
    fi
}

free_port() {
    local port
    for port in $(seq 50051 50150); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
    die "no free port between 50051 and 50150"
}

# Whether the kernel has what the router of jobs' networks needs. The doctor fails where anything else is wrong with the host.
router_is_possible() {
    { "$joblet" doctor --json --config "$dir/joblet-config.yml" 2>/dev/null || true; } |
        python3 -c 'import json, sys
sys.exit(not any(c["check"] == "network.router" and c["status"] == "ok" for c in json.load(sys.stdin)))'
}

stop_daemon() {
    [ -n "$daemon" ] || return 0
    kill -TERM "$daemon" 2>/dev/null || return 0
    timeout 30 tail --pid="$daemon" -f /dev/null || { echo "the daemon does not stop; killing it" >&2; kill -KILL "$daemon"; }
    daemon=
}

# Starts the daemon and waits until it answers: each try fails fast, and the daemon must stay alive meanwhile.
start_daemon() {
    "$joblet" --foreground --config "$dir/joblet-config.yml" >"$dir/daemon.log" 2>&1 &
    daemon=$!
    local until=$((SECONDS + 30))
    until "$rnx" --config "$dir/rnx-config.yml" job list >/dev/null 2>"$dir/last-try.log"; do
        kill -0 "$daemon" 2>/dev/null || { tail -20 "$dir/daemon.log" >&2; daemon=; die "the daemon did not start; its log: $dir/daemon.log"; }
        [ "$SECONDS" -lt "$until" ] || { cat "$dir/last-try.log" >&2; die "the daemon does not answer; its log: $dir/daemon.log"; }
    done
    rm -f "$dir/last-try.log"
}

[ "$(id -u)" -eq 0 ] || die "joblet builds namespaces and cgroups: run this as root"

say "1. the tools for the build"
. "$root/vendor-config/build-needs.sh"
need_packages "${build_packages[@]}" python3 || exit 1
need_rust "$root" || exit 1
echo "$(cargo --version), $(g++ --version | head -1)"

say "2. building joblet and rnx"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
mkdir -p "$dir"
echo "log: $dir/build.log (a first build takes about $cold_build_minutes minutes on two cores, nearly all of it for gRPC's C++ core)"
build "$dir/build.log"
joblet=$CARGO_TARGET_DIR/release/joblet
rnx=$CARGO_TARGET_DIR/release/rnx
"$joblet" --version

say "3. a node in $dir"
read -r mode missing <<<"$(enforcement)"
if [ ! -f "$dir/joblet-config.yml" ]; then
    "$joblet" setup --dir "$dir" --host localhost --host 127.0.0.1 --port "$(free_port)" --enforcement "$mode"
    # A daemon that is started from a login shares its cgroup with the shell, and a group with processes cannot pass
    # controllers on: the configuration names a group for the daemon alone. (A service has one: systemd/joblet.service has
    # Delegate=yes.)
    [ "$mode" != strict ] || sed -i "s|^cgroup:\$|cgroup:\\n  baseDir: $(cgroup_mount)/joblet-quickstart|" "$dir/joblet-config.yml"
    printf 'network:\n  default_network: %s\n' "$network" >>"$dir/joblet-config.yml"
    if [ "$network" != none ] && ! router_is_possible; then
        echo "This host cannot give jobs a network (\`joblet doctor\`, check network.router): they have none."
        sed -i "s/default_network: $network/default_network: none/" "$dir/joblet-config.yml"
    fi
else
    echo "a node is there already; its certificates and configuration are kept"
fi
if [ "$mode" = strict ]; then
    echo "Limits on this host: all of them. It has a cgroup v2 hierarchy with cpu, memory and pids, so a job's limits on"
    echo "processor time, memory and processes are enforced by the kernel, and a job whose limit cannot be set does not start."
else
    echo "Limits on this host: full isolation, but not all cgroup limits. Its cgroup v2 hierarchy lacks: $missing. Jobs are as"
    echo "isolated as elsewhere, but limits such as --max-cpu and --max-memory are not enforced where the controller is missing;"
    echo "the status of a job names them. (\"best-effort\"; on a pure cgroup v2 host this script chooses \"strict\".)"
fi

say "4. the daemon"
if "$rnx" --config "$dir/rnx-config.yml" job list >/dev/null 2>&1; then
    echo "it runs already, from an earlier call with --keep: the script uses it and leaves it running at the end"
    keep=running
else
    trap stop_daemon EXIT
    start_daemon
    port=$(sed -n 's/^ *port: *//p' "$dir/joblet-config.yml" | head -1)
    echo "joblet runs as process $daemon, speaks mutual TLS on port $port, and logs to $dir/daemon.log"
fi
run=("$rnx" --config "$dir/rnx-config.yml")

say "5. a real job: the analysis of a web server's log of 2000 lines"
show "${run[@]}" job run --name log-analysis --follow --upload "$root/tests/data/analyse.py" --upload "$root/docs/examples/access.log" \
    python3 analyse.py access.log
id=$("${run[@]}" job list --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[-1]["id"])')
show "${run[@]}" job status "$id"

say "6. a hostile job: root in its own user namespace, nobody on the host"
code=0
show "${run[@]}" job run --name hostile --follow --upload "$root/tests/jobs/hostile.py" python3 hostile.py || code=$?
[ "$code" -eq 0 ] || die "the hostile job ended with $code: something it tried worked, or it did not run"

say "done"
if [ "$keep" = yes ]; then
    trap - EXIT
    echo "The daemon keeps running as process $daemon. Try:"
    echo "  $rnx --config $dir/rnx-config.yml job run --follow -- sh -c 'id; hostname; ls /'"
    echo "Stop it with: kill $daemon"
elif [ "$keep" = no ]; then
    stop_daemon
    echo "The daemon has been stopped; run this again with --keep to leave it running. The node stays in $dir."
fi
