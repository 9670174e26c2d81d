//! What a job is: pure words, no I/O.
