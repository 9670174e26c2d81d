//! The rules of the house as tests: who may import whom, how long a file and a function may be, where `unsafe` may stand,
//! what the documents must name, and that no async runtime is linked.
//!
//! They read the sources as rustfmt leaves them (which `tests/run.sh` checks first), so an indented closing brace is the
//! end of what began at the same indentation.

#[path = "house/circles.rs"]
mod circles;
#[path = "house/documents.rs"]
mod documents;
#[path = "house/programs.rs"]
mod programs;
#[path = "house/sources.rs"]
mod sources;
