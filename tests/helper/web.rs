//! `rnx dashboard` of a test, and a plain client of HTTP that sees every byte of an answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};

use super::TestDaemon;

/// A dashboard that ends with this value.
pub struct Dashboard {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// The token of its first address.
    pub token: String,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// Everything behind the head.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(found, _)| *found == name))
            .map(|(_, value)| value)
    }
}

impl Dashboard {
    /// Starts one of this node of the client configuration (`default`: administrator, `viewer`).
    pub fn start(d: &TestDaemon, node: &str) -> Dashboard {
        let mut command = d.rnx_command(["--node", node, "dashboard", "--listen", "127.0.0.1:0"]);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let rest = line.trim().strip_prefix("http://").unwrap_or_else(|| panic!("{line}"));
        let (address, token) = rest.split_once("/?token=").unwrap();
        Dashboard { child, address: address.parse().unwrap(), token: token.to_owned() }
    }

    /// The address to begin with in a browser.
    pub fn first_address(&self) -> String {
        format!("http://{}/?token={}", self.address, self.token)
    }

    /// The process id of rnx.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Sends bytes and returns the connection.
    pub fn send(&self, request: &str) -> TcpStream {
        let mut connection = TcpStream::connect(self.address).unwrap();
        // A refusal may come before all is sent.
        let _ = connection.write_all(request.as_bytes());
        connection
    }

    /// Sends bytes and reads the whole answer.
    pub fn raw(&self, request: &str) -> Answer {
        let mut bytes = Vec::new();
        let _ = self.send(request).read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// A request with these headers besides Host.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.raw(&self.request(method, path, headers, body))
    }

    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
        let mut text = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            text.push_str(&format!("Host: {}\r\n", self.address));
        }
        headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text + "\r\n" + body
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// Asks as a program with the token.
    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[("Authorization", &self.bearer())], "")
    }

    /// Changes something as a program with the token.
    pub fn post(&self, path: &str, body: &str) -> Answer {
        let bearer = self.bearer();
        self.ask("POST", path, &[("Authorization", &bearer), ("Content-Type", "application/json")], body)
    }

    /// Opens a stream of events behind this id.
    pub fn events(&self, path: &str, last: Option<&str>) -> Events {
        let bearer = self.bearer();
        let mut headers = vec![("Authorization", bearer.as_str())];
        headers.extend(last.map(|id| ("Last-Event-ID", id)));
        let mut lines = BufReader::new(self.send(&self.request("GET", path, &headers, "")));
        let mut line = String::new();
        while lines.read_line(&mut line).unwrap() > 2 {
            line.clear();
        }
        Events { lines }
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Server-Sent Events as a browser reads them.
pub struct Events {
    lines: BufReader<TcpStream>,
}

/// One event.
#[derive(Debug, Default, Clone)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// The last id of the stream.
    pub id: String,
    /// Its data.
    pub data: serde_json::Value,
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let (mut event, mut data) = (Event::default(), String::new());
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end_matches('\n').split_once(": ") {
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("id", id)) => event.id = id.to_owned(),
                Some(("data", text)) => data.push_str(text),
                _ if line == "\n" && !data.is_empty() => {
                    event.data = serde_json::from_str(&data).unwrap();
                    return Some(event);
                }
                _ => {}
            }
        }
    }
}
