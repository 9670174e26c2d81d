# Faults of the disk under dataDir and of the clock: the behaviour of a node during a fault, and its recovery without help.
#
# The checks use a separate node, /opt/faulty; its data are on a separate disk, whose sectors the kernel's device mapper can make
# fail (dm-linear and dm-error).

data=/faults/data
faulty=/dev/dm-0
# The guest has no udev, which would make names of devices.
export DM_DISABLE_UDEV=1

# faulty_node OPTIONS LIMIT...: makes a new file system on that disk with LIMIT, mounts it with OPTIONS, and starts the node on it
faulty_node() {
    local options=$1 device
    shift
    node=/opt/faulty
    # Keeps the kernel's many messages off the console.
    dmesg -n 1
    device=/dev/$(disk faults)
    if [ ! -e $node ]; then
        insmod /modules/dm-mod.ko || return 1
        joblet setup --dir $node --host localhost --port 50053 --enforcement strict >/dev/null || return 1
        sed -i "s|^dataDir:.*|dataDir: $data|" $node/joblet-config.yml
        configure $node/joblet-config.yml cgroup baseDir /sys/fs/cgroup/faulty
        configure $node/joblet-config.yml joblet warmSandboxes 2
        configure $node/joblet-config.yml network default_network none
        echo "0 $(blockdev --getsz $device) linear $device 0" >/run/sound
        dmsetup create faulty </run/sound || return 1
    fi
    end_faulty
    /usr/bin/mke2fs -q -F -t ext4 -I 256 -O quota -E lazy_itable_init=1 "$@" $faulty 2>/run/mke2fs.log || { cat /run/mke2fs.log; return 1; }
    mkdir -p /faults
    mount -t ext4 -o "$options" $faulty /faults || return 1
    mkdir -m 0700 $data
    start_faulty
}

# start_faulty PREFIX...: starts the daemon and waits until it answers; fails when it ends before that
start_faulty() {
    rm -f /run/faulty.exit
    sh -c "$* joblet --config $node/joblet-config.yml >>/run/faulty.log 2>&1 & echo \$! >/run/faulty.pid; wait \$!; echo \$? >/run/faulty.exit" &
    until_true 60 sh -c "test -s /run/faulty.exit || command rnx --config $node/rnx-config.yml job list"
    [ ! -s /run/faulty.exit ] || { echo "it ended: $(tail -n 2 /run/faulty.log)"; return 1; }
}
faulty_daemon() { cat /run/faulty.pid; }
kill_faulty() {
    kill -9 "$(faulty_daemon)"
    until_true 30 test -s /run/faulty.exit
}

# Ends the node's jobs and its daemon, and unmounts the disk.
end_faulty() {
    if [ -e /run/faulty.pid ] && [ ! -s /run/faulty.exit ]; then
        kill_faulty
    fi
    if [ -e /sys/fs/cgroup/faulty ]; then
        echo 1 >/sys/fs/cgroup/faulty/cgroup.kill
        until_true 30 sh -c 'find /sys/fs/cgroup/faulty -depth -type d -exec rmdir {} \; 2>/dev/null; [ ! -e /sys/fs/cgroup/faulty ]'
    fi
    ! grep -q ' /faults ' /proc/mounts || until_true 30 umount /faults || { echo "/faults is in use"; return 1; }
}

# remap: maps the sectors of the disk by the table on standard input
remap() {
    dmsetup load faulty && dmsetup suspend --noflush --nolockfs faulty && dmsetup resume faulty
}

# idle PID: succeeds when the process uses less than a quarter of a processor for four seconds
idle() {
    local before
    before=$(used "$1")
    sleep 4
    [ $(($(used "$1") - before)) -lt 100 ] || { echo "it took $(($(used "$1") - before)) of 400 hundredths"; return 1; }
}
# used PID: the processor time of the process in hundredths of a second
used() { sed 's/.*) //' "/proc/$1/stat" | awk '{print $12 + $13}'; }

# is_refused WORDS FLAG...: prints a line unless a new job is refused at once, with an error that matches the pattern WORDS
is_refused() {
    local words=$1 out code n
    shift
    for n in 1 2 3 4; do
        out=$(timeout 60 rnx --config $node/rnx-config.yml job run -q "$@" 2>&1)
        code=$?
        # The guest may be too slow for rnx.
        echo "$out" | grep -q 'cannot reach' || break
    done
    echo "refused with $code: $out" >&2
    [ $code != 0 ] && [ $code != 124 ] && [ $code != 143 ] || { echo "$code: $out"; return; }
    echo "$out" | grep -q -e "$words" || echo "not these words ($words): $out"
}

# shows ID FIELD VALUE: waits until the status has this value. ends_with ID CODE: waits until the job has ended with this code
shows() { until_true 60 sh -c "[ \"\$(command rnx --config $node/rnx-config.yml --json job status $1 | tr -d ' \",' | sed -n 's/^$2://p' | head -1)\" = $3 ]" || { echo "; no $2 $3: $(rnx job status "$1" 2>&1)"; return 1; }; }
ends_with() { until_true 60 sh -c "command rnx --config $node/rnx-config.yml --json job status $1 | tr -d ' ' | grep -q '\"exitCode\":$2,'"; }
# comes_to_refuse WORDS FLAG...: the same as is_refused, after some jobs that still get the resource
comes_to_refuse() {
    refuses() { [ -z "$(is_refused "$@")" ]; }
    until_true 120 refuses "$@" || is_refused "$@"
}
first_of() { payloads "$1" | cut -d/ -f3; }
TOLD='trap "exit 9" USR1; echo begun; while :; do sleep 0.2; done'

data_directory_gone_read_only_delays_jobs_and_loses_nothing() {
    local runs ends stopped waits due ended bad out
    faulty_node defaults -N 1024 >/tmp/wrong 2>&1 || { fail $1 "$(cat /tmp/wrong)"; return; }
    runs=$(numbered)
    ends=$(rnx job run -q sh -c "$TOLD")
    stopped=$(rnx job run -q sh -c "$TOLD")
    waits=$(rnx job run -q --schedule=1h true)
    due=$(rnx job run -q --schedule=25s sh -c 'exit 6')
    ended=$(rnx job run --wait -q sh -c 'exit 5' 2>/dev/null)
    begun "$runs" "$ends" "$stopped" >/tmp/before
    # The kernel does this to a disk that it cannot trust. `mount -o remount,ro` refuses while files are open for writing.
    echo u >/proc/sysrq-trigger
    until_true 20 grep -q ' /faults ext4 ro' /proc/mounts || { fail $1 "$(cat /proc/mounts)"; return; }
    bad=$(is_refused "$data.*[Rr]ead-only.*" true; is_refused "$data.*[Rr]ead-only" --schedule=2h true)
    # Meanwhile one job ends, one is stopped, and the time of one comes.
    kill -USR1 "$(first_of "$ends")"
    rnx job stop "$stopped" >/tmp/stopped 2>&1 &
    until_true 60 sh -c "! grep . $(group "$stopped")/cgroup.procs" || bad="$bad; the stop has no effect"
    bad="$bad$(idle "$(faulty_daemon)")"
    for out in "$ends" "$stopped" "$due"; do
        rnx job status "$out" | grep -E '^Status: (COMPLETED|FAILED|STOPPED)' && bad="$bad; told without being recorded: $(rnx job status "$out")"
    done
    bad="$bad$(shows "$ended" exitCode 5; shows "$waits" status SCHEDULED)"
    mount -o remount,rw /faults && mount -o remount,rw /opt || bad="$bad; no remount"
    ends_with "$ends" 9 || bad="$bad; its code is not told: $(rnx job status "$ends")"
    until_true 60 grep -q . /tmp/stopped
    bad="$bad$(shows "$stopped" status STOPPED)"
    echo "whose time came meanwhile: $(rnx job status "$due" | tr '\n' ' ')"
    rnx job run -q --wait true || bad="$bad; no new job after it"
    # The same again, and the daemon is killed meanwhile.
    ends=$(rnx job run -q sh -c "$TOLD")
    begun "$ends" >/dev/null
    echo u >/proc/sysrq-trigger
    until_true 20 grep -q ' /faults ext4 ro' /proc/mounts
    kill -USR1 "$(first_of "$ends")"
    kill_faulty
    start_faulty >/tmp/wrong && bad="$bad; it starts where nothing can be recorded"
    grep -q "$data.*[Rr]ead-only" /tmp/wrong || bad="$bad; it does not say why: $(cat /tmp/wrong)"
    mount -o remount,rw /faults && mount -o remount,rw /opt
    start_faulty || { fail $1 "$bad; it does not start: $(tail -n 3 /run/faulty.log)"; return; }
    ends_with "$ends" 9 || bad="$bad; its code is not told: $(rnx job status "$ends")"
    bad="$bad$(shows "$waits" status SCHEDULED)"
    [ "$(payloads "$runs")" = "$(head -1 /tmp/before)" ] || bad="$bad; other processes"
    told_in_full "$runs" >/tmp/wrong || bad="$bad; $(cat /tmp/wrong)"
    [ -z "$bad" ] && pass $1 || fail $1 "$bad"
}

data_directory_out_of_inodes_refuses_only_new_jobs() {
    local runs n bad=
    faulty_node defaults -N 256 >/tmp/wrong 2>&1 || { fail $1 "$(cat /tmp/wrong)"; return; }
    runs=$(numbered)
    begun "$runs" >/dev/null
    mkdir /faults/many
    n=0
    while true 2>/dev/null >/faults/many/$n; do n=$((n + 1)); done
    echo "$n files, then: $(df -i /faults | tail -1)"
    # Warm sandboxes have their files already.
    bad=$(comes_to_refuse "$data.*No space left.*inodes" sleep 1000)
    printf x >/tmp/brought
    bad="$bad$(is_refused "$data.*No space left.*inodes" --schedule=1h --upload=/tmp/brought true)"
    bad="$bad$(idle "$(faulty_daemon)")"
    rm -r /faults/many
    rnx job run -q --wait true || bad="$bad; no new job after it"
    told_in_full "$runs" >/tmp/wrong || bad="$bad; $(cat /tmp/wrong)"
    [ -z "$bad" ] && pass $1 || fail $1 "$bad"
}

# A quota limits root only without CAP_SYS_RESOURCE (quotactl(2)).
data_directory_at_its_quota_delays_jobs_and_loses_nothing() {
    local runs flood bad=
    faulty_node usrquota >/tmp/wrong 2>&1 || { fail $1 "$(cat /tmp/wrong)"; return; }
    kill_faulty
    start_faulty /usr/bin/setpriv --bounding-set=-sys_resource || { fail $1 "$(tail -n 3 /run/faulty.log)"; return; }
    runs=$(numbered)
    begun "$runs" >/dev/null
    set_quota $faulty user 0 $(($(du -sk /faults | cut -f1) * 1024 + (2 << 20))) || { fail $1 "no quota"; return; }
    flood=$(rnx job run -q sh -c 'i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo $i; head -c 80000 /dev/zero; echo; done; exit 8')
    until_true 120 sh -c "command rnx --config $node/rnx-config.yml job status $flood | grep -q 'cannot be written\|disk is full'" || bad="$bad; it does not wait: $(rnx job status "$flood")"
    echo "at the quota: $(rnx job status "$flood" | tr '\n' ' ')"
    # History gives space back meanwhile: from here on less is allowed than is in use.
    set_quota $faulty user 0 $(($(du -sk /faults | cut -f1) * 1024 - (512 << 10))) || bad="$bad; no smaller quota"
    bad="$bad$(comes_to_refuse "$data.*quota" true)"
    bad="$bad$(idle "$(faulty_daemon)")"
    set_quota $faulty user 0 0
    ends_with "$flood" 8 || bad="$bad; $(rnx job status "$flood")"
    rnx job log "$flood" | grep -a '^[0-9]' >/tmp/printed
    seq 40 | cmp - /tmp/printed || bad="$bad; lines are missing"
    rnx job run -q --wait true || bad="$bad; no new job after it"
    told_in_full "$runs" >/tmp/wrong || bad="$bad; $(cat /tmp/wrong)"
    [ -z "$bad" ] && pass $1 || fail $1 "$bad"
}

# failing FILE: prints a table of the disk in which the sectors of the file fail
failing() {
    sync
    filefrag -v "$1" | sed -n 's/^ *[0-9]*: *[0-9]*\.\. *[0-9]*: *\([0-9]*\)\.\. *\([0-9]*\):.*/\1 \2/p' | sort -n |
        awk -v all="$(blockdev --getsz $faulty)" -v per=$(($(stat -f -c %S /faults) / 512)) -v device="/dev/$(disk faults)" '
            { from = $1 * per; size = ($2 - $1 + 1) * per
              if (from > at) print at, from - at, "linear", device, at
              print from, size, "error"; at = from + size }
            END { print at, all - at, "linear", device, at }' at=0
}

# The kernel drops pages that it could not write: a later fdatasync(2) succeeds although they are lost.
state_reported_after_a_failed_write_is_on_the_disk() {
    local runs ended waits later bad= id
    faulty_node defaults >/tmp/wrong 2>&1 || { fail $1 "$(cat /tmp/wrong)"; return; }
    runs=$(numbered)
    ended=$(rnx job run -q sh -c "$TOLD")
    waits=$(rnx job run -q --schedule=1h true)
    begun "$runs" "$ended" >/dev/null
    # The database itself has all earlier writes now.
    sleep 2
    failing $data/state.db-wal >/run/failing
    cat /run/failing
    remap </run/failing || { fail $1 "no map"; return; }
    bad=$(is_refused "$data/state.db.*Input/output error" --schedule=2h true)
    kill -USR1 "$(first_of "$ended")"
    bad="$bad$(idle "$(faulty_daemon)")"
    bad="$bad$(shows "$ended" status RUNNING)"
    remap </run/sound
    ends_with "$ended" 9 || bad="$bad; $(rnx job status "$ended")"
    later=$(rnx job run -q --schedule=3h true) || bad="$bad; $later"
    # As after a power cut, data that are not on the disk are lost: no process has them in memory.
    kill_faulty
    echo 3 >/proc/sys/vm/drop_caches
    start_faulty >/tmp/wrong || { fail $1 "$bad; $(cat /tmp/wrong)"; return; }
    bad="$bad$(shows "$ended" exitCode 9; shows "$waits" status SCHEDULED; shows "$later" status SCHEDULED)"
    told_in_full "$runs" >/tmp/wrong || bad="$bad; $(cat /tmp/wrong)"
    [ -z "$bad" ] && pass $1 || fail $1 "$bad"
}

# Every write and read fails, also those of the file system itself, which then fails until it is mounted again.
failed_disk_ends_no_job_and_a_restart_knows_reported_states() {
    local runs ended waits out bad=
    faulty_node defaults >/tmp/wrong 2>&1 || { fail $1 "$(cat /tmp/wrong)"; return; }
    runs=$(numbered)
    ended=$(rnx job run --wait -q sh -c 'exit 5' 2>/dev/null)
    waits=$(rnx job run -q --schedule=1h true)
    begun "$runs" >/tmp/before
    echo "0 $(blockdev --getsz $faulty) error" | remap || { fail $1 "no map"; return; }
    bad=$(for out in true true true --schedule=2h; do is_refused "$data.*\(Input/output error\|[Rr]ead-only\)" $out true; done)
    bad="$bad$(idle "$(faulty_daemon)")"
    [ "$(payloads "$runs")" = "$(cat /tmp/before)" ] || bad="$bad; other processes"
    bad="$bad$(shows "$runs" status RUNNING; shows "$ended" exitCode 5; shows "$waits" status SCHEDULED)"
    [ ! -s /run/faulty.exit ] || bad="$bad; the daemon ended"
    # The remedy is another disk, or this one mounted again; no process may use it then.
    end_faulty || { fail $1 "$bad; it cannot be unmounted"; return; }
    remap </run/sound
    mount -t ext4 $faulty /faults && start_faulty >/tmp/wrong || { fail $1 "$bad; $(cat /tmp/wrong)"; return; }
    bad="$bad$(shows "$ended" exitCode 5; shows "$waits" status SCHEDULED; shows "$runs" exit_reason lost)"
    rnx job run -q --wait true || bad="$bad; no new job after it"
    end_faulty || bad="$bad; it cannot be unmounted"
    [ -z "$bad" ] && pass $1 || fail $1 "$bad"
}

# History alone is on the disk that fails: no job waits for it, and nothing is lost or doubled when the disk is back.
history_waits_for_its_failed_disk_and_is_whole_when_it_is_back() {
    local runs history bad= process
    history=/faults/history/logs
    faulty_node defaults >/tmp/wrong 2>&1 || { fail $1 "$(cat /tmp/wrong)"; return; }
    kill_faulty
    sed -i "s|^dataDir:.*|dataDir: $node|" $node/joblet-config.yml
    printf 'persist: {storage: {local: {logs: {directory: /faults/history/logs}, metrics: {directory: /faults/history/metrics}}}}\n' >>$node/joblet-config.yml
    start_faulty >/tmp/wrong || { fail $1 "$(cat /tmp/wrong)"; return; }
    process=$(pgrep -P "$(faulty_daemon)" persist)
    runs=$(numbered)
    until_true 60 test -s $history/$runs/stdout.idx || bad="; nothing is stored"
    echo "0 $(blockdev --getsz $faulty) error" | remap || { fail $1 "no map"; return; }
    until_true 60 grep -q "cannot store a job's history; trying again" /run/faulty.log || bad="$bad; it is not told"
    rnx job run -q --wait true || bad="$bad; no job beside it"
    bad="$bad$(idle "$(faulty_daemon)")$(idle "$process")$(shows "$runs" status RUNNING)"
    # The file system has failed for good, and is mounted again. The process must not write into the empty directory below.
    until_true 60 umount /faults || { fail $1 "$bad; it cannot be unmounted"; return; }
    until_true 60 grep -q 'on another file system than before' /run/faulty.log || bad="$bad; it writes where its disk was"
    [ -z "$(ls /faults)" ] || bad="$bad; it has written $(find /faults)"
    remap </run/sound
    mount -t ext4 $faulty /faults || bad="$bad; no mount"
    told_in_full "$runs" >/tmp/wrong || bad="$bad; $(cat /tmp/wrong)"
    until_true 60 test -s $history/$runs/job.json && until_true 60 test ! -e $node/spool/$runs/index || bad="$bad; it does not become complete: $(tail -n 3 /run/faulty.log)"
    rnx job log "$runs" >/tmp/printed
    [ "$(cat /tmp/sum)" = "$(sha256sum </tmp/printed)" ] || bad="$bad; history differs from what was told"
    persist --check $history/$runs/*.gz >/tmp/wrong || bad="$bad; $(cat /tmp/wrong)"
    [ "$(pgrep -P "$(faulty_daemon)" persist)" = "$process" ] || bad="$bad; another process of history"
    [ -z "$bad" ] || { tail -n 60 /run/faulty.log; dmesg | tail -n 40; ls -la $history/$runs; }
    end_faulty || bad="$bad; it cannot be unmounted at the end"
    [ -z "$bad" ] && pass $1 || fail $1 "$bad"
}

# set_clock SECONDS: forward, or back
set_clock() { date -s "@$(($(date +%s) + $1))" >/dev/null; }

is_scheduled() { shows "$1" status SCHEDULED; }
is_running() { shows "$1" status RUNNING; }

a_clock_that_is_set_starts_jobs_by_its_time_and_ends_none() {
    local begin runs bounded hour day soon n bad=
    runs=$(rnx job run -q --timeout=30m sleep 3000)
    day=$(rnx job run -q --schedule=24h true)
    # Several times: the kernel fires the timer and reports the change one after the other, and the daemon may run between them.
    for n in 1 2 3 4 5 6; do
        hour=$(rnx job run -q --schedule=1h sh -c 'exit 3')
        set_clock 3600
        ends_with "$hour" 3 || bad="$bad; an hour forward: $(rnx job status "$hour")"
        set_clock -3600
    done
    begin=$(now)
    bounded=$(rnx job run -q --timeout=60s sleep 3000)
    set_clock 3600
    is_running "$runs" && is_running "$bounded" && is_scheduled "$day" || bad="$bad; an hour forward: $(rnx job list)"
    kill -9 "$(cat /run/daemon.pid)"
    until_true 30 test -s /run/daemon.exit && rm /run/daemon.exit
    set_clock -2400
    start_daemon || { fail $1 "$bad; it does not start: $(tail -n 1 /run/daemon.log)"; set_clock -1200; return; }
    # The job waits for the clock, not for elapsed time.
    soon=$(rnx job run -q --schedule=15s sh -c 'exit 4')
    set_clock -1200
    until_true 600 sh -c "[ \"\$(cut -d. -f1 /proc/uptime)\" -gt $((begin / 100 + 58)) ]"
    is_scheduled "$soon" || bad="$bad; its time passed, and the clock went back: $(rnx job status "$soon")"
    until_true 60 is_over "$bounded"
    echo "a minute was $((($(now) - begin) / 100)) s"
    [ "$(status "$bounded" exit_reason)" = timeout ] && within 5900 $(($(now) - begin)) 8500 || bad="$bad; a minute took $(($(now) - begin)) hundredths: $(rnx job status "$bounded")"
    set_clock 1200
    ends_with "$soon" 4 || bad="$bad; twenty minutes forward: $(rnx job status "$soon")"
    set_clock -1200
    is_running "$runs" && is_scheduled "$day" || bad="$bad; at the end: $(rnx job list)"
    rnx job stop "$runs" >/dev/null && rnx job cancel "$day" >/dev/null || bad="$bad; no stop, no cancel"
    [ -z "$bad" ] && pass $1 || fail $1 "$bad"
}
