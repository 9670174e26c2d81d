//! Conditions on other jobs: `(a=COMPLETED AND b=COMPLETED) OR c IN (FAILED, STOPPED)`.
//!
//! ```text
//!   or      = and { ("OR" | "||") and }
//!   and     = not { ("AND" | "&&") not }
//!   not     = ("NOT" | "!") not | primary
//!   primary = "(" or ")" | job ("=" | "==" | "!=" | "<>") status
//!           | job ["NOT"] "IN" "(" status { "," status } ")"        NOT_IN is one word too
//! ```
//!
//! Keywords may have any case, statuses are upper case. Names and statuses may be quoted.

#[cfg(test)]
use super::node_status::NodeStatus;
use super::node_status::{StatusSet, WORDS, named};

/// Longest text of a condition, in bytes.
pub(super) const MAX_TEXT: usize = 64 << 10;
/// Deepest nesting of parentheses and NOT.
const MAX_DEPTH: usize = 64;

/// A condition on the statuses of jobs, which are named by their numbers in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// The job has one of the statuses.
    Is(usize, StatusSet),
    /// All of them hold.
    All(Vec<Expression>),
    /// One of them holds.
    Any(Vec<Expression>),
    /// It does not hold.
    Not(Box<Expression>),
}

/// The answer of a condition at one moment: the meaning that [`Progress`](super::Progress) counts out.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It holds now.
    Holds,
    /// It does not hold now and may later.
    Open,
    /// It can never hold: the jobs that it names have gone other ways.
    Impossible,
}

/// A part of a condition that breaks the grammar, with its offset in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) offset: usize,
    pub(super) why: String,
    /// The name that no job has, if that is it.
    pub(super) missing: Option<String>,
}

impl Expression {
    /// The answer, given the status of every job.
    ///
    /// Impossible is found exactly for conditions that name each job once. Where a job is named several times, as in
    /// `a=FAILED AND a=COMPLETED`, it is found at the latest when that job has ended.
    #[cfg(test)]
    pub(super) fn answer(&self, status: &dyn Fn(usize) -> NodeStatus) -> Answer {
        let now = |job: usize| StatusSet::of(status(job));
        if self.can_be(true, &now) {
            return Answer::Holds;
        }
        let later = |job: usize| status(job).futures();
        if self.can_be(true, &later) { Answer::Open } else { Answer::Impossible }
    }

    /// Whether it can have this value while each job has one of the statuses of its set.
    #[cfg(test)]
    fn can_be(&self, value: bool, set: &dyn Fn(usize) -> StatusSet) -> bool {
        match (self, value) {
            (Expression::Is(job, wanted), true) => set(*job).meets(*wanted),
            (Expression::Is(job, wanted), false) => !set(*job).is_within(*wanted),
            (Expression::All(parts), true) | (Expression::Any(parts), false) => {
                parts.iter().all(|part| part.can_be(value, set))
            }
            (Expression::All(parts), false) | (Expression::Any(parts), true) => {
                parts.iter().any(|part| part.can_be(value, set))
            }
            (Expression::Not(part), value) => part.can_be(!value, set),
        }
    }

    /// Calls `found` for every job that it names, each time it does.
    pub(super) fn names(&self, found: &mut dyn FnMut(usize)) {
        match self {
            Expression::Is(job, _) => found(*job),
            Expression::All(parts) | Expression::Any(parts) => {
                parts.iter().for_each(|part| part.names(found));
            }
            Expression::Not(part) => part.names(found),
        }
    }
}

/// Reads a condition; `find` gives a job's number.
pub(super) fn parse(text: &str, find: &dyn Fn(&str) -> Option<usize>) -> Result<Expression, Wrong> {
    if text.len() > MAX_TEXT {
        let why = format!("the condition has {} bytes, at most {MAX_TEXT} are allowed", text.len());
        return Err(Wrong { offset: 0, why, missing: None });
    }
    let mut parser = Parser { tokens: tokens(text)?, next: 0, end: text.len(), depth: 0, find };
    let expression = parser.any()?;
    match parser.tokens.get(parser.next) {
        None => Ok(expression),
        Some((offset, token)) => Err(wrong(*offset, format!("expected AND, OR or the end, not {token}"))),
    }
}

fn wrong(offset: usize, why: impl Into<String>) -> Wrong {
    Wrong { offset, why: why.into(), missing: None }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token<'t> {
    Word(&'t str),
    Quoted(&'t str),
    Mark(&'static str),
}

impl std::fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Token::Word(text) | Token::Quoted(text) => write!(f, "\"{}\"", super::error::shown(text)),
            Token::Mark(mark) => write!(f, "\"{mark}\""),
        }
    }
}

/// Longer marks first: "=" also begins "==".
const MARKS: [&str; 10] = ["==", "!=", "<>", "&&", "||", "=", "!", "(", ")", ","];

fn tokens(text: &str) -> Result<Vec<(usize, Token<'_>)>, Wrong> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (length, token) = if first == '\'' || first == '"' {
            let Some(inside) = rest[1..].find(first) else {
                return Err(wrong(at, format!("the quote {first} has no end")));
            };
            (inside + 2, Token::Quoted(&rest[1..1 + inside]))
        } else if let Some(mark) = MARKS.into_iter().find(|mark| rest.starts_with(mark)) {
            (mark.len(), Token::Mark(mark))
        } else {
            let length = rest.find(|c: char| !is_name_character(c)).unwrap_or(rest.len());
            if length == 0 {
                return Err(wrong(at, format!("the character \"{}\" has no meaning", first.escape_debug())));
            }
            (length, Token::Word(&rest[..length]))
        };
        found.push((at, token));
        at += length;
    }
    Ok(found)
}

/// Whether names of jobs may have this character.
pub(super) fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.".contains(c)
}

/// Words that cannot be names of jobs.
pub(super) const KEYWORDS: [&str; 5] = ["AND", "OR", "NOT", "IN", "NOT_IN"];

struct Parser<'t, 'f> {
    tokens: Vec<(usize, Token<'t>)>,
    next: usize,
    end: usize,
    depth: usize,
    find: &'f dyn Fn(&str) -> Option<usize>,
}

impl<'t> Parser<'t, '_> {
    fn offset(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |(offset, _)| *offset)
    }

    fn is_keyword(&self, ahead: usize, keyword: &str) -> bool {
        let token = self.tokens.get(self.next + ahead);
        matches!(token, Some((_, Token::Word(word))) if word.eq_ignore_ascii_case(keyword))
    }

    /// Steps over a keyword or a mark if it is next.
    fn skip(&mut self, words: &[&str]) -> bool {
        let is_next = words.iter().any(|word| {
            self.is_keyword(0, word)
                || matches!(self.tokens.get(self.next), Some((_, Token::Mark(mark))) if mark == word)
        });
        self.next += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, mark: &str) -> Result<(), Wrong> {
        if self.skip(&[mark]) { Ok(()) } else { Err(self.expected(&format!("\"{mark}\""))) }
    }

    fn expected(&self, what: &str) -> Wrong {
        let instead = self.tokens.get(self.next).map_or("the end".to_owned(), |(_, token)| token.to_string());
        wrong(self.offset(), format!("expected {what}, not {instead}"))
    }

    fn any(&mut self) -> Result<Expression, Wrong> {
        let mut parts = vec![self.all()?];
        while self.skip(&["OR", "||"]) {
            parts.push(self.all()?);
        }
        Ok(one_or(parts, Expression::Any))
    }

    fn all(&mut self) -> Result<Expression, Wrong> {
        let mut parts = vec![self.not()?];
        while self.skip(&["AND", "&&"]) {
            parts.push(self.not()?);
        }
        Ok(one_or(parts, Expression::All))
    }

    fn not(&mut self) -> Result<Expression, Wrong> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(wrong(self.offset(), format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let found = if self.skip(&["NOT", "!"]) {
            Expression::Not(Box::new(self.not()?))
        } else if self.skip(&["("]) {
            let inside = self.any()?;
            self.expect(")")?;
            inside
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(found)
    }

    fn comparison(&mut self) -> Result<Expression, Wrong> {
        let offset = self.offset();
        let name = self.word("the name of a job")?;
        let Some(job) = (self.find)(name) else {
            let why = format!("no job is named \"{}\"", super::error::shown(name));
            return Err(Wrong { offset, why, missing: Some(name.to_owned()) });
        };
        if self.skip(&["=", "=="]) {
            return Ok(Expression::Is(job, self.status()?));
        }
        if self.skip(&["!=", "<>"]) {
            return Ok(Expression::Is(job, self.status()?.complement()));
        }
        let negated =
            self.skip(&["NOT_IN"]) || (self.is_keyword(1, "IN") && self.skip(&["NOT"]) && self.skip(&["IN"]));
        if !negated && !self.skip(&["IN"]) {
            return Err(self.expected("=, !=, IN or NOT IN"));
        }
        self.expect("(")?;
        let mut set = self.status()?;
        while self.skip(&[","]) {
            set = set.with(self.status()?);
        }
        self.expect(")")?;
        Ok(Expression::Is(job, if negated { set.complement() } else { set }))
    }

    fn word(&mut self, what: &str) -> Result<&'t str, Wrong> {
        match self.tokens.get(self.next) {
            Some((_, Token::Word(word))) if KEYWORDS.iter().any(|k| word.eq_ignore_ascii_case(k)) => {
                Err(self.expected(what))
            }
            Some((_, Token::Word(word) | Token::Quoted(word))) => {
                let word = *word;
                self.next += 1;
                Ok(word)
            }
            _ => Err(self.expected(what)),
        }
    }

    fn status(&mut self) -> Result<StatusSet, Wrong> {
        let offset = self.offset();
        let word = self.word("a status")?;
        named(word).ok_or_else(|| wrong(offset, unknown_status(word)))
    }
}

/// The refusal of a word that is no status.
pub(super) fn unknown_status(word: &str) -> String {
    let shown = super::error::shown(word);
    match super::nearest::nearest(word, WORDS.into_iter()) {
        Some(near) => format!("unknown status \"{shown}\"; did you mean {near}?"),
        None => format!("unknown status \"{shown}\"; there is {}", WORDS.join(", ")),
    }
}

fn one_or(mut parts: Vec<Expression>, many: fn(Vec<Expression>) -> Expression) -> Expression {
    match (parts.len(), parts.pop()) {
        (1, Some(one)) => one,
        (_, last) => {
            parts.extend(last);
            many(parts)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn find(name: &str) -> Option<usize> {
        ["a", "b", "c", "in-put"].iter().position(|known| *known == name)
    }

    fn answer(text: &str, statuses: [NodeStatus; 3]) -> Answer {
        let expression = parse(text, &find).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        expression.answer(&|job| statuses.get(job).copied().unwrap_or(NodeStatus::Pending))
    }

    #[test]
    fn every_operator_has_its_meaning() {
        use NodeStatus::{Canceled, Completed, Failed, Pending, Running, Stopped};
        let ended = [Completed, Failed, Stopped];
        for (text, expected) in [
            ("a=COMPLETED", Answer::Holds),
            ("a == COMPLETED AND b = FAILED", Answer::Holds),
            ("(a=FAILED) OR (b=FAILED)", Answer::Holds),
            ("a=FAILED or b=COMPLETED && c=STOPPED", Answer::Impossible),
            ("NOT a=FAILED and !b=COMPLETED", Answer::Holds),
            ("NOT (a=FAILED OR b=FAILED)", Answer::Impossible),
            ("a!=FAILED && b<>'COMPLETED'", Answer::Holds),
            ("c IN (FAILED, \"STOPPED\")", Answer::Holds),
            ("c NOT IN (FAILED, STOPPED)", Answer::Impossible),
            ("c not_in (FAILED)", Answer::Holds),
            ("a=FINISHED AND b=FINISHED AND c=FINISHED", Answer::Holds),
            ("'in-put'=COMPLETED", Answer::Open),
            ("a=COMPLETED || in-put=COMPLETED", Answer::Holds),
        ] {
            assert_eq!(answer(text, ended), expected, "{text}");
        }
        assert_eq!(answer("a=FINISHED", [Canceled, Pending, Pending]), Answer::Impossible);
        assert_eq!(answer("a=COMPLETED AND b=COMPLETED", [Running, Failed, Pending]), Answer::Impossible);
        assert_eq!(answer("a=COMPLETED OR b=COMPLETED", [Running, Failed, Pending]), Answer::Open);
        assert_eq!(answer("a=PENDING", [Running, Pending, Pending]), Answer::Impossible);
        assert_eq!(answer("a!=COMPLETED", [Completed, Pending, Pending]), Answer::Impossible);
    }

    #[test]
    fn broken_conditions_are_refused_where_they_break() {
        for (text, offset, why) in [
            ("", 0, "expected the name of a job, not the end"),
            ("a", 1, "expected =, !=, IN or NOT IN, not the end"),
            ("a=COMPLETE", 2, "unknown status \"COMPLETE\"; did you mean COMPLETED?"),
            ("a=COMPLETED b=FAILED", 12, "expected AND, OR or the end, not \"b\""),
            ("(a=COMPLETED", 12, "expected \")\", not the end"),
            ("a IN COMPLETED", 5, "expected \"(\", not \"COMPLETED\""),
            ("x=COMPLETED", 0, "no job is named \"x\""),
            ("a='COMPLETED", 2, "the quote ' has no end"),
            ("a=COMPLETED; b", 11, "the character \";\" has no meaning"),
            ("AND=COMPLETED", 0, "expected the name of a job, not \"AND\""),
        ] {
            let error = parse(text, &find).unwrap_err();
            assert_eq!((error.offset, error.why.as_str()), (offset, why), "{text}");
        }
        for deep in ["(".repeat(60_000), "!".repeat(60_000), "NOT ".repeat(10_000)] {
            assert!(parse(&deep, &find).unwrap_err().why.starts_with("nested deeper"));
        }
        assert!(parse(&"a".repeat(MAX_TEXT + 1), &find).unwrap_err().why.contains("at most"));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "[abANDORTI=!<>&|(), '\"\u{e9}]{0,80}") {
            let _ = parse(&text, &find);
        }
    }
}
