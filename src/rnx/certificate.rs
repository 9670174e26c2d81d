//! The look at our own certificate when a server could not be reached with it. A refused TLS handshake tells the
//! client only "Socket closed"; this check finds the reason. Looking beforehand would cost every
//! command a tenth of its time.

use std::time::{SystemTime, UNIX_EPOCH};

use super::connect::Settings;
use super::error::{Error, Result};
use crate::certs::CertError;
use crate::certs::inspect::{self, Use};

/// Checks time, issuer, purpose and key of the client certificate.
pub(crate) fn check(settings: &Settings) -> Result<()> {
    // A clock before 1970 makes every certificate "not yet valid", which is what should be said then.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX));
    check_at(settings, now)
}

/// The role that our certificate names, `admin` or `viewer`; empty where it names none. The node decides by its own look.
pub(crate) fn role(settings: &Settings) -> String {
    let facts = inspect::read(&settings.cert).ok();
    facts.and_then(|facts| facts.units.into_iter().next()).unwrap_or_default()
}

fn check_at(settings: &Settings, now: i64) -> Result<()> {
    inspect::check(&settings.cert, &settings.key, &settings.ca, Use::Client, now).map(drop).map_err(|e| {
        let error = Error::Certify(e.to_string().into());
        match e {
            CertError::Expired => error
                .hint("`joblet certs issue` on the node makes a new one, `joblet setup --force` a whole set"),
            CertError::Verify { .. } => error.hint(
                "certificate and CA must come from the same `joblet setup`; is this the right node or --ca?",
            ),
            CertError::MatchKey => {
                error.hint("certificate and key must come from the same node entry, or --cert and --key")
            }
            _ => error,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::authority::{Authority, Role};

    const NOW: i64 = 1_800_000_000;

    fn settings() -> Settings {
        let ca = Authority::create(NOW).unwrap();
        let pair = ca.client("admin", Role::Admin, NOW).unwrap();
        Settings {
            host: "localhost".into(),
            port: 1,
            cert: pair.cert,
            key: pair.key,
            ca: ca.pair().unwrap().cert,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn expired_certificate_gives_the_reference_text_and_exit_code_3() {
        let e = check_at(&settings(), NOW + 900 * 86_400).unwrap_err();
        assert_eq!(e.to_string(), "certificate verify failed: certificate has expired");
        assert_eq!((e.code(), e.exit_code(None)), ("UNAUTHENTICATED", 3));
    }

    #[test]
    fn a_good_set_passes_and_mixed_ones_do_not() {
        let good = settings();
        assert!(check_at(&good, NOW).is_ok());
        let other = settings();
        assert!(check_at(&Settings { ca: other.ca, ..settings() }, NOW).unwrap_err().hint_text().is_some());
        assert!(
            check_at(&Settings { key: other.key, ..good }, NOW)
                .unwrap_err()
                .to_string()
                .contains("does not belong")
        );
    }
}
