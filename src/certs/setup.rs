//! `joblet setup`: everything a node needs to start and a client to reach it, below one directory.
//!
//! ```text
//! DIR/ca/{ca-cert,ca-key}.pem        the CA; the key signs new certificates and is needed for nothing else
//! DIR/certs/*.pem                    server, admin and viewer; client-* is admin, where clients look by default
//! DIR/revoked.pem                    revoked certificates (none yet); survives every later setup with the same CA
//! DIR/joblet-config.yml              the daemon's, with the server's key in it
//! DIR/rnx-config.yml                 the client's: nodes `default` (admin) and `viewer`
//! ```
//!
//! The configurations are written last: a set that lacks them is visibly unfinished.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use getopts::Options as Flags;

use super::{
    CertError,
    authority::{Authority, Pair, Role, check_host},
    client_file::{self, Client, block, quoted},
    files::{self, REVOKED},
    inspect,
};
use crate::job::Enforcement;

const CERTS: [&str; 9] = [
    "ca-cert.pem",
    "server-cert.pem",
    "server-key.pem",
    "admin-client-cert.pem",
    "admin-client-key.pem",
    "viewer-client-cert.pem",
    "viewer-client-key.pem",
    "client-cert.pem",
    "client-key.pem",
];

/// The arguments of a set-up.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Root of everything; absolute.
    pub dir: PathBuf,
    /// Names and addresses of this node, besides localhost.
    pub hosts: Vec<String>,
    /// TCP port of the API.
    pub port: u16,
    /// The policy for limits that the host cannot enforce.
    pub enforcement: Enforcement,
    /// Replace what is there. The CA is kept unless it is broken, so that clients stay valid.
    pub force: bool,
}

/// The files that were made. Its text is for the person at the command line.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Root of everything.
    pub dir: PathBuf,
    /// Where the client file says the node is.
    pub address: String,
    /// Last day of the server's certificate, Unix seconds.
    pub valid_until: i64,
    /// Whether the CA was there before.
    pub kept_ca: bool,
}

fn flags() -> Flags {
    let mut flags = Flags::new();
    flags
        .optopt("", "dir", "where everything goes; made if it is not there", "DIR")
        .optmulti("", "host", "a name or address of this node, besides localhost; may be repeated", "NAME")
        .optopt("", "port", "TCP port of the API (50051)", "N")
        .optopt(
            "",
            "enforcement",
            "strict (the default): do not start on a host that cannot enforce limits; \
                best-effort: run jobs without them",
            "MODE",
        )
        .optflag("", "force", "replace a set that is there; the CA is kept unless it is broken")
        .optflag("h", "help", "this text");
    flags
}

/// Runs `joblet setup` with the arguments after that word, and returns what to print.
///
/// # Errors
/// Wrong arguments ([`CertError::ReadArguments`], [`CertError::NameHost`]), a set that is there, or a file
/// system that refuses.
pub fn command(args: &[String]) -> Result<String, CertError> {
    if args.iter().any(|a| a == "-h" || a == "--help") {
        return Ok(flags().usage(
            "Usage: joblet setup --dir DIR [options]\n\nMakes a CA, certificates and both configurations.",
        ));
    }
    run(&Options::parse(args)?).map(|report| report.to_string())
}

impl Options {
    /// Reads the arguments after `joblet setup`.
    ///
    /// # Errors
    /// Unknown or missing flags, values out of range.
    pub fn parse(args: &[String]) -> Result<Self, CertError> {
        let wrong = |why| CertError::ReadArguments { command: "setup", why };
        let given = flags().parse(args).map_err(|e| wrong(e.to_string()))?;
        if let Some(extra) = given.free.first() {
            return Err(wrong(format!("{extra:?} is not expected")));
        }
        let dir = given
            .opt_str("dir")
            .filter(|d| !d.is_empty())
            .ok_or_else(|| wrong("--dir DIR is needed".into()))?;
        let dir = std::path::absolute(&dir).map_err(|e| wrong(format!("--dir {dir:?}: {e}")))?;
        let port = given.opt_str("port").unwrap_or_else(|| "50051".into());
        let port = port.parse().ok().filter(|p| *p != 0);
        let enforcement = match given.opt_str("enforcement").as_deref() {
            None | Some("strict") => Enforcement::Strict,
            Some("best-effort") => Enforcement::BestEffort,
            Some(other) => {
                return Err(wrong(format!("--enforcement {other:?} is neither strict nor best-effort")));
            }
        };
        let hosts = given.opt_strs("host");
        hosts.iter().try_for_each(|host| check_host(host))?;
        Ok(Self {
            dir,
            hosts,
            port: port.ok_or_else(|| wrong("--port takes a number from 1 to 65535".into()))?,
            enforcement,
            force: given.opt_present("force"),
        })
    }
}

/// Makes the set.
///
/// # Errors
/// A set is there, whole or in part, and `force` is not given; or the file system refuses.
pub fn run(options: &Options) -> Result<Report, CertError> {
    let dir = &options.dir;
    fs::create_dir_all(dir.parent().unwrap_or(dir)).map_err(|source| CertError::Write {
        what: "make directory above",
        path: dir.clone(),
        source,
    })?;
    files::private_dir(dir)?;
    let _held = files::lock(dir)?;
    if !options.force {
        refuse_what_is_there(dir)?;
    }
    let now = super::now();

    let kept = options.force.then(|| files::load_ca(dir, now).ok()).flatten();
    let kept_ca = kept.is_some();
    let ca = kept.map_or_else(|| Authority::create(now), Ok)?;
    let set = Set {
        ca: ca.pair()?,
        server: ca.server(&options.hosts, now)?,
        admin: ca.client("admin", Role::Admin, now)?,
        viewer: ca.client("viewer", Role::Viewer, now)?,
        node_id: uuid::Uuid::new_v4().to_string(),
    };
    let server = inspect::check(&set.server.cert, &set.server.key, &set.ca.cert, inspect::Use::Server, now)?;
    let address = address(options);
    let (daemon_config, client_config) = (set.daemon_config(options)?, set.client_config(&address));

    files::private_dir(&dir.join("certs"))?;
    if !kept_ca {
        files::write_ca(dir, &set.ca)?;
    }
    for (name, text, mode) in set.pem_files() {
        files::replace(&dir.join("certs").join(name), text, mode)?;
    }
    let list = dir.join(REVOKED);
    if !(kept_ca && fs::exists(&list).unwrap_or(true)) {
        files::replace(&list, &ca.revoke(None, None, now)?, 0o644)?;
    }
    files::replace(&dir.join("joblet-config.yml"), &daemon_config, 0o600)?;
    files::replace(&dir.join("rnx-config.yml"), &client_config, 0o600)?;
    Ok(Report { dir: dir.clone(), address, valid_until: server.not_after, kept_ca })
}

/// Paths of a whole set below its root.
fn members() -> impl Iterator<Item = PathBuf> {
    ["ca/ca-cert.pem", "ca/ca-key.pem", "joblet-config.yml", "rnx-config.yml"]
        .map(PathBuf::from)
        .into_iter()
        .chain(CERTS.map(|name| Path::new("certs").join(name)))
}

fn refuse_what_is_there(dir: &Path) -> Result<(), CertError> {
    let (there, missing): (Vec<_>, Vec<_>) =
        members().partition(|member| fs::symlink_metadata(dir.join(member)).is_ok());
    if there.is_empty() {
        return Ok(());
    }
    if missing.is_empty() {
        return Err(CertError::KeepSet { dir: dir.into() });
    }
    let missing = missing.iter().map(|m| m.display().to_string()).collect::<Vec<_>>().join(", ");
    Err(CertError::CompleteSet { dir: dir.into(), missing })
}

/// Where clients find the node: the first name it was given.
fn address(options: &Options) -> String {
    let host = options.hosts.first().map_or("localhost", String::as_str);
    if host.contains(':') { format!("[{host}]:{}", options.port) } else { format!("{host}:{}", options.port) }
}

struct Set {
    ca: Pair,
    server: Pair,
    admin: Pair,
    viewer: Pair,
    node_id: String,
}

impl Set {
    /// Names of `CERTS`, in that order.
    fn pem_files(&self) -> impl Iterator<Item = (&'static str, &str, u32)> {
        let texts = [
            (self.ca.cert.as_str(), 0o644),
            (self.server.cert.as_str(), 0o644),
            (self.server.key.expose(), 0o600),
            (self.admin.cert.as_str(), 0o644),
            (self.admin.key.expose(), 0o600),
            (self.viewer.cert.as_str(), 0o644),
            (self.viewer.key.expose(), 0o600),
            (self.admin.cert.as_str(), 0o644),
            (self.admin.key.expose(), 0o600),
        ];
        CERTS.into_iter().zip(texts).map(|(name, (text, mode))| (name, text, mode))
    }

    fn daemon_config(&self, options: &Options) -> Result<String, CertError> {
        let dir = options.dir.to_str().ok_or_else(|| {
            let why = format!("--dir {:?} is not UTF-8, which YAML needs", options.dir);
            CertError::ReadArguments { command: "setup", why }
        })?;
        // Without a name of its own the node can only be reached from itself, so it listens nowhere else.
        let listen = if options.hosts.is_empty() { "127.0.0.1" } else { "0.0.0.0" };
        let enforcement = match options.enforcement {
            Enforcement::Strict => "strict",
            Enforcement::BestEffort => "best-effort",
        };
        Ok(format!(
            "# Written by `joblet setup`. All keys and their defaults: `joblet --check-config`, and \
             vendor-config/joblet-config.yml.\n\
             version: \"3.0\"\ndataDir: {dir}\nserver:\n  address: {listen}\n  port: {port}\n  nodeId: {node}\n\
             cgroup:\n  enforcement: {enforcement}\nipc:\n  enabled: true\n\
             security:\n  revocationList: {list}\n{cert}{key}{ca}",
            dir = quoted(dir),
            list = quoted(&format!("{dir}/{REVOKED}")),
            listen = quoted(listen),
            port = options.port,
            node = quoted(&self.node_id),
            cert = block(2, "serverCert", &self.server.cert),
            key = block(2, "serverKey", self.server.key.expose()),
            ca = block(2, "caCert", &self.ca.cert),
        ))
    }

    fn client_config(&self, address: &str) -> String {
        let (node_id, ca) = (self.node_id.as_str(), self.ca.cert.as_str());
        let client = |name, pair| Client { name, address, node_id, pair, ca };
        client_file::text("joblet setup", &[client("default", &self.admin), client("viewer", &self.viewer)])
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dir = self.dir.display();
        let until = jiff::Timestamp::from_second(self.valid_until)
            .map_or_else(|_| "?".into(), |t| t.strftime("%Y-%m-%d").to_string());
        writeln!(f, "CA            {dir}/ca ({})", if self.kept_ca { "kept" } else { "new" })?;
        writeln!(f, "certificates  {dir}/certs (server, admin, viewer; valid until {until})")?;
        writeln!(f, "daemon        joblet --foreground --config {dir}/joblet-config.yml")?;
        writeln!(
            f,
            "client        rnx --config {dir}/rnx-config.yml job run echo hello   # {}",
            self.address
        )?;
        write!(
            f,
            "this shell    export RNX_CONFIG={dir}/rnx-config.yml   # from here on rnx needs no --config"
        )
    }
}

#[cfg(test)]
#[path = "setup_tests.rs"]
mod tests;
