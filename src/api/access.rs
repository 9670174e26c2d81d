//! Who is trusted at this moment: the CA, the list of the revoked, and what both say of each certificate seen.
//!
//! TLS has verified a client's certificate when its connection began. Connections live long, so the question is
//! asked again for every call, with the CA and the list of now: [`Access::replace`] puts new ones in their place
//! and has every open stream ask again ([`Peer`]). Answers are remembered for a minute, because reading a
//! certificate takes half a millisecond of the only gRPC thread; not for longer, because also CAs end, and clocks
//! are set.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use grpcio::{RpcContext, RpcStatus, RpcStatusCode, ServerCredentialsBuilder, ServerCredentialsFetcher};
use openssl::nid::Nid;
use openssl::x509::{X509, X509Ref};

use super::role::Role;
use super::{ApiError, StreamPump, status, tls};
use crate::certs::inspect;
use crate::certs::revocation::Revocations;
use crate::config::daemon::Security;

/// What is kept of a certificate that is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    /// `None`: the certificate gives none.
    pub(super) role: Option<Role>,
    /// Last second of its validity, Unix time.
    pub(super) not_after: i64,
}

/// Why a certificate gives no identity, in the words of errors.
type Refusal = String;

/// What decides.
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

/// Role and end of a certificate.
pub(super) fn identify(cert: &X509Ref) -> Option<Identity> {
    let mut units = cert.subject_name().entries_by_nid(Nid::ORGANIZATIONALUNITNAME);
    let role = match (units.next(), units.next()) {
        // The bytes as they are signed: a text that is cut at a NUL would make "admin\0x" an admin.
        (Some(unit), None) => Role::from_unit(unit.data().as_slice()),
        _ => None,
    };
    Some(Identity { role, not_after: inspect::unix(cert.not_after())? })
}

/// Certificates that are remembered.
const REMEMBERED: usize = 256;
/// Seconds for which they are.
const MEMORY: u64 = 60;

type Verdict = Result<Identity, Refusal>;

#[derive(Debug, Default)]
struct State {
    trust: Trust,
    /// When it was judged, and how, by the whole PEM text. When it is full it is emptied: the few certificates of a node are back after one
    /// call each, and whoever has hundreds of them gains nothing by pushing others out.
    known: HashMap<Vec<u8>, (i64, Verdict)>,
    /// For the next connection.
    fresh: Option<Security>,
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

/// Looks at certificates and list as a start or a reload would.
///
/// # Errors
/// What cannot be used.
pub fn check(security: &Security) -> Result<InForce, ApiError> {
    examine(security).map(|(_, in_force)| in_force)
}

/// Shared by the check before every handler, the streams and the TLS handshakes.
#[derive(Clone)]
pub struct Access {
    state: Arc<Mutex<State>>,
    pump: StreamPump,
}

/// What is in force after [`Access::replace`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// Last second of the server's certificate, Unix time.
    pub server_until: i64,
    /// Certificates on the revocation list.
    pub revoked: usize,
    /// The list says that there should be a newer one.
    pub old_list: bool,
}

impl Access {
    /// Trusts what `security` says, and has `pump` cut the streams of those who lose it.
    ///
    /// # Errors
    /// As [`Access::replace`].
    pub(super) fn new(security: &Security, pump: StreamPump) -> Result<(Self, InForce), ApiError> {
        let access = Self { state: Arc::default(), pump };
        let in_force = access.replace(security)?;
        Ok((access, in_force))
    }

    /// Puts other certificates, another CA and another list in the place of those in force. Connections that
    /// are open stay open, also to a server certificate that is replaced; each call on them is judged anew.
    /// Streams of clients that are not trusted any more end. Reads files: not for the loop nor gRPC's thread.
    ///
    /// # Errors
    /// Something cannot be used; then everything stays as it was.
    pub fn replace(&self, security: &Security) -> Result<InForce, ApiError> {
        let server_until = tls::check(security)?;
        let trust = Trust::of(security)?;
        let in_force = InForce {
            server_until,
            revoked: trust.revoked.len(),
            old_list: trust.revoked.is_old(unix_now()),
        };
        let fresh = Some(security.clone());
        *self.state() = State { trust, known: HashMap::new(), fresh };
        self.pump.recheck();
        Ok(in_force)
    }

    /// Who calls.
    pub(super) fn identify(&self, ctx: &RpcContext<'_>) -> Result<Identity, RpcStatus> {
        let (pem, _) = chain(ctx).map_err(refused)?;
        self.state().verify(&pem).map_err(|why| refused(&why))
    }

    /// Keeps who calls for as long as the call lasts.
    pub(super) fn peer(&self, ctx: &RpcContext<'_>) -> Peer {
        let (pem, first) = chain(ctx).unwrap_or_default();
        Peer { access: self.clone(), pem: pem.into(), first }
    }

    /// The same for the client with this certificate.
    #[cfg(test)]
    pub(super) fn peer_of(&self, pem: &str) -> Peer {
        Peer { access: self.clone(), pem: pem.as_bytes().into(), first: pem.len() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerCredentialsFetcher for Access {
    /// Asked by C-core for each connection, on gRPC's thread. New credentials come with new keys for session
    /// tickets: no session goes on from before.
    fn fetch(&self) -> Result<Option<ServerCredentialsBuilder>, Box<dyn Error>> {
        Ok(self.state().fresh.take().map(|security| tls::credentials(&security)))
    }
}

/// The client of a call that lasts.
#[derive(Clone)]
pub(super) struct Peer {
    access: Access,
    pem: Arc<[u8]>,
    /// Bytes of the client's own certificate, at the beginning.
    first: usize,
}

impl Peer {
    /// Whether the client is still trusted.
    pub(super) fn check(&self) -> Result<(), RpcStatus> {
        self.access.state().verify(&self.pem).map(drop).map_err(|why| refused(&why))
    }

    /// The client's certificate. What it has sent with it is left out: it can send anything.
    pub(super) fn certificate(&self) -> &[u8] {
        &self.pem[..self.first]
    }
}

/// The client's certificate and what it sent with it to its CA, in PEM; and how many bytes the first has.
fn chain(ctx: &RpcContext<'_>) -> Result<(Vec<u8>, usize), &'static str> {
    let peer = ctx.auth_context().ok_or("no peer information found")?;
    if !peer.peer_is_authenticated() {
        return Err("no TLS information found");
    }
    let property = |name| peer.into_iter().find(|p| p.name() == name).map(|p| p.value());
    let mut pem = property("x509_pem_cert").ok_or("no client certificate found")?.to_vec();
    let first = pem.len();
    // On our side of TLS (SSL_get_peer_cert_chain(3)) this is what stands between it and the CA, if anything.
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
