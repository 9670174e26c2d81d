//! The messages of an import of an image, both ways.

use super::Refusal;
use super::request::{invalid, repeated};
use crate::daemon::command::{ImportPiece, ImportRequest, ImportedRuntime};
use crate::pb::joblet::{ImportRuntimeRequest, ImportRuntimeResponse};

/// Longest piece in bytes.
const CHUNK: usize = 1 << 20;
/// Longest platform or name of an image in bytes.
const LONGEST: usize = 512;

/// The first message of a call.
///
/// # Errors
/// A name or version that no runtime can have, or a text or piece that is too long.
pub(in crate::api) fn import_start(
    mut message: ImportRuntimeRequest,
) -> Result<(ImportRequest, ImportPiece), Refusal> {
    let name = message.name.parse()?;
    let version = match message.version.as_str() {
        "" => None,
        text => Some(text.parse()?),
    };
    for (field, text) in [("platform", &message.platform), ("image", &message.image)] {
        if text.len() > LONGEST {
            let shown = repeated(text);
            return invalid(format!("{field} \"{shown}\" has more than {LONGEST} bytes"));
        }
    }
    let (platform, image) = (std::mem::take(&mut message.platform), std::mem::take(&mut message.image));
    let request = ImportRequest { name, version, platform, image, replace: message.replace };
    Ok((request, piece(message.data, &message.sha256)?))
}

/// A later message.
///
/// # Errors
/// It names a runtime again, or its piece is too long.
pub(in crate::api) fn import_piece(message: ImportRuntimeRequest) -> Result<ImportPiece, Refusal> {
    if !message.name.is_empty() {
        return invalid("only the first message of an import names a runtime".to_owned());
    }
    piece(message.data, &message.sha256)
}

fn piece(data: Vec<u8>, sha256: &[u8]) -> Result<ImportPiece, Refusal> {
    if data.len() > CHUNK {
        return invalid(format!("a piece of an image has {} bytes, at most {CHUNK} are allowed", data.len()));
    }
    let sha256 = match sha256 {
        [] => None,
        digest => match digest.try_into() {
            Ok(digest) => Some(digest),
            Err(_) => {
                return invalid(format!("the digest of an image has {} bytes instead of 32", digest.len()));
            }
        },
    };
    Ok(ImportPiece { data, sha256 })
}

/// The reply to a client whose image is a runtime now.
pub(in crate::api) fn imported(made: ImportedRuntime) -> ImportRuntimeResponse {
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    ImportRuntimeResponse {
        name: made.id.name.to_string(),
        version: made.id.version.to_string(),
        size_bytes: i64::try_from(made.bytes).unwrap_or(i64::MAX),
        layers_new: count(made.new_layers),
        layers_shared: count(made.shared_layers),
        notes: made.notes,
        ..ImportRuntimeResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(message: ImportRuntimeRequest) -> String {
        import_start(message).unwrap_err().to_string()
    }

    #[test]
    fn first_message_names_a_runtime_and_later_ones_do_not() {
        let first = ImportRuntimeRequest {
            name: "app".into(),
            version: "1.2.0-rc.1".into(),
            data: vec![1],
            ..Default::default()
        };
        let (request, start) = import_start(first.clone()).unwrap();
        assert_eq!((request.name.as_str(), start.data.len(), start.sha256), ("app", 1, None));
        assert_eq!(request.version.map(|version| version.to_string()).as_deref(), Some("1.2.0-rc.1"));
        assert!(import_piece(first).unwrap_err().to_string().contains("first message"));
        let last = ImportRuntimeRequest { sha256: vec![7; 32], ..Default::default() };
        assert_eq!(import_piece(last).unwrap().sha256, Some([7; 32]));
    }

    #[test]
    fn hostile_first_messages_are_refused_by_their_field() {
        let named = || ImportRuntimeRequest { name: "app".into(), ..Default::default() };
        assert!(
            refusal(ImportRuntimeRequest { name: "../x".into(), ..named() }).contains("name of a runtime")
        );
        assert!(!refusal(ImportRuntimeRequest { version: "../1".into(), ..named() }).is_empty());
        assert!(refusal(ImportRuntimeRequest { image: "x".repeat(1 << 20), ..named() }).len() < 400);
        assert!(refusal(ImportRuntimeRequest { platform: "x".repeat(600), ..named() }).contains("platform"));
        assert!(refusal(ImportRuntimeRequest { data: vec![0; CHUNK + 1], ..named() }).contains("1048576"));
        assert!(refusal(ImportRuntimeRequest { sha256: vec![0; 31], ..named() }).contains("instead of 32"));
    }
}
