//! The inputs of a job that waits: files and variables, kept in one sealed file until it starts.
//!
//! `<dataDir>/staged/<uuid>` holds `JBSTAGE1`, a nonce (12 bytes), and AES-256-GCM of the rest with its tag (16 bytes)
//! in front; the id is authenticated with it, so that no file serves for another job. Inside: the length of a JSON head
//! (u32, little endian), the head, the contents of the files one behind the other. The key is `staged.key` in
//! dataDir, 0600: a copy of the state or of a staged file alone reveals no secret.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::{Upload, UploadError};
use crate::job::Secret;

const MAGIC: &[u8; 8] = b"JBSTAGE1";
const NONCE: usize = 12;
const TAG: usize = 16;
const KEY: usize = 32;

/// The inputs of a job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobInputs {
    /// Files for /work.
    pub uploads: Vec<Upload>,
    /// Plain variables with their values.
    pub environment: Vec<(String, String)>,
    /// Secret variables with their values.
    pub secrets: Vec<(String, Secret)>,
}

/// The directory of staged inputs, and their key.
#[derive(Debug, Clone)]
pub struct Stage {
    dir: PathBuf,
    key: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Head {
    environment: Vec<(String, String)>,
    secrets: Vec<(String, String)>,
    files: Vec<Entry>,
}

impl Stage {
    /// `dir` exists and is ours alone; so is the directory of `key`, which is made when it is needed.
    pub fn new(dir: PathBuf, key: PathBuf) -> Self {
        Stage { dir, key }
    }

    /// The directory, which holds nothing but staged inputs.
    pub fn directory(&self) -> &Path {
        &self.dir
    }

    /// The path of a job's staged inputs.
    pub fn path(&self, id: &str) -> PathBuf {
        self.dir.join(id)
    }

    /// Stores a job's inputs; durable when this returns.
    ///
    /// # Errors
    /// The disk's. Nothing of it is left then.
    pub fn put(&self, id: &str, inputs: &JobInputs) -> Result<(), UploadError> {
        let path = self.path(id);
        let put = || -> io::Result<()> {
            let sealed = seal(&self.key()?, id, &encode(inputs)?)?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(&sealed)?;
            file.sync_data()?;
            File::open(&self.dir)?.sync_all()
        };
        put().map_err(|source| {
            let _ = fs::remove_file(&path);
            UploadError::PutAside { path, source }
        })
    }

    /// Reads a job's inputs back. They stay until the file is removed.
    ///
    /// # Errors
    /// The file is gone, or was changed.
    pub fn take(&self, id: &str) -> Result<JobInputs, UploadError> {
        let path = self.path(id);
        let take = || -> io::Result<JobInputs> {
            let mut sealed = Vec::new();
            File::open(&path)?.read_to_end(&mut sealed)?;
            decode(&open(&self.key()?, id, &sealed)?)
        };
        take().map_err(|source| UploadError::TakeBack { path, source })
    }

    /// The key of this data directory, made on its first use. A key that is not whole has sealed nothing.
    fn key(&self) -> io::Result<[u8; KEY]> {
        let mut key = [0; KEY];
        match File::open(&self.key).and_then(|mut file| file.read_exact(&mut key)) {
            Ok(()) => return Ok(key),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {}
            Err(e) => return Err(e),
        }
        openssl::rand::rand_bytes(&mut key)?;
        let part = self.key.with_extension("part");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(&key)?;
        file.sync_all()?;
        fs::rename(&part, &self.key)?;
        self.key.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())?;
        Ok(key)
    }
}

fn seal(key: &[u8; KEY], id: &str, plain: &[u8]) -> io::Result<Vec<u8>> {
    let (mut nonce, mut tag) = ([0; NONCE], [0; TAG]);
    openssl::rand::rand_bytes(&mut nonce)?;
    let sealed = encrypt_aead(Cipher::aes_256_gcm(), key, Some(&nonce), id.as_bytes(), plain, &mut tag)?;
    Ok([MAGIC.as_slice(), &nonce, &tag, &sealed].concat())
}

fn open(key: &[u8; KEY], id: &str, sealed: &[u8]) -> io::Result<Vec<u8>> {
    let foreign = || io::Error::new(io::ErrorKind::InvalidData, "it is not what was put there");
    let rest = sealed.strip_prefix(MAGIC.as_slice()).ok_or_else(foreign)?;
    let (nonce, rest) = rest.split_at_checked(NONCE).ok_or_else(foreign)?;
    let (tag, rest) = rest.split_at_checked(TAG).ok_or_else(foreign)?;
    decrypt_aead(Cipher::aes_256_gcm(), key, Some(nonce), id.as_bytes(), rest, tag).map_err(|_| foreign())
}

fn encode(inputs: &JobInputs) -> io::Result<Vec<u8>> {
    let secret = |(name, value): &(String, Secret)| (name.clone(), value.expose().to_owned());
    let entry = |upload: &Upload| Entry::new(upload, upload.content.len() as u64);
    let head = serde_json::to_vec(&Head {
        environment: inputs.environment.clone(),
        secrets: inputs.secrets.iter().map(secret).collect(),
        files: inputs.uploads.iter().map(entry).collect(),
    })?;
    let length = u32::try_from(head.len()).map_err(io::Error::other)?;
    let contents = inputs.uploads.iter().map(|upload| upload.content.as_slice());
    Ok([length.to_le_bytes().as_slice(), &head].into_iter().chain(contents).collect::<Vec<_>>().concat())
}

fn decode(plain: &[u8]) -> io::Result<JobInputs> {
    let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let (length, rest) = plain.split_first_chunk::<4>().ok_or_else(short)?;
    let (head, mut rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(short)?;
    let head: Head = serde_json::from_slice(head)?;
    let mut uploads = Vec::with_capacity(head.files.len());
    for entry in head.files {
        let bytes = usize::try_from(entry.bytes).map_err(io::Error::other)?;
        let (content, behind) = rest.split_at_checked(bytes).ok_or_else(short)?;
        rest = behind;
        uploads.push(entry.into_upload(content.to_vec()));
    }
    let secrets = head.secrets.into_iter().map(|(name, value)| (name, Secret::new(value))).collect();
    Ok(JobInputs { uploads, environment: head.environment, secrets })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> JobInputs {
        let file = |path: &str, content: &[u8]| Upload {
            path: path.into(),
            content: content.into(),
            mode: 0o640,
            ..Upload::default()
        };
        JobInputs {
            uploads: vec![
                file("a", b"\0\xff"),
                file("b/c", b""),
                Upload { path: "d".into(), is_directory: true, ..Upload::default() },
                Upload { path: b"\xff".to_vec(), target: Some("d".into()), ..Upload::default() },
            ],
            environment: vec![("A".into(), "1".into())],
            secrets: vec![("TOKEN".into(), Secret::new("hunter2"))],
        }
    }

    #[test]
    fn staged_inputs_come_back_and_are_unreadable_while_staged() {
        let dir = tempfile::tempdir().unwrap();
        let stage = Stage::new(dir.path().to_owned(), dir.path().join("key"));
        stage.put("one", &inputs()).unwrap();
        let file = fs::read(stage.path("one")).unwrap();
        assert!(!file.windows(7).any(|window| window == b"hunter2"));
        assert_eq!(stage.take("one").unwrap(), inputs());
        fs::remove_file(stage.path("one")).unwrap();
        assert!(stage.take("one").is_err());
    }

    #[test]
    fn a_key_that_was_not_written_whole_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let stage = Stage::new(dir.path().to_owned(), dir.path().join("key"));
        // A full disk, or a daemon that was killed in between.
        fs::write(dir.path().join("key"), [7; KEY - 1]).unwrap();
        stage.put("one", &inputs()).unwrap();
        assert_eq!(stage.take("one").unwrap(), inputs());
    }

    #[test]
    fn a_changed_or_exchanged_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let stage = Stage::new(dir.path().to_owned(), dir.path().join("key"));
        stage.put("one", &inputs()).unwrap();
        fs::copy(stage.path("one"), stage.path("two")).unwrap();
        assert!(stage.take("two").unwrap_err().to_string().contains("not what was put there"));
        let mut bytes = fs::read(stage.path("one")).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        for length in [0, 7, 20, 40, bytes.len()] {
            fs::write(stage.path("one"), &bytes[..length]).unwrap();
            assert!(stage.take("one").is_err(), "{length}");
        }
    }
}
