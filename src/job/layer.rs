//! One layer of a job's isolation, as promised and as the kernel shows it.

/// The result of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The layer is as promised.
    Kept,
    /// The layer differs from the promise.
    Broken,
    /// Nothing was promised: this host cannot enforce it, and the job's status says so.
    Unenforced,
}

/// One layer of a job's isolation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its name, such as `namespace.pid` or `mount /usr`.
    pub name: String,
    /// The state that was promised.
    pub expected: String,
    /// The state that the kernel shows.
    pub seen: String,
    /// Whether both agree.
    pub verdict: Verdict,
}

impl Layer {
    /// A layer that is kept or broken.
    pub fn new(
        name: impl Into<String>,
        expected: impl Into<String>,
        seen: impl Into<String>,
        kept: bool,
    ) -> Self {
        let verdict = if kept { Verdict::Kept } else { Verdict::Broken };
        Layer { name: name.into(), expected: expected.into(), seen: seen.into(), verdict }
    }

    /// A layer that is not enforced here.
    pub fn unenforced(
        name: impl Into<String>,
        expected: impl Into<String>,
        why: impl std::fmt::Display,
    ) -> Self {
        let (name, expected, seen) = (name.into(), expected.into(), format!("not enforced: {why}"));
        Layer { name, expected, seen, verdict: Verdict::Unenforced }
    }
}
