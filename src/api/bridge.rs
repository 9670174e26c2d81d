//! The only place that knows both worlds: a gRPC call on one side, the loop's queue on the other.

use futures_channel::oneshot;
use grpcio::{RpcContext, RpcStatus, UnarySink};

use super::convert::Refusal;
use super::status;
use crate::daemon::commands::{Answer, Command, CommandError, Door};
use crate::diag::{Level, event};

/// A question that the loop has accepted, or why it was not put.
pub(super) type Asked<T> = Result<oneshot::Receiver<Result<T, CommandError>>, RpcStatus>;

/// Puts a question to the loop, unless the request was refused before. Never waits.
pub(super) fn ask<T>(door: &Door, command: Result<impl FnOnce(Answer<T>) -> Command, Refusal>) -> Asked<T> {
    let command = command.map_err(|refusal| status::of_refusal(&refusal))?;
    let (answer, asked) = oneshot::channel();
    door.submit(command(answer)).map_err(|e| status::of_command(&e))?;
    Ok(asked)
}

/// Waits for the loop's answer.
pub(super) async fn answered<T>(asked: Asked<T>) -> Result<T, RpcStatus> {
    let answer = asked?.await;
    // The loop drops a question unanswered only when it ends.
    answer.unwrap_or(Err(CommandError::ShuttingDown)).map_err(|e| status::of_command(&e))
}

/// Answers a call when the loop has answered. The future keeps the reply until C-core has taken it.
pub(super) fn reply<T: Send + 'static, R: Send + 'static>(
    ctx: &RpcContext<'_>,
    sink: UnarySink<R>,
    asked: Asked<T>,
    convert: impl FnOnce(T) -> R + Send + 'static,
) {
    ctx.spawn(async move {
        let sent = match answered(asked).await {
            Ok(answer) => sink.success(convert(answer)).await,
            Err(status) => sink.fail(status).await,
        };
        note(sent);
    });
}

/// A reply that found no client is no trouble of ours, but helps whoever looks for it.
pub(super) fn note(sent: grpcio::Result<()>) {
    if let Err(why) = sent {
        event!(Level::Debug, "a client did not wait for its answer", why = why);
    }
}
