# /work on disk: its quota, its removal, and io.max.

a_work_directory_on_disk_ends_at_its_quota() {
    local id out
    grep -q '/work is on disk' /run/daemon.log || { fail $1 "$(grep /work /run/daemon.log)"; return; }
    rnx job run --follow -q sh -c 'head -c 20000000 /dev/zero >x; wc -c <x; df -k . | tail -1; sleep 1000' >/tmp/full 2>&1 &
    until_true 120 grep -q '%' /tmp/full || { fail $1 "$(cat /tmp/full)"; return; }
    id=$(newest)
    # One job's /work is full, another's is not: it gets more than a /work in memory could hold.
    out=$(rnx job run --follow -q --max-memory=24 sh -c 'head -c 15000000 /dev/zero >x && wc -c <x')
    set -- "$1" "$out" "$(cat /tmp/full)"
    rnx job stop "$id" >/dev/null
    [ "$2" = 15000000 ] || { fail "$1" "the other job: $2"; return; }
    case "$3" in
    *16[67]?????*) pass "$1" ;;
    *) fail "$1" "$3" ;;
    esac
}

# The kernel lets root pass a quota (CAP_SYS_RESOURCE), and root has mounted the overlay.
a_writable_root_on_disk_has_the_quota_of_work() {
    local applet box=$node/runtimes/box/1.0.0
    mkdir -p $box/root/bin
    cp /usr/bin/busybox $box/root/bin/busybox
    for applet in sh head wc rm; do ln -s busybox $box/root/bin/$applet; done
    head -c 3000000 /dev/zero >$box/root/below
    echo "{name: box, version: 1.0.0, mounts: [{source: root, target: /}]}" >$box/runtime.yml
    rnx runtime list >/dev/null
    # What the one place takes, the other has not; and 4096 files are all of them together.
    run_job --runtime=box --writable sh -c 'echo x >>/below; head -c 20000000 /dev/zero >/x; wc -c </x
        head -c 2000000 /dev/zero >/work/y; wc -c </work/y; rm /x /work/y
        i=0; while [ $i -lt 5000 ] && true 2>/dev/null >/f$i; do i=$((i + 1)); done; echo $i'
    case "$(tr '\n' ' ' </tmp/output)" in
    "13"??????" 0 40"??" ") ;;
    *) fail $1 "$(cat /tmp/output /tmp/status)"; return ;;
    esac
    [ "$(wc -c <$box/root/below)" = 3000000 ] || { fail $1 "the layer of the runtime has changed"; return; }
    until_true 60 test ! -e $node/work/$id && pass $1 || fail $1 "left: $(find $node/work/$id | head)"
}

a_job_cannot_leave_the_quota_of_its_work_directory() {
    local out
    # The first command shows that the job may change its own files.
    out=$(rnx job run --follow -q sh -c 'mkdir d; chattr +A d && echo ran; chattr -p 0 /work d && echo changed
        chattr -P /work d && echo cleared; head -c 20000000 /dev/zero >d/x; wc -c <d/x' 2>/dev/null)
    case "$out" in
    ran?16[67]?????) pass $1 ;;
    *) fail $1 "$out" ;;
    esac
}

uploads_count_for_the_quota_of_a_work_directory() {
    local out
    head -c 10000000 /dev/zero >/tmp/ten
    out=$(rnx job run --follow -q --upload=/tmp/ten sh -c 'wc -c <ten; stat -c %u ten; head -c 10000000 /dev/zero >more; echo $?' 2>&1)
    case "$out" in
    *10000000*0*1*) ;;
    *) fail $1 "$out"; return ;;
    esac
    cat /tmp/ten /tmp/ten >/tmp/twenty
    out=$(rnx job run --follow -q --upload=/tmp/twenty true 2>&1)
    rm /tmp/ten /tmp/twenty
    case "$out" in
    *"/work is full"*) pass $1 ;;
    *) fail $1 "$out" ;;
    esac
}

a_jobs_files_are_gone_after_it_however_deep() {
    local id
    run_job sh -c 'ln -s / host; i=0
        while [ $i -lt 300 ]; do mkdir d && ln -s /opt d/link && echo x >d/f && cd -P d || break; i=$((i + 1)); done; echo $i'
    [ "$(cat /tmp/output)" = 300 ] || { fail $1 "$(cat /tmp/output /tmp/status)"; return; }
    until_true 60 test ! -e $node/work/$id || { fail $1 "left: $(ls -A $node/work/$id)"; return; }
    [ -s $node/joblet-config.yml ] && pass $1 || fail $1 "a link was followed"
}

work_on_disk_outlives_the_daemon_but_not_its_job() {
    local id stray=$node/work/0a1b2c3d-0000-4000-8000-000000000000
    id=$(rnx job run -q sh -c 'mkdir -p a/b; echo x >a/b/c; sleep 1000') || { fail $1 "$id"; return; }
    until_true 30 test -s $node/work/$id/a/b/c || { fail $1 "$(find $node/work)"; return; }
    kill -9 "$(cat /run/daemon.pid)"
    until_true 30 test -s /run/daemon.exit && rm /run/daemon.exit
    mkdir -p $stray/a/b
    start_daemon || { fail $1 "no new daemon"; return; }
    until_true 60 test ! -e $stray || { fail $1 "nobody's, and left: $(find $stray)"; return; }
    [ -s $node/work/$id/a/b/c ] || { fail $1 "gone while its job runs"; return; }
    rnx job stop $id >/tmp/out 2>&1 || { fail $1 "$(cat /tmp/out)"; return; }
    until_true 60 test ! -e $node/work/$id && pass $1 || fail $1 "left: $(find $node/work/$id)"
}

# The disk is an NVMe device of the emulator. The kernel throttles requests before they reach the driver, and charges writes of
# the page cache to the group that dirtied the pages (memory and io controller together), so every way is limited. The lower
# bound only shows that something was measured.
disk_traffic_keeps_to_its_limit_in_both_directions() {
    local id way free held limit=$((2 << 20)) bad=
    local ways='disk_rate direct write x $0; disk_rate direct read x $0; disk_rate synced write x $0; disk_rate synced read x $0'
    run_job sh -c "$ways" 32
    cp /tmp/output /tmp/free
    run_job --max-iobps=$limit sh -c "$ways" 8
    for way in 1 2 3 4; do
        free=$(sed -n ${way}p /tmp/free) held=$(sed -n ${way}p /tmp/output)
        way=$(echo "$ways" | cut -d';' -f$way | sed 's/^ *disk_rate \(.*\) x.*/\1/')
        echo "$way: $((free >> 10)) KiB/s free, $held bytes/s with a limit of $limit"
        [ "$free" -gt $((2 * limit)) ] || { bad="$bad; $way: the disk itself gives $free bytes/s"; continue; }
        within $((limit / 4)) "$held" $((limit * 11 / 10)) || bad="$bad; $way: $held bytes/s"
    done
    [ -z "$bad" ] && pass $1 || fail $1 "$bad"
}
