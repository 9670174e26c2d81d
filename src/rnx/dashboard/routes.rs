//! From an address to its answer.

use std::io;
use std::net::TcpStream;

use super::http::{self, Reply, Request, Unread};
use super::{Dashboard, api, assets, streams};

/// Whether an address is a stream, of which there are fewer than of other answers.
fn is_stream(path: &[&str]) -> bool {
    matches!(
        path,
        ["events"]
            | ["node", "events"]
            | ["jobs", _, "log" | "metrics", "events"]
            | ["jobs", _, "log", "raw"]
    )
}

/// Reads the one request of a connection and answers it. `stream` takes a place among the streams, while there is one.
///
/// # Errors
/// The connection broke.
pub(super) fn serve<P>(
    dashboard: &Dashboard,
    connection: &mut TcpStream,
    stream: impl FnOnce() -> Option<P>,
) -> io::Result<()> {
    let request = match http::read(connection) {
        Ok(request) => request,
        Err(Unread::Refused(reply)) => return reply.send(connection),
        Err(Unread::Gone) => return Ok(()),
    };
    if let Some(reply) = dashboard.access.stop(&request) {
        return reply.send(connection);
    }
    let segments = request.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let Some(("api", path)) = segments.split_first().map(|(first, rest)| (*first, rest)) else {
        return file(&request).send(connection);
    };
    if request.method != "GET" || !is_stream(path) {
        return api::answer(dashboard, path, &request).send(connection);
    }
    let Some(_place) = stream() else {
        let text = "too many streams are open: close a tab, or wait";
        return Reply::text("503 Service Unavailable", text).with("Retry-After", "2".into()).send(connection);
    };
    match path {
        ["jobs", id, "log", "raw"] => streams::download(dashboard.server, id, &request, connection),
        _ => streams::answer(dashboard, path, &request, connection),
    }
}

fn file(request: &Request) -> Reply {
    let name = if request.path == "/" { "index.html" } else { request.path.trim_start_matches('/') };
    match assets::find(name) {
        Some((content, body)) if request.method == "GET" => Reply::file(content, body),
        Some(_) => Reply::text("405 Method Not Allowed", "files can be read only"),
        None => Reply::text("404 Not Found", "there is no such address"),
    }
}
