//! The file of a job's samples: one writer appends, any number of readers have a cursor each.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::MetricsError;
use super::sample::{Sample, VERSION};

/// The name of the file in a job's spool.
pub const FILE: &str = "metrics.jsonl";
/// Bytes of the longest line with its line break. A line with full lists of devices and interfaces has less than half.
pub const LINE: usize = 64 << 10;
/// Bytes of growth after which the interval of a job doubles.
pub const STEP: u64 = 4 << 20;
/// The longest interval: a very large file gets one sample a week.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// Bytes that a reader reads at once.
const BLOCK: usize = 16 << 10;

/// The interval to the next sample of a job whose file has so many bytes.
pub fn interval(base: Duration, bytes: u64) -> Duration {
    let doublings = u32::try_from(bytes / STEP).unwrap_or(u32::MAX).min(31);
    base.saturating_mul(1 << doublings).min(LONGEST.max(base))
}

/// The writer of one job's samples.
#[derive(Debug)]
pub struct Series {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Series {
    /// Opens the file in a job's spool, or creates it, and cuts off half a line at its end. The last sample is returned
    /// too, because the next rates start from it.
    ///
    /// # Errors
    /// The file cannot be opened or read, or it holds no samples.
    pub fn open(dir: &Path) -> Result<(Series, Option<Sample>), MetricsError> {
        let path = dir.join(FILE);
        let failed = |source| MetricsError::Open { path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        if length == 0 {
            return Ok((Series { path, file, bytes: 0 }, None));
        }
        let start = length.saturating_sub(2 * LINE as u64);
        let mut tail = vec![0; (length - start) as usize];
        file.read_exact_at(&mut tail, start).map_err(failed)?;
        let Some(end) = tail.iter().rposition(|byte| *byte == b'\n') else {
            if start == 0 {
                // The daemon was killed within the first line.
                file.set_len(0).map_err(failed)?;
                return Ok((Series { path, file, bytes: 0 }, None));
            }
            return Err(MetricsError::Format { path, why: "it has no line".into() });
        };
        let bytes = start + end as u64 + 1;
        if bytes < length {
            file.set_len(bytes).map_err(failed)?;
        }
        let line = tail[..end].rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let last = parse(line, &path)?;
        Ok((Series { path, file, bytes }, Some(last)))
    }

    /// The number of bytes in whole lines.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends a sample to the file.
    ///
    /// # Errors
    /// The sample cannot be written. It is lost then, and the file is unchanged.
    pub fn append(&mut self, sample: &Sample) -> Result<(), MetricsError> {
        let failed = |source| MetricsError::Append { path: self.path.clone(), source };
        let mut line = serde_json::to_vec(sample).map_err(|e| failed(e.into()))?;
        line.push(b'\n');
        if line.len() > LINE {
            let why = format!("a sample has {} bytes", line.len());
            return Err(MetricsError::Format { path: self.path.clone(), why });
        }
        if let Err(why) = self.file.write_all_at(&line, self.bytes) {
            // Where this fails too, the next line overwrites the rest, and readers never get that far.
            let _ = self.file.set_len(self.bytes);
            return Err(failed(why));
        }
        self.bytes += line.len() as u64;
        Ok(())
    }
}

/// A cursor into a job's samples. It keeps the file open, so a deleted job can be read to its end.
#[derive(Debug)]
pub struct SeriesReader {
    path: PathBuf,
    file: File,
    /// The offset of `block` in the file.
    offset: u64,
    block: Vec<u8>,
    /// The number of bytes of `block` that were read.
    at: usize,
}

impl SeriesReader {
    /// Opens the file in a job's spool at its first sample; `None` where no file exists.
    ///
    /// # Errors
    /// The file exists and cannot be opened.
    pub fn open(dir: &Path) -> Result<Option<SeriesReader>, MetricsError> {
        let path = dir.join(FILE);
        match File::open(&path) {
            Ok(file) => Ok(Some(SeriesReader { path, file, offset: 0, block: Vec::new(), at: 0 })),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(MetricsError::Read { path, source }),
        }
    }

    /// The next sample, if it ends within the first `bytes` of the file. Half a line is no sample.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else than samples.
    pub fn next(&mut self, bytes: u64) -> Result<Option<Sample>, MetricsError> {
        loop {
            if let Some(length) = self.block[self.at..].iter().position(|byte| *byte == b'\n') {
                let line = &self.block[self.at..self.at + length];
                let sample = parse(line, &self.path);
                self.at += length + 1;
                return sample.map(Some);
            }
            if self.block.len() - self.at > LINE {
                return Err(MetricsError::Format {
                    path: self.path.clone(),
                    why: "a line has no end".into(),
                });
            }
            if self.refill(bytes)? == 0 {
                // A waiting reader keeps no buffer: there may be thousands. Half a line is read anew; it may be cut off.
                (self.offset, self.at, self.block) = (self.offset + self.at as u64, 0, Vec::new());
                return Ok(None);
            }
        }
    }

    /// Reads the next bytes of the file and returns their number.
    fn refill(&mut self, bytes: u64) -> Result<usize, MetricsError> {
        self.block.drain(..self.at);
        self.offset += self.at as u64;
        self.at = 0;
        let from = self.offset + self.block.len() as u64;
        let room = bytes.saturating_sub(from).min(BLOCK as u64) as usize;
        let have = self.block.len();
        self.block.resize(have + room, 0);
        let read = self.file.read_at(&mut self.block[have..], from);
        self.block.truncate(have + read.as_ref().map_or(0, |n| *n));
        read.map_err(|source| MetricsError::Read { path: self.path.clone(), source })
    }
}

/// The sample in a line.
pub(super) fn parse(line: &[u8], path: &Path) -> Result<Sample, MetricsError> {
    let wrong = |why: String| MetricsError::Format { path: path.to_owned(), why };
    let sample: Sample = serde_json::from_slice(line).map_err(|e| wrong(e.to_string()))?;
    match sample.version {
        VERSION => Ok(sample),
        other => Err(wrong(format!("a sample has version {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::tests::{bare, sample};
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn all(reader: &mut SeriesReader, bytes: u64) -> Vec<Sample> {
        std::iter::from_fn(|| reader.next(bytes).unwrap()).collect()
    }

    #[test]
    fn appended_samples_are_read_back_up_to_the_announced_bytes() {
        let dir = tempfile::tempdir().unwrap();
        assert!(SeriesReader::open(dir.path()).unwrap().is_none(), "nothing was measured yet");
        let (mut series, last) = Series::open(dir.path()).unwrap();
        assert_eq!(last, None);
        let samples: Vec<Sample> = (0..100).map(sample).collect();
        let mut reader = SeriesReader::open(dir.path()).unwrap().unwrap();
        for (n, sample) in samples.iter().enumerate() {
            let before = series.bytes();
            series.append(sample).unwrap();
            assert_eq!(reader.next(before).unwrap(), None, "sample {n} was not published yet");
            assert_eq!(reader.next(series.bytes()).unwrap().as_ref(), Some(sample));
            assert_eq!(reader.next(series.bytes()).unwrap(), None);
            assert_eq!(reader.block.capacity(), 0);
        }
        assert_eq!(all(&mut SeriesReader::open(dir.path()).unwrap().unwrap(), u64::MAX), samples);
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(dir.path().join(FILE)).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn partial_line_is_never_read_and_is_cut_when_sampling_resumes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let (mut series, _) = Series::open(dir.path()).unwrap();
        series.append(&sample(0)).unwrap();
        series.append(&bare(5)).unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in [whole.len() - 1, whole.len() - 20, series_of(1).len() + 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut reader = SeriesReader::open(dir.path()).unwrap().unwrap();
            assert_eq!(all(&mut reader, u64::MAX), [sample(0)]);
            let (mut series, last) = Series::open(dir.path()).unwrap();
            assert_eq!(last, Some(sample(0)));
            series.append(&bare(7)).unwrap();
            assert_eq!(all(&mut reader, u64::MAX), [bare(7)], "an earlier reader continues behind the cut");
        }
        fs::write(&path, &whole[..10]).unwrap();
        assert_eq!(Series::open(dir.path()).unwrap().1, None);
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    fn series_of(samples: u32) -> Vec<u8> {
        let lines = (0..samples).map(|n| serde_json::to_string(&sample(n)).unwrap() + "\n");
        lines.collect::<String>().into_bytes()
    }

    #[test]
    fn a_foreign_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let later = serde_json::to_string(&Sample { version: 2, ..bare(0) }).unwrap() + "\n";
        for text in ["hello\n".to_owned(), later] {
            fs::write(&path, text).unwrap();
            assert!(matches!(Series::open(dir.path()), Err(MetricsError::Format { .. })));
            let mut reader = SeriesReader::open(dir.path()).unwrap().unwrap();
            assert!(matches!(reader.next(u64::MAX), Err(MetricsError::Format { .. })));
        }
        fs::write(&path, vec![b'x'; 3 * LINE]).unwrap();
        assert!(matches!(Series::open(dir.path()), Err(MetricsError::Format { .. })));
        let mut reader = SeriesReader::open(dir.path()).unwrap().unwrap();
        assert!(matches!(reader.next(u64::MAX), Err(MetricsError::Format { .. })));
    }

    #[test]
    fn the_interval_doubles_as_the_file_grows() {
        let base = Duration::from_secs(5);
        assert_eq!(interval(base, 0), base);
        assert_eq!(interval(base, STEP - 1), base);
        assert_eq!(interval(base, STEP), 2 * base);
        assert_eq!(interval(base, 5 * STEP), 32 * base);
        assert_eq!(interval(base, u64::MAX), LONGEST);
    }

    /// Samples that version 1 has stored: every later version must read them.
    #[test]
    fn the_golden_samples_are_read() {
        let dir = Path::new("tests/golden/metrics-1");
        if std::env::var_os("JOBLET_WRITE_GOLDEN").is_some() {
            let lines = [sample(0), bare(5)].map(|s| serde_json::to_string(&s).unwrap() + "\n");
            fs::write(dir.join(FILE), lines.concat()).unwrap();
        }
        let mut reader = SeriesReader::open(dir).unwrap().unwrap();
        assert_eq!(all(&mut reader, u64::MAX), [sample(0), bare(5)]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_but_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(FILE), bytes).unwrap();
            let mut reader = SeriesReader::open(dir.path()).unwrap().unwrap();
            let _ = reader.next(u64::MAX);
            let _ = Series::open(dir.path());
        }
    }
}
