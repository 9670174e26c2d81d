//! GetJobLogs: from the stream's queue onto the wire, as fast as the client reads.

use std::future::poll_fn;
use std::task::{Poll, ready};

use futures_util::SinkExt;
use grpcio::{DuplexSink, RequestStream, RpcStatus, RpcStatusCode, WriteFlags};

use crate::api::bridge::{self, Asked};
use crate::api::intake::Share;
use crate::api::pump::{self, Item, LogPump, LogStream};
use crate::daemon::commands::LogSource;
use crate::pb::joblet::{DataChunk, GetJobLogsReq};

/// The whole call.
pub(super) async fn follow(
    pump: LogPump,
    share: Result<Share, RpcStatus>,
    mut request: RequestStream<GetJobLogsReq>,
    ask: impl FnOnce(GetJobLogsReq) -> Asked<LogSource>,
    sink: DuplexSink<DataChunk>,
) {
    let opened = async {
        let share = share?;
        let source = bridge::answered(ask(share.message(&mut request).await?)).await?;
        Ok((pump.open(source, share.pass())?, share))
    };
    bridge::note(match opened.await {
        Ok((stream, _share)) => send(stream, sink).await,
        Err(status) => sink.fail(status).await,
    });
}

/// Sends chunks until the end, each when C-core has taken the one before: of a client that does not read, one
/// chunk waits here and one in the stream's queue. While there is none, the call itself is polled, so that a
/// client that goes is noticed at once. A cut one that does not read is cancelled with the sink.
async fn send(mut stream: LogStream, mut sink: DuplexSink<DataChunk>) -> grpcio::Result<()> {
    loop {
        let item = poll_fn(|cx| {
            if stream.poll_cut(cx).is_ready() {
                return Poll::Ready(Err(grpcio::Error::RemoteStopped));
            }
            ready!(sink.poll_flush_unpin(cx))?;
            ready!(sink.poll_ready_unpin(cx))?;
            stream.poll_item(cx).map(Ok::<_, grpcio::Error>)
        });
        match item.await? {
            // Without a buffer hint: C-core would keep the last line of a quiet job until the next one.
            Some(Item::Chunk(chunk)) => sink.start_send_unpin((chunk, WriteFlags::default()))?,
            Some(Item::End(status)) if status.code() == RpcStatusCode::OK => return sink.close().await,
            Some(Item::End(status)) => return sink.fail(status).await,
            None => return sink.fail(pump::gone()).await,
        }
    }
}
