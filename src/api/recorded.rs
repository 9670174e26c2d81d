//! A call's lines in the audit trail.
//!
//! Calls that only an admin may make have a line before they do anything and one before their reply ([`crate::audit`]). A line has
//! the names and ids of the message that [`NAMES`] lists, and nothing else of it: no argument, variable or file.

use std::sync::Mutex;

use grpcio::{RpcStatus, RpcStatusCode};
use openssl::sha::sha256;
use protobuf::reflect::{ReflectValueRef, RuntimeType};
use protobuf::{MessageDyn, reflect::RuntimeFieldType};

use super::access::Peer;
use super::status;
use crate::audit::{Audit, Entry, Event};
use crate::diag;

/// Fields whose values are names or ids, and what a line calls them.
const NAMES: [(&str, &str); 18] = [
    ("uuid", "job"),
    ("jobUuid", "job"),
    ("job_uuid", "job"),
    ("workflowUuid", "workflow"),
    ("job", "ofJob"),
    ("name", "name"),
    ("command", "command"),
    ("runtime", "runtime"),
    ("runtimeSpec", "runtime"),
    ("handle", "upload"),
    ("volume", "volume"),
    ("network", "network"),
    ("cidr", "cidr"),
    ("size", "size"),
    ("image", "image"),
    ("gpu", "gpu"),
    ("request_id", "requestId"),
    ("method", "ofMethod"),
];

/// Writes the names of a message into a line, also those of a field that is a message, as the first message of a copy has.
pub(super) fn name_objects(entry: &mut Entry, message: &dyn MessageDyn) {
    name_below(entry, message, 2);
}

fn name_below(entry: &mut Entry, message: &dyn MessageDyn, depth: u32) {
    for field in message.descriptor_dyn().fields() {
        let RuntimeFieldType::Singular(kind) = field.runtime_field_type() else { continue };
        match kind {
            RuntimeType::String => {
                let Some((_, word)) = NAMES.iter().find(|(name, _)| *name == field.name()) else { continue };
                if let Some(ReflectValueRef::String(text)) = field.get_singular(message)
                    && !text.is_empty()
                {
                    entry.about(word, text);
                }
            }
            RuntimeType::Message(_) if depth > 0 => {
                if let Some(ReflectValueRef::Message(below)) = field.get_singular(message) {
                    name_below(entry, &*below, depth - 1);
                }
            }
            _ => {}
        }
    }
}

/// The line of a refused call.
pub(super) fn refusal(peer: &Peer, address: &str, method: &str, status: &RpcStatus) -> Entry {
    let mut entry = of_peer(peer, address, method);
    entry.event = Event::Refused;
    status::word(status.code()).clone_into(&mut entry.code);
    status.message().clone_into(&mut entry.why);
    entry
}

/// The line by which C-core tells of a TLS handshake that it refused, before OpenSSL's error.
const HANDSHAKE: &str = "Handshake failed with fatal error ";

/// Has refused TLS handshakes noted in the trail. C-core tells OpenSSL's reason, and neither the peer nor its certificate.
pub fn note_handshakes(audit: Audit) {
    diag::watch_core(move |line| {
        let Some((_, error)) = line.split_once(HANDSHAKE) else { return };
        let reason = reason_of(error).to_owned();
        // Equal reasons of a minute share a line, whoever the clients are.
        let kind = sha256(reason.as_bytes());
        let entry = move || Entry {
            method: "handshake".to_owned(),
            code: status::word(RpcStatusCode::UNAUTHENTICATED).to_owned(),
            why: format!("TLS handshake refused: {reason}"),
            ..Entry::new(Event::Refused)
        };
        audit.refused(kind, "handshake", status::word(RpcStatusCode::UNAUTHENTICATED), entry);
    });
}

/// The last part of an error of OpenSSL: `error:0A0000C7:SSL routines::peer did not return a certificate.`
fn reason_of(error: &str) -> &str {
    error.rsplit("::").next().unwrap_or(error).trim().trim_end_matches('.')
}

fn of_peer(peer: &Peer, address: &str, method: &str) -> Entry {
    let who = peer.who();
    Entry {
        method: method.to_owned(),
        peer: address.to_owned(),
        subject: who.subject.clone(),
        serial: who.serial.clone(),
        role: peer.role_word().to_owned(),
        ..Entry::default()
    }
}

/// How far the lines of a call are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The call has done nothing yet.
    Asked,
    /// Its first line is written.
    Begun,
    /// Both lines are written.
    Over,
}

/// The lines of one call. Dropped before the second one is written, it has that written without a wait.
#[derive(Debug)]
pub(super) struct Recorded {
    audit: Audit,
    state: Mutex<(Step, Entry)>,
}

impl Recorded {
    /// The lines of a call that is about to begin.
    pub(super) fn new(audit: &Audit, peer: &Peer, address: &str, method: &str) -> Recorded {
        let entry = Entry { call: audit.call(), ..of_peer(peer, address, method) };
        Recorded { audit: audit.clone(), state: Mutex::new((Step::Asked, entry)) }
    }

    /// Has the first line written, with what the message names.
    ///
    /// # Errors
    /// It cannot be written, and `audit.onFull` says that the call must not go on.
    pub(super) async fn request(&self, message: &dyn MessageDyn) -> Result<(), RpcStatus> {
        let entry = self.change(|step, entry| {
            name_objects(entry, message);
            (*step == Step::Asked).then(|| {
                *step = Step::Begun;
                entry.clone()
            })
        });
        let Some(entry) = entry else { return Ok(()) };
        self.audit.request(entry).await.map_err(|why| {
            self.change(|step, _| *step = Step::Over);
            status::new(RpcStatusCode::RESOURCE_EXHAUSTED, &why.to_string())
        })
    }

    /// Has the second line written, with what the reply names, and waits for that.
    pub(super) async fn answer(&self, code: RpcStatusCode, reply: Option<&dyn MessageDyn>) {
        if let Some(entry) = self.end(code, reply) {
            self.audit.told(entry).await;
        }
    }

    /// The same without a wait, for a call that is gone.
    pub(super) fn gone(&self, code: RpcStatusCode) {
        if let Some(entry) = self.end(code, None) {
            self.audit.note(entry);
        }
    }

    fn end(&self, code: RpcStatusCode, reply: Option<&dyn MessageDyn>) -> Option<Entry> {
        self.change(|step, entry| {
            if *step != Step::Begun {
                return None;
            }
            *step = Step::Over;
            if let Some(reply) = reply {
                name_objects(entry, reply);
            }
            entry.event = Event::Answer;
            status::word(code).clone_into(&mut entry.code);
            Some(entry.clone())
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Step, &mut Entry) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (step, entry) = &mut *state;
        change(step, entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::joblet::{ForwardOpen, ForwardReq, RunJobRequest};

    fn named(message: &dyn MessageDyn) -> String {
        let mut entry = Entry::default();
        name_objects(&mut entry, message);
        serde_json::Value::Object(entry.object).to_string()
    }

    #[test]
    fn lines_have_names_and_ids_and_no_secret_of_a_message() {
        let mut run = RunJobRequest { name: "n".into(), command: "sh".into(), ..Default::default() };
        run.args.push("--password=hunter2".into());
        run.environment.insert("A".into(), "hunter2".into());
        run.secret_environment.insert("B".into(), "hunter2".into());
        assert_eq!(named(&run), r#"{"command":"sh","name":"n"}"#);
        let mut forward = ForwardReq::default();
        forward.set_open(ForwardOpen { uuid: "f47a".into(), ..Default::default() });
        assert_eq!(named(&forward), r#"{"job":"f47a"}"#);
    }
}
