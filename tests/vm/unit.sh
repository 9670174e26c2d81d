#!/bin/bash
# Runs in the guest whose PID 1 is systemd, when it is up: what the unit file promises. Says on the console "PASS name" or
# "FAIL name why" for each test of tests/vm/unit.rs.

export PATH=$PATH:/usr/local/bin
node=/opt/joblet
jobs=/sys/fs/cgroup/system.slice/joblet-jobs.service
. /checks/common.sh

# of PROPERTY: of the unit, as systemd has it now
of() { systemctl show --value -p "$1" joblet; }
is_active() { [ "$(of ActiveState)" = active ]; }
log() { journalctl -q --no-pager -o cat -u joblet "$@"; }

# laid_out: every file that is there by installation, and since when
laid_out() { find $node/{bin,config,ca,certs} $node/*.yml /etc/systemd/system /usr/local ! -type d -printf '%p %T@\n' | sort; }
install_joblet() { bash /checkout/vendor-config/install.sh "$@"; }

the_installer_says_what_it_would_do_and_does_nothing() {
    local out
    out=$(install_joblet --dry-run) || { fail "$1" "$out"; return; }
    case "$out" in
    *"$node/bin/joblet"*setup*joblet-jobs.service*"enable"*restart*) ;;
    *) fail "$1" "$out"; return ;;
    esac
    [ -e $node ] || [ -e /etc/systemd/system/joblet.service ] || getent passwd joblet >/dev/null && fail "$1" "it did something" || pass "$1"
}

# Everything that follows is what it made. It returns when joblet said READY=1, and from then on it answers.
the_installer_makes_a_node_from_nothing() {
    local out
    out=$(install_joblet --host guest 2>&1) || { fail "$1" "$out"; return; }
    out=$(stat -c '%a %U %n' $node $node/bin/joblet $node/joblet-config.yml $node/ca $node/certs $node/config; getent passwd joblet | cut -d: -f1,7)
    [ "$out" = "755 root $node
755 root $node/bin/joblet
600 root $node/joblet-config.yml
700 root $node/ca
700 root $node/certs
700 root $node/config
joblet:/usr/sbin/nologin" ] || { fail "$1" "$out"; return; }
    # With no word of where: it is found.
    out=$(cd / && command rnx job run --follow echo hello 2>&1) || { fail "$1" "$out"; return; }
    ls /usr/local/share/*/*/*rnx* >/tmp/words && [ "$(wc -l </tmp/words)" = 4 ] || { fail "$1" "$(cat /tmp/words)"; return; }
    [ "$(systemctl is-enabled joblet)" = enabled ] && is_active && pass "$1" || fail "$1" "$(systemctl status joblet | head -5)"
}

an_installation_that_cannot_work_is_refused_and_changes_nothing() {
    local out before
    before=$(laid_out)
    sed -i.kept 's|^  baseDir:.*|  baseDir:|' $node/joblet-config.yml
    out=$(install_joblet 2>&1) && { fail "$1" "an upgrade without cgroup.baseDir"; return; }
    case "$out" in *"cgroup.baseDir: set it to $jobs"*) ;; *) fail "$1" "$out"; return ;; esac
    printf 'server: {port: no}\n' >$node/joblet-config.yml
    out=$(install_joblet 2>&1) && { fail "$1" "an upgrade with a broken configuration"; return; }
    case "$out" in *server.port*"nothing was changed"*) ;; *) fail "$1" "$out"; return ;; esac
    mv $node/joblet-config.yml.kept $node/joblet-config.yml
    out=$(install_joblet --from /nowhere 2>&1) && { fail "$1" "no programs"; return; }
    case "$out" in *"no /nowhere/joblet: build it"*) ;; *) fail "$1" "$out"; return ;; esac
    out=$(install_joblet --port 1 2>&1) && { fail "$1" "a port for a node that is there"; return; }
    out=$(laid_out)
    [ "$out" = "$before" ] && pass "$1" || fail "$1" "something was changed: $(diff <(echo "$before") <(echo "$out"))"
}

the_unit_is_up_when_the_daemon_listens() {
    local out
    systemctl restart joblet || { fail "$1" "$(log | tail -3)"; return; }
    # 50051, in the state LISTEN.
    cat /proc/net/tcp /proc/net/tcp6 | grep -q ':C383 [0:]* 0A' || { fail "$1" "it does not listen: $(cat /proc/net/tcp)"; return; }
    out=$(rnx job list 2>&1) || { fail "$1" "$out"; return; }
    out="$(of Type) $(of ActiveState) $(cat /proc/"$(of MainPID)"/comm)"
    [ "$out" = "notify active joblet" ] && pass "$1" || fail "$1" "$out"
}

the_units_are_without_fault_and_the_daemon_may_do_what_it_must_only() {
    local out status
    out=$(systemd-analyze verify /etc/systemd/system/joblet.service /etc/systemd/system/joblet-jobs.service 2>&1)
    [ -z "$out" ] || { fail "$1" "$out"; return; }
    status=/proc/$(of MainPID)/status
    out=$(sed -nE 's/^(CapEff|NoNewPrivs|Seccomp):\t//p' $status | tr '\n' ' '; cat "${status%status}oom_score_adj")
    # chown, dac_override, fowner, kill, setgid, setuid, net_bind_service, net_admin, sys_chroot, sys_ptrace,
    # sys_admin, sys_nice, sys_resource; and no filter that jobs would inherit.
    [ "$out" = "0000000001ac14eb 1 0 -900" ] || { fail "$1" "$out"; return; }
    out=$(joblet doctor | grep -v "^ok")
    case "$out" in *FAIL*) fail "$1" "$out" ;; *) pass "$1" ;; esac
}

a_job_has_its_limits_in_the_tree_that_systemd_delegates() {
    local id dir out
    id=$(rnx job run -q --max-cpu=25 --max-memory=64 --cpu-cores=1 sleep 1000) || { fail "$1" "$id"; return; }
    dir=$(group "$id")
    out=$(cd "$dir" && cat cpu.max memory.max cpuset.cpus.effective pids.max cgroup.procs | tr '\n' ,)
    # The unit's own walls around the daemon leave the jobs' as they are.
    rnx job status --security "$id" >/tmp/layers || { fail "$1" "$(grep 'NOT OK' /tmp/layers)"; return; }
    rnx job stop "$id" >/dev/null
    case "$dir" in
    $jobs/*) ;;
    *) fail "$1" "the job's group is $dir"; return ;;
    esac
    # Its processes are in there, and the daemon is in a unit of its own.
    case "$out" in
    25000\ 100000,67108864,1,4096,[0-9]*) ;;
    *) fail "$1" "$out"; return ;;
    esac
    out=$(cat /proc/"$(of MainPID)"/cgroup)
    [ "$out" = 0::/system.slice/joblet.service ] && pass "$1" || fail "$1" "the daemon is in $out"
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

# The jobs' group passes controllers on, and a process cannot be put into such a group: the new daemon comes up only because
# it is another unit's.
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
    [ -z "$(group "$id")" ] || { fail "$1" "left: $(group "$id")"; return; }
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
    out=$(ls -d /sys/fs/cgroup/system.slice/joblet.service 2>/dev/null; find $node/run -type f; mount | grep $node; pgrep -x 'joblet.*')
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

an_uninstall_ends_the_jobs_and_keeps_the_data_and_a_purge_keeps_nothing() {
    local out
    systemctl start joblet || { fail "$1" "$(log | tail -3)"; return; }
    rnx job run -q sleep 1000 || { fail "$1" "no job"; return; }
    out=$(install_joblet --uninstall 2>&1) || { fail "$1" "$out"; return; }
    out=$(pgrep -x 'joblet.*'; ls -d $jobs /etc/systemd/system/joblet* $node/bin/* /usr/local/bin/* /usr/local/share/*/*/*rnx* 2>/dev/null)
    [ -z "$out" ] || { fail "$1" "left: $out"; return; }
    [ -s $node/joblet-config.yml ] && [ -s $node/ca/ca-key.pem ] || { fail "$1" "the data went too"; return; }
    # What is kept is what a new installation goes on with.
    out=$(install_joblet 2>&1) && rnx job list >/dev/null || { fail "$1" "$out"; return; }
    out=$(install_joblet --uninstall --purge 2>&1) || { fail "$1" "$out"; return; }
    [ ! -e $node ] && pass "$1" || fail "$1" "left: $(find $node)"
}

run_checks /checks/tests
echo "--- the journal"
journalctl -q --no-pager | tail -200
echo "--- over"
systemctl poweroff -ff
