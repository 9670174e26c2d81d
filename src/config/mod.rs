//! Configuration files, keys and units.
