# Sourced by unit.sh in the guest that has networks: the checks of tests/vm/unit_networks.rs. A network namespace of the guest
# plays the outside, with the program tests/jobs/outside.c; the guest's own networkd configures the interface that leads there.

outside=8.8.8.8
in_outside() { ip netns exec outside "$@"; }
has_way_out() { ip route show default | grep -q up0; }
has_table() { nft list table inet joblet; }
is_loaded() { grep -q "^$1 " /proc/modules; }

# Makes the outside, or makes it again after a boot.
open_outside() {
    systemd-sysusers >/dev/null 2>&1
    ip netns add outside && ip link add up0 type veth peer name down0 netns outside || return
    in_outside sh -c "ip link set lo up; ip link set down0 up; ip address add 203.0.113.1/24 dev down0
        for address in $outside 10.9.9.9 169.254.169.254; do ip address add \$address/32 dev lo; done"
    in_outside outside $outside &
    systemctl start systemd-networkd && until_true 60 has_way_out
}

# node_is_there: the installation that all checks but the first use
node_is_there() {
    [ ! -e $node ] || return 0
    install_joblet --host guest && configure $node/joblet-config.yml joblet warmSandboxes 2 && systemctl restart joblet
}

# says EXPECTED FLAG... COMMAND...: runs a job to its end. Prints what is wrong unless its output is EXPECTED
says() {
    local expected=$1 out
    shift
    out=$(timeout 120 rnx --config $node/rnx-config.yml job run --follow -q "$@" 2>&1)
    [ "$out" = "$expected" ] || echo "; $*: $out"
}
# Commands of bash that connect to a port and say so; the second one names the target.
connect() { echo "if exec 3<>/dev/tcp/$1/$2; then echo reached; else echo refused; fi 2>/dev/null"; }
reaches_outside() { [ -z "$(says reached "$@" bash -c "$(connect $outside 9002)")" ]; }

# streams FLAG...: starts a job that prints what the outside sends, to the end of it
streams() {
    rm -f /run/outside.over
    id=$(rnx job run -q "$@" bash -c "exec 3<>/dev/tcp/www.example.org/9000 && cat <&3 && exit 7") || return 1
    stream_grows
}
# stream_grows: waits until the job has printed more
stream_grows() {
    local before
    before=$(stat -c %s "$(spool_of "$id")/stdout" 2>/dev/null || echo 0)
    is_more() { [ "$(stat -c %s "$(spool_of "$id")/stdout")" -gt "$before" ]; }
    until_true 90 is_more
}
# stream_is_whole: ends the stream. Succeeds when the job has printed each line once and in order; else prints what is wrong
stream_is_whole() {
    touch /run/outside.over
    printed_all "$id"
}

# With a kernel that loads no module by itself, as with kernel.modules_disabled=1.
modules_that_doctor_names_are_all_that_networks_need() {
    local out command
    out=$(cat /proc/modules)
    case "$out" in *nf_tables* | *veth*) fail "$1" "modules are there already: $out"; return ;; esac
    echo /bin/false >/proc/sys/kernel/modprobe
    out=$(/checkout/target/release/joblet doctor)
    command=$(echo "$out" | grep -o 'modprobe -a [a-z0-9_ ]*')
    case "$out" in *FAIL*network.router*) ;; *) fail "$1" "no fault without modules: $out"; return ;; esac
    $command || { fail "$1" "$command"; return; }
    out=$(/checkout/target/release/joblet doctor | grep -A1 'network\.')
    case "$out" in *ok*network.router*sch_tbf*) pass "$1" ;; *) fail "$1" "after $command: $out" ;; esac
}

rates_are_refused_by_name_until_the_kernel_has_them() {
    local out
    node_is_there >/tmp/wrong 2>&1 || { fail "$1" "$(cat /tmp/wrong)"; return; }
    out=$(rnx job run --wait -q --net-rate-up 1M true 2>&1) && { fail "$1" "a job with a rate that nobody keeps"; return; }
    case "$out" in *sch_tbf*) ;; *) fail "$1" "$out"; return ;; esac
    # From here on the kernel loads modules when they are needed.
    echo /sbin/modprobe >/proc/sys/kernel/modprobe
    systemctl restart joblet || { fail "$1" "$(log -n 3)"; return; }
    out=$(rnx job run --wait -q --net-rate-up 1M true 2>&1) && is_loaded sch_tbf && pass "$1" || fail "$1" "$out"
}

jobs_reach_the_outside_and_each_other_by_name_under_the_unit() {
    local bad db out
    open_outside || { fail "$1" "no outside: $(ip address show up0)"; return; }
    rnx network create lab --cidr 10.50.0.0/16 >/dev/null || { fail "$1" "no network"; return; }
    db=$(rnx job run -q --network lab --name db busybox nc -l -p 7000 -e true) || { fail "$1" "no job"; return; }
    out="getent hosts www.example.org | cut -d' ' -f1; $(connect www.example.org 9002)
        for host in 203.0.113.2 10.9.9.9 169.254.169.254; do (exec 3<>/dev/tcp/\$host/9002) 2>&1 | grep -om1 'No route to host'; done"
    bad=$(says "$outside
reached
No route to host
No route to host
No route to host" bash -c "$out")
    bad="$bad$(says reached --network lab bash -c "for n in \$(seq 60); do $(connect db 7000) | grep reached && break; sleep 0.5; done")"
    ends "$db" || bad="$bad; the other job hears nothing"
    [ -z "$bad" ] && pass "$1" || fail "$1" "$bad; $(log -n 20)"
}

# cgroup_of PID: its group, below the hierarchy's mount
cgroup_of() { sed -n 's/^0:://p' /proc/"$1"/cgroup; }
resolver_is_confined_and_goes_before_the_daemon() {
    local pids pid bad= out group
    pids=$(cut -d' ' -f1 $node/run/resolver.processes)
    [ "$(echo "$pids" | wc -l)" = 2 ] || { fail "$1" "processes: $pids"; return; }
    for pid in $pids; do
        group=$(cgroup_of "$pid")
        case "/sys/fs/cgroup$group" in $jobs/joblet-*/resolver) ;; *) bad="$bad; group $group" ;; esac
        out=$(cat /proc/"$pid"/oom_score_adj; sed -nE 's/^Max (open files|address space|core file size|file size) *([0-9]+) .*/\2/p' /proc/"$pid"/limits)
        [ "$(echo "$out" | head -1)" = -500 ] && [ "$(echo "$out" | wc -l)" = 5 ] || bad="$bad; score and limits of $pid: $out"
        [ "$(sed -nE 's/^Uid:\t([0-9]+)\t.*/\1/p' /proc/"$pid"/status)" -gt 65535 ] || bad="$bad; user"
    done
    out=$(cd /sys/fs/cgroup"$group" && cat memory.max pids.max | tr '\n' ,)
    [ "$out" = 268435456,8, ] || bad="$bad; limits of the group: $out"
    id=$(rnx job run -q sleep 1000)
    rnx job status --security "$id" >/tmp/layers || bad="$bad; $(grep 'NOT OK' /tmp/layers)"
    grep -q '^network.resolver *ok' /tmp/layers || bad="$bad; $(grep network /tmp/layers)"
    rnx job stop "$id" >/dev/null
    [ -z "$bad" ] && pass "$1" || fail "$1" "$bad"
}

# udevd and networkd would hear of an interface in the host's namespace.
sixty_jobs_are_no_event_for_the_host_and_joblet0_is_ours() {
    local monitor before out bad=
    cat >/tmp/many.yaml <<'EOF'
name: many
jobs:
  many: {command: bash, args: [-c, 'exec 3<>/dev/tcp/8.8.8.8/9002'], array: 0-59, network: bridge}
EOF
    # Wires of the pool are there.
    reaches_outside || bad="; no outside"
    udevadm settle
    udevadm monitor --kernel --udev --subsystem-match=net --subsystem-match=queues >/tmp/uevents &
    monitor=$!
    until_true 30 grep -q UDEV /tmp/uevents
    before=$(ip -o address show joblet0 | tr -s ' ')
    out=$(timeout 300 rnx --config $node/rnx-config.yml workflow run --wait /tmp/many.yaml 2>&1) || bad="$bad; $out"
    out=$(grep /devices/ /tmp/uevents)
    [ -z "$out" ] || bad="$bad; events of $(echo "$out" | wc -l) lines: $(echo "$out" | head -3)"
    # The monitor hears of interfaces of the host.
    ip link add here0 type veth peer name here1
    until_true 30 grep -q here0 /tmp/uevents || bad="$bad; the monitor is deaf"
    ip link delete here0
    kill $monitor
    systemctl restart systemd-networkd && udevadm trigger --action=change --subsystem-match=net && udevadm settle
    until_true 60 has_way_out
    out=/run/systemd/netif/links/$(cat /sys/class/net/joblet0/ifindex)
    grep -qx ADMIN_STATE=unmanaged "$out" || bad="$bad; networkd has $(cat "$out")"
    [ "$(ip -o address show joblet0 | tr -s ' ')" = "$before" ] && [ "$(cat /sys/class/net/joblet0/address)" = 02:6a:a9:fe:7f:00 ] ||
        bad="$bad; joblet0 is $(ip address show joblet0), before: $before"
    reaches_outside || bad="$bad; no outside after a restart of networkd"
    [ -z "$bad" ] && pass "$1" || fail "$1" "$bad"
}

a_transfer_outlives_restart_crash_and_upgrade_whole() {
    local id bad= pid
    streams || { fail "$1" "no stream: $(rnx job status "$id")"; return; }
    systemctl restart joblet && stream_grows || bad="$bad; after a restart: $(log -n 3)"
    pid=$(of MainPID)
    kill -9 "$pid"
    is_new() { [ "$(of MainPID)" != "$pid" ] && is_active; }
    until_true 60 is_new && stream_grows || bad="$bad; after a crash: $(log -n 3)"
    mkdir -p /tmp/next && cp /checkout/target/release/* /tmp/next/ && echo next >>/tmp/next/joblet
    install_joblet --from /tmp/next >/tmp/wrong 2>&1 && stream_grows || bad="$bad; after an upgrade: $(cat /tmp/wrong)"
    reaches_outside || bad="$bad; a new job reaches nothing"
    stream_is_whole >/tmp/wrong || bad="$bad; $(cat /tmp/wrong)"
    [ -z "$bad" ] && pass "$1" || fail "$1" "$bad"
}

flushed_rules_are_written_again_and_nothing_was_open() {
    local bad= id before said
    # Notes all the time what it reaches of the host and of a private range, also while no daemon takes its output.
    id=$(rnx job run -q bash -c "while :; do for host in 203.0.113.2 10.9.9.9; do
        (exec 3<>/dev/tcp/\$host/9002) 2>/dev/null && echo \$host is open >>/work/said; done; echo turn >>/work/said; sleep 0.3; done")
    found() { said=$(grep -lx bash $(sed 's|.*|/proc/&/comm|' "$(group "$id")/cgroup.procs") | head -1) && said=${said%comm}root/work/said && [ -s "$said" ]; }
    until_true 60 found || { fail "$1" "the job notes nothing"; return; }
    turns() { grep -c turn "$said"; }
    turned() { [ "$(turns)" -gt $((before + 2)) ]; }
    systemctl stop joblet
    nft flush ruleset
    before=$(turns)
    until_true 60 turned || bad="$bad; the job stands still"
    systemctl start joblet && until_true 60 has_table || bad="$bad; no table after the start"
    systemctl restart nftables && until_true 60 has_table || bad="$bad; no table after a restart of nftables: $(nft list ruleset)"
    nft flush ruleset
    until_true 60 has_table || bad="$bad; no table after a flush"
    reaches_outside || bad="$bad; no outside"
    before=$(turns)
    until_true 60 turned
    ! grep open "$said" || bad="$bad; walls were open"
    rnx job stop "$id" >/dev/null
    [ -z "$bad" ] && pass "$1" || fail "$1" "$bad"
}

# As dockerd and firewalld write them, by the programs that they use.
chains_of_docker_are_passed_and_those_of_firewalld_are_named() {
    local bad= id out
    streams || { fail "$1" "no stream: $(rnx job status "$id")"; return; }
    iptables-nft -P FORWARD DROP && iptables-nft -N DOCKER-USER && iptables-nft -A DOCKER-USER -j RETURN &&
        iptables-nft -I FORWARD -j DOCKER-USER || { fail "$1" "no iptables"; return; }
    admitted() { [ "$(iptables-nft -S DOCKER-USER | grep -c joblet0)" = 2 ]; }
    until_true 60 admitted || bad="$bad; $(iptables-nft -S)"
    stream_grows || bad="$bad; the transfer stands still"
    reaches_outside || bad="$bad; no outside"
    iptables-nft -F DOCKER-USER && until_true 60 admitted || bad="$bad; a flushed chain: $(iptables-nft -S)"
    iptables-nft -P FORWARD ACCEPT && iptables-nft -F && iptables-nft -X
    nft -f - <<'EOF'
table inet firewalld {
    chain filter_FORWARD {
        type filter hook forward priority filter + 10
        ct state { established, related } accept
        jump zones
        reject with icmpx admin-prohibited
    }
    chain zones {
    }
}
EOF
    mkdir -p /run/firewalld
    reaches_outside && bad="$bad; the zone is passed"
    out=$(joblet doctor | grep -A2 network.firewall)
    case "$out" in *"--zone=trusted --add-interface=joblet0"*) ;; *) bad="$bad; doctor: $out" ;; esac
    rmdir /run/firewalld
    nft add rule inet firewalld zones iifname joblet0 accept
    nft add rule inet firewalld zones oifname joblet0 accept
    reaches_outside || bad="$bad; no outside in the trusted zone"
    nft delete table inet firewalld
    stream_is_whole >/tmp/wrong || bad="$bad; $(cat /tmp/wrong)"
    [ -z "$bad" ] && pass "$1" || fail "$1" "$bad"
}

# value_of_ip NAME: a counter of /proc/net/snmp
value_of_ip() {
    local names values n
    { read -r -a names; read -r -a values; } < <(grep '^Ip:' /proc/net/snmp)
    for n in "${!names[@]}"; do [ "${names[n]}" != "$1" ] || echo "${values[n]}"; done
}

a_smaller_mtu_of_the_uplink_loses_no_byte() {
    local bad before out
    # The outside goes on to offer 1460 bytes in a segment: only the host knows of the narrow place.
    in_outside ip route replace 203.0.113.0/24 dev down0 src 203.0.113.1 mtu 1280 advmss 1460
    ip link set up0 mtu 1280
    before=$(value_of_ip FragFails)
    out="head -c 300000 /dev/urandom >x; busybox nc $outside 9001 <x >y; [ \"\$(sha256sum <x)\" = \"\$(sha256sum <y)\" ] && echo same"
    bad=$(says same bash -c "$out")
    [ "$(value_of_ip FragFails)" -gt "$before" ] || bad="$bad; no packet was too large for the way out"
    ip link set up0 mtu 1500
    [ -z "$bad" ] && pass "$1" || fail "$1" "$bad"
}

a_clock_set_forward_and_back_ends_no_connection() {
    local id bad= step
    streams --network isolated --egress www.example.org || { fail "$1" "no stream: $(rnx job status "$id")"; return; }
    for step in 86400 -86400; do
        date -s "@$(($(date +%s) + step))" >/dev/null
        stream_grows || bad="$bad; it stands still after $step"
        bad="$bad$(says reached --network isolated --egress www.example.org bash -c "$(connect www.example.org 9002)")"
        bad="$bad$(says refused --network isolated --egress www.example.org bash -c "$(connect 10.9.9.9 9002)")"
    done
    stream_is_whole >/tmp/wrong || bad="$bad; $(cat /tmp/wrong)"
    [ -z "$bad" ] && pass "$1" || fail "$1" "$bad"
}

a_reboot_keeps_networks_and_modules_load_on_demand() {
    local bad= out
    if [ ! -e /checks/booted ]; then
        touch /checks/booted
        echo "--- the guest reboots"
        sync
        systemctl reboot --force
        sleep 1000
    fi
    ! is_loaded nf_tables && ! is_loaded veth || bad="; modules are there before the daemon: $(cat /proc/modules)"
    systemctl start joblet || { fail "$1" "$(log -n 5)"; return; }
    out=$(rnx network list)
    case "$out" in *lab*10.50.0.0/16*) ;; *) bad="$bad; networks: $out" ;; esac
    # The program is in memory then. A command that is read from a cold emulated disk may compute for 50 ms in its first turn,
    # for which the kernel ends it (RLIMIT_RTTIME).
    cat /proc/net/fib_trie >/dev/null
    out=$(timeout 120 rnx --config $node/rnx-config.yml job run --follow -q --network lab cat /proc/net/fib_trie 2>&1)
    case "$out" in *10.50.*) ;; *) bad="$bad; a job in lab: $out" ;; esac
    is_loaded nf_tables && is_loaded veth || bad="$bad; modules: $(cat /proc/modules)"
    # The way out appears after the router.
    open_outside && reaches_outside --network lab || bad="$bad; no outside: $(log -n 5)"
    systemctl stop joblet
    is_without_joblet0() { ! ip link show joblet0; }
    until_true 60 is_without_joblet0 && ! has_table || bad="$bad; left: $(ip -o link; nft list tables)"
    [ -z "$bad" ] && pass "$1" || fail "$1" "$bad"
}
