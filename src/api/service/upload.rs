//! The handlers of UploadService.
//!
//! A call has a thread ([`crate::upload::receive`]), because it waits for the disk. The handler hands it one message at a
//! time, and takes the next from the client when the thread is ready for it: HTTP/2 flow control does the rest.

use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};
use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use grpcio::{ClientStreamingSink, RequestStream, RpcContext, RpcStatus};

use crate::api::bridge;
use crate::api::convert::{Rules, reply, upload};
use crate::api::limits::{CallLimits, CallPermit, Kind};
use crate::api::status;
use crate::pb::joblet::{UploadReference, UploadRequest, UploadStatus};
use crate::pb::joblet_grpc::UploadService;
use crate::upload::receive::{self, Piece, Places};
use crate::upload::{ClientKey, Store, StoreError, StoredStatus};

/// Pieces that wait for the thread of a call.
const PIECES: usize = 2;

/// The state of all handlers.
#[derive(Clone)]
pub(super) struct Uploads {
    store: Arc<Store>,
    places: Places,
    rules: Arc<Rules>,
    call_limits: CallLimits,
}

impl Uploads {
    pub(super) fn new(store: Arc<Store>, rules: Arc<Rules>, call_limits: CallLimits) -> Self {
        Uploads { store, places: Places::default(), rules, call_limits }
    }

    /// Serves one call of Upload.
    async fn receive(
        &self,
        permit: &CallPermit,
        messages: &mut RequestStream<UploadRequest>,
    ) -> Result<UploadStatus, RpcStatus> {
        let refused = |e: &StoreError| status::of_store(e);
        let first = permit.message(messages).await?;
        let (start, piece) = upload::upload_start(first, permit.owner(), &self.rules)
            .map_err(|refusal| status::of_refusal(&refusal))?;
        let (pieces, queue) = bounded(PIECES);
        let (ready, mut readiness) = mpsc::unbounded();
        let (done, mut outcome) = oneshot::channel();
        let place = self.places.take().map_err(|e| refused(&e))?;
        let store = self.store.clone();
        let work = move || {
            let _place = place;
            let result = receive::receive(&store, start, &queue, || {
                // A call that is gone closes the queue of pieces, too.
                let _ = ready.unbounded_send(());
            });
            let _ = done.send(result);
        };
        let thread = std::thread::Builder::new().name("upload".into()).spawn(work);
        thread
            .map_err(|why| refused(&StoreError::Bound(format!("cannot start a thread: {why}; try again"))))?;
        let sent = async {
            if readiness.next().await.is_some() {
                send(&pieces, piece)?;
            }
            while readiness.next().await.is_some() {
                match messages.next().await {
                    Some(Ok(message)) => {
                        permit.peer().check().inspect_err(|refused| permit.log_refusal(refused))?;
                        let piece = upload::upload_piece(message);
                        send(&pieces, piece.map_err(|refusal| status::of_refusal(&refusal))?)?;
                    }
                    // The client has finished, or is gone: its upload stays as it is, if it is not complete.
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
        match result {
            Ok(Ok(stored)) => Ok(reply::upload(&stored)),
            Ok(Err(e)) => Err(refused(&e)),
            // The thread sends its result, whatever it is.
            Err(_) => Err(refused(&StoreError::Bound("the upload was not taken in; try again".to_owned()))),
        }
    }

    /// Answers a call about one upload.
    fn answer(
        &self,
        ctx: &RpcContext<'_>,
        req: RequestStream<UploadReference>,
        sink: ClientStreamingSink<UploadStatus>,
        ask: fn(&Store, uuid::Uuid, &ClientKey) -> Result<StoredStatus, StoreError>,
    ) {
        let store = self.store.clone();
        let permit = self.call_limits.acquire(ctx, Kind::Look);
        let client = permit.as_ref().ok().map(CallPermit::owner);
        bridge::serve(ctx, permit, req, sink, async move |req: UploadReference| {
            let handle =
                upload::upload_handle(&req.handle).map_err(|refusal| status::of_refusal(&refusal))?;
            let client = client.unwrap_or_else(|| ClientKey::of(b""));
            ask(&store, handle, &client)
                .map(|stored| reply::upload(&stored))
                .map_err(|e| status::of_store(&e))
        });
    }
}

/// Hands a piece to the thread, which has room for it: it said so. A thread that is gone has left its outcome.
fn send(pieces: &Sender<Piece>, piece: Piece) -> Result<(), RpcStatus> {
    let _ = pieces.try_send(piece);
    Ok(())
}

impl UploadService for Uploads {
    fn upload(
        &mut self,
        ctx: RpcContext<'_>,
        mut req: RequestStream<UploadRequest>,
        sink: ClientStreamingSink<UploadStatus>,
    ) {
        let uploads = self.clone();
        let permit = self.call_limits.acquire(&ctx, Kind::Upload);
        ctx.spawn(async move {
            let answer = async {
                let permit = permit?;
                let reply = uploads.receive(&permit, &mut req).await;
                let noted = |refused: &RpcStatus| {
                    permit.log_shortage(refused);
                    permit.note_refusal(refused);
                };
                reply.inspect_err(noted).map(|reply| (reply, permit))
            };
            bridge::note(match answer.await {
                Ok((reply, _permit)) => sink.success(reply).await,
                Err(status) => sink.fail(status).await,
            });
        });
    }

    fn get_upload(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<UploadReference>,
        sink: ClientStreamingSink<UploadStatus>,
    ) {
        self.answer(&ctx, req, sink, Store::status);
    }

    fn delete_upload(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<UploadReference>,
        sink: ClientStreamingSink<UploadStatus>,
    ) {
        self.answer(&ctx, req, sink, Store::delete);
    }
}
