//! Calls that bring their contents in pieces: from the stream of messages to a thread.
//!
//! A thread does the work, because it waits for the disk. It is handed one piece at a time, and the next message is taken
//! from the client when the thread is ready for it: HTTP/2 flow control does the rest.

use crossbeam_channel::{Receiver, Sender, bounded};
use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use grpcio::{RequestStream, RpcStatus, RpcStatusCode};

use super::convert::Refusal;
use super::limits::CallPermit;
use super::status;

/// Pieces that wait for the thread of a call.
const PIECES: usize = 2;

/// Runs `work` on a thread of this name, and hands it the first piece and those of all later messages. It calls its second
/// argument for each piece that it is ready for, once more than for the pieces that it has taken.
///
/// # Errors
/// That of `work`; a message that is no piece; a client that was revoked meanwhile; no thread.
pub(super) async fn hand_over<Q, P: Send + 'static, T: Send + 'static>(
    permit: &CallPermit,
    messages: &mut RequestStream<Q>,
    first: P,
    convert: impl Fn(Q) -> Result<P, Refusal>,
    thread: &'static str,
    work: impl FnOnce(&Receiver<P>, &mut dyn FnMut()) -> Result<T, RpcStatus> + Send + 'static,
) -> Result<T, RpcStatus> {
    let short = |why: &str| status::new(RpcStatusCode::RESOURCE_EXHAUSTED, why);
    let (pieces, queue) = bounded(PIECES);
    let (ready, mut readiness) = mpsc::unbounded();
    let (done, mut outcome) = oneshot::channel();
    let run = move || {
        let result = work(&queue, &mut || {
            // A call that is gone closes the queue of pieces, too.
            let _ = ready.unbounded_send(());
        });
        let _ = done.send(result);
    };
    let spawned = std::thread::Builder::new().name(thread.to_owned()).spawn(run);
    spawned.map_err(|why| short(&format!("cannot start a thread: {why}; try again")))?;
    let sent = async {
        if readiness.next().await.is_some() {
            send(&pieces, first);
        }
        while readiness.next().await.is_some() {
            match messages.next().await {
                Some(Ok(message)) => {
                    permit.peer().check().inspect_err(|refused| permit.log_refusal(refused))?;
                    send(&pieces, convert(message).map_err(|refusal| status::of_refusal(&refusal))?);
                }
                // The client has finished, or is gone: the thread decides what becomes of what it has.
                Some(Err(_)) | None => break,
            }
        }
        drop(pieces);
        Ok(())
    };
    let sent = Box::pin(sent);
    let result = match select(sent, &mut outcome).await {
        Either::Right((result, _)) => result,
        Either::Left((sent, _)) => {
            sent?;
            outcome.await
        }
    };
    // The thread sends its result, whatever it is.
    result.unwrap_or_else(|_| Err(short("the contents were not taken in; try again")))
}

/// Hands a piece to the thread, which has room for it: it said so. A thread that is gone has left its outcome.
fn send<P>(pieces: &Sender<P>, piece: P) {
    let _ = pieces.try_send(piece);
}
