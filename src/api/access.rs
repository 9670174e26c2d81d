//! The trust in clients: the CA, the revocation list, and the verdict of both on each certificate seen.
//!
//! TLS verifies a client's certificate when its connection begins. Connections live long, so every call verifies it
//! again with the current CA and list. [`Access::replace`] replaces both and rechecks every open stream ([`Peer`]).
//! Verdicts are kept for a minute, because reading a certificate takes half a millisecond of the only gRPC thread; not
//! for longer, because CAs expire too, and clocks are set.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use grpcio::{RpcContext, RpcStatus, RpcStatusCode, ServerCredentialsBuilder, ServerCredentialsFetcher};
use openssl::nid::Nid;
use openssl::sha::sha256;
use openssl::ssl::SslAcceptor;
use openssl::x509::{X509, X509Ref};

use super::role::Role;
use super::{ApiError, StreamPump, status, tls};
use crate::certs::describe::{subject, subject_and_serial};
use crate::certs::inspect;
use crate::certs::revocation::Revocations;
use crate::config::daemon::Security;
use crate::diag::{Level, limited};
use crate::forward::Relay;
use crate::job::ClientId;

/// The part of a good certificate that later checks need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// The client's role; `None` where the certificate names none.
    pub(super) role: Option<Role>,
    /// The last second of its validity, Unix time.
    pub(super) not_after: i64,
    /// The digest of its public key (SHA-256).
    pub(super) key: [u8; 32],
    /// Its words for people.
    pub(super) who: Arc<Who>,
}

/// A certificate in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Who {
    /// The subject of the certificate.
    pub(super) subject: String,
    /// The serial number, hexadecimal.
    pub(super) serial: String,
}

impl Who {
    fn of(cert: &X509Ref) -> Arc<Who> {
        let (subject, serial) = subject_and_serial(cert);
        Arc::new(Who { subject, serial })
    }
}

/// The reason why a certificate gives no identity, as errors state it.
type Refusal = String;

/// The CA and the revocation list, which decide on certificates.
#[derive(Debug, Default)]
struct Trust {
    cas: Vec<X509>,
    revoked: Revocations,
}

impl Trust {
    fn of(security: &Security) -> Result<Self, ApiError> {
        let cas = tls::certificates("caCert", &security.ca_cert)?;
        let revoked = match &security.revocation_list {
            None => Revocations::default(),
            Some(path) => Revocations::load(path, &security.ca_cert)
                .map_err(|why| ApiError::Credentials { key: "revocationList", why: why.to_string() })?,
        };
        Ok(Self { cas, revoked })
    }

    fn verify(&self, chain: &[u8], now: i64) -> Verdict {
        let unreadable = || "the client certificate cannot be read".to_owned();
        let certs = X509::stack_from_pem(chain).unwrap_or_default();
        let (cert, between) = certs.split_first().ok_or_else(unreadable)?;
        if let Some(since) = self.revoked.since(cert) {
            let since = jiff::Timestamp::from_second(since).unwrap_or_default();
            return Err(format!("the client certificate was revoked at {since}"));
        }
        inspect::client(cert, between, &self.cas, now).map_err(|e| e.to_string())?;
        identify(cert).ok_or_else(unreadable)
    }
}

/// The role and the end of a certificate.
pub(super) fn identify(cert: &X509Ref) -> Option<Identity> {
    let mut units = cert.subject_name().entries_by_nid(Nid::ORGANIZATIONALUNITNAME);
    let role = match (units.next(), units.next()) {
        // The bytes as they are signed: a text cut at a NUL would make "admin\0x" an admin.
        (Some(unit), None) => Role::from_unit(unit.data().as_slice()),
        _ => None,
    };
    let key = sha256(&cert.public_key().ok()?.public_key_to_der().ok()?);
    Some(Identity { role, not_after: inspect::unix(cert.not_after())?, key, who: Who::of(cert) })
}

/// Most certificates whose verdict is kept.
const REMEMBERED: usize = 256;
/// Seconds for which a verdict is kept.
const MEMORY: u64 = 60;

type Verdict = Result<Identity, Refusal>;

#[derive(Debug, Default)]
struct State {
    trust: Trust,
    /// Verdicts with their time, by the whole PEM text. A full map is emptied: the few certificates of a node are back
    /// after one call each, and a client with hundreds of them gains nothing by pushing others out.
    known: HashMap<Vec<u8>, (i64, Verdict)>,
    /// New credentials for the next connection.
    fresh: Option<Security>,
    /// The certificates in force.
    security: Security,
}

impl State {
    fn verify(&mut self, chain: &[u8]) -> Verdict {
        let now = unix_now();
        let identity = match self.known.get(chain) {
            Some((at, known)) if at.abs_diff(now) < MEMORY => known.clone(),
            _ => {
                if self.known.len() >= REMEMBERED {
                    self.known.clear();
                }
                let verified = self.trust.verify(chain, now);
                self.known.insert(chain.to_vec(), (now, verified.clone()));
                verified
            }
        }?;
        if now > identity.not_after {
            return Err("the client certificate has expired".into());
        }
        Ok(identity)
    }
}

fn examine(security: &Security) -> Result<(Trust, InForce), ApiError> {
    let server_until = tls::check(security)?;
    let trust = Trust::of(security)?;
    let (revoked, old_list) = (trust.revoked.len(), trust.revoked.is_old(unix_now()));
    Ok((trust, InForce { server_until, revoked, old_list }))
}

/// Checks certificates and revocation list as a start or a reload does.
///
/// # Errors
/// A certificate, key or list that cannot be used.
pub fn check(security: &Security) -> Result<InForce, ApiError> {
    examine(security).map(|(_, in_force)| in_force)
}

/// The current trust, shared by the check before every handler, the streams and the TLS handshakes.
#[derive(Clone)]
pub struct Access {
    state: Arc<Mutex<State>>,
    pump: StreamPump,
    relay: Relay,
}

/// A summary of the credentials that are in force after [`Access::replace`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// The last second of the server certificate's validity, Unix time.
    pub server_until: i64,
    /// The number of certificates on the revocation list.
    pub revoked: usize,
    /// Whether the list's date for a newer one has passed.
    pub old_list: bool,
}

impl Access {
    /// Takes the trust from `security`; `pump` ends the streams of clients that lose it, `relay` their connections.
    ///
    /// # Errors
    /// The same as those of [`Access::replace`].
    pub(super) fn new(
        security: &Security,
        pump: StreamPump,
        relay: Relay,
    ) -> Result<(Self, InForce), ApiError> {
        let access = Self { state: Arc::default(), pump, relay };
        let in_force = access.replace(security)?;
        Ok((access, in_force))
    }

    /// Replaces the certificates, the CA and the revocation list. Open connections stay open, also those with the
    /// previous server certificate, and each call on them is verified anew. Streams of clients that are no longer trusted
    /// end. It reads files, so neither the loop nor gRPC's thread may call it.
    ///
    /// # Errors
    /// A certificate, key or list cannot be used; then nothing changes.
    pub fn replace(&self, security: &Security) -> Result<InForce, ApiError> {
        let server_until = tls::check(security)?;
        let trust = Trust::of(security)?;
        let in_force = InForce {
            server_until,
            revoked: trust.revoked.len(),
            old_list: trust.revoked.is_old(unix_now()),
        };
        let fresh = Some(security.clone());
        let security = security.clone();
        *self.state() = State { trust, known: HashMap::new(), fresh, security };
        self.pump.recheck();
        self.relay.recheck();
        Ok(in_force)
    }

    /// An acceptor of TLS connections beside gRPC's, with the certificates that are in force.
    ///
    /// # Errors
    /// A certificate that has expired since.
    pub fn acceptor(&self) -> Result<SslAcceptor, ApiError> {
        let security = self.state().security.clone();
        tls::acceptor(&security)
    }

    /// Whether a client with this certificate (PEM) may see what every role may see.
    ///
    /// # Errors
    /// Why not.
    pub fn may_look(&self, pem: &[u8]) -> Result<(), String> {
        match self.state().verify(pem)?.role {
            Some(_) => Ok(()),
            None => Err("the client certificate has no role".to_owned()),
        }
    }

    /// The identity of the caller.
    pub(super) fn identify(&self, ctx: &RpcContext<'_>) -> Result<Identity, RpcStatus> {
        let (pem, _) = chain(ctx).map_err(refused)?;
        self.state().verify(&pem).map_err(|why| refused(&why))
    }

    /// The caller, to be checked again for as long as the call lasts.
    pub(super) fn peer(&self, ctx: &RpcContext<'_>) -> Peer {
        let (pem, first) = chain(ctx).unwrap_or_default();
        self.peer_with(pem, first)
    }

    fn peer_with(&self, pem: Vec<u8>, first: usize) -> Peer {
        // Not the certificate: anybody can change its signature so that it stays good (ECDSA), and a renewed one has the same
        // key. Calls of a client without an identity are refused.
        let identity = self.state().verify(&pem).ok();
        let key = identity.as_ref().map_or_else(|| sha256(&pem[..first]), |identity| identity.key);
        Peer { access: self.clone(), pem: pem.into(), first, key, identity }
    }

    /// The client with this certificate, as a caller.
    #[cfg(test)]
    pub(super) fn peer_of(&self, pem: &str) -> Peer {
        self.peer_with(pem.as_bytes().to_vec(), pem.len())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerCredentialsFetcher for Access {
    /// Called by C-core for each connection, on gRPC's thread. New credentials come with new keys for session tickets, so
    /// no earlier session is resumed.
    fn fetch(&self) -> Result<Option<ServerCredentialsBuilder>, Box<dyn Error>> {
        Ok(self.state().fresh.take().map(|security| tls::credentials(&security)))
    }
}

/// The client of a call, which may outlive the trust in it.
#[derive(Clone)]
pub(super) struct Peer {
    access: Access,
    pem: Arc<[u8]>,
    /// The number of bytes, at the beginning, that are the client's own certificate.
    first: usize,
    /// The digest of the client's public key.
    key: [u8; 32],
    /// The contents of its certificate; `None`: it was not good when the call began.
    identity: Option<Identity>,
}

impl Peer {
    /// Whether the client is still trusted.
    pub(super) fn check(&self) -> Result<(), RpcStatus> {
        self.access.state().verify(&self.pem).map(drop).map_err(|why| refused(&why))
    }

    /// The client, by the public key of its certificate.
    pub(super) fn client(&self) -> ClientId {
        ClientId::new(self.key.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The digest of the client's public key (SHA-256).
    pub(super) fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// The subject of the client's own certificate, as the log shows it.
    pub(super) fn subject(&self) -> String {
        subject(self.certificate()).unwrap_or_else(|| "none".to_owned())
    }

    /// The subject and the serial number of the client's own certificate.
    pub(super) fn who(&self) -> Arc<Who> {
        match &self.identity {
            Some(identity) => identity.who.clone(),
            None => X509::from_pem(self.certificate()).map(|cert| Who::of(&cert)).unwrap_or_default(),
        }
    }

    /// The name of the client's role.
    pub(super) fn role_word(&self) -> &'static str {
        Role::word(self.identity.as_ref().and_then(|identity| identity.role))
    }

    /// Logs a call that was refused. The certificate is only read for a line that is written.
    pub(super) fn log_refusal(&self, address: &str, method: &str, status: &RpcStatus) {
        let level = match status.code() {
            RpcStatusCode::UNAUTHENTICATED | RpcStatusCode::PERMISSION_DENIED => Level::Error,
            _ => Level::Warn,
        };
        let why = status.message();
        limited!(
            level,
            "request refused",
            peer = address,
            subject = self.subject(),
            method = method,
            why = why
        );
    }

    /// The client's own certificate, without those sent along with it: a client can send any.
    fn certificate(&self) -> &[u8] {
        &self.pem[..self.first]
    }
}

/// The client's certificate and those sent along with it, in PEM, and the number of bytes of the first.
fn chain(ctx: &RpcContext<'_>) -> Result<(Vec<u8>, usize), &'static str> {
    let peer = ctx.auth_context().ok_or("no peer information found")?;
    if !peer.peer_is_authenticated() {
        return Err("no TLS information found");
    }
    let property = |name| peer.into_iter().find(|p| p.name() == name).map(|p| p.value());
    let mut pem = property("x509_pem_cert").ok_or("no client certificate found")?.to_vec();
    let first = pem.len();
    // On the server's side (SSL_get_peer_cert_chain(3)) the chain holds the certificates between it and the CA, if any.
    pem.extend(property("x509_pem_cert_chain").unwrap_or_default());
    Ok((pem, first))
}

fn refused(why: &str) -> RpcStatus {
    status::new(RpcStatusCode::UNAUTHENTICATED, &format!("failed to extract client role: {why}"))
}

pub(super) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "access_tests.rs"]
pub(super) mod tests;
