//! Reads a certificate and checks whether the other side would accept it. This happens before a connection, because
//! the peer of a refused handshake sees only a closed socket.

use openssl::{
    asn1::{Asn1Time, Asn1TimeRef},
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    pkey::PKey,
    stack::Stack,
    x509::{
        X509, X509ExtendedKeyUsage, X509PurposeId, X509Ref, X509StoreContext, X509VerifyResult,
        store::X509StoreBuilder,
        verify::{X509VerifyFlags, X509VerifyParam},
    },
};

use super::CertError;
use crate::job::Secret;

/// The use of a certificate, by its extended key usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// By a client, to a server.
    Client,
    /// By a server, to clients.
    Server,
}

/// The fields of a certificate that joblet reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Common name; empty if it has none.
    pub name: String,
    /// Every OU, in order; a client that is to be accepted has one.
    pub units: Vec<String>,
    /// SHA-256 of the certificate, as colon-separated hex.
    pub fingerprint: String,
    /// Last moment of its validity, Unix seconds.
    pub not_after: i64,
}

/// Why a certificate without extended key usage is refused to clients: one of any other purpose would open the API.
const NO_USAGE: &str = "the certificate has no extended key usage clientAuth";

/// Checks a set as the other side would at `now` (Unix seconds): the certificate (with its chain, if more than
/// one is in the text) comes from the CA, is in its time and made for this use, and the key is its own.
///
/// # Errors
/// The first of these that is not so. An expired certificate is [`CertError::Expired`].
pub fn check(cert: &str, key: &Secret, ca: &str, use_: Use, now: i64) -> Result<Facts, CertError> {
    let chain = certificates(cert, "certificate")?;
    let [leaf, ..] = chain.as_slice() else { return Err(CertError::Parse { what: "certificate" }) };
    let key = PKey::private_key_from_pem(key.expose().as_bytes())
        .map_err(|_| CertError::Parse { what: "private key" })?;
    let purpose = match use_ {
        Use::Client => X509PurposeId::SSL_CLIENT,
        Use::Server => X509PurposeId::SSL_SERVER,
    };
    verify(leaf, &chain[1..], &certificates(ca, "CA certificate")?, Some(purpose), now)?;
    if use_ == Use::Client {
        is_for_clients(leaf)?;
    }
    if !leaf.public_key().is_ok_and(|public| public.public_eq(&key)) {
        return Err(CertError::MatchKey);
    }
    facts(leaf)
}

/// Checks that a client's certificate comes from one of the CAs, by way of `between` or directly, is in its time at
/// `now` (Unix seconds), and is made for clients. TLS made this check when the connection began, but for a certificate
/// without extended key usage, which OpenSSL accepts.
///
/// # Errors
/// [`CertError::Expired`], [`CertError::Verify`].
pub fn client(cert: &X509Ref, between: &[X509], cas: &[X509], now: i64) -> Result<(), CertError> {
    verify(cert, between, cas, Some(X509PurposeId::SSL_CLIENT), now)?;
    is_for_clients(cert)
}

/// OpenSSL takes a certificate without extended key usage for every purpose (RFC 5280, 4.2.1.12).
fn is_for_clients(cert: &X509Ref) -> Result<(), CertError> {
    match cert.extended_key_usage() {
        Some(usage) if usage.contains(X509ExtendedKeyUsage::SSL_CLIENT) => Ok(()),
        _ => Err(CertError::Verify { why: NO_USAGE.into() }),
    }
}

/// Checks that a certificate of any purpose comes from one of the CAs and is in its time at `now` (Unix seconds).
pub(super) fn issued(cert: &X509Ref, cas: &[X509], now: i64) -> Result<(), CertError> {
    verify(cert, &[], cas, None, now)
}

/// Unix seconds of a certificate's or list's time; `None`: OpenSSL cannot read it.
pub fn unix(time: &Asn1TimeRef) -> Option<i64> {
    let since_epoch = Asn1Time::from_unix(0).ok()?.diff(time).ok()?;
    Some(i64::from(since_epoch.days) * 86_400 + i64::from(since_epoch.secs))
}

/// The facts of the first certificate of a text, valid or not.
///
/// # Errors
/// It is not PEM.
pub fn read(cert: &str) -> Result<Facts, CertError> {
    facts(&certificates(cert, "certificate")?[0])
}

/// Checks that a certificate is a CA in its time.
pub(super) fn authority(cert: &str, now: i64) -> Result<(), CertError> {
    let chain = certificates(cert, "CA certificate")?;
    let [ca, ..] = chain.as_slice() else { return Err(CertError::Parse { what: "CA certificate" }) };
    if ca.pathlen().is_none() {
        return Err(CertError::Verify { why: "not a CA certificate".into() });
    }
    verify(ca, &[], &chain, None, now)
}

pub(super) fn certificates(pem: &str, what: &'static str) -> Result<Vec<X509>, CertError> {
    match X509::stack_from_pem(pem.as_bytes()) {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(CertError::Parse { what }),
    }
}

fn verify(
    leaf: &X509Ref,
    between: &[X509],
    roots: &[X509],
    purpose: Option<X509PurposeId>,
    now: i64,
) -> Result<(), CertError> {
    let outcome = || -> Result<X509VerifyResult, ErrorStack> {
        let mut param = X509VerifyParam::new()?;
        param.set_time(now);
        // As C-core does: a trusted CA needs no issuer above it.
        param.set_flags(X509VerifyFlags::PARTIAL_CHAIN | X509VerifyFlags::TRUSTED_FIRST)?;
        if let Some(purpose) = purpose {
            param.set_purpose(purpose)?;
        }
        let mut store = X509StoreBuilder::new()?;
        store.set_param(&param)?;
        for root in roots {
            store.add_cert(root.clone())?;
        }
        let mut chain = Stack::new()?;
        for cert in between {
            chain.push(cert.clone())?;
        }
        let mut context = X509StoreContext::new()?;
        context.init(&store.build(), leaf, &chain, |c| {
            c.verify_cert()?;
            Ok(c.error())
        })
    };
    // X509_V_ERR_CERT_HAS_EXPIRED of x509_vfy.h.
    const EXPIRED: i32 = 10;
    match outcome() {
        Ok(X509VerifyResult::OK) => Ok(()),
        Ok(result) if result.as_raw() == EXPIRED => Err(CertError::Expired),
        Ok(result) => Err(CertError::Verify { why: result.error_string().into() }),
        Err(source) => Err(CertError::Make { what: "chain of certificates", source }),
    }
}

fn facts(cert: &X509Ref) -> Result<Facts, CertError> {
    let texts = |nid| -> Vec<String> {
        let entries = cert.subject_name().entries_by_nid(nid);
        entries.map(|e| e.data().to_string().map(|s| s.to_string()).unwrap_or_default()).collect()
    };
    let read = || -> Result<Facts, ErrorStack> {
        let hex =
            cert.digest(MessageDigest::sha256())?.iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>();
        Ok(Facts {
            name: texts(Nid::COMMONNAME).into_iter().next().unwrap_or_default(),
            units: texts(Nid::ORGANIZATIONALUNITNAME),
            fingerprint: hex.join(":"),
            not_after: unix(cert.not_after()).unwrap_or(0),
        })
    };
    read().map_err(|_| CertError::Parse { what: "certificate" })
}

#[cfg(test)]
mod tests {
    use super::{super::authority::*, *};

    const NOW: i64 = 1_800_000_000;
    const DAY: i64 = 86_400;

    struct Set {
        ca: Authority,
        ca_cert: String,
        admin: Pair,
    }

    fn set() -> Set {
        let ca = Authority::create(NOW).unwrap();
        Set { ca_cert: ca.pair().unwrap().cert, admin: ca.client("admin", Role::Admin, NOW).unwrap(), ca }
    }

    fn refusal(pair: &Pair, ca: &str, use_: Use, now: i64) -> String {
        check(&pair.cert, &pair.key, ca, use_, now).unwrap_err().to_string()
    }

    #[test]
    fn a_good_set_is_described() {
        let s = set();
        let facts = check(&s.admin.cert, &s.admin.key, &s.ca_cert, Use::Client, NOW).unwrap();
        assert_eq!(
            (facts.name.as_str(), facts.units.as_slice()),
            ("admin", ["admin".to_string()].as_slice())
        );
        assert_eq!(facts.not_after, NOW + 825 * DAY);
        assert_eq!(facts.fingerprint.len(), 32 * 3 - 1);
    }

    #[test]
    fn an_expired_certificate_is_refused_in_the_documented_words() {
        let s = set();
        assert_eq!(
            refusal(&s.admin, &s.ca_cert, Use::Client, NOW + 826 * DAY),
            "certificate verify failed: certificate has expired"
        );
        assert_eq!(
            refusal(&s.admin, &s.ca_cert, Use::Client, NOW - DAY),
            "certificate verify failed: certificate is not yet valid"
        );
    }

    #[test]
    fn a_certificate_of_another_ca_is_refused() {
        let (s, other) = (set(), set());
        let why = refusal(&s.admin, &other.ca_cert, Use::Client, NOW);
        assert!(why.starts_with("certificate verify failed: "), "{why}");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let s = set();
        let mixed = Pair { key: s.ca.client("b", Role::Admin, NOW).unwrap().key, ..s.admin };
        assert_eq!(
            refusal(&mixed, &s.ca_cert, Use::Client, NOW),
            "the private key does not belong to the certificate"
        );
    }

    #[test]
    fn server_and_client_certificates_are_not_interchangeable() {
        let s = set();
        let server = s.ca.server(&[], NOW).unwrap();
        assert!(check(&server.cert, &server.key, &s.ca_cert, Use::Server, NOW).is_ok());
        for (pair, use_) in [(&server, Use::Client), (&s.admin, Use::Server)] {
            let why = refusal(pair, &s.ca_cert, use_, NOW);
            assert!(why.contains("purpose"), "{why}");
        }
    }

    #[test]
    fn texts_that_are_not_pem_are_named() {
        let s = set();
        let check = |cert: &str, key: &str, ca: &str| {
            check(cert, &Secret::new(key), ca, Use::Client, NOW).unwrap_err().to_string()
        };
        let key = s.admin.key.expose();
        assert_eq!(check("", key, &s.ca_cert), "cannot read the certificate: it is not valid PEM");
        assert_eq!(check(&s.admin.cert, "x", &s.ca_cert), "cannot read the private key: it is not valid PEM");
        assert_eq!(check(&s.admin.cert, key, "x"), "cannot read the CA certificate: it is not valid PEM");
        assert_eq!(check(key, key, &s.ca_cert), "cannot read the certificate: it is not valid PEM");
    }
}
