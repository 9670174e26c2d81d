//! The messages of an upload that comes ahead of its job.

use uuid::Uuid;

use super::request::{invalid, repeated, upload};
use super::{Refusal, Rules};
use crate::daemon::command::StoredFiles;
use crate::job::JobSpec;
use crate::pb::joblet::{UploadEntry, UploadRequest};
use crate::upload::receive::{CHUNK, Piece, Start};
use crate::upload::{self, ClientKey, Store, Upload};

/// Most handles of one job.
const HANDLES: usize = 64;
/// Bytes of all paths and targets of one upload.
const NAMES: usize = 16 << 20;

/// The first message of a call.
///
/// # Errors
/// The rule that is broken; for an entry those of [`upload::check`].
pub(in crate::api) fn upload_start(
    message: UploadRequest,
    client: ClientKey,
    rules: &Rules,
) -> Result<(Start, Piece), Refusal> {
    let mut message = message;
    let handle = upload_handle(&message.handle)?;
    let (entries, offset) = (std::mem::take(&mut message.entries), message.offset);
    message.handle.clear();
    message.offset = 0;
    let piece = upload_piece(message)?;
    if entries.is_empty() {
        return Ok((Start { handle, client, entries: None, offset }, piece));
    }
    if offset != 0 {
        return invalid(
            "a new upload begins at offset 0; leave the entries out to go on with one".to_owned(),
        );
    }
    let (uploads, sizes): (Vec<Upload>, Vec<u64>) =
        entries.into_iter().map(entry).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let names = |upload: &Upload| upload.path.len() + upload.target.as_ref().map_or(0, String::len);
    let bytes: usize = uploads.iter().map(names).sum();
    if bytes > NAMES {
        return invalid(format!("the paths of the upload have {bytes} bytes, at most {NAMES} are allowed"));
    }
    upload::check(&uploads, &rules.link_roots).map_err(Refusal::Upload)?;
    let entries = Some(uploads.into_iter().zip(sizes).collect());
    Ok((Start { handle, client, entries, offset }, piece))
}

fn entry(entry: UploadEntry) -> Result<(Upload, u64), Refusal> {
    let upload = upload(entry.file.into_option().unwrap_or_default())?;
    let is_file = !upload.is_directory && upload.target.is_none();
    if !upload.content.is_empty() || (entry.size > 0 && !is_file) {
        let shown = repeated(&String::from_utf8_lossy(&upload.path));
        return invalid(format!("entry \"{shown}\": contents of files come behind the entries"));
    }
    Ok((upload, entry.size))
}

/// A message behind the first one.
///
/// # Errors
/// A piece that is too long, a digest that is none, or a field of the first message.
pub(in crate::api) fn upload_piece(message: UploadRequest) -> Result<Piece, Refusal> {
    if !message.handle.is_empty() || !message.entries.is_empty() || message.offset != 0 {
        return invalid("handle, entries and offset belong into the first message of an upload".to_owned());
    }
    if message.data.len() > CHUNK {
        let length = message.data.len();
        return invalid(format!("data has {length} bytes, at most {CHUNK} are allowed in one message"));
    }
    let sha256 = match message.sha256.len() {
        0 => None,
        32 => message.sha256.try_into().ok(),
        length => return invalid(format!("sha256 has {length} bytes instead of 32")),
    };
    Ok(Piece { data: message.data, sha256 })
}

/// The handle of an upload: a UUID as clients write it.
///
/// # Errors
/// Another text.
pub(in crate::api) fn upload_handle(text: &str) -> Result<Uuid, Refusal> {
    match Uuid::try_parse(text) {
        Ok(handle) if text.len() == 36 && handle.get_version_num() == 4 => Ok(handle),
        _ => invalid(format!("invalid handle \"{}\": give a random UUID (version 4)", repeated(text))),
    }
}

/// The uploads that a job names. The spec notes their handles and their first paths.
///
/// # Errors
/// Too many handles, or one that cannot be a handle. One that is not there is left to the loop, which knows whether the
/// same request has started its job before.
pub(in crate::api) fn stored(
    handles: &[String],
    store: &Store,
    client: Option<&ClientKey>,
    spec: &mut JobSpec,
) -> Result<StoredFiles, Refusal> {
    let files = find(handles, store, client)?;
    for stored in &files.found {
        spec.upload_paths.extend_from_slice(stored.shown());
    }
    for text in handles {
        spec.upload_handles.push(upload_handle(text)?.to_string());
    }
    Ok(files)
}

/// The uploads with these handles.
///
/// # Errors
/// Too many handles, or one that cannot be a handle.
pub(super) fn find(
    handles: &[String],
    store: &Store,
    client: Option<&ClientKey>,
) -> Result<StoredFiles, Refusal> {
    if handles.len() > HANDLES {
        return invalid(format!("{} upload_handles given, at most {HANDLES} are allowed", handles.len()));
    }
    let mut files = StoredFiles::default();
    for text in handles {
        let handle = upload_handle(text)?;
        let found =
            client.map_or_else(|| Err("the client has no certificate".to_owned()), |c| store.find(handle, c));
        match found {
            Ok(stored) => files.found.push(stored),
            Err(why) => files.missing = files.missing.or(Some(why)),
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::daemon::DaemonConfig;
    use crate::job::limits::CoreSet;
    use crate::pb::joblet::FileUpload;

    const HANDLE: &str = "2d4c1f0e-58cc-4372-a567-0e02b2c3d479";

    fn start(message: UploadRequest) -> Result<(Start, Piece), String> {
        let rules = Rules::new(&DaemonConfig::default(), CoreSet::parse("0").unwrap(), 1024).unwrap();
        upload_start(message, ClientKey::of(b"c"), &rules).map_err(|refusal| refusal.to_string())
    }

    fn new(path: &str, size: u64) -> UploadRequest {
        let file = FileUpload { path: path.into(), ..Default::default() };
        let entry = UploadEntry { file: Some(file).into(), size, ..Default::default() };
        UploadRequest { handle: HANDLE.into(), entries: vec![entry], ..Default::default() }
    }

    #[test]
    fn first_message_begins_an_upload_or_goes_on_with_one() {
        let (started, piece) = start(UploadRequest { data: vec![1, 2], ..new("a", 2) }).unwrap();
        let entries = started.entries.unwrap();
        assert_eq!((entries[0].0.path.as_slice(), entries[0].1, piece.data.len()), (&b"a"[..], 2, 2));
        let again = UploadRequest { handle: HANDLE.into(), offset: 7, ..Default::default() };
        let (started, _) = start(again).unwrap();
        assert_eq!((started.entries.is_none(), started.offset), (true, 7));
    }

    #[test]
    fn hostile_messages_are_refused_with_the_rule() {
        for handle in ["", "x", "2d4c1f0e58cc4372a5670e02b2c3d479", "2d4c1f0e-58cc-1372-a567-0e02b2c3d479"] {
            assert!(
                start(UploadRequest { handle: handle.into(), ..new("a", 0) }).unwrap_err().contains("UUID")
            );
        }
        assert!(start(new("../x", 1)).unwrap_err().contains("invalid upload path"));
        assert!(start(UploadRequest { offset: 1, ..new("a", 1) }).unwrap_err().contains("offset 0"));
        let long = UploadRequest { data: vec![0; CHUNK + 1], ..Default::default() };
        assert!(upload_piece(long).unwrap_err().to_string().contains("at most 1048576"));
        let digest = UploadRequest { sha256: vec![0; 31], ..Default::default() };
        assert!(upload_piece(digest).unwrap_err().to_string().contains("31 bytes instead of 32"));
        assert!(upload_piece(new("a", 0)).unwrap_err().to_string().contains("first message"));
        let mut directory = new("a", 1);
        directory.entries[0].file.as_mut().unwrap().isDirectory = true;
        assert!(start(directory).unwrap_err().contains("contents of files"));
    }
}
