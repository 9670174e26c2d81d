# The measurements of a job on a host with every controller.

# measured GROUP FIELD: a field of the sample in /tmp/sample; a missing group has no fields
measured() { sed -n "s/.*\"$1\":{\([^}]*\)}.*/\1/p" /tmp/sample | tr ',' '\n' | sed -n "s/^\"$2\":\([0-9.]*\)\$/\1/p"; }

# last ID, most ID: the last sample of a job, and the maximum of each number in all samples
last() { rnx --json job metrics "$1" | tail -1 >/tmp/sample; }
most() { rnx --json job metrics --aggregate=max "$1" >/tmp/sample; }

# share ID: the percent of a processor that a job used, the mean of all its samples but the last. The last one comes with the end,
# at times milliseconds after the one before, and within a period a job may use its quota at once
share() {
    rnx --json job metrics "$1" | sed '$d' | sed -n 's/.*"cpu":{[^}]*"usagePercent":\([0-9.]*\).*/\1/p' |
        awk '{ sum += $1 } END { if (NR > 0) print int(sum / NR) }'
}

# above LEAST NUMBER: succeeds when the whole part of NUMBER is at least LEAST
above() { [ -n "$2" ] && [ "${2%.*}" -ge "$1" ]; }

memory_is_measured_with_its_peak_and_its_limit() {
    local id
    id=$(rnx job run -q --max-memory=64 sh -c 'x=$(head -c 16000000 /dev/zero | tr "\0" x); echo ${#x}; sleep 1000; :')
    until_true 90 grep -qx 16000000 $node/spool/$id/stdout || { fail $1 "$(cat $node/spool/$id/stdout)"; return; }
    # The job holds the bytes until a sample shows them: a shell would execute its last command in its own place.
    is_measured() {
        most "$1"
        above 16000000 "$(measured memory current)" && above 16000000 "$(measured memory anon)" &&
            above 1000 "$(measured memory pgFault)" && above 20 "$(measured memory usagePercent)"
    }
    until_true 60 is_measured "$id" || { fail $1 "most: $(cat /tmp/sample)"; return; }
    rnx job stop "$id" >/dev/null
    last "$id"
    # No process is left, and the sample still has the peak.
    within 16000000 "$(measured memory peak)" 67108864 && [ "$(measured memory max)" = 67108864 ] &&
        within 0 "$(measured memory anon)" 1000000 && pass $1 || fail $1 "last: $(cat /tmp/sample)"
}

throttling_and_pressure_are_measured_under_a_processor_limit() {
    local id stat samples
    id=$(rnx job run -q --max-cpu=50 hog_cpu)
    stat=$(group "$id")/cpu.stat samples=$node/spool/$id/metrics.jsonl
    until_true 90 sh -c "[ \$(sed -n 's/^nr_throttled //p' '$stat') -gt 40 ] && [ \$(wc -l <'$samples') -ge 4 ]"
    rnx job stop "$id" >/dev/null
    last "$id"
    above 40 "$(measured cpu nrThrottled)" && above 40 "$(measured cpu nrPeriods)" &&
        above 100000 "$(measured cpu throttledUsec)" && above 1000000 "$(measured cpu usageUsec)" ||
        { fail $1 "last: $(cat /tmp/sample)"; return; }
    within 20 "$(share "$id")" 75 || { fail $1 "$(share "$id") percent: $(rnx --json job metrics "$id")"; return; }
    most "$id"
    above 1 "$(measured cpu throttlePercent)" &&
        above 1 "$(measured cpu pressureSome10)" && pass $1 || fail $1 "most: $(cat /tmp/sample)"
}

disk_traffic_is_measured_by_device() {
    local id device
    run_job sh -c 'dd if=/dev/zero of=x bs=1M count=4 conv=fsync 2>/dev/null; sleep 2; echo done'
    [ "$(cat /tmp/output)" = done ] || { fail $1 "$(cat /tmp/output /tmp/status)"; return; }
    device=$(tr -d '\n' </sys/class/block/$(disk opt)/dev)
    last "$id"
    grep -q "\"devices\":{\"$device\":{" /tmp/sample || { fail $1 "no $device: $(cat /tmp/sample)"; return; }
    # The totals of the group follow the objects of the devices.
    set -- "$1" "$(sed -n 's/.*"totalWriteBytes":\([0-9]*\).*/\1/p' /tmp/sample)" "$(sed -n 's/.*"totalWriteOps":\([0-9]*\).*/\1/p' /tmp/sample)"
    within 4194304 "$2" 8000000 && above 1 "$3" && pass "$1" || fail "$1" "$2 bytes, $3 requests: $(cat /tmp/sample)"
}

processes_are_measured_with_their_limit() {
    local id
    id=$(rnx job run -q sh -c 'for i in 1 2 3 4 5; do sleep 1000 & done; wait')
    # joblet-init, the shell and five of its children, when all of them are asleep.
    are_measured() {
        most "$1"
        [ "$(measured process current) $(measured process threads) $(measured process max)" = "7 7 64" ] &&
            above 7 "$(measured process sleeping)" && above 14 "$(measured process openFDs)"
    }
    until_true 60 are_measured "$id" && pass $1 || fail $1 "$(cat /tmp/sample)"
    rnx job stop "$id" >/dev/null
}
