//! One HTTP client with a bound on every wait. The only file that knows the async runtime.
//!
//! rusoto speaks HTTP through hyper and tokio. Its own client ends the process on a response header that is not ASCII and
//! logs each request's headers, signature and session token included, at debug level; so requests go through the client
//! here, which does neither. The runtime has no thread of its own: futures run on the thread that waits for them, under a
//! time limit that covers connection, request and body, and end early when the caller's [`Stop`] is set.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use hyper::body::HttpBody;
use hyper::client::HttpConnector;
use hyper::{Body, Client, HeaderMap, Request};
use hyper_tls::HttpsConnector;
use tokio::runtime::{Builder, Runtime};

use super::backoff::Stop;
use super::error::{Failure, Kind};

/// How often a wait looks at the flag that ends it.
const GLANCE: Duration = Duration::from_millis(100);
/// The time for a connection; name resolution included.
const CONNECT: Duration = Duration::from_secs(5);
/// An idle connection is used again within this time; AWS closes it later.
const IDLE: Duration = Duration::from_secs(15);
/// Most bytes of a response. A page of events has 1 MiB, and JSON doubles it at worst.
const RESPONSE: usize = 16 * 1024 * 1024;

/// A complete answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    /// Names and values of the header; bytes of a value that are not UTF-8 are replaced.
    pub(super) header: HeaderMap<String>,
    /// The whole body.
    pub(super) body: Vec<u8>,
}

/// A client for AWS and for its metadata services.
#[derive(Debug)]
pub(super) struct Http {
    /// Always there; taken out only by the drop.
    runtime: Option<Runtime>,
    client: Client<HttpsConnector<HttpConnector>, Body>,
    ahead_ms: AtomicI64,
}

impl Http {
    /// Makes the client; no connection is opened.
    pub(super) fn new() -> io::Result<Arc<Http>> {
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let connector = HttpsConnector::new_with_connector(tcp);
        let client = Client::builder().pool_idle_timeout(IDLE).pool_max_idle_per_host(8).build(connector);
        Ok(Arc::new(Http { runtime: Some(runtime), client, ahead_ms: AtomicI64::new(0) }))
    }

    /// Runs a future to its end, for as long as `patience` and the flag allow.
    pub(super) fn wait<T>(
        &self,
        patience: Duration,
        stop: &Stop,
        future: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let Some(runtime) = &self.runtime else {
            return Err(Failure::new(Kind::Stopped, "stopped", "the client is closed"));
        };
        let until = Instant::now() + patience;
        runtime.block_on(async {
            let mut future = pin!(future);
            loop {
                let left = until.saturating_duration_since(Instant::now());
                if let Ok(value) = tokio::time::timeout(left.min(GLANCE), future.as_mut()).await {
                    return Ok(value);
                }
                if stop.is_set() {
                    return Err(Failure::new(Kind::Stopped, "stopped", "the request was given up"));
                }
                if left.is_zero() {
                    let message = format!("no complete answer within {} s", patience.as_secs());
                    return Err(Failure::new(Kind::Busy, "timeout", message));
                }
            }
        })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// The connection failed, or the answer is too large or ends early.
    pub(super) async fn exchange(&self, request: Request<Body>) -> Result<Answer, String> {
        let mut response = self.client.request(request).await.map_err(|e| e.to_string())?;
        let mut body = Vec::new();
        while let Some(part) = response.data().await {
            body.extend_from_slice(&part.map_err(|e| format!("cannot read the answer: {e}"))?);
            if body.len() > RESPONSE {
                return Err(format!("the answer has more than {RESPONSE} bytes"));
            }
        }
        let readable = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let header: HeaderMap<String> = response
            .headers()
            .iter()
            .map(|(name, value)| (name.clone(), readable(value.as_bytes())))
            .collect();
        if let Some(there) = header.get("date").and_then(|date| http_date_ms(date)) {
            self.ahead_ms.store(there - local_ms(), Ordering::Relaxed);
        }
        Ok(Answer { status: response.status().as_u16(), header, body })
    }

    /// A small request without TLS or signature, for the metadata services. The body is a text.
    ///
    /// # Errors
    /// There was no answer, or its status is not 200.
    pub(super) fn fetch(
        &self,
        method: &str,
        url: &str,
        header: &[(&str, &str)],
    ) -> Result<String, FetchError> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in header {
            request = request.header(*name, *value);
        }
        // The text of an error of the builder would be that of a bad URL or header, which may hold a token.
        let request =
            request.body(Body::empty()).map_err(|_| FetchError::Silent("it is no valid request".into()))?;
        let answer = self
            .wait(METADATA, &Stop::new(), self.exchange(request))
            .map_err(|failure| FetchError::Silent(failure.message))?
            .map_err(FetchError::Silent)?;
        if answer.status != 200 {
            return Err(FetchError::Status(answer.status));
        }
        String::from_utf8(answer.body).map_err(|_| FetchError::Silent("the answer is no text".into()))
    }

    /// The time of AWS, ms since the epoch: the local clock, corrected by the last answer where they differ by more than a
    /// minute.
    pub(super) fn now_ms(&self) -> i64 {
        local_ms() + self.clock_ahead_ms().unwrap_or(0)
    }

    /// How far AWS's clock is ahead of ours; `None`: less than a minute.
    pub(super) fn clock_ahead_ms(&self) -> Option<i64> {
        Some(self.ahead_ms.load(Ordering::Relaxed)).filter(|ahead| ahead.abs() > 60_000)
    }
}

/// The patience with a metadata service, which is on this host or beside it.
const METADATA: Duration = Duration::from_secs(1);

/// A failed request to a metadata service.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// An answer with another status than 200.
    #[error("HTTP status {0}")]
    Status(u16),
    /// No answer that can be read.
    #[error("{0}")]
    Silent(String),
}

impl Drop for Http {
    fn drop(&mut self) {
        // A resolver's thread may hang in getaddrinfo(3); nobody waits for it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn local_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A `Date` header (RFC 9110, 5.6.7), ms since the epoch.
fn http_date_ms(text: &str) -> Option<i64> {
    Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A server for one connection that reads a request and answers with these bytes.
    fn server(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let _ = peer.read(&mut [0; 4096]);
            let _ = peer.write_all(answer);
            // Until the client closes: an answer that stops is not one that ends.
            let _ = peer.read(&mut [0; 1]);
        });
        url
    }

    fn exchange(url: &str, patience: Duration, stop: &Stop) -> Result<Result<Answer, String>, Failure> {
        let http = Http::new().unwrap();
        let request = Request::builder().uri(url).body(Body::empty()).unwrap();
        http.wait(patience, stop, http.exchange(request))
    }

    #[test]
    fn a_header_that_is_no_ascii_is_survived() {
        let url = server(b"HTTP/1.1 200 OK\r\nx-odd: a\xff\xe9z\r\ncontent-length: 2\r\n\r\nok");
        let answer = exchange(&url, Duration::from_secs(60), &Stop::new()).unwrap().unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok"[..]));
        assert!(answer.header["x-odd"].starts_with('a'));
    }

    #[test]
    fn a_silent_peer_and_half_an_answer_end_by_the_time_limit() {
        for answer in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"] {
            let failure = exchange(&server(answer), Duration::from_millis(300), &Stop::new()).unwrap_err();
            assert_eq!((failure.kind, failure.code.as_str()), (Kind::Busy, "timeout"));
        }
    }

    #[test]
    fn the_flag_ends_a_request_that_hangs() {
        let stop = Stop::new();
        stop.set();
        let failure = exchange(&server(b""), Duration::from_secs(600), &stop).unwrap_err();
        assert_eq!(failure.kind, Kind::Stopped);
    }

    #[test]
    fn the_clock_of_the_peer_is_learned_from_its_answers() {
        let url =
            server(b"HTTP/1.1 200 OK\r\ndate: Fri, 02 Jan 2026 03:04:05 GMT\r\ncontent-length: 0\r\n\r\n");
        let http = Http::new().unwrap();
        assert_eq!(http.clock_ahead_ms(), None);
        http.fetch("GET", &url, &[]).unwrap();
        let now = http.now_ms();
        assert!((now - 1_767_323_045_000).abs() < 60_000, "{now}");
        assert!(http.clock_ahead_ms().is_some());
    }

    #[test]
    fn a_metadata_service_with_a_bad_status_or_no_port_is_an_error() {
        let http = Http::new().unwrap();
        let url = server(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
        assert!(matches!(http.fetch("PUT", &url, &[]), Err(FetchError::Status(403))));
        assert!(matches!(http.fetch("GET", "http://127.0.0.1:1/", &[]), Err(FetchError::Silent(_))));
        assert!(matches!(http.fetch("GET", "::", &[("a", "b\n")]), Err(FetchError::Silent(_))));
    }
}
