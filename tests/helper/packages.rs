//! Packages of Debian that a test needs, unpacked in the cache and never installed: no script of theirs runs, and nothing of
//! this machine changes.

use super::programs::cache;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Fetches what apt would install here, and unpacks it.
const FETCH: &str = r#"
set -e
to=$1; shift
mkdir -p "$to/archives/partial" "$to/tree"
get() {
    apt-get -q -y --no-install-recommends --download-only -o Debug::NoLocking=1 -o Dir::Cache::archives="$to/archives" \
        install "$@" >"$to/log" 2>&1
}
get "$@" || { apt-get update -q >/dev/null 2>&1 && get "$@"; } || { tail -3 "$to/log"; exit 1; }
for deb in "$to"/archives/*.deb; do dpkg --fsys-tarfile "$deb" | tar -x -C "$to/tree" --exclude=./usr/share/doc; done
rm -rf "$to/archives" "$to/log"
"#;

/// A small Debian with apt, which knows its packages as installed, and has in /repo what apt would fetch for the last one
/// named. Things that their scripts would have made, and others need, are made here.
const DEBIAN: &str = r#"
set -e
to=$1
mkdir -p "$to/base/partial" "$to/all/partial" "$to/tree" "$to/pool" "$to/state"
: >"$to/state/status"
essential="base-files base-passwd bash coreutils dash debianutils diffutils dpkg findutils grep gzip hostname init-system-helpers
    libc-bin login ncurses-base ncurses-bin perl-base sed sysvinit-utils tar util-linux apt adduser passwd mawk
    locales tzdata libllvm14 libicu72 libxml2 libxslt1.1 openssl libreadline8 libldap-2.5-0 libgssapi-krb5-2 netbase libjson-perl
    sensible-utils"
get() {
    apt-get -q -y --no-install-recommends --download-only -o Debug::NoLocking=1 -o Dir::Cache::archives="$to/$1" \
        -o Dir::State::status="$to/state/status" install $2 >"$to/log" 2>&1
}
both() { get base "$essential" && get all "$essential postgresql-15"; }
both || { apt-get update -q >/dev/null 2>&1 && both; } || { tail -3 "$to/log"; exit 1; }
mkdir -p "$to/tree/var/lib/dpkg/info" "$to/tree/usr/bin"
for deb in "$to"/base/*.deb; do
    dpkg --fsys-tarfile "$deb" | tar -x -C "$to/tree" --exclude=./usr/share/doc --exclude=./usr/share/locale --exclude=./usr/share/man
    name=$(dpkg-deb -f "$deb" Package)
    dpkg-deb -f "$deb" | sed '1a Status: install ok installed' >>"$to/tree/var/lib/dpkg/status"
    echo >>"$to/tree/var/lib/dpkg/status"
    dpkg --fsys-tarfile "$deb" | tar -t | sed 's/^\.//; s/^\/$/\/./; s/\(.\)\/$/\1/' >"$to/tree/var/lib/dpkg/info/$name.list"
    rm -f "$to/all/${deb##*/}"
done
for deb in "$to"/all/*.deb; do
    ln "$deb" "$to/pool/"
    { dpkg-deb -f "$deb"; echo "Filename: ./${deb##*/}"; echo "Size: $(stat -c %s "$deb")"
      echo "SHA256: $(sha256sum <"$deb" | cut -d' ' -f1)"; echo; } >>"$to/pool/Packages"
done
cd "$to/tree"
cp usr/share/base-passwd/passwd.master etc/passwd
cp usr/share/base-passwd/group.master etc/group
ln -s mawk usr/bin/awk
for file in account auth password session session-noninteractive; do
    echo "${file%%-*} required pam_unix.so" >"etc/pam.d/common-$file"
done
printf '#!/bin/sh\nexit 101\n' >usr/sbin/policy-rc.d
chmod 755 usr/sbin/policy-rc.d
echo 'deb [trusted=yes] file:/repo ./' >etc/apt/sources.list
mv "$to/pool" repo
rm -rf "$to/base" "$to/all" "$to/state" "$to/log"
"#;

/// A root with a small Debian, in which `apt-get install postgresql-15` finds all that it needs in /repo.
///
/// # Errors
/// No registry of packages, as a sentence.
pub fn debian() -> Result<PathBuf, String> {
    Ok(made("debian-1", DEBIAN, &[])?.join("tree"))
}

/// The root of the unpacked packages and of those that they need beyond what is installed.
///
/// # Errors
/// No registry of packages, as a sentence.
pub fn unpacked(packages: &[&str]) -> Result<PathBuf, String> {
    Ok(made(&format!("packages-{}", packages.join("-")), FETCH, packages)?.join("tree"))
}

/// The files that a script makes in the directory that is its first argument, kept in the cache.
fn made(name: &str, script: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let kept = cache().join(name);
    if !kept.exists() {
        let aside = tempfile::tempdir_in(cache()).unwrap();
        let out =
            Command::new("sh").args(["-c", script, "sh"]).arg(aside.path()).args(packages).output().unwrap();
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stdout);
            return Err(format!("cannot fetch packages for {name}: {said}"));
        }
        match fs::rename(aside.keep(), &kept) {
            // Another test was faster.
            Err(_) if kept.exists() => {}
            done => done.unwrap(),
        }
    }
    Ok(kept)
}
