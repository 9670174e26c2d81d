//! The call that builds a runtime from a recipe.

use grpcio::{DuplexSink, RequestStream, RpcContext};

use super::Jobs;
use super::installation::{Begun, Messages, on_a_thread};
use crate::api::convert::build;
use crate::api::limits::Kind;
use crate::api::{bridge, status};
use crate::pb::joblet::{BuildRuntimeProgress, BuildRuntimeRequest};

/// Serves a call of BuildRuntime. A build whose client goes is stopped.
pub(super) fn stream(
    jobs: &Jobs,
    ctx: &RpcContext<'_>,
    mut req: RequestStream<BuildRuntimeRequest>,
    sink: DuplexSink<BuildRuntimeProgress>,
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
            let name = (request.recipe.id.name.to_string(), request.recipe.id.version.to_string());
            let begun = installer.build(request).map_err(|e| status::of_command(&e))?;
            Begun::new(name, commands, |caller, tell| on_a_thread("build", move || begun.run(caller, tell)))
        };
        match begun.await {
            Ok(begun) => {
                let messages =
                    Messages { event: build::event, result: build::result, failure: build::failure };
                begun.report(permit, sink, messages).await;
            }
            Err(status) => {
                permit.settle::<BuildRuntimeProgress>(Err(&status)).await;
                bridge::note(sink.fail(status).await);
            }
        }
    });
}
