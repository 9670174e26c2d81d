//! The handlers of SessionService, but that of Attach ([`attach`]): a call of Forward is one connection to a port of a job.
//!
//! A future takes what the job sends from the link ([`crate::forward`]) and hands it to C-core, and the other way round; the
//! relay thread does the rest. A client that does not read holds up one chunk here, and its own job's socket.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Poll, ready};
use std::time::Duration;

use futures_util::future::{Either, select, try_join};
use futures_util::{SinkExt, StreamExt};
use grpcio::{
    ClientStreamingSink, DuplexSink, RequestStream, RpcContext, RpcStatus, RpcStatusCode, WriteFlags,
};

use super::{Jobs, attach};
use crate::api::bridge;
use crate::api::convert::forward::{self, Sent};
use crate::api::convert::{clock, exec, request};
use crate::api::limits::{CallPermit, Kind};
use crate::api::{status, streams};
use crate::daemon::command::Command;
use crate::diag::{Level, limited};
use crate::forward::{Call, Connect, LinkError, Next};
use crate::job::JobId;
use crate::pb::joblet::{
    AttachReq, AttachRes, ExecInfo, ExecInfos, ExecRef, ForwardReq, ForwardRes, FreezeJobReq, JobClockRes,
    ListExecsReq, SetJobTimeoutReq, SignalExecReq, StartExecReq, ThawJobReq,
};
use crate::pb::joblet_grpc::SessionService;
use protobuf::{Message, MessageFull};

/// How long a client may take to say which port it wants.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);

impl SessionService for Jobs {
    fn freeze_job(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<FreezeJobReq>,
        sink: ClientStreamingSink<JobClockRes>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Call), req, sink, move |req| {
            let job = request::job(&req.uuid);
            let command = job.map(|job| move |answer| Command::Pause { job, paused: true, answer });
            (bridge::ask(&commands, command), clock::reply)
        });
    }

    fn thaw_job(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<ThawJobReq>,
        sink: ClientStreamingSink<JobClockRes>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Call), req, sink, move |req| {
            let job = request::job(&req.uuid);
            let command = job.map(|job| move |answer| Command::Pause { job, paused: false, answer });
            (bridge::ask(&commands, command), clock::reply)
        });
    }

    fn set_job_timeout(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<SetJobTimeoutReq>,
        sink: ClientStreamingSink<JobClockRes>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Call), req, sink, move |req| {
            let command = clock::set_timeout(&req)
                .map(|(job, left)| move |answer| Command::SetTimeout { job, left, answer });
            (bridge::ask(&commands, command), clock::reply)
        });
    }

    fn start_exec(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<StartExecReq>,
        sink: ClientStreamingSink<ExecInfo>,
    ) {
        let Jobs { commands, rules, call_limits, .. } = self.clone();
        let permit = call_limits.acquire(&ctx, Kind::Call);
        let caller = permit.as_ref().ok().map(|permit| (permit.address().to_owned(), permit.peer()));
        bridge::reply(&ctx, permit, req, sink, move |req| {
            let command = exec::start(req, rules.validate_commands).map(|(job, spec)| {
                if let Some((address, peer)) = caller {
                    limited!(
                        Level::Info,
                        "command for a running job",
                        job = format_args!("{job:?}"),
                        peer = address,
                        subject = peer.subject(),
                        command = spec.command
                    );
                }
                move |answer| Command::StartExec { job, spec, answer }
            });
            (bridge::ask(&commands, command), exec::info)
        });
    }

    fn get_exec(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<ExecRef>,
        sink: ClientStreamingSink<ExecInfo>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Look), req, sink, move |req| {
            let command = exec::named(&req);
            let command = command.map(|(job, exec)| move |answer| Command::GetExec { job, exec, answer });
            (bridge::ask(&commands, command), exec::info)
        });
    }

    fn list_execs(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<ListExecsReq>,
        sink: ClientStreamingSink<ExecInfos>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Look), req, sink, move |req| {
            let command = request::job(&req.uuid);
            let command = command.map(|job| move |answer| Command::ListExecs { job, answer });
            (bridge::ask(&commands, command), exec::infos)
        });
    }

    fn signal_exec(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<SignalExecReq>,
        sink: ClientStreamingSink<ExecInfo>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Call), req, sink, move |req| {
            let command = exec::signal(&req)
                .map(|(job, exec, signal)| move |answer| Command::SignalExec { job, exec, signal, answer });
            (bridge::ask(&commands, command), exec::info)
        });
    }

    fn attach(&mut self, ctx: RpcContext<'_>, req: RequestStream<AttachReq>, sink: DuplexSink<AttachRes>) {
        attach::serve(self.clone(), &ctx, req, sink);
    }

    fn forward(
        &mut self,
        ctx: RpcContext<'_>,
        mut req: RequestStream<ForwardReq>,
        mut sink: DuplexSink<ForwardRes>,
    ) {
        let jobs = self.clone();
        let permit = self.call_limits.acquire(&ctx, Kind::Stream);
        ctx.spawn(async move {
            let carried = async {
                let permit = permit?;
                let carried = async {
                    let (call, port) = jobs.open(&permit, &mut req).await?;
                    let carried = carry(&permit, &call, &mut req, &mut sink).await;
                    carried.map_err(|how| match how {
                        Ended::Gone => None,
                        Ended::Broken(why) => Some(of_link(&why, port, &permit)),
                        Ended::Refused(status) => Some(status),
                    })
                };
                let carried: Result<(), Option<RpcStatus>> = carried.await;
                let gone = RpcStatus::new(RpcStatusCode::CANCELLED);
                let end = carried.as_ref().map(|()| ForwardRes::default_instance());
                permit.settle(end.map_err(|refused| refused.as_ref().unwrap_or(&gone))).await;
                carried
            };
            let carried: Result<(), Option<RpcStatus>> = carried.await;
            bridge::note(match carried {
                Ok(()) => sink.close().await,
                Err(Some(status)) => sink.fail(status).await,
                Err(None) => Err(grpcio::Error::RemoteStopped),
            });
        });
    }
}

/// The end of a connection that is not its ordinary one.
enum Ended {
    /// The client is gone.
    Gone,
    /// The link broke.
    Broken(LinkError),
    /// The client broke a rule, or lost its permission.
    Refused(RpcStatus),
}

/// The port of a job, for the words of an error.
type Port = (JobId, SocketAddr);

impl Jobs {
    /// The first message of a call, for which it has a time.
    pub(super) async fn first<Q: MessageFull>(
        &self,
        permit: &CallPermit,
        messages: &mut RequestStream<Q>,
    ) -> Result<Q, Option<RpcStatus>> {
        let alarm = self.relay.alarm(FIRST_MESSAGE);
        match select(pin!(permit.message(messages)), alarm).await {
            Either::Left((first, _)) => Ok(first?),
            Either::Right((Err(_), _)) => Err(Some(streams::gone())),
            Either::Right((Ok(()), _)) => {
                permit.count_abuse();
                let text = format!("no message within {} s", FIRST_MESSAGE.as_secs());
                Err(Some(status::new(RpcStatusCode::INVALID_ARGUMENT, &text)))
            }
        }
    }

    /// Makes the connection that the first message asks for.
    async fn open(
        &self,
        permit: &CallPermit,
        messages: &mut RequestStream<ForwardReq>,
    ) -> Result<(Call, Port), Option<RpcStatus>> {
        let first = self.first(permit, messages).await?;
        let (job, to) = forward::opened(first).map_err(|refusal| status::of_refusal(&refusal))?;
        let command = Ok(move |answer| Command::Forward { job, answer });
        let network = bridge::answered(bridge::ask(&self.commands, command)).await?;
        let port = (network.job(), to);
        let peer = permit.peer();
        let recheck = Box::new(move || peer.check().is_ok());
        let broken = |why: LinkError| {
            let status = of_link(&why, port, permit);
            permit.log_shortage(&status);
            status
        };
        let call = self.relay.connect(Connect { network, to, recheck }).map_err(broken)?;
        poll_fn(|cx| call.poll_opened(cx)).await.map_err(broken)?;
        limited!(
            Level::Info,
            "connection to a port of a job",
            jobId = port.0,
            port = to.port(),
            peer = permit.address(),
            subject = permit.peer().subject()
        );
        Ok((call, port))
    }
}

/// Carries bytes until both sides have ended.
async fn carry(
    permit: &CallPermit,
    call: &Call,
    messages: &mut RequestStream<ForwardReq>,
    sink: &mut DuplexSink<ForwardRes>,
) -> Result<(), Ended> {
    sink.send((forward::open_reply(), WriteFlags::default())).await.map_err(|_| Ended::Gone)?;
    try_join(outward(call, sink), inward(permit, call, messages)).await.map(drop)
}

/// From the job to the client, each message when C-core has taken the one before. While there is none, the call itself is
/// polled, so that a client that disconnects is noticed at once.
async fn outward(call: &Call, sink: &mut DuplexSink<ForwardRes>) -> Result<(), Ended> {
    loop {
        let next = poll_fn(|cx| {
            let ready = ready!(sink.poll_flush_unpin(cx)).and_then(|()| match sink.poll_ready_unpin(cx) {
                Poll::Ready(ready) => ready.map(|()| true),
                Poll::Pending => Ok(false),
            });
            match ready {
                Ok(true) => call.poll_next(cx).map_err(Ended::Broken),
                Ok(false) => Poll::Pending,
                Err(_) => Poll::Ready(Err(Ended::Gone)),
            }
        });
        let message = match next.await? {
            Next::Data(bytes) => forward::data_reply(bytes),
            Next::HalfClose => forward::end_reply(),
            Next::Over => return Ok(()),
        };
        sink.start_send_unpin((message, WriteFlags::default())).map_err(|_| Ended::Gone)?;
    }
}

/// From the client to the job, each message when the job's side has taken the one before: HTTP/2 flow control does the
/// rest.
async fn inward(
    permit: &CallPermit,
    call: &Call,
    messages: &mut RequestStream<ForwardReq>,
) -> Result<(), Ended> {
    while let Some(message) = messages.next().await {
        let message = message.map_err(|_| Ended::Gone)?;
        permit.peer().check().map_err(Ended::Refused)?;
        match forward::sent(message).map_err(|refusal| Ended::Refused(status::of_refusal(&refusal)))? {
            Sent::Data(bytes) => {
                poll_fn(|cx| call.poll_room(cx)).await;
                call.put(bytes);
            }
            Sent::HalfClose => break,
        }
    }
    call.finish();
    Ok(())
}

/// The status of a link that did not come about, or broke.
fn of_link(why: &LinkError, (job, to): Port, permit: &CallPermit) -> RpcStatus {
    let code = match why {
        LinkError::JobFull | LinkError::NodeFull => RpcStatusCode::RESOURCE_EXHAUSTED,
        LinkError::Refused | LinkError::Ended => RpcStatusCode::FAILED_PRECONDITION,
        LinkError::TimedOut => RpcStatusCode::DEADLINE_EXCEEDED,
        LinkError::Reset => RpcStatusCode::ABORTED,
        LinkError::Closed => RpcStatusCode::UNAVAILABLE,
        LinkError::Dial(_) => RpcStatusCode::INTERNAL,
        // The reason is known to the certificate's check.
        LinkError::Untrusted => match permit.peer().check() {
            Err(status) => return status,
            Ok(()) => RpcStatusCode::UNAUTHENTICATED,
        },
    };
    match why {
        LinkError::Closed => status::new(code, &why.to_string()),
        _ => status::new(code, &format!("port {} of job {job}: {why}", to.port())),
    }
}
