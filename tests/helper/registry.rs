//! A registry of runtimes: a web server of the test's own on loopback, behind a certificate of an authority of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Serves the files of a directory.
const SERVER: &str = "
import functools, http.server, ssl, sys
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=sys.argv[1]))
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
";

/// An authority, and a certificate for localhost that it has signed.
const CERTIFICATES: &str = "set -e
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=registry-ca
openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost
printf 'subjectAltName=DNS:localhost\\n' >ext
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.pem";

/// A web server that ends with this value.
pub struct Registry {
    dir: tempfile::TempDir,
    server: Child,
    port: u16,
}

impl Registry {
    pub fn start() -> Registry {
        let dir = tempfile::tempdir().unwrap();
        let made = Command::new("sh").args(["-c", CERTIFICATES]).current_dir(dir.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fs::create_dir(dir.path().join("files")).unwrap();
        let file = |name: &str| dir.path().join(name);
        let mut server = Command::new("python3")
            .args(["-c", SERVER])
            .args([file("files"), file("server.pem"), file("server.key")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the server says its port");
        Registry { dir, server, port }
    }

    /// The certificate of the authority.
    pub fn authority(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// The directory that it serves.
    pub fn files(&self) -> PathBuf {
        self.dir.path().join("files")
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Puts an archive in, and its release into `registry.json`; `change` gets the release.
    pub fn publish(
        &self,
        (name, version): (&str, &str),
        archive: &[u8],
        change: impl FnOnce(&mut serde_json::Value),
    ) {
        let file = format!("{name}-{version}.tgz");
        fs::write(self.files().join(&file), archive).unwrap();
        let mut release = serde_json::json!({
            "version": version,
            "description": "of the test",
            "download_url": format!("{}/{file}", self.url()),
            "checksum": joblet::image::Digest::of(archive).to_string(),
            "size": archive.len(),
            "platforms": [],
        });
        change(&mut release);
        let index = self.files().join("registry.json");
        let mut all: serde_json::Value = match fs::read(&index) {
            Ok(text) => serde_json::from_slice(&text).unwrap(),
            Err(_) => serde_json::json!({"version": "1", "runtimes": {}}),
        };
        all["runtimes"][name][version] = release;
        fs::write(index, all.to_string()).unwrap();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
