//! The file of a program: what its first bytes say about why the kernel cannot execute it.

use crate::init_abi::exit_file::Defect;
use crate::sys;

/// As many bytes as execve(2) looks at (BINPRM_BUF_SIZE).
const HEAD: usize = 256;
const ENOENT: i32 = 2;
const ENOEXEC: i32 = 8;
const ENOTDIR: i32 = 20;

/// Fields of an ELF header (elf(5)).
const CLASS: usize = 4;
const MACHINE: usize = 18;
const CLASS_32: u8 = 1;
const EM_386: u8 = 3;
const EM_X86_64: u8 = 62;

/// The first bytes of a program.
pub struct Program {
    head: [u8; HEAD],
    length: usize,
}

impl Program {
    /// Reads them; `None` for a file that may be executed and not read.
    ///
    /// # Errors
    /// ENOENT or ENOTDIR: there is no such file.
    pub fn read(path: *const u8) -> Result<Option<Program>, i32> {
        let mut program = Program { head: [0; HEAD], length: 0 };
        match sys::read_head(path, &mut program.head) {
            Ok(length) => {
                program.length = length;
                Ok(Some(program))
            }
            Err(why @ (ENOENT | ENOTDIR)) => Err(why),
            Err(_) => Ok(None),
        }
    }

    fn bytes(&self) -> &[u8] {
        self.head.get(..self.length).unwrap_or_default()
    }

    /// Whether it is a 32-bit program for this processor: the kernel may execute it, and the filter would kill it at its
    /// first system call.
    pub fn is_elf32(&self) -> bool {
        let head = self.bytes();
        let is_ours = matches!(head.get(MACHINE..MACHINE + 2), Some([EM_386 | EM_X86_64, 0]));
        self.is_elf() && head.get(CLASS) == Some(&CLASS_32) && is_ours
    }

    fn is_elf(&self) -> bool {
        self.bytes().starts_with(b"\x7fELF")
    }

    /// The reason for which execve(2) failed with this errno although the file exists.
    pub fn defect(&self, errno: i32) -> Defect {
        let head = self.bytes();
        let script = head.starts_with(b"#!");
        match errno {
            ENOENT if script && line_ends_with_carriage_return(head) => Defect::CarriageReturn,
            ENOENT if script || self.is_elf() => Defect::NoInterpreter,
            ENOEXEC if self.is_elf() && self.is_elf32() => Defect::Elf32,
            ENOEXEC if self.is_elf() => {
                let ours = matches!(head.get(MACHINE..MACHINE + 2), Some([EM_X86_64, 0]) | None);
                if ours { Defect::None } else { Defect::OtherMachine }
            }
            ENOEXEC => Defect::NoFormat,
            _ => Defect::None,
        }
    }
}

fn line_ends_with_carriage_return(head: &[u8]) -> bool {
    let mut before = 0;
    for byte in head {
        if *byte == b'\n' {
            return before == b'\r';
        }
        before = *byte;
    }
    false
}
