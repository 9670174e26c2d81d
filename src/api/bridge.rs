//! The only place that knows both a gRPC call and the loop's queue of commands.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_channel::oneshot;
use futures_util::StreamExt;
use grpcio::{ClientStreamingSink, RequestStream, RpcContext, RpcStatus, RpcStatusCode};
use protobuf::MessageFull;

use super::convert::Refusal;
use super::limits::CallPermit;
use super::status;
use crate::daemon::command::{Answer, Command, CommandError, CommandSender};
use crate::diag::{Level, event};

/// The reply to a command that the loop has accepted, or the status that refuses it.
pub(super) type Asked<T> = Result<oneshot::Receiver<Result<T, CommandError>>, RpcStatus>;

/// Sends a command to the loop, unless the request was refused before. Never waits.
pub(super) fn ask<T>(
    commands: &CommandSender,
    command: Result<impl FnOnce(Answer<T>) -> Command, Refusal>,
) -> Asked<T> {
    let command = command.map_err(|refusal| status::of_refusal(&refusal))?;
    let (answer, asked) = oneshot::channel();
    commands.submit(command(answer)).map_err(|e| status::of_command(&e))?;
    Ok(asked)
}

/// Waits for the loop's reply.
pub(super) async fn answered<T>(asked: Asked<T>) -> Result<T, RpcStatus> {
    let answer = asked?.await;
    // The loop drops a command without a reply only when it ends.
    answer.unwrap_or(Err(CommandError::ShuttingDown)).map_err(|e| status::of_command(&e))
}

/// Answers a call. `put` converts its message into a command for the loop, and into the function that converts the
/// loop's reply. The future keeps the whole call until C-core has taken the reply.
pub(super) fn reply<Q: MessageFull, T: Send + 'static, R: MessageFull, C: FnOnce(T) -> R + Send>(
    ctx: &RpcContext<'_>,
    permit: Result<CallPermit, RpcStatus>,
    request: RequestStream<Q>,
    sink: ClientStreamingSink<R>,
    put: impl FnOnce(Q) -> (Asked<T>, C) + Send + 'static,
) {
    serve(ctx, permit, request, sink, |message| {
        let (asked, convert) = put(message);
        async { Ok(convert(answered(asked).await?)) }
    });
}

/// Answers a call whose message decides which command the loop gets.
pub(super) fn serve<Q: MessageFull, R: MessageFull, F: Future<Output = Result<R, RpcStatus>> + Send>(
    ctx: &RpcContext<'_>,
    permit: Result<CallPermit, RpcStatus>,
    request: RequestStream<Q>,
    sink: ClientStreamingSink<R>,
    serve: impl FnOnce(Q) -> F + Send + 'static,
) {
    serve_client(ctx, permit, request, sink, |message, _| serve(message));
}

/// The client of a call that has no stream of replies.
pub(super) struct Client<Q>(Arc<Mutex<RequestStream<Q>>>);

impl<Q> Client<Q> {
    /// Whether it has gone. Nothing wakes a call of this kind then, so whoever has to know asks again and again.
    pub(super) fn has_gone(&self) -> bool {
        let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = requests.poll_next_unpin(&mut Context::from_waker(Waker::noop()));
        matches!(next, Poll::Ready(Some(Err(_))))
    }
}

/// The same for a call that takes so long that its client may go meanwhile.
pub(super) fn serve_client<
    Q: MessageFull,
    R: MessageFull,
    F: Future<Output = Result<R, RpcStatus>> + Send,
>(
    ctx: &RpcContext<'_>,
    permit: Result<CallPermit, RpcStatus>,
    mut request: RequestStream<Q>,
    mut sink: ClientStreamingSink<R>,
    serve: impl FnOnce(Q, Client<Q>) -> F + Send + 'static,
) {
    ctx.spawn(async move {
        let message = match &permit {
            Ok(permit) => permit.message(&mut request).await,
            Err(refused) => Err(refused.clone()),
        };
        // Kept to the end: without it the call is canceled.
        let request = Arc::new(Mutex::new(request));
        let client = Client(request.clone());
        let answer = async {
            let permit = permit?;
            let served = async {
                let message = message?;
                let queue_permit = permit.queue().await;
                let reply = serve(message, client).await;
                let reply = reply.inspect_err(|refused| permit.log_shortage(refused))?;
                Ok::<_, RpcStatus>((reply, queue_permit))
            };
            let served = served.await;
            permit.settle(served.as_ref().map(|(reply, _)| reply)).await;
            let (reply, queue_permit) = served?;
            Ok::<_, RpcStatus>((reply, permit, queue_permit))
        };
        note(match answer.await {
            Ok((reply, _permit, _queue_permit)) => sink.success(reply).await,
            Err(status) => {
                if status.code() == RpcStatusCode::RESOURCE_EXHAUSTED
                    && let Some(hint) = status::retry_after()
                {
                    sink.set_headers(hint);
                }
                sink.fail(status).await
            }
        });
    });
}

/// Logs a reply that found no client: no failure of the daemon, but useful for a diagnosis.
pub(super) fn note(sent: grpcio::Result<()>) {
    if let Err(why) = sent {
        event!(Level::Debug, "a client did not wait for its answer", why = why);
    }
}
