//! The refusal of a value in a request.

/// A value of a job request that breaks a rule. The text names the field, the rule and the range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidField(pub String);

impl InvalidField {
    /// Says what is wrong with one field, in a whole sentence.
    pub fn new(text: impl Into<String>) -> Self {
        InvalidField(text.into())
    }
}
