//! `joblet certs init|issue|show|revoke`: certificates of a node that was set up, or of a CA alone. DIR is the
//! directory of `joblet setup`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use getopts::{Matches, Options as Flags};
use openssl::{asn1::Asn1Integer, bn::BigNum, error::ErrorStack, x509::X509};

use super::{
    CertError,
    authority::{Authority, Pair, Role, check_host},
    client_file::{self, Client},
    describe::{self, Description, Node},
    files::{self, REVOKED},
    inspect,
    revocation::Revocations,
};
use crate::config::client::ClientConfig;

const ABOUT: &str = "Usage:
  joblet certs init   --dir DIR                                   make a CA in DIR/ca and its empty revocation list
  joblet certs issue  --dir DIR --role admin|viewer --name NAME   make a client's certificate, key and rnx-config.yml
  joblet certs issue  --dir DIR --server --name NAME [--host H]...   make a server's
  joblet certs show   [--dir DIR] [--json] PATH...                describe what is in files or directories
  joblet certs revoke --dir DIR FILE|SERIAL...                    put certificates on the list DIR/revoked.pem

DIR is the directory of joblet setup. A running daemon reads the list again on SIGHUP (systemctl reload joblet).";

fn flags() -> Flags {
    let mut flags = Flags::new();
    flags
        .optopt("", "dir", "directory of the node, with the CA in ca/", "DIR")
        .optopt("", "role", "what the client may do: admin or viewer", "ROLE")
        .optflag("", "server", "a certificate for the server instead of a client")
        .optopt(
            "",
            "name",
            "name of the client, and of the files: NAME-cert.pem, NAME-key.pem, NAME-rnx-config.yml",
            "NAME",
        )
        .optmulti("", "host", "a name or address of the server, besides localhost; may be repeated", "H")
        .optopt(
            "",
            "address",
            "where the client finds the node, HOST:PORT (as DIR/rnx-config.yml has it)",
            "ADDR",
        )
        .optopt("", "days", "days until the certificate ends, 1 to 3650 (825)", "N")
        .optopt("", "out", "where the files go (DIR/certs)", "DIR")
        .optflag("", "json", "show as JSON")
        .optflag("h", "help", "this text");
    flags
}

fn wrong(why: impl Into<String>) -> CertError {
    CertError::ReadArguments { command: "certs", why: why.into() }
}

/// Where rnx looks for a node that nothing names.
const DEFAULT_ADDRESS: &str = "localhost:50051";

type Verb = fn(&Matches) -> Result<String, CertError>;

/// Runs `joblet certs` with the arguments after that word, and returns what to print.
///
/// # Errors
/// Wrong arguments ([`CertError::ReadArguments`], [`CertError::NameHost`]), files that are there or not there, a
/// CA that cannot issue.
pub fn command(args: &[String]) -> Result<String, CertError> {
    if args.iter().any(|a| a == "-h" || a == "--help") {
        return Ok(flags().usage(ABOUT));
    }
    let Some((verb, rest)) = args.split_first() else {
        return Err(wrong("init, issue, show or revoke is needed"));
    };
    let (allowed, run): (&[&str], Verb) = match verb.as_str() {
        "init" => (&["dir"], init),
        "issue" => (&["dir", "role", "server", "name", "host", "address", "days", "out"], issue),
        "show" => (&["dir", "json"], show),
        "revoke" => (&["dir"], revoke),
        other => return Err(wrong(format!("{other:?} is not init, issue, show or revoke"))),
    };
    let given = flags().parse(rest).map_err(|e| wrong(e.to_string()))?;
    let all = ["dir", "role", "server", "name", "host", "address", "days", "out", "json"];
    if let Some(flag) = all.iter().find(|flag| given.opt_present(flag) && !allowed.contains(flag)) {
        return Err(wrong(format!("--{flag} is not for {verb}")));
    }
    if let Some(extra) = given.free.first().filter(|_| matches!(verb.as_str(), "init" | "issue")) {
        return Err(wrong(format!("{extra:?} is not expected")));
    }
    run(&given)
}

fn root(given: &Matches) -> Result<PathBuf, CertError> {
    let dir = given.opt_str("dir").filter(|d| !d.is_empty()).ok_or_else(|| wrong("--dir DIR is needed"))?;
    std::path::absolute(&dir).map_err(|e| wrong(format!("--dir {dir:?}: {e}")))
}

fn init(given: &Matches) -> Result<String, CertError> {
    let dir = root(given)?;
    files::private_dir(&dir)?;
    let _held = files::lock(&dir)?;
    for path in ["ca/ca-cert.pem", "ca/ca-key.pem", REVOKED].map(|name| dir.join(name)) {
        refuse_existing(path)?;
    }
    let ca = Authority::create(super::now())?;
    files::write_ca(&dir, &ca.pair()?)?;
    files::replace(&dir.join(REVOKED), &ca.revoke(None, None, super::now())?, 0o644)?;
    Ok(format!("CA    {0}/ca\nlist  {0}/{REVOKED}", dir.display()))
}

fn refuse_existing(path: PathBuf) -> Result<(), CertError> {
    if fs::symlink_metadata(&path).is_ok() { Err(CertError::KeepFile { path }) } else { Ok(()) }
}

fn issue(given: &Matches) -> Result<String, CertError> {
    let dir = root(given)?;
    let name = given.opt_str("name").ok_or_else(|| wrong("--name NAME is needed"))?;
    check_name(&name)?;
    let role = match (given.opt_str("role").as_deref(), given.opt_present("server")) {
        (Some("admin"), false) => Some(Role::Admin),
        (Some("viewer"), false) => Some(Role::Viewer),
        (Some(other), false) => return Err(wrong(format!("--role {other:?} is neither admin nor viewer"))),
        (None, true) => None,
        _ => return Err(wrong("one of --role admin, --role viewer and --server is needed")),
    };
    let hosts = given.opt_strs("host");
    if role.is_some() && !hosts.is_empty() {
        return Err(wrong("--host is for --server only"));
    }
    hosts.iter().try_for_each(|host| check_host(host))?;
    let address = given.opt_str("address");
    if role.is_none() && address.is_some() {
        return Err(wrong("--address is for clients only"));
    }
    address.iter().try_for_each(|address| check_address(address))?;
    let days = match given.opt_str("days") {
        None => None,
        Some(days) => Some(
            days.parse()
                .ok()
                .filter(|n| (1..=3650).contains(n))
                .ok_or_else(|| wrong("--days takes 1 to 3650"))?,
        ),
    };
    let _held = files::lock(&dir)?;
    let ca = files::load_ca(&dir, super::now())?;
    let ca = if let Some(days) = days { ca.valid_for(days) } else { ca };
    let pair = match role {
        Some(role) => ca.client(&name, role, super::now())?,
        None => ca.server(&hosts, super::now())?,
    };
    let out = given.opt_str("out").map_or_else(|| dir.join("certs"), PathBuf::from);
    let config = role.map(|_| out.join(format!("{name}-rnx-config.yml")));
    let text =
        config.as_ref().map(|_| Ok::<_, CertError>(client_config(&dir, address, &pair, &ca.pair()?.cert)));
    write_pair(&out, &name, &pair, config.as_deref().zip(text.transpose()?))?;
    let file = out.join(format!("{name}-cert.pem")).display().to_string();
    let described = Description::of(&file, &parse(&pair.cert)?, None, super::now())?;
    Ok(match config {
        Some(config) => format!("{described}  client       rnx --config {} job list\n", config.display()),
        None => described.to_string(),
    })
}

/// The configuration of the client that gets this certificate; address and id are those of the node's own client.
fn client_config(dir: &Path, address: Option<String>, pair: &Pair, ca: &str) -> String {
    let own = ClientConfig::load(Some(&dir.join("rnx-config.yml"))).ok();
    let own = own.as_ref().and_then(|own| own.config.node(own.config.default_node().ok()?).ok());
    let known = own.map(|node| node.address.clone()).filter(|address| !address.is_empty());
    let address = address.or(known).unwrap_or_else(|| DEFAULT_ADDRESS.into());
    let node_id = own.map(|node| node.node_id.as_str()).unwrap_or_default();
    let client = Client { name: "default", address: &address, node_id, pair, ca };
    client_file::text("joblet certs issue", &[client])
}

/// Refuses an address that is not of the form `host:port`.
fn check_address(address: &str) -> Result<(), CertError> {
    let parts = address.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok_and(|port| port != 0));
    let Some((host, _)) = parts else {
        return Err(wrong(format!("--address {address:?} is not of the form HOST:PORT")));
    };
    check_host(host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host))
}

/// The key first: a certificate that is there can be used. With it goes the client's configuration, path and text.
fn write_pair(out: &Path, name: &str, pair: &Pair, config: Option<(&Path, String)>) -> Result<(), CertError> {
    files::private_dir(out)?;
    let [cert, key] = ["cert", "key"].map(|part| out.join(format!("{name}-{part}.pem")));
    for path in
        [Some(cert.as_path()), Some(&key), config.as_ref().map(|(path, _)| *path)].into_iter().flatten()
    {
        refuse_existing(path.into())?;
    }
    files::replace(&key, pair.key.expose(), 0o600)?;
    files::replace(&cert, &pair.cert, 0o644)?;
    config.map_or(Ok(()), |(path, text)| files::replace(path, &text, 0o600))
}

/// It becomes the common name and part of file names.
fn check_name(name: &str) -> Result<(), CertError> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-@".contains(&b);
    if (1..=64).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with(['.', '-']) {
        Ok(())
    } else {
        Err(wrong(format!(
            "--name {name:?}: 1 to 64 letters, digits, '.', '_', '-' and '@', not starting with . or -"
        )))
    }
}

fn parse(pem: &str) -> Result<X509, CertError> {
    X509::from_pem(pem.as_bytes()).map_err(|_| CertError::Parse { what: "certificate" })
}

fn read(path: &Path) -> Result<String, CertError> {
    let text =
        fs::read(path).map_err(|source| CertError::Write { what: "read", path: path.into(), source })?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// CA and list of the node with this root.
fn node(dir: &Path) -> Result<Node, CertError> {
    // Where the CA's key is kept elsewhere, `ca/` may be gone.
    let kept = dir.join("ca/ca-cert.pem");
    let ca = read(&if kept.exists() { kept } else { dir.join("certs/ca-cert.pem") })?;
    let list = dir.join(REVOKED);
    let revoked = if list.exists() { Revocations::load(&list, &ca)? } else { Revocations::default() };
    Ok(Node { cas: inspect::certificates(&ca, "CA certificate")?, revoked })
}

fn show(given: &Matches) -> Result<String, CertError> {
    if given.free.is_empty() {
        return Err(wrong("a file or directory is needed"));
    }
    let node = given.opt_present("dir").then(|| node(&root(given)?)).transpose()?;
    let mut found: Vec<Description> = Vec::new();
    for path in given.free.iter().map(Path::new) {
        // A configuration repeats the CA for every node, and the certificates of the files beside it.
        let mut of_path: Vec<Description> = Vec::new();
        for file in files_of(path)? {
            for cert in certificates_in(&read(&file)?) {
                let one = Description::of(&file.display().to_string(), &cert, node.as_ref(), super::now())?;
                let is_repeated = file.extension().is_some_and(|e| e == "yml")
                    && of_path.iter().any(|other| other.fingerprint == one.fingerprint);
                if !is_repeated {
                    of_path.push(one);
                }
            }
        }
        found.append(&mut of_path);
    }
    if given.opt_present("json") {
        return Ok(serde_json::to_string_pretty(&found).unwrap_or_default());
    }
    if found.is_empty() {
        return Err(CertError::Parse { what: "certificate" });
    }
    Ok(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// A file, or the files of a directory that may hold certificates, in order.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, CertError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let wrong = |source| CertError::Write { what: "read directory", path: path.into(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(wrong)? {
        let file = entry.map_err(wrong)?.path();
        if file.is_file()
            && file.extension().is_some_and(|e| ["pem", "crt", "cer", "yml"].iter().any(|x| e == *x))
        {
            files.push(file);
        }
    }
    // Configurations last: what they repeat is named by its own file.
    files.sort_by_key(|file| (file.extension().is_some_and(|e| e == "yml"), file.clone()));
    Ok(files)
}

/// Also of a configuration, where the blocks are indented.
fn certificates_in(text: &str) -> Vec<X509> {
    let plain: String = text.lines().flat_map(|line| [line.trim(), "\n"]).collect();
    let mut found = Vec::new();
    for block in plain.split("-----BEGIN CERTIFICATE-----").skip(1) {
        found.extend(X509::from_pem(format!("-----BEGIN CERTIFICATE-----{block}").as_bytes()));
    }
    found
}

fn revoke(given: &Matches) -> Result<String, CertError> {
    let dir = root(given)?;
    if given.free.is_empty() {
        return Err(wrong("a certificate's file or serial number is needed"));
    }
    let serials =
        given.free.iter().map(|word| Ok((word, serial_of(word)?))).collect::<Result<Vec<_>, _>>()?;
    let _held = files::lock(&dir)?;
    let now = super::now();
    let ca = files::load_ca(&dir, now)?;
    let ca_cert = ca.pair()?.cert;
    let list = dir.join(REVOKED);
    let mut said = Vec::new();
    for (word, (cert, serial)) in serials {
        if let Some(cert) = &cert {
            check_ours(word, cert, &ca)?;
        }
        let before = if list.exists() { Revocations::load(&list, &ca_cert)? } else { Revocations::default() };
        let hex = serial.to_bn().and_then(|n| n.to_hex_str().map(|s| s.to_string()));
        let hex = hex.map_err(|_| CertError::Parse { what: "serial number" })?;
        let who = cert.map_or_else(String::new, |cert| format!(" ({})", describe::name(cert.subject_name())));
        if before.since_serial(&serial).is_some() {
            said.push(format!("{hex}{who} was revoked before"));
            continue;
        }
        files::replace(&list, &ca.revoke(before.first(), Some(&serial), now)?, 0o644)?;
        said.push(format!("{hex}{who} is revoked"));
    }
    said.push(format!(
        "The daemon whose security.revocationList is {} refuses it from its next SIGHUP on.",
        list.display()
    ));
    Ok(said.join("\n"))
}

/// The certificate in a file of this name, else the name as a serial number.
fn serial_of(word: &str) -> Result<(Option<X509>, Asn1Integer), CertError> {
    let path = Path::new(word);
    if path.exists() {
        let cert = parse(&read(path)?)?;
        let serial = cert.serial_number().to_bn().and_then(|n| Asn1Integer::from_bn(&n));
        return Ok((Some(cert), serial.map_err(|_| CertError::Parse { what: "certificate" })?));
    }
    let digits: String = word.chars().filter(|c| *c != ':').collect();
    // RFC 5280, 4.1.2.2: at most 20 bytes, positive.
    if !(1..=40).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong(format!(
            "{word:?} is neither a file nor a serial number (hexadecimal, at most 40 digits)"
        )));
    }
    let number =
        || -> Result<_, ErrorStack> { Asn1Integer::from_bn(BigNum::from_hex_str(&digits)?.as_ref()) };
    Ok((None, number().map_err(|_| CertError::Parse { what: "serial number" })?))
}

fn check_ours(word: &str, cert: &X509, ca: &Authority) -> Result<(), CertError> {
    let no = |why| Err(CertError::Revoke { what: word.to_owned(), why });
    if !ca.cert().public_key().is_ok_and(|key| cert.verify(&key).unwrap_or(false)) {
        return no("it was issued by another CA");
    }
    if cert.pathlen().is_some() {
        return no(
            "it is the CA itself; joblet setup makes a new one when ca/ is removed, and with it all certificates",
        );
    }
    Ok(())
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
