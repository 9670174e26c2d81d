# memory.max, the exit reason oom, swap, and all kinds of memory that count.

a_memory_hog_is_killed_and_the_reason_is_oom() {
    local out code id
    out=$(rnx job run --follow -q --max-memory=64 hog_memory | tail -1)
    id=$(newest)
    [ "$(status "$id" exitReason)" = oom ] || { fail $1 "reason $(status "$id" exitReason): $(status "$id" message)"; return; }
    # The job came near its limit and never exceeded it.
    within 48 "$out" 64 || { fail $1 "died at $out MiB"; return; }
    rnx job run --wait -q --max-memory=64 hog_memory
    code=$?
    [ $code -eq 137 ] && pass $1 || fail $1 "rnx ended with $code"
}

a_jobs_swap_is_forbidden_and_its_group_dies_together() {
    local id dir
    id=$(rnx job run -q --max-memory=64 sleep 1000)
    dir=$(group "$id")
    set -- "$1" "$(cat "$dir/memory.max")" "$(cat "$dir/memory.oom.group")" "$(cat "$dir/memory.swap.max" 2>/dev/null || echo 0)"
    rnx job stop "$id" >/dev/null
    [ "$2 $3 $4" = "67108864 1 0" ] && pass "$1" || fail "$1" "memory.max $2, oom.group $3, swap.max $4"
}

# Pages are charged in batches of 64 and the last ones singly: the peak is the limit, less at most a batch for each processor.
limit_was_reached() { within $((($1 << 20) - 2 * 64 * 4096)) "$2" $(($1 << 20)); }

# resident PID: the resident memory in kB
resident() { sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$1/status"; }

# Starts a job for each line of its input, which has the flags and the command, and waits for their ends. `told N FIELD` then
# prints a field of the Nth job.
run_jobs() {
    local line n=0
    rm -f /tmp/job.*
    while read -r line; do
        n=$((n + 1))
        rnx job run -q $line >/tmp/job.$n 2>&1
    done
    while [ $n -gt 0 ]; do
        until_true 120 sh -c "! ls -d /sys/fs/cgroup/joblet-*/job-$(head -1 /tmp/job.$n)"
        until_true 60 sh -c "command rnx --config $node/rnx-config.yml --json job status $(head -1 /tmp/job.$n) >/tmp/status.$n && ! grep -q RUNNING /tmp/status.$n"
        n=$((n - 1))
    done
}
told() { tr -d ' ",' </tmp/status.$1 | sed -n "s/^$2://p" | head -1; }

every_kind_of_memory_ends_as_oom_at_the_limit() {
    local kind n=0 peak last before after daemon bad=
    daemon=$(cat /run/daemon.pid)
    before=$(resident $daemon)
    printf '%s\n' anonymous shared memfd sysv sockets pipes 'file /tmp/x' 'file /dev/shm/x' >/tmp/kinds
    sed 's/^/--max-memory=24 hog_memory /' /tmp/kinds | run_jobs
    while read -r kind; do
        n=$((n + 1))
        peak=$(told $n peakMemoryBytes) last=$(rnx job log --no-follow "$(cat /tmp/job.$n)" 2>/dev/null | tail -1)
        echo "$kind: $(told $n exitReason) at $last, peak $peak"
        case "$kind $(told $n exitReason) $last" in
        # The limit of the file system may come first.
        file*" exited full") [ "$peak" -le $((24 << 20)) ] || bad="$bad; $kind: peak $peak" ;;
        *" oom "*) limit_was_reached 24 "$peak" || bad="$bad; $kind: peak $peak" ;;
        *) bad="$bad; $kind: $(cat /tmp/job.$n) $(told $n exitReason), $last" ;;
        esac
    done </tmp/kinds
    after=$(resident $daemon)
    # The daemon is the same process, and its memory did not grow with the jobs'.
    within 1 "$after" $((before + 8192)) || bad="$bad; the daemon: $before kB before, $after kB after"
    [ -z "$bad" ] && pass $1 || fail $1 "$bad"
}

page_cache_fills_the_memory_limit_without_an_oom_kill() {
    local id peak
    # On disk, so that the kernel can reclaim the written pages.
    run_job --max-memory=8 sh -c 'head -c 12000000 /dev/zero >x && wc -c <x'
    peak=$(said peakMemoryBytes)
    [ "$(cat /tmp/output)" = 12000000 ] && limit_was_reached 8 "$peak" && pass $1 || fail $1 "$(cat /tmp/output /tmp/status)"
}

# the number of pages that went to swap since the boot
swapped() { value /proc/vmstat pswpout; }

no_page_of_a_job_goes_to_swap() {
    local before
    grep -q nvme /proc/swaps || { fail $1 "no swap is on"; return; }
    # A group without our limit swaps, which proves that the device works and the kernel uses it.
    mkdir /sys/fs/cgroup/swapper
    echo $((24 << 20)) >/sys/fs/cgroup/swapper/memory.max
    before=$(swapped)
    (echo 0 >/sys/fs/cgroup/swapper/cgroup.procs && JOB_ID=none exec hog_memory children 48) >/dev/null &
    until_true 60 sh -c "[ \$(cat /sys/fs/cgroup/swapper/memory.swap.current) -gt 16000000 ]" || { fail $1 "nothing swaps here"; return; }
    echo 1 >/sys/fs/cgroup/swapper/cgroup.kill
    until_true 30 rmdir /sys/fs/cgroup/swapper
    echo "without a limit of swap: $(($(swapped) - before)) pages"
    before=$(swapped)
    printf '%s\n' '--max-memory=24 hog_memory anonymous' '--max-memory=24 hog_memory shared' '--max-memory=24 hog_memory file /tmp/x' | run_jobs
    [ "$(told 1 exitReason) $(told 2 exitReason)" = 'oom oom' ] || { fail $1 "$(cat /tmp/job.* /tmp/status.*)"; return; }
    [ "$(swapped)" = "$before" ] && pass $1 || fail $1 "$(($(swapped) - before)) pages went to swap"
}

many_children_under_a_small_limit_always_end_as_oom() {
    local n
    for n in 1 2 3 4 5; do
        echo --max-memory=8 hog_memory children 40
    done | run_jobs
    for n in 1 2 3 4 5; do
        [ "$(told $n exitReason)" = oom ] || { fail $1 "job $n: $(told $n exitReason), $(cat /tmp/job.$n)"; return; }
    done
    pass $1
}
