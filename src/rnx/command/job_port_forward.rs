//! `rnx job port-forward`

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::super::cli::flag::{Group, switch, value};
use super::super::cli::value::invalid;
use super::super::cli::{Command, Flag, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::forward::Forward;
use super::super::interrupt::Interrupt;
use super::super::out::Out;
use super::super::reconnect::Watch;
use super::super::render::{is_terminal_status, short};
use super::super::resolve;
use super::super::server::Server;
use super::super::terminal::one_line;
use super::{QUERY, connect};
use crate::pb::joblet::{GetJobStatusReq, GetJobStatusRes};

/// `rnx job port-forward` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "port-forward"],
    alias: false,
    usage: "[flags] <job-uuid> [LOCAL:]PORT",
    operands: Operands::Two("job-uuid", "port"),
    flags: FLAGS,
    summary: "Reach a port of a running job from here",
    about: "Listens on 127.0.0.1 and carries each connection over the server to PORT on the job's own\n\
            loopback, until the job ends or Ctrl-C. It needs no network of the job, only that the job has one of\n\
            its own: --network=host is refused. LOCAL is the port here; without it PORT, and with 0 a free one.\n\
            At most 64 connections of a job are open at one time.\n\n\
            When the server restarts, open connections break and new ones are carried again.",
    examples: &[
        "rnx job port-forward f47ac10b 8080",
        "rnx job port-forward web 9000:80",
        "rnx job port-forward --json web 0:8080",
    ],
    statuses: &["RUNNING"],
    failure: None,
    run: Run::Plain(run),
};

static FLAGS: &[Flag] = &[
    value(
        "bind",
        "ADDRESS",
        Group::Selection,
        "Listen on this address of this host instead of 127.0.0.1. Everyone who\n\
         reaches it reaches the job",
    ),
    switch("ipv6", None, Group::Selection, "Connect to ::1 inside the job instead of 127.0.0.1"),
];

/// Connections that are carried at one time; each has two threads. The server has the same bound for a job.
const CONNECTIONS: usize = 64;
/// Bytes of a thread's stack.
const STACK: usize = 256 << 10;
/// Pause after a connection that could not be accepted, such as without a free descriptor.
const AGAIN: Duration = Duration::from_millis(100);

/// The line that says where to connect.
#[derive(Debug, Serialize)]
struct Listening {
    uuid: String,
    address: String,
    port: u16,
    job_port: u16,
}

/// Carries connections until the job has ended.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let [job, ports] = invocation.operands.as_slice() else {
        return Err(Error::usage("must specify a job-uuid and a port"));
    };
    let (local, inside) = read_ports(ports)?;
    let bind = invocation.values.last("bind");
    let address = bind.map_or(Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)), |text| {
        text.parse().map_err(|_| invalid("bind", &text, "it is no IP address"))
    })?;
    let v6 = invocation.values.is("ipv6");
    // Before the channel: gRPC's threads must inherit the mask.
    let interrupt = Interrupt::watch();
    let server = connect(&invocation.values, out)?;
    let job = runs(server, &resolve::id_of(server, job)?)?;
    interrupt.about(&job.uuid);
    let to = SocketAddr::new(address, local);
    let listener = TcpListener::bind(to).map_err(|why| cannot_listen(to, &why))?;
    let at = listener.local_addr()?;
    let shown =
        Listening { uuid: job.uuid.clone(), address: at.ip().to_string(), port: at.port(), job_port: inside };
    if out.json {
        out.value_line(&shown)?;
    } else {
        out.text(&format!("{at} -> port {inside} of job {}\n", one_line(short(&job.uuid))))?;
    }
    let forward = Forward { server, uuid: job.uuid.clone(), port: inside, v6 };
    thread::Builder::new().name("accept".into()).spawn(move || accept(&listener, &Arc::new(forward), out))?;
    let mut watch = Watch::new(server);
    watch.end(&job.uuid)?;
    let ended = watch.status(&job.uuid, QUERY)?;
    let id = one_line(short(&job.uuid));
    out.note(&format!("rnx: job {id} has ended ({}); its ports are gone", one_line(&ended.status)));
    Ok(())
}

/// Reads the ports of `[LOCAL:]PORT`.
fn read_ports(text: &str) -> Result<(u16, u16)> {
    let wrong = |why: &str| Error::usage(format!("invalid port {text:?}: {why}; give [LOCAL:]PORT"));
    let port = |text: &str| text.parse::<u16>().map_err(|_| wrong("a port is a number up to 65535"));
    let (local, inside) = match text.split_once(':') {
        Some((local, inside)) => (port(local)?, port(inside)?),
        None => (port(text)?, port(text)?),
    };
    match inside {
        0 => Err(wrong("the job's port is 1 to 65535")),
        _ => Ok((local, inside)),
    }
}

/// The job, if it can be reached. Later refusals would come with each connection.
fn runs(server: &Server, uuid: &str) -> Result<GetJobStatusRes> {
    let request = GetJobStatusReq { uuid: uuid.into(), ..Default::default() };
    let job = server.ask(QUERY, |jobs, option| jobs.get_job_status_opt(&request, option))?;
    let refused = |text: String| Err(Error::Call(grpcio::RpcStatusCode::FAILED_PRECONDITION, text.into()));
    if is_terminal_status(&job.status) {
        return refused(format!("job is not running: {} (current status: {})", job.uuid, job.status));
    }
    if job.network == "host" {
        let text =
            format!("job {} has no network of its own (mode host): its ports are the host's", job.uuid);
        return refused(text);
    }
    Ok(job)
}

fn cannot_listen(at: SocketAddr, why: &std::io::Error) -> Error {
    let text = format!("cannot listen on {at}: {why}");
    let error = Error::Call(grpcio::RpcStatusCode::FAILED_PRECONDITION, text.into());
    match why.kind() {
        std::io::ErrorKind::AddrInUse => {
            error.hint("choose another local port, as 9000:80, or a free one with 0:80")
        }
        _ => error,
    }
}

/// Takes connections in, each on threads of its own.
fn accept(listener: &TcpListener, forward: &Arc<Forward>, out: Out) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((stream, _)) = listener.accept() else {
            // Nothing tells of a descriptor that comes free but the next try.
            thread::park_timeout(AGAIN);
            continue;
        };
        if open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS {
            open.fetch_sub(1, Ordering::SeqCst);
            out.note(&format!("rnx: connection refused: {CONNECTIONS} are open already"));
            continue;
        }
        let (forward, of_thread) = (forward.clone(), open.clone());
        let carry = move || {
            serve(&forward, stream, out);
            of_thread.fetch_sub(1, Ordering::SeqCst);
        };
        let thread = thread::Builder::new().name("connection".into()).stack_size(STACK).spawn(carry);
        if let Err(why) = thread {
            open.fetch_sub(1, Ordering::SeqCst);
            out.note(&format!("rnx: connection refused: cannot start a thread: {why}"));
        }
    }
}

fn serve(forward: &Forward, stream: TcpStream, out: Out) {
    if let Err(why) = forward.carry(stream) {
        out.note(&format!("rnx: connection broken off: {}", one_line(&why.to_string())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_one_or_two_numbers() {
        assert_eq!(read_ports("8080").unwrap(), (8080, 8080));
        assert_eq!((read_ports("0:80").unwrap(), read_ports("9:65535").unwrap()), ((0, 80), (9, 65535)));
        for wrong in ["", "0", "8080:0", "65536", "1:65536", "a", "1:2:3", "-1", ":80", "80:"] {
            let why = read_ports(wrong).unwrap_err().to_string();
            assert!(why.starts_with("invalid port"), "{wrong}: {why}");
        }
    }
}
