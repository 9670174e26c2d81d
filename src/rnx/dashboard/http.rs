//! HTTP/1.1, the part of it that a browser on this machine needs: one request a connection, a head and a body of bounded
//! sizes, and answers whose headers let nothing but our own files into a page.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Longest head of a request, bytes.
const HEAD: usize = 16 << 10;
/// Most lines of a head.
const LINES: usize = 100;
/// Longest body, bytes: a form with variables.
const BODY: usize = 1 << 20;
/// The time for a whole request.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest time for which a reader may take nothing of its answer.
const STUCK: Duration = Duration::from_secs(30);

/// On every answer. Pages run our scripts and nothing else, ask nobody else, and are shown in no frame.
const SAFE: &str = "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
                    X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
                    Cross-Origin-Resource-Policy: same-origin\r\nCross-Origin-Opener-Policy: same-origin\r\n\
                    Cache-Control: no-store\r\nConnection: close\r\n";

/// One request of a browser.
#[derive(Debug, Default, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    /// The path without its query, as it was sent.
    pub(super) path: String,
    /// The query, decoded.
    pub(super) query: Vec<(String, String)>,
    /// Names in small letters.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// The first header of this name, in small letters.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The last value of a name in the query; an empty one counts as absent.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().rev().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The parts of the path, decoded.
    pub(super) fn segments(&self) -> Vec<String> {
        self.path.split('/').filter(|part| !part.is_empty()).map(|part| decoded(part, false)).collect()
    }
}

/// One answer to a browser.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: &'static str,
    pub(super) content: &'static str,
    /// Headers beside those of every answer.
    pub(super) extra: Vec<(&'static str, String)>,
    pub(super) body: Cow<'static, [u8]>,
}

impl Reply {
    /// A file of ours.
    pub(super) fn file(content: &'static str, body: &'static [u8]) -> Reply {
        Reply { status: "200 OK", content, extra: Vec::new(), body: body.into() }
    }

    /// A sentence as the body.
    pub(super) fn text(status: &'static str, text: &str) -> Reply {
        let body = format!("{text}\n").into_bytes().into();
        Reply { status, content: "text/plain; charset=utf-8", extra: Vec::new(), body }
    }

    /// A value as the body.
    pub(super) fn json(status: &'static str, value: &impl Serialize) -> Reply {
        // Our values have text keys only, so they always have a form.
        let body = serde_json::to_vec(value).unwrap_or_default().into();
        Reply { status, content: "application/json; charset=utf-8", extra: Vec::new(), body }
    }

    /// The same with one header more.
    pub(super) fn with(mut self, name: &'static str, value: String) -> Reply {
        self.extra.push((name, value));
        self
    }

    /// Sends it to the browser.
    pub(super) fn send(&self, to: &mut TcpStream) -> io::Result<()> {
        to.set_write_timeout(Some(STUCK))?;
        let mut head = head(self.status, self.content, &self.extra);
        head.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        to.write_all(head.as_bytes())?;
        to.write_all(&self.body)
    }
}

/// Sends the head of an answer whose end is the end of the connection.
pub(super) fn begin(to: &mut TcpStream, content: &str, extra: &[(&'static str, String)]) -> io::Result<()> {
    to.set_write_timeout(Some(STUCK))?;
    to.set_nodelay(true)?;
    to.write_all((head("200 OK", content, extra) + "\r\n").as_bytes())
}

fn head(status: &str, content: &str, extra: &[(&'static str, String)]) -> String {
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Type: {content}\r\n{SAFE}");
    for (name, value) in extra {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head
}

/// Why there is no request: an answer, or a connection that is gone.
pub(super) enum Unread {
    Refused(Reply),
    Gone,
}

impl From<io::Error> for Unread {
    fn from(_: io::Error) -> Self {
        Unread::Gone
    }
}

fn refuse(status: &'static str, why: &str) -> Unread {
    Unread::Refused(Reply::text(status, why))
}

/// Reads one request.
pub(super) fn read(from: &mut TcpStream) -> Result<Request, Unread> {
    let until = Instant::now() + DEADLINE;
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        if bytes.len() > HEAD {
            return Err(refuse("431 Request Header Fields Too Large", "the head of the request is too long"));
        }
        more(from, &mut bytes, until)?;
    };
    let (mut request, length) = parse(&bytes[..end])?;
    while bytes.len() - end < length {
        more(from, &mut bytes, until)?;
    }
    request.body = bytes[end..end + length].to_vec();
    Ok(request)
}

fn more(from: &mut TcpStream, bytes: &mut Vec<u8>, until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    from.set_read_timeout(Some(left))?;
    let mut part = [0; 4096];
    match from.read(&mut part)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        got => {
            bytes.extend_from_slice(&part[..got]);
            Ok(())
        }
    }
}

/// A head, and the length of the body behind it.
fn parse(head: &[u8]) -> Result<(Request, usize), Unread> {
    let mut lines = [httparse::EMPTY_HEADER; LINES];
    let mut parsed = httparse::Request::new(&mut lines);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(refuse("400 Bad Request", "the request is cut off")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(refuse("431 Request Header Fields Too Large", "the request has too many headers"));
        }
        Err(why) => return Err(refuse("400 Bad Request", &format!("no request of HTTP: {why}"))),
    }
    let target = parsed.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let text = |value: &[u8]| String::from_utf8_lossy(value).trim().to_owned();
    let headers: Vec<_> =
        parsed.headers.iter().map(|line| (line.name.to_ascii_lowercase(), text(line.value))).collect();
    let request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: pairs(query),
        headers,
        body: Vec::new(),
    };
    if ["host", "content-length", "origin", "cookie"].iter().any(|name| count(&request, name) > 1) {
        return Err(refuse("400 Bad Request", "a header that a request has once is there twice"));
    }
    if request.header("transfer-encoding").is_some() {
        return Err(refuse("411 Length Required", "send the body with its Content-Length"));
    }
    let length = match request.header("content-length").map(str::parse::<usize>) {
        None => 0,
        Some(Ok(length)) if length <= BODY => length,
        Some(Ok(_)) => {
            return Err(refuse("413 Content Too Large", &format!("a body has at most {BODY} bytes")));
        }
        Some(Err(_)) => return Err(refuse("400 Bad Request", "Content-Length is no number of bytes")),
    };
    Ok((request, length))
}

fn count(request: &Request, name: &str) -> usize {
    request.headers.iter().filter(|(found, _)| found == name).count()
}

fn pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let split = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    split.map(|(name, value)| (decoded(name, true), decoded(value, true))).collect()
}

/// Percent signs decoded, and `+` as a blank where it is a form's; what is no UTF-8 then becomes U+FFFD.
fn decoded(text: &str, form: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |at: usize| tail.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(if form && *first == b'+' { b' ' } else { *first });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether the other side has closed the connection. It sends nothing behind its request.
pub(super) fn is_gone(connection: &TcpStream) -> bool {
    let closed = || -> io::Result<bool> {
        connection.set_nonblocking(true)?;
        let seen = connection.peek(&mut [0]);
        connection.set_nonblocking(false)?;
        match seen {
            Ok(bytes) => Ok(bytes == 0),
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(why) => Err(why),
        }
    };
    closed().unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(head: &str) -> Result<(Request, usize), &'static str> {
        parse(head.as_bytes()).map_err(|why| match why {
            Unread::Refused(reply) => reply.status,
            Unread::Gone => "gone",
        })
    }

    #[test]
    fn request_has_its_path_query_headers_and_length() {
        let (request, length) = parsed(
            "POST /api/jobs/a%2Fb/log?filter=a+b%26c&from=7&from= HTTP/1.1\r\nHost: x\r\nContent-LENGTH: 5\r\n\r\n",
        )
        .unwrap();
        assert_eq!((request.method.as_str(), length), ("POST", 5));
        assert_eq!(request.segments(), ["api", "jobs", "a/b", "log"]);
        assert_eq!((request.query("filter"), request.query("from")), (Some("a b&c"), None));
        assert_eq!((request.header("host"), request.header("x")), (Some("x"), None));
    }

    #[test]
    fn requests_that_could_be_read_in_two_ways_are_refused() {
        for (head, status) in [
            ("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", "400 Bad Request"),
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "400 Bad Request"),
            ("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400 Bad Request"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "411 Length Required"),
            ("POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", "413 Content Too Large"),
            ("\0\0\r\n\r\n", "400 Bad Request"),
        ] {
            assert_eq!(parsed(head).map(drop).unwrap_err(), status, "{head}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_a_refusal(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn encoded_text_is_decoded_to_itself(text in "\\PC{0,30}") {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(decoded(&encoded, true), text);
        }
    }
}
