#!/bin/bash
# Runs in the guest whose PID 1 is systemd, when the system is up: checks the promises of the unit files. Prints on the console
# "PASS name" or "FAIL name why" for each test of tests/vm/unit.rs, unit_faults.rs or unit_networks.rs (with networks.sh).

export PATH=$PATH:/usr/local/bin
node=/opt/joblet
jobs=/sys/fs/cgroup/joblet.slice/joblet-jobs.service
. /checks/common.sh
busybox insmod /modules/overlay.ko
busybox insmod /modules/loop.ko

# of PROPERTY: a property of the unit, as systemd has it now
of() { systemctl show --value -p "$1" joblet; }
is_active() { [ "$(of ActiveState)" = active ]; }
log() { journalctl -q --no-pager -o cat -u joblet "$@"; }
# logged WORDS: waits for this line in the journal, which gets it some time after the daemon has written it
logged() {
    in_the_log() { log | grep -q "$1"; }
    until_true 60 in_the_log "$1"
}

# laid_out: every installed file with the time of its last change
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

# All later checks use this installation. The installer returns after joblet has sent READY=1, and joblet answers from then on.
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
    # This guest has no modules for networks.
    printf 'network:\n  default_network: none\n' >>$node/joblet-config.yml
    systemctl restart joblet || { fail "$1" "$(systemctl status joblet | head -5)"; return; }
    # Without --config, rnx finds the configuration.
    out=$(cd / && command rnx job run --follow echo hello 2>&1) || { fail "$1" "$out"; return; }
    ls /usr/local/share/*/*/*rnx* >/tmp/words && [ "$(wc -l </tmp/words)" = 4 ] || { fail "$1" "$(cat /tmp/words)"; return; }
    [ "$(systemctl is-enabled joblet)" = enabled ] && is_active && pass "$1" || fail "$1" "$(systemctl status joblet | head -5)"
}

impossible_installation_is_refused_and_changes_nothing() {
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

units_verify_clean_and_daemon_has_only_needed_privileges() {
    local out status
    out=$(systemd-analyze verify /etc/systemd/system/joblet.service /etc/systemd/system/joblet-jobs.service 2>&1)
    [ -z "$out" ] || { fail "$1" "$out"; return; }
    status=/proc/$(of MainPID)/status
    out=$(sed -nE 's/^(CapEff|NoNewPrivs|Seccomp):\t//p' $status | tr '\n' ' '; cat "${status%status}oom_score_adj")
    # chown, dac_override, fowner, kill, setgid, setuid, net_bind_service, net_admin, sys_chroot, sys_ptrace,
    # sys_admin, sys_nice, sys_resource; and no filter that jobs would inherit.
    [ "$out" = "0000000009ac14eb 1 0 -900" ] || { fail "$1" "$out"; return; }
    out=$(joblet doctor | grep -v "^ok")
    case "$out" in *FAIL*) fail "$1" "$out" ;; *) pass "$1" ;; esac
}

a_job_has_its_limits_in_the_tree_that_systemd_delegates() {
    local id dir out
    id=$(rnx job run -q --max-cpu=25 --max-memory=64 --cpu-cores=1 sleep 1000) || { fail "$1" "$id"; return; }
    dir=$(group "$id")
    out=$(cd "$dir" && cat cpu.max memory.max cpuset.cpus.effective pids.max cgroup.procs | tr '\n' ,)
    # The sandbox of the unit around the daemon does not change the isolation of jobs.
    rnx job status --security "$id" >/tmp/layers || { fail "$1" "$(grep 'NOT OK' /tmp/layers)"; return; }
    rnx job stop "$id" >/dev/null
    case "$dir" in
    $jobs/*) ;;
    *) fail "$1" "the job's group is $dir"; return ;;
    esac
    # The job's processes are in its group, and the daemon is in another unit.
    case "$out" in
    25000\ 100000,67108864,1,4096,[0-9]*) ;;
    *) fail "$1" "$out"; return ;;
    esac
    out=$(cat /proc/"$(of MainPID)"/cgroup)
    [ "$out" = 0::/system.slice/joblet.service ] && pass "$1" || fail "$1" "the daemon is in $out"
}

# systemd ends a unit in which the kernel kills a process for lack of memory, unless the unit's tree is delegated.
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

journal_has_the_life_of_the_daemon_and_of_every_job() {
    local id word
    id=$(rnx job run -q sh -c 'exit 3')
    for word in "configuration loaded" "server started successfully" "job started successfully | jobId=$id" "job ended | jobId=$id.*exitCode=3"; do
        logged "$word" || { fail "$1" "no line with $word in: $(log | tail -5)"; return; }
    done
    # The journal attributes the lines to the daemon, the unit's main process.
    word=$(journalctl -q --no-pager -o verbose -u joblet -g "job ended" -n 1 | grep -c "_PID=$(of MainPID)\|_SYSTEMD_UNIT=joblet.service")
    [ "$word" = 2 ] && pass "$1" || fail "$1" "$(journalctl -q -o verbose -u joblet -n 1)"
}

reload_is_applied_and_ends_no_job_or_daemon() {
    local id pid
    pid=$(of MainPID)
    id=$(rnx job run -q sleep 1000)
    configure $node/joblet-config.yml logging level DEBUG
    systemctl reload joblet || { fail "$1" "$(log -n 5)"; return; }
    logged 'configuration reloaded' || { fail "$1" "$(log -n 5)"; return; }
    until_true 30 is_active
    [ "$(of MainPID)" = "$pid" ] && [ "$(status "$id" status)" = RUNNING ] && pass "$1" || fail "$1" "$(systemctl status joblet | head -5)"
    rnx job stop "$id" >/dev/null
}

# is_killed_at_its_limit ID: lets the first process of a job with 32 MiB continue. Succeeds when the job is then killed for its memory;
# else prints its status
is_killed_at_its_limit() {
    goes_on() { kill "$(grep -lx sleep $(sed 's|.*|/proc/&/comm|' "$(group "$1")/cgroup.procs") /dev/null | cut -d/ -f3)"; }
    until_true 30 goes_on "$1"
    ends "$1"
    [ "$(status "$1" exit_reason exitCode)" = "oom 137" ] && return
    rnx job status "$1"
    return 1
}
HOG='sleep 9876; hog_memory'

jobs_and_their_limits_outlive_restarts_under_load() {
    local ids=() id pid before out n
    pid=$(of MainPID)
    for n in 1 2 3; do ids+=("$(numbered)"); done
    id=$(rnx job run -q --max-cpu=25 --max-memory=32 sh -c "$HOG")
    before=$(begun "${ids[@]}" "$id")
    [ "$(echo "$before" | wc -l)" = 4 ] || { fail "$1" "no four jobs: $before"; return; }
    systemctl restart joblet && systemctl restart joblet || { fail "$1" "$(log -n 3)"; return; }
    [ "$(of MainPID)" != "$pid" ] && is_active || { fail "$1" "no new daemon"; return; }
    out=$(payloads "${ids[@]}" "$id")
    [ "$out" = "$before" ] || { fail "$1" "other processes: $out, before: $before"; return; }
    out=$(cd "$(group "$id")" && cat memory.max cpu.max | tr '\n' ,)
    [ "$out" = "33554432,25000 100000," ] || { fail "$1" "$out"; return; }
    rnx job status --security "$id" >/tmp/layers || { fail "$1" "$(grep 'NOT OK' /tmp/layers)"; return; }
    is_killed_at_its_limit "$id" >/tmp/wrong || { fail "$1" "$(cat /tmp/wrong)"; return; }
    for id in "${ids[@]}"; do
        told_in_full "$id" >/tmp/wrong || { fail "$1" "$(cat /tmp/wrong)"; return; }
    done
    pass "$1"
}

# The jobs' group passes controllers on, and no process can be moved into such a group: the new daemon starts only because its
# group belongs to another unit.
jobs_outlive_a_crash_and_the_new_daemon_limits_as_before() {
    local id hog pid before out restarts
    pid=$(of MainPID) restarts=$(of NRestarts)
    id=$(numbered)
    hog=$(rnx job run -q --max-memory=32 sh -c "$HOG")
    before=$(begun "$id" "$hog")
    kill -9 "$pid"
    until_true 60 sh -c "[ \"\$(systemctl show --value -p MainPID joblet)\" != $pid ] && [ \"\$(systemctl is-active joblet)\" = active ]" ||
        { fail "$1" "$(systemctl status joblet | head -20)"; return; }
    out=$(payloads "$id" "$hog")
    [ "$out" = "$before" ] || { fail "$1" "other processes: $out, before: $before"; return; }
    is_killed_at_its_limit "$hog" >/tmp/wrong || { fail "$1" "$(cat /tmp/wrong)"; return; }
    out=$(rnx job run --wait -q --max-memory=32 hog_memory 2>&1)
    case "$? $out" in
    137*"out of memory"*) ;;
    *) fail "$1" "$out"; return ;;
    esac
    told_in_full "$id" >/tmp/wrong || { fail "$1" "$(cat /tmp/wrong)"; return; }
    [ "$(of NRestarts)" = $((restarts + 1)) ] && pass "$1" || fail "$1" "$(of NRestarts) restarts"
}

an_upgrade_replaces_the_programs_under_running_jobs() {
    local id before out
    id=$(numbered)
    before=$(begun "$id")
    mkdir -p /tmp/next && cp /checkout/target/release/* /tmp/next/ && echo next >>/tmp/next/joblet
    out=$(install_joblet --from /tmp/next 2>&1) || { fail "$1" "$out"; return; }
    [ "$(stat -L -c %s /proc/"$(of MainPID)"/exe)" = "$(stat -c %s /tmp/next/joblet)" ] || { fail "$1" "the old program runs"; return; }
    [ "$(payloads "$id")" = "$before" ] && [ -n "$before" ] || { fail "$1" "other processes: $(payloads "$id"), before: $before"; return; }
    # The first programs return.
    out=$(install_joblet 2>&1) || { fail "$1" "$out"; return; }
    told_in_full "$id" >/tmp/wrong && pass "$1" || fail "$1" "$(cat /tmp/wrong)"
}

unused_signals_do_no_harm_and_term_keeps_jobs_and_streams() {
    local id pid before signal
    pid=$(of MainPID)
    id=$(numbered)
    before=$(begun "$id")
    rnx job log "$id" >/tmp/stream 2>/tmp/stream.log &
    until_true 30 test -s /tmp/stream
    for signal in USR1 USR2 QUIT HUP; do
        kill -$signal "$pid"
        rnx job list >/dev/null || { fail "$1" "after $signal: $(log -n 3)"; return; }
    done
    [ "$(of MainPID)" = "$pid" ] || { fail "$1" "another daemon"; return; }
    kill -TERM "$pid"
    until_true 60 sh -c "[ \"\$(systemctl show --value -p MainPID joblet)\" != $pid ] && [ \"\$(systemctl is-active joblet)\" = active ]"
    [ "$(payloads "$id")" = "$before" ] || { fail "$1" "other processes: $(payloads "$id"), before: $before"; return; }
    told_in_full "$id" /tmp/stream >/tmp/wrong && pass "$1" || fail "$1" "$(cat /tmp/wrong /tmp/stream.log)"
}

a_stop_is_clean_and_keeps_the_jobs_and_nothing_else() {
    local id out took before
    id=$(numbered)
    before=$(begun "$id")
    took=$(now)
    systemctl stop joblet || { fail "$1" "stop"; return; }
    took=$(($(now) - took))
    echo "the stop took ${took}0 ms"
    # systemd drops the exit code of a unit that is down; it logs "Deactivated" for a main process that ended itself with 0.
    ended_in_order() { [ "$(log -n 6 | grep -c 'daemon stopped$\|: Deactivated successfully')" = 2 ]; }
    until_true 60 ended_in_order || { fail "$1" "$(log -n 6)"; return; }
    [ $took -lt 3000 ] || { fail "$1" "the stop took ${took}0 ms, TimeoutStopSec is 30 s"; return; }
    out=$(ls -d /sys/fs/cgroup/system.slice/joblet.service 2>/dev/null; mount | grep "on $node/"; pgrep -x joblet)
    [ -z "$out" ] || { fail "$1" "left: $out"; return; }
    [ "$(payloads "$id")" = "$before" ] || { fail "$1" "other processes: $(payloads "$id"), before: $before"; return; }
    systemctl start joblet || { fail "$1" "$(log -n 3)"; return; }
    told_in_full "$id" >/tmp/wrong && pass "$1" || fail "$1" "$(cat /tmp/wrong)"
}

a_node_that_is_to_stop_its_jobs_does_and_leaves_nothing() {
    local id out
    cp -p $node/joblet-config.yml $node/kept.yml
    configure $node/joblet-config.yml joblet onShutdown stop
    systemctl restart joblet || { fail "$1" "$(log -n 3)"; return; }
    # This job has to be killed.
    id=$(rnx job run -q sh -c 'trap "" TERM; while :; do sleep 1000; done')
    systemctl stop joblet || { fail "$1" "stop"; return; }
    mv $node/kept.yml $node/joblet-config.yml
    logged "job ended | jobId=$id status=STOPPED" || { fail "$1" "$(log | tail -5)"; return; }
    out=$(find $node/run -type f; mount | grep "on $node/"; pgrep -x 'joblet.*')
    [ -z "$out" ] || { fail "$1" "left: $out"; return; }
    systemctl start joblet
    [ "$(status "$id" status)" = STOPPED ] && pass "$1" || fail "$1" "$(rnx job status "$id")"
}

stopping_the_jobs_unit_sends_term_and_ends_all_jobs() {
    local id deaf out
    id=$(rnx job run -q sh -c 'trap "echo told; exit 9" TERM; echo begun; sleep 1000 & wait')
    deaf=$(rnx job run -q sh -c 'trap "" TERM; while :; do sleep 1000; done')
    until_true 30 sh -c "grep -q begun $node/spool/$id/stdout"
    systemctl stop joblet-jobs || { fail "$1" "stop"; return; }
    out=$(pgrep -x 'joblet.*'; ls -d $jobs 2>/dev/null)
    [ -z "$out" ] || { fail "$1" "left: $out"; return; }
    systemctl start joblet || { fail "$1" "$(log -n 3)"; return; }
    is_over "$id" && is_over "$deaf" || { fail "$1" "$(rnx job list)"; return; }
    [ "$(status "$id" exitCode)" = 9 ] && pass "$1" || fail "$1" "$(rnx job status "$id")"
}

# joblet cannot prevent these changes, but it must detect them.
outside_changes_to_job_cgroups_are_detected_or_repaired() {
    local id dir tree out
    id=$(rnx job run -q --max-memory=64 sleep 1000) || { fail "$1" "$id"; return; }
    dir=$(group "$id")
    tree=${dir%/*}
    systemctl daemon-reload
    [ "$(cat "$dir/memory.max")" = 67108864 ] || { fail "$1" "after daemon-reload: $(cat "$dir/memory.max")"; return; }
    echo max >"$dir/memory.max"
    rnx job status --security "$id" >/tmp/layers && { fail "$1" "a lifted limit is not seen"; return; }
    echo 1 >"$dir/cgroup.freeze"
    out=$(rnx job stop "$id" 2>&1) || { fail "$1" "a frozen job cannot be stopped: $out"; return; }
    echo -memory >"$tree/cgroup.subtree_control"
    out=$(rnx job run --wait -q --max-memory=32 hog_memory 2>&1)
    case "$? $out" in
    137*"out of memory"* | 125*memory*) echo "without its controller: $out" ;;
    *) fail "$1" "without its controller: $out"; return ;;
    esac
    systemctl restart joblet || { fail "$1" "$(log -n 3)"; return; }
    out=$(rnx job run --wait -q --max-memory=32 hog_memory 2>&1)
    case "$? $out" in
    137*"out of memory"*) pass "$1" ;;
    *) fail "$1" "$out" ;;
    esac
}

TOLD='trap "exit 9" USR1; echo begun; while :; do sleep 0.2; done'
# refused_at_limit UNIT: starts jobs until one is refused, and adds their ids to $ids. The refusal must name the limit, and the status,
# the log, the stop and the exit of the first two jobs must work. Prints what is wrong.
refused_at_limit() {
    local out code n
    # The daemon starts its warm sandboxes, and more jobs as long as it needs no new process of its own.
    for n in $(seq 40); do
        out=$(timeout 60 rnx --config $node/rnx-config.yml --json job run sh -c "$TOLD" 2>&1)
        code=$?
        [ $code = 0 ] || break
        ids+=("$(echo "$out" | tr -d ' ",' | sed -n 's/^uuid://p' | head -1)")
    done
    echo "with $1 at its limit: ${#ids[@]} jobs, then $code $out" >&2
    # A warm joblet-init may have no room left for a payload, which is then not executed.
    case "$code $out" in
    125*RESOURCE_EXHAUSTED*"limit of processes"*TasksMax* | 126*"limit of processes"*TasksMax*) ;;
    *) echo "$1: $code $out" ;;
    esac
    out=$(rnx job log --no-follow "${ids[0]}")
    [ "$out" = begun ] || echo "$1: log: $out"
    [ "$(status "${ids[0]}" status)" = RUNNING ] || echo "$1: $(rnx job status "${ids[0]}")"
    out=$(rnx job stop "${ids[0]}" 2>&1) || echo "$1: stop: $out"
    [ "$(status "${ids[0]}" status)" = STOPPED ] || echo "$1: $(rnx job status "${ids[0]}")"
    out=$(payloads "${ids[1]}" | cut -d/ -f3)
    kill -USR1 "$out"
    ends "${ids[1]}"
    [ "$(status "${ids[1]}" exitCode)" = 9 ] || echo "$1: $(rnx job status "${ids[1]}")"
}

task_limit_refuses_new_jobs_by_name_and_keeps_running_ones() {
    local ids=() id numbers unit bad= out pid
    pid=$(of MainPID)
    numbers=$(numbered)
    begun "$numbers" >/dev/null
    for unit in joblet joblet-jobs; do
        # Two jobs run before the limit holds.
        ids=($(rnx job run -q sh -c "$TOLD") $(rnx job run -q sh -c "$TOLD"))
        begun "${ids[@]}" >/dev/null
        systemctl set-property --runtime $unit TasksMax="$(systemctl show --value -p TasksCurrent $unit)" || bad="$bad; no limit for $unit"
        refused_at_limit $unit >/tmp/wrong
        bad="$bad$(cat /tmp/wrong)"
        systemctl set-property --runtime $unit TasksMax=infinity
        out=$(rnx job run --wait -q true 2>&1) || bad="$bad; $unit, after it: $out"
        for id in $(payloads "${ids[@]}" | cut -d/ -f3); do kill -KILL "$id"; done
        for id in "${ids[@]}"; do until_true 60 has_no_group "$id"; done
    done
    [ "$(of MainPID)" = "$pid" ] || bad="$bad; another daemon"
    told_in_full "$numbers" >/tmp/wrong || bad="$bad; $(cat /tmp/wrong)"
    [ -z "$bad" ] && pass "$1" || fail "$1" "$bad"
}

# State, spools and all other files are on one disk.
a_full_disk_holds_jobs_up_and_loses_nothing() {
    local id out before code
    id=$(numbered)
    before=$(begun "$id")
    for out in 64M 1M 4k; do
        while fallocate -o "$(stat -c %s /fill 2>/dev/null || echo 0)" -l $out /fill 2>/dev/null; do :; done
    done
    out=$(timeout 20 rnx job run --wait -q sh -c 'exit 4' 2>&1)
    code=$?
    echo "with a full disk: $code $out"
    case "$code $out" in
    4*) fail "$1" "it ran, and nothing of it can be kept: $out"; return ;;
    124* | *[Ss]pace* | *full*) ;;
    *) fail "$1" "$out"; return ;;
    esac
    rnx job list >/dev/null || { fail "$1" "no answer: $(log -n 3)"; return; }
    kill -9 "$(of MainPID)"
    until_true 10 is_active
    echo "after a crash with a full disk: $(systemctl is-active joblet) $(log -n 1)"
    rm /fill
    until_true 60 sh -c "command rnx --config $node/rnx-config.yml job list" || { fail "$1" "it does not come back: $(log -n 5)"; return; }
    [ "$(payloads "$id")" = "$before" ] || { fail "$1" "other processes: $(payloads "$id"), before: $before"; return; }
    told_in_full "$id" >/tmp/wrong || { fail "$1" "$(cat /tmp/wrong)"; return; }
    rnx job run --wait -q sh -c 'exit 4' >/dev/null 2>&1
    code=$?
    [ $code = 4 ] && pass "$1" || fail "$1" "a job after it: $code"
}

# stored_lines ID: the lines of a job's output that are durable, as the last row of the index says: it is written behind the sync
stored_lines() {
    tail -c 96 "$node/logs/$1/stdout.idx" >/tmp/row
    echo $(($(od -An -t u8 -j 64 -N 8 /tmp/row) + $(od -An -t u4 -j 76 -N 4 /tmp/row)))
}

# is_whole ID LINES: succeeds when the history of a job that printed numbers has all of them in order, so many at least; else
# prints what is wrong
is_whole() {
    until_true 120 test -s "$node/logs/$1/job.json" || { echo "history of $1 does not become complete: $(log -n 5)"; return 1; }
    until_true 60 test ! -e "$node/spool/$1/index" || { echo "the spool keeps $1"; return 1; }
    rnx job log --no-follow --stream=stdout "$1" >/tmp/printed 2>/tmp/notes || { cat /tmp/notes; return 1; }
    ! grep missing /tmp/notes || return 1
    # The last line may be cut.
    sed -i '$d' /tmp/printed
    [ "$(wc -l </tmp/printed)" -ge $(($2 - 1)) ] || { echo "$2 lines were durable, $(wc -l </tmp/printed) are left"; return 1; }
    [ "$(seq "$(wc -l </tmp/printed)" | sha256sum)" = "$(sha256sum </tmp/printed)" ] || { echo "lines of $1 are missing or doubled: $(tail -n 3 /tmp/printed)"; return 1; }
    $node/bin/persist --check "$node/logs/$1"/*.gz
}

# The size of the file system of a volume in MiB, as a job sees it.
seen_size() {
    local seen
    seen=$(rnx job run -q --follow --volume "$1" stat -f -c '%b * %S' "/volumes/$1" 2>/dev/null)
    echo $((seen / 1048576))
}

# Before the power is cut: a volume grows under a job that writes to it.
write_to_volume() {
    local writer
    rnx volume create data --size 32MB >/dev/null || return 1
    writer=$(rnx job run -q --volume data sh -c 'cd /volumes/data; echo durable >first; sync first .; while :; do
        dd if=/dev/zero of=next bs=64k count=100 conv=fsync 2>/dev/null; mv next last; done')
    until_true 60 sh -c "command rnx --config $node/rnx-config.yml job run -q --wait --volume data:ro test -e /volumes/data/last"
    rnx volume resize data --size 64MB && [ "$(status "$writer" status)" = RUNNING ] || { rnx job status "$writer"; return 1; }
}

# Afterwards: its size, and what was durable.
read_volume() {
    local size out
    size=$(seen_size data)
    [ "$size" -gt 50 ] || { echo "a job sees $size MiB of 64"; return 1; }
    out=$(rnx job run -q --follow --volume data sh -c 'cd /volumes/data; cat first; stat -c %s last; rm next last 2>/dev/null; ls' 2>&1)
    case "$out" in *durable*6553600*first*) ;; *) echo "the volume has: $out"; return 1 ;; esac
}

power_cut_loses_running_jobs_by_name_and_keeps_all_others() {
    local ended running waits printer printed lines out
    if [ ! -e /checks/cut ]; then
        touch /checks/cut
        sync
        # History of one is complete, that of another is being written.
        printed=$(rnx job run -q seq 30000)
        printer=$(rnx job run -q sh -c 'i=1; while :; do seq $i $((i + 499)); echo $i >&2; i=$((i + 500)); sleep 0.1; done')
        ended=$(rnx job run --wait -q sh -c 'exit 5' 2>/dev/null)
        running=$(rnx job run -q sleep 1000)
        waits=$(rnx job run -q --schedule=25s sh -c 'exit 6')
        write_to_volume >/tmp/wrong 2>&1 || { fail "$1" "volume: $(cat /tmp/wrong)"; return; }
        until_true 60 test ! -e "$node/spool/$printed/index"
        until_true 60 sh -c "[ \$(stat -c %s $node/logs/$printer/stdout.idx) -gt 300 ]"
        lines=$(stored_lines "$printer")
        echo "$ended $running $waits $printed $printer $lines" >/checks/cut
        sync /checks/cut
        echo "--- the power is cut"
        echo b >/proc/sysrq-trigger
        sleep 1000
    fi
    read -r ended running waits printed printer lines </checks/cut
    systemctl start joblet || { fail "$1" "$(log -n 5)"; return; }
    out=$(rnx job status "$running")
    case "$out" in *"lost: host restarted"*) ;; *) fail "$1" "$out"; return ;; esac
    [ "$(status "$ended" exitCode)" = 5 ] || { fail "$1" "$(rnx job status "$ended")"; return; }
    read_volume >/tmp/wrong 2>&1 || { fail "$1" "volume: $(cat /tmp/wrong)"; return; }
    until_true 120 sh -c "command rnx --config $node/rnx-config.yml --json job status $waits | grep -q '\"exitCode\": 6'" ||
        { fail "$1" "$(rnx job status "$waits")"; return; }
    echo "$lines lines of history were durable"
    is_whole "$printed" 30000 >/tmp/wrong && is_whole "$printer" "$lines" >/tmp/wrong || { fail "$1" "$(cat /tmp/wrong)"; return; }
    pass "$1"
}

a_start_that_fails_says_why_in_the_journal() {
    systemctl stop joblet
    mv $node/joblet-config.yml $node/away.yml
    echo 'server: {port: no}' >$node/joblet-config.yml
    chmod 0600 $node/joblet-config.yml
    systemctl start joblet 2>/dev/null && { fail "$1" "it started"; return; }
    systemctl stop joblet
    mv $node/away.yml $node/joblet-config.yml
    logged "joblet-config.yml.*server.port" && pass "$1" || fail "$1" "$(log -n 20)"
}

uninstall_ends_jobs_and_keeps_data_and_purge_keeps_nothing() {
    local out
    systemctl start joblet || { fail "$1" "$(log | tail -3)"; return; }
    rnx job run -q sleep 1000 || { fail "$1" "no job"; return; }
    out=$(install_joblet --uninstall 2>&1) || { fail "$1" "$out"; return; }
    out=$(pgrep -x 'joblet.*'; ls -d $jobs /etc/systemd/system/joblet* $node/bin/* /usr/local/bin/* /usr/local/share/*/*/*rnx* 2>/dev/null)
    [ -z "$out" ] || { fail "$1" "left: $out"; return; }
    [ -s $node/joblet-config.yml ] && [ -s $node/ca/ca-key.pem ] || { fail "$1" "the data went too"; return; }
    # A new installation continues with the kept data.
    out=$(install_joblet 2>&1) && rnx job list >/dev/null || { fail "$1" "$out"; return; }
    out=$(install_joblet --uninstall --purge 2>&1) || { fail "$1" "$out"; return; }
    [ ! -e $node ] && pass "$1" || fail "$1" "left: $(find $node)"
}

# The checks of the installer make the node, and those of networks; a guest without them needs one before its first check.
if [ -e /checks/networks.sh ]; then
    . /checks/networks.sh
elif ! grep -q the_installer /checks/tests && [ ! -e $node ]; then
    install_joblet --host guest || echo "no node"
    # With few warm sandboxes a limit of processes is reached after few jobs. The first check restarts the daemon with this.
    configure $node/joblet-config.yml joblet warmSandboxes 2
    # This guest has no modules for networks.
    configure $node/joblet-config.yml network default_network none
    systemctl restart joblet
fi
run_checks /checks/tests
echo "--- the journal"
journalctl -q --no-pager | tail -200
echo "--- over"
systemctl poweroff -ff
