# The host as clients see it, with eight disks more, beside the system's own tools.

# shown OBJECT FIELD: a number of the first object of /tmp/host that has this text
shown() { tr -d ' \n' </tmp/host | tr '{' '\n' | grep -m 1 -F "$1" | tr ',}' '\n\n' | sed -n "s/^\"$2\":\([0-9.]*\)\$/\1/p"; }

# apart ONE OTHER: the distance of two numbers
apart() { echo $(($1 > $2 ? $1 - $2 : $2 - $1)); }

host_with_eight_disks_is_shown_as_its_own_tools_show_it() {
    local n at row total used free busy
    for n in 1 2 3 4 5 6 7 8; do
        mkdir -p /many/$n
        /usr/bin/mke2fs -q -t ext4 /dev/$(disk many$n) && mount -t ext4 /dev/$(disk many$n) /many/$n || { fail $1 "no file system on disk $n"; return; }
        head -c ${n}00000 /dev/zero >/many/$n/file
    done
    sync
    rnx --json monitor status >/tmp/host
    for n in 1 2 3 4 5 6 7 8; do
        at="\"mountpoint\":\"/many/$n\""
        row=$(/usr/bin/df -B1 --output=size,used,avail /many/$n | tail -1 | tr -s ' ')
        [ "$(shown "$at" size) $(shown "$at" used) $(shown "$at" available)" = "${row# }" ] || { fail $1 "disk $n: df says $row: $(cat /tmp/host)"; return; }
    done
    [ "$(tr -d ' \n' </tmp/host | grep -o '"mountpoint":"/many/' | wc -l)" = 8 ] || { fail $1 "$(cat /tmp/host)"; return; }
    # Sizes are the same; what is in use changes with each call.
    set -- "$1" $(/usr/bin/free -b | sed -n 's/^Mem: *//p') $(/usr/bin/free -b | sed -n 's/^Swap: *//p')
    total=$(tr -d ' \n' </tmp/host | sed 's/.*"memoryInfo":{\([^}]*}[^}]*\)}.*/\1/')
    case $total in *"\"total\":$8"*"\"total\":$2"* | *"\"total\":$2"*"\"total\":$8"*) ;; *) fail "$1" "free says $*: $total"; return ;; esac
    free=$(echo "$total" | sed 's/.*"available":\([0-9]*\).*/\1/')
    [ "$(apart "$free" "$7")" -lt 67108864 ] || { fail "$1" "free says $7 bytes are available: $free"; return; }
    busy=$(tr -d ' \n' </tmp/host | sed 's/.*"totalProcesses":\([0-9]*\).*/\1/')
    [ "$(apart "$busy" "$(/usr/bin/ps -e -o pid= | wc -l)")" -lt 20 ] || { fail "$1" "$busy processes: $(/usr/bin/ps -e -o pid= | wc -l)"; return; }
    [ "$(tr -d ' \n' </tmp/host | sed 's/.*"cores":\([0-9]*\).*/\1/')" = "$(grep -c '^cpu[0-9]' /proc/stat)" ] || { fail "$1" "$(cat /tmp/host)"; return; }
    for n in 1 2 3 4 5 6 7 8; do umount /many/$n; done
    pass "$1"
}
