//! The bounds of reading an archive.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};

use crate::job::units;

/// The longest run of headers between two entries: a name, a link and the PAX records of an entry. tar readers hold it
/// in memory.
const HEAD_BYTES: u64 = 1024 * 1024;

/// How much an image may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes: of the archive, and of all layers when they are unpacked (`runtime.max_image_bytes`).
    pub bytes: u64,
    /// Files, directories and links of all layers together (`runtime.max_image_entries`).
    pub entries: u64,
}

/// The budget of one image. Each reading draws on it, and fails when it is used up.
pub(super) struct Meter {
    limits: Limits,
    bytes: Cell<u64>,
    entries: Cell<u64>,
    head: Cell<Option<u64>>,
}

impl Meter {
    pub(super) fn new(limits: Limits) -> Self {
        Meter {
            limits,
            bytes: Cell::new(limits.bytes),
            entries: Cell::new(limits.entries),
            head: Cell::new(None),
        }
    }

    /// Counts one entry.
    pub(super) fn entry(&self) -> io::Result<()> {
        let left = self.entries.get().checked_sub(1).ok_or_else(|| {
            let most = self.limits.entries;
            io::Error::other(format!(
                "the image has more than {most} entries; see runtime.max_image_entries of the configuration"
            ))
        })?;
        self.entries.set(left);
        Ok(())
    }

    /// Runs a step that reads headers only, within the bound of headers.
    pub(super) fn head<T>(&self, step: impl FnOnce() -> T) -> T {
        self.head.set(Some(HEAD_BYTES));
        let done = step();
        self.head.set(None);
        done
    }

    fn draw(&self, bytes: u64) -> io::Result<()> {
        if let Some(head) = self.head.get() {
            let left = head.checked_sub(bytes).ok_or_else(|| {
                io::Error::other(format!("its headers are longer than {}", units::format_size(HEAD_BYTES)))
            })?;
            self.head.set(Some(left));
        }
        let left = self.bytes.get().checked_sub(bytes).ok_or_else(|| {
            io::Error::other(format!(
                "the image is more than {} when it is unpacked; see runtime.max_image_bytes of the configuration",
                units::format_size(self.limits.bytes)
            ))
        })?;
        self.bytes.set(left);
        Ok(())
    }
}

/// A reader on a budget.
pub(super) struct Metered<'a, R> {
    inner: R,
    meter: &'a Meter,
}

impl<'a, R> Metered<'a, R> {
    pub(super) fn new(inner: R, meter: &'a Meter) -> Self {
        Metered { inner, meter }
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.meter.draw(got as u64)?;
        Ok(got)
    }
}

impl<R: Seek> Seek for Metered<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}
