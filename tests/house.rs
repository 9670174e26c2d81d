//! The rules of the house as tests: which room may import which, the length of files and functions, the places of `unsafe`,
//! the names that documents must contain, and that no async runtime is linked.
//!
//! The tests read the sources as rustfmt leaves them (which `tests/run.sh` checks first), so an indented closing brace is the
//! end of the item that began at the same indentation.

#[path = "house/circles.rs"]
mod circles;
#[path = "house/documents.rs"]
mod documents;
#[path = "house/owners.rs"]
mod owners;
#[path = "house/programs.rs"]
mod programs;
#[path = "house/sources.rs"]
mod sources;
