//! Calls that are answered by a stream: from its queue onto the wire, as fast as the client reads.

use std::future::poll_fn;
use std::task::{Poll, ready};

use futures_util::SinkExt;
use grpcio::{DuplexSink, RequestStream, RpcStatus, RpcStatusCode, WriteFlags};

use crate::api::bridge::{self, Asked};
use crate::api::feed::Feed;
use crate::api::limits::CallPermit;
use crate::api::pump::{self, Item, LogPump, Reading};

/// The whole call. `put` makes of its message the question to the loop, and what makes the feed of the answer.
pub(super) async fn follow<Q, T, F: Feed, C: FnOnce(T) -> F>(
    pump: LogPump,
    permit: Result<CallPermit, RpcStatus>,
    mut request: RequestStream<Q>,
    put: impl FnOnce(Q) -> (Asked<T>, C),
    sink: DuplexSink<F::Message>,
) {
    let opened = async {
        let permit = permit?;
        let (asked, feed) = put(permit.message(&mut request).await?);
        let source = bridge::answered(asked).await?;
        Ok((pump.open(feed(source), permit.peer())?, permit))
    };
    bridge::note(match opened.await {
        Ok((reading, _share)) => send(reading, sink).await,
        Err(status) => sink.fail(status).await,
    });
}

/// Sends messages until the end, each when C-core has taken the one before: of a client that does not read, one
/// waits here and one in the stream's queue. While there is none, the call itself is polled, so that a client
/// that goes is noticed at once. A cut one that does not read is cancelled with the sink.
async fn send<M>(mut reading: Reading<M>, mut sink: DuplexSink<M>) -> grpcio::Result<()> {
    loop {
        let item = poll_fn(|cx| {
            if reading.poll_cut(cx).is_ready() {
                return Poll::Ready(Err(grpcio::Error::RemoteStopped));
            }
            ready!(sink.poll_flush_unpin(cx))?;
            ready!(sink.poll_ready_unpin(cx))?;
            reading.poll_item(cx).map(Ok::<_, grpcio::Error>)
        });
        match item.await? {
            // Without a buffer hint: C-core would keep the last line of a quiet job until the next one.
            Some(Item::Message(message)) => sink.start_send_unpin((message, WriteFlags::default()))?,
            Some(Item::End(status)) if status.code() == RpcStatusCode::OK => return sink.close().await,
            Some(Item::End(status)) => return sink.fail(status).await,
            None => return sink.fail(pump::gone()).await,
        }
    }
}
