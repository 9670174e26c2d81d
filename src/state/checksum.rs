//! The check of a row of the database.

/// CRC-32 of a record's text.
pub(super) fn checksum(text: &str) -> i64 {
    let mut crc = flate2::Crc::new();
    crc.update(text.as_bytes());
    i64::from(crc.sum())
}
