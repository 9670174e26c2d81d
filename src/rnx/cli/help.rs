//! Help, written from the tables; topics that belong to no command are here as text.

use std::fmt::Write;

use super::super::command::{self, COMMANDS};
use super::super::error::{Error, Result};
use super::command::Command;
use super::flag::{Flag, GLOBALS, Group, Kind, ROOT};
use super::suggest;

/// Columns of the narrowest usual terminal.
const COLUMNS: usize = 80;

/// Topics beside the commands: name, one line, text.
pub(super) static TOPICS: &[(&str, &str, &str)] = &[
    ("config", "How rnx finds its server and its certificate", CONFIG),
    ("jobs", "How a job is named on the command line", JOBS),
    ("exit-codes", "What the exit code of each command means", EXIT_CODES),
];

const CONFIG: &str = "\
Where rnx connects to, and with which certificate. For each of address, certificate, key and CA the first
of these that gives it:

  1. the flag: --server, --cert, --key, --ca
  2. the environment: JOBLET_SERVER, JOBLET_CERT_PATH, JOBLET_KEY_PATH,
     JOBLET_CA_PATH (ignored when --node is given: that flag names the node)
  3. a node of rnx-config.yml: --node NAME, else RNX_NODE, else the one with
     isDefault: true, else \"default\", else the only one
  4. localhost:50051, certs/client-cert.pem, certs/client-key.pem,
     certs/ca-cert.pem

rnx-config.yml is searched in this order:
  --config FILE, $RNX_CONFIG, ./rnx-config.yml, ./config/rnx-config.yml,
  ~/.rnx/rnx-config.yml, /etc/joblet/rnx-config.yml,
  /opt/joblet/config/rnx-config.yml

  version: \"3.0\"
  nodes:
    default:
      isDefault: true
      address: \"host:50051\"
      cert: |
        -----BEGIN CERTIFICATE-----
      key: |
        -----BEGIN PRIVATE KEY-----
      ca: |
        -----BEGIN CERTIFICATE-----

The server's certificate must be signed by that CA and must carry the name \"joblet\", whatever address it
was reached by. The file holds a private key: rnx warns when others can read it.";

const JOBS: &str = "\
Wherever a command takes a <job-uuid>, each of these will do:

  f47ac10b-58cc-4372-a567-0e02b2c3d479
             the id
  f47ac10b   its beginning: four characters or more, if no other job shares them
  nightly    the name that it was given with --name, if no other job has it
  @last      the newest job on the server

A word that could be the beginning of an id is a name only if no id begins with it. Where several jobs fit
nothing is done, the candidates are listed, and the exit code is 5.";

const EXIT_CODES: &str = "\
job run          see `rnx help job run`
job wait         see `rnx help job wait`; its own failures as below
workflow run     see `rnx help workflow run`
other commands   0  done
                 1  failed (also: client configuration missing or wrong)
                 2  the command line, or a value in it, is wrong
                 3  the server cannot be reached, or a certificate was refused
                 4  permission denied
                 5  no such job or workflow, or an id that several share
                 6  the job is in the wrong state
                 7  the server did not answer in time
                 130  Ctrl-C while following
                 141  the reader of the output went away";

/// Help for these words: nothing, `job`, a command's words or a topic.
pub(crate) fn help(words: &[String]) -> Result<String> {
    let spelled: Vec<&str> = words.iter().map(String::as_str).collect();
    if let Some(found) = command::find(&spelled) {
        return Ok(of_command(found));
    }
    match spelled.as_slice() {
        [] => return Ok(of_everything()),
        [family] if command::is_family(family) => return Ok(of_family(family)),
        [word] => {
            if let Some((_, _, text)) = TOPICS.iter().find(|(name, _, _)| name == word) {
                return Ok(format!("{}\n", flowing(text)));
            }
        }
        _ => {}
    }
    let typed = spelled.join(" ");
    let names: Vec<String> = COMMANDS.iter().map(|c| c.name()).collect();
    let known = names.iter().map(String::as_str).chain(TOPICS.iter().map(|t| t.0));
    let error = Error::usage(format!("no help for {typed:?}"));
    if let Some(text) = command::explanation(words) {
        return Err(error.hint(text));
    }
    Err(match suggest::nearest(&typed, known) {
        Some(near) => error.hint(format!("did you mean `rnx help {near}`?")),
        None => error.hint("rnx help lists the commands and topics".to_string()),
    })
}

fn of_everything() -> String {
    let mut text = String::from(
        "rnx runs isolated, limited jobs on a joblet server\n\n\
         Usage: rnx [flags] <command> [args...]\n\nCommands:\n",
    );
    list_commands(&mut text, COMMANDS.iter().copied());
    text.push_str("\nTopics (rnx help <topic>):\n");
    let width = TOPICS.iter().map(|t| t.0.len()).max().unwrap_or(0);
    for (name, line, _) in TOPICS {
        line_of(&mut text, name, width, line);
    }
    list_flags(&mut text, ROOT.iter().chain(GLOBALS));
    text
}

fn of_family(family: &str) -> String {
    let mut text = format!("Usage: rnx {family} <command> [flags]\n\nCommands:\n");
    list_commands(&mut text, COMMANDS.iter().copied().filter(|c| c.path.len() > 1 && c.path[0] == family));
    let _ = write!(text, "\nrnx help {family} <command> explains one of them.\n");
    text
}

fn of_command(command: &Command) -> String {
    let mut text = format!("{}\n\nUsage: rnx {} {}", command.summary, command.name(), command.usage);
    text.truncate(text.trim_end().len());
    text.push('\n');
    if !command.about.is_empty() {
        let _ = write!(text, "\n{}\n", flowing(command.about));
    }
    list_flags(&mut text, command.all_flags());
    text.push_str("\nExamples:\n");
    for example in command.examples {
        let _ = writeln!(text, "  {example}");
    }
    text
}

fn list_commands<'a>(text: &mut String, commands: impl Iterator<Item = &'a Command> + Clone) {
    let width = commands.clone().map(|c| c.name().len()).max().unwrap_or(0);
    for command in commands {
        line_of(text, &command.name(), width, command.summary);
    }
}

fn list_flags<'a>(text: &mut String, flags: impl Iterator<Item = &'a Flag>) {
    let mut listed: Vec<(Group, String, String)> =
        flags.filter(|f| !f.hidden).map(|f| (f.group, spelling(f), explanation(f))).collect();
    listed.sort_by_key(|(group, _, _)| *group);
    let width = listed.iter().map(|(_, left, _)| left.len()).max().unwrap_or(0);
    let mut last = None;
    for (group, left, right) in listed {
        if last.replace(group) != Some(group) {
            let _ = write!(text, "\n{group}:\n");
        }
        line_of(text, &left, width, &right);
    }
}

/// `-e, --env K=V...`, aligned as if every flag had a letter; the dots say that it may be repeated.
fn spelling(flag: &Flag) -> String {
    let short = flag.short.map_or("    ".to_string(), |s| format!("-{s}, "));
    match flag.kind {
        Kind::Switch => format!("{short}--{}", flag.long),
        Kind::Value(what) => format!("{short}--{} {what}{}", flag.long, if flag.multi { "..." } else { "" }),
    }
}

fn explanation(flag: &Flag) -> String {
    let mut text = flag.help.to_string();
    if let Some(env) = flag.env {
        let _ = write!(text, " [${env}]");
    }
    text
}

fn line_of(text: &mut String, left: &str, width: usize, right: &str) {
    let lines = filled(right, COLUMNS.saturating_sub(width + 4));
    for (n, line) in lines.iter().enumerate() {
        let left = if n == 0 { left } else { "" };
        let _ = writeln!(text, "  {left:width$}  {line}");
    }
}

/// A text with its paragraphs filled to the width of help. A line that is indented or has columns stays a line of
/// its own.
pub(super) fn flowing(text: &str) -> String {
    let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ') && !line.contains("  ");
    let mut lines: Vec<String> = Vec::new();
    let mut paragraph = String::new();
    for line in text.lines().chain([""]) {
        if is_prose(line) {
            paragraph.extend([line, " "]);
            continue;
        }
        lines.extend(filled(&std::mem::take(&mut paragraph), COLUMNS));
        lines.push(line.to_owned());
    }
    // The empty line that ended the last paragraph.
    lines.pop();
    lines.join("\n")
}

/// The words of a text in lines of at most so many columns; a longer word has a line of its own.
fn filled(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::parse::{Parsed, parse};
    use super::*;
    use crate::config::daemon::DaemonConfig;
    use crate::job::units::format_duration;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_string).collect()
    }

    /// The long flags that a help text lists, each at the beginning of its line.
    fn listed(text: &str) -> Vec<String> {
        let names = text.lines().filter(|l| l.starts_with("  ")).filter_map(|l| {
            let l = l.trim_start();
            let l = if l.starts_with('-') && !l.starts_with("--") { l.get(4..)? } else { l };
            l.strip_prefix("--").map(|n| n.split([' ', '=']).next().unwrap_or_default().to_string())
        });
        names.filter(|n| !n.is_empty()).collect()
    }

    #[test]
    fn help_lists_exactly_the_flags_that_the_parser_takes() {
        for command in COMMANDS {
            let mut shown = listed(&help(&words(&command.name())).unwrap());
            let mut known: Vec<String> =
                command.all_flags().filter(|f| !f.hidden).map(|f| f.long.to_string()).collect();
            shown.sort();
            known.sort();
            assert_eq!(shown, known, "{}", command.name());
            for flag in command.all_flags() {
                let given = match flag.kind {
                    Kind::Switch => format!("--{}", flag.long),
                    Kind::Value(_) => format!("--{}=1", flag.long),
                };
                let mut line = words(&command.name());
                line.push(given);
                let taken = parse(line.into_iter().map(Into::into).collect());
                let unknown = taken.is_err_and(|r| r.error.to_string().starts_with("unknown flag"));
                assert!(!unknown, "--{} of {}", flag.long, command.name());
            }
        }
    }

    #[test]
    fn examples_in_help_are_command_lines_that_parse() {
        for command in COMMANDS {
            for example in command.examples {
                let line = example.split(" | ").next().unwrap_or_default();
                let line = line.strip_prefix("rnx ").unwrap();
                let parsed = parse(line.split_whitespace().map(Into::into).collect());
                assert!(
                    matches!(parsed, Ok(Parsed::Invoke(i)) if i.command.path == command.path),
                    "{example}"
                );
            }
        }
    }

    #[test]
    fn lines_fit_a_terminal_of_80_columns() {
        let texts = COMMANDS.iter().map(|c| c.name()).chain([
            "".into(),
            "job".into(),
            "config".into(),
            "jobs".into(),
        ]);
        for name in texts.chain(["exit-codes".to_string()]) {
            for line in help(&words(&name)).unwrap().lines() {
                assert!(line.chars().count() <= COLUMNS, "{name}: {line}");
            }
        }
    }

    #[test]
    fn paragraphs_are_filled_and_columns_stay() {
        let text = format!("one two\nthree\n\n  a  b\nx  y\n{}", "word ".repeat(20).trim_end());
        let shown = flowing(&text);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[..4], ["one two three", "", "  a  b", "x  y"]);
        assert_eq!((lines[4].len(), lines[5].len(), lines.len()), (79, 19, 6));
    }

    #[test]
    fn help_of_a_start_names_the_defaults_of_the_daemon() {
        let shown = help(&words("job run")).unwrap();
        let text = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        let node = DaemonConfig::default();
        let (jobs, uploads) = (&node.joblet, node.grpc.max_recv_msg_size >> 20);
        for default in [
            format!("(default of a node: {}, one core)", jobs.default_cpu_limit),
            format!("(default of a node: {})", jobs.default_memory_limit),
            format!("(default and most of a node: {})", format_duration(jobs.job_timeout)),
            format!("{} ms between SIGTERM and SIGKILL", jobs.stop_grace_period.as_millis()),
            format!("at most {uploads} MiB"),
        ] {
            assert!(text.contains(&default), "{default}: {text}");
        }
    }

    #[test]
    fn unknown_topics_are_refused_with_the_nearest_one() {
        let e = help(&words("confg")).unwrap_err();
        assert_eq!(e.hint_text(), Some("did you mean `rnx help config`?"));
        assert!(help(&words("job rnu")).is_err() && help(&words("a b c")).is_err());
    }
}
