//! The call that builds a runtime from a recipe.

use futures_channel::{mpsc, oneshot};
use futures_util::SinkExt;
use grpcio::{DuplexSink, RequestStream, RpcContext, RpcStatus, RpcStatusCode, WriteFlags};

use super::Jobs;
use super::install::{EVENTS, ended, forward, on_a_thread};
use crate::api::convert::build;
use crate::api::limits::Kind;
use crate::api::{bridge, status};
use crate::daemon::command::{Caller, Gone};
use crate::pb::joblet::{BuildRuntimeProgress, BuildRuntimeRequest};

/// Serves a call of BuildRuntime. A build whose client goes is stopped.
pub(super) fn stream(
    jobs: &Jobs,
    ctx: &RpcContext<'_>,
    mut req: RequestStream<BuildRuntimeRequest>,
    mut sink: DuplexSink<BuildRuntimeProgress>,
) {
    let (installer, commands, rules) = (jobs.installer.clone(), jobs.commands.clone(), jobs.rules.clone());
    let permit = jobs.call_limits.acquire(ctx, Kind::Upload);
    ctx.spawn(async move {
        let permit = match permit {
            Ok(permit) => permit,
            Err(status) => return bridge::note(sink.fail(status).await),
        };
        let begun = async {
            let message = permit.message(&mut req).await?;
            let request = build::build(message, &rules).map_err(|refusal| status::of_refusal(&refusal))?;
            let id = (request.recipe.id.name.to_string(), request.recipe.id.version.to_string());
            let begun = installer.build(request).map_err(|e| status::of_command(&e))?;
            let (mut tell, events) = mpsc::channel(EVENTS);
            let (waits, gone) = oneshot::channel();
            let caller = Caller { commands, gone: Gone::Told(gone) };
            let made = on_a_thread("build", move || begun.run(caller, |event| drop(tell.try_send(event))))?;
            Ok::<_, RpcStatus>((waits, id, events, made))
        };
        let (_held, id, mut events, made) = match begun.await {
            Ok(begun) => begun,
            Err(status) => {
                permit.settle::<BuildRuntimeProgress>(Err(&status)).await;
                return bridge::note(sink.fail(status).await);
            }
        };
        if let Err(gone) = forward(&mut events, &mut sink, build::event).await {
            permit.note_refusal(&RpcStatus::new(RpcStatusCode::CANCELLED));
            return bridge::note(Err(gone));
        }
        let made = ended(made.await).map(build::result);
        permit.settle(made.as_ref()).await;
        bridge::note(match made {
            Ok(made) => match sink.send((made, WriteFlags::default())).await {
                Ok(()) => sink.close().await,
                gone => gone,
            },
            Err(status) => {
                let told = build::failure(&id, status.message());
                let _ = sink.send((told, WriteFlags::default())).await;
                sink.fail(status).await
            }
        });
    });
}
