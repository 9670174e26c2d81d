//! One call of ImportRuntime.

use grpcio::{ClientStreamingSink, RequestStream, RpcContext, RpcStatus};

use super::Jobs;
use crate::api::convert::import;
use crate::api::limits::{CallPermit, Kind};
use crate::api::{bridge, pieces, status};
use crate::daemon::command::Installer;
use crate::pb::joblet::{ImportRuntimeRequest, ImportRuntimeResponse};

/// Answers a call when its image is a runtime, or refuses it.
pub(super) fn serve(
    jobs: &Jobs,
    ctx: &RpcContext<'_>,
    mut req: RequestStream<ImportRuntimeRequest>,
    sink: ClientStreamingSink<ImportRuntimeResponse>,
) {
    let installer = jobs.installer.clone();
    let permit = jobs.call_limits.acquire(ctx, Kind::Upload);
    ctx.spawn(async move {
        let answer = async {
            let permit = permit?;
            let reply = receive(&installer, &permit, &mut req).await;
            permit.settle(reply.as_ref()).await;
            reply.inspect_err(|refused| permit.log_shortage(refused)).map(|reply| (reply, permit))
        };
        bridge::note(match answer.await {
            Ok((reply, _permit)) => sink.success(reply).await,
            Err(status) => sink.fail(status).await,
        });
    });
}

async fn receive(
    installer: &Installer,
    permit: &CallPermit,
    messages: &mut RequestStream<ImportRuntimeRequest>,
) -> Result<ImportRuntimeResponse, RpcStatus> {
    let first = permit.message(messages).await?;
    let (request, piece) = import::import_start(first).map_err(|refusal| status::of_refusal(&refusal))?;
    let begun = installer.import(request).map_err(|e| status::of_command(&e))?;
    let made =
        pieces::hand_over(permit, messages, piece, import::import_piece, "import", move |queue, ready| {
            begun.run(queue, ready).map_err(|e| status::of_command(&e))
        });
    Ok(import::imported(made.await?))
}
