//! Certificates that are refused before their validity ends: X.509 revocation lists (RFC 5280, section
//! 5), one PEM block for each CA.
//!
//! A real list and not a text file of our own: it is signed, so a file that was cut or damaged is noticed and
//! never taken for "nobody is revoked"; and lists of other CAs can be put in the same place. The cost: a
//! revocation needs the CA's key, as an issue does.

use std::{cmp::Ordering, path::Path};

use openssl::{
    asn1::Asn1IntegerRef,
    x509::{CrlStatus, X509, X509Crl, X509CrlRef, X509Ref},
};

use super::{CertError, files, inspect};

const BEGIN: &str = "-----BEGIN X509 CRL-----";
const END: &str = "-----END X509 CRL-----";
/// Far above any real list: half a million certificates.
const MOST_BYTES: u64 = 32 << 20;

/// All lists of a node. The default has none: no certificate is revoked.
#[derive(Default)]
pub struct Revocations(Vec<X509Crl>);

impl std::fmt::Debug for Revocations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Revocations({} certificates)", self.len())
    }
}

impl Revocations {
    /// Reads the lists of a file that no other user can replace. Each must be signed by one of the CAs.
    ///
    /// # Errors
    /// No file, one that others can write, no list in it, or one that is damaged or signed by another CA.
    pub fn load(path: &Path, ca_cert: &str) -> Result<Self, CertError> {
        let wrong = |why: String| CertError::ReadList { path: path.into(), why };
        let text = files::read_unshared(path, MOST_BYTES).map_err(|e| wrong(e.to_string()))?;
        Self::parse(&text, ca_cert).map_err(wrong)
    }

    fn parse(text: &str, ca_cert: &str) -> Result<Self, String> {
        let cas = inspect::certificates(ca_cert, "CA certificate").map_err(|e| e.to_string())?;
        let mut lists = Vec::new();
        for block in text.split(BEGIN).skip(1) {
            let Some((body, _)) = block.split_once(END) else { return Err("it is cut off".into()) };
            let list = X509Crl::from_pem(format!("{BEGIN}{body}{END}\n").as_bytes())
                .map_err(|_| "it is damaged: not an X.509 revocation list in PEM")?;
            if !cas.iter().any(|ca| signed_by(&list, ca)) {
                return Err("it is not signed by a CA of security.caCert, or was changed afterwards".into());
            }
            lists.push(list);
        }
        if lists.is_empty() {
            return Err("it holds no X.509 revocation list in PEM".into());
        }
        Ok(Self(lists))
    }

    /// Since when the certificate is revoked, Unix seconds; `None`: it is not.
    pub fn since(&self, cert: &X509) -> Option<i64> {
        self.0.iter().find_map(|list| since(list.get_by_cert(cert)))
    }

    /// The first list, to be continued by the CA that signed it.
    pub(super) fn first(&self) -> Option<&X509CrlRef> {
        self.0.first().map(AsRef::as_ref)
    }

    /// The same for a serial number alone.
    pub fn since_serial(&self, serial: &Asn1IntegerRef) -> Option<i64> {
        self.0.iter().find_map(|list| since(list.get_by_serial(serial)))
    }

    /// Entries in all lists.
    pub fn len(&self) -> usize {
        self.0.iter().filter_map(|list| list.get_revoked()).map(|entries| entries.len()).sum()
    }

    /// Whether no certificate is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a list says that there should be a newer one by `now` (Unix seconds). It counts nevertheless:
    /// what it revokes stays revoked.
    pub fn is_old(&self, now: i64) -> bool {
        self.0.iter().filter_map(|list| list.next_update().and_then(inspect::unix)).any(|next| next < now)
    }
}

fn since(status: CrlStatus<'_>) -> Option<i64> {
    match status {
        // A certificate stays revoked when its date cannot be read.
        CrlStatus::Revoked(entry) => Some(inspect::unix(entry.revocation_date()).unwrap_or(0)),
        CrlStatus::NotRevoked | CrlStatus::RemoveFromCrl(_) => None,
    }
}

fn signed_by(list: &X509CrlRef, ca: &X509Ref) -> bool {
    let names_it = list.issuer_name().try_cmp(ca.subject_name()).is_ok_and(|order| order == Ordering::Equal);
    names_it && ca.public_key().is_ok_and(|key| list.verify(&key).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::{super::authority::*, *};

    const NOW: i64 = 1_800_000_000;

    fn cert(pair: &Pair) -> X509 {
        X509::from_pem(pair.cert.as_bytes()).unwrap()
    }

    #[test]
    fn a_list_grows_by_one_and_keeps_what_was_on_it() {
        let ca = Authority::create(NOW).unwrap();
        let ca_cert = ca.pair().unwrap().cert;
        let clients: Vec<X509> = (0..3).map(|_| cert(&ca.client("a", Role::Admin, NOW).unwrap())).collect();
        let empty = ca.revoke(None, None, NOW).unwrap();
        assert!(Revocations::parse(&empty, &ca_cert).unwrap().is_empty());
        let mut text = empty;
        for (i, client) in clients.iter().take(2).enumerate() {
            let before = X509Crl::from_pem(text.as_bytes()).unwrap();
            text = ca.revoke(Some(&before), Some(client.serial_number()), NOW + i as i64).unwrap();
        }
        let list = Revocations::parse(&text, &ca_cert).unwrap();
        let since: Vec<_> = clients.iter().map(|client| list.since(client)).collect();
        assert_eq!((list.len(), since), (2, vec![Some(NOW), Some(NOW + 1), None]));
        assert!(!list.is_old(NOW) && list.is_old(NOW + 3651 * 86_400));
    }

    #[test]
    fn lists_of_two_cas_stand_in_one_file_and_a_strangers_does_not() {
        let (ca, other) = (Authority::create(NOW).unwrap(), Authority::create(NOW).unwrap());
        let client = cert(&ca.client("a", Role::Admin, NOW).unwrap());
        let both = format!("{}{}", ca.pair().unwrap().cert, other.pair().unwrap().cert);
        let texts = [&ca, &other].map(|ca| ca.revoke(None, Some(client.serial_number()), NOW).unwrap());
        assert_eq!(Revocations::parse(&texts.concat(), &both).unwrap().len(), 2);
        assert!(
            Revocations::parse(&texts.concat(), &ca.pair().unwrap().cert).is_err(),
            "one is a stranger's"
        );
    }

    #[test]
    fn a_file_that_others_can_change_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revoked.pem");
        let ca = Authority::create(NOW).unwrap();
        let ca_cert = ca.pair().unwrap().cert;
        std::fs::write(&path, ca.revoke(None, None, NOW).unwrap()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Revocations::load(&path, &ca_cert).is_ok());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let why = Revocations::load(&path, &ca_cert).unwrap_err().to_string();
        assert!(why.contains("others can change it (mode 0666); run: chmod go-w"), "{why}");
        let why = Revocations::load(Path::new("/nowhere"), &ca_cert).unwrap_err().to_string();
        assert!(why.starts_with("cannot read revocation list /nowhere: No such file"), "{why}");
    }
}
