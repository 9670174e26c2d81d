//! One entry as it is stored: everything but its content.

use serde::{Deserialize, Serialize};

use super::Upload;

/// An upload without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    path: String,
    /// The path itself, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raw_path: Option<Vec<u8>>,
    mode: u32,
    is_directory: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// Bytes of its content.
    pub(super) bytes: u64,
}

impl Entry {
    /// The entry of an upload whose content has so many bytes.
    pub(super) fn new(upload: &Upload, bytes: u64) -> Entry {
        let path = String::from_utf8(upload.path.clone());
        Entry {
            raw_path: path.is_err().then(|| upload.path.clone()),
            path: path.unwrap_or_default(),
            mode: upload.mode,
            is_directory: upload.is_directory,
            target: upload.target.clone(),
            bytes,
        }
    }

    /// The path in bytes.
    pub(super) fn path(&self) -> Vec<u8> {
        self.raw_path.clone().unwrap_or_else(|| self.path.clone().into_bytes())
    }

    /// The path as a status shows it.
    pub(super) fn shown(&self) -> String {
        match &self.raw_path {
            Some(raw) => String::from_utf8_lossy(raw).into_owned(),
            None => self.path.clone(),
        }
    }

    /// The upload with this content.
    pub(super) fn into_upload(self, content: Vec<u8>) -> Upload {
        let Entry { path, raw_path, mode, is_directory, target, .. } = self;
        let path = raw_path.unwrap_or_else(|| path.into_bytes());
        Upload { path, content, mode, is_directory, target }
    }
}
