//! The memory of GPUs beyond the life of a daemon: those that were lost, and the memory that each takes when idle.
//!
//! `<dataDir>/gpus.json` (0600), written aside and renamed, so that a killed daemon leaves the old one or the new one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::device::Device;

/// The name of the file.
const FILE: &str = "gpus.json";
/// The format version.
const VERSION: u32 = 1;

/// A GPU that no job gets until an administrator says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostGpu {
    /// As the driver told it when it was there.
    pub device: Device,
    /// The event in words.
    pub reason: String,
    /// When that was seen, ns since the epoch.
    pub since_ns: i64,
}

/// The contents of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    version: u32,
    /// Lost ones, by their UUID.
    pub lost: BTreeMap<String, LostGpu>,
    /// The driver whose idle values these are: another one takes other amounts.
    driver: Option<String>,
    /// Bytes of memory that are in use of each, by its UUID, when nobody has it.
    idle: BTreeMap<String, u64>,
}

impl Kept {
    /// Reads what an earlier daemon has left below `dir`; nothing, where there is no file.
    ///
    /// # Errors
    /// The file cannot be read, or is of a later version.
    pub fn read(dir: &Path) -> io::Result<Kept> {
        let text = match fs::read(dir.join(FILE)) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
            read => read?,
        };
        let kept: Kept = serde_json::from_slice(&text)?;
        if kept.version > VERSION {
            return Err(io::Error::other(format!("it has version {}, of a later joblet", kept.version)));
        }
        Ok(kept)
    }

    /// Writes it; when this returns, it survives a power cut.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&mut self, dir: &Path) -> io::Result<()> {
        self.version = VERSION;
        let aside: PathBuf = dir.join(format!("{FILE}.new"));
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&aside, dir.join(FILE))?;
        File::open(dir)?.sync_all()
    }

    /// The bytes that a GPU has in use when idle, with this driver.
    pub fn idle(&self, uuid: &str, driver: Option<&str>) -> Option<u64> {
        self.idle.get(uuid).copied().filter(|_| self.driver.as_deref() == driver)
    }

    /// Remembers the bytes that a GPU has in use when idle, with this driver.
    pub fn set_idle(&mut self, uuid: &str, driver: Option<&str>, bytes: u64) {
        if self.driver.as_deref() != driver {
            self.idle.clear();
            self.driver = driver.map(str::to_owned);
        }
        self.idle.insert(uuid.to_owned(), bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_words_come_back_and_later_versions_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Kept::read(dir.path()).unwrap(), Kept::default());
        let mut kept = Kept::default();
        let device = Device { uuid: "GPU-1".into(), index: 1, ..Device::default() };
        let lost = LostGpu { device, reason: "it fell off the bus".into(), since_ns: 7 };
        kept.lost.insert("GPU-1".into(), lost);
        kept.set_idle("GPU-1", Some("580"), 9);
        kept.write(dir.path()).unwrap();
        // A daemon that was killed while it wrote.
        fs::write(dir.path().join("gpus.json.new"), "{").unwrap();
        let mut again = Kept::read(dir.path()).unwrap();
        assert_eq!(again, kept);
        assert_eq!((again.idle("GPU-1", Some("580")), again.idle("GPU-1", Some("590"))), (Some(9), None));
        again.set_idle("GPU-2", Some("590"), 1);
        assert_eq!(again.idle("GPU-1", Some("590")), None);
        again.write(dir.path()).unwrap();
        let later =
            fs::read_to_string(dir.path().join(FILE)).unwrap().replace("\"version\":1", "\"version\":2");
        fs::write(dir.path().join(FILE), later).unwrap();
        assert!(Kept::read(dir.path()).is_err());
    }
}
