//! Texts in the columns of a terminal. Columns are those that a terminal takes for a character: two for most of the
//! characters of East Asia and for emoji, none for a combining accent.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The mark in the place of the rest of a text.
const MORE: &str = "...";

/// The columns that a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// The text in at most so many columns; where it is cut, `...` says so if there is room for that.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (room, more) = match columns.checked_sub(MORE.len()) {
        Some(room @ 1..) => (room, MORE),
        _ => (columns, ""),
    };
    let mut taken = 0;
    let fits = text.chars().take_while(|c| {
        taken += c.width().unwrap_or(0);
        taken <= room
    });
    fits.chain(more.chars()).collect()
}

/// The text with blanks behind it up to so many columns.
pub(crate) fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Rows with columns as wide as their contents.
pub(super) fn aligned<const N: usize>(rows: Vec<[String; N]>) -> String {
    let mut widths = [0; N];
    for row in &rows {
        for (at, cell) in row.iter().enumerate() {
            widths[at] = widths[at].max(width(cell));
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| padded(cell, width));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wide_characters_count_twice_and_accents_not_at_all() {
        assert_eq!(
            (width("abc"), width("\u{4e16}\u{754c}"), width("e\u{301}"), width("\u{1f980}")),
            (3, 4, 1, 2)
        );
        assert_eq!(padded("\u{4e16}", 4), "\u{4e16}  ");
        assert_eq!(padded("abcde", 4), "abcde");
    }

    #[test]
    fn cut_text_says_that_it_is_cut_where_there_is_room() {
        for (text, columns, shown) in [
            ("abcdef", 6, "abcdef"),
            ("abcdef", 5, "ab..."),
            ("abcdef", 4, "a..."),
            ("abcdef", 3, "abc"),
            ("abcdef", 0, ""),
            ("\u{4e16}\u{754c}\u{4e16}\u{754c}", 7, "\u{4e16}\u{754c}..."),
            ("\u{4e16}\u{754c}\u{4e16}\u{754c}", 6, "\u{4e16}..."),
            ("e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}", 4, "e\u{301}..."),
        ] {
            assert_eq!(cut(text, columns), shown, "{text} in {columns}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_wider_than_its_columns(text in "\\PC{0,30}", columns in 0usize..40) {
            prop_assert!(width(&cut(&text, columns)) <= columns);
        }
    }
}
