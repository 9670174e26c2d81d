//! The agreement between joblet-init and the daemon: descriptor numbers, the exec request, the report and the exit file.
//!
//! This file is compiled into both. joblet-init has no standard library, so nothing here may allocate or panic. A daemon
//! may meet the joblet-init of an earlier one, and reads the exit files that this one wrote: numbers and layouts stay.

/// The descriptors that joblet-init finds open, beside 0, 1 and 2 of the payload.
pub mod slot {
    /// The exit file, a regular file.
    pub const EXIT_FILE: i32 = 3;
    /// Write end of the report pipe.
    pub const REPORT: i32 = 4;
    /// Read end of the control pipe.
    pub const CONTROL: i32 = 5;
    /// A second read end of the payload's stdout, which joblet-init keeps.
    pub const KEPT_OUT: i32 = 6;
    /// A second read end of the payload's stderr, which joblet-init keeps.
    pub const KEPT_ERR: i32 = 7;
    /// The memory file for the exec request. joblet-init closes it before it starts the payload.
    pub const EXEC_REQUEST: i32 = 8;
    /// The executable of joblet-init itself. The exec closes it.
    pub const IMAGE: i32 = 9;
    /// The network namespace that the job's wire leads to, which lives as long as somebody has it open; /dev/null in a
    /// job without a wire. The payload does not have it.
    pub const ROUTER: i32 = 10;
    /// joblet-init's end of the order socket ([`order`](super::order)).
    pub const ORDERS: i32 = 11;
    /// The daemon's end of the order socket. joblet-init keeps it, so that any daemon finds it here (`pidfd_getfd(2)`),
    /// and no daemon's death closes it.
    pub const ORDER_SOURCE: i32 = 12;
    /// The number of slots, 0, 1 and 2 included.
    pub const COUNT: usize = 13;
}

/// Orders to run more commands beside the payload.
///
/// An order is one datagram in a SEQPACKET socket pair, an [`Order`](order::Order), followed by SIGURG. A START comes
/// with [`DESCRIPTORS`](order::DESCRIPTORS) descriptors; all that joblet-init keeps of them has a fixed number, by its
/// place, so that a later daemon finds it.
pub mod order {
    /// The commands that joblet-init has room for at one time.
    pub const PLACES: usize = 32;
    /// The number of the first descriptor of the first place.
    const FIRST: i32 = 32;
    /// Numbers of one place.
    const WIDTH: i32 = 8;
    /// A second read end of the command's stdout, until it is forgotten.
    pub const KEPT_OUT: i32 = 0;
    /// A second read end of its stderr, likewise.
    pub const KEPT_ERR: i32 = 1;
    /// Its exit file, until it has ended.
    pub const EXIT_FILE: i32 = 2;
    /// Write end of a pipe whose end says that it has ended.
    pub const DONE: i32 = 3;
    /// The memory file with its standard input, whose position is the daemon's too, until it has ended or its input has.
    pub const INPUT: i32 = 4;
    /// Write end of its standard input, likewise: the daemon's death is not the end of the input.
    pub const INPUT_END: i32 = 5;
    /// The place of the payload, which has only [`INPUT`] and [`INPUT_END`].
    pub const PAYLOAD: u32 = PLACES as u32;
    /// The lowest number of a descriptor that has just come: above those of all places.
    pub const PARKED: i32 = FIRST + (PLACES as i32 + 1) * WIDTH;

    /// The number of one of the descriptors of a place.
    pub const fn number(place: u32, which: i32) -> i32 {
        FIRST + place as i32 * WIDTH + which
    }

    /// Runs a command. `argument` is the length of its exec request.
    pub const START: u32 = 1;
    /// Sends the signal `argument` to the process group of a command that has not ended.
    pub const SIGNAL: u32 = 2;
    /// Closes the read ends of a command that has ended; its place is free.
    pub const FORGET: u32 = 3;

    /// Runs a command with a standard input. `argument`: the length of its exec request in the lower half, in the upper one
    /// the tag of its input, for [`CLOSE_INPUT`].
    pub const START_FED: u32 = 4;
    /// Closes the copies of the input that has this tag in `argument`: its program has everything.
    pub const CLOSE_INPUT: u32 = 5;
    /// The standard input of the payload, sent before the word that starts it ([`exec_request`](super::exec_request)).
    pub const FEED: u32 = 6;

    /// Descriptors of a START: write end of the report pipe, exec request, write ends of stdout and stderr, read ends of
    /// both, exit file, write end of the pipe that tells of the end. Behind them in a START_FED: [`FED`] more.
    pub const DESCRIPTORS: usize = 8;
    /// Descriptors of an input: read end of the pipe, its memory file, write end of the pipe.
    pub const FED: usize = 3;
    /// Most descriptors of an order.
    pub const MOST: usize = DESCRIPTORS + FED;

    /// One order to joblet-init.
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    pub struct Order {
        /// [`START`] or another of these.
        pub verb: u32,
        /// The place of the command, below [`PLACES`].
        pub place: u32,
        /// By the verb.
        pub argument: u64,
    }
}

/// The program that joblet-init executes as the payload.
///
/// The exec request is a memory file whose descriptor joblet-init inherits; the daemon fills it when there is a job. Its
/// length comes as eight bytes (u64, native) through the control pipe, with [`FED`](exec_request::FED) where an order with
/// its standard input lies in the order socket; joblet-init maps it, private and read-only, at
/// [`ADDRESS`](exec_request::ADDRESS). The pointers in it are absolute for that address, so that joblet-init moves and
/// allocates nothing. It starts with the [`Head`](exec_request::Head); two null-terminated arrays of pointers follow,
/// then the strings, then the groups.
pub mod exec_request {
    /// The address of the mapping: far from a static program at 4 MiB, from its heap, and from the stack and the
    /// mappings of the kernel's choice, which grow down from 128 TiB.
    pub const ADDRESS: usize = 0x1000_0000_0000;

    /// Beside the length: the payload has a standard input.
    pub const FED: u64 = 1 << 63;

    /// The first bytes of an exec request.
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub struct Head {
        /// Address of the payload's working directory, a string.
        pub work_dir: usize,
        /// Address of the payload's argv, null-terminated.
        pub argv: usize,
        /// Address of the payload's whole environment, null-terminated.
        pub environment: usize,
        /// Address of the payload's supplementary groups, four bytes each; only where `uid` names an id.
        pub groups: usize,
        /// The number of them.
        pub group_count: usize,
        /// The uid that the payload gets, or [`UNCHANGED`]: it has those of joblet-init, groups included.
        pub uid: u32,
        /// The gid that it gets with that uid.
        pub gid: u32,
    }

    /// No id: the kernel's word for one that stays.
    pub const UNCHANGED: u32 = u32::MAX;
}

/// The message in the report pipe: end of file says that the payload was executed, an errno that it was not.
pub mod report {
    /// Length of the message in bytes.
    pub const SIZE: usize = 4;

    /// The message for a payload that could not be executed.
    pub fn failed(errno: i32) -> [u8; SIZE] {
        errno.to_le_bytes()
    }
}

/// The exit file: joblet-init's account of the payload's end, on disk.
///
/// It is one fixed-size block in a regular file whose pages the daemon has written before the job starts, so that a job
/// at its memory limit can still write it. Integers are little endian, as everything stored.
///
/// | offset | bytes | field |
/// |---|---|---|
/// | 0 | 8 | [`WAITING`](exit_file::WAITING), [`BEGUN`](exit_file::BEGUN), or magic `JBEXIT01`, in one `pwrite` with the whole block |
/// | 8 | 4 | wait status of the payload, as waitpid(2) encodes it |
/// | 12 | 1 | 0 the payload was executed, 1 it could not be, 2 its working directory could not be entered |
/// | 13 | 1 | the [`Defect`](exit_file::Defect) of a program that could not be executed, 0 none |
/// | 14 | 1 | the job's own file systems without a free block at the end of a payload that failed: bit n for the n-th of [`OWN_DISKS`](exit_file::OWN_DISKS) |
/// | 15 | 1 | those without a free inode, likewise |
/// | 16 | 4 | errno of the call that failed, else 0 |
/// | 20 | 4 | pid of the payload inside the job |
/// | 24 | 8 | user CPU time of all reaped children, microseconds |
/// | 32 | 8 | system CPU time, likewise |
/// | 40 | 8 | largest resident set of any reaped child, KiB |
/// | 48 | 8 | time of the payload's start, ns since the epoch |
/// | 56 | 8 | time of the payload's end, ns since the epoch |
pub mod exit_file {
    /// Length of the block in bytes.
    pub const SIZE: usize = 64;
    /// The first bytes of a complete block.
    pub const MAGIC: [u8; 8] = *b"JBEXIT01";
    /// The first bytes before joblet-init has its exec request: the daemon writes them when it makes the file. Files
    /// of earlier daemons have zeros, which do not tell how far the payload came.
    pub const WAITING: [u8; 8] = *b"JBWAIT01";
    /// The first bytes from the moment at which joblet-init goes on to start the payload, up to its end.
    pub const BEGUN: [u8; 8] = *b"JBBEGUN1";

    /// The file systems that belong to the job alone and have a size.
    pub const OWN_DISKS: [&core::ffi::CStr; 4] = [c"/work", c"/tmp", c"/run", c"/dev/shm"];

    /// The progress of a payload at its start.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub enum Begun {
        /// The payload was executed.
        #[default]
        Executed,
        /// execve(2) failed; the wait status says 126 or 127.
        NotExecuted,
        /// chdir(2) into the working directory failed.
        NotEntered,
    }

    /// The reason in the program's file for which it could not be executed.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub enum Defect {
        /// The errno says all, or the file could not be read.
        #[default]
        None,
        /// An ELF file of 32 bits for an x86 processor, whose system calls the filter kills.
        Elf32,
        /// An ELF file for another machine.
        OtherMachine,
        /// Neither an ELF file nor a script whose first line names an interpreter.
        NoFormat,
        /// A script whose first line ends with a carriage return, which becomes part of the interpreter's name.
        CarriageReturn,
        /// A script or a program whose interpreter does not exist inside the job.
        NoInterpreter,
    }

    /// The end of a payload as its PID 1 saw it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct ExitFile {
        /// waitpid(2) status of the payload.
        pub wait_status: i32,
        /// The progress of the payload at its start.
        pub begun: Begun,
        /// The defect of a program that could not be executed.
        pub defect: Defect,
        /// File systems without a free block at the end, bit n for the n-th of [`OWN_DISKS`].
        pub full: u8,
        /// File systems without a free inode at the end, likewise.
        pub crowded: u8,
        /// errno of the call that failed.
        pub errno: i32,
        /// The payload's pid inside the job.
        pub pid: i32,
        /// User CPU time in microseconds.
        pub user_usec: u64,
        /// System CPU time in microseconds.
        pub system_usec: u64,
        /// Largest resident set of one process, KiB.
        pub max_rss_kib: u64,
        /// Start of the payload, ns since the epoch.
        pub started_ns: i64,
        /// End of the payload, ns since the epoch.
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
            put(&mut block, 12, &[self.begun as u8, self.defect as u8, self.full, self.crowded]);
            put(&mut block, 16, &self.errno.to_le_bytes());
            put(&mut block, 20, &self.pid.to_le_bytes());
            block
        }
    }

    /// Copies without a bounds panic: positions are constants within [`SIZE`].
    fn put(block: &mut [u8; SIZE], at: usize, bytes: &[u8]) {
        for (to, from) in block.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }
}
