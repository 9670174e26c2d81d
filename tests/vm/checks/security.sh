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
