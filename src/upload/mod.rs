//! Client files written beneath a directory descriptor.
