//! The contents of a line.

use serde::Serialize;

/// Most characters of a text that a client chose.
const TEXT: usize = 256;

/// The kind of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A call begins.
    #[default]
    Request,
    /// A call has ended.
    Answer,
    /// A call, or more of them, had no permission, or came from a client with too many.
    Refused,
    /// The daemon has started.
    Start,
    /// The daemon ends.
    Stop,
    /// The configuration was read again, or could not be.
    Reload,
    /// Lines could not be written.
    Gap,
    /// The end of the file was incomplete when the daemon started.
    Torn,
    /// An old file is removed (`audit.keep`).
    Removed,
}

/// A line without its place in the chain. Empty fields are left out.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The kind of the line.
    pub event: Event,
    /// Tells one call's two lines from all others.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub call: String,
    /// The full name of the method.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// The address of the client, as C-core names it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer: String,
    /// The subject of its certificate.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The serial number of its certificate, hexadecimal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serial: String,
    /// The role of the client.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub role: String,
    /// The names and ids of the things that the call is about.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub object: serde_json::Map<String, serde_json::Value>,
    /// The name of the status code of the answer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// The reason of a refusal, or what else a person wants to read.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// How many calls or lines the line stands for; 0: itself.
    #[serde(skip_serializing_if = "is_zero")]
    pub times: u64,
    /// A file that is removed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// The last hash of that file, or the digest of a torn end.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// The bytes of a torn end.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Entry {
    /// A line of this kind with nothing in it.
    pub fn new(event: Event) -> Entry {
        Entry { event, ..Entry::default() }
    }

    /// The same with a name or an id of what the call is about.
    pub fn about(&mut self, what: &str, which: &str) {
        self.object.insert(what.to_owned(), cut(which).into());
    }

    /// Cuts what a client chose to the length that a line may have.
    pub(super) fn bounded(mut self) -> Entry {
        for text in [&mut self.method, &mut self.peer, &mut self.subject, &mut self.serial, &mut self.why] {
            if text.len() > TEXT {
                *text = cut(text);
            }
        }
        self
    }
}

/// The beginning of a text.
fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
