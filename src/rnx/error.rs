//! The failures of rnx, each with one sentence for people, one code for `--json` and one number for the shell.

use std::io;

use grpcio::RpcStatusCode;

/// The room's result.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// A failure, named after what was tried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Understanding the command line.
    #[error("{}", .0.text)]
    Parse(Message),
    /// Reading the client configuration.
    #[error("{}", .0.text)]
    Configure(Message),
    /// Checking rnx's own certificate before it is shown to a server.
    #[error("{}", .0.text)]
    Certify(Message),
    /// Reaching a server that takes our certificate.
    #[error("{}", .0.text)]
    Connect(Message),
    /// Reading the files of an upload.
    #[error("{}", .0.text)]
    Upload(Message),
    /// Reading a workflow file.
    #[error("{}", .0.text)]
    Workflow(Message),
    /// Asking the server; the text is the server's own.
    #[error("{}", .1.text)]
    Call(RpcStatusCode, Message),
    /// Learning how a started job ended.
    #[error("{}", .0.text)]
    Follow(Message),
    /// Printing, for example into a pipe whose reader has gone.
    #[error("cannot write the output: {0}")]
    Print(#[from] io::Error),
}

/// The sentence and the hint of a failure.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// One sentence: what we were doing, to which thing, why not.
    pub(crate) text: String,
    /// A remedy, if one is known.
    pub(crate) hint: Option<String>,
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Message { text, hint: None }
    }
}

impl Error {
    /// A wrong command line.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Error::Parse(text.into().into())
    }

    /// Adds what to try.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        match &mut self {
            Error::Parse(s) | Error::Configure(s) | Error::Certify(s) | Error::Connect(s) => {
                s.hint = Some(hint.into())
            }
            Error::Upload(s) | Error::Workflow(s) | Error::Follow(s) | Error::Call(_, s) => {
                s.hint = Some(hint.into())
            }
            Error::Print(_) => {}
        }
        self
    }

    /// The remedy, if one is known.
    pub(crate) fn hint_text(&self) -> Option<&str> {
        match self {
            Error::Parse(s) | Error::Configure(s) | Error::Certify(s) | Error::Connect(s) => {
                s.hint.as_deref()
            }
            Error::Upload(s) | Error::Workflow(s) | Error::Follow(s) | Error::Call(_, s) => s.hint.as_deref(),
            Error::Print(_) => None,
        }
    }

    /// The `code` of `--json`: always a name of the gRPC list, also for a failure before the first call.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::Parse(_) | Error::Upload(_) | Error::Workflow(_) => "INVALID_ARGUMENT",
            Error::Configure(_) => "FAILED_PRECONDITION",
            Error::Certify(_) => "UNAUTHENTICATED",
            Error::Connect(_) | Error::Follow(_) => "UNAVAILABLE",
            Error::Call(code, _) => code_name(*code),
            Error::Print(_) => "INTERNAL",
        }
    }

    /// True when the reader of our stdout has gone; rnx then ends without a message.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Error::Print(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }

    /// True for an answer of the server that begins with these words.
    pub(crate) fn is_call_with(&self, words: &str) -> bool {
        matches!(self, Error::Call(_, message) if message.text.starts_with(words))
    }

    /// True when the server was not there, or went away: the same question may be answered later.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Error::Connect(_) | Error::Call(RpcStatusCode::UNAVAILABLE, _))
    }

    /// The exit code for this failure; `every` is the one that the command has for all that keep a job from running. `job
    /// run` answers 125 as docker does, because every other number may be the job's own.
    pub(crate) fn exit_code(&self, every: Option<i32>) -> i32 {
        if self.is_broken_pipe() {
            return BROKEN_PIPE;
        }
        match self {
            // The job may have run: that is not what 125 says.
            Error::Print(_) => 1,
            _ if every.is_some() => every.unwrap_or(1),
            Error::Parse(_) => 2,
            Error::Configure(_) | Error::Upload(_) | Error::Workflow(_) | Error::Follow(_) => 1,
            Error::Certify(_) | Error::Connect(_) => 3,
            Error::Call(code, message) => call_exit_code(*code, &message.text),
        }
    }
}

/// The code that a shell reports for a program that SIGPIPE ended: 128+13.
const BROKEN_PIPE: i32 = 141;

fn call_exit_code(code: RpcStatusCode, text: &str) -> i32 {
    match code {
        // A prefix that several jobs share is "which one?", not a wrong command line.
        RpcStatusCode::INVALID_ARGUMENT if text.starts_with("ambiguous") => 5,
        RpcStatusCode::INVALID_ARGUMENT | RpcStatusCode::OUT_OF_RANGE => 2,
        RpcStatusCode::UNAVAILABLE | RpcStatusCode::UNAUTHENTICATED => 3,
        RpcStatusCode::PERMISSION_DENIED => 4,
        RpcStatusCode::NOT_FOUND => 5,
        RpcStatusCode::FAILED_PRECONDITION | RpcStatusCode::ALREADY_EXISTS => 6,
        RpcStatusCode::DEADLINE_EXCEEDED => 7,
        _ => 1,
    }
}

/// The name of a gRPC code as the API reference spells it.
pub(crate) fn code_name(code: RpcStatusCode) -> &'static str {
    match code {
        RpcStatusCode::CANCELLED => "CANCELED",
        RpcStatusCode::INVALID_ARGUMENT => "INVALID_ARGUMENT",
        RpcStatusCode::DEADLINE_EXCEEDED => "DEADLINE_EXCEEDED",
        RpcStatusCode::NOT_FOUND => "NOT_FOUND",
        RpcStatusCode::ALREADY_EXISTS => "ALREADY_EXISTS",
        RpcStatusCode::PERMISSION_DENIED => "PERMISSION_DENIED",
        RpcStatusCode::RESOURCE_EXHAUSTED => "RESOURCE_EXHAUSTED",
        RpcStatusCode::FAILED_PRECONDITION => "FAILED_PRECONDITION",
        RpcStatusCode::ABORTED => "ABORTED",
        RpcStatusCode::OUT_OF_RANGE => "OUT_OF_RANGE",
        RpcStatusCode::UNIMPLEMENTED => "UNIMPLEMENTED",
        RpcStatusCode::INTERNAL => "INTERNAL",
        RpcStatusCode::UNAVAILABLE => "UNAVAILABLE",
        RpcStatusCode::DATA_LOSS => "DATA_LOSS",
        RpcStatusCode::UNAUTHENTICATED => "UNAUTHENTICATED",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exit code of every failure of `job run`.
    const RUN: Option<i32> = Some(125);

    fn call(code: RpcStatusCode, text: &str) -> Error {
        Error::Call(code, text.to_string().into())
    }

    #[test]
    fn each_error_kind_has_its_exit_code_and_run_always_exits_125() {
        let errors = [
            (Error::usage("x"), 2),
            (Error::Configure(Message::default()), 1),
            (Error::Certify(Message::default()), 3),
            (Error::Connect(Message::default()), 3),
            (call(RpcStatusCode::PERMISSION_DENIED, ""), 4),
            (call(RpcStatusCode::NOT_FOUND, ""), 5),
            (call(RpcStatusCode::INVALID_ARGUMENT, "ambiguous job id f47a matches 2 jobs"), 5),
            (call(RpcStatusCode::INVALID_ARGUMENT, "uuid is required"), 2),
            (call(RpcStatusCode::FAILED_PRECONDITION, ""), 6),
            (call(RpcStatusCode::DEADLINE_EXCEEDED, ""), 7),
            (call(RpcStatusCode::INTERNAL, ""), 1),
        ];
        for (error, code) in errors {
            assert_eq!(error.exit_code(None), code, "{error:?}");
            assert_eq!(error.exit_code(RUN), 125, "{error:?}");
        }
    }

    #[test]
    fn a_reader_that_went_away_ends_us_as_sigpipe_would() {
        let gone = Error::Print(io::ErrorKind::BrokenPipe.into());
        assert_eq!((gone.exit_code(None), gone.exit_code(RUN)), (141, 141));
        let full = Error::Print(io::ErrorKind::StorageFull.into());
        assert_eq!((full.exit_code(None), full.exit_code(RUN)), (1, 1));
    }
}
