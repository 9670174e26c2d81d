//! The exit record: what joblet-init leaves on disk about the payload's end.
//!
//! One fixed-size block in a regular file whose pages the daemon has written before the job starts, so that
//! a job at its memory limit can still record. This file is compiled into joblet-init as well, which has no
//! standard library: nothing here may allocate or panic. Integers are little endian, as everything stored.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `JBEXIT01`, written last by position in one `pwrite` of the whole block |
//! | 8 | 4 | wait status of the payload, as waitpid(2) encodes it |
//! | 12 | 4 | 0 the payload was executed, 1 it could not be, 2 its working directory could not be entered |
//! | 16 | 4 | errno of what failed, else 0 |
//! | 20 | 4 | pid of the payload inside the job |
//! | 24 | 8 | user CPU time of all reaped children, microseconds |
//! | 32 | 8 | system CPU time, likewise |
//! | 40 | 8 | largest resident set of any reaped child, KiB |
//! | 48 | 8 | time of the payload's start, ns since the epoch |
//! | 56 | 8 | time of the payload's end, ns since the epoch |

/// Bytes of a record.
pub const SIZE: usize = 64;
/// First bytes of a complete record.
pub const MAGIC: [u8; 8] = *b"JBEXIT01";

/// How far a payload came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Begun {
    /// It was executed.
    #[default]
    Executed,
    /// execve(2) failed; the wait status tells 126 or 127.
    NotExecuted,
    /// chdir(2) into its working directory failed.
    NotEntered,
}

/// How a payload ended, as its PID 1 saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExitFile {
    /// waitpid(2) status of the payload.
    pub wait_status: i32,
    /// How far it came.
    pub begun: Begun,
    /// errno of what failed.
    pub errno: i32,
    /// The payload's pid inside the job.
    pub pid: i32,
    /// User CPU time, microseconds.
    pub user_usec: u64,
    /// System CPU time, microseconds.
    pub system_usec: u64,
    /// Largest resident set of one process, KiB.
    pub max_rss_kib: u64,
    /// Start, ns since the epoch.
    pub started_ns: i64,
    /// End, ns since the epoch.
    pub ended_ns: i64,
}

impl ExitFile {
    /// The block as it is stored.
    pub fn encode(&self) -> [u8; SIZE] {
        let mut block = [0u8; SIZE];
        let fields: [(usize, [u8; 8]); 5] = [
            (24, self.user_usec.to_le_bytes()),
            (32, self.system_usec.to_le_bytes()),
            (40, self.max_rss_kib.to_le_bytes()),
            (48, self.started_ns.to_le_bytes()),
            (56, self.ended_ns.to_le_bytes()),
        ];
        for (at, bytes) in fields {
            put(&mut block, at, &bytes);
        }
        put(&mut block, 0, &MAGIC);
        put(&mut block, 8, &self.wait_status.to_le_bytes());
        put(&mut block, 12, &(self.begun as i32).to_le_bytes());
        put(&mut block, 16, &self.errno.to_le_bytes());
        put(&mut block, 20, &self.pid.to_le_bytes());
        block
    }

    /// Reads a block; `None` where no complete record stands (the job is alive, or its init was killed).
    pub fn decode(block: &[u8]) -> Option<Self> {
        if block.get(..8)? != MAGIC {
            return None;
        }
        let word = |at: usize| Some(i32::from_le_bytes(block.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(block.get(at..at + 8)?.try_into().ok()?));
        Some(ExitFile {
            wait_status: word(8)?,
            begun: match word(12)? {
                0 => Begun::Executed,
                2 => Begun::NotEntered,
                _ => Begun::NotExecuted,
            },
            errno: word(16)?,
            pid: word(20)?,
            user_usec: long(24)?,
            system_usec: long(32)?,
            max_rss_kib: long(40)?,
            started_ns: long(48)?.cast_signed(),
            ended_ns: long(56)?.cast_signed(),
        })
    }
}

/// Copies without a bounds panic: positions are constants within [`SIZE`].
fn put(block: &mut [u8; SIZE], at: usize, bytes: &[u8]) {
    for (to, from) in block.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}
