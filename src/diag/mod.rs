//! The daemon's log lines.
