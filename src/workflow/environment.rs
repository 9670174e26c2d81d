//! The variables of a job: its own above those of the workflow, `${VAR}` expanded.
//!
//! Variables are expanded in the order in which they need each other, so the order of the file does not matter. A
//! plain variable that takes up a secret becomes a secret: its value would otherwise be shown in replies.

use std::collections::HashMap;

use super::error::shown;
use super::nearest::nearest;
use crate::job::env::MAX_VALUE;
use crate::job::{Secret, env};

/// The variables of a job or of a whole file, as written or expanded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// Variables that replies show.
    pub plain: Vec<(String, String)>,
    /// Variables that are never shown.
    pub secrets: Vec<(String, Secret)>,
}

/// One variable while it is expanded.
struct Variable<'e> {
    name: &'e str,
    text: &'e str,
    secret: bool,
    state: State,
}

enum State {
    Waiting,
    Open,
    Done(String),
}

impl Environment {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.secrets.is_empty()
    }

    /// Names, values, and whether they are secret.
    fn texts(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        let plain = self.plain.iter().map(|(name, text)| (name.as_str(), text.as_str(), false));
        plain.chain(self.secrets.iter().map(|(name, text)| (name.as_str(), text.expose(), true)))
    }

    /// Bytes of all names and values, with what `execve` keeps for each.
    pub(super) fn bytes(&self) -> usize {
        self.texts().map(|(name, value, _)| name.len() + value.len() + 10).sum()
    }

    /// These variables, with those of `own` in place of equal names and those of an array's element above both, expanded
    /// and sorted by name.
    ///
    /// # Errors
    /// A circle, a name that no variable has, a `${` without end, or a value beyond the longest, as a sentence without
    /// values.
    pub fn expand(&self, own: &Environment, element: &[(String, String)]) -> Result<Environment, String> {
        let mut table: Vec<Variable<'_>> = Vec::new();
        let mut by_name: HashMap<&str, usize> = HashMap::new();
        let element = element.iter().map(|(name, text)| (name.as_str(), text.as_str(), false));
        for (name, text, secret) in self.texts().chain(own.texts()).chain(element) {
            // Most values need no other one.
            let state = if text.contains("${") { State::Waiting } else { State::Done(text.to_owned()) };
            let variable = Variable { name, text, secret, state };
            match by_name.get(name) {
                Some(&at) => table[at] = variable,
                None => {
                    by_name.insert(name, table.len());
                    table.push(variable);
                }
            }
        }
        for at in 0..table.len() {
            expand_from(at, &mut table, &by_name)?;
        }
        Ok(collected(table))
    }
}

fn collected(mut table: Vec<Variable<'_>>) -> Environment {
    table.sort_by_key(|variable| variable.name);
    let mut found = Environment::default();
    for variable in table {
        let State::Done(value) = variable.state else { continue };
        if variable.secret {
            found.secrets.push((variable.name.to_owned(), Secret::new(value)));
        } else {
            found.plain.push((variable.name.to_owned(), value));
        }
    }
    found
}

/// Expands one variable and before it all that it needs, with a stack of its own: a file decides how long a chain is.
fn expand_from(
    first: usize,
    table: &mut [Variable<'_>],
    by_name: &HashMap<&str, usize>,
) -> Result<(), String> {
    let mut stack = vec![first];
    while let Some(&at) = stack.last() {
        if matches!(table[at].state, State::Done(_)) {
            stack.pop();
            continue;
        }
        table[at].state = State::Open;
        let (name, text) = (table[at].name, table[at].text);
        let mut needed = None;
        for piece in pieces(name, text)? {
            let Piece::Variable(other) = piece else { continue };
            let Some(&other_at) = by_name.get(other) else { return Err(unknown(name, other, by_name)) };
            match table[other_at].state {
                State::Done(_) => {}
                State::Waiting => needed = needed.or(Some(other_at)),
                State::Open => return Err(circle(&stack, other_at, table)),
            }
        }
        match needed {
            Some(other) => stack.push(other),
            None => {
                let (value, secret) = joined(name, text, table, by_name)?;
                table[at].secret |= secret;
                table[at].state = State::Done(value);
                stack.pop();
            }
        }
    }
    Ok(())
}

/// The value of a variable whose needs are expanded, and whether one of these is a secret.
fn joined(
    name: &str,
    text: &str,
    table: &[Variable<'_>],
    by_name: &HashMap<&str, usize>,
) -> Result<(String, bool), String> {
    let (mut value, mut secret) = (String::new(), false);
    for piece in pieces(name, text)? {
        match piece {
            Piece::Text(text) => value += text,
            Piece::Variable(other) => {
                let Some(other) = by_name.get(other).map(|at| &table[*at]) else { continue };
                secret |= other.secret;
                if let State::Done(text) = &other.state {
                    value += text;
                }
            }
        }
        // Checked piece by piece: each variable could double the one before it.
        if value.len() > MAX_VALUE {
            let name = shown(name);
            return Err(format!(
                "environment variable \"{name}\": expanded it has more than {MAX_VALUE} bytes"
            ));
        }
    }
    Ok((value, secret))
}

enum Piece<'t> {
    Text(&'t str),
    Variable(&'t str),
}

/// The value in pieces. `$${` stands for `${` itself; a `$` before anything else is a `$`.
fn pieces<'t>(name: &str, text: &'t str) -> Result<Vec<Piece<'t>>, String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            // Without the first `$`.
            found.push(Piece::Text(&rest[..at - 1]));
            found.push(Piece::Text("${"));
            rest = &rest[at + 2..];
            continue;
        }
        found.push(Piece::Text(&rest[..at]));
        let Some(length) = rest[at..].find('}') else {
            let name = shown(name);
            return Err(format!(
                "environment variable \"{name}\": ${{ has no }} behind it; write $${{ for the characters"
            ));
        };
        found.push(Piece::Variable(&rest[at + 2..at + length]));
        rest = &rest[at + length + 1..];
    }
    found.push(Piece::Text(rest));
    Ok(found)
}

fn unknown(name: &str, other: &str, by_name: &HashMap<&str, usize>) -> String {
    let mut known: Vec<&str> = by_name.keys().copied().collect();
    known.sort_unstable();
    let hint = match nearest(other, known.into_iter().filter(|known| *known != name)) {
        Some(near) => format!("did you mean ${{{near}}}?"),
        None => format!("write $${{{}}} for the characters", shown(other)),
    };
    let (name, other) = (shown(name), shown(other));
    format!("environment variable \"{name}\": no variable is named \"{other}\"; {hint}")
}

fn circle(stack: &[usize], back: usize, table: &[Variable<'_>]) -> String {
    let from = stack.iter().position(|at| *at == back).unwrap_or(0);
    let names = stack[from..].iter().chain([&back]).map(|at| shown(table[*at].name));
    format!("environment variables need each other in a circle: {}", names.collect::<Vec<_>>().join(" -> "))
}

/// Checks a name and a value as written.
pub(super) fn check(name: &str, value: &str) -> Result<(), String> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !first || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        let name = shown(name);
        return Err(format!(
            "invalid environment variable name \"{name}\": letters, digits and _ are allowed"
        ));
    }
    env::check(name, value).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(plain: &[(&str, &str)], secrets: &[(&str, &str)]) -> Environment {
        Environment {
            plain: plain.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
            secrets: secrets.iter().map(|(n, v)| (n.to_string(), Secret::new(*v))).collect(),
        }
    }

    #[test]
    fn order_of_the_file_does_not_matter() {
        let shared = environment(&[("Z", "${M}/z"), ("A", "${Z}/a"), ("M", "m"), ("E", "$${M} $M $$")], &[]);
        let own = environment(&[("M", "own")], &[]);
        let expected =
            environment(&[("A", "own/z/a"), ("E", "${M} $M $$"), ("M", "own"), ("Z", "own/z")], &[]);
        assert_eq!(shared.expand(&own, &[]), Ok(expected));
    }

    #[test]
    fn plain_variable_with_a_secret_inside_becomes_one() {
        let shared =
            environment(&[("URL", "db://${PASSWORD}@host"), ("DSN", "${URL}/x")], &[("PASSWORD", "hunter2")]);
        let expanded = shared.expand(&Environment::default(), &[]).unwrap();
        assert!(expanded.plain.is_empty() && expanded.secrets.len() == 3);
        assert!(!format!("{expanded:?}").contains("hunter2"));
        assert_eq!(expanded.secrets[0].1.expose(), "db://hunter2@host/x");
    }

    #[test]
    fn circles_unknown_names_and_growth_are_refused() {
        let refused = |plain: &[(&str, &str)]| {
            environment(plain, &[]).expand(&Environment::default(), &[]).unwrap_err()
        };
        let circle = refused(&[("A", "${B}"), ("B", "${C}"), ("C", "x${A}")]);
        assert_eq!(circle, "environment variables need each other in a circle: A -> B -> C -> A");
        assert!(refused(&[("A", "${A}")]).ends_with("circle: A -> A"));
        assert!(refused(&[("HOST", "h"), ("A", "${HOTS}")]).ends_with("did you mean ${HOST}?"));
        assert!(refused(&[("A", "x ${B")]).contains("has no }"));
        let names: Vec<String> = (0..64).map(|n| format!("V{n}")).collect();
        let texts: Vec<String> = (0..64).map(|n| format!("x${{V{}}}${{V{0}}}", n + 1)).collect();
        let mut laughs: Vec<(&str, &str)> =
            names.iter().map(|n| n.as_str()).zip(texts.iter().map(|t| t.as_str())).collect();
        laughs[63].1 = "ha";
        assert!(refused(&laughs).contains("more than 32768 bytes"));
    }

    #[test]
    fn long_chains_take_no_stack() {
        let names: Vec<String> = (0..20_000).map(|n| format!("V{n}")).collect();
        let texts: Vec<String> = (0..20_000).map(|n| format!("${{V{}}}", n + 1)).collect();
        let mut chain: Vec<(&str, &str)> =
            names.iter().map(|n| n.as_str()).zip(texts.iter().map(|t| t.as_str())).collect();
        chain[19_999].1 = "end";
        let expanded = environment(&chain, &[]).expand(&Environment::default(), &[]).unwrap();
        assert!(expanded.plain.iter().all(|(_, value)| value == "end"));
    }
}
