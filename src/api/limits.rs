//! The limit of open calls for each client, and the wait from a call's headers to its message.
//!
//! grpcio hands a call over with its headers (`protos/build/stubs.rs` says why), so nothing of its message has arrived when the
//! role is checked and the call is counted. A client that opens calls and sends nothing, or one byte a second, uses up
//! its own limit and no other client's.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_channel::oneshot;
use futures_util::StreamExt;
use grpcio::{Error, RequestStream, RpcContext, RpcStatus, RpcStatusCode};
use protobuf::{MessageDyn, MessageFull};

use super::abuse::AbuseCounter;
use super::access::{Access, Peer};
use super::recorded::Recorded;
use super::{auth, status};
use crate::audit::Audit;
use crate::exporter::Counts;
use crate::job::ClientId;
use crate::upload::ClientKey;

/// Most open calls of one client, without its streams: half of the loop's queue.
const CALLS: usize = 512;
/// Most open streams of one client: half of all streams.
const STREAMS: usize = 2048;

/// Most uploads that one client sends at one time.
const UPLOADS: usize = 8;

/// Most short calls of one client that are served at one time; its others wait in a queue of their own. Short calls come
/// by the thousand: in one queue of gRPC's only thread every client would wait for them.
const AT_ONCE: usize = 4;

/// The kind of a call, which decides how it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A call that changes something and is answered when that is done.
    Call,
    /// A call that only reads and is answered at once.
    Look,
    /// A call that is answered for as long as the job runs.
    Stream,
    /// A call that sends files for as long as they take, and has a thread.
    Upload,
}

impl Kind {
    fn limit(self) -> (usize, &'static str) {
        match self {
            Kind::Call | Kind::Look => (CALLS, "calls"),
            Kind::Stream => (STREAMS, "streams"),
            Kind::Upload => (UPLOADS, "uploads"),
        }
    }
}

/// The open calls by client and kind. A certificate identifies a client, because addresses cost nothing.
#[derive(Clone)]
pub(super) struct CallLimits {
    access: Access,
    open: Open,
    queues: Queues,
    abuse: AbuseCounter,
    counts: Counts,
    audit: Audit,
}

type Queues = Arc<Mutex<HashMap<ClientId, ClientQueue>>>;
type Open = Arc<Mutex<HashMap<(ClientId, Kind), usize>>>;

impl CallLimits {
    /// The limits of the clients that `access` trusts.
    pub(super) fn new(access: Access, counts: Counts, audit: Audit) -> Self {
        let (open, queues, abuse) = (Open::default(), Queues::default(), AbuseCounter::default());
        Self { access, open, queues, abuse, counts, audit }
    }

    /// Counts a call for as long as its permit lives.
    ///
    /// # Errors
    /// The client has too many open calls of this kind.
    pub(super) fn acquire(&self, ctx: &RpcContext<'_>, kind: Kind) -> Result<CallPermit, RpcStatus> {
        let method = String::from_utf8_lossy(ctx.method()).into_owned();
        self.acquire_for(self.access.peer(ctx), Place { address: ctx.peer(), method }, kind)
    }

    fn acquire_for(&self, peer: Peer, place: Place, kind: Kind) -> Result<CallPermit, RpcStatus> {
        let key = (peer.client(), kind);
        let (limit, what) = kind.limit();
        let mut open = lock(&self.open);
        let count = open.entry(key).or_default();
        if *count >= limit {
            drop(open);
            self.abuse.count(&place.address);
            let text = format!("too many requests: this client has {limit} {what} open already; try again");
            let refused = status::new(RpcStatusCode::RESOURCE_EXHAUSTED, &text);
            peer.log_refusal(&place.address, &place.method, &refused);
            self.counts.answered(auth::known(&place.method), status::word(refused.code()));
            auth::note_refusal(&self.audit, peer, place.address, place.method, refused.clone());
            return Err(refused);
        }
        *count += 1;
        drop(open);
        let (open, queues, abuse) = (self.open.clone(), self.queues.clone(), self.abuse.clone());
        let answered =
            Answered { counts: self.counts.clone(), code: AtomicI32::new(RpcStatusCode::OK.into()) };
        let records = self.audit.is_on() && auth::is_recorded(&place.method);
        let recorded = records.then(|| Recorded::new(&self.audit, &peer, &place.address, &place.method));
        let audit = self.audit.clone();
        Ok(CallPermit { open, queues, key, peer, place, abuse, answered, audit, recorded })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The permit of one open call, counted for as long as it lives.
pub(super) struct CallPermit {
    open: Open,
    queues: Queues,
    key: (ClientId, Kind),
    peer: Peer,
    place: Place,
    abuse: AbuseCounter,
    answered: Answered,
    audit: Audit,
    /// Its lines in the audit trail; `None`: it has none.
    recorded: Option<Recorded>,
}

/// The answer of a call, which is counted with its end.
struct Answered {
    counts: Counts,
    code: AtomicI32,
}

impl Answered {
    fn get(&self) -> RpcStatusCode {
        RpcStatusCode::from(self.code.load(Ordering::Relaxed))
    }
}

/// Where a call comes from and what it wants, for the log.
struct Place {
    /// The connection, as C-core names it.
    address: String,
    /// The full name of the method.
    method: String,
}

impl CallPermit {
    /// Waits in the client's queue until the call may be served, where it is a short one.
    pub(super) async fn queue(&self) -> Option<QueuePermit> {
        match self.key.1 {
            Kind::Look => QueuePermit::next(&self.queues, self.key.0).await,
            Kind::Call | Kind::Stream | Kind::Upload => None,
        }
    }

    /// The client, to tell it from the others.
    pub(super) fn client(&self) -> ClientId {
        self.key.0
    }

    /// Notes that the call is answered by this status, and not by its reply.
    pub(super) fn note_refusal(&self, refused: &RpcStatus) {
        self.answered.code.store(refused.code().into(), Ordering::Relaxed);
    }

    /// Notes how the call ends, and waits until the audit trail has it. The client gets its answer afterwards.
    pub(super) async fn settle<R: MessageFull>(&self, outcome: Result<&R, &RpcStatus>) {
        if let Err(refused) = outcome {
            self.note_refusal(refused);
        }
        if let Some(recorded) = &self.recorded {
            let reply = outcome.ok().map(|reply| reply as &dyn MessageDyn);
            recorded.answer(self.answered.get(), reply).await;
        }
    }

    /// Logs that the call was refused, with its client.
    pub(super) fn log_refusal(&self, refused: &RpcStatus) {
        let Place { address, method } = &self.place;
        self.peer.log_refusal(address, method, refused);
        if refused.code() == RpcStatusCode::UNAUTHENTICATED {
            let (peer, address, method) = (self.peer.clone(), address.clone(), method.clone());
            auth::note_refusal(&self.audit, peer, address, method, refused.clone());
        }
    }

    /// The same for a refusal because of a bound; others are the client's own matter.
    pub(super) fn log_shortage(&self, refused: &RpcStatus) {
        if refused.code() == RpcStatusCode::RESOURCE_EXHAUSTED {
            self.log_refusal(refused);
        }
    }

    /// Counts against the connection that it makes others wait.
    pub(super) fn count_abuse(&self) {
        self.abuse.count(&self.place.address);
    }

    /// The connection, as C-core names it.
    pub(super) fn address(&self) -> &str {
        &self.place.address
    }

    /// The owner of uploads that the call makes or names.
    pub(super) fn owner(&self) -> ClientKey {
        ClientKey::of(self.peer.key())
    }

    /// The certificate of the client that makes the call.
    pub(super) fn peer(&self) -> Peer {
        self.peer.clone()
    }

    /// The one message of the call. The request stream must live as long as the call: dropped earlier, it cancels it.
    ///
    /// # Errors
    /// The message is missing, partial or cannot be read, or the client was revoked while it arrived. C-core itself
    /// reports a message that is too large to the client.
    pub(super) async fn message<Q: MessageFull>(
        &self,
        request: &mut RequestStream<Q>,
    ) -> Result<Q, RpcStatus> {
        let wrong = |text: &str| status::new(RpcStatusCode::INVALID_ARGUMENT, text);
        match request.next().await {
            Some(Ok(message)) => {
                self.peer.check().inspect_err(|refused| self.log_refusal(refused))?;
                if let Some(recorded) = &self.recorded {
                    recorded.request(&message).await.inspect_err(|refused| self.log_refusal(refused))?;
                }
                Ok(message)
            }
            Some(Err(Error::Codec(why))) => Err(wrong(&format!("the request cannot be read: {why}"))),
            Some(Err(_)) | None => {
                self.abuse.count(&self.place.address);
                Err(wrong("the request is incomplete"))
            }
        }
    }
}

/// The queue of one client's short calls.
#[derive(Default)]
struct ClientQueue {
    served: usize,
    /// The waiting calls, at most [`CALLS`].
    waiting: VecDeque<oneshot::Sender<QueuePermit>>,
}

/// The permit to serve one short call. When it is dropped, the client's next call gets it.
pub(super) struct QueuePermit {
    queues: Queues,
    client: ClientId,
}

impl QueuePermit {
    /// Waits for a permit of this client. `None` would mean that its queue is lost, which does not happen.
    async fn next(queues: &Queues, client: ClientId) -> Option<QueuePermit> {
        let wait = {
            let mut all = lock(queues);
            let queue = all.entry(client).or_default();
            if queue.served < AT_ONCE {
                queue.served += 1;
                return Some(QueuePermit { queues: queues.clone(), client });
            }
            let (turn, wait) = oneshot::channel();
            queue.waiting.push_back(turn);
            wait
        };
        wait.await.ok()
    }
}

impl Drop for QueuePermit {
    fn drop(&mut self) {
        let next = {
            let mut all = lock(&self.queues);
            let Some(queue) = all.get_mut(&self.client) else { return };
            let next = queue.waiting.pop_front();
            if next.is_none() {
                queue.served -= 1;
                if queue.served == 0 {
                    all.remove(&self.client);
                }
            }
            next
        };
        if let Some(next) = next {
            // Sent without the lock: a call that is gone drops it, which hands it to the next one.
            drop(next.send(QueuePermit { queues: self.queues.clone(), client: self.client }));
        }
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
        drop(open);
        let code = self.answered.get();
        if let Some(recorded) = &self.recorded {
            recorded.gone(code);
        }
        self.answered.counts.answered(auth::known(&self.place.method), status::word(code));
    }
}

#[cfg(test)]
mod tests {
    use super::super::access::tests::Node;
    use super::*;

    #[test]
    fn client_has_its_own_permits_of_each_kind_and_gets_them_back() {
        let access = Node::new().access();
        let limits = CallLimits::new(access.clone(), Counts::default(), Audit::default());
        let acquire = |client: &str, kind| {
            let place = Place { address: String::new(), method: String::new() };
            limits.acquire_for(access.peer_of(client), place, kind)
        };
        let mut held: Vec<_> = (0..CALLS).map(|_| acquire("greedy", Kind::Call).ok().unwrap()).collect();
        let refused = acquire("greedy", Kind::Call).err().unwrap();
        assert_eq!(refused.code(), RpcStatusCode::RESOURCE_EXHAUSTED);
        assert!(refused.message().contains("this client has 512 calls open"), "{}", refused.message());
        assert!(acquire("greedy", Kind::Stream).is_ok() && acquire("other", Kind::Call).is_ok());
        held.pop();
        held.push(acquire("greedy", Kind::Call).ok().unwrap());
        assert!(acquire("greedy", Kind::Call).is_err());
        drop(held);
        assert!(lock(&limits.open).is_empty(), "a client without calls is forgotten");
    }
    #[test]
    fn short_calls_of_a_client_are_served_a_few_at_a_time_in_order() {
        use futures_util::FutureExt;
        let queues = Queues::default();
        let mut served: Vec<_> = (0..AT_ONCE)
            .map(|_| QueuePermit::next(&queues, ClientId::new(1)).now_or_never().unwrap())
            .collect();
        let mut waiting: Vec<_> =
            (0..3).map(|_| Box::pin(QueuePermit::next(&queues, ClientId::new(1)))).collect();
        assert!(waiting.iter_mut().all(|turn| turn.as_mut().now_or_never().is_none()));
        assert!(
            QueuePermit::next(&queues, ClientId::new(2)).now_or_never().unwrap().is_some(),
            "another client does not wait"
        );
        served.pop();
        let first = waiting.remove(0).now_or_never().unwrap();
        assert!(first.is_some() && waiting[0].as_mut().now_or_never().is_none());
        // A call that is gone is skipped.
        drop(waiting.remove(0));
        served.pop();
        assert!(waiting.remove(0).now_or_never().unwrap().is_some());
        drop((served, first));
        assert!(lock(&queues).is_empty(), "a client without calls is forgotten");
    }
}
