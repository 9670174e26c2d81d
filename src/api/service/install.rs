//! Calls that install runtimes from files or a registry.

use std::future::poll_fn;
use std::task::ready;

use futures_channel::{mpsc, oneshot};
use futures_util::{SinkExt, StreamExt};
use grpcio::{
    ClientStreamingSink, DuplexSink, RequestStream, RpcContext, RpcStatus, RpcStatusCode, WriteFlags,
};

use super::Jobs;
use crate::api::convert::{Refusal, Rules, install};
use crate::api::limits::Kind;
use crate::api::{bridge, status};
use crate::daemon::command::{
    Caller, CommandError, Gone, InstallEvent, InstallRequest, InstalledRuntime, Installer,
};
use crate::pb::joblet::{InstallRuntimeResponse, RuntimeInstallationChunk};

/// Events that wait for a client. One that reads more slowly misses some of them.
pub(super) const EVENTS: usize = 64;

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
    mut sink: DuplexSink<RuntimeInstallationChunk>,
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
            let spec = request.spec.to_string();
            let (mut tell, events) = mpsc::channel(EVENTS);
            let (waits, gone) = oneshot::channel();
            let caller = Caller { commands, gone: Gone::Told(gone) };
            let made = run(&installer, request, caller, bytes, move |event| drop(tell.try_send(event)))?;
            Ok::<_, RpcStatus>((waits, spec, events, made))
        };
        let (_held, spec, mut events, made) = match begun.await {
            Ok(begun) => begun,
            Err(status) => {
                permit.settle::<RuntimeInstallationChunk>(Err(&status)).await;
                return bridge::note(sink.fail(status).await);
            }
        };
        if let Err(gone) = forward(&mut events, &mut sink, install::event).await {
            // The installation goes on without its client, unless it is a build.
            permit.note_refusal(&RpcStatus::new(RpcStatusCode::CANCELLED));
            return bridge::note(Err(gone));
        }
        let made = ended(made.await).map(install::result);
        permit.settle(made.as_ref()).await;
        bridge::note(match made {
            Ok(made) => match sink.send((made, WriteFlags::default())).await {
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

/// Sends events to the client until there are no more. While there is none, the call itself is polled, so that a client that
/// disconnects is noticed at once.
pub(super) async fn forward<E, M>(
    events: &mut mpsc::Receiver<E>,
    sink: &mut DuplexSink<M>,
    message: impl Fn(E) -> M,
) -> grpcio::Result<()> {
    loop {
        let event = poll_fn(|cx| {
            ready!(sink.poll_flush_unpin(cx))?;
            ready!(sink.poll_ready_unpin(cx))?;
            events.poll_next_unpin(cx).map(Ok::<_, grpcio::Error>)
        });
        match event.await? {
            Some(event) => sink.start_send_unpin((message(event), WriteFlags::default()))?,
            None => return Ok(()),
        }
    }
}

type Outcome<T> = Result<T, RpcStatus>;

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

/// Runs this on a thread of its own, whose outcome comes behind.
pub(super) fn on_a_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T, CommandError> + Send + 'static,
) -> Outcome<oneshot::Receiver<Outcome<T>>> {
    let (done, outcome) = oneshot::channel();
    let work = move || drop(done.send(work().map_err(|e| status::of_command(&e))));
    let thread = std::thread::Builder::new().name(name.into()).spawn(work);
    thread.map_err(|why| {
        status::new(RpcStatusCode::RESOURCE_EXHAUSTED, &format!("cannot start a thread: {why}; try again"))
    })?;
    Ok(outcome)
}

/// The thread sends its outcome, whatever it is.
pub(super) fn ended<T>(outcome: Result<Outcome<T>, oneshot::Canceled>) -> Outcome<T> {
    let lost = || status::new(RpcStatusCode::INTERNAL, "the installation was lost; try again");
    outcome.unwrap_or_else(|_| Err(lost()))
}
