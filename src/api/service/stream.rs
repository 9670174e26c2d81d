//! Calls that a stream answers: from its queue to the client, as fast as the client reads.

use std::future::poll_fn;
use std::task::{Poll, ready};

use futures_util::SinkExt;
use grpcio::{DuplexSink, RequestStream, RpcStatus, RpcStatusCode, WriteFlags};
use protobuf::MessageFull;

use crate::api::StreamPump;
use crate::api::bridge::{self, Asked};
use crate::api::limits::CallPermit;
use crate::api::streams::{self, JobSource};
use crate::stream::{Queued, Source, StreamReader};

/// Serves the whole call. `put` converts its message into a command for the loop, and into the function that makes a
/// source of the loop's reply.
pub(super) async fn follow<
    Q: MessageFull,
    T,
    S: Source,
    M: Send + 'static,
    C: FnOnce(T) -> JobSource<S, M>,
>(
    pump: StreamPump,
    permit: Result<CallPermit, RpcStatus>,
    mut request: RequestStream<Q>,
    put: impl FnOnce(Q) -> (Asked<T>, C),
    sink: DuplexSink<M>,
) {
    let opened = async {
        let permit = permit?;
        let opened = async {
            let (asked, source) = put(permit.message(&mut request).await?);
            let source = source(bridge::answered(asked).await?);
            streams::open(&pump, source, permit.client().number(), permit.peer())
        };
        let reader = opened.await.inspect_err(|refused| permit.note_refusal(refused))?;
        Ok((reader, permit))
    };
    bridge::note(match opened.await {
        Ok((reader, permit)) => send(reader, sink, &permit).await,
        Err(status) => sink.fail(status).await,
    });
}

/// Serves the whole call. `open` makes the source of its message at once.
pub(super) async fn follow_source<Q: MessageFull, S: Source<Error = RpcStatus>>(
    pump: StreamPump,
    permit: Result<CallPermit, RpcStatus>,
    mut request: RequestStream<Q>,
    open: impl FnOnce(Q) -> Result<S, RpcStatus>,
    sink: DuplexSink<S::Item>,
) {
    let opened = async {
        let permit = permit?;
        let opened = async {
            let source = open(permit.message(&mut request).await?)?;
            streams::open_source(&pump, source, permit.client().number(), permit.peer())
        };
        let reader = opened.await.inspect_err(|refused| permit.note_refusal(refused))?;
        Ok((reader, permit))
    };
    bridge::note(match opened.await {
        Ok((reader, permit)) => send(reader, sink, &permit).await,
        Err(status) => sink.fail(status).await,
    });
}

/// Sends messages until the end, each when C-core has taken the one before. For a client that does not read, one message
/// waits here and one in the stream's queue. While no message exists, the call itself is polled, so that a client that
/// disconnects is noticed at once. A client that lost its permission and does not read is canceled with the sink.
async fn send<M>(
    mut reader: StreamReader<M, RpcStatus>,
    mut sink: DuplexSink<M>,
    permit: &CallPermit,
) -> grpcio::Result<()> {
    let sent = send_all(&mut reader, &mut sink).await;
    match sent {
        Ok(Ok(())) => sink.close().await,
        Ok(Err(status)) => {
            permit.note_refusal(&status);
            sink.fail(status).await
        }
        Err(gone) => {
            permit.note_refusal(&RpcStatus::new(RpcStatusCode::CANCELLED));
            Err(gone)
        }
    }
}

/// The same, up to the status that ends the stream.
async fn send_all<M>(
    reader: &mut StreamReader<M, RpcStatus>,
    sink: &mut DuplexSink<M>,
) -> grpcio::Result<Result<(), RpcStatus>> {
    loop {
        let item = poll_fn(|cx| {
            if reader.poll_canceled(cx).is_ready() {
                return Poll::Ready(Err(grpcio::Error::RemoteStopped));
            }
            ready!(sink.poll_flush_unpin(cx))?;
            ready!(sink.poll_ready_unpin(cx))?;
            reader.poll_item(cx).map(Ok::<_, grpcio::Error>)
        });
        match item.await? {
            // Without a buffer hint, with which C-core would keep the last line of a quiet job until the next one.
            Some(Queued::Item(message)) => sink.start_send_unpin((message, WriteFlags::default()))?,
            Some(Queued::End(Ok(()))) => return Ok(Ok(())),
            Some(Queued::End(Err(status))) => return Ok(Err(status)),
            None => return Ok(Err(streams::gone())),
        }
    }
}
