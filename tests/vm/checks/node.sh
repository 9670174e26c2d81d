# The node itself: its start, its refusals, its leftovers.

a_strict_node_starts_where_every_controller_is() {
    local out
    out=$(rnx job run -q --follow --max-memory=64 --max-cpu=50 --cpu-cores=0 sh -c 'echo inside') || { fail $1 "$out"; return; }
    [ "$out" = inside ] && pass $1 || fail $1 "$out"
}

a_job_sees_its_own_limits_and_no_other_cgroup() {
    local out
    # The second one gets a warm sandbox, whose limits are changed before it starts.
    for memory in 64 96; do
        out=$(rnx job run --follow -q --max-memory=$memory --max-cpu=50 sh -c 'cd /sys/fs/cgroup; cat /proc/self/cgroup memory.max cpu.max
            ls -d job-* */ 2>/dev/null; mount | grep -c cgroup; echo max 2>/dev/null >memory.max || echo refused')
        [ "$out" = "0::/
$((memory << 20))
50000 100000
1
refused" ] || { fail $1 "$out"; return; }
    done
    pass $1
}

# What language runtimes do at their start: Rust's standard library divides cpu.max as Go, Java and .NET do.
runtimes_size_themselves_by_the_limits_of_the_job() {
    local out
    out=$(rnx job run --follow -q --max-cpu=100 --upload=/usr/bin/parallelism ./parallelism; rnx job run --follow -q --max-cpu=200 --upload=/usr/bin/parallelism ./parallelism)
    [ "$out" = "1
2" ] && pass $1 || fail $1 "$out"
}

# second_node GROUP: starts another strict node beside the first, from GROUP; standard input has lines "section key value" for its
# configuration. `rnx` then connects to it.
second_node() {
    local section key value
    node=/opt/second
    mkdir -p $1
    joblet setup --force --dir $node --port 50052 --enforcement strict >/dev/null
    configure $node/joblet-config.yml network default_network none
    while read -r section key value; do
        configure $node/joblet-config.yml "$section" "$key" "$value"
    done
    sh -c "echo \$\$ >$1/cgroup.procs; exec joblet --config $node/joblet-config.yml" >/run/second.log 2>&1 &
    second=$!
    until_true 60 sh -c "command rnx --config $node/rnx-config.yml job list || ! kill -0 $second" && kill -0 $second
}

end_second_node() {
    kill $second
    wait $second
}

# A daemon that is started from a login shares its group with the shell, and cannot pass controllers on from there.
node_started_from_a_login_uses_the_configured_cgroup() {
    local out
    mkdir -p /sys/fs/cgroup/session
    (echo 0 >/sys/fs/cgroup/session/cgroup.procs && exec sleep 1000) &
    echo cgroup baseDir /sys/fs/cgroup/own >/run/settings
    second_node /sys/fs/cgroup/session </run/settings || { fail $1 "$(tail -1 /run/second.log)"; return; }
    out=$(rnx job run -q --wait --max-memory=64 hog_memory 2>&1)
    end_second_node
    case "$out" in
    *"out of memory"*) pass $1 ;;
    *) fail $1 "$out" ;;
    esac
}

# refused CONTROLLER WHY REMEDY FLAG: prints a line unless the second node refuses a job with this limit in these words
refused() {
    local out
    out=$(rnx job run -q --wait "$4" true 2>&1) && { echo "$4 was taken"; return; }
    case "$out" in
    *"no $1 controller, $2"*"$3"*) ;;
    *) echo "$4: $out" ;;
    esac
}

strict_node_refuses_unenforceable_limits_with_a_remedy() {
    local out poor=/sys/fs/cgroup/poor
    # A group with all controllers but memory. The daemon starts outside of it: a daemon delegates its controllers to groups below
    # its own.
    mkdir -p $poor/node
    echo '+cpu +pids +cpuset +io' >$poor/cgroup.subtree_control
    echo cgroup baseDir $poor/node >/run/settings
    second_node /sys/fs/cgroup/session </run/settings && { fail $1 "it starts where no memory controller is"; end_second_node; return; }
    out=$(cat /run/second.log)
    case "$out" in
    *"no memory controller: it is not delegated to $poor/node"*Delegate=yes*) ;;
    *) fail $1 "$out"; return ;;
    esac
    # A controller that the configuration leaves out is no fault of the host; a job that needs it is refused.
    printf '%s\n' 'cgroup baseDir /sys/fs/cgroup/few' 'cgroup enableControllers [cpu, memory, pids]' >/run/settings
    second_node /sys/fs/cgroup </run/settings || { fail $1 "$(tail -1 /run/second.log)"; return; }
    out=$(
        rnx job run -q --wait --max-cpu=50 --max-memory=64 true 2>&1 || echo "a limit that can be kept is refused"
        refused io "the configuration leaves it out" "add it to cgroup.enableControllers" --max-iobps=1000000
        refused cpuset "the configuration leaves it out" "add it to cgroup.enableControllers" --cpu-cores=0
    )
    end_second_node
    out=$(echo "$out" | grep -vE '^[0-9a-f-]{36}$')
    [ -z "$out" ] && pass $1 || fail $1 "$out"
}

# tiny FLAG...: runs one job under the smallest limits. Prints nothing when it ran, or failed with a reason.
tiny() {
    local out code
    out=$(timeout 90 rnx --config $node/rnx-config.yml job run --wait "$@" true 2>&1)
    code=$?
    echo "$* ended with $code: $(echo "$out" | tail -1)" >&2
    case "$code $out" in
    "0 "* | "137 "*"out of memory (limit "*) ;;
    "126 "*"failed to start"*"limit of processes"*) ;;
    *) echo "$*: $code, $out" ;;
    esac
}

the_smallest_limits_let_a_job_run_or_say_why_not() {
    local out
    out=$(tiny --max-memory=4; tiny --max-cpu=1 --max-memory=4 --max-iobps=4096 --cpu-cores=0)
    [ -z "$out" ] || { fail $1 "$out"; return; }
    printf '%s\n' 'cgroup baseDir /sys/fs/cgroup/one' 'joblet defaultPidsLimit 1' >/run/settings
    second_node /sys/fs/cgroup </run/settings || { fail $1 "$(tail -1 /run/second.log)"; return; }
    out=$(tiny --max-memory=4)
    end_second_node
    [ -z "$out" ] && pass $1 || fail $1 "$out"
}

nothing_is_left_when_the_daemon_ends() {
    local code left
    kill -TERM "$(cat /run/daemon.pid)"
    until_true 30 test -s /run/daemon.exit
    code=$(cat /run/daemon.exit)
    left=$(find /sys/fs/cgroup -type d -name '*job-*'; find $node/run -type f; ls -A $node/work; mount | grep $node)
    [ "$code" = 0 ] && [ -z "$left" ] && pass $1 || fail $1 "exit $code, left: $left"
}

