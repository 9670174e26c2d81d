//! Attach: a client sends the standard input of a job, or of a command in one.
//!
//! Each message is taken when the one before is accepted, so HTTP/2 flow control stops a client whose program does not read.
//! A lost client is not the end of an input: the next one goes on behind the bytes that were accepted.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use futures_util::{SinkExt, StreamExt};
use grpcio::{DuplexSink, RequestStream, RpcContext, RpcStatus, RpcStatusCode, WriteFlags};
use protobuf::Message;

use super::Jobs;
use crate::api::bridge;
use crate::api::convert::attach::{self, Opened, Sent};
use crate::api::limits::{CallPermit, Kind};
use crate::api::{status, streams};
use crate::daemon::command::Command;
use crate::diag::{Level, limited};
use crate::input::{Attachment, InputError, Over};
use crate::pb::joblet::{AttachReq, AttachRes};

/// `None`: the client is gone.
type Carried<T> = Result<T, Option<RpcStatus>>;

/// An input that the client holds, bytes that it has, and what tells that the hold is over.
type Held = (Attachment, u64, oneshot::Receiver<Over>);

/// Serves a call to its end.
pub(super) fn serve(
    jobs: Jobs,
    ctx: &RpcContext<'_>,
    mut req: RequestStream<AttachReq>,
    mut sink: DuplexSink<AttachRes>,
) {
    let permit = jobs.call_limits.acquire(ctx, Kind::Stream);
    ctx.spawn(async move {
        let carried = async {
            let permit = permit?;
            let carried = async {
                let held = jobs.hold(&permit, &mut req).await?;
                carry(&permit, held, &mut req, &mut sink).await
            };
            let carried: Carried<()> = carried.await;
            let gone = RpcStatus::new(RpcStatusCode::CANCELLED);
            let end = carried.as_ref().map(|()| AttachRes::default_instance());
            permit.settle(end.map_err(|refused| refused.as_ref().unwrap_or(&gone))).await;
            carried
        };
        let carried: Carried<()> = carried.await;
        bridge::note(match carried {
            Ok(()) => sink.close().await,
            Err(Some(status)) => sink.fail(status).await,
            Err(None) => Err(grpcio::Error::RemoteStopped),
        });
    });
}

impl Jobs {
    /// Holds the input that the first message asks for.
    async fn hold(&self, permit: &CallPermit, messages: &mut RequestStream<AttachReq>) -> Carried<Held> {
        let first = self.first(permit, messages).await?;
        let Opened { job, exec, take_over } =
            attach::opened(first).map_err(|refusal| status::of_refusal(&refusal))?;
        let shown = format!("{job:?}");
        let command = Ok(move |answer| Command::OpenInput { job, exec, answer });
        let id = bridge::answered(bridge::ask(&self.commands, command)).await?;
        let held = self.inputs.attach(id, take_over).await.map_err(|why| Some(of_input(&why)))?;
        limited!(
            Level::Info,
            "client sends standard input",
            job = shown,
            peer = permit.address(),
            subject = permit.peer().subject()
        );
        Ok(held)
    }
}

/// Takes bytes until their end, or that of the hold.
async fn carry(
    permit: &CallPermit,
    (held, accepted, mut over): Held,
    messages: &mut RequestStream<AttachReq>,
    sink: &mut DuplexSink<AttachRes>,
) -> Carried<()> {
    let mut at = accepted;
    send(sink, attach::open_reply(at)).await?;
    loop {
        let message = match select(messages.next(), &mut over).await {
            Either::Left((Some(message), _)) => message.map_err(|_| None)?,
            // Its end of the call is not the end of the input.
            Either::Left((None, _)) => return Ok(()),
            Either::Right((Ok(Over::Closed), _)) => return send(sink, attach::closed()).await,
            Either::Right((Ok(Over::Taken), _)) => return send(sink, attach::taken()).await,
            Either::Right((Ok(Over::DaemonEnds) | Err(_), _)) => return Err(Some(streams::gone())),
        };
        permit.peer().check().map_err(Some)?;
        let sent = attach::sent(message).map_err(|refusal| status::of_refusal(&refusal))?;
        let is_end = matches!(sent, Sent::End);
        let taken = async {
            match sent {
                Sent::Data(offset, bytes) => held.write(offset, bytes).await,
                Sent::End => held.end(at).await,
            }
        };
        let taken = match select(pin!(taken), pin!(poll_fn(|cx| poll_gone(sink, cx)))).await {
            Either::Left((taken, _)) => taken,
            Either::Right(((), _)) => return Err(None),
        };
        match taken {
            Ok(accepted) => at = accepted,
            Err(InputError::NotOpen) => return send(sink, attach::closed()).await,
            Err(InputError::Taken) => return send(sink, attach::taken()).await,
            Err(why) => {
                let status = of_input(&why);
                permit.log_shortage(&status);
                return Err(Some(status));
            }
        }
        send(sink, attach::ack(at)).await?;
        if is_end {
            return Ok(());
        }
    }
}

async fn send(sink: &mut DuplexSink<AttachRes>, message: AttachRes) -> Carried<()> {
    sink.send((message, WriteFlags::default())).await.map_err(|_| None)
}

/// Ready when the client is gone: the call itself is polled, because its messages are not taken meanwhile.
fn poll_gone(sink: &mut DuplexSink<AttachRes>, cx: &mut Context<'_>) -> Poll<()> {
    match ready!(sink.poll_flush_unpin(cx)).map(|()| sink.poll_ready_unpin(cx)) {
        Ok(Poll::Pending | Poll::Ready(Ok(()))) => Poll::Pending,
        Ok(Poll::Ready(Err(_))) | Err(_) => Poll::Ready(()),
    }
}

fn of_input(why: &InputError) -> RpcStatus {
    let code = match why {
        InputError::NotOpen | InputError::Held | InputError::Taken => RpcStatusCode::FAILED_PRECONDITION,
        InputError::Gap { .. } => RpcStatusCode::INVALID_ARGUMENT,
        InputError::NodeFull | InputError::Store(_) => RpcStatusCode::RESOURCE_EXHAUSTED,
        InputError::Closed => return streams::gone(),
    };
    status::new(code, &why.to_string())
}
