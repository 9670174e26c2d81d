//! The program joblet-resolver: its command line, and the start of both processes.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::net::sockopt::socket_acceptconn;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::confine::{Role, confine};
use super::front::{End, Front, Given};
use super::wires::Wires;
use super::{FRONT_FILES, PIN_FILES, VERSION, hello, pin};
use crate::sys;
use crate::sys::inherited;

const ABOUT: &str = "joblet-resolver: answers the name questions of joblet's jobs

Usage:
  joblet-resolver front USER ROUTER   started by joblet, which gives it its sockets
  joblet-resolver pin USER ROUTER     the same, for the process that opens addresses of egress lists
  joblet-resolver --version
";
/// Sockets that front may have: questions under way and connections of jobs.
const OPEN_FILES: u64 = 4096;

/// The whole program.
pub fn main() -> ! {
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["front", user, router] => user_id(user).and_then(|user| front(user, router)),
        ["pin", user, _] => user_id(user).and_then(start_pin),
        ["--version"] => write(&mut io::stdout(), &format!("joblet-resolver {VERSION}\n")),
        ["--help" | "-h"] => write(&mut io::stdout(), ABOUT),
        _ => {
            let _ = write(&mut io::stderr(), ABOUT);
            sys::exit_now(2)
        }
    };
    let code = i32::from(done.is_err());
    if let Err(why) = done {
        let _ = write(&mut io::stderr(), &format!("joblet-resolver: {why}\n"));
    }
    sys::exit_now(code)
}

fn write(to: &mut dyn Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())
}

fn user_id(text: &str) -> io::Result<u32> {
    let refused = || io::Error::other(format!("{text:?} is no id of a user without rights"));
    text.parse().ok().filter(|user| *user > 0 && *user < u32::MAX).ok_or_else(refused)
}

/// Takes the descriptors that the daemon left, from 3 on.
fn take<const N: usize>(names: [&str; N]) -> io::Result<[OwnedFd; N]> {
    let mut taken = Vec::with_capacity(N);
    for (number, name) in (3..).zip(names) {
        let missing =
            |why| io::Error::other(format!("cannot take {name}: {why}; joblet starts this program"));
        taken.push(inherited::take(number).map_err(missing)?);
    }
    taken.try_into().map_err(|_| io::Error::other("a descriptor is missing"))
}

fn front(user: u32, router: &str) -> io::Result<()> {
    let owner = rustix::process::getuid().as_raw();
    let [udp, tcp, listener, pin, wires] = take(FRONT_FILES)?;
    for socket in [&tcp, &listener] {
        if !socket_acceptconn(socket)? {
            return Err(io::Error::other("a socket that is to listen does not"));
        }
    }
    for socket in [&udp, &tcp, &listener, &pin] {
        rustix::io::ioctl_fionbio(socket, true)?;
    }
    let limit = getrlimit(Resource::Nofile);
    let files = limit.maximum.unwrap_or(OPEN_FILES).min(OPEN_FILES);
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum: Some(files) })?;
    let given = Given {
        udp: mio::net::UdpSocket::from_std(udp.into()),
        tcp: mio::net::TcpListener::from_std(tcp.into()),
        listener: OwnedFd::from(UnixListener::from(listener)),
        pin,
        wires: Wires::new(wires),
        owner,
        hello: hello(router),
    };
    let mut front = Front::new(given)?;
    confine(Role::Front, user)?;
    match front.run()? {
        End::Stopped | End::NobodyAsks => Ok(()),
        End::PinIsGone => Err(io::Error::other("the process pin is gone")),
    }
}

fn start_pin(user: u32) -> io::Result<()> {
    let [front, filter] = take(PIN_FILES)?;
    rustix::io::ioctl_fionbio(&front, true)?;
    confine(Role::Pin, user)?;
    pin::run(front, filter)
}
