# cpu.max, cpuset.cpus and pids.max.

# quota PERCENT LEAST MOST FLAGS... COMMAND...: starts a job that uses all processor time it can get, and reads after every 50
# periods (of 100 ms) its share of one processor so far, in tenths of a percent. Succeeds as soon as the share is within LEAST and
# MOST, fails when it is not after 400 periods. One reading does not suffice: the guest's processors may stand still for other load
# on the machine below, and the kernel charges that time to the job when the job was running. The kernel takes excess time back,
# so a longer measurement is more exact. Leaves the job's id in $id and a sentence in $said.
quota() {
    local percent=$1 least=$2 most=$3 stat first before look periods used
    shift 3
    id=$(rnx job run -q --max-cpu=$percent "$@" 2>&1) || { said=$id; return 1; }
    stat=$(group "$id")/cpu.stat
    until_true 60 sh -c "[ \$(sed -n 's/^nr_periods //p' '$stat') -gt 5 ]"
    first=$(value "$stat" nr_periods) before=$(value "$stat" usage_usec)
    for look in 1 2 3 4 5 6 7 8; do
        until_true 60 sh -c "[ \$(sed -n 's/^nr_periods //p' '$stat') -ge $((first + 50 * look)) ]"
        periods=$(($(value "$stat" nr_periods) - first)) used=$(($(value "$stat" usage_usec) - before))
        used=$((used / periods / 100))
        said="$used/1000 of a processor over $periods periods"
        echo "$percent %: $said"
        within $least $used $most && return 0
    done
    return 1
}

a_processor_quota_is_kept_within_five_percent() {
    local id said ok=
    quota 25 238 262 hog_cpu && ok=1
    rnx job stop "$id" >/dev/null
    [ -n "$ok" ] && pass $1 || fail $1 "$said"
}

a_job_is_pinned_to_its_cores() {
    local out
    out=$(rnx job run --follow -q --cpu-cores=1 grep Cpus_allowed_list /proc/self/status | tr -d '\t')
    [ "$out" = Cpus_allowed_list:1 ] && pass $1 || fail $1 "$out"
}

priority_affinity_and_threads_give_a_job_no_more_processor() {
    local id said ok=
    quota 50 250 510 --cpu-cores=1 unfair 1 6 && ok=1
    set -- "$1" "$(cat "$(group "$id")/cpuset.cpus.effective")"
    rnx job stop "$id" >/dev/null
    rnx job log "$id" >/tmp/unfair
    [ -n "$ok" ] || { fail "$1" "$said"; return; }
    [ "$2" = 1 ] || { fail "$1" "effective cores $2"; return; }
    # The kernel cuts a set of cores down to the job's own, and refuses a set without any of them.
    if grep -q strayed /tmp/unfair || [ "$(head -7 /tmp/unfair | tr '\n' ,)" != \
        'fifo EPERM,rr EPERM,nice EACCES,others EINVAL,all granted,cores 1, own yes,burning,' ]; then
        fail "$1" "$(head -12 /tmp/unfair | tr '\n' ,)"
        return
    fi
    pass "$1"
}

a_fork_bomb_ends_at_the_process_limit_and_a_stop_clears_it() {
    local out left id dir hits call took
    id=$(rnx job run -q hog_processes stay)
    until_true 60 test -s $node/spool/$id/stdout
    out=$(cat $node/spool/$id/stdout) hits=$(value "$(group "$id")/pids.events" max)
    rnx job stop "$id" >/dev/null
    # When forks come one by one, the controller refuses the first; when many come at once, RLIMIT_NPROC refuses some.
    case "$out $hits" in
    6[0-3]" EAGAIN 1") ;;
    *) fail $1 "$out, pids.max refused $hits"; return ;;
    esac
    # With little processor time the processes would die slowly if the quota still held.
    id=$(rnx job run -q --max-cpu=10 hog_processes bomb)
    dir=$(group "$id")
    until_true 60 sh -c "[ \$(cat '$dir/pids.current') -ge 60 ]" || { fail $1 "the fork bomb does not start"; return; }
    call=$(now)
    rnx job list >/dev/null
    took=$(now) call=$((took - call))
    rnx job stop "$id" >/dev/null || { fail $1 "stop"; return; }
    took=$(($(now) - took))
    left=$(ps | grep -c '[h]og_processes')
    echo "the stop took ${took}0 ms, where rnx takes ${call}0 ms for nothing"
    [ "$left" -eq 0 ] || { fail $1 "$left processes left"; return; }
    # Two seconds, and the time of rnx beside a fork bomb.
    [ "$took" -le $((call + 200)) ] && pass $1 || fail $1 "the stop took ${took}0 ms"
}

# A fork bomb with a quarter of this machine, which has two processors. The best of a few measurements counts: other load on the
# machine below disturbs them too.
a_fork_bomb_does_not_double_the_latency_of_a_neighbour() {
    local id look alone beside bomb
    for look in 1 2 3 4 5 6; do
        run_job neighbour 200 && alone=$(cat /tmp/output) || { fail $1 "$(cat /tmp/status)"; return; }
        id=$(rnx job run -q --max-cpu=50 hog_processes bomb)
        until_true 30 sh -c "[ \$(cat '$(group "$id")/pids.current') -ge 60 ]" || { fail $1 "the fork bomb does not start"; return; }
        bomb=$id
        run_job neighbour 200 && beside=$(cat /tmp/output) || { fail $1 "$(cat /tmp/status)"; return; }
        rnx job stop "$bomb" >/dev/null
        echo "median and 99th percentile in us: alone $alone, beside a bomb $beside"
        [ "${beside#* }" -lt $((2 * ${alone#* })) ] && { pass $1; return; }
    done
    fail $1 "alone $alone us, beside a bomb $beside us"
}
