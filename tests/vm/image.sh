#!/bin/bash
# Packs the guest for limits, or that for volumes: the kernel, an initramfs with busybox, our binaries, their libraries and the small hostile programs,
# and three empty disks for the first.
#
#   image.sh CACHE OUT TESTS FILE...   CACHE keeps the kernel between runs; OUT gets vmlinuz, initramfs and *.img; TESTS lists
#                                      the checks to run; each FILE goes to the guest's /usr/bin under its own name
set -euo pipefail

cache=$1 out=$2 tests=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)
. "$here/parts.sh"

# A merged-usr root, as Debian 12 has it: jobs get these very directories bound read-only.
lay_out() {
    local root=$1
    mkdir -p "$root"/{proc,sys,dev,tmp,run,root,etc/ssl,var/tmp,opt,newroot} \
        "$root"/usr/{bin,sbin,lib,lib64,share} "$root/usr/lib/x86_64-linux-gnu"
    ln -s usr/bin usr/sbin usr/lib usr/lib64 "$root/"
    install -m 0755 /bin/busybox "$root/usr/bin/busybox"
    local applet
    for applet in $(/bin/busybox --list); do
        [ -e "$root/usr/bin/$applet" ] || ln -s busybox "$root/usr/bin/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
    printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
    printf 'guest-secret-of-root\n' >"$root/etc/shadow"
    chmod 0600 "$root/etc/shadow"
    cp /etc/ssl/openssl.cnf "$root/etc/ssl/"
    install -m 0755 "$here/init" "$here/volumes" "$root/"
    install -m 0644 "$tests" "$root/tests"
    install -m 0644 "$here/common.sh" "$root/common.sh"
    cp -r "$here/checks" "$root/checks"
    install -D -m 0644 -t "$root/modules" "$cache"/modules/*.ko
}

fetch_kernel "$cache"
mkdir -p "$out"
root=$(mktemp -d "$out/root.XXXXXX")
trap 'rm -rf "$root"' EXIT
lay_out "$root"
for file in "$@"; do
    add_program "$root" "$file"
done
cp "$cache/vmlinuz" "$out/vmlinuz"
truncate -s 256M "$out/opt.img" "$out/swap.img"
truncate -s 64M "$out/faults.img"
# Not compressed: unpacking costs more than reading when every instruction of the guest is translated.
(cd "$root" && find . -print0 | cpio --null --create --format=newc --quiet) >"$out/initramfs"
