//! Parts of an image that were changed or left out, in words for the user.

/// The most notes of one import; the rest is counted.
const MOST: usize = 20;

/// A list of bounded length.
#[derive(Debug, Default)]
pub(super) struct Notes {
    said: Vec<String>,
    more: usize,
}

impl Notes {
    pub(super) fn add(&mut self, note: String) {
        if self.said.len() < MOST {
            self.said.push(note);
        } else {
            self.more += 1;
        }
    }

    pub(super) fn into_lines(mut self) -> Vec<String> {
        if self.more > 0 {
            self.said.push(format!("and {} more", self.more));
        }
        self.said
    }
}
