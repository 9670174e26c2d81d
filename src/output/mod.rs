//! The bytes of a job: spool and readers.
