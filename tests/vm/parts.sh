# Sourced by the scripts that pack a guest.

# with_fresh_lists COMMAND...: repeats a failed command after apt-get update, because apt's lists may be missing or too old
with_fresh_lists() { "$@" || { apt-get update -q >&2 && "$@"; }; }

# Downloads the package of Debian's newest kernel into the current directory.
download_kernel() {
    local package
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -1)
    [ -n "$package" ] && apt-get download -q "$package" >/dev/null 2>&1
}

# fetch_kernel CACHE: unpacks Debian's cloud kernel, which is never installed. CACHE/modules has those for overlays, quotas, volumes,
# XFS and failing disks, and CACHE/lib/modules those for networks, in the kernel's own tree. The kernel has ext4 and NVMe built in.
fetch_kernel() {
    local cache=$1
    [ -s "$cache/vmlinuz" ] && [ -s "$cache/modules/xfs.ko" ] && [ -d "$cache/lib/modules" ] && return
    rm -rf "$cache/modules" "$cache/lib"
    mkdir -p "$cache/modules"
    (
        cd "$(mktemp -d "$cache/deb.XXXXXX")"
        with_fresh_lists download_kernel
        dpkg --fsys-tarfile ./*.deb |
            tar -x --wildcards './boot/vmlinuz-*' '*/quota_tree.ko' '*/quota_v2.ko' '*/dm-mod.ko' '*/loop.ko' '*/overlay.ko' '*/fs/xfs/xfs.ko' '*/modules.*' \
                '*/kernel/net/802' '*/kernel/net/bridge' '*/kernel/net/ipv4/netfilter' '*/kernel/net/ipv6/netfilter' '*/kernel/net/llc' \
                '*/kernel/net/netfilter/*.ko' '*/kernel/net/sched/sch_tbf.ko' '*/kernel/drivers/net/veth.ko' '*/kernel/lib/libcrc32c.ko'
        for module in quota_tree quota_v2 dm-mod loop overlay libcrc32c xfs; do
            find lib -name $module.ko -exec cp {} "$cache/modules/" \;
        done
        mv boot/vmlinuz-* "$cache/vmlinuz.part"
        mv lib "$cache/lib"
        rm -rf "$PWD"
    )
    mv "$cache/vmlinuz.part" "$cache/vmlinuz"
}

# add_program ROOT FILE: copies a program and all libraries that the loader would open, to the paths where it looks.
add_program() {
    local root=$1 file=$2 library
    install -m 0755 "$file" "$root/usr/bin/"
    strip "$root/usr/bin/$(basename "$file")"
    for library in $(ldd "$file" 2>/dev/null | grep -o '/[^ ]*'); do
        local place=${library#/usr}
        [ -e "$root/usr$place" ] || install -D -m 0755 "$(realpath "$library")" "$root/usr$place"
    done
}

