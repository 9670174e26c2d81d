//! Where text goes: data to stdout, everything else to stderr, so that pipes stay clean. Nothing here may
//! panic when a reader goes away, as `println!` does.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::error::{Error, Result};
use super::terminal;

/// The two ends of one run of rnx.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    /// `--json`: results and failures are JSON on stdout.
    pub(crate) json: bool,
    /// Words may be coloured: stdout is a terminal, and no variable forbids colours.
    pub(crate) colour: bool,
}

impl Out {
    /// Looks at the terminal and at `NO_COLOR`, `RNX_NO_COLOR` and `TERM`.
    pub(crate) fn new(json: bool) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let colour = !json && !dumb && !set("NO_COLOR") && !set("RNX_NO_COLOR") && io::stdout().is_terminal();
        Out { json, colour }
    }

    /// Prints text that is already whole lines.
    pub(crate) fn text(&self, text: &str) -> Result<()> {
        bytes(&mut io::stdout().lock(), text.as_bytes())
    }

    /// Prints one JSON value, indented as people read it.
    pub(crate) fn value(&self, value: &impl Serialize) -> Result<()> {
        self.json_text(serde_json::to_string_pretty(value))
    }

    /// Prints one JSON value on one line, for streams of values.
    pub(crate) fn value_line(&self, value: &impl Serialize) -> Result<()> {
        self.json_text(serde_json::to_string(value))
    }

    fn json_text(&self, json: serde_json::Result<String>) -> Result<()> {
        self.text(&format!("{}\n", terminal::escaped_json(&json.map_err(io::Error::from)?)))
    }

    /// Writes a note for people to stderr, beside the data. A closed stderr is no failure.
    pub(crate) fn note(&self, text: &str) {
        let _ = bytes(&mut io::stderr().lock(), format!("{text}\n").as_bytes());
    }

    /// Reports a failure: with `--json` as an object on stdout, and always as a sentence on stderr, where a person
    /// looks for it when the output goes into a pipe.
    pub(crate) fn failure(&self, error: &Error) {
        if error.is_broken_pipe() {
            return;
        }
        if self.json {
            // If even this cannot be printed, the exit code still says it.
            let _ = self.value(&failure_json(error));
        }
        self.sentence(error);
    }

    /// The object of a failure, as a part of a larger one.
    pub(crate) fn failure_value(error: &Error) -> serde_json::Value {
        // Texts and lists of texts always have a JSON form.
        serde_json::to_value(failure_json(error)).unwrap_or_default()
    }

    /// A failure as a sentence on stderr, with its hint.
    pub(crate) fn sentence(&self, error: &Error) {
        self.note(&format!("Error: {}", terminal::lines(&error.to_string())));
        if let Some(hint) = error.hint_text() {
            self.note(&format!("hint: {}", terminal::lines(hint)));
        }
    }
}

/// The shape of the API reference; a hint is a detail.
#[derive(Debug, Serialize)]
struct Failure<'a> {
    code: &'static str,
    message: String,
    details: Vec<Detail<'a>>,
}

#[derive(Debug, Serialize)]
struct Detail<'a> {
    hint: &'a str,
}

fn failure_json(error: &Error) -> Failure<'_> {
    let details = error.hint_text().map(|hint| Detail { hint }).into_iter().collect();
    Failure { code: error.code(), message: error.to_string(), details }
}

/// Writes and flushes: output of a job is shown when it comes, not when a buffer is full.
pub(crate) fn bytes(to: &mut impl Write, bytes: &[u8]) -> Result<()> {
    to.write_all(bytes)?;
    Ok(to.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use grpcio::RpcStatusCode;

    #[test]
    fn failures_in_json_have_the_three_keys_of_the_reference() {
        let text = "job not found: f47ac10b-58cc-4372-a567-0e02b2c3d479".to_string();
        let error = Error::Call(RpcStatusCode::NOT_FOUND, text.into());
        let expected = "{\n  \"code\": \"NOT_FOUND\",\n  \"message\": \"job not found: \
                        f47ac10b-58cc-4372-a567-0e02b2c3d479\",\n  \"details\": []\n}";
        assert_eq!(serde_json::to_string_pretty(&failure_json(&error)).unwrap(), expected);
    }

    #[test]
    fn a_hint_is_a_detail() {
        let error = Error::usage("no").hint("try");
        assert!(
            serde_json::to_string(&failure_json(&error)).unwrap().ends_with(r#""details":[{"hint":"try"}]}"#)
        );
    }
}
