//! The commands: one file each, `<noun>_<verb>.rs`, with its description and its flags beside its code.
//!
//! A new command is one new file and one line in [`COMMANDS`]; parser, help, completion and manual read that list.
//! A command reads its flags, asks the server, and gives the answer to [`render`](super::render); no
//! decision is made in two commands. It finds mistakes in flags and files before it sends the first byte
//! to a server.

use std::time::Duration;

use jiff::Zoned;

use super::certificate;
use super::cli::{Command, Invocation, Run, Values, time, value};
use super::connect;
use super::error::{Error, Result};
use super::out::Out;
use super::server::Server;
use super::terminal::one_line;
use crate::config::search::process_environment;

mod audit;
pub(crate) mod completion;
mod cp;
mod dashboard;
pub(crate) mod glob;
mod gpu_list;
mod gpu_reset_state;
mod help;
mod job_cancel;
mod job_clock;
mod job_cp;
mod job_delete;
mod job_delete_all;
mod job_denials;
mod job_egress;
mod job_exec;
mod job_list;
mod job_log;
pub(crate) mod job_metrics;
mod job_pause;
mod job_port_forward;
mod job_resume;
mod job_run;
mod job_status;
mod job_stop;
mod job_timeout;
mod job_wait;
mod job_watch;
mod man;
mod monitor;
mod monitor_status;
mod monitor_top;
mod monitor_watch;
mod network_create;
mod network_inspect;
mod network_list;
mod network_remove;
mod nodes;
mod runtime_build;
mod runtime_import;
mod runtime_info;
mod runtime_install;
mod runtime_list;
mod runtime_remove;
mod runtime_test;
mod runtime_validate;
mod several;
mod top;
pub(crate) mod version;
mod volume_create;
mod volume_inspect;
mod volume_list;
mod volume_remove;
mod volume_resize;
mod workflow_cancel;
mod workflow_file;
mod workflow_graph;
pub(crate) mod workflow_list;
mod workflow_run;
mod workflow_status;
mod workflow_validate;

/// Every command, in the order in which help shows them.
pub(crate) static COMMANDS: &[&Command] = &[
    &job_run::COMMAND,
    &job_status::COMMAND,
    &job_list::COMMAND,
    &job_log::COMMAND,
    &job_metrics::COMMAND,
    &job_egress::COMMAND,
    &job_denials::COMMAND,
    &job_exec::COMMAND,
    &job_cp::COMMAND,
    &job_wait::COMMAND,
    &job_watch::COMMAND,
    &job_pause::COMMAND,
    &job_resume::COMMAND,
    &job_timeout::COMMAND,
    &job_port_forward::COMMAND,
    &job_cancel::COMMAND,
    &job_stop::COMMAND,
    &job_delete::COMMAND,
    &job_delete_all::COMMAND,
    &workflow_run::COMMAND,
    &workflow_status::COMMAND,
    &workflow_list::COMMAND,
    &workflow_cancel::COMMAND,
    &workflow_validate::COMMAND,
    &workflow_graph::COMMAND,
    &network_create::COMMAND,
    &network_list::COMMAND,
    &network_inspect::COMMAND,
    &network_remove::COMMAND,
    &volume_create::COMMAND,
    &volume_list::COMMAND,
    &volume_inspect::COMMAND,
    &volume_resize::COMMAND,
    &volume_remove::COMMAND,
    &cp::COMMAND,
    &runtime_install::COMMAND,
    &runtime_build::COMMAND,
    &runtime_import::COMMAND,
    &runtime_list::COMMAND,
    &runtime_info::COMMAND,
    &runtime_test::COMMAND,
    &runtime_validate::COMMAND,
    &runtime_remove::COMMAND,
    &gpu_list::COMMAND,
    &gpu_reset_state::COMMAND,
    &top::COMMAND,
    &monitor_status::COMMAND,
    &monitor_top::COMMAND,
    &monitor_watch::COMMAND,
    &audit::COMMAND,
    &dashboard::COMMAND,
    &nodes::COMMAND,
    &completion::COMMAND,
    &man::COMMAND,
    &version::COMMAND,
    &help::COMMAND,
];

/// Words of other tools that mean one of our commands and change nothing, alone and behind `job`. Help does not list
/// them.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("ps", "list"),
    ("ls", "list"),
    ("logs", "log"),
    ("inspect", "status"),
    ("show", "status"),
    ("info", "status"),
];

/// Words of other tools that are not taken, because they would end or delete something, or because what they mean
/// there does not exist here. The sentence says what does.
const EXPLAINED_WORDS: &[(&str, &str)] = &[
    ("rm", "rnx job delete <job> deletes a finished job with its output"),
    ("kill", "rnx job stop <job> ends a job: SIGTERM, then SIGKILL for everything in it"),
    ("stats", "rnx job metrics <job> prints what a job uses"),
    ("attach", "rnx job log <job> follows the output of a job"),
    ("start", "rnx job run <command> starts a job"),
    ("restart", "a job runs once; start it again with rnx job run"),
    ("prune", "rnx job delete-all deletes all finished jobs"),
];

/// The command that these words name; a hidden alias counts (`run` for `job run`, `ps` for `job list`).
pub(crate) fn find(words: &[&str]) -> Option<&'static Command> {
    let all = || COMMANDS.iter().copied();
    if let Some(found) = all().find(|c| c.path == words) {
        return Some(found);
    }
    let (word, is_short) = match words {
        [word] => (*word, true),
        ["job", word] => (*word, false),
        _ => return None,
    };
    if let Some((_, verb)) = OTHER_WORDS.iter().find(|(other, _)| *other == word) {
        return all().find(|c| c.path == ["job", *verb]);
    }
    all().find(|c| is_short && c.alias && c.path.last() == Some(&word))
}

/// The command to type instead of a word of another tool, such as `kill` or `job rm`.
pub(crate) fn explanation(words: &[String]) -> Option<&'static str> {
    let word = match words {
        [word] => word,
        [family, word] if family == "job" => word,
        _ => return None,
    };
    EXPLAINED_WORDS.iter().find(|(other, _)| other == word).map(|(_, text)| *text)
}

/// The topic that a word of an older client names.
pub(crate) fn topic_alias(word: &str) -> Option<&'static str> {
    (word == "config-help").then_some("config")
}

/// Whether commands begin with this word and have another (`job`).
pub(crate) fn is_family(word: &str) -> bool {
    COMMANDS.iter().any(|c| c.path.len() > 1 && c.path[0] == word)
}

/// Deadline of a call that only reads.
pub(crate) const QUERY: Duration = Duration::from_secs(10);
/// Deadline of a deletion: it waits for the job's files.
pub(crate) const CHANGE: Duration = Duration::from_secs(60);

/// Words of modes, which no network has as its name.
const NETWORK_MODES: [&str; 4] = ["none", "isolated", "bridge", "host"];

/// The first words of commands that have two, each once.
pub(crate) fn families() -> Vec<&'static str> {
    let mut found: Vec<&str> = COMMANDS.iter().filter(|c| c.path.len() > 1).map(|c| c.path[0]).collect();
    found.dedup();
    found
}

/// Runs a command and returns the exit code.
pub(crate) fn run(invocation: &Invocation, out: Out) -> Result<i32> {
    match invocation.command.run {
        Run::Plain(run) => run(invocation, out).map(|()| 0),
        Run::WithCode(run) => run(invocation, out),
    }
}

/// Opens the channel that flags, environment and configuration describe. It lives as long as the process:
/// closing it would serve no one, and means waiting for gRPC's threads.
fn connect(values: &Values, out: Out) -> Result<&'static Server> {
    connect_as(values, out).map(|(server, _)| server)
}

/// The same with the role that our certificate names; empty: it names none.
fn connect_as(values: &Values, out: Out) -> Result<(&'static Server, String)> {
    let settings = connect::settings(values, &process_environment)?;
    for warning in &settings.warnings {
        out.note(&format!("warning: {}", one_line(warning)));
    }
    let server = Server::open(&settings)?;
    let role = certificate::role(&settings);
    Ok((Box::leak(Box::new(server.with_settings(settings))), role))
}

/// `--since` and `--until` as ns since the epoch; 0 where one is not given.
fn range(values: &Values, now: &Zoned, out: Out) -> Result<(i64, i64)> {
    let moment = |flag| -> Result<i64> {
        let Some(text) = values.last(flag) else { return Ok(0) };
        let given = time::past(flag, &text, now)?;
        if let Some(note) = given.note {
            out.note(&format!("rnx: --{flag}: {note}"));
        }
        let beyond = |_| value::invalid(flag, &text, "it is beyond the times that a job can have");
        // 0 would be none; before 1970 there is nothing to find.
        i64::try_from(given.time.as_nanosecond().max(1)).map_err(beyond)
    };
    let (since_ns, until_ns) = (moment("since")?, moment("until")?);
    if until_ns != 0 && until_ns < since_ns {
        return Err(Error::usage("--until is before --since"));
    }
    Ok((since_ns, until_ns))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::cli::Operands;
    use super::super::cli::flag::ROOT;
    use super::*;

    #[test]
    fn no_command_has_two_flags_with_the_same_spelling() {
        for command in COMMANDS {
            let (mut longs, mut shorts) = (HashSet::new(), HashSet::new());
            for flag in command.all_flags().chain(ROOT) {
                assert!(longs.insert(flag.long), "--{} twice in {}", flag.long, command.name());
                assert!(
                    flag.short.is_none_or(|s| shorts.insert(s)),
                    "-{:?} twice in {}",
                    flag.short,
                    command.name()
                );
            }
        }
    }

    #[test]
    fn short_forms_of_commands_are_found() {
        for word in ["run", "list", "status", "stop", "log"] {
            assert_eq!(find(&[word]).map(|c| c.path), Some(&["job", word][..]));
        }
        for (word, verb) in [("ps", "list"), ("ls", "list"), ("logs", "log"), ("inspect", "status")] {
            assert_eq!(find(&[word]).map(|c| c.path), Some(&["job", verb][..]));
            assert_eq!(find(&["job", word]).map(|c| c.path), Some(&["job", verb][..]));
        }
        for word in ["delete", "rm", "kill"] {
            assert!(
                find(&[word]).is_none() && (word == "delete" || find(&["job", word]).is_none()),
                "{word}"
            );
        }
        assert!(find(&["job"]).is_none() && is_family("job") && !is_family("nodes"));
    }

    #[test]
    fn words_of_other_tools_do_what_help_says_or_are_explained() {
        for (word, text) in EXPLAINED_WORDS {
            assert!(find(&[word]).is_none() && find(&["job", word]).is_none(), "{word}");
            assert_eq!(explanation(&["job".into(), word.to_string()]), Some(*text));
            for named in text.split("rnx ").skip(1) {
                let words: Vec<&str> = named.split([' ', ';']).take(2).collect();
                assert!(find(&words).is_some(), "{word}: {named}");
            }
        }
        for (word, verb) in OTHER_WORDS {
            assert!(
                !["stop", "cancel", "delete", "delete-all", "run"].contains(verb),
                "{word} changes something"
            );
        }
        assert_eq!(explanation(&["nodes".into(), "rm".into()]), None);
    }

    #[test]
    fn only_job_run_takes_a_command_line_and_runs_fail_with_125() {
        for command in COMMANDS {
            let takes_line = command.path == ["job", "run"];
            assert_eq!(command.operands == Operands::JobCommand, takes_line, "{}", command.name());
            // Every other code may be that of a job.
            let runs =
                takes_line || [["workflow", "run"], ["job", "exec"]].iter().any(|path| command.path == path);
            assert_eq!(command.failure, runs.then_some(125), "{}", command.name());
        }
    }
}
