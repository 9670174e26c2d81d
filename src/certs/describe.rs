//! The contents of a certificate, in words and as JSON.

use std::fmt;

use openssl::{
    hash::MessageDigest,
    nid::Nid,
    x509::{X509, X509ExtendedKeyUsage, X509KeyUsage, X509NameRef, X509Ref},
};
use serde::Serialize;

use super::{CertError, inspect, revocation::Revocations};

/// One certificate. The names of the fields are those of `joblet certs show --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Description {
    /// Where it was found.
    pub(super) file: String,
    subject: String,
    issuer: String,
    /// "ca", "server", "client", or what else it may be used as.
    usage: Vec<&'static str>,
    /// Every OU; a client that is to be accepted has one.
    role: Vec<String>,
    /// Names and addresses of a server.
    names: Vec<String>,
    /// Hexadecimal, as `joblet certs revoke` takes it.
    pub(super) serial: String,
    /// SHA-256, hexadecimal with colons.
    pub(super) fingerprint: String,
    not_before: String,
    not_after: String,
    /// When it was revoked; null: it is not revoked. Absent: no list was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<Option<String>>,
    /// Why the daemon would refuse it, as far as this command checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// The CA and the lists that a certificate is checked against.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) cas: Vec<X509>,
    pub(super) revoked: Revocations,
}

impl Description {
    /// Describes a certificate that was found in `file`; `node` is the node that it is to be good for.
    pub(super) fn of(file: &str, cert: &X509, node: Option<&Node>, now: i64) -> Result<Self, CertError> {
        let unreadable = |_| CertError::Parse { what: "certificate" };
        let digest = cert.digest(MessageDigest::sha256()).map_err(unreadable)?;
        let revoked = node.and_then(|node| node.revoked.since(cert));
        let usage = usage(cert);
        Ok(Self {
            file: file.to_owned(),
            subject: name(cert.subject_name()),
            issuer: name(cert.issuer_name()),
            role: if usage.contains(&"client") { units(cert.subject_name()) } else { Vec::new() },
            problem: problem(cert, revoked.is_some(), node, now),
            usage,
            names: names(cert),
            serial: serial(cert)?,
            fingerprint: digest.iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":"),
            not_before: time(inspect::unix(cert.not_before())),
            not_after: time(inspect::unix(cert.not_after())),
            revoked: node.map(|_| revoked.map(|since| time(Some(since)))),
        })
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |label: &str, value: &str| match value {
            "" => Ok(()),
            // Fields of a certificate may hold any bytes; a terminal must not obey them.
            value => writeln!(f, "  {label:<12} {}", value.escape_debug()),
        };
        line("file", &self.file)?;
        line("subject", &self.subject)?;
        line("role", &self.role.join(", "))?;
        line("use", &self.usage.join(", "))?;
        line("names", &self.names.join(", "))?;
        line("serial", &self.serial)?;
        line("SHA-256", &self.fingerprint)?;
        line("valid", &format!("{} to {}", self.not_before, self.not_after))?;
        line("issuer", &self.issuer)?;
        let revoked = self.revoked.as_ref().map(|since| since.as_deref().unwrap_or("no"));
        line("revoked", revoked.unwrap_or_default())?;
        line("problem", self.problem.as_deref().unwrap_or_default())
    }
}

/// A serial number in hexadecimal.
pub(super) fn serial(cert: &X509Ref) -> Result<String, CertError> {
    let number = cert.serial_number().to_bn().and_then(|number| number.to_hex_str().map(|s| s.to_string()));
    number.map_err(|_| CertError::Parse { what: "certificate" })
}

/// The subject of the first certificate of a text, such as `CN=admin, OU=admin, O=joblet`; `None`: it is not PEM.
pub fn subject(pem: &[u8]) -> Option<String> {
    X509::from_pem(pem).ok().map(|cert| name(cert.subject_name()))
}

/// Subject and serial number (hexadecimal) of a certificate, as [`subject`] and `joblet certs show` have them.
pub fn subject_and_serial(cert: &X509Ref) -> (String, String) {
    (name(cert.subject_name()), serial(cert).unwrap_or_default())
}

/// `CN=admin, OU=admin, O=joblet`, in the order of the certificate.
pub(super) fn name(name: &X509NameRef) -> String {
    let part = |e: &openssl::x509::X509NameEntryRef| {
        let value = e.data().to_string().map(|s| s.to_string()).unwrap_or_default();
        format!("{}={value}", e.object().nid().short_name().unwrap_or("?"))
    };
    name.entries().map(part).collect::<Vec<_>>().join(", ")
}

fn units(name: &X509NameRef) -> Vec<String> {
    let entries = name.entries_by_nid(Nid::ORGANIZATIONALUNITNAME);
    entries.map(|e| e.data().to_string().map(|s| s.to_string()).unwrap_or_default()).collect()
}

fn usage(cert: &X509Ref) -> Vec<&'static str> {
    let signs = cert.key_usage().is_some_and(|usage| usage.contains(X509KeyUsage::KEY_CERT_SIGN));
    if cert.pathlen().is_some() || signs {
        return vec!["ca"];
    }
    let Some(usage) = cert.extended_key_usage() else { return vec!["any"] };
    let known = [(X509ExtendedKeyUsage::SSL_SERVER, "server"), (X509ExtendedKeyUsage::SSL_CLIENT, "client")];
    let mut found: Vec<_> = known.iter().filter(|(bit, _)| usage.contains(*bit)).map(|(_, w)| *w).collect();
    if found.is_empty() {
        found.push("other");
    }
    found
}

fn names(cert: &X509Ref) -> Vec<String> {
    let address = |bytes: &[u8]| match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|b| std::net::Ipv4Addr::from(b).to_string()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|b| std::net::Ipv6Addr::from(b).to_string()),
        _ => None,
    };
    let all = cert.subject_alt_names();
    let name = |n: &openssl::x509::GeneralNameRef| {
        n.dnsname().map(str::to_owned).or_else(|| n.ipaddress().and_then(address))
    };
    all.iter().flatten().filter_map(name).collect()
}

fn problem(cert: &X509, revoked: bool, node: Option<&Node>, now: i64) -> Option<String> {
    if revoked {
        return Some("it is revoked".to_owned());
    }
    if let Some(node) = node {
        return match inspect::issued(cert, &node.cas, now) {
            Ok(()) => None,
            Err(why) => Some(why.to_string()),
        };
    }
    // Without a CA only the time can be judged.
    match (inspect::unix(cert.not_before()), inspect::unix(cert.not_after())) {
        (Some(from), Some(to)) if from <= now && now <= to => None,
        (Some(from), Some(_)) if now < from => Some("it is not yet valid".to_owned()),
        _ => Some("it has expired".to_owned()),
    }
}

fn time(seconds: Option<i64>) -> String {
    let time = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "?".to_owned(), |time| time.to_string())
}
