#!/bin/bash
# Packs the guest with systemd as PID 1: the kernel, and a disk with a small Debian, unpacked from its packages without running
# any of their scripts, and joblet's checkout as far as vendor-config/install.sh needs it, which the guest runs.
#
#   debian.sh CACHE OUT TESTS FILE...   CACHE keeps kernel and packages between runs; OUT gets vmlinuz and root.img; TESTS lists
#                                       the checks to run; the first two FILEs are joblet and rnx, persist is among the
#                                       others, which go to the guest's /usr/bin
set -euo pipefail

cache=$1 out=$2 tests=$3 joblet=$4 rnx=$5
shift 5
here=$(cd "$(dirname "$0")" && pwd)
. "$here/parts.sh"

packages=(systemd bash dash coreutils findutils grep sed util-linux mount libc-bin base-passwd procps udev kmod iproute2 nftables iptables e2fsprogs)

# A change of this script makes another tree.
debian=$cache/debian-$(cksum <"$0" | cut -d' ' -f1)

# Unpacks the packages that apt would install on an empty machine. apt gets an empty list of installed packages, so that it
# resolves every dependency and does not change this machine.
fetch_debian() {
    [ -e "$debian/etc/os-release" ] && return
    rm -rf "$cache"/debian-* "$cache"/apt.*
    local work part deb
    work=$(mktemp -d "$cache/apt.XXXXXX") part=$cache/debian.part
    mkdir -p "$work/archives/partial"
    : >"$work/status"
    with_fresh_lists apt-get -q -y --no-install-recommends --download-only -o Debug::NoLocking=1 \
        -o "Dir::State::status=$work/status" -o "Dir::Cache::archives=$work/archives" install "${packages[@]}" >"$work/log" ||
        { tail -5 "$work/log" >&2; exit 1; }
    rm -rf "$part"
    mkdir -p "$part"/usr/{bin,sbin,lib,lib64}
    ln -s usr/bin usr/sbin usr/lib usr/lib64 "$part/"
    for deb in "$work"/archives/*.deb; do
        case "${deb##*/}" in perl* | libperl* | lib*-perl_* | usrmerge_* | debconf_*) continue ;; esac
        dpkg --fsys-tarfile "$deb" | tar -x -C "$part" --keep-directory-symlink --exclude='./usr/share/doc' \
            --exclude='./usr/share/man' --exclude='./usr/share/locale' --exclude='./usr/share/info'
    done
    cp "$part/usr/share/base-passwd/passwd.master" "$part/etc/passwd"
    cp "$part/usr/share/base-passwd/group.master" "$part/etc/group"
    rm -rf "$work"
    mv "$part" "$debian"
}

# The checkout with its build, and a unit that runs the checks when the system is up.
furnish() {
    local root=$1 checkout=$root/checkout
    mkdir -p "$root/checks" "$checkout"/{target/release,vendor-config}
    mv "$root"/usr/bin/{joblet,joblet-resolver,persist,rnx} "$checkout/target/release/"
    cp -r "$here/../../systemd" "$checkout/"
    cp "$here/../../vendor-config/install.sh" "$checkout/vendor-config/"
    cp "$here/common.sh" "$here/unit.sh" "$root/checks/"
    cp "$tests" "$root/checks/tests"
    echo guest >"$root/etc/hostname"
    echo '127.0.0.1 localhost guest' >"$root/etc/hosts"
    # Without a machine id, systemd would take this for a first boot and set the machine up.
    echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
    cat >"$root/etc/systemd/system/checks.service" <<'EOF'
[Unit]
After=basic.target
Requires=basic.target
[Service]
Type=oneshot
ExecStart=/bin/bash /checks/unit.sh
StandardOutput=file:/dev/ttyS0
StandardError=inherit
EOF
    install -D -m 0644 -t "$root/modules" "$cache"/modules/{overlay,loop}.ko
    install -m 0755 /bin/busybox "$root/usr/bin/busybox"
    ln -s /dev/null "$root/etc/systemd/system/proc-sys-fs-binfmt_misc.automount"
    if [ -x "$root/usr/bin/outside" ]; then furnish_networks "$root"; else without_udev "$root"; fi
}

# No check needs it, and it would take processor time at each boot.
without_udev() {
    local unit
    for unit in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udev-trigger.service; do
        ln -s /dev/null "$1/etc/systemd/system/$unit"
    done
}

# The modules, with their index, as depmod(8) of the guest writes it; and an interface that networkd is to configure.
furnish_networks() {
    local root=$1 version
    version=$(basename "$cache"/lib/modules/*)
    cp "$here/networks.sh" "$root/checks/"
    cp -r "$cache/lib/modules" "$root/usr/lib/"
    "$root/lib64/ld-linux-x86-64.so.2" --library-path "$root/lib/x86_64-linux-gnu" --argv0 depmod "$root/usr/bin/kmod" -b "$root" "$version"
    cat >"$root/etc/systemd/network/up0.network" <<'EOF'
[Match]
Name=up0
[Network]
Address=203.0.113.2/24
Gateway=203.0.113.1
LinkLocalAddressing=no
EOF
    echo 'nameserver 8.8.8.8' >"$root/etc/resolv.conf"
}

mkdir -p "$cache" "$out"
fetch_kernel "$cache"
fetch_debian
root=$out/root
trap 'rm -rf "$root"' EXIT
cp -a "$debian" "$root"
for file in "$joblet" "$rnx" "$@"; do
    add_program "$root" "$file"
done
furnish "$root"
cp "$cache/vmlinuz" "$out/vmlinuz"
truncate -s 512M "$out/root.img"
/usr/sbin/mke2fs -q -t ext4 -E root_owner=0:0,lazy_itable_init=1 -d "$root" "$out/root.img"
