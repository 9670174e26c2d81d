//! The manual page, in roff, from the tables of which help is made.

use std::fmt::Write;

use super::super::command::COMMANDS;
use super::command::Command;
use super::flag::{Flag, GLOBALS, Kind, ROOT};
use super::help::{TOPICS, flowing};

/// rnx(1), for the macros of man(7).
pub(crate) fn man() -> String {
    let mut page = format!(".TH RNX 1 \"\" \"rnx {}\" \"User Commands\"\n", env!("CARGO_PKG_VERSION"));
    page.push_str(".SH NAME\nrnx \\- runs isolated, limited jobs on a joblet server\n");
    page.push_str(".SH SYNOPSIS\n.B rnx\n[\\fIflags\\fR] \\fIcommand\\fR [\\fIargument\\fR ...]\n");
    page.push_str(".SH COMMANDS\n");
    for command in COMMANDS {
        of_command(&mut page, command);
    }
    page.push_str(".SH FLAGS OF EVERY COMMAND\nThey may stand before and after the command.\n");
    flags(&mut page, GLOBALS.iter().chain(ROOT));
    for (name, line, text) in TOPICS {
        let _ = writeln!(page, ".SH \"{}\"\n{}.", escaped(&name.to_uppercase()), escaped(line));
        verbatim(&mut page, &flowing(text));
    }
    page.push_str(".SH ENVIRONMENT\nA variable stands in for a flag that is absent.\n");
    for flag in GLOBALS {
        if let Some(variable) = flag.env {
            let _ = writeln!(page, ".TP\n.B {}\n\\-\\-{}", escaped(variable), escaped(flag.long));
        }
    }
    for variable in ["NO_COLOR", "RNX_NO_COLOR"] {
        let _ = writeln!(page, ".TP\n.B {variable}\nWhen set, nothing is coloured.");
    }
    page
}

fn of_command(page: &mut String, command: &Command) {
    let usage = format!("rnx {} {}", command.name(), command.usage);
    let _ = writeln!(page, ".SS \"{}\"\n{}.", escaped(usage.trim_end()), escaped(command.summary));
    if !command.about.is_empty() {
        verbatim(page, &flowing(command.about));
    }
    flags(page, command.flags.iter());
    page.push_str(".PP\nExamples:\n");
    verbatim(page, &command.examples.join("\n"));
}

fn flags<'a>(page: &mut String, flags: impl Iterator<Item = &'a Flag>) {
    for flag in flags.filter(|f| !f.hidden) {
        let mut names = flag.short.map(|s| format!("\\fB\\-{s}\\fR, ")).unwrap_or_default();
        let _ = write!(names, "\\fB\\-\\-{}\\fR", escaped(flag.long));
        if let Kind::Value(what) = flag.kind {
            let _ = write!(names, " \\fI{}\\fR", escaped(what));
        }
        let several = if flag.multi { " May be given more than once." } else { "" };
        let variable = flag.env.map(|v| format!(" Without it: ${v}.")).unwrap_or_default();
        let help = flag.help.replace('\n', " ");
        let end = if help.ends_with('.') { "" } else { "." };
        let _ = writeln!(page, ".TP\n{names}\n{}", escaped(&format!("{help}{end}{several}{variable}")));
    }
}

/// Lines as they are: their columns carry meaning.
fn verbatim(page: &mut String, text: &str) {
    page.push_str(".PP\n.nf\n");
    for line in text.lines() {
        let _ = writeln!(page, "{}", if line.is_empty() { "\\&".to_string() } else { escaped(line) });
    }
    page.push_str(".fi\n");
}

/// Text that roff prints as it is: its escapes, its two control characters at the beginning of a line, and the
/// dash and quotes that terminals would otherwise get in typographer's forms.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    if text.starts_with(['.', '\'']) {
        safe.push_str("\\&");
    }
    for c in text.chars() {
        match c {
            '\\' => safe.push_str("\\e"),
            '-' => safe.push_str("\\-"),
            '\'' => safe.push_str("\\(aq"),
            '`' => safe.push_str("\\(ga"),
            '"' => safe.push_str("\\(dq"),
            '^' => safe.push_str("\\(ha"),
            '~' => safe.push_str("\\(ti"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_and_every_command_of_the_tables_is_in_the_manual() {
        let page = man();
        for command in COMMANDS {
            let start = page.find(&format!(".SS \"rnx {}", escaped(&command.name()))).unwrap();
            let section = &page[start + 1..];
            let section = &section[..section.find("\n.S").unwrap_or(section.len())];
            let listed: Vec<&str> = section.lines().filter(|l| l.starts_with("\\fB\\-")).collect();
            let known: Vec<&Flag> = command.flags.iter().filter(|f| !f.hidden).collect();
            assert_eq!(listed.len(), known.len(), "{}", command.name());
            for (line, flag) in listed.iter().zip(known) {
                assert!(line.contains(&format!("\\-\\-{}\\fR", escaped(flag.long))), "{line}");
            }
        }
        for flag in GLOBALS.iter().chain(ROOT) {
            assert!(page.contains(&format!("\\fB\\-\\-{}\\fR", escaped(flag.long))), "{}", flag.long);
        }
    }

    #[test]
    fn text_cannot_inject_roff_requests() {
        assert_eq!(escaped(".so /etc/passwd"), "\\&.so /etc/passwd");
        assert_eq!(escaped("'br"), "\\&\\(aqbr");
        assert_eq!(escaped("a\\nb -x \"y\""), "a\\enb \\-x \\(dqy\\(dq");
    }
}
