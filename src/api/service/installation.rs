//! Installations and builds in threads of their own, and the calls that hear of them.

use std::future::poll_fn;
use std::task::ready;

use futures_channel::{mpsc, oneshot};
use futures_util::{SinkExt, StreamExt};
use grpcio::{DuplexSink, RpcStatus, RpcStatusCode, WriteFlags};
use protobuf::MessageFull;

use crate::api::limits::CallPermit;
use crate::api::{bridge, status};
use crate::daemon::command::{Caller, CommandError, CommandSender, Gone};

/// Events that wait for a client. One that reads more slowly misses some of them.
const EVENTS: usize = 64;

pub(super) type Outcome<T> = Result<T, RpcStatus>;

/// The messages of a streaming call.
pub(super) struct Messages<E, T, N, M> {
    /// The message about an event.
    pub(super) event: fn(E) -> M,
    /// The last message where it succeeds.
    pub(super) result: fn(T) -> M,
    /// The last message where it fails, by the name of what was to be made and the reason.
    pub(super) failure: fn(&N, &str) -> M,
}

/// Something that is being made for a streaming call.
pub(super) struct Begun<E, T, N> {
    /// The name of what is made.
    name: N,
    /// The maker hears when this is dropped.
    _waits: oneshot::Sender<()>,
    events: mpsc::Receiver<E>,
    made: oneshot::Receiver<Outcome<T>>,
}

impl<E: Send + 'static, T, N> Begun<E, T, N> {
    /// Has `make` begin, with a caller that can go and the way for events.
    ///
    /// # Errors
    /// What `make` refuses.
    pub(super) fn new(
        name: N,
        commands: CommandSender,
        make: impl FnOnce(Caller, Box<dyn FnMut(E) + Send>) -> Outcome<oneshot::Receiver<Outcome<T>>>,
    ) -> Outcome<Self> {
        let (mut tell, events) = mpsc::channel(EVENTS);
        let (waits, gone) = oneshot::channel();
        let caller = Caller { commands, gone: Gone::Told(gone) };
        let made = make(caller, Box::new(move |event| drop(tell.try_send(event))))?;
        Ok(Begun { name, _waits: waits, events, made })
    }

    /// Tells the client of it up to its end.
    pub(super) async fn report<M: MessageFull>(
        mut self,
        permit: CallPermit,
        mut sink: DuplexSink<M>,
        messages: Messages<E, T, N, M>,
    ) {
        if let Err(gone) = forward(&mut self.events, &mut sink, messages.event).await {
            // An installation goes on without its client, a build does not.
            permit.note_refusal(&RpcStatus::new(RpcStatusCode::CANCELLED));
            return bridge::note(Err(gone));
        }
        let made = ended(self.made.await).map(messages.result);
        permit.settle(made.as_ref()).await;
        bridge::note(match made {
            Ok(made) => match sink.send((made, WriteFlags::default())).await {
                Ok(()) => sink.close().await,
                gone => gone,
            },
            Err(status) => {
                let told = (messages.failure)(&self.name, status.message());
                let _ = sink.send((told, WriteFlags::default())).await;
                sink.fail(status).await
            }
        });
    }
}

/// Sends events to the client until there are no more. While there is none, the call itself is polled, so that a client that
/// disconnects is noticed at once.
async fn forward<E, M>(
    events: &mut mpsc::Receiver<E>,
    sink: &mut DuplexSink<M>,
    message: impl Fn(E) -> M,
) -> grpcio::Result<()> {
    loop {
        let event = poll_fn(|cx| {
            ready!(sink.poll_flush_unpin(cx))?;
            ready!(sink.poll_ready_unpin(cx))?;
            events.poll_next_unpin(cx).map(Ok::<_, grpcio::Error>)
        });
        match event.await? {
            Some(event) => sink.start_send_unpin((message(event), WriteFlags::default()))?,
            None => return Ok(()),
        }
    }
}

/// Runs this on a thread of its own, whose outcome comes behind.
pub(super) fn on_a_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T, CommandError> + Send + 'static,
) -> Outcome<oneshot::Receiver<Outcome<T>>> {
    let (done, outcome) = oneshot::channel();
    let work = move || drop(done.send(work().map_err(|e| status::of_command(&e))));
    let thread = std::thread::Builder::new().name(name.into()).spawn(work);
    thread.map_err(|why| {
        status::new(RpcStatusCode::RESOURCE_EXHAUSTED, &format!("cannot start a thread: {why}; try again"))
    })?;
    Ok(outcome)
}

/// The thread sends its outcome, whatever it is.
pub(super) fn ended<T>(outcome: Result<Outcome<T>, oneshot::Canceled>) -> Outcome<T> {
    let lost = || status::new(RpcStatusCode::INTERNAL, "the installation was lost; try again");
    outcome.unwrap_or_else(|_| Err(lost()))
}
