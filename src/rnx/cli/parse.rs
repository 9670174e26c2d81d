//! argv to an [`Invocation`]. The scanner decides where rnx's own words end, because from the job's command
//! on nothing is ours to read, not even its encoding errors; it hands the flags in one canonical form
//! (`--long=value`) to getopts, which gathers them.

use std::ffi::OsString;

use getopts::{Matches, Options};

use super::super::command::{self, COMMANDS};
use super::super::error::{Error, Result};
use super::command::{Command, Invocation, Operands, Values};
use super::flag::{Flag, GLOBALS, Kind, ROOT};
use super::suggest;

/// The meaning of a command line.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// Run this command.
    Invoke(Invocation),
    /// Explain these words (a command, a family of commands, a topic or nothing).
    Help(Vec<String>),
    /// Print rnx's own version.
    Version,
    /// Tell a shell's completion what may come in the place of the last of these words.
    Complete(Vec<OsString>),
}

/// A command line that cannot be understood, with what the report of it needs: the command and the output form.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The reason, with a hint.
    pub(crate) error: Error,
    /// The command, if it got that far.
    pub(crate) command: Option<&'static Command>,
    /// `--json` was seen before the mistake.
    pub(crate) json: bool,
}

/// A command line in the middle of being typed.
#[derive(Debug)]
pub(crate) struct Typed {
    /// The words of commands so far: none, `job`, or all of a command's.
    pub(crate) words: Vec<String>,
    /// The command, if its words are complete.
    pub(crate) command: Option<&'static Command>,
    /// The flags so far.
    pub(crate) values: Values,
    /// The flag whose value comes next.
    pub(crate) pending: Option<&'static Flag>,
    /// The operands so far.
    pub(crate) operands: Vec<String>,
    /// `--` was there: no flag comes any more.
    pub(crate) dashes: bool,
}

/// Reads the finished words of a line that goes on; `None` when no line with this beginning is right.
pub(crate) fn typed(args: Vec<OsString>) -> Option<Typed> {
    let mut scan = Scan::of(args);
    let walked = scan.command_words().and_then(|words| {
        scan.command.map_or(Ok(()), |command| scan.rest(command))?;
        Ok(words)
    });
    let words = match (walked, scan.pending, scan.command) {
        (Ok(words), ..) => words,
        (Err(_), Some(_), Some(command)) => command.path.iter().map(|w| w.to_string()).collect(),
        // A global flag between `rnx` and a command, or between the command's words.
        (Err(_), Some(_), None) => Vec::new(),
        (Err(_), None, _) => return None,
    };
    let values = Values(gather(scan.command, &scan.flags).ok()?);
    let Scan { command, pending, operands, dashes, .. } = scan;
    Some(Typed { words, command, values, pending, operands, dashes })
}

/// Reads the words after the program's name.
pub(crate) fn parse(args: Vec<OsString>) -> std::result::Result<Parsed, Refused> {
    // No word for people: the scripts of `rnx completion` ask with it.
    if args.first().is_some_and(|word| word == "__complete") {
        return Ok(Parsed::Complete(args.into_iter().skip(1).collect()));
    }
    let mut scan = Scan::of(args);
    scan.all().map_err(|error| Refused {
        error,
        command: scan.command,
        json: scan.flags.iter().any(|f| f == "--json"),
    })
}

struct Scan {
    args: Vec<OsString>,
    at: usize,
    flags: Vec<String>,
    command: Option<&'static Command>,
    operands: Vec<String>,
    pending: Option<&'static Flag>,
    dashes: bool,
}

impl Scan {
    fn of(args: Vec<OsString>) -> Self {
        let (flags, operands) = (Vec::new(), Vec::new());
        Scan { args, at: 0, flags, command: None, operands, pending: None, dashes: false }
    }

    fn all(&mut self) -> Result<Parsed> {
        let words = self.command_words()?;
        if self.given("--version") {
            return Ok(Parsed::Version);
        }
        let Some(command) = self.command else {
            return Ok(Parsed::Help(words));
        };
        self.rest(command)?;
        if self.given("--help") {
            return Ok(Parsed::Help(command.path.iter().map(|w| w.to_string()).collect()));
        }
        self.check_operands(command)?;
        let values = Values(gather(Some(command), &self.flags)?);
        Ok(Parsed::Invoke(Invocation { command, values, operands: std::mem::take(&mut self.operands) }))
    }

    /// Global flags and the words up to the last word of the command's name.
    fn command_words(&mut self) -> Result<Vec<String>> {
        let mut words: Vec<String> = Vec::new();
        let known: Vec<&'static Flag> = GLOBALS.iter().chain(ROOT).collect();
        while let Some(token) = self.next()? {
            if is_flag(&token) {
                self.flag(&token, &known, &words)?;
                continue;
            }
            words.push(token);
            let spelled: Vec<&str> = words.iter().map(String::as_str).collect();
            if let Some(found) = command::find(&spelled) {
                self.command = Some(found);
                break;
            }
            if let [word] = spelled.as_slice()
                && let Some(topic) = command::topic_alias(word)
            {
                return Ok(vec![topic.to_string()]);
            }
            if words.len() > 1 || !command::is_family(&words[0]) {
                return Err(unknown_command(&words));
            }
        }
        Ok(words)
    }

    /// Flags and operands behind the command's name.
    fn rest(&mut self, command: &'static Command) -> Result<()> {
        let known: Vec<&'static Flag> = command.all_flags().collect();
        let path: Vec<String> = command.path.iter().map(|w| w.to_string()).collect();
        while let Some(token) = self.next()? {
            if token == "--" {
                self.dashes = true;
                return self.take_rest();
            }
            if is_flag(&token) {
                self.flag(&token, &known, &path)?;
                continue;
            }
            self.operands.push(token);
            if matches!(command.operands, Operands::JobCommand | Operands::JobAndCommand) {
                return self.take_rest();
            }
        }
        Ok(())
    }

    fn take_rest(&mut self) -> Result<()> {
        while let Some(token) = self.next()? {
            self.operands.push(token);
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<String>> {
        let Some(arg) = self.args.get(self.at) else { return Ok(None) };
        self.at += 1;
        let text = arg.to_str().ok_or_else(|| {
            let hint = "arguments travel as UTF-8 text; put other bytes into a file and --upload it";
            Error::usage(format!("argument {} is not valid UTF-8", self.at)).hint(hint)
        })?;
        Ok(Some(text.to_string()))
    }

    fn given(&self, flag: &str) -> bool {
        self.flags.iter().any(|f| f == flag)
    }

    /// One token that begins with a dash: `--long`, `--long=value`, `-abc`, `-avalue`, each value also as
    /// the next token.
    fn flag(&mut self, token: &str, known: &[&'static Flag], words: &[String]) -> Result<()> {
        if let Some(body) = token.strip_prefix("--") {
            let (name, attached) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value.to_string())),
                None => (body, None),
            };
            let flag =
                known.iter().find(|f| f.long == name).ok_or_else(|| unknown_flag(name, known, words))?;
            return self.push(flag, &format!("--{name}"), attached);
        }
        let mut letters = token[1..].chars();
        while let Some(letter) = letters.next() {
            let flag = known
                .iter()
                .find(|f| f.short == Some(letter))
                .ok_or_else(|| unknown_letter(letter, words))?;
            if flag.kind == Kind::Switch {
                self.push(flag, &format!("-{letter}"), None)?;
                continue;
            }
            let rest = letters.as_str();
            let attached = (!rest.is_empty()).then(|| rest.strip_prefix('=').unwrap_or(rest).to_string());
            return self.push(flag, &format!("-{letter}"), attached);
        }
        Ok(())
    }

    fn push(&mut self, flag: &'static Flag, typed: &str, attached: Option<String>) -> Result<()> {
        let Kind::Value(what) = flag.kind else {
            if attached.is_some() {
                return Err(Error::usage(format!("flag {typed} takes no value")));
            }
            self.flags.push(format!("--{}", flag.long));
            return Ok(());
        };
        if let Some(value) = attached {
            self.flags.push(format!("--{}={value}", flag.long));
            return Ok(());
        }
        let Some(value) = self.next()? else {
            self.pending = Some(flag);
            return Err(Error::usage(format!("flag {typed} needs a value: {typed}={what}")));
        };
        // `--name -- cmd` is a forgotten value far more often than a name "--".
        if is_flag(&value) {
            let text = format!("flag {typed} needs a value, but the next word is {value:?}");
            return Err(
                Error::usage(text).hint(format!("if that is the value, write --{}={value}", flag.long))
            );
        }
        self.flags.push(format!("--{}={value}", flag.long));
        Ok(())
    }

    fn check_operands(&self, command: &'static Command) -> Result<()> {
        let hint = || format!("usage: rnx {} {}", command.name(), command.usage);
        // Other clients write it in the place of a command: `job run` says what to type instead.
        let has = |beginning: &str| self.flags.iter().any(|flag| flag.starts_with(beginning));
        // A runtime may have a command of its own.
        let needs_none = || has("--workflow=") || has("--runtime=");
        match (command.operands, self.operands.as_slice()) {
            (Operands::JobCommand, []) if needs_none() => Ok(()),
            (Operands::JobCommand, []) => Err(Error::usage("must specify a command to run").hint(hint())),
            (Operands::JobAndCommand, []) => Err(Error::usage("must specify a job-uuid").hint(hint())),
            (Operands::JobAndCommand, [_, words @ ..]) if words.iter().all(|word| word == "--") => {
                Err(Error::usage("must specify a command to run").hint(hint()))
            }
            (Operands::One(what) | Operands::Many(what) | Operands::Two(what, _), [])
            | (Operands::Two(_, what), [_]) => {
                Err(Error::usage(format!("must specify a {what}")).hint(hint()))
            }
            (Operands::One(_), [_, extra, ..])
            | (Operands::Two(..), [_, _, extra, ..])
            | (Operands::Nothing, [extra, ..]) => {
                Err(Error::usage(format!("unexpected argument: {extra}")).hint(hint()))
            }
            _ => Ok(()),
        }
    }
}

/// A dash and something behind it; a lone `-` means stdin.
fn is_flag(token: &str) -> bool {
    token.len() > 1 && token.starts_with('-')
}

fn gather(command: Option<&'static Command>, flags: &[String]) -> Result<Matches> {
    let mut options = Options::new();
    let own = command.map_or(&[][..], |c| c.flags);
    for flag in own.iter().chain(GLOBALS).chain(ROOT) {
        match flag.kind {
            Kind::Switch => options.optflagmulti("", flag.long, flag.help),
            Kind::Value(what) => options.optmulti("", flag.long, flag.help, what),
        };
    }
    options.parse(flags).map_err(|e| Error::usage(e.to_string()))
}

/// The flag of other programs for a terminal, which jobs do not have.
const TERMINAL: &str = "tty";

/// The refusal of [`TERMINAL`].
fn no_terminal(typed: &str, words: &[String]) -> Option<Error> {
    let text = format!("{typed} is not supported: a job has no terminal");
    let error = Error::usage(text).hint("-i alone sends standard input");
    (words == ["job", "run"] || words == ["job", "exec"]).then_some(error)
}

fn unknown_letter(letter: char, words: &[String]) -> Error {
    let is_terminal = TERMINAL.starts_with(letter);
    let refused = is_terminal.then(|| no_terminal(&format!("-{letter}"), words)).flatten();
    refused.unwrap_or_else(|| Error::usage(format!("unknown flag: -{letter}")).hint(see_help(words)))
}

fn unknown_flag(name: &str, known: &[&'static Flag], words: &[String]) -> Error {
    if name == TERMINAL
        && let Some(refused) = no_terminal(&format!("--{name}"), words)
    {
        return refused;
    }
    let error = Error::usage(format!("unknown flag: --{name}"));
    let listed = known.iter().filter(|f| !f.hidden).map(|f| f.long);
    if let Some(near) = suggest::nearest(name, listed) {
        return error.hint(format!("did you mean --{near}?"));
    }
    let owner = COMMANDS.iter().copied().find(|c| c.flags.iter().any(|f| f.long == name));
    match owner {
        Some(c) => error.hint(format!("--{name} belongs behind `rnx {}`", c.name())),
        None => error.hint(see_help(words)),
    }
}

fn unknown_command(words: &[String]) -> Error {
    let typed = words.join(" ");
    let error = Error::usage(format!("unknown command: {typed}"));
    if let Some(text) = command::explanation(words) {
        return error.hint(text);
    }
    let families = command::families().into_iter().map(str::to_string);
    let names: Vec<String> = COMMANDS.iter().map(|c| c.name()).chain(families).collect();
    match suggest::nearest(&typed, names.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean `rnx {near}`?")),
        None => error.hint("rnx help lists the commands".to_string()),
    }
}

fn see_help(words: &[String]) -> String {
    format!("see `{}`", [&["rnx".to_string(), "help".to_string()], words].concat().join(" "))
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
