//! Volumes: files that outlive the jobs that write them, in a file system of bounded size.
//!
//! | kind | the files are in | bound by | until |
//! |---|---|---|---|
//! | `filesystem` | an ext4 in the file `<dataDir>/volumes/NAME.img`, behind a loop device | the size of the image | the volume is removed |
//! | `filesystem` | the directory `<dataDir>/volumes/NAME.dir` | a project quota of dataDir's file system | the volume is removed |
//! | `memory` | a tmpfs | its `size=` | the volume is removed, or the daemon ends |
//!
//! There is no plain directory: a host that can do none of them refuses the volume. `volumes.backend` of the configuration and the
//! file system choose between the two on disk when a volume is made, and it stays so.
//!
//! # Nothing to clean up
//!
//! Nothing of a volume stands in a mount table of the host. The daemon holds a detached mount of each volume that a job has
//! used, every job has one of its own in its mount namespace, and a loop device goes with its last user (autoclear). So
//! whatever ends, a daemon that is killed in the middle included, the kernel takes apart what nobody uses any more, and
//! the jobs of a daemon that is gone keep what they have. The next daemon finds the loop device of such a job by the inode
//! of the image ([`loop_device::find`](crate::sys::loop_device)): a second device of one image would be a second file
//! system in it, which would destroy both.
//!
//! A tmpfs cannot be found again, so a memory volume that a job of an earlier daemon has takes no new jobs until that
//! one has ended (`daemon/volumes`).
//!
//! # One owner
//!
//! Every job has a host id of its own. Each mount for a job maps the one owner of all files on disk to that id (an idmapped
//! mount, mount_setattr(2)), so a job finds its volume's files as its own, whichever job made them.
//!
//! # Files
//!
//! `NAME.img` is the image of a volume, `NAME.dir` the directory of one, and `NAME.new` either of them while it is being made or
//! removed. Anything with that last name that an earlier daemon has left is removed, unless the database has the volume: then it
//! gets its own ([`Store::tidy`]).

mod check;
mod directory;
mod error;
mod image;
mod memory;
mod mounted;
mod projects;
mod store;
mod superblock;
mod usage;

pub use check::{Checked, check, images};
pub use error::VolumeError;
pub use image::has_formatter;
pub use mounted::Volume;
pub use store::{Backend, SMALLEST_IMAGE, SMALLEST_MEMORY, Store};
pub use usage::Usage;
