# Resources besides memory, time and traffic: inodes, descriptors, and other kernel objects.

free_blocks() { df -k /opt | tail -1 | tr -s ' ' | cut -d' ' -f4; }
unreclaimable() { sed -n 's/^SUnreclaim: *\([0-9]*\) kB/\1/p' /proc/meminfo; }

# The deepest tree comes last, and the daemon has to remove it.
job_that_fills_its_directories_fills_them_for_itself_alone() {
    local line free kept bad=
    free=$(free_blocks) kept=$(ls $node/work | wc -l)
    run_job --max-memory=96 sh -c 'for dir in /tmp /dev/shm /work; do for kind in inodes reserve sparse deep; do
        mkdir $dir/full && hog_objects $kind $dir/full | sed "s|^|$dir |"; [ $dir$kind = /workdeep ] || rm -r $dir/full; done; done'
    cat /tmp/output
    [ "$(wc -l </tmp/output)" = 12 ] || bad="$(cat /tmp/status)"
    while read -r line; do
        case "$line" in
        *ENOSPC | *EDQUOT | */*" sparse: "*) ;;
        *) bad="$bad; $line" ;;
        esac
    done </tmp/output
    until_true 60 eval "[ \$(ls $node/work | wc -l) -le $kept ]" || bad="$bad; left: $(ls $node/work)"
    # A MiB for the records and logs of these jobs.
    until_true 30 eval "[ \$(free_blocks) -ge $((free - 1024)) ]" || bad="$bad; $free KiB were free, now $(free_blocks)"
    [ -z "$bad" ] && pass $1 || fail $1 "$bad"
}

objects_of_the_kernel_are_bounded_and_go_with_their_job() {
    local line files slab bad=
    files=$(cut -f1 /proc/sys/fs/file-nr) slab=$(unreclaimable)
    run_job --max-memory=32 sh -c 'for kind in files eventfds epolls inotify timers signals rights queues netlink terminals randomness; do
        hog_objects $kind 6; done'
    cat /tmp/output
    [ "$(wc -l </tmp/output)" = 11 ] || bad="$(cat /tmp/status)"
    while read -r line; do
        case "$line" in
        terminals*) [ "$line" = "terminals: 30, then ENOSPC" ] || bad="$bad; $line" ;;
        randomness*none | *", then E"*) ;;
        *) bad="$bad; $line" ;;
        esac
    done </tmp/output
    # These have no bound but memory.
    run_job --max-memory=32 hog_objects semaphores 6
    within 0 "$(said peakMemoryBytes)" $((32 << 20)) && [ "$(said exitReason)" = oom ] || bad="$bad; semaphores: $(cat /tmp/status)"
    # The host has terminals, and the resources of the jobs are free again.
    (exec 3<>/dev/ptmx) || bad="$bad; no terminal is left"
    until_true 60 eval "[ \$(cut -f1 /proc/sys/fs/file-nr) -le $((files + 300)) ]" || bad="$bad; $files files before, now $(cat /proc/sys/fs/file-nr)"
    until_true 60 eval "[ \$(unreclaimable) -le $((slab + 8192)) ]" || bad="$bad; $slab kB of the kernel's before, now $(unreclaimable)"
    [ -z "$bad" ] && pass $1 || fail $1 "$bad"
}
