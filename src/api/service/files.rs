//! Copies of files: one call, a thread that copies ([`crate::files`]), and two queues of messages in between.
//!
//! The thread waits for the disk and for its queues. The call's future moves messages between the queues and C-core, one at a time
//! each way, so a side that does not take its messages stops the other one, and HTTP/2 does the rest. A thread whose client is
//! gone finds its queues closed.

use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;

use futures_channel::{mpsc, oneshot};
use futures_util::future::{Either, select};
use futures_util::{SinkExt, StreamExt};
use grpcio::{DuplexSink, RequestStream, RpcContext, RpcStatus, RpcStatusCode, WriteFlags};

use super::Jobs;
use crate::api::convert::files::{self as convert, Opened, Place};
use crate::api::limits::{CallPermit, Kind};
use crate::api::{bridge, status};
use crate::daemon::command::{Command, OpenVolume, OpenWork};
use crate::diag::{Level, limited};
use crate::files::{FilesError, Link, Receiver, Source, TRANSFERS, Unwatched, receive, send};
use crate::job::JobId;
use crate::pb::joblet::FilesMessage;
use crate::stream::Watermark;
use protobuf::Message;

/// Which way the files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the client to the node.
    In,
    /// From the node to the client.
    Out,
}

/// Why a copy ended before its end.
enum Ended {
    /// The client is gone.
    Gone,
    /// The copy failed, or was refused.
    Refused(RpcStatus),
}

impl From<RpcStatus> for Ended {
    fn from(status: RpcStatus) -> Ended {
        Ended::Refused(status)
    }
}

impl Jobs {
    /// Serves one call of WriteFiles or ReadFiles.
    pub(super) fn copy_files(
        &self,
        ctx: &RpcContext<'_>,
        mut req: RequestStream<FilesMessage>,
        mut sink: DuplexSink<FilesMessage>,
        direction: Direction,
    ) {
        let jobs = self.clone();
        let permit = self.call_limits.acquire(ctx, Kind::Upload);
        ctx.spawn(async move {
            let copied = async {
                let permit = permit?;
                let copied = jobs.copy(&permit, &mut req, &mut sink, direction).await;
                if let Err(Ended::Refused(refused)) = &copied {
                    permit.log_shortage(refused);
                }
                let gone = RpcStatus::new(RpcStatusCode::CANCELLED);
                let end = match &copied {
                    Ok(()) => Ok(FilesMessage::default_instance()),
                    Err(Ended::Refused(refused)) => Err(refused),
                    Err(Ended::Gone) => Err(&gone),
                };
                permit.settle(end).await;
                copied
            };
            let copied: Result<(), Ended> = copied.await;
            bridge::note(match copied {
                Ok(()) => sink.close().await,
                Err(Ended::Refused(status)) => sink.fail(status).await,
                Err(Ended::Gone) => Err(grpcio::Error::RemoteStopped),
            });
        });
    }

    async fn root(&self, place: &Place) -> Result<Root, RpcStatus> {
        match place {
            Place::Volume(name) => {
                let name = name.clone();
                let command = Ok(|answer| Command::OpenVolume { name, answer });
                bridge::answered(bridge::ask(&self.commands, command)).await.map(Root::Volume)
            }
            Place::Work(job) => {
                let job = job.clone();
                let command = Ok(|answer| Command::OpenWork { job, answer });
                bridge::answered(bridge::ask(&self.commands, command)).await.map(Root::Work)
            }
        }
    }

    async fn copy(
        &self,
        permit: &CallPermit,
        messages: &mut RequestStream<FilesMessage>,
        sink: &mut DuplexSink<FilesMessage>,
        direction: Direction,
    ) -> Result<(), Ended> {
        let first = permit.message(messages).await?;
        let opened = convert::opened(first).map_err(|refusal| status::of_refusal(&refusal))?;
        let transfer = self.transfers.take().ok_or_else(|| {
            let text = format!("{TRANSFERS} copies of files are under way already; try again");
            status::new(RpcStatusCode::RESOURCE_EXHAUSTED, &text)
        })?;
        let root = self.root(&opened.place).await?;
        limited!(
            Level::Info,
            "files are copied",
            place = opened.place,
            direction = if direction == Direction::In { "in" } else { "out" },
            peer = permit.address(),
            subject = permit.peer().subject()
        );
        let (link, sent, taken) = Link::new();
        let (done, outcome) = oneshot::channel();
        let job = root.job();
        let work = move || {
            let _transfer = transfer;
            // The loop counts the copy as long as it has the volume.
            let _ = done.send(work(&root, &opened, direction, link));
        };
        let thread = std::thread::Builder::new().name("files".into()).spawn(work);
        thread.map_err(|why| {
            let text = format!("cannot start a thread for the copy: {why}; try again");
            status::new(RpcStatusCode::RESOURCE_EXHAUSTED, &text)
        })?;
        let carried = carry(permit, messages, sink, sent, taken);
        match job {
            None => carried.await?,
            // Nothing of a job outlives it, also not where its client takes no messages.
            Some((id, output)) => match select(pin!(carried), pin!(until_ended(&output))).await {
                Either::Left((carried, _)) => carried?,
                Either::Right(_) => {
                    let text = format!("job {id} has ended; its /work is gone with it");
                    return Err(status::new(RpcStatusCode::FAILED_PRECONDITION, &text).into());
                }
            },
        }
        let lost = || status::new(RpcStatusCode::INTERNAL, "the thread of the copy is gone");
        Ok(outcome.await.map_err(|_| lost())??)
    }
}

/// Where the files of a copy are.
enum Root {
    Volume(OpenVolume),
    Work(OpenWork),
}

impl Root {
    /// Its directory, on a thread that ends, and the owner of what is made there.
    fn open(&self) -> Result<(OwnedFd, u32), String> {
        match self {
            Root::Volume(volume) => Ok((volume.mount()?, volume.owner())),
            Root::Work(work) => Ok((work.open()?, work.owner())),
        }
    }

    /// The job that it goes with, and the output that ends with that.
    fn job(&self) -> Option<(JobId, Arc<Watermark>)> {
        match self {
            Root::Volume(_) => None,
            Root::Work(work) => {
                let (id, output) = work.job();
                Some((id, output.clone()))
            }
        }
    }
}

/// Waits for the end of a job's output.
async fn until_ended(output: &Arc<Watermark>) {
    let (news, mut heard) = mpsc::channel(1);
    // A channel that is full has news already.
    let listener = output.listen(Box::new(move || drop(news.clone().try_send(()))));
    while !output.look().1 {
        heard.next().await;
        listener.acknowledge();
    }
}

/// Moves messages until the thread has no more to send.
async fn carry(
    permit: &CallPermit,
    messages: &mut RequestStream<FilesMessage>,
    sink: &mut DuplexSink<FilesMessage>,
    mut sent: mpsc::Receiver<FilesMessage>,
    mut taken: mpsc::Sender<FilesMessage>,
) -> Result<(), Ended> {
    let outward = async {
        while let Some(message) = sent.next().await {
            sink.send((message, WriteFlags::default())).await.map_err(|_| Ended::Gone)?;
        }
        Ok(())
    };
    let inward = async move {
        while let Some(message) = messages.next().await {
            let message = message.map_err(|_| Ended::Gone)?;
            permit.peer().check()?;
            if taken.send(message).await.is_err() {
                // The thread has ended, and its outcome says why.
                break;
            }
        }
        Ok(())
    };
    match select(pin!(outward), pin!(inward)).await {
        Either::Left((ended, _)) => ended,
        Either::Right((Ok(()), outward)) => outward.await,
        Either::Right((ended, _)) => ended,
    }
}

/// The whole of a copy, on its thread.
fn work(at: &Root, opened: &Opened, direction: Direction, mut link: Link) -> Result<(), RpcStatus> {
    let opening = at.open();
    let (root, owner) = opening.map_err(|why| status::new(RpcStatusCode::FAILED_PRECONDITION, &why))?;
    let copied = match direction {
        Direction::In => Receiver::new(root, &opened.path, opened.into, Some(owner))
            .and_then(|mut receiver| receive(&mut link, &mut receiver, &mut Unwatched)),
        Direction::Out => {
            let source = Source { root, place: opened.path.clone(), path: opened.name().to_vec() };
            send(&mut link, &[source], opened.after.as_ref(), &mut Unwatched)
        }
    };
    copied.map_err(|why| of_files(&why))
}

/// The status of a copy that failed.
fn of_files(why: &FilesError) -> RpcStatus {
    let code = match why {
        FilesError::Path { .. } | FilesError::Peer(_) => RpcStatusCode::INVALID_ARGUMENT,
        FilesError::Twice(_) => RpcStatusCode::FAILED_PRECONDITION,
        FilesError::Digest(_) => RpcStatusCode::DATA_LOSS,
        FilesError::Names(_) => RpcStatusCode::RESOURCE_EXHAUSTED,
        FilesError::Gone => RpcStatusCode::CANCELLED,
        FilesError::File { .. } => match why.errno() {
            Some(libc::ENOENT) => RpcStatusCode::NOT_FOUND,
            Some(libc::ENOSPC | libc::EDQUOT) => RpcStatusCode::RESOURCE_EXHAUSTED,
            Some(libc::EIO) | None => RpcStatusCode::INTERNAL,
            Some(_) => RpcStatusCode::FAILED_PRECONDITION,
        },
    };
    status::new(code, &why.to_string())
}
