# Pools of the kernel that jobs share with the host.

# got FILE KIND...: prints a line for each kind that the report does not say it got
got() {
    local file=$1 kind
    shift
    for kind in "$@"; do
        grep -qx "$kind 1 OK" "$file" || echo "$(grep "^$kind " "$file")"
    done
}

emptied_pools_are_full_for_other_jobs_and_the_host() {
    local id first why
    first=$(rnx job run -q --max-memory=256 pools take)
    id=$(rnx job run -q --max-memory=256 pools take)
    for job in $first $id; do
        until_true 120 grep -q done "$(spool_of $job)/stdout" || { fail $1 "$(tail -1 "$(spool_of $job)/stdout")"; return; }
    done
    rnx job run -q --follow pools ask >/tmp/asked || { fail $1 "$(cat /tmp/asked)"; return; }
    why=$(got /tmp/asked inotify queues timers signals pipes epoll terminals locked)
    pools ask >/tmp/asked
    # The host has whatever its kernel is built with.
    why="$why$(grep -v ' 1 OK$' /tmp/asked | grep -v '^huge \|ENOSYS$\|^done$' | sed 's/^/the host: /')"
    rnx job stop "$first" >/dev/null
    rnx job stop "$id" >/dev/null
    [ -z "$why" ] && pass $1 || fail $1 "$(echo $why)"
}

# Root of the host is exempt from the limit, and every job's policy is installed as root. The kernel answers 524 otherwise.
a_full_pool_of_compiled_programs_stops_no_start() {
    local limit out n
    limit=$(cat /proc/sys/net/core/bpf_jit_limit) || { fail $1 "no compiler of programs in this kernel"; return; }
    echo 1 >/proc/sys/net/core/bpf_jit_limit
    # More than are warm.
    for n in 1 2 3 4 5 6 7 8 9 10; do
        out=$(rnx job run -q --wait true 2>&1) || break
        out=
    done
    echo "$limit" >/proc/sys/net/core/bpf_jit_limit
    [ -z "$out" ] && pass $1 || fail $1 "$out"
}

# Two jobs whose own limits are above what the kernel has. The processes of the node's group end before those of the host.
jobs_that_fork_without_end_leave_the_host_its_forks() {
    local most tree first second_job why
    most=$(cat /proc/sys/kernel/pid_max)
    echo 2000 >/proc/sys/kernel/pid_max
    printf '%s\n' 'cgroup baseDir /sys/fs/cgroup/forks' 'joblet defaultPidsLimit 4096' >/run/settings
    second_node /sys/fs/cgroup/forks-daemon </run/settings || { echo $most >/proc/sys/kernel/pid_max; fail $1 "$(tail -1 /run/second.log)"; return; }
    tree=$(echo /sys/fs/cgroup/forks/joblet-*)
    [ "$(cat "$tree/pids.max")" = 1275 ] || why="pids.max is $(cat "$tree/pids.max")"
    first=$(rnx job run -q hog_processes stay)
    second_job=$(rnx job run -q hog_processes stay)
    # Not pids.events: older kernels count there what the job's own group refused.
    until_true 120 sh -c "[ \"\$(cat $tree/pids.current)\" -ge 1270 ]" || why="$why; the group's limit is never reached: $(cat "$tree/pids.current")"
    # The host forks as before, a hundred at a time.
    (for n in $(seq 100); do sleep 5 & done; wait) 2>/run/forks.log || why="$why; the host: $(tail -1 /run/forks.log)"
    [ -s /run/forks.log ] && why="$why; the host: $(tail -1 /run/forks.log)"
    rnx job stop "$first" >/dev/null
    rnx job stop "$second_job" >/dev/null
    end_second_node
    echo $most >/proc/sys/kernel/pid_max
    [ -z "$why" ] && pass $1 || fail $1 "$why"
}
