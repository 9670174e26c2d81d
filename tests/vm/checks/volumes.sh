# Volumes on disk in two nodes, /ext4/joblet and /xfs/joblet: project quotas, images, and what is left behind.

# The first number of volumes' projects.
FIRST=2147352577

# on FILE_SYSTEM: `rnx`, `node` and the functions below are those of its node
on() {
    file_system=$1
    node=/$1/joblet
}

start_nodes() {
    local port=50051
    for file_system in ext4 xfs; do
        on $file_system
        if [ ! -e $node/joblet-config.yml ]; then
            joblet setup --dir $node --host localhost --port $port --enforcement strict >/dev/null || return 1
            # The guest's kernel has no modules for a router.
            configure $node/joblet-config.yml network default_network none
            configure $node/joblet-config.yml joblet warmSandboxes 1
            configure $node/joblet-config.yml cgroup baseDir /sys/fs/cgroup/$file_system
        fi
        launch || return 1
        port=$((port + 1))
    done
    for file_system in ext4 xfs; do
        on $file_system
        is_up || return 1
    done
}

# launch: starts the daemon of the node; is_up waits until it answers
launch() {
    rm -f /run/$file_system.exit
    sh -c "joblet --foreground --config $node/joblet-config.yml >>/run/$file_system.log 2>&1 & echo \$! >/run/$file_system.pid
        wait \$!; echo \$? >/run/$file_system.exit" &
}
is_up() { until_true 60 command rnx --config $node/rnx-config.yml job list; }
end_daemon() {
    kill -$1 "$(cat /run/$file_system.pid)"
    until_true 30 test -s /run/$file_system.exit
}
restart_daemon() { end_daemon $1 && launch && is_up; }

# in_volume NAME[:ro] SCRIPT FLAGS...: what a job with this volume and these flags prints
in_volume() {
    local name=$1 script=$2
    shift 2
    rnx job run -q --follow --volume "$name" "$@" sh -c "$script" 2>&1
}

# projects: the projects of volumes on the node's file system, with usage and limits
projects() { project_quota /$file_system $FIRST 64; }
files() { ls -A $node/volumes | tr '\n' ' '; }
used() { rnx --json volume inspect "$1" | tr -d ' ",' | sed -n 's/^bytes://p' | head -1; }

# bounded: a volume of the node's file system ends at its quota, of bytes and of files, gives room back, and leaves another alone.
# Prints what is wrong.
bounded() {
    local out bytes
    rnx volume create data --size 16MB >/dev/null && rnx volume create other --size 16MB >/dev/null || { echo "not made"; return 1; }
    out=$(rnx volume inspect data)
    case "$out" in *"Backend: quota"*"Path: $node/volumes/data.dir"*) ;; *) echo "$out"; return 1 ;; esac
    out=$(in_volume data 'cd /volumes/data; echo $(($(stat -f -c "%b * %S / 1024" .))) KiB
        head -c 20000000 /dev/zero >x || echo refused; [ $(wc -c <x) -gt 15000000 ] && [ $(wc -c <x) -le 16777216 ] && echo to its end
        head -c 1000000 /dev/zero >../other/y && echo other is free; rm x; i=0
        while [ $i -lt 1100 ]; do true >f$i || break; i=$((i + 1)); done 2>/dev/null; echo $i files; rm f*
        head -c 5000000 /dev/zero >z; sync; stat -c "%u %a" . z | tr "\n" ,' --volume other)
    case "$out" in
    *"16384 KiB"*refused*"to its end"*"other is free"*"1023 files"*"0 755,0 644,"*) ;;
    *) echo "$out"; return 1 ;;
    esac
    bytes=$(used data)
    within 5000000 "$bytes" 5100000 || { echo "$bytes bytes are used: $(rnx volume inspect data)"; return 1; }
    out=$(in_volume data:ro 'cd /volumes/data; wc -c <z; true >z || echo read-only')
    case "$out" in *5000000*read-only*) ;; *) echo "$out"; return 1 ;; esac
}

volume_on_ext4_ends_at_its_quota_of_bytes_and_files() {
    on ext4
    grep -q 'new volumes get a project quota' /run/ext4.log && bounded >/tmp/wrong && pass $1 || fail $1 "$(cat /tmp/wrong)"
}

volume_on_xfs_ends_at_its_quota_of_bytes_and_files() {
    on xfs
    bounded >/tmp/wrong && pass $1 || fail $1 "$(cat /tmp/wrong)"
}

job_cannot_leave_the_quota_of_its_volume() {
    local out
    for file_system in ext4 xfs; do
        on $file_system
        rnx volume create tight --size 16MB >/dev/null
        out=$(in_volume tight 'quota_escape /volumes/tight /work 16777216')
        [ "$(echo "$out" | grep -c ': kept$')" = 15 ] && [ "$(echo "$out" | wc -l)" = 15 ] || { fail $1 "$file_system: $out"; return; }
        rnx volume remove tight >/dev/null || { fail $1 "$file_system: it stays"; return; }
    done
    pass $1
}

# The daemon writes the files of a copy, and has every right.
copy_into_a_volume_ends_at_its_quota() {
    local out
    on ext4
    head -c 3000000 /dev/zero | tr '\0' x >/tmp/large
    rnx volume create copies --size 16MB >/dev/null
    in_volume copies 'head -c 15000000 /dev/zero >/volumes/copies/most' >/dev/null
    out=$(rnx cp /tmp/large copies:a 2>&1) && { fail $1 "it was taken: $(rnx volume inspect copies)"; return; }
    case "$out" in *"rnx volume resize"*) ;; *) fail $1 "$out"; return ;; esac
    rnx volume resize copies --size 32MB >/dev/null || { fail $1 "no other size"; return; }
    out=$(rnx cp /tmp/large copies:a 2>&1) || { fail $1 "$out"; return; }
    rm /tmp/large
    out=$(in_volume copies 'wc -c </volumes/copies/a')
    rnx volume remove copies >/dev/null
    [ "$out" = 3000000 ] && pass $1 || fail $1 "$out"
}

quota_grows_under_a_running_job() {
    local id out
    on xfs
    rnx volume create growing --size 16MB >/dev/null
    id=$(rnx job run -q --volume growing sh -c 'cd /volumes/growing; until [ -e grown ]; do sleep 0.2; done
        head -c 20000000 /dev/zero >x && echo taken; stat -f -c "%b %S" .')
    rnx volume resize growing --size 32MB >/dev/null || { fail $1 "no other size"; return; }
    in_volume growing 'true >/volumes/growing/grown' >/dev/null
    out=$(rnx job log "$id" 2>&1)
    rnx volume resize growing --size 16MB >/tmp/out 2>&1 && { fail $1 "it became smaller"; return; }
    rnx volume remove growing >/dev/null
    case "$out" in *taken*"8192 4096"*) pass $1 ;; *) fail $1 "$out" ;; esac
}

kill_amid_changes_of_quota_volumes_leaves_each_whole_or_none() {
    local round out before name
    on ext4
    before=$(projects | cut -d' ' -f1)
    rnx volume create grows --size 16MB >/dev/null
    for round in 0 1; do
        for name in new$round big$round; do
            rnx volume create $name --size 16MB >/dev/null 2>&1
        done
        in_volume big$round 'cd /volumes/big*; i=0; while [ $i -lt 100 ]; do mkdir -p d$i/e; true >d$i/f; i=$((i + 1)); done' >/dev/null
        (command rnx --config $node/rnx-config.yml volume remove big$round >/dev/null 2>&1 &)
        (command rnx --config $node/rnx-config.yml volume create late$round --size 16MB >/dev/null 2>&1 &)
        (command rnx --config $node/rnx-config.yml volume resize grows --size $((round * 16 + 32))MB >/dev/null 2>&1 &)
        # The calls take about a second; each round ends them elsewhere.
        sleep 0.$((round * 3 + 5))
        restart_daemon KILL || { fail $1 "no new daemon"; return; }
        until_true 30 sh -c "! ls -A $node/volumes | grep -q new\$" || { fail $1 "half-made: $(files)"; return; }
    done
    # The recorded size is the one that holds, as soon as a job has the volume.
    out=$(($(in_volume grows 'stat -f -c "%b * %S >> 20" /volumes/grows')))
    rnx volume list | grep -q "^grows *${out}MiB" || { fail $1 "$out MiB: $(rnx volume list)"; return; }
    for name in $(rnx volume list | tail -n +2 | cut -d' ' -f1 | grep -v '^data$\|^other$'); do
        out=$(in_volume $name "cd /volumes/$name; true >probe && echo ok")
        [ "$out" = ok ] || { fail $1 "$name: $out"; return; }
        rnx volume remove $name >/dev/null || { fail $1 "$name stays"; return; }
    done
    [ "$(files)" = "data.dir other.dir " ] || { fail $1 "left: $(files)"; return; }
    [ "$(projects | cut -d' ' -f1)" = "$before" ] && pass $1 || fail $1 "projects: $(projects), before: $before"
}

# Debian 12's kernel is older than 6.3.
memory_volume_is_refused_where_tmpfs_maps_no_ids() {
    local out
    on ext4
    out=$(rnx volume create fast --size 1MB --type memory 2>&1) && { fail $1 "it was made"; return; }
    case "$out" in *"cannot map the ids of its files"*"tmpfs can since Linux 6.3: use type filesystem"*) ;; *) fail $1 "$out"; return ;; esac
    rnx volume list | grep -q fast && { fail $1 "it is listed"; return; }
    out=$(joblet doctor --config $node/joblet-config.yml 2>&1)
    case "$out" in *volumes.memory*"no volumes of type memory"*) ;; *) fail $1 "$out"; return ;; esac
    case "$out" in *"volumes.quotas"*"enforces project quotas"*) pass $1 ;; *) fail $1 "$out" ;; esac
}

image_above_xfs_is_bounded_and_gives_room_back() {
    local out blocks away
    on xfs
    configure $node/joblet-config.yml volumes backend image
    restart_daemon TERM || { fail $1 "$(tail -3 /run/xfs.log)"; return; }
    rnx volume create image --size 24MB >/dev/null || { fail $1 "not made"; return; }
    out=$(in_volume image 'cd /volumes/image; head -c 30000000 /dev/zero >x || echo refused
        sync; cat ../data/z | wc -c' --volume data)
    case "$out" in *refused*5000000*) ;; *) fail $1 "$out"; return ;; esac
    # Neither without the one nor without the other is there a plain directory instead.
    for away in /usr/bin/mke2fs /dev/loop-control; do
        mv $away $away.away
        out=$(rnx volume create less --size 16MB 2>&1) && { fail $1 "made without $away"; return; }
        mv $away.away $away
        case "$out" in *"mke2fs cannot make its file system: it is not installed"* | *"open /dev/loop-control (modprobe loop loads it)"*) ;;
        *) fail $1 "$out"; return ;; esac
        [ "$(files)" = "data.dir image.img other.dir " ] || { fail $1 "left: $(files)"; return; }
    done
    blocks=$(stat -c %b $node/volumes/image.img)
    in_volume image 'rm /volumes/image/x; sync' >/dev/null
    until_true 30 sh -c "[ \$(stat -c %b $node/volumes/image.img) -lt $((blocks / 2)) ]" ||
        { fail $1 "$blocks blocks, and then $(stat -c %b $node/volumes/image.img)"; return; }
    out=$(rnx volume inspect image; rnx volume inspect data)
    case "$out" in *"Backend: image"*"Backend: quota"*) pass $1 ;; *) fail $1 "$out" ;; esac
}

# writes VOLUME: a job that leaves a durable file in it, and writes on and on
writes() {
    rnx job run -q --volume $1 sh -c 'cd /volumes/*; rm -f z; echo durable >first; sync first .; while :; do
        dd if=/dev/zero of=next bs=64k count=60 conv=fsync 2>/dev/null; mv next last; done' >/dev/null
    until_true 60 sh -c "command rnx --config $node/rnx-config.yml job run -q --wait --volume $1:ro test -e /volumes/$1/last"
}

# kept VOLUME FULL: what was durable is there, and the size holds still, of which FULL bytes are left for one file. Prints what is wrong.
kept() {
    local out
    out=$(in_volume $1 'cd /volumes/*; cat first; stat -c %s last; rm -f next last
        head -c 40000000 /dev/zero >x || echo refused; wc -c <x; rm x' | tr '\n' ' ')
    case "$out" in "durable 3932160 "*"refused "*) ;; *) echo "$1 on $file_system: $out"; return 1 ;; esac
    out=${out% }
    within $2 "${out##* }" 33554432 || { echo "$1 on $file_system: $out"; return 1; }
}

volumes_are_whole_and_bounded_after_a_power_cut() {
    local name out
    if [ ! -e /ext4/cut ]; then
        for file_system in ext4 xfs; do
            on $file_system
            writes data || { fail $1 "$file_system: nothing is written"; return; }
        done
        writes image || { fail $1 "nothing is written to the image"; return; }
        rnx volume resize image --size 32MB >/dev/null && rnx volume resize data --size 32MB >/dev/null || { fail $1 "no other size"; return; }
        touch /ext4/cut
        sync /ext4/cut
        echo "--- the power is cut"
        echo b >/proc/sysrq-trigger
        sleep 1000
    fi
    out=$(on ext4; kept data 15000000; on xfs; kept data 30000000; kept image 20000000)
    [ -z "$out" ] || { fail $1 "$out"; return; }
    # What the quota counts is what is there.
    for file_system in ext4 xfs; do
        on $file_system
        out=$(used data)
        within 0 "$out" 200000 || { fail $1 "$file_system counts $out bytes: $(find $node/volumes/data.dir)"; return; }
    done
    pass $1
}

volume_whose_quota_is_no_more_takes_no_job_by_name() {
    local out
    on xfs
    end_daemon TERM
    umount /xfs && mount -t xfs /dev/$(disk xfs) /xfs || { fail $1 "not mounted"; return; }
    launch && is_up || { fail $1 "$(tail -3 /run/xfs.log)"; return; }
    out=$(in_volume data 'echo ran')
    case "$out" in *ran* | *"its size would not hold"*prjquota*) ;; *) fail $1 "$out"; return ;; esac
    case "$out" in *prjquota*) ;; *) fail $1 "it ran without a quota: $out"; return ;; esac
    out=$(in_volume image 'cat /volumes/image/first')
    [ "$out" = durable ] || { fail $1 "the image: $out"; return; }
    end_daemon TERM
    sed -i 's/backend: image/backend: quota/' $node/joblet-config.yml
    launch
    until_true 30 test -s /run/xfs.exit || { fail $1 "it started"; return; }
    grep -q 'volumes.quotas.*has no project quotas.*prjquota' /run/xfs.log || { fail $1 "$(tail -2 /run/xfs.log)"; return; }
    # In best-effort mode the check of the host is only told, and volumes themselves refuse.
    sed -i 's/enforcement: .*/enforcement: best-effort/' $node/joblet-config.yml
    launch
    until_true 30 test -s /run/xfs.exit || { fail $1 "it started"; return; }
    grep -q 'volumes.backend: quota cannot be used.*prjquota' /run/xfs.log || { fail $1 "$(tail -2 /run/xfs.log)"; return; }
    umount /xfs && mount -o prjquota -t xfs /dev/$(disk xfs) /xfs && launch && is_up || { fail $1 "$(tail -3 /run/xfs.log)"; return; }
    out=$(in_volume data 'cat /volumes/data/first')
    [ "$out" = durable ] && pass $1 || fail $1 "$out"
}

removed_volumes_leave_no_quota_mount_or_loop_device() {
    local out=
    for file_system in ext4 xfs; do
        on $file_system
        for name in $(rnx volume list | tail -n +2 | cut -d' ' -f1); do
            rnx volume remove $name >/dev/null || out="$out $name stays;"
        done
        out="$out$(files)$(projects)"
        end_daemon TERM
        [ "$(cat /run/$file_system.exit)" = 0 ] || out="$out; exit $(cat /run/$file_system.exit)"
    done
    out="$out$(mount | grep volumes; cat /sys/block/loop*/loop/backing_file 2>/dev/null)"
    [ -z "$(echo $out)" ] && pass $1 || fail $1 "left: $out"
}
