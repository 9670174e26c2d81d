//! From the headers of a call to its message, and how many calls a client may have open.
//!
//! grpcio hands a call over with its headers (`protos/stubs.rs` says why), so nothing has come of its message
//! when the role is checked and the call is counted. A client that opens calls and sends nothing, or sends one
//! byte a second, fills its own share and nobody else's.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use grpcio::{Error, RequestStream, RpcContext, RpcStatus, RpcStatusCode};

use super::access::{Access, Pass};
use super::status;
use super::strikes::Strikes;

/// Open calls of one client (log streams are counted apart): half of what the loop's queue holds.
const CALLS: usize = 512;
/// Open log streams of one client: half of all.
const STREAMS: usize = 2048;

/// What a call is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Answered once.
    Call,
    /// Answered as long as the job runs.
    Stream,
}

impl Kind {
    fn limit(self) -> (usize, &'static str) {
        match self {
            Kind::Call => (CALLS, "calls"),
            Kind::Stream => (STREAMS, "log streams"),
        }
    }
}

/// Open calls by client and kind. A client is a certificate: addresses cost nothing.
#[derive(Clone)]
pub(super) struct Shares {
    access: Access,
    clients: RandomState,
    open: Open,
    strikes: Strikes,
}

type Open = Arc<Mutex<HashMap<(u64, Kind), usize>>>;

impl Shares {
    /// Of the clients that `access` lets in.
    pub(super) fn new(access: Access) -> Self {
        Self { access, clients: RandomState::new(), open: Open::default(), strikes: Strikes::default() }
    }

    /// Counts a call until the share goes.
    ///
    /// # Errors
    /// The client has too many open already.
    pub(super) fn claim(&self, ctx: &RpcContext<'_>, kind: Kind) -> Result<Share, RpcStatus> {
        self.claim_for(self.access.pass(ctx), ctx.peer(), kind)
    }

    fn claim_for(&self, pass: Pass, peer: String, kind: Kind) -> Result<Share, RpcStatus> {
        let key = (self.clients.hash_one(pass.certificate()), kind);
        let (limit, what) = kind.limit();
        let mut open = lock(&self.open);
        let count = open.entry(key).or_default();
        if *count >= limit {
            drop(open);
            self.strikes.count(&peer);
            let text = format!("too many requests: this client has {limit} {what} open already; try again");
            return Err(status::new(RpcStatusCode::RESOURCE_EXHAUSTED, &text));
        }
        *count += 1;
        drop(open);
        Ok(Share { open: self.open.clone(), key, pass, peer, strikes: self.strikes.clone() })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One open call, counted as long as it lives.
pub(super) struct Share {
    open: Open,
    key: (u64, Kind),
    pass: Pass,
    peer: String,
    strikes: Strikes,
}

impl Share {
    /// Who calls.
    pub(super) fn pass(&self) -> Pass {
        self.pass.clone()
    }

    /// The one message of the call. The stream must live as long as the call: dropped earlier, it cancels it.
    ///
    /// # Errors
    /// No message, a part of one, or one that cannot be read, or the client was revoked while it came. Of a message that is too large C-core tells the
    /// client itself.
    pub(super) async fn message<Q>(&self, request: &mut RequestStream<Q>) -> Result<Q, RpcStatus> {
        let wrong = |text: &str| status::new(RpcStatusCode::INVALID_ARGUMENT, text);
        match request.next().await {
            Some(Ok(message)) => self.pass.check().map(|()| message),
            Some(Err(Error::Codec(why))) => Err(wrong(&format!("the request cannot be read: {why}"))),
            Some(Err(_)) | None => {
                self.strikes.count(&self.peer);
                Err(wrong("the request is incomplete"))
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::access::tests::Node;
    use super::*;

    #[test]
    fn a_client_has_its_own_share_of_each_kind_and_gets_it_back() {
        let access = Node::new().access();
        let shares = Shares::new(access.clone());
        let claim = |who: &str, kind| shares.claim_for(access.pass_of(who), String::new(), kind);
        let mut held: Vec<_> = (0..CALLS).map(|_| claim("greedy", Kind::Call).ok().unwrap()).collect();
        let refused = claim("greedy", Kind::Call).err().unwrap();
        assert_eq!(refused.code(), RpcStatusCode::RESOURCE_EXHAUSTED);
        assert!(refused.message().contains("this client has 512 calls open"), "{}", refused.message());
        assert!(claim("greedy", Kind::Stream).is_ok() && claim("other", Kind::Call).is_ok());
        held.pop();
        held.push(claim("greedy", Kind::Call).ok().unwrap());
        assert!(claim("greedy", Kind::Call).is_err());
        drop(held);
        assert!(lock(&shares.open).is_empty(), "a client without calls is forgotten");
    }
}
