//! Calls that install runtimes from files or a registry.

use futures_channel::oneshot;
use grpcio::{ClientStreamingSink, DuplexSink, RequestStream, RpcContext};

use super::Jobs;
use super::installation::{Begun, Messages, Outcome, ended, on_a_thread};
use crate::api::convert::{Refusal, Rules, install};
use crate::api::limits::Kind;
use crate::api::{bridge, status};
use crate::daemon::command::{Caller, Gone, InstallEvent, InstallRequest, InstalledRuntime, Installer};
use crate::pb::joblet::{InstallRuntimeResponse, RuntimeInstallationChunk};

/// Serves a call that is answered at its end.
pub(super) fn serve<Q: protobuf::MessageFull>(
    jobs: &Jobs,
    ctx: &RpcContext<'_>,
    req: RequestStream<Q>,
    sink: ClientStreamingSink<InstallRuntimeResponse>,
    convert: fn(Q, &Rules) -> Result<InstallRequest, Refusal>,
) {
    let (installer, upload_limit) = (jobs.installer.clone(), jobs.upload_limit.clone());
    let (commands, rules) = (jobs.commands.clone(), jobs.rules.clone());
    bridge::serve_client(
        ctx,
        jobs.call_limits.acquire(ctx, Kind::Upload),
        req,
        sink,
        move |message: Q, client| async move {
            let bytes = message.compute_size();
            let permit = upload_limit.acquire(bytes).map_err(|refusal| status::of_refusal(&refusal))?;
            let request = convert(message, &rules).map_err(|refusal| status::of_refusal(&refusal))?;
            let caller = Caller { commands, gone: Gone::Asked(Box::new(move || client.has_gone())) };
            let made = run(&installer, request, caller, permit, |_| {})?;
            Ok(install::installed(ended(made.await)?))
        },
    );
}

/// Serves a call that streams what is done.
pub(super) fn stream<Q: protobuf::MessageFull>(
    jobs: &Jobs,
    ctx: &RpcContext<'_>,
    mut req: RequestStream<Q>,
    sink: DuplexSink<RuntimeInstallationChunk>,
    convert: fn(Q, &Rules) -> Result<InstallRequest, Refusal>,
) {
    let (installer, upload_limit) = (jobs.installer.clone(), jobs.upload_limit.clone());
    let (commands, rules) = (jobs.commands.clone(), jobs.rules.clone());
    let permit = jobs.call_limits.acquire(ctx, Kind::Upload);
    ctx.spawn(async move {
        let permit = match permit {
            Ok(permit) => permit,
            Err(status) => return bridge::note(sink.fail(status).await),
        };
        let begun = async {
            let message = permit.message(&mut req).await?;
            let bytes = upload_limit.acquire(message.compute_size());
            let bytes = bytes.map_err(|refusal| status::of_refusal(&refusal))?;
            let request = convert(message, &rules).map_err(|refusal| status::of_refusal(&refusal))?;
            let name = request.spec.to_string();
            Begun::new(name, commands, |caller, tell| run(&installer, request, caller, bytes, tell))
        };
        match begun.await {
            Ok(begun) => {
                let failure = |spec: &String, why: &str| install::failure(spec, why);
                let messages = Messages { event: install::event, result: install::result, failure };
                begun.report(permit, sink, messages).await;
            }
            Err(status) => {
                permit.settle::<RuntimeInstallationChunk>(Err(&status)).await;
                bridge::note(sink.fail(status).await);
            }
        }
    });
}

/// Runs an installation on a thread of its own. `held` lives as long as it.
fn run(
    installer: &Installer,
    request: InstallRequest,
    caller: Caller,
    held: impl Send + 'static,
    tell: impl FnMut(InstallEvent) + Send + 'static,
) -> Outcome<oneshot::Receiver<Outcome<InstalledRuntime>>> {
    let begun = installer.install(request).map_err(|e| status::of_command(&e))?;
    on_a_thread("install", move || {
        let _held = held;
        begun.run(caller, tell)
    })
}
