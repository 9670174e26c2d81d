//! The messages of Attach.

use super::Refusal;
use super::request::{invalid, job, short};
use crate::input::CHUNK;
use crate::job::JobRef;
use crate::pb::joblet::{AttachOpened, AttachReq, AttachRes, attach_req, attach_res};

/// The program that the first message names.
#[derive(Debug)]
pub(in crate::api) struct Opened {
    /// The job of the input.
    pub(in crate::api) job: JobRef,
    /// The command; empty: the job's own.
    pub(in crate::api) exec: String,
    /// Whether it is taken from another client.
    pub(in crate::api) take_over: bool,
}

/// Reads the first message.
///
/// # Errors
/// Another message comes first; it does not ask for the input; those of [`job`].
pub(in crate::api) fn opened(message: AttachReq) -> Result<Opened, Refusal> {
    let Some(attach_req::Message::Open(open)) = message.message else {
        return invalid("the first message of a call of Attach must be \"open\"".to_owned());
    };
    let at = open.at.unwrap_or_default();
    if !open.input {
        return invalid("input must be set: output comes by GetJobLogs".to_owned());
    }
    short("exec", &at.exec)?;
    let exec = at.exec.trim().to_ascii_lowercase();
    Ok(Opened { job: job(&at.uuid)?, exec, take_over: open.take_over })
}

/// A client's message once it holds the input.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::api) enum Sent {
    /// Bytes that stand at an offset.
    Data(u64, Vec<u8>),
    /// The end of the input.
    End,
}

/// Reads a later message.
///
/// # Errors
/// A second "open", an empty message, or more bytes than one message may have.
pub(in crate::api) fn sent(message: AttachReq) -> Result<Sent, Refusal> {
    match message.message {
        Some(attach_req::Message::Data(data)) if data.data.len() <= CHUNK => {
            Ok(Sent::Data(data.offset, data.data))
        }
        Some(attach_req::Message::Data(data)) => {
            let length = data.data.len();
            invalid(format!("data has {length} bytes, at most {CHUNK} are allowed in one message"))
        }
        Some(attach_req::Message::Eof(true)) => Ok(Sent::End),
        Some(attach_req::Message::Open(_)) => invalid("the call is open already".to_owned()),
        _ => invalid("the message has neither data nor eof".to_owned()),
    }
}

fn message(message: attach_res::Message) -> AttachRes {
    AttachRes { message: Some(message), ..AttachRes::default() }
}

/// Says that the client holds the input, and how many bytes that has.
pub(in crate::api) fn open_reply(input_offset: u64) -> AttachRes {
    message(attach_res::Message::Opened(AttachOpened { input_offset, ..AttachOpened::default() }))
}

/// Says how many bytes the input has now.
pub(in crate::api) fn ack(accepted: u64) -> AttachRes {
    message(attach_res::Message::InputAck(accepted))
}

/// Says that nobody reads any more.
pub(in crate::api) fn closed() -> AttachRes {
    message(attach_res::Message::InputClosed(true))
}

/// Says that another client has the input.
pub(in crate::api) fn taken() -> AttachRes {
    message(attach_res::Message::InputTaken(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::joblet::{AttachOpen, ExecRef, InputData};

    fn request(message: attach_req::Message) -> AttachReq {
        AttachReq { message: Some(message), ..AttachReq::default() }
    }

    fn open(uuid: &str, exec: &str, input: bool) -> AttachReq {
        let at = ExecRef { uuid: uuid.into(), exec: exec.into(), ..ExecRef::default() };
        let open = AttachOpen { at: Some(at).into(), input, ..AttachOpen::default() };
        request(attach_req::Message::Open(open))
    }

    fn data(length: usize) -> AttachReq {
        let data = InputData { offset: 7, data: vec![1; length], ..InputData::default() };
        request(attach_req::Message::Data(data))
    }

    #[test]
    fn first_message_names_the_program_and_asks_for_its_input() {
        let named = opened(open("f47ac10b", " AB", true)).unwrap();
        assert_eq!((named.exec.as_str(), named.take_over), ("ab", false));
        assert_eq!(opened(open("f47ac10b", "", true)).unwrap().exec, "");
        for wrong in [open("f47ac10b", "", false), open("", "", true), data(1), AttachReq::default()] {
            opened(wrong).unwrap_err();
        }
    }

    #[test]
    fn later_messages_have_bounded_data_or_the_end() {
        assert_eq!(sent(data(CHUNK)).unwrap(), Sent::Data(7, vec![1; CHUNK]));
        assert_eq!(sent(request(attach_req::Message::Eof(true))).unwrap(), Sent::End);
        let no_end = request(attach_req::Message::Eof(false));
        for wrong in [data(CHUNK + 1), open("f47ac10b", "", true), no_end, AttachReq::default()] {
            sent(wrong).unwrap_err();
        }
    }
}
