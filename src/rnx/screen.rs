//! The size of a terminal.

use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;

/// Columns and rows of a terminal that does not report its size.
const SIZE: (u16, u16) = (80, 24);

/// Columns and rows of this terminal.
pub(crate) fn size(terminal: &impl AsFd) -> (u16, u16) {
    match tcgetwinsize(terminal) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col, size.ws_row),
        _ => SIZE,
    }
}

/// Columns of this terminal.
pub(crate) fn columns(terminal: &impl AsFd) -> usize {
    size(terminal).0.into()
}
