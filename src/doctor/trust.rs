//! Certificates, and the clock that they are judged by.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Finding, shown};
use crate::certs::authority::Role;
use crate::certs::inspect::{self, Use};
use crate::certs::revocation::Revocations;
use crate::config::daemon::{DaemonConfig, Security};
use crate::job::Secret;
use crate::sys::probe;

const DAY: i64 = 86_400;
/// Time to make a new one.
const SOON: i64 = 30 * DAY;
/// 2025-01-01: no clock that is right shows an earlier time to this program.
const BUILT_AFTER: i64 = 1_735_689_600;

pub(super) fn checks(config: &DaemonConfig) -> Vec<Finding> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let mut all = vec![clock(now, probe::clock_is_synchronised())];
    // A configuration without certificates is refused when it is loaded.
    if !config.security.server_cert.is_empty() {
        let remedy =
            format!("joblet setup --dir {} --force, and give clients the new files", shown(&config.data_dir));
        all.push(server(config, now, &remedy));
        all.push(authority(&config.security.ca_cert, now, &remedy));
        all.push(revoked(&config.security, now));
        let dir = config.data_dir.join("certs");
        all.push(clients(&dir, &config.security.ca_cert, now, &remedy));
        all.push(key_files(&[dir, config.data_dir.join("ca")]));
    }
    all
}

fn clock(now: i64, synchronised: std::io::Result<bool>) -> Finding {
    const CHECK: &str = "clock";
    let shown = date(now);
    let remedy = "timedatectl set-ntp true, or: apt-get install chrony";
    if now < BUILT_AFTER {
        return Finding::fail(
            CHECK,
            format!("it shows {shown}, which is past: no certificate is valid"),
            remedy,
        );
    }
    match synchronised {
        Ok(true) => Finding::ok(CHECK, format!("{shown}, synchronised")),
        Ok(false) => Finding::warn(
            CHECK,
            format!("{shown}, and nothing synchronises it: certificates go by it"),
            remedy,
        ),
        Err(why) => Finding::warn(CHECK, format!("{shown}; adjtimex: {why}"), remedy),
    }
}

fn server(config: &DaemonConfig, now: i64, remedy: &str) -> Finding {
    const CHECK: &str = "certificates.server";
    let set = &config.security;
    match inspect::check(&set.server_cert, &set.server_key, &set.ca_cert, Use::Server, now) {
        Ok(facts) => until(CHECK, "the server's", facts.not_after, now, remedy),
        Err(why) => Finding::fail(CHECK, why.to_string(), remedy),
    }
}

fn authority(pem: &str, now: i64, remedy: &str) -> Finding {
    const CHECK: &str = "certificates.authority";
    match inspect::read(pem) {
        Ok(facts) if facts.not_after < now => {
            Finding::fail(CHECK, format!("the authority's expired on {}", date(facts.not_after)), remedy)
        }
        Ok(facts) => until(CHECK, "the authority's", facts.not_after, now, remedy),
        Err(why) => Finding::fail(CHECK, why.to_string(), remedy),
    }
}

/// A list that cannot be used stops the daemon at its start.
fn revoked(security: &Security, now: i64) -> Finding {
    const CHECK: &str = "certificates.revoked";
    let Some(path) = &security.revocation_list else {
        return Finding::ok(CHECK, "security.revocationList is empty: nobody is revoked".to_owned());
    };
    match Revocations::load(path, &security.ca_cert) {
        Ok(list) if list.is_old(now) => {
            let seen =
                format!("{} should have been replaced by a newer one; it is used all the same", shown(path));
            Finding::warn(CHECK, seen, "fetch the authority's current list and send the daemon SIGHUP")
        }
        Ok(list) => Finding::ok(CHECK, format!("{} certificates, in {}", list.len(), shown(path))),
        Err(why) => {
            let remedy = "bring the file back from a copy; without one, move it away, revoke again with: joblet certs \
                        revoke --dir DIR SERIAL...";
            Finding::fail(CHECK, why.to_string(), remedy)
        }
    }
}

fn until(check: &str, whose: &str, end: i64, now: i64, remedy: &str) -> Finding {
    let seen = format!("{whose} certificate is valid until {} ({} days)", date(end), (end - now) / DAY);
    if end - now < SOON { Finding::warn(check, seen, remedy) } else { Finding::ok(check, seen) }
}

/// The clients' certificates that `joblet setup` left beside the node's. The daemon runs without; so they warn.
fn clients(dir: &Path, ca: &str, now: i64, remedy: &str) -> Finding {
    const CHECK: &str = "certificates.clients";
    let mut good = 0;
    let mut bad = Vec::new();
    let certificates = files(dir).into_iter().filter(|path| name(path).ends_with("client-cert.pem"));
    for path in certificates {
        match client(&path, ca, now) {
            Ok(end) if end - now < SOON => bad.push(format!("{} expires on {}", name(&path), date(end))),
            Ok(_) => good += 1,
            Err(why) => bad.push(format!("{}: {why}", name(&path))),
        }
    }
    if bad.is_empty() {
        let seen = format!("{good} in {}, each with a key and a role", shown(dir));
        return Finding::ok(CHECK, if good > 0 { seen } else { format!("none are kept in {}", shown(dir)) });
    }
    Finding::warn(CHECK, bad.join("; "), remedy)
}

/// The end of a client's certificate that this node would accept.
fn client(path: &Path, ca: &str, now: i64) -> Result<i64, String> {
    let read = |path: &Path| fs::read_to_string(path).map_err(|why| format!("{}: {why}", name(path)));
    let cert = read(path)?;
    let key = Secret::new(read(&path.with_file_name(name(path).replace("-cert.pem", "-key.pem")))?);
    let facts = inspect::check(&cert, &key, ca, Use::Client, now).map_err(|why| why.to_string())?;
    let known = |unit: &String| [Role::Admin, Role::Viewer].iter().any(|role| role.name() == unit);
    match facts.units.as_slice() {
        [unit] if known(unit) => Ok(facts.not_after),
        units => Err(format!("its role (OU) is {units:?}, and must be one of admin, viewer")),
    }
}

/// Private keys on disk are their owner's alone.
fn key_files(dirs: &[PathBuf]) -> Finding {
    const CHECK: &str = "certificates.keys";
    let mut open = Vec::new();
    let mut seen = 0;
    for path in dirs.iter().flat_map(|dir| files(dir)).filter(|path| name(path).ends_with("key.pem")) {
        seen += 1;
        if let Ok(meta) = fs::metadata(&path)
            && meta.mode() & 0o077 != 0
        {
            open.push((path, meta.mode() & 0o7777));
        }
    }
    let Some((first, _)) = open.first() else {
        return Finding::ok(CHECK, format!("{seen} private keys, readable by their owner only"));
    };
    let remedy =
        format!("chmod 600 {}", open.iter().map(|(path, _)| shown(path)).collect::<Vec<_>>().join(" "));
    let others = if open.len() > 1 { format!(" and {} more", open.len() - 1) } else { String::new() };
    let seen = format!("{} has mode {:04o}: others can use it{others}", shown(first), open[0].1);
    Finding::fail(CHECK, seen, remedy)
}

/// The files of a directory in the order of their names; none where it is not there.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut all: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    all.sort();
    all
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "?".into(), |t| t.strftime("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use crate::certs::authority::{Authority, Pair};
    use std::os::unix::fs::PermissionsExt;

    const NOW: i64 = 1_800_000_000;

    fn config(ca: &Authority, server: &Pair) -> DaemonConfig {
        let mut config = DaemonConfig::default();
        config.security.ca_cert = ca.pair().unwrap().cert;
        config.security.server_cert = server.cert.clone();
        config.security.server_key = Secret::new(server.key.expose());
        config
    }

    #[test]
    fn server_certificate_is_reported_with_days_left_and_faults() {
        let ca = Authority::create(NOW).unwrap();
        let pair = ca.server(&[], NOW).unwrap();
        let good = config(&ca, &pair);
        let at = |now| server(&good, now, "mend");
        assert_eq!(at(NOW).status, Status::Ok);
        assert!(at(NOW).seen.ends_with("(825 days)"), "{}", at(NOW).seen);
        assert_eq!(at(NOW + 800 * DAY).status, Status::Warn, "25 days are left");
        let expired = at(NOW + 826 * DAY);
        assert_eq!((expired.status, expired.remedy.as_deref()), (Status::Fail, Some("mend")));
        assert!(expired.seen.contains("has expired"), "{}", expired.seen);
        assert!(at(NOW - DAY).seen.contains("not yet valid"), "the clock is behind");
        let other = ca.server(&[], NOW).unwrap();
        let mixed = config(&ca, &Pair { cert: pair.cert, key: other.key });
        assert!(server(&mixed, NOW, "").seen.contains("does not belong"), "the key of another");
        let client = config(&ca, &ca.client("x", Role::Admin, NOW).unwrap());
        assert!(server(&client, NOW, "").seen.contains("purpose"), "a client's in the server's place");
    }

    #[test]
    fn a_revocation_list_is_counted_and_a_damaged_one_fails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revoked.pem");
        let ca = Authority::create(NOW).unwrap();
        let mut set = config(&ca, &ca.server(&[], NOW).unwrap()).security;
        assert_eq!(revoked(&set, NOW).status, Status::Ok, "none is asked for");
        set.revocation_list = Some(path.clone());
        assert_eq!(revoked(&set, NOW).status, Status::Fail, "it is not there");
        fs::write(&path, ca.revoke(None, None, NOW).unwrap()).unwrap();
        assert!(revoked(&set, NOW).seen.starts_with("0 certificates, in "));
        assert_eq!(revoked(&set, NOW + 3651 * DAY).status, Status::Warn, "it is old");
        fs::write(&path, "").unwrap();
        assert!(revoked(&set, NOW).seen.contains("holds no X.509 revocation list"));
    }

    #[test]
    fn expiring_ca_warns_and_expired_ca_fails() {
        let ca = Authority::create(NOW).unwrap().pair().unwrap().cert;
        assert_eq!(authority(&ca, NOW, "").status, Status::Ok);
        assert_eq!(authority(&ca, NOW + 3640 * DAY, "").status, Status::Warn);
        assert_eq!(authority(&ca, NOW + 3700 * DAY, "").status, Status::Fail);
        assert_eq!(authority("nonsense", NOW, "").status, Status::Fail);
    }

    #[test]
    fn client_that_would_be_refused_is_named_and_open_key_fails() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::create(NOW).unwrap();
        let ca_cert = ca.pair().unwrap().cert;
        let write = |who: &str, pair: &Pair| {
            let key = dir.path().join(format!("{who}-key.pem"));
            fs::write(dir.path().join(format!("{who}-cert.pem")), &pair.cert).unwrap();
            fs::write(&key, pair.key.expose()).unwrap();
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        };
        write("admin-client", &ca.client("a", Role::Admin, NOW).unwrap());
        assert_eq!(clients(dir.path(), &ca_cert, NOW, "").status, Status::Ok);
        let other = Authority::create(NOW).unwrap();
        write("viewer-client", &other.client("v", Role::Viewer, NOW).unwrap());
        let found = clients(dir.path(), &ca_cert, NOW, "");
        assert_eq!(found.status, Status::Warn);
        assert!(
            found.seen.starts_with("viewer-client-cert.pem: certificate verify failed"),
            "{}",
            found.seen
        );

        let dirs = [dir.path().to_owned()];
        assert_eq!(key_files(&dirs).status, Status::Ok);
        let key = dir.path().join("viewer-client-key.pem");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let open = key_files(&dirs);
        assert_eq!(
            (open.status, open.remedy.unwrap()),
            (Status::Fail, format!("chmod 600 {}", key.display()))
        );
    }

    #[test]
    fn impossible_clock_fails_and_unsynchronised_clock_warns() {
        assert_eq!(clock(NOW, Ok(true)).status, Status::Ok);
        assert_eq!(clock(NOW, Ok(false)).status, Status::Warn);
        assert_eq!(clock(86_400, Ok(true)).status, Status::Fail);
        assert_eq!(clock(NOW, Err(std::io::Error::from_raw_os_error(libc::EPERM))).status, Status::Warn);
    }
}
