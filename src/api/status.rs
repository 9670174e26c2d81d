//! The mapping of errors to gRPC codes and texts.

use grpcio::{Metadata, MetadataBuilder, RpcStatus, RpcStatusCode};

use super::convert::Refusal;
use crate::daemon::command::CommandError;
use crate::upload::StoreError;

/// Bytes of the longest text. It travels percent-encoded in a header; peers accept 8 KiB of all headers together
/// (`GRPC_ARG_MAX_METADATA_SIZE`) and report a longer text as an error of their own.
const LONGEST: usize = 2048;

/// A status with a text that every peer accepts.
pub(super) fn new(code: RpcStatusCode, text: &str) -> RpcStatus {
    let mut room = LONGEST;
    // A character that is not printable ASCII is sent as %XX for each of its bytes.
    let kept = text.char_indices().find_map(|(at, c)| {
        let cost = if c == ' ' || c.is_ascii_graphic() { 1 } else { 3 * c.len_utf8() };
        match room.checked_sub(cost) {
            Some(left) => {
                room = left;
                None
            }
            None => Some(at),
        }
    });
    let text = match kept {
        Some(at) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    };
    RpcStatus::with_message(code, text)
}

/// The name of a code, as its documentation has it.
pub(super) fn word(code: RpcStatusCode) -> &'static str {
    const WORDS: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let number = usize::try_from(i32::from(code)).ok();
    number.and_then(|number| WORDS.get(number)).copied().unwrap_or("UNKNOWN")
}

/// The status of a command that the loop refused.
pub(super) fn of_command(error: &CommandError) -> RpcStatus {
    let code = match error {
        CommandError::NotFound(_) => RpcStatusCode::NOT_FOUND,
        CommandError::Ambiguous { .. } => RpcStatusCode::INVALID_ARGUMENT,
        CommandError::NoWorkflow(_) => RpcStatusCode::NOT_FOUND,
        CommandError::AmbiguousWorkflow { .. } => RpcStatusCode::INVALID_ARGUMENT,
        CommandError::WrongState(_) => RpcStatusCode::FAILED_PRECONDITION,
        CommandError::Exhausted(_) => RpcStatusCode::RESOURCE_EXHAUSTED,
        CommandError::Invalid(_) => RpcStatusCode::INVALID_ARGUMENT,
        CommandError::Exists(_) => RpcStatusCode::ALREADY_EXISTS,
        CommandError::Missing(_) => RpcStatusCode::NOT_FOUND,
        CommandError::SetUp(_) => RpcStatusCode::INTERNAL,
        CommandError::Unreachable(_) | CommandError::ShuttingDown => RpcStatusCode::UNAVAILABLE,
    };
    new(code, &error.to_string())
}

/// Metadata that asks a refused client to retry after so many seconds (name and unit of RFC 9110, section 10.2.3). It is
/// initial metadata, because grpcio sends no other with an error.
pub(super) fn retry_after() -> Option<Metadata> {
    let mut hint = MetadataBuilder::new();
    hint.add_str("retry-after", "1").ok()?;
    Some(hint.build())
}

/// The status of a request that this room refused.
pub(super) fn of_refusal(refusal: &Refusal) -> RpcStatus {
    let code = match refusal {
        Refusal::Invalid(_) | Refusal::Upload(_) => RpcStatusCode::INVALID_ARGUMENT,
        Refusal::Forbidden(_) => RpcStatusCode::PERMISSION_DENIED,
        Refusal::Missing(_) => RpcStatusCode::FAILED_PRECONDITION,
        Refusal::NotFound(_) => RpcStatusCode::NOT_FOUND,
        Refusal::Exhausted(_) => RpcStatusCode::RESOURCE_EXHAUSTED,
    };
    new(code, &refusal.to_string())
}

/// The status of an upload that the store refused.
pub(super) fn of_store(error: &StoreError) -> RpcStatus {
    let code = match error {
        StoreError::Find(_) => RpcStatusCode::NOT_FOUND,
        StoreError::Begin(_) => RpcStatusCode::ALREADY_EXISTS,
        StoreError::Bound(_) => RpcStatusCode::RESOURCE_EXHAUSTED,
        StoreError::Resume { .. } => RpcStatusCode::OUT_OF_RANGE,
        StoreError::Measure { .. } => RpcStatusCode::INVALID_ARGUMENT,
        StoreError::Verify(_) => RpcStatusCode::DATA_LOSS,
        StoreError::Continue(_) => RpcStatusCode::ABORTED,
        StoreError::Wait(_) => RpcStatusCode::DEADLINE_EXCEEDED,
        StoreError::Write { .. } => RpcStatusCode::INTERNAL,
    };
    new(code, &error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_the_loop_has_its_code_and_keeps_its_words() {
        for (error, code, text) in [
            (CommandError::NotFound("ab".into()), RpcStatusCode::NOT_FOUND, "job not found: ab"),
            (
                CommandError::Ambiguous { prefix: "ab12".into(), candidates: vec!["x".into(), "y".into()] },
                RpcStatusCode::INVALID_ARGUMENT,
                "ambiguous job id ab12 matches 2 jobs: x, y",
            ),
            (
                CommandError::WrongState("job is not running: x (current status: COMPLETED)".into()),
                RpcStatusCode::FAILED_PRECONDITION,
                "job is not running: x (current status: COMPLETED)",
            ),
            (CommandError::Exhausted("many".into()), RpcStatusCode::RESOURCE_EXHAUSTED, "many"),
            (CommandError::SetUp("wall".into()), RpcStatusCode::INTERNAL, "wall"),
            (CommandError::Invalid("range".into()), RpcStatusCode::INVALID_ARGUMENT, "range"),
            (CommandError::Exists("lab".into()), RpcStatusCode::ALREADY_EXISTS, "lab"),
            (CommandError::Missing("lab".into()), RpcStatusCode::NOT_FOUND, "lab"),
            (CommandError::ShuttingDown, RpcStatusCode::UNAVAILABLE, "the daemon is shutting down"),
        ] {
            let status = of_command(&error);
            assert_eq!((status.code(), status.message()), (code, text));
        }
    }

    #[test]
    fn a_text_is_cut_to_what_a_header_takes() {
        let plain = new(RpcStatusCode::INTERNAL, &"x".repeat(1 << 20));
        assert_eq!(plain.message().len(), LONGEST + 3);
        let encoded = new(RpcStatusCode::INTERNAL, &"\u{1f980}".repeat(1000));
        assert!(encoded.message().len() <= LONGEST / 3 + 3 && encoded.message().ends_with("..."));
        assert_eq!(new(RpcStatusCode::INTERNAL, "short\n").message(), "short\n");
    }
}
