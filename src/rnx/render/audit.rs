//! Lines of the audit trail for people.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::terminal::one_line;

/// The calls that have begun and have no answer yet, in the order of their names.
#[derive(Debug, Default)]
pub(crate) struct Trail(BTreeMap<String, Value>);

impl Trail {
    /// The text of a line. A call is printed with its answer, so the line of its beginning has none.
    pub(crate) fn line(&mut self, line: &str) -> String {
        let Ok(value) = serde_json::from_str::<Value>(line) else { return String::new() };
        match text(&value, "event") {
            "request" => {
                self.0.insert(text(&value, "call").to_owned(), value);
                String::new()
            }
            "answer" => {
                self.0.remove(text(&value, "call"));
                call(&value, text(&value, "code"))
            }
            "refused" => {
                let outcome = match value.get("times").and_then(Value::as_u64) {
                    None => text(&value, "code").to_owned(),
                    Some(times) => format!("{} ({times} more)", text(&value, "code")),
                };
                call(&value, &outcome)
            }
            _ => event(&value),
        }
    }

    /// The text of calls without an answer: the daemon ended before it, or the call goes on.
    pub(crate) fn unanswered(&self) -> String {
        self.0.values().map(|value| call(value, "no answer")).collect()
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The time with milliseconds.
fn time(value: &Value) -> &str {
    let time = text(value, "time");
    time.get(..23).unwrap_or(time)
}

fn call(value: &Value, outcome: &str) -> String {
    let method = text(value, "method").rsplit('/').next().unwrap_or_default();
    let objects = value.get("object").and_then(Value::as_object).into_iter().flatten();
    let objects: Vec<String> =
        objects.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    let parts = [
        format!("{}Z", time(value)),
        outcome.to_owned(),
        text(value, "role").to_owned(),
        format!("\"{}\"", text(value, "subject")),
        method.to_owned(),
        objects.join(" "),
        text(value, "why").to_owned(),
    ];
    format!("{}\n", one_line(parts.join("  ").trim_end()))
}

/// A line that is about no call.
fn event(value: &Value) -> String {
    let mut line = format!("{}Z  {}", time(value), text(value, "event"));
    for key in ["code", "times", "bytes", "file", "why"] {
        match value.get(key) {
            Some(Value::String(text)) => line += &format!("  {text}"),
            Some(Value::Number(number)) => line += &format!("  {key}={number}"),
            _ => {}
        }
    }
    format!("{}\n", one_line(&line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_one_line_with_their_outcome() {
        let mut trail = Trail::default();
        let line = |event: &str, more: &str| {
            format!(
                "{{\"prev\":\"\",\"time\":\"2026-01-02T03:04:05.123456789Z\",\"event\":\"{event}\",\"call\":\"a-1\",\
                 \"method\":\"/joblet.JobService/StopJob\",\"subject\":\"CN=a, OU=admin\",\"role\":\"admin\",\
                 \"object\":{{\"job\":\"f47ac10b\"}}{more},\"hash\":\"\"}}"
            )
        };
        assert_eq!(trail.line(&line("request", "")), "");
        let said = "2026-01-02T03:04:05.123Z  no answer  admin  \"CN=a, OU=admin\"  StopJob  job=f47ac10b\n";
        assert_eq!(trail.unanswered(), said);
        assert_eq!(
            trail.line(&line("answer", ",\"code\":\"NOT_FOUND\"")),
            said.replace("no answer", "NOT_FOUND")
        );
        assert_eq!(trail.unanswered(), "");
        let refused = trail.line(&line("refused", ",\"code\":\"PERMISSION_DENIED\",\"times\":7"));
        assert_eq!(refused, said.replace("no answer", "PERMISSION_DENIED (7 more)"));
        let gap = trail.line(&line("gap", ",\"times\":3,\"why\":\"No space left on device\\u001b\""));
        assert!(gap.starts_with("2026-01-02T03:04:05.123Z  gap  times=3  No space left"), "{gap}");
        assert!(!gap.contains('\u{1b}'), "{gap:?}");
    }
}
