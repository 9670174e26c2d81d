//! TLS of the endpoint: the node's certificate, and clients with one of the node's CA.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use openssl::ssl::{SslAcceptor, SslStream};

/// Makes what accepts a connection, with the certificates that are in force now.
type MakeAcceptor = Arc<dyn Fn() -> Result<SslAcceptor, String> + Send + Sync>;
/// Judges the certificate of a client, in PEM.
type Judge = Arc<dyn Fn(&[u8]) -> Result<(), String> + Send + Sync>;

/// How connections are accepted, and which clients get an answer. Both are called for each connection, so that a reload takes
/// effect with the next one.
#[derive(Clone)]
pub struct Tls {
    acceptor: MakeAcceptor,
    judge: Judge,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Accepts with what `acceptor` makes, which demands a certificate, and answers clients that `judge` takes.
    pub fn new(
        acceptor: impl Fn() -> Result<SslAcceptor, String> + Send + Sync + 'static,
        judge: impl Fn(&[u8]) -> Result<(), String> + Send + Sync + 'static,
    ) -> Tls {
        Tls { acceptor: Arc::new(acceptor), judge: Arc::new(judge) }
    }

    /// The handshake on a connection, and why its client gets no page.
    pub(super) fn accept<S: Read + Write + fmt::Debug>(
        &self,
        connection: S,
    ) -> io::Result<(SslStream<S>, Option<String>)> {
        let acceptor = (self.acceptor)().map_err(io::Error::other)?;
        let stream = acceptor.accept(connection).map_err(|why| io::Error::other(why.to_string()))?;
        let cert = stream.ssl().peer_certificate().ok_or_else(|| io::Error::other("no certificate"))?;
        let refused = (self.judge)(&cert.to_pem()?).err();
        Ok((stream, refused))
    }
}
