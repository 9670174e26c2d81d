//! GetJobLogs: from the stream's queue onto the wire, as fast as the client reads.

use std::task::Poll;

use futures_util::stream::poll_fn;
use futures_util::{SinkExt, StreamExt};
use grpcio::{RpcStatus, RpcStatusCode, ServerStreamingSink, WriteFlags};

use crate::api::bridge::{self, Asked};
use crate::api::pump::{self, Item, LogPump, LogStream};
use crate::daemon::commands::LogSource;
use crate::pb::joblet::DataChunk;

/// The whole call.
pub(super) async fn follow(pump: LogPump, asked: Asked<LogSource>, sink: ServerStreamingSink<DataChunk>) {
    let opened = bridge::answered(asked).await.and_then(|source| pump.open(source));
    bridge::note(match opened {
        Ok(stream) => send(stream, sink).await,
        Err(status) => sink.fail(status).await,
    });
}

/// Sends chunks until the end. While there is none, the call itself is polled, so that a client that goes is
/// noticed at once.
async fn send(mut stream: LogStream, mut sink: ServerStreamingSink<DataChunk>) -> grpcio::Result<()> {
    let mut end = None;
    let chunks = poll_fn(|cx| match stream.poll_item(cx) {
        // Without a buffer hint: C-core would keep the last line of a quiet job until the next one.
        Poll::Ready(Some(Item::Chunk(chunk))) => Poll::Ready(Some(Ok((chunk, WriteFlags::default())))),
        Poll::Ready(Some(Item::End(status))) => {
            end = Some(status);
            Poll::Ready(None)
        }
        Poll::Ready(None) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    });
    sink.send_all(&mut chunks.fuse()).await?;
    let status: RpcStatus = end.unwrap_or_else(pump::gone);
    if status.code() == RpcStatusCode::OK { sink.close().await } else { sink.fail(status).await }
}
