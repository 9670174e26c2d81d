//! Connections: one thread each, so many at the same time and no more. One above that is answered 503 at once; a browser
//! comes back by itself. Streams have fewer places, so that questions find one while every tab follows something.

use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::super::error::Result;
use super::{Dashboard, routes};

/// Connections that are served at the same time.
const AT_ONCE: usize = 96;
/// Streams among them.
const STREAMS: usize = 48;
/// The pause after a failure to accept, for example without descriptors.
const PAUSE: Duration = Duration::from_millis(100);
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A place among so many; dropped, it is free again.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Place> {
        let free = |now| (now < most).then_some(now + 1);
        taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, free).ok().map(|_| Place(taken.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Serves until the process ends.
///
/// # Errors
/// The socket is no longer one.
pub(crate) fn serve(dashboard: Dashboard, listener: &TcpListener) -> Result<()> {
    let dashboard = Arc::new(dashboard);
    let (connections, streams) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    loop {
        let mut connection = match listener.accept() {
            Ok((connection, _)) => connection,
            Err(why) if why.kind() == io::ErrorKind::InvalidInput => return Err(why.into()),
            Err(_) => {
                std::thread::park_timeout(PAUSE);
                continue;
            }
        };
        let Some(place) = Place::take(&connections, AT_ONCE) else {
            // So few bytes always have room in a new socket.
            let _ = connection.write_all(FULL);
            continue;
        };
        let (dashboard, streams) = (dashboard.clone(), streams.clone());
        let answer = move || {
            let _place = place;
            let done = routes::serve(&dashboard, &mut connection, || Place::take(&streams, STREAMS));
            close(&connection, done.is_err());
        };
        // Without a thread the connection is closed, which a browser tries again.
        let _ = std::thread::Builder::new().name("dashboard".into()).spawn(answer);
    }
}

/// Closes in order: what the client still sends, such as a body that was refused, would reset the connection under the answer.
fn close(connection: &TcpStream, broken: bool) {
    if broken || connection.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let _ = connection.set_read_timeout(Some(Duration::from_secs(1)));
    let mut rest = io::Read::take(connection, 4 << 20);
    let _ = io::copy(&mut rest, &mut io::sink());
}
