use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::x509::X509NameBuilder;

use super::*;
use crate::certs::authority::{Authority, Pair};
use crate::job::Secret;

/// A self-signed certificate with these OUs that is valid until `not_after`.
fn pem(units: &[&str], not_after: i64) -> Vec<u8> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, "somebody").unwrap();
    for unit in units {
        name.append_entry_by_nid(Nid::ORGANIZATIONALUNITNAME, unit).unwrap();
    }
    let name = name.build();
    let mut cert = X509::builder().unwrap();
    cert.set_version(2).unwrap();
    cert.set_serial_number(&Asn1Integer::from_bn(&BigNum::from_u32(1).unwrap()).unwrap()).unwrap();
    cert.set_subject_name(&name).unwrap();
    cert.set_issuer_name(&name).unwrap();
    cert.set_pubkey(&key).unwrap();
    cert.set_not_before(&Asn1Time::from_unix(1_000_000).unwrap()).unwrap();
    cert.set_not_after(&Asn1Time::from_unix(not_after).unwrap()).unwrap();
    cert.sign(&key, MessageDigest::sha256()).unwrap();
    cert.build().to_pem().unwrap()
}

fn read(pem: &[u8]) -> Option<Identity> {
    identify(&X509::from_pem(pem).unwrap())
}

fn role(units: &[&str]) -> Option<Role> {
    read(&pem(units, 4_000_000_000)).unwrap().role
}

#[test]
fn role_is_the_only_organisational_unit_compared_exactly() {
    assert_eq!(role(&["admin"]), Some(Role::Admin));
    assert_eq!(role(&["viewer"]), Some(Role::Viewer));
    for units in [
        &[][..],
        &["Admin"],
        &["admin "],
        &["admin\0x"],
        &["administrators"],
        &["root"],
        &["admin", "viewer"],
        &["viewer", "admin"],
        &["admin", "admin"],
    ] {
        assert_eq!(role(units), None, "{units:?}");
    }
}

#[test]
fn the_end_of_a_certificate_is_read_to_the_second() {
    for not_after in [1_000_001, 1_999_999_999, 4_102_444_799] {
        assert_eq!(read(&pem(&["admin"], not_after)).unwrap().not_after, not_after);
    }
}

/// A node's CA with its server's certificate and its list, in a directory of their own.
pub(in crate::api) struct Node {
    pub(in crate::api) ca: Authority,
    pub(in crate::api) security: Security,
    _dir: tempfile::TempDir,
}

impl Node {
    pub(in crate::api) fn new() -> Self {
        let ca = Authority::create(unix_now()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let server = ca.server(&[], unix_now()).unwrap();
        let security = Security {
            server_cert: server.cert,
            server_key: Secret::new(server.key.expose()),
            ca_cert: ca.pair().unwrap().cert,
            revocation_list: Some(dir.path().join("revoked.pem")),
        };
        let node = Node { ca, security, _dir: dir };
        node.revoke(None);
        node
    }

    pub(in crate::api) fn revoke(&self, pair: Option<&Pair>) {
        let cert = pair.map(|pair| X509::from_pem(pair.cert.as_bytes()).unwrap());
        let list = self.ca.revoke(None, cert.as_ref().map(|cert| cert.serial_number()), unix_now()).unwrap();
        std::fs::write(self.security.revocation_list.as_ref().unwrap(), list).unwrap();
    }

    pub(in crate::api) fn client(&self) -> Pair {
        self.ca.client("somebody", crate::certs::authority::Role::Viewer, unix_now()).unwrap()
    }

    pub(in crate::api) fn access(&self) -> Access {
        Access::new(&self.security, super::super::start_pump().unwrap(), Relay::start().unwrap()).unwrap().0
    }
}

impl Access {
    /// Makes a certificate expire at once.
    pub(in crate::api) fn end_now(&self, cert: &str) {
        let ended = Ok(Identity {
            role: Some(Role::Admin),
            not_after: unix_now() - 1,
            key: [0; 32],
            who: Arc::default(),
        });
        self.state().known.insert(cert.into(), (unix_now(), ended));
    }
}

fn refusal(access: &Access, pem: &[u8]) -> String {
    access.state().verify(pem).unwrap_err()
}

#[test]
fn reload_refuses_a_revoked_client_and_no_other_client() {
    let node = Node::new();
    let (access, one, other) = (node.access(), node.client(), node.client());
    assert_eq!(access.state().verify(one.cert.as_bytes()).unwrap().role, Some(Role::Viewer));
    node.revoke(Some(&one));
    assert!(access.state().verify(one.cert.as_bytes()).is_ok(), "not read yet");
    assert_eq!(access.replace(&node.security).unwrap().revoked, 1);
    assert!(refusal(&access, one.cert.as_bytes()).starts_with("the client certificate was revoked at 2"));
    assert!(access.state().verify(other.cert.as_bytes()).is_ok());
}

#[test]
fn clients_of_a_ca_that_was_replaced_are_refused() {
    let (node, next) = (Node::new(), Node::new());
    let (access, client) = (node.access(), node.client());
    assert!(access.state().verify(client.cert.as_bytes()).is_ok());
    access.replace(&next.security).unwrap();
    let why = refusal(&access, client.cert.as_bytes());
    assert!(why.starts_with("certificate verify failed: "), "{why}");
    assert!(access.state().verify(next.client().cert.as_bytes()).is_ok());
}

#[test]
fn unusable_credentials_leave_the_old_ones_in_force() {
    let (node, next) = (Node::new(), Node::new());
    let (access, client) = (node.access(), node.client());
    let list = |text: &str| std::fs::write(next.security.revocation_list.as_ref().unwrap(), text).unwrap();
    let whole = std::fs::read_to_string(next.security.revocation_list.as_ref().unwrap()).unwrap();
    for (text, expected) in [
        ("", "holds no X.509 revocation list"),
        (&whole[..whole.len() / 2], "it is cut off"),
        (&whole.replacen("MI", "AA", 1), "it is damaged"),
        (&node.ca.revoke(None, None, unix_now()).unwrap(), "it is not signed by a CA of security.caCert"),
    ] {
        list(text);
        let why = access.replace(&next.security).unwrap_err().to_string();
        assert!(why.starts_with("cannot use security.revocationList: ") && why.contains(expected), "{why}");
    }
    let mixed = Security { server_key: node.security.server_key.clone(), ..next.security.clone() };
    let why = access.replace(&mixed).unwrap_err().to_string();
    assert!(why.contains("security.serverKey: it does not belong to"), "{why}");
    assert!(access.state().verify(client.cert.as_bytes()).is_ok(), "the old CA is in force");
}

#[test]
fn invalid_certificates_are_refused_and_the_cache_is_bounded() {
    let access = Node::new().access();
    for i in 0..3 * REMEMBERED {
        let text = format!("-----BEGIN CERTIFICATE-----\nnonsense {i}\n-----END CERTIFICATE-----\n");
        assert_eq!(refusal(&access, text.as_bytes()), "the client certificate cannot be read");
        assert!(access.state().known.len() <= REMEMBERED);
    }
}

#[test]
fn cached_verdict_ends_with_the_certificate() {
    let node = Node::new();
    let (access, client) = (node.access(), node.client());
    access.end_now(&client.cert);
    assert_eq!(refusal(&access, client.cert.as_bytes()), "the client certificate has expired");
}

#[test]
fn cached_verdict_expires_with_age_and_when_the_clock_is_set() {
    let node = Node::new();
    let (access, client) = (node.access(), node.client());
    for at in [unix_now() - 61, unix_now() + 61] {
        access.state().known.insert(client.cert.clone().into(), (at, Err("the clock was wrong".into())));
        assert!(access.state().verify(client.cert.as_bytes()).is_ok());
    }
}
