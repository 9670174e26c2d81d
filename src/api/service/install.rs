//! Calls that install runtimes from files or a registry.

use futures_channel::{mpsc, oneshot};
use futures_util::{SinkExt, StreamExt};
use grpcio::{
    ClientStreamingSink, DuplexSink, RequestStream, RpcContext, RpcStatus, RpcStatusCode, WriteFlags,
};

use super::Jobs;
use crate::api::convert::{Refusal, install};
use crate::api::limits::Kind;
use crate::api::{bridge, status};
use crate::daemon::command::{InstallEvent, InstallRequest, InstalledRuntime, Installer};
use crate::pb::joblet::{InstallRuntimeResponse, RuntimeInstallationChunk};

/// Events that wait for a client. One that reads more slowly misses some of them.
const EVENTS: usize = 64;

/// Serves a call that is answered at its end.
pub(super) fn serve<Q: protobuf::Message>(
    jobs: &Jobs,
    ctx: &RpcContext<'_>,
    req: RequestStream<Q>,
    sink: ClientStreamingSink<InstallRuntimeResponse>,
    convert: fn(Q) -> Result<InstallRequest, Refusal>,
) {
    let (installer, upload_limit) = (jobs.installer.clone(), jobs.upload_limit.clone());
    bridge::serve(
        ctx,
        jobs.call_limits.acquire(ctx, Kind::Upload),
        req,
        sink,
        move |message: Q| async move {
            let bytes = message.compute_size();
            let permit = upload_limit.acquire(bytes).map_err(|refusal| status::of_refusal(&refusal))?;
            let request = convert(message).map_err(|refusal| status::of_refusal(&refusal))?;
            let made = run(&installer, request, permit, |_| {})?;
            Ok(install::installed(ended(made.await)?))
        },
    );
}

/// Serves a call that streams what is done.
pub(super) fn stream<Q: protobuf::Message>(
    jobs: &Jobs,
    ctx: &RpcContext<'_>,
    mut req: RequestStream<Q>,
    mut sink: DuplexSink<RuntimeInstallationChunk>,
    convert: fn(Q) -> Result<InstallRequest, Refusal>,
) {
    let (installer, upload_limit) = (jobs.installer.clone(), jobs.upload_limit.clone());
    let permit = jobs.call_limits.acquire(ctx, Kind::Upload);
    ctx.spawn(async move {
        let begun = async {
            let permit = permit?;
            let message = permit.message(&mut req).await?;
            let bytes = upload_limit.acquire(message.compute_size());
            let bytes = bytes.map_err(|refusal| status::of_refusal(&refusal))?;
            let request = convert(message).map_err(|refusal| status::of_refusal(&refusal))?;
            let spec = request.spec.to_string();
            let (mut tell, events) = mpsc::channel(EVENTS);
            let made = run(&installer, request, bytes, move |event| drop(tell.try_send(event)))?;
            Ok::<_, RpcStatus>((permit, spec, events, made))
        };
        let (_permit, spec, mut events, made) = match begun.await {
            Ok(begun) => begun,
            Err(status) => return bridge::note(sink.fail(status).await),
        };
        while let Some(event) = events.next().await {
            // The installation goes on without its client.
            if sink.send((install::event(event), WriteFlags::default())).await.is_err() {
                break;
            }
        }
        bridge::note(match ended(made.await) {
            Ok(made) => match sink.send((install::result(made), WriteFlags::default())).await {
                Ok(()) => sink.close().await,
                gone => gone,
            },
            Err(status) => {
                let told = install::failure(&spec, status.message());
                let _ = sink.send((told, WriteFlags::default())).await;
                sink.fail(status).await
            }
        });
    });
}

type Outcome = Result<InstalledRuntime, RpcStatus>;

/// Runs an installation on a thread of its own. `held` lives as long as it.
fn run(
    installer: &Installer,
    request: InstallRequest,
    held: impl Send + 'static,
    tell: impl FnMut(InstallEvent) + Send + 'static,
) -> Result<oneshot::Receiver<Outcome>, RpcStatus> {
    let begun = installer.install(request).map_err(|e| status::of_command(&e))?;
    let (done, outcome) = oneshot::channel();
    let work = move || {
        let _held = held;
        let _ = done.send(begun.run(tell).map_err(|e| status::of_command(&e)));
    };
    let thread = std::thread::Builder::new().name("install".into()).spawn(work);
    thread.map_err(|why| {
        status::new(RpcStatusCode::RESOURCE_EXHAUSTED, &format!("cannot start a thread: {why}; try again"))
    })?;
    Ok(outcome)
}

/// The thread sends its outcome, whatever it is.
fn ended(outcome: Result<Outcome, oneshot::Canceled>) -> Outcome {
    let lost = || status::new(RpcStatusCode::INTERNAL, "the installation was lost; try again");
    outcome.unwrap_or_else(|_| Err(lost()))
}
