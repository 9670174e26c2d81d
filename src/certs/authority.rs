//! A CA and the certificates that it issues: X.509 v3, EC P-256, SHA-256, random serial numbers of 128 bits.

use std::net::IpAddr;

use openssl::{
    asn1::{Asn1Integer, Asn1IntegerRef, Asn1Time},
    bn::{BigNum, MsbOption},
    ec::{EcGroup, EcKey},
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    x509::{
        X509, X509Builder, X509CrlBuilder, X509CrlRef, X509Name, X509NameBuilder, X509Ref,
        X509RevokedBuilder,
        extension::{
            AuthorityKeyIdentifier, BasicConstraints, CrlNumber, ExtendedKeyUsage, KeyUsage,
            SubjectAlternativeName, SubjectKeyIdentifier,
        },
    },
};

use super::CertError;
use crate::job::Secret;

/// Ten years, in days.
const CA_DAYS: i64 = 3650;
/// The longest that TLS stacks of phones and browsers accept from private CAs, in days.
const LEAF_DAYS: i64 = 825;
/// Clocks of client and server may differ by so many seconds.
const BACKDATE: i64 = 300;
const DAY: i64 = 24 * 3600;

/// A certificate with its key, as PEM (the key in PKCS#8).
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate, PEM.
    pub cert: String,
    /// Its private key.
    pub key: Secret,
}

/// The role of a client, from the OU of its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Every call is allowed.
    Admin,
    /// Only reading calls are allowed.
    Viewer,
}

impl Role {
    /// The OU that stands for this role.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Viewer => "viewer",
        }
    }
}

/// A certificate authority that can issue.
pub struct Authority {
    cert: X509,
    key: PKey<Private>,
    days: i64,
}

impl Authority {
    /// Makes a new one, valid for ten years from `now` (Unix seconds).
    ///
    /// # Errors
    /// OpenSSL has no randomness or no P-256.
    pub fn create(now: i64) -> Result<Self, CertError> {
        let make = || {
            let key = new_key()?;
            let name = subject(&[(Nid::COMMONNAME, "Joblet CA"), (Nid::ORGANIZATIONNAME, "joblet")])?;
            let mut b = draft(&name, &key, now, CA_DAYS)?;
            b.set_issuer_name(&name)?;
            b.append_extension(BasicConstraints::new().critical().ca().pathlen(0).build()?)?;
            b.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
            let id = SubjectKeyIdentifier::new().build(&b.x509v3_context(None, None))?;
            b.append_extension(id)?;
            b.sign(&key, MessageDigest::sha256())?;
            Ok(Self { cert: b.build(), key, days: LEAF_DAYS })
        };
        make().map_err(|source| CertError::Make { what: "CA", source })
    }

    /// Loads a CA that exists.
    ///
    /// # Errors
    /// Not PEM, not a pair, or not a CA that is valid at `now` (Unix seconds).
    pub fn load(pair: &Pair, now: i64) -> Result<Self, CertError> {
        super::inspect::authority(&pair.cert, now)?;
        let cert =
            X509::from_pem(pair.cert.as_bytes()).map_err(|_| CertError::Parse { what: "CA certificate" })?;
        let key = PKey::private_key_from_pem(pair.key.expose().as_bytes())
            .map_err(|_| CertError::Parse { what: "CA key" })?;
        if !cert.public_key().is_ok_and(|public| public.public_eq(&key)) {
            return Err(CertError::MatchKey);
        }
        Ok(Self { cert, key, days: LEAF_DAYS })
    }

    /// The same, whose certificates are valid for so many days instead of 825.
    pub fn valid_for(self, days: u16) -> Self {
        Self { days: days.into(), ..self }
    }

    /// The CA's own certificate.
    pub fn cert(&self) -> &X509Ref {
        &self.cert
    }

    /// Certificate and key as PEM.
    ///
    /// # Errors
    /// OpenSSL cannot encode them.
    pub fn pair(&self) -> Result<Pair, CertError> {
        encode(&self.cert, &self.key).map_err(|source| CertError::Make { what: "CA", source })
    }

    /// A server certificate for `hosts`, names or addresses, and always for `joblet` and this host itself.
    ///
    /// # Errors
    /// A host that is neither a DNS name nor an address.
    pub fn server(&self, hosts: &[String], now: i64) -> Result<Pair, CertError> {
        for host in hosts {
            check_host(host)?;
        }
        let mut names = SubjectAlternativeName::new();
        names.dns("joblet").dns("localhost").ip("127.0.0.1").ip("::1");
        for host in hosts {
            match host.parse::<IpAddr>() {
                Ok(ip) => names.ip(&ip.to_string()),
                Err(_) => names.dns(host),
            };
        }
        let entries = [(Nid::COMMONNAME, "joblet-server"), (Nid::ORGANIZATIONNAME, "joblet")];
        self.issue(&entries, ExtendedKeyUsage::new().server_auth(), Some(names), now)
            .map_err(|source| CertError::Make { what: "server certificate", source })
    }

    /// A client certificate with subject `CN=<name>,OU=<role>,O=joblet`. The name has 1..64 bytes (RFC 5280).
    ///
    /// # Errors
    /// A name that OpenSSL does not take.
    pub fn client(&self, name: &str, role: Role, now: i64) -> Result<Pair, CertError> {
        let entries = [
            (Nid::COMMONNAME, name),
            (Nid::ORGANIZATIONALUNITNAME, role.name()),
            (Nid::ORGANIZATIONNAME, "joblet"),
        ];
        self.issue(&entries, ExtendedKeyUsage::new().client_auth(), None, now)
            .map_err(|source| CertError::Make { what: "client certificate", source })
    }

    fn issue(
        &self,
        entries: &[(Nid, &str)],
        usage: &ExtendedKeyUsage,
        names: Option<SubjectAlternativeName>,
        now: i64,
    ) -> Result<Pair, ErrorStack> {
        let key = new_key()?;
        let mut b = draft(&subject(entries)?, &key, now, self.days)?;
        b.set_issuer_name(self.cert.subject_name())?;
        b.append_extension(BasicConstraints::new().critical().build()?)?;
        b.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
        b.append_extension(usage.build()?)?;
        let context = b.x509v3_context(Some(&self.cert), None);
        let own = SubjectKeyIdentifier::new().build(&context)?;
        let issuer = AuthorityKeyIdentifier::new().keyid(true).build(&context)?;
        let names = names.map(|names| names.build(&context)).transpose()?;
        b.append_extension(own)?;
        b.append_extension(issuer)?;
        if let Some(names) = names {
            b.append_extension(names)?;
        }
        b.sign(&self.key, MessageDigest::sha256())?;
        encode(&b.build(), &key)
    }
}

impl Authority {
    /// A list of what is revoked: everything in `before`, and `serial` since `now` (Unix seconds). It is in force
    /// until another one takes its place, for as long as the CA is valid.
    ///
    /// # Errors
    /// OpenSSL cannot make it.
    pub fn revoke(
        &self,
        before: Option<&X509CrlRef>,
        serial: Option<&Asn1IntegerRef>,
        now: i64,
    ) -> Result<String, CertError> {
        let make = || {
            let mut list = X509CrlBuilder::new()?;
            list.set_issuer_name(self.cert.subject_name())?;
            list.set_last_update(Asn1Time::from_unix(now)?.as_ref())?;
            list.set_next_update(self.cert.not_after())?;
            for entry in before.and_then(|before| before.get_revoked()).into_iter().flatten() {
                list.add_revoked(entry.to_owned()?)?;
            }
            if let Some(serial) = serial {
                let mut entry = X509RevokedBuilder::new()?;
                entry.set_serial_number(serial)?;
                entry.set_revocation_date(Asn1Time::from_unix(now)?.as_ref())?;
                list.add_revoked(entry.build())?;
            }
            // RFC 5280, 5.2.3: each list has a greater number than the one before.
            let last = before.map(|before| before.extension::<CrlNumber>()).transpose()?.flatten();
            let mut number = last.map_or_else(BigNum::new, |(_, number)| number.to_bn())?;
            number.add_word(1)?;
            list.append_extension(CrlNumber::new(number)?.build()?)?;
            let nobody = X509Builder::new()?; // a subject that the context demands and nothing reads
            let context = nobody.x509v3_context(Some(&self.cert), None);
            list.append_extension(AuthorityKeyIdentifier::new().keyid(true).build(&context)?)?;
            list.sort()?;
            list.sign(&self.key, MessageDigest::sha256())?;
            list.build()?.to_pem()
        };
        let pem = make().map_err(|source| CertError::Make { what: "revocation list", source })?;
        Ok(String::from_utf8_lossy(&pem).into_owned())
    }
}

/// Everything that all certificates share, issuer and extensions apart.
fn draft(name: &X509Name, key: &PKey<Private>, now: i64, days: i64) -> Result<X509Builder, ErrorStack> {
    let mut b = X509Builder::new()?;
    b.set_version(2)?; // counts from zero: X.509 v3
    let mut serial = BigNum::new()?;
    serial.rand(128, MsbOption::MAYBE_ZERO, false)?;
    b.set_serial_number(Asn1Integer::from_bn(&serial)?.as_ref())?;
    b.set_subject_name(name)?;
    b.set_pubkey(key)?;
    b.set_not_before(Asn1Time::from_unix(now - BACKDATE)?.as_ref())?;
    b.set_not_after(Asn1Time::from_unix(now + days * DAY)?.as_ref())?;
    Ok(b)
}

fn subject(entries: &[(Nid, &str)]) -> Result<X509Name, ErrorStack> {
    let mut name = X509NameBuilder::new()?;
    for (nid, value) in entries {
        name.append_entry_by_nid(*nid, value)?;
    }
    Ok(name.build())
}

fn new_key() -> Result<PKey<Private>, ErrorStack> {
    PKey::from_ec_key(EcKey::generate(EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?.as_ref())?)
}

fn encode(cert: &X509, key: &PKey<Private>) -> Result<Pair, ErrorStack> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Pair { cert: text(cert.to_pem()?), key: Secret::new(text(key.private_key_to_pem_pkcs8()?)) })
}

/// DNS names as RFC 1123 writes them, or addresses. No wildcards: a node has a name.
pub(super) fn check_host(name: &str) -> Result<(), CertError> {
    let wrong = |why| Err(CertError::NameHost { name: name.into(), why });
    if name.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    if name.is_empty() || name.len() > 253 {
        return wrong("a host name has 1 to 253 bytes");
    }
    if name.contains("://") || name.contains('/') || name.contains(':') {
        return wrong("give the name or address alone, without scheme, port or path");
    }
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.split('.').all(label_ok) { Ok(()) } else { wrong("it is neither a DNS name nor an IP address") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn server_certificate_names_joblet_this_host_and_given_hosts() {
        let ca = Authority::create(NOW).unwrap();
        let hosts = ["node-1.example.org".to_string(), "10.0.0.7".into(), "fe80::1".into()];
        let cert = X509::from_pem(ca.server(&hosts, NOW).unwrap().cert.as_bytes()).unwrap();
        let names = cert.subject_alt_names().unwrap();
        let dns: Vec<_> = names.iter().filter_map(|n| n.dnsname()).collect();
        assert_eq!(dns, ["joblet", "localhost", "node-1.example.org"]);
        let ips: Vec<_> = names.iter().filter_map(|n| n.ipaddress()).map(<[u8]>::to_vec).collect();
        assert_eq!(ips.len(), 4);
        assert!(ips.contains(&vec![127, 0, 0, 1]) && ips.contains(&vec![10, 0, 0, 7]));
        assert_eq!(cert.version(), 2);
    }

    #[test]
    fn a_client_certificate_carries_its_role_as_the_only_ou() {
        let ca = Authority::create(NOW).unwrap();
        let cert = X509::from_pem(ca.client("viewer", Role::Viewer, NOW).unwrap().cert.as_bytes()).unwrap();
        let name = cert.subject_name();
        let parts: Vec<_> = name
            .entries()
            .map(|e| (e.object().nid().short_name().unwrap(), e.data().to_string().unwrap().to_string()))
            .collect();
        assert_eq!(parts, [("CN", "viewer".to_string()), ("OU", "viewer".into()), ("O", "joblet".into())]);
        assert_eq!(cert.version(), 2);
    }

    #[test]
    fn serial_numbers_are_random_and_large() {
        let ca = Authority::create(NOW).unwrap();
        let serial = || {
            let pem = ca.client("a", Role::Admin, NOW).unwrap().cert;
            X509::from_pem(pem.as_bytes()).unwrap().serial_number().to_bn().unwrap()
        };
        let (a, b) = (serial(), serial());
        assert_ne!(a, b);
        assert!(a.num_bits() > 64 && a.num_bits() <= 128 && !a.is_negative());
    }

    #[test]
    fn names_that_are_no_hosts_are_refused() {
        let long = "a".repeat(64);
        for host in [
            "",
            "a b",
            "-a",
            "a-",
            "a..b",
            "*.example.org",
            "https://x",
            "x:1",
            "x/y",
            "a,DNS:evil",
            "ä",
            &long,
        ] {
            assert!(check_host(host).is_err(), "{host}");
        }
        for host in ["a", "node_1", "n-1.example.org", "10.1.2.3", "::1"] {
            assert!(check_host(host).is_ok(), "{host}");
        }
    }

    #[test]
    fn an_authority_is_taken_up_again_only_as_a_whole() {
        let (ca, other) = (Authority::create(NOW).unwrap(), Authority::create(NOW).unwrap());
        let pair = ca.pair().unwrap();
        assert!(Authority::load(&pair, NOW).is_ok());
        let mixed = Pair { key: other.pair().unwrap().key, ..pair.clone() };
        assert!(matches!(Authority::load(&mixed, NOW), Err(CertError::MatchKey)));
        assert!(matches!(Authority::load(&pair, NOW + 3651 * DAY), Err(CertError::Expired)));
        let leaf = ca.client("a", Role::Admin, NOW).unwrap();
        assert!(matches!(Authority::load(&leaf, NOW), Err(CertError::Verify { .. })));
        assert!(!format!("{pair:?}").contains("PRIVATE"));
    }
}
