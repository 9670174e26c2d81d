//! The server's certificate and key, checked before C-core gets them. C-core reports no reason for a failed handshake, so
//! every problem that can be found beforehand is reported at start, with its configuration key.

use grpcio::{CertificateRequestType, ServerCredentialsBuilder};
use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslContext, SslMethod, SslOptions, SslSessionCacheMode, SslVerifyMode};
use openssl::x509::X509;

use super::ApiError;
use crate::certs::inspect;
use crate::config::daemon::Security;

/// The request for a client certificate. A fetcher passes it to C-core by itself and ignores that of [`credentials`].
pub(super) const CLIENTS: CertificateRequestType =
    CertificateRequestType::RequestAndRequireClientCertificateAndVerify;

/// Credentials from checked texts that demand a client certificate of our CA.
pub(super) fn credentials(security: &Security) -> ServerCredentialsBuilder {
    ServerCredentialsBuilder::new()
        .root_cert(security.ca_cert.as_bytes(), CLIENTS)
        .add_cert(security.server_cert.clone().into_bytes(), security.server_key.expose().as_bytes().to_vec())
}

/// An acceptor of TLS connections beside gRPC's: with the node's certificate, from clients with one of the CA. It keeps no
/// sessions, so each connection is judged anew.
///
/// # Errors
/// A text that cannot be used.
pub(super) fn acceptor(security: &Security) -> Result<SslAcceptor, ApiError> {
    let chain = certificates("serverCert", &security.server_cert)?;
    let cas = certificates("caCert", &security.ca_cert)?;
    let made = || -> Result<SslAcceptor, ErrorStack> {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
        let key = security.server_key.expose().as_bytes();
        builder.set_private_key(&*PKey::private_key_from_pem_callback(key, |_| Ok(0))?)?;
        builder.set_certificate(&chain[0])?;
        for between in chain.iter().skip(1) {
            builder.add_extra_chain_cert(between.clone())?;
        }
        for ca in cas {
            builder.cert_store_mut().add_cert(ca)?;
        }
        builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        builder.set_options(SslOptions::NO_TICKET);
        Ok(builder.build())
    };
    made().map_err(|why| wrong("serverCert", &format!("OpenSSL does not take it: {why}")))
}

/// Checks the server's certificate and key, and returns the last second of its validity, Unix time.
///
/// # Errors
/// A text is no PEM, a certificate has expired or is too weak, or the key does not match the certificate.
pub(super) fn check(security: &Security) -> Result<i64, ApiError> {
    let chain = certificates("serverCert", &security.server_cert)?;
    certificates("caCert", &security.ca_cert)?;
    let key = security.server_key.expose();
    text("serverKey", key)?;
    // Without the callback OpenSSL prompts on the terminal for the password of an encrypted key.
    let key = PKey::private_key_from_pem_callback(key.as_bytes(), |_| Ok(0))
        .map_err(|_| wrong("serverKey", "it is no private key in PEM without a password"))?;
    if !chain[0].public_key().is_ok_and(|public| public.public_eq(&key)) {
        return Err(wrong("serverKey", "it does not belong to security.serverCert"));
    }
    // The same calls as C-core's, which only logs a key or signature that OpenSSL refuses as weak.
    let used = || {
        let mut context = SslContext::builder(SslMethod::tls_server())?;
        context.set_certificate(&chain[0])?;
        context.set_private_key(&key)
    };
    used().map_err(|e| wrong("serverCert", &format!("OpenSSL does not take it: {e}")))?;
    inspect::unix(chain[0].not_after()).ok_or_else(|| wrong("serverCert", "its last day cannot be read"))
}

/// The certificates of a text: at least one, and none of them expired.
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

/// Refuses a NUL in a PEM text, which would end the text early in C-core.
fn text(key: &'static str, pem: &str) -> Result<(), ApiError> {
    if pem.contains('\0') { Err(wrong(key, "it contains a NUL character")) } else { Ok(()) }
}

fn wrong(key: &'static str, why: &str) -> ApiError {
    ApiError::Credentials { key, why: why.to_owned() }
}
