#!/bin/bash
# From a bare Debian 12 machine to a job behind walls, in one command:
#
#   bash vendor-config/quickstart.sh [--dir DIR] [--keep]
#
# Installs what a build needs (apt), builds the release programs (cargo; about a quarter of an hour the first time, for
# gRPC's C++ core), sets up a node in DIR (default ~/.joblet-quickstart) with certificates of its own, starts the daemon,
# analyses a web server's log in a job, lets a hostile program try to get out of one, and stops the daemon again unless
# --keep is given. Asks nothing, and may be run again: what is there is used.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dir=$HOME/.joblet-quickstart
keep=no
daemon=

while [ $# -gt 0 ]; do
    case $1 in
    --dir) dir=${2:?--dir needs a directory}; shift 2 ;;
    --dir=*) dir=${1#--dir=}; shift ;;
    --keep) keep=yes; shift ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
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

# The log of the build scrolls by in a file; one line a minute says that it goes on.
build() {
    local log=$1 started=$SECONDS pid
    (cd "$root" && cargo build --release --locked --bins) >"$log" 2>&1 &
    pid=$!
    while ! timeout 60 tail --pid="$pid" -f /dev/null; do
        echo "   ... $((SECONDS - started)) s, now: $(grep -v '^ *$' "$log" | tail -1 | cut -c1-90)"
    done
    wait "$pid" || { tail -30 "$log" >&2; die "the build failed; whole log: $log"; }
}

cgroup_mount() { awk '/ - cgroup2 / {print $5; exit}' /proc/self/mountinfo; }

# Which limits can this host enforce? joblet needs a cgroup v2 hierarchy that has the controllers.
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

stop_daemon() {
    [ -n "$daemon" ] || return 0
    kill -TERM "$daemon" 2>/dev/null || return 0
    timeout 30 tail --pid="$daemon" -f /dev/null || { echo "the daemon does not stop; killing it" >&2; kill -KILL "$daemon"; }
    daemon=
}

# Start the daemon and wait until it answers: each try fails fast, and the daemon must stay alive meanwhile.
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

say "1. what a build needs"
. "$root/vendor-config/build-needs.sh"
need_packages "${build_packages[@]}" python3 || exit 1
need_rust "$root" || exit 1
echo "$(cargo --version), $(g++ --version | head -1)"

say "2. building joblet and rnx"
target=${CARGO_TARGET_DIR:-$root/target}
mkdir -p "$dir"
echo "log: $dir/build.log (the first time about 15 minutes on two cores, nearly all of it gRPC's C++ core)"
build "$dir/build.log"
joblet=$target/release/joblet
rnx=$target/release/rnx
"$joblet" --version

say "3. a node in $dir"
read -r mode missing <<<"$(enforcement)"
if [ ! -f "$dir/joblet-config.yml" ]; then
    "$joblet" setup --dir "$dir" --host localhost --host 127.0.0.1 --port "$(free_port)" --enforcement "$mode"
    # Started from a login, the daemon shares its cgroup with the shell, and a group with processes cannot pass
    # controllers on: name it one of its own. (As a service it has one: systemd/joblet.service says Delegate=yes.)
    [ "$mode" != strict ] || sed -i "s|^cgroup:\$|cgroup:\\n  baseDir: $(cgroup_mount)/joblet-quickstart|" "$dir/joblet-config.yml"
else
    echo "there is one already (certificates and configuration are kept)"
fi
if [ "$mode" = strict ]; then
    echo "Limits on this host: all of them. It has a cgroup v2 hierarchy with cpu, memory and pids, so a job's limits on"
    echo "processor time, memory and processes are enforced by the kernel, and a job whose limit cannot be set does not start."
else
    echo "Limits on this host: walls yes, cgroup limits not all. Its cgroup v2 hierarchy lacks: $missing. Jobs are just as"
    echo "isolated, but --max-cpu, --max-memory and the like are not enforced where the controller is missing; the status of a"
    echo "job says which. (\"best-effort\"; on a pure cgroup v2 host this script chooses \"strict\".)"
fi

say "4. the daemon"
if "$rnx" --config "$dir/rnx-config.yml" job list >/dev/null 2>&1; then
    echo "it runs already, from an earlier call with --keep: using it, and leaving it alone at the end"
    keep=running
else
    trap stop_daemon EXIT
    start_daemon
    port=$(sed -n 's/^ *port: *//p' "$dir/joblet-config.yml" | head -1)
    echo "joblet runs as process $daemon, speaks mutual TLS on port $port, and logs to $dir/daemon.log"
fi
run=("$rnx" --config "$dir/rnx-config.yml")

say "5. a real job: what does a web server's log of 2000 lines say?"
show "${run[@]}" job run --name log-analysis --follow --upload "$root/tests/data/analyse.py" --upload "$root/tests/data/access.log" \
    python3 analyse.py access.log
id=$("${run[@]}" job list --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[-1]["id"])')
show "${run[@]}" job status "$id"

say "6. a hostile job: root in its own world, nobody outside"
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
