//! HTTP for `GET /metrics`: one request a connection, heads of at most 8 KiB, a few connections at a time, each with a
//! deadline. A scraper that hangs keeps nobody but itself.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::Level;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use super::page::{Format, page};
use super::{Counts, ExporterError, Figures, Tls};
use crate::diag;

/// Longest head of a request, bytes.
const HEAD: usize = 8 << 10;
/// Most lines of a head.
const LINES: usize = 64;
/// Connections that are served at the same time; others are closed at once.
const AT_ONCE: usize = 8;
/// The time of one connection, from its first byte to its last.
const DEADLINE: Duration = Duration::from_secs(5);

/// Asks the loop for what there is now; `None`: it ends, or has no time.
pub type GetFigures = Arc<dyn Fn() -> Option<Figures> + Send + Sync>;

/// The endpoint, until it is dropped.
#[derive(Debug)]
pub struct Exporter {
    address: SocketAddr,
    /// Closed, it ends the thread.
    stop: Option<std::os::fd::OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Exporter {
    /// Listens at this address and serves.
    ///
    /// # Errors
    /// The address cannot be bound, or there is no thread.
    pub fn start(
        address: SocketAddr,
        counts: Counts,
        figures: GetFigures,
        tls: Option<Tls>,
    ) -> Result<Exporter, ExporterError> {
        let listen = |source| ExporterError::Listen { address: address.to_string(), source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let (stopped, stop) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|why| ExporterError::Start(why.into()))?;
        let service = Arc::new(Service { counts, figures, tls, open: AtomicUsize::new(0) });
        let run = move || {
            loop {
                let mut ready = [PollFd::new(&listener, PollFlags::IN), PollFd::new(&stopped, PollFlags::IN)];
                if poll(&mut ready, None).is_ok() && !ready[1].revents().is_empty() {
                    return;
                }
                while let Ok((connection, _)) = listener.accept() {
                    service.accept(connection);
                }
            }
        };
        let thread = std::thread::Builder::new().name("metrics".into()).spawn(run);
        let thread = Some(thread.map_err(ExporterError::Start)?);
        Ok(Exporter { address, stop: Some(stop), thread })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Service {
    counts: Counts,
    figures: GetFigures,
    tls: Option<Tls>,
    open: AtomicUsize,
}

/// A status line and its body.
struct Reply(&'static str, &'static str, String);

impl Service {
    fn accept(self: &Arc<Self>, connection: TcpStream) {
        if self.open.fetch_add(1, Ordering::SeqCst) >= AT_ONCE {
            self.open.fetch_sub(1, Ordering::SeqCst);
            diag::limited!(Level::Warn, "too many readers of metrics at one time", limit = AT_ONCE);
            return;
        }
        let service = self.clone();
        let serve = move || {
            if let Err(why) = service.serve(connection) {
                diag::limited!(Level::Debug, "a reader of metrics got no answer", error = why);
            }
            service.open.fetch_sub(1, Ordering::SeqCst);
        };
        if std::thread::Builder::new().name("metrics-call".into()).spawn(serve).is_err() {
            self.open.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn serve(&self, connection: TcpStream) -> io::Result<()> {
        connection.set_nonblocking(false)?;
        let mut connection = Timed { connection, until: Instant::now() + DEADLINE };
        let Some(tls) = &self.tls else {
            let head = read_head(&mut connection)?;
            return write(&mut connection, &self.reply(&head));
        };
        let (mut stream, refused) = tls.accept(connection)?;
        let head = read_head(&mut stream)?;
        let reply = match refused {
            None => self.reply(&head),
            Some(why) => refuse("403 Forbidden", &why),
        };
        write(&mut stream, &reply)?;
        // A client that does not wait for the end has its answer.
        let _ = stream.shutdown();
        Ok(())
    }

    fn reply(&self, head: &[u8]) -> Reply {
        let mut headers = [httparse::EMPTY_HEADER; LINES];
        let mut request = httparse::Request::new(&mut headers);
        let path = match request.parse(head) {
            Ok(httparse::Status::Complete(_)) => request.path.unwrap_or_default(),
            Ok(httparse::Status::Partial) => {
                return refuse("431 Request Header Fields Too Large", "the head is too long");
            }
            Err(why) => return refuse("400 Bad Request", &format!("no request of HTTP: {why}")),
        };
        if path.split('?').next() != Some("/metrics") {
            return refuse("404 Not Found", "there is /metrics only");
        }
        if request.method != Some("GET") {
            return refuse("405 Method Not Allowed", "/metrics can be read only: GET");
        }
        let accept = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("accept"));
        let accept = accept.map(|header| String::from_utf8_lossy(header.value)).unwrap_or_default();
        let format = Format::of(&accept);
        let Some(figures) = (self.figures)() else {
            return refuse("503 Service Unavailable", "the daemon ends, or has no time");
        };
        match page(&self.counts, figures, format) {
            Ok(text) => Reply("200 OK", format.content_type(), text),
            Err(_) => refuse("500 Internal Server Error", "the page cannot be written"),
        }
    }
}

/// A status line with a reason.
fn refuse(status: &'static str, why: &str) -> Reply {
    Reply(status, "text/plain; charset=utf-8", format!("{why}\n"))
}

fn write(connection: &mut impl Write, Reply(status, content, body): &Reply) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    connection.write_all(head.as_bytes())?;
    connection.write_all(body.as_bytes())?;
    connection.flush()
}

/// A connection whose every step ends at the same deadline.
#[derive(Debug)]
struct Timed {
    connection: TcpStream,
    until: Instant,
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.connection.set_read_timeout(Some(left(self.until)?))?;
        self.connection.read(into)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.connection.set_write_timeout(Some(left(self.until)?))?;
        self.connection.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.connection.flush()
    }
}

/// Reads until the empty line behind the head, or as much as a head may have.
fn read_head(connection: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD {
        match connection.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            got => head.extend_from_slice(&part[..got]),
        }
    }
    Ok(head)
}

/// The time that is left, which is not zero: a socket would take that as none.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
