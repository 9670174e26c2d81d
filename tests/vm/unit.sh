#!/bin/bash
# Runs in the guest whose PID 1 is systemd, when it is up: what the unit file promises. Says on the console "PASS name" or
# "FAIL name why" for each test of tests/vm/unit.rs.

node=/opt/joblet
unit=/sys/fs/cgroup/system.slice/joblet.service
. /checks/common.sh

# of PROPERTY: of the unit, as systemd has it now
of() { systemctl show --value -p "$1" joblet; }
is_active() { [ "$(of ActiveState)" = active ]; }
log() { journalctl -q --no-pager -o cat -u joblet "$@"; }

# The start returns when joblet said READY=1, and from then on it answers.
the_unit_is_up_when_the_daemon_listens() {
    local out
    systemctl start joblet || { fail "$1" "$(log | tail -3)"; return; }
    # 50051, in the state LISTEN.
    cat /proc/net/tcp /proc/net/tcp6 | grep -q ':C383 [0:]* 0A' || { fail "$1" "it does not listen: $(cat /proc/net/tcp)"; return; }
    out=$(rnx job list 2>&1) || { fail "$1" "$out"; return; }
    out="$(of Type) $(of ActiveState) $(cat /proc/"$(of MainPID)"/comm)"
    [ "$out" = "notify active joblet" ] && pass "$1" || fail "$1" "$out"
}

a_job_has_its_limits_in_the_tree_that_systemd_delegates() {
    local id dir out
    id=$(rnx job run -q --max-cpu=25 --max-memory=64 --cpu-cores=1 sleep 1000) || { fail "$1" "$id"; return; }
    dir=$(group "$id")
    out=$(cd "$dir" && cat cpu.max memory.max cpuset.cpus.effective pids.max cgroup.procs | tr '\n' ,)
    rnx job stop "$id" >/dev/null
    case "$dir" in
    $unit/*) ;;
    *) fail "$1" "the job's group is $dir"; return ;;
    esac
    # Its processes are in there, and the daemon is in a leaf of its own.
    case "$out" in
    25000\ 100000,67108864,1,4096,[0-9]*) ;;
    *) fail "$1" "$out"; return ;;
    esac
    out=$(cat /proc/"$(of MainPID)"/cgroup)
    [ "$out" = 0::/system.slice/joblet.service/joblet-main ] && pass "$1" || fail "$1" "the daemon is in $out"
}

# systemd ends a unit in which the kernel kills for memory, unless the unit's tree is delegated.
a_job_out_of_memory_does_not_end_the_unit() {
    local pid out
    pid=$(of MainPID)
    out=$(rnx job run --wait -q --max-memory=32 hog_memory 2>&1)
    case "$? $out" in
    137*"out of memory"*) ;;
    *) fail "$1" "$out"; return ;;
    esac
    is_active && [ "$(of MainPID)" = "$pid" ] && rnx job list >/dev/null && pass "$1" || fail "$1" "$(systemctl status joblet | head -5)"
}

the_journal_tells_the_life_of_the_daemon_and_of_every_job() {
    local id word
    id=$(rnx job run -q sh -c 'exit 3')
    until_true 60 sh -c "journalctl -q --no-pager -u joblet | grep -q 'job ended.*$id'"
    for word in "configuration loaded" "server started successfully" "job started successfully | jobId=$id" "job ended | jobId=$id.*exitCode=3"; do
        log | grep -q "$word" || { fail "$1" "no line with $word in: $(log | tail -5)"; return; }
    done
    # Lines are the daemon's, as the unit's main process.
    word=$(journalctl -q --no-pager -o verbose -u joblet -g "job ended" -n 1 | grep -c "_PID=$(of MainPID)\|_SYSTEMD_UNIT=joblet.service")
    [ "$word" = 2 ] && pass "$1" || fail "$1" "$(journalctl -q -o verbose -u joblet -n 1)"
}

a_reload_is_heard_and_ends_nothing() {
    local id pid
    pid=$(of MainPID)
    id=$(rnx job run -q sleep 1000)
    configure $node/joblet-config.yml logging level DEBUG
    systemctl reload joblet || { fail "$1" "$(log -n 5)"; return; }
    until_true 60 sh -c "journalctl -q --no-pager -u joblet | grep -q 'configuration reloaded'" || { fail "$1" "$(log -n 5)"; return; }
    until_true 30 is_active
    [ "$(of MainPID)" = "$pid" ] && [ "$(status "$id" status)" = RUNNING ] && pass "$1" || fail "$1" "$(systemctl status joblet | head -5)"
    rnx job stop "$id" >/dev/null
}

a_restart_ends_its_jobs_and_serves_again() {
    local id pid
    pid=$(of MainPID)
    # One that has to be killed.
    id=$(rnx job run -q sh -c 'trap "" TERM; while :; do sleep 1000; done')
    systemctl restart joblet || { fail "$1" "$(log | tail -3)"; return; }
    [ "$(of MainPID)" != "$pid" ] && rnx job list >/dev/null || { fail "$1" "no new daemon"; return; }
    log | grep -q "job ended | jobId=$id status=STOPPED" || { fail "$1" "$(log | tail -5)"; return; }
    pgrep -f 'trap "" TERM' >/dev/null && { fail "$1" "the job still runs"; return; }
    pass "$1"
}

# The unit's group passes controllers on, and a process cannot be put into such a group: the new daemon comes up only because
# systemd removes it first, with what the crashed one left in it.
a_crash_is_followed_by_a_new_daemon_that_limits_as_before() {
    local id pid out
    pid=$(of MainPID)
    id=$(rnx job run -q --max-memory=64 sleep 1000)
    kill -9 "$pid"
    until_true 60 sh -c "[ \"\$(systemctl show --value -p MainPID joblet)\" != $pid ] && [ \"\$(systemctl is-active joblet)\" = active ]" ||
        { fail "$1" "$(systemctl status joblet | head -20)"; return; }
    out=$(rnx job run --wait -q --max-memory=32 hog_memory 2>&1)
    case "$? $out" in
    137*"out of memory"*) ;;
    *) fail "$1" "$out"; return ;;
    esac
    [ -z "$(find $unit -name "*$id*")" ] || { fail "$1" "left: $(find $unit -name "*$id*")"; return; }
    [ "$(of NRestarts)" = 1 ] && pass "$1" || fail "$1" "$(of NRestarts) restarts"
}

a_stop_is_clean_and_leaves_nothing() {
    local id out took
    id=$(rnx job run -q sleep 1000)
    took=$(now)
    systemctl stop joblet || { fail "$1" "stop"; return; }
    took=$(($(now) - took))
    echo "the stop took ${took}0 ms"
    # systemd forgets what it knows of a unit that is down; "Deactivated" is its word for an end with 0, on its own.
    [ "$(log -n 6 | grep -c 'daemon stopped$\|: Deactivated successfully')" = 2 ] || { fail "$1" "$(log -n 6)"; return; }
    [ $took -lt 3000 ] || { fail "$1" "the stop took ${took}0 ms, TimeoutStopSec is 30 s"; return; }
    log | grep -q "job ended | jobId=$id status=STOPPED" || { fail "$1" "$(log | tail -5)"; return; }
    out=$(find $unit -maxdepth 1 2>/dev/null; find $node/run -type f; mount | grep $node; pgrep -x 'joblet.*|sleep')
    [ -z "$out" ] && pass "$1" || fail "$1" "left: $out"
}

a_start_that_fails_says_why_in_the_journal() {
    mv $node/joblet-config.yml $node/away.yml
    echo 'server: {port: no}' >$node/joblet-config.yml
    chmod 0600 $node/joblet-config.yml
    systemctl start joblet 2>/dev/null && { fail "$1" "it started"; return; }
    systemctl stop joblet
    mv $node/away.yml $node/joblet-config.yml
    log -n 20 | grep -q "joblet-config.yml.*server.port" && pass "$1" || fail "$1" "$(log -n 20)"
}

$node/bin/joblet setup --dir $node --host localhost --port 50051 --enforcement strict
systemd-analyze verify /etc/systemd/system/joblet.service
run_checks /checks/tests
echo "--- the journal"
journalctl -q --no-pager | tail -200
echo "--- over"
systemctl poweroff -ff
