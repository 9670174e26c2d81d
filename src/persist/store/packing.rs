//! Packing: many small members become few large ones, once their job has ended.
//!
//! A job that prints a line now and then gets a member for each commit, which may be larger than the line. Its file is
//! written anew beside the old one and renamed over it. The index goes first: an index that is not there is made anew
//! from the headers, while an old one would describe another file.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use super::StoreError;
use super::disk;
use super::log_file::{LogFile, all_rows};
use super::member::{self, Header, Packer};
use super::segment::json_of;
use super::sidecar::Row;

/// Members above which a file is packed, if they are small.
const FEW: u64 = 4;
/// Bytes of an average member below which it is small.
const SMALL: u64 = 16 << 10;
/// The compression level: packing is done once.
const LEVEL: u32 = 6;

/// The effect of packing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packed {
    /// Files that were written anew.
    pub files: u32,
    /// Bytes that they had before.
    pub before: u64,
    /// Bytes that they have now.
    pub after: u64,
}

/// A file that is being written.
struct Output {
    file: File,
    end: u64,
    rows: Vec<Row>,
    /// The members that become one.
    json: Vec<u8>,
    header: Option<Header>,
}

impl Output {
    /// Adds a member, which is written with the next ones as far as they fit into one.
    fn add(&mut self, header: &Header, json: &[u8], packer: &mut Packer) -> std::io::Result<()> {
        let fits = |open: &Header| {
            open.bytes_before + u64::from(open.bytes) == header.bytes_before
                && open.bytes as usize + header.bytes as usize <= member::CONTENT
                && self.json.len() + json.len() <= member::JSON
        };
        match self.header {
            Some(open) if fits(&open) => self.header = Some(open.join(header)),
            _ => {
                self.flush(packer)?;
                self.header = Some(*header);
            }
        }
        self.json.extend_from_slice(json);
        Ok(())
    }

    fn flush(&mut self, packer: &mut Packer) -> std::io::Result<()> {
        let Some(mut header) = self.header.take() else { return Ok(()) };
        let mut bytes = Vec::new();
        packer.pack(&self.json, LEVEL, &mut header, &mut bytes);
        self.json.clear();
        disk::write(&self.file, &bytes, self.end)?;
        let row = Row { offset: self.end, header };
        self.end = row.end();
        self.rows.push(row);
        Ok(())
    }
}

/// Writes a file of small members anew. `None`: it has none, or one that cannot be read.
pub(super) fn pack(log: &mut LogFile, packer: &mut Packer) -> Result<Option<Packed>, StoreError> {
    let (members, before) = log.size();
    if members <= FEW || before / members >= SMALL {
        return Ok(None);
    }
    let temporary = log.names.temporary();
    let failed = |source| StoreError::Write { path: temporary.clone(), source };
    let written = match write(log, before, packer) {
        Ok(Some(written)) => written,
        other => {
            let _ = fs::remove_file(&temporary);
            return other.map(|_| None).map_err(failed);
        }
    };
    let path = log.names.log(None);
    let replaced = disk::sync(&written.file)
        .and_then(|()| disk::remove(&log.names.index(None)))
        .and_then(|()| disk::rename(&temporary, &path))
        .and_then(|()| disk::sync_names(&log.names.dir));
    if let Err(source) = replaced {
        let _ = fs::remove_file(&temporary);
        // Whichever of both files stands there now, it is whole.
        log.reopen()?;
        return Err(StoreError::Rename { path: temporary, source });
    }
    let after = written.end;
    log.replaced(&written.file, written.rows).map_err(failed)?;
    Ok(Some(Packed { files: 1, before, after }))
}

fn write(log: &LogFile, end: u64, packer: &mut Packer) -> std::io::Result<Option<Output>> {
    let old = File::open(log.names.log(None))?;
    let rows = all_rows(&old, &log.names.index(None))?;
    if rows.last().is_none_or(|last| last.end() != end) {
        return Ok(None);
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(log.names.temporary())?;
    let mut output = Output { file, end: 0, rows: Vec::new(), json: Vec::new(), header: None };
    for row in &rows {
        // A damaged member stays where a check can find it.
        let Some(json) = json_of(&old, row)? else { return Ok(None) };
        output.add(&row.header, &json, packer)?;
    }
    output.flush(packer)?;
    Ok(Some(output))
}
