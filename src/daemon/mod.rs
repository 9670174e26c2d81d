//! The loop that owns every mutable thing.
