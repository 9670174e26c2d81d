# The reports of joblet about its isolation, on a host that lacks no feature.

the_doctor_finds_no_fault_on_a_strict_node() {
    local out
    out=$(joblet doctor --config $node/joblet-config.yml) && pass $1 || fail $1 "$(echo "$out" | grep FAIL)"
}

limits_of_a_running_job_are_read_back_from_its_group() {
    local id file
    id=$(rnx job run -q --max-memory=64 --max-cpu=50 --cpu-cores=0 --max-iobps=1048576 sleep 1000)
    rnx job status --security "$id" >/tmp/layers || { fail $1 "$(grep 'NOT OK' /tmp/layers)"; return; }
    for file in memory.max memory.swap.max cpu.max pids.max cpuset.cpus.effective io.max; do
        grep -q "^$file  *ok " /tmp/layers || { fail $1 "$file: $(grep "^$file" /tmp/layers)"; return; }
    done
    # The report shows a lifted limit.
    echo max >"$(group "$id")/memory.max"
    rnx job status --security "$id" >/tmp/layers && { fail $1 "a lifted limit is not seen"; return; }
    [ "$(grep -c 'NOT OK ' /tmp/layers)" = 1 ] && grep -q "^memory.max  *NOT OK" /tmp/layers && pass $1 || fail $1 "$(grep 'NOT OK' /tmp/layers)"
    rnx job stop "$id" >/dev/null
}

# The number is that of the first GPU of NVIDIA. No driver has it here, so an open that reaches the kernel's table finds no device
# (ENXIO); the group's program refuses before (EPERM).
a_node_put_into_a_job_from_outside_is_refused_by_its_group() {
    local id pid out outside
    id=$(rnx job run -q sh -c 'until [ -e /volumes/done ]; do sleep 0.1; done; for n in zero gpu; do
        { true </volumes/$n && echo "$n opens"; } 2>&1; done; exec sleep 1000')
    until_true 20 sh -c "[ \$(wc -l <$(group "$id")/cgroup.procs) -ge 2 ]" || { fail $1 "it does not start"; return; }
    pid=$(tail -1 "$(group "$id")/cgroup.procs")
    nsenter -t "$pid" -m sh -c 'umask 0; mount -t tmpfs -o mode=755 none /volumes && mknod /volumes/zero c 1 5 &&
        mknod /volumes/gpu c 195 0 && : >/volumes/done' || { fail $1 "the nodes cannot be put there"; return; }
    until_true 20 sh -c "command rnx --config $node/rnx-config.yml job log --no-follow $id | grep -q gpu"
    out=$(rnx job log --no-follow "$id")
    rm -f /run/gpu; mknod /run/gpu c 195 0
    outside=$({ sh -c 'true </run/gpu'; } 2>&1)
    # It finds the mount too that was put there.
    rnx job status --security "$id" >/tmp/layers
    rnx job stop "$id" >/dev/null
    grep -q "^mount /volumes  *NOT OK " /tmp/layers || { fail $1 "a foreign mount is not found: $(cat /tmp/layers)"; return; }
    case $out in *"zero opens"*"peration not permitted"*) ;; *) fail $1 "inside: $out"; return ;; esac
    case $outside in *"o such device"*) ;; *) fail $1 "outside: $outside"; return ;; esac
    grep -q "^devices.program  *ok " /tmp/layers && pass $1 || fail $1 "$(grep devices /tmp/layers)"
}
