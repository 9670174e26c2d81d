# Sourced by what runs in a guest: words of the checks, and the driver that runs them.
#
# A check is a function with the name of its test. It gets this name as its first word, looks at one thing, and says `pass`
# or `fail` with a reason. All times are the guest's own.

pass() { echo "PASS $1"; }
fail() {
    echo "FAIL $*"
}

# now: hundredths of a second since the guest was booted
now() { cut -d' ' -f1 /proc/uptime | tr -d .; }

# until_true SECONDS COMMAND...: looks again and again, and leaves the processors to others in between
until_true() {
    local end=$(($(now) + $1 * 100))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(now)" -lt "$end" ] || return 1
        sleep 0.1
    done
}

rnx() { command rnx --config $node/rnx-config.yml "$@"; }
newest() { rnx job list | tail -1 | cut -d' ' -f1; }

# run_job FLAGS... COMMAND...: runs a job to its end. Its id is in $id, its last status as JSON in /tmp/status and its output in
# /tmp/output, which is taken from the spool: every call of rnx costs the guest a second.
run_job() {
    local dir
    rm -f /tmp/output
    id=$(rnx job run -q "$@" 2>/tmp/status) || return 1
    dir=$(group "$id")
    until_true 90 test ! -d "$dir"
    until_true 30 sh -c "command rnx --config $node/rnx-config.yml --json job status $id >/tmp/status && ! grep -q RUNNING /tmp/status"
    cp "$node/spool/$id/stdout" /tmp/output
}

# said FIELD: of that status; empty where it has none
said() { tr -d ' ",' </tmp/status | sed -n "s/^$1://p" | head -1; }
group() { find /sys/fs/cgroup -type d -name "*$1*" | head -1; }

# status ID FIELD: of the reply as JSON; empty where it has none
status() { rnx --json job status "$1" | tr -d ' ",' | sed -n "s/^$2://p" | head -1; }

# value FILE KEY: the number beside a key
value() { sed -n "s/^$2 //p" "$1"; }

# within LOW VALUE HIGH: is it within?
within() { [ -n "$2" ] && [ "$1" -le "$2" ] && [ "$2" -le "$3" ]; }

# numbered FLAGS...: a job that prints numbered lines until SIGUSR1 and exits with 7
numbered() {
    rnx job run -q "$@" sh -c 'trap over=1 USR1; i=0; while [ -z "$over" ]; do i=$((i+1)); echo line $i; sleep 0.3; done; echo $i; exit 7'
}

# payloads ID...: the first process of each, which joblet-init started; nothing for a job that has none
payloads() {
    local id
    for id in "$@"; do
        grep -lx 'sh\|sleep' $(sed 's|.*|/proc/&/comm|' "$(group "$id")/cgroup.procs" 2>/dev/null) /dev/null | head -1
    done
}

# begun ID...: the same, as soon as all of them have one
begun() {
    all_begun() { [ "$(payloads "$@" | wc -l)" = $# ]; }
    until_true 30 all_begun "$@"
    payloads "$@"
}

is_over() { [ "$(status "$1" status)" != RUNNING ]; }

# told_in_full ID [FILE]: tells it to end; each of its lines is there once and in order, and it exited with 7; else says what not
told_in_full() {
    local first
    # Behind its trap, so that the signal is heard.
    prints() { rnx job log --no-follow "$1" | grep -q line; }
    until_true 60 prints "$1" || { echo "job $1 prints nothing"; return 1; }
    first=$(payloads "$1")
    first=${first#/proc/}
    kill -USR1 "${first%/comm}" || { echo "job $1 is gone"; return 1; }
    until_true 120 is_over "$1" || { echo "job $1 does not end: $(status "$1" status)"; return 1; }
    [ "$(status "$1" exitCode)" = 7 ] || { rnx job status "$1"; return 1; }
    [ -z "$2" ] || wait
    rnx job log "$1" >/tmp/printed
    first=$(tail -n 1 "${2:-/tmp/printed}")
    (seq "$first" | sed 's/^/line /'; echo "$first") >/tmp/wanted
    # Not by diff, cmp or cksum, which are not in every guest.
    sha256sum </tmp/wanted >/tmp/sum && [ "$(cat /tmp/sum)" = "$(sha256sum <"${2:-/tmp/printed}")" ] || { echo "lines of $1 are missing or doubled:"; sort "${2:-/tmp/printed}" | uniq -c | sort -k3n | head -50; return 1; }
}

# run_checks FILE: each name in it, in a shell of its own: a check that dies must not take pid 1 along. One that boots the guest
# anew is called again then, and those before it are not.
run_checks() {
    local name started
    for name in $(sed -n 's/^TEST //p' "$1"); do
        ! grep -qsx "$name" /checks/done || continue
        started=$(now)
        echo "---- $name begins at $((started / 100)) s"
        ($name $name) || echo "FAIL $name died"
        echo "$name" >>/checks/done
        echo "---- $name took $((($(now) - started) / 100)) s"
    done
}

# configure FILE SECTION KEY VALUE: sets one key of a node's configuration
configure() {
    if grep -q "^$2:\$" "$1"; then
        sed -i "s|^$2:\$|$2:\n  $3: $4|" "$1"
    else
        printf '%s:\n  %s: %s\n' "$2" "$3" "$4" >>"$1"
    fi
}
