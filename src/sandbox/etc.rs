//! The part of the host's /etc that jobs see.
//!
//! Programs below /usr have parts in /etc: a JVM does not start without its security file, R not without its library path.
//! A path is shown when all of this holds:
//!
//! 1. it belongs to the installed software: a package ships it, or a tool makes it from installed packages;
//! 2. it holds no secret, and nothing in it asks for one: no password, key, token or address of a proxy, a mirror or a
//!    directory service (lynx.cfg has room for a proxy, and lynx does not start without it);
//! 3. it says nothing of this host, its users or its services.
//!
//! So the configuration of services (ssh, apache2, redis, cron, systemd), accounts (shadow, sudoers, pam.d), the identity of
//! the host (machine-id, fstab, hostname, hosts, resolv.conf) and client settings that commonly hold proxies or tokens (pip.conf, npmrc,
//! gitconfig, wgetrc, apt, environment, profile) stay away. A name that is not in the list stays away too.
//!
//! Files are copied when the daemon starts, and only those that every user of the host may read. Directories show the host's
//! files as they are when a sandbox is created; a file in them that other users cannot read stays unreadable.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Names below /etc, by class. A star at the end stands for the rest of a name.
pub const PROGRAM_FILES: &[(&str, &[&str])] = &[
    ("the dynamic linker", &["ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ld-musl-x86_64.path"]),
    ("commands with several implementations", &["alternatives"]),
    (
        "certificates of public authorities, and how libraries use them",
        &[
            "ca-certificates",
            "ca-certificates.conf",
            "crypto-policies",
            "gnutls",
            "pki/ca-trust",
            "pki/java",
            "pki/tls/cert.pem",
            "pki/tls/certs",
            "pki/tls/openssl.cnf",
            "ssl/cert.pem",
            "ssl/certs",
            "ssl/openssl.cnf",
        ],
    ),
    (
        "names and numbers that the C library looks up",
        &[
            "ethertypes",
            "gai.conf",
            "host.conf",
            "netconfig",
            "nsswitch.conf",
            "protocols",
            "rpc",
            "services",
            "bindresvport.blacklist",
        ],
    ),
    ("time zone and language", &["localtime", "locale.alias", "timezone"]),
    (
        "the distribution's name and version",
        &[
            "alpine-release",
            "debian_version",
            "dpkg/origins",
            "fedora-release",
            "lsb-release",
            "os-release",
            "redhat-release",
            "system-release",
        ],
    ),
    ("terminals and line editing", &["inputrc", "nanorc", "terminfo", "vim"]),
    ("types of files", &["magic", "magic.mime", "mailcap", "mime.types", "nginx/mime.types"]),
    ("file systems and attributes", &["mke2fs.conf", "xattr.conf"]),
    (
        "language runtimes",
        &[
            "R",
            "ant*",
            "clojure",
            "dotnet",
            "emacs",
            "erlang",
            "ghc",
            "groovy",
            "java*",
            "jvm*",
            "maven/logging",
            "maven/m2.conf",
            "maven/toolchains.xml",
            "mono",
            "octave*",
            "perl",
            "php",
            "php.d",
            "php.ini",
            "python*",
            "scala",
        ],
    ),
    (
        "documents, graphics and fonts",
        &[
            "ImageMagick-*",
            "OpenCL",
            "X11/cursors",
            "X11/rgb.txt",
            "chromium",
            "chromium.d",
            "fonts",
            "ghostscript",
            "glvnd",
            "groff",
            "gtk-2.0",
            "gtk-3.0",
            "libpaper.d",
            "lynx",
            "man_db.conf",
            "manpath.config",
            "pango",
            "papersize",
            "sgml",
            "texmf",
            "vulkan",
            "xml",
        ],
    ),
    ("development", &["gdb", "gprofng.rc", "libnl-3"]),
];

/// The largest file that is copied.
const LARGEST: u64 = 8 << 20;

/// The paths of [`PROGRAM_FILES`] below this directory that are there, sorted.
pub(super) fn program_files(etc: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in PROGRAM_FILES.iter().flat_map(|(_, names)| *names) {
        match name.strip_suffix('*') {
            None => found.extend(Some(etc.join(name)).filter(|path| path.symlink_metadata().is_ok())),
            Some(prefix) => {
                let entries = fs::read_dir(etc).into_iter().flatten().flatten();
                let starts = |name: &std::ffi::OsStr| name.to_str().is_some_and(|n| n.starts_with(prefix));
                found.extend(entries.filter(|e| starts(&e.file_name())).map(|entry| entry.path()));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Copies a file that every user may read; the answer says why it was left out, if it was.
///
/// # Errors
/// The copy cannot be written.
pub(super) fn copy_public(from: &Path, to: &Path) -> io::Result<Option<String>> {
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
    let opened = File::options().read(true).custom_flags(flags.cast_signed()).open(from);
    let file = match opened {
        Ok(file) => file,
        Err(why) => return Ok(Some(why.to_string())),
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Ok(Some("it is neither a file nor a directory".into()));
    }
    if meta.mode() & 0o004 == 0 {
        return Ok(Some(format!("mode {:04o}: other users may not read it", meta.mode() & 0o7777)));
    }
    let mut bytes = Vec::new();
    if let Err(why) = (&file).take(LARGEST + 1).read_to_end(&mut bytes) {
        return Ok(Some(why.to_string()));
    }
    if bytes.len() as u64 > LARGEST {
        return Ok(Some(format!("it is larger than {} MiB", LARGEST >> 20)));
    }
    let mode = if meta.mode() & 0o001 == 0 { 0o644 } else { 0o755 };
    replace(to, |to| {
        let mut copy = File::options().write(true).create_new(true).mode(mode).open(to)?;
        copy.write_all(&bytes)?;
        copy.set_permissions(Permissions::from_mode(mode))
    })?;
    Ok(None)
}

/// Makes something in the place of a file or link of ours: the configuration may name what the root has already.
pub(super) fn replace(at: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    match fs::remove_file(at) {
        Ok(()) => {}
        Err(why) if why.kind() == io::ErrorKind::NotFound => {}
        Err(why) => return Err(why),
    }
    make(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files with secrets, with the host's identity or with settings of its services, on common distributions.
    const PRIVATE: &[&str] = &[
        "shadow",
        "shadow-",
        "gshadow",
        "gshadow-",
        "sudoers",
        "sudoers.d",
        "ssh",
        "ssl/private",
        "machine-id",
        "hostname",
        "hosts",
        "resolv.conf",
        "fstab",
        "crypttab",
        "pam.d",
        "security",
        "krb5.conf",
        "krb5.keytab",
        "ldap",
        "sssd",
        "nslcd.conf",
        "NetworkManager",
        "network",
        "netplan",
        "wpa_supplicant",
        "cron.d",
        "crontab",
        "systemd",
        "apt",
        "yum.repos.d",
        "docker",
        "kubernetes",
        "joblet",
        "environment",
        "profile",
        "profile.d",
        "bash.bashrc",
        "gitconfig",
        "maven/settings.xml",
        "npmrc",
        "pip.conf",
        "postgresql-common",
        "wgetrc",
        "curlrc",
        "mysql",
        "redis",
        "postgresql",
        "apache2",
        "httpd",
        "nginx",
        "nginx/nginx.conf",
        "letsencrypt",
        "ipsec.secrets",
        "wireguard",
        "openvpn",
        "ppp",
        "exports",
        "samba",
        "passwd",
        "group",
        "subuid",
        "subgid",
        "mtab",
        "motd",
        "issue",
        "skel",
        "opt",
        "default",
        "init.d",
    ];

    #[test]
    fn the_list_names_no_file_with_a_secret() {
        let shows = |name: &str, private: &str| match name.strip_suffix('*') {
            Some(prefix) => private.starts_with(prefix),
            // A directory shows all that is below it.
            None => Path::new(private).starts_with(name),
        };
        for private in PRIVATE {
            let shown = PROGRAM_FILES.iter().flat_map(|(_, names)| *names).find(|name| shows(name, private));
            assert_eq!(shown, None, "{private}");
        }
    }

    #[test]
    fn the_security_page_lists_every_name() {
        let page = include_str!("../../docs/security.md");
        for name in PROGRAM_FILES.iter().flat_map(|(_, names)| *names) {
            let last = name.rsplit('/').next().unwrap().trim_end_matches('*');
            assert!(page.contains(last), "{name}");
        }
    }

    #[test]
    fn stars_are_filled_in_and_missing_names_are_left_out() {
        let etc = tempfile::tempdir().unwrap();
        for dir in ["java-17-openjdk", "java-21-openjdk", "fonts", "ssh"] {
            fs::create_dir(etc.path().join(dir)).unwrap();
        }
        let names: Vec<_> = program_files(etc.path());
        assert_eq!(names, ["fonts", "java-17-openjdk", "java-21-openjdk"].map(|name| etc.path().join(name)));
    }

    #[test]
    fn a_file_that_others_may_not_read_is_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "x").unwrap();
        for (mode, copied) in [(0o600, None), (0o640, None), (0o644, Some(0o644)), (0o4755, Some(0o755))] {
            fs::set_permissions(&from, Permissions::from_mode(mode)).unwrap();
            let why = copy_public(&from, &to).unwrap();
            assert_eq!(why.is_none(), copied.is_some(), "{mode:o} {why:?}");
            assert_eq!(fs::metadata(&to).ok().map(|meta| meta.mode() & 0o7777), copied, "{mode:o}");
        }
        std::os::unix::fs::symlink("/etc/shadow", dir.path().join("link")).unwrap();
        assert!(copy_public(&dir.path().join("link"), &to).unwrap().is_some());
    }
}
