# Sourced by what packs a guest.

# with_fresh_lists COMMAND...: apt's lists may be missing or older than the mirror: if it fails, again after an update
with_fresh_lists() { "$@" || { apt-get update -q >&2 && "$@"; }; }

# The package that Debian's newest kernel is in, into the current directory.
download_kernel() {
    local package
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -1)
    [ -n "$package" ] && apt-get download -q "$package" >/dev/null 2>&1
}

# fetch_kernel CACHE: Debian's cloud kernel, taken out of its package and never installed, and the modules that quotas and
# failing disks need. ext4 and NVMe disks are built in.
fetch_kernel() {
    local cache=$1
    mkdir -p "$cache/modules"
    [ -s "$cache/vmlinuz" ] && [ -s "$cache/modules/dm-mod.ko" ] && return
    (
        cd "$(mktemp -d "$cache/deb.XXXXXX")"
        with_fresh_lists download_kernel
        dpkg --fsys-tarfile ./*.deb |
            tar -x --wildcards './boot/vmlinuz-*' '*/quota_tree.ko' '*/quota_v2.ko' '*/dm-mod.ko'
        find . -name '*.ko' -exec mv {} "$cache/modules/" \;
        mv boot/vmlinuz-* "$cache/vmlinuz.part"
        rm -rf "$PWD"
    )
    mv "$cache/vmlinuz.part" "$cache/vmlinuz"
}

# add_program ROOT FILE: with every library that the loader would open, at the place where it would look.
add_program() {
    local root=$1 file=$2 library
    install -m 0755 "$file" "$root/usr/bin/"
    strip "$root/usr/bin/$(basename "$file")"
    for library in $(ldd "$file" 2>/dev/null | grep -o '/[^ ]*'); do
        local place=${library#/usr}
        [ -e "$root/usr$place" ] || install -D -m 0755 "$(realpath "$library")" "$root/usr$place"
    done
}

