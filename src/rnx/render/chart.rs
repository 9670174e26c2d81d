//! A curve of values as rows of characters: an axis with its numbers on the left, a column for each value, and the
//! limit as a dotted line. Columns near the limit change their colour.

/// Eight heights of a cell.
const HEIGHTS: [char; 8] =
    ['\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}', '\u{2588}'];
/// A cell of the limit's row that no column reaches.
const LIMIT: char = '\u{b7}';
/// The line between numbers and columns.
const EDGE: char = '\u{2502}';
/// Columns of the numbers on the axis.
const NUMBERS: usize = 7;
/// Columns before the first value: the numbers, a blank and the edge.
pub(crate) const AXIS: usize = NUMBERS + 2;
/// The shares of the limit from which a column is yellow and red.
const WARM: f64 = 0.6;
const HOT: f64 = 0.85;

const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RED: &str = "\x1b[31m";
const RESET: &str = "\x1b[0m";

/// The values of one chart, and how they are drawn.
pub(crate) struct Chart<'a> {
    /// A column each, the newest last; a gap where there is none.
    pub(crate) values: &'a [Option<f64>],
    /// The most that the job may use, if there is a limit.
    pub(crate) limit: Option<f64>,
    /// The text of a number on the axis.
    pub(crate) unit: fn(f64) -> String,
    /// Whether columns are coloured by their share of the limit.
    pub(crate) colour: bool,
}

impl Chart<'_> {
    /// So many rows in a terminal of so many columns, from the top down. None is wider than the terminal.
    pub(crate) fn rows(&self, columns: usize, rows: usize) -> Vec<String> {
        let Some(room) = columns.checked_sub(AXIS).filter(|room| *room > 0) else {
            return Vec::new();
        };
        let shown = &self.values[self.values.len().saturating_sub(room)..];
        let top = self.top();
        let limit_row = self.limit.map(|limit| row_of(limit, top, rows));
        let row = |row: usize| {
            let number = match row {
                _ if row + 1 == rows => (self.unit)(top),
                _ if limit_row == Some(row) => "limit".into(),
                0 => "0".into(),
                _ => String::new(),
            };
            let cut: String = number.chars().take(NUMBERS).collect();
            format!(
                "{cut:>NUMBERS$} {EDGE}{}",
                self.cells(shown, row, rows, top, limit_row == Some(row), room)
            )
        };
        (0..rows).rev().map(row).collect()
    }

    /// The number at the top of the axis: the limit, or what goes beyond it.
    fn top(&self) -> f64 {
        let highest = self.values.iter().flatten().copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
        let top = self.limit.map_or(highest, |limit| limit.max(highest));
        if top > 0.0 { top } else { 1.0 }
    }

    fn cells(
        &self,
        shown: &[Option<f64>],
        row: usize,
        rows: usize,
        top: f64,
        is_limit: bool,
        room: usize,
    ) -> String {
        let mut text = String::new();
        let mut current = "";
        let empty = if is_limit { LIMIT } else { ' ' };
        // The newest value is at the right edge.
        text.extend(std::iter::repeat_n(empty, room - shown.len()));
        for value in shown {
            let cell = value.and_then(|value| cell(value, row, rows, top));
            let colour = if cell.is_some() { self.colour_of(value.unwrap_or(0.0)) } else { "" };
            if colour != current {
                text.push_str(if colour.is_empty() { RESET } else { colour });
                current = colour;
            }
            text.push(cell.unwrap_or(empty));
        }
        if !current.is_empty() {
            text.push_str(RESET);
        }
        text
    }

    fn colour_of(&self, value: f64) -> &'static str {
        match self.limit.filter(|limit| self.colour && *limit > 0.0).map(|limit| value / limit) {
            None => "",
            Some(share) if share >= HOT => RED,
            Some(share) if share >= WARM => YELLOW,
            Some(_) => GREEN,
        }
    }
}

/// The part of a value's column in this row, counted from below; `None` above its end. The lowest row always has a
/// part: nothing used is not the same as nothing measured.
fn cell(value: f64, row: usize, rows: usize, top: f64) -> Option<char> {
    let share = if value.is_finite() { (value / top).clamp(0.0, 1.0) } else { 0.0 };
    let eighths = ((share * (rows * HEIGHTS.len()) as f64).ceil() as usize).max(1);
    let here = eighths.saturating_sub(row * HEIGHTS.len()).min(HEIGHTS.len());
    here.checked_sub(1).map(|height| HEIGHTS[height])
}

/// The row, counted from below, in which a column of this value ends.
fn row_of(value: f64, top: f64, rows: usize) -> usize {
    let cells = (value / top * rows as f64).ceil() as usize;
    cells.clamp(1, rows.max(1)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chart(values: &[Option<f64>], limit: Option<f64>, colour: bool) -> Chart<'_> {
        Chart { values, limit, unit: |value| format!("{value:.0}%"), colour }
    }

    #[test]
    fn columns_are_as_high_as_their_values_below_the_limit() {
        let values = [Some(0.0), Some(25.0), None, Some(100.0), Some(62.5), Some(f64::NAN)];
        assert_eq!(
            chart(&values, Some(100.0), false).rows(AXIS + 8, 2),
            [
                "   100% \u{2502}\u{b7}\u{b7}\u{b7}\u{b7}\u{b7}\u{2588}\u{2582}\u{b7}",
                "      0 \u{2502}  \u{2581}\u{2584} \u{2588}\u{2588}\u{2581}"
            ]
        );
        assert_eq!(
            chart(&values, None, false).rows(AXIS + 3, 1),
            ["   100% \u{2502}\u{2588}\u{2585}\u{2581}"],
            "the newest fit"
        );
        assert_eq!(chart(&[], None, false).rows(AXIS + 2, 1), ["     1% \u{2502}  "]);
        assert_eq!(chart(&values, None, false).rows(AXIS, 3), [""; 0], "there is no room");
    }

    #[test]
    fn use_beyond_the_limit_shows_where_the_limit_is() {
        let rows = chart(&[Some(200.0), Some(50.0)], Some(100.0), false).rows(AXIS + 3, 4);
        let numbers: Vec<&str> = rows.iter().map(|row| row[..NUMBERS].trim()).collect();
        assert_eq!(numbers, ["200%", "", "limit", "0"]);
        assert_eq!(rows[2], "  limit \u{2502}\u{b7}\u{2588}\u{b7}");
    }

    #[test]
    fn columns_are_green_yellow_and_red_by_their_share_of_the_limit() {
        let values = [Some(10.0), Some(59.0), Some(60.0), Some(85.0), Some(84.0)];
        let row = &chart(&values, Some(100.0), true).rows(AXIS + 5, 1)[0];
        let expected =
            "\u{2502}\x1b[32m\u{2581}\u{2585}\x1b[33m\u{2585}\x1b[31m\u{2587}\x1b[33m\u{2587}\x1b[0m";
        assert!(row.ends_with(expected), "{row:?}");
        assert!(!chart(&values, None, true).rows(20, 1)[0].contains('\x1b'), "nothing to be near to");
    }

    proptest! {
        #[test]
        fn no_row_is_wider_than_the_terminal(
            values in prop::collection::vec(prop::option::of(any::<f64>()), 0..60),
            limit in prop::option::of(0.0f64..1e12), columns in 0usize..70, rows in 0usize..9,
        ) {
            for row in chart(&values, limit, false).rows(columns, rows) {
                prop_assert!(row.chars().count() <= columns);
            }
        }
    }
}
