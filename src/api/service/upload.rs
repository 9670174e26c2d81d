//! The handlers of UploadService.
//!
//! A call has a thread ([`crate::upload::receive`]), because it waits for the disk.

use std::sync::Arc;

use grpcio::{ClientStreamingSink, RequestStream, RpcContext, RpcStatus};

use crate::api::bridge;
use crate::api::convert::{Rules, reply, upload};
use crate::api::limits::{CallLimits, CallPermit, Kind};
use crate::api::{pieces, status};
use crate::pb::joblet::{UploadReference, UploadRequest, UploadStatus};
use crate::pb::joblet_grpc::UploadService;
use crate::upload::receive::{self, Places};
use crate::upload::{ClientKey, Store, StoreError, StoredStatus};

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
        let place = self.places.take().map_err(|e| refused(&e))?;
        let store = self.store.clone();
        let stored = pieces::hand_over(
            permit,
            messages,
            piece,
            upload::upload_piece,
            "upload",
            move |queue, ready| {
                let _place = place;
                receive::receive(&store, start, queue, ready).map_err(|e| status::of_store(&e))
            },
        );
        Ok(reply::upload(&stored.await?))
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
                };
                permit.settle(reply.as_ref()).await;
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
