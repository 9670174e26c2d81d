#!/bin/bash
# Packs the guest of the VM tier: a Debian cloud kernel (taken out of its package, never installed) and an initramfs with
# busybox, our binaries, the libraries they link and the small hostile programs.
#
#   image.sh CACHE OUT TESTS FILE...   CACHE keeps the kernel between runs; OUT gets vmlinuz and initramfs; TESTS lists
#                                      what the guest is to run; each FILE lands in its /usr/bin under its own name
set -euo pipefail

cache=$1 out=$2 tests=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)

# The kernel, and the modules that a file system with project quotas in a file needs: ext4 itself is built in.
fetch_kernel() {
    mkdir -p "$cache/modules"
    [ -s "$cache/vmlinuz" ] && [ -s "$cache/modules/quota_v2.ko" ] && return
    local package
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -1)
    [ -n "$package" ] || { echo "image.sh: apt knows no linux-image-cloud-amd64; run apt-get update" >&2; exit 1; }
    (
        cd "$(mktemp -d "$cache/deb.XXXXXX")"
        apt-get download -q "$package" >/dev/null 2>&1
        dpkg --fsys-tarfile ./*.deb |
            tar -x --wildcards './boot/vmlinuz-*' '*/loop.ko' '*/quota_tree.ko' '*/quota_v2.ko'
        find . -name '*.ko' -exec mv {} "$cache/modules/" \;
        mv boot/vmlinuz-* "$cache/vmlinuz.part"
        rm -rf "$PWD"
    )
    mv "$cache/vmlinuz.part" "$cache/vmlinuz"
}

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
    install -m 0755 "$here/init" "$root/init"
    install -m 0644 "$tests" "$root/tests"
    install -D -m 0644 -t "$root/modules" "$cache"/modules/*.ko
}

# Every library that the loader would open, at the place where it would look.
add_program() {
    local root=$1 file=$2 library
    install -m 0755 "$file" "$root/usr/bin/"
    strip "$root/usr/bin/$(basename "$file")"
    for library in $(ldd "$file" 2>/dev/null | grep -o '/[^ ]*'); do
        local place=${library#/usr}
        [ -e "$root/usr$place" ] || install -D -m 0755 "$(realpath "$library")" "$root/usr$place"
    done
}

fetch_kernel
mkdir -p "$out"
root=$(mktemp -d "$out/root.XXXXXX")
trap 'rm -rf "$root"' EXIT
lay_out "$root"
for file in "$@"; do
    add_program "$root" "$file"
done
cp "$cache/vmlinuz" "$out/vmlinuz"
# Not compressed: unpacking costs more than reading when every instruction of the guest is translated.
(cd "$root" && find . -print0 | cpio --null --create --format=newc --quiet) >"$out/initramfs"
