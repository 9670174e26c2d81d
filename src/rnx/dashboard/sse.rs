//! Server-Sent Events (WHATWG HTML, section 9.2): events as text on a connection that stays open.
//!
//! The data of an event is one line of JSON, so nothing of a job can end a line or begin a field. Where nothing happens a
//! comment shows that both sides are there.

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::http;

/// The longest silence on a connection.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// The pause before a browser comes back, milliseconds.
const RETRY: u32 = 1000;

/// The text of one event. `id` must be without line breaks: ours are numbers.
pub(super) fn event(name: &str, id: Option<&str>, data: &impl Serialize) -> String {
    // Our values have text keys only, so they always have a form.
    fields(name, id, &serde_json::to_string(data).unwrap_or_default())
}

fn fields(name: &str, id: Option<&str>, data: &str) -> String {
    match id {
        Some(id) => format!("event: {name}\nid: {id}\ndata: {data}\n\n"),
        None => format!("event: {name}\ndata: {data}\n\n"),
    }
}

/// The events of one reader.
pub(super) struct Events<'a> {
    to: &'a mut TcpStream,
    last: Instant,
}

impl<'a> Events<'a> {
    /// Sends the head of the answer.
    pub(super) fn begin(to: &'a mut TcpStream) -> io::Result<Self> {
        http::begin(to, "text/event-stream; charset=utf-8", &[])?;
        to.write_all(format!("retry: {RETRY}\n\n").as_bytes())?;
        Ok(Events { to, last: Instant::now() })
    }

    /// Sends one event.
    pub(super) fn send(&mut self, name: &str, id: Option<&str>, data: &impl Serialize) -> io::Result<()> {
        self.write(&event(name, id, data))
    }

    /// Sends one event whose data is JSON already, on one line.
    pub(super) fn text(&mut self, name: &str, id: Option<&str>, data: &str) -> io::Result<()> {
        self.write(&fields(name, id, data))
    }

    /// Moves the place of the reader without an event.
    pub(super) fn place(&mut self, id: &str) -> io::Result<()> {
        self.write(&format!("id: {id}\n\n"))
    }

    /// Finds out whether the reader is there, which it must be asked now and then.
    pub(super) fn check(&mut self) -> io::Result<()> {
        if http::is_gone(self.to) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.last.elapsed() < HEARTBEAT { Ok(()) } else { self.write(": heartbeat\n\n") }
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.last = Instant::now();
        self.to.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Reads events as a browser does: name, id, data.
    fn read(text: &str) -> Vec<(String, String, String)> {
        let mut found = Vec::new();
        let (mut name, mut id, mut data) = (String::new(), String::new(), String::new());
        for line in text.split(['\n', '\r']) {
            match line.split_once(": ") {
                Some(("event", value)) => name = value.into(),
                Some(("id", value)) => id = value.into(),
                Some(("data", value)) => data.push_str(value),
                _ if line.is_empty() && !data.is_empty() => {
                    found.push((std::mem::take(&mut name), id.clone(), std::mem::take(&mut data)));
                }
                _ => {}
            }
        }
        found
    }

    #[test]
    fn event_has_its_name_id_and_data() {
        assert_eq!(
            event("output", Some("7"), &json!({"data": "a\nb"})),
            "event: output\nid: 7\ndata: {\"data\":\"a\\nb\"}\n\n"
        );
        assert_eq!(event("end", None, &json!(1)), "event: end\ndata: 1\n\n");
    }

    proptest! {
        #[test]
        fn any_text_of_a_job_stays_inside_its_event(text in any::<String>(), seq in any::<u64>()) {
            let sent = event("output", Some(&seq.to_string()), &json!({"data": text}))
                + &event("end", None, &json!({}));
            let events = read(&sent);
            prop_assert_eq!(events.len(), 2);
            prop_assert_eq!(&events[0].1, &seq.to_string());
            let data: Value = serde_json::from_str(&events[0].2).unwrap();
            prop_assert_eq!(data["data"].as_str(), Some(text.as_str()));
        }
    }
}
