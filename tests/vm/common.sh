# Sourced by the scripts that run in a guest: functions for the checks, and the driver that runs the checks.
#
# A check is a function with the name of its test. Its first argument is this name. It checks one thing and calls `pass`, or
# `fail` with a reason. All times are the guest's own. Each call of rnx costs the guest a second of processor time, so checks
# wait on files and control groups and call rnx for the result alone.

# mount_kernel: the file systems of the kernel, in a guest that has busybox alone
mount_kernel() {
    mount -t proc proc /proc
    mount -t sysfs sys /sys
    mount -t devtmpfs dev /dev
    mkdir -p /dev/pts /dev/shm
    mount -t devpts devpts /dev/pts
    mount -t tmpfs tmpfs /dev/shm
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /tmp
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
}

# disk SERIAL: the NVMe device with this serial number; the kernel finds the devices in any order
disk() {
    local device
    for device in /sys/class/nvme/nvme*; do
        [ "$(tr -d ' ' <$device/serial)" = "$1" ] && basename $device/nvme*n1 && return
    done
}

pass() { echo "PASS $1"; }
fail() {
    echo "FAIL $*"
}

# now: hundredths of a second since the guest was booted
now() {
    local up rest
    read -r up rest </proc/uptime
    echo "${up%.*}${up#*.}"
}

# until_true SECONDS COMMAND...: repeats the command until it succeeds, and fails when the time is over. Emulated processors are slow:
# the loop starts one process for a pause, and none to read the time.
until_true() {
    local up rest end
    read -r up rest </proc/uptime
    end=$((${up%.*} + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        read -r up rest </proc/uptime
        [ "${up%.*}" -le "$end" ] || return 1
        sleep 0.2
    done
}

rnx() { command rnx --config $node/rnx-config.yml "$@"; }
newest() { rnx job list | tail -1 | cut -d' ' -f1; }

# run_job FLAGS... COMMAND...: runs a job to its end. Leaves its id in $id, its last status as JSON in /tmp/status and its output,
# from the spool or from history, in /tmp/output.
run_job() {
    local dir
    rm -f /tmp/output
    id=$(rnx job run -q "$@" 2>/tmp/status) || return 1
    dir=$(group "$id")
    until_true 90 test ! -d "$dir"
    until_true 30 sh -c "command rnx --config $node/rnx-config.yml --json job status $id >/tmp/status && ! grep -q RUNNING /tmp/status"
    # Where history has it already, the spool has it no longer.
    cp "$node/spool/$id/stdout" /tmp/output 2>/dev/null || rnx job log --no-follow --stream=stdout "$id" >/tmp/output 2>/dev/null
}

# said FIELD: the field of that status; empty when the status lacks it
said() { tr -d ' ",' </tmp/status | sed -n "s/^$1://p" | head -1; }
group() { find /sys/fs/cgroup -type d -name "*$1*" | head -1; }

# status ID FIELD...: the fields of the job's status, separated by a space; empty where the status lacks one
status() {
    local field all values=
    all=$(rnx --json job status "$1" | tr -d ' ",')
    shift
    for field in "$@"; do
        values="$values $(printf '%s\n' "$all" | sed -n "s/^$field://p" | head -1)"
    done
    echo "${values# }"
}

# spool_of ID: the directory with the job's output
spool_of() { echo "$(sed -n 's/^dataDir: *//p' $node/joblet-config.yml | tr -d '"')/spool/$1"; }

# value FILE KEY: the number behind a key
value() { sed -n "s/^$2 //p" "$1"; }

# within LOW VALUE HIGH: succeeds when LOW <= VALUE <= HIGH
within() { [ -n "$2" ] && [ "$1" -le "$2" ] && [ "$2" -le "$3" ]; }

# numbered FLAGS...: a job that prints numbered lines until SIGUSR1 and exits with 7
numbered() {
    rnx job run -q "$@" sh -c 'trap over=1 USR1; i=0; while [ -z "$over" ]; do i=$((i+1)); echo line $i; sleep 0.5; done; echo $i; exit 7'
}

# payloads ID...: the first process of each job below joblet-init, as /proc/PID/comm; nothing for a job that has none
payloads() {
    local id
    for id in "$@"; do
        grep -lx 'sh\|sleep' $(sed 's|.*|/proc/&/comm|' "$(group "$id")/cgroup.procs" 2>/dev/null) /dev/null | head -1
    done
}

# begun ID...: waits until each job has such a process and prints them
begun() {
    all_begun() { [ "$(payloads "$@" | wc -l)" = $# ]; }
    until_true 30 all_begun "$@"
    payloads "$@"
}

is_over() { [ "$(status "$1" status)" != RUNNING ]; }

has_no_group() { [ -z "$(group "$1")" ]; }

# ends ID: waits until the job's group is removed and its end is recorded
ends() {
    until_true 120 has_no_group "$1" && until_true 60 is_over "$1"
}

# told_in_full ID [FILE]: ends a job of `numbered` by its signal. Succeeds when the job exited with 7 and its log (or FILE, an earlier
# reader's output) has each line once and in order; else prints what is wrong
told_in_full() {
    local first
    # The job prints its first line after it has set its trap.
    until_true 60 grep -q line "$(spool_of "$1")/stdout" || { echo "job $1 prints nothing"; return 1; }
    first=$(payloads "$1")
    first=${first#/proc/}
    kill -USR1 "${first%/comm}" || { echo "job $1 is gone"; return 1; }
    printed_all "$@"
}

# printed_all ID [FILE]: the same for a job that ends by itself; its last line is the number of the others
printed_all() {
    local first
    ends "$1" || { echo "job $1 does not end: $(status "$1" status)"; return 1; }
    [ "$(status "$1" exitCode)" = 7 ] || { rnx job status "$1"; return 1; }
    if [ -n "$2" ]; then wait; else rnx job log "$1" >/tmp/printed; fi
    first=$(tail -n 1 "${2:-/tmp/printed}")
    (seq "$first" | sed 's/^/line /'; echo "$first") >/tmp/wanted
    # sha256sum, because some guests lack diff, cmp and cksum.
    sha256sum </tmp/wanted >/tmp/sum && [ "$(cat /tmp/sum)" = "$(sha256sum <"${2:-/tmp/printed}")" ] || { echo "lines of $1 are missing or doubled:"; sort "${2:-/tmp/printed}" | uniq -c | sort -k3n | head -50; return 1; }
}

# run_checks FILE: runs each check that FILE names in a shell of its own, because a check that dies must not end PID 1. A check that
# boots the guest again runs a second time after the boot; finished checks do not.
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
