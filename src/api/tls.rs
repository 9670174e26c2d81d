//! The server's certificate and key, looked at before C-core gets them: what is wrong with a handshake is told
//! to nobody, so what can be known beforehand is said at start, with the key of the configuration.

use grpcio::{CertificateRequestType, ServerCredentialsBuilder};
use openssl::asn1::Asn1Time;
use openssl::pkey::PKey;
use openssl::ssl::{SslContext, SslMethod};
use openssl::x509::X509;

use super::ApiError;
use crate::certs::inspect;
use crate::config::daemon::Security;

/// How clients are asked for a certificate. What [`credentials`] says of it counts for nothing in a fetcher.
pub(super) const CLIENTS: CertificateRequestType =
    CertificateRequestType::RequestAndRequireClientCertificateAndVerify;

/// Credentials that demand a client certificate of our CA, of what was checked.
pub(super) fn credentials(security: &Security) -> ServerCredentialsBuilder {
    ServerCredentialsBuilder::new()
        .root_cert(security.ca_cert.as_bytes(), CLIENTS)
        .add_cert(security.server_cert.clone().into_bytes(), security.server_key.expose().as_bytes().to_vec())
}

/// Notifiers until when the server's certificate lasts, Unix time.
///
/// # Errors
/// A text that is no PEM, a certificate that has expired or is too weak, a key that is not the certificate's.
pub(super) fn check(security: &Security) -> Result<i64, ApiError> {
    let chain = certificates("serverCert", &security.server_cert)?;
    certificates("caCert", &security.ca_cert)?;
    let key = security.server_key.expose();
    text("serverKey", key)?;
    // Without the callback OpenSSL asks the terminal for the password of an encrypted key.
    let key = PKey::private_key_from_pem_callback(key.as_bytes(), |_| Ok(0))
        .map_err(|_| wrong("serverKey", "it is no private key in PEM without a password"))?;
    if !chain[0].public_key().is_ok_and(|public| public.public_eq(&key)) {
        return Err(wrong("serverKey", "it does not belong to security.serverCert"));
    }
    // What C-core does with it, which would only log what OpenSSL refuses: a weak key or signature.
    let used = || {
        let mut context = SslContext::builder(SslMethod::tls_server())?;
        context.set_certificate(&chain[0])?;
        context.set_private_key(&key)
    };
    used().map_err(|e| wrong("serverCert", &format!("OpenSSL does not take it: {e}")))?;
    inspect::unix(chain[0].not_after()).ok_or_else(|| wrong("serverCert", "its last day cannot be read"))
}

/// At least one certificate, none of them expired.
pub(super) fn certificates(key: &'static str, pem: &str) -> Result<Vec<X509>, ApiError> {
    text(key, pem)?;
    let all = X509::stack_from_pem(pem.as_bytes()).unwrap_or_default();
    if all.is_empty() {
        return Err(wrong(key, "it is no certificate in PEM"));
    }
    let now = Asn1Time::days_from_now(0).map_err(|e| wrong(key, &e.to_string()))?;
    match all.iter().find(|cert| cert.not_after() < now) {
        Some(old) => {
            let make =
                if key == "caCert" { "setup --dir DIR --force" } else { "certs issue --dir DIR --server" };
            let why = format!("it expired at {}; make a new one with: joblet {make}", old.not_after());
            Err(wrong(key, &why))
        }
        None => Ok(all),
    }
}

/// A NUL in a PEM text would end it early in C-core.
fn text(key: &'static str, pem: &str) -> Result<(), ApiError> {
    if pem.contains('\0') { Err(wrong(key, "it contains a NUL character")) } else { Ok(()) }
}

fn wrong(key: &'static str, why: &str) -> ApiError {
    ApiError::Credentials { key, why: why.to_owned() }
}
