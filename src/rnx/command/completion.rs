//! `rnx completion`, and `rnx __complete` behind it: the candidates of the TAB key.
//!
//! The person at the keyboard is in the middle of a word, so a failure prints nothing and offers nothing.

use std::ffi::OsString;
use std::time::Duration;

use super::super::certificate;
use super::super::cli::{self, Candidate, Command, Invocation, Jobs, Offer, Operands, Run, SCRIPTS, Values};
use super::super::connect;
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::command_line;
use super::super::server::Server;
use super::super::terminal::one_line;
use super::super::wanted::Wanted;
use super::workflow_list;
use crate::config::search::process_environment;
use crate::pb::joblet::{EmptyRequest, Job, WorkflowInfo};

/// `rnx completion` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["completion"],
    alias: false,
    usage: "bash|zsh|fish",
    operands: Operands::One("bash|zsh|fish"),
    flags: &[],
    summary: "Print what makes a shell complete rnx's words",
    about: "Commands, flags, their values, and the ids and names of jobs and workflows, for which rnx asks the server.\n\n  \
            bash   rnx completion bash > /etc/bash_completion.d/rnx\n  \
            \x20      or: source <(rnx completion bash)\n  \
            zsh    rnx completion zsh > \"${fpath[1]}/_rnx\"\n  \
            fish   rnx completion fish > ~/.config/fish/completions/rnx.fish",
    examples: &["rnx completion bash"],
    statuses: &[],
    failure: None,
    run: Run::Plain(script),
};

/// Longest wait for the list of jobs.
const DEADLINE: Duration = Duration::from_secs(2);
/// Largest number of jobs that are offered.
const MOST: usize = 200;

/// Prints the script of a shell.
fn script(invocation: &Invocation, out: Out) -> Result<()> {
    let shell = invocation.operands.first().map(String::as_str).unwrap_or_default();
    match SCRIPTS.iter().find(|(name, _)| *name == shell) {
        Some((_, script)) => out.text(script),
        None => Err(Error::usage(format!("no completion for the shell {shell:?}: there is bash, zsh, fish"))),
    }
}

/// Prints the candidates for the last of these words.
pub(crate) fn answer(words: Vec<OsString>, out: Out) -> Result<()> {
    let (offer, beginning) = cli::complete(words);
    let with_files = matches!(offer, Offer::Places { .. });
    let mut candidates = match offer {
        Offer::Files => return out.text(":files\n"),
        Offer::Directories => return out.text(":dirs\n"),
        Offer::Words(words) => words,
        // Without a server there are no jobs to choose from.
        Offer::Jobs(jobs) => ask(&jobs).unwrap_or_default(),
        Offer::Workflows { lead, which } => ask_workflows(&lead, &which).unwrap_or_default(),
        Offer::Networks { lead, for_job, values } => {
            let found = networks(&values).unwrap_or_default();
            let modes = ["none", "isolated", "bridge"].map(str::to_owned);
            let names = if for_job { modes.into_iter().chain(found).collect() } else { found };
            nodes(&lead, names)
        }
        Offer::Runtimes { lead, values } => nodes(&lead, runtimes(&values).unwrap_or_default()),
        Offer::Places { values } => {
            let mut found = nodes("", volumes(&values).unwrap_or_default());
            found.iter_mut().for_each(|candidate| candidate.word.push(':'));
            found
        }
        Offer::Volumes { lead, values } => nodes(&lead, volumes(&values).unwrap_or_default()),
        Offer::Nodes { lead, values } => {
            let loaded = connect::configuration(&values);
            let names = loaded.map(|l| l.config.nodes.into_keys().collect()).unwrap_or_default();
            nodes(&lead, names)
        }
    };
    candidates.retain(|candidate| candidate.word.starts_with(&beginning));
    let mut lines: String = candidates.iter().map(|c| format!("{}\t{}\n", c.word, c.about)).collect();
    if with_files {
        lines.push_str(":files\n");
    }
    out.text(&lines)
}

/// The server that the flags so far name. It is never taken down: that means waiting for gRPC's threads.
fn server(values: &Values) -> Result<&'static Server> {
    let settings = connect::settings(values, &process_environment)?;
    certificate::check(&settings)?;
    Ok(Box::leak(Box::new(Server::open(&settings)?)))
}

fn ask(jobs: &Jobs) -> Result<Vec<Candidate>> {
    let server = server(&jobs.values)?;
    let wanted = Wanted::in_statuses(jobs.statuses);
    let found = wanted.jobs(|page| server.ask(DEADLINE, |jobs, option| jobs.list_jobs_opt(page, option)))?;
    Ok(offered(&found, &jobs.taken))
}

fn ask_workflows(lead: &str, which: &Jobs) -> Result<Vec<Candidate>> {
    let server = server(&which.values)?;
    let found = workflow_list::workflows(server, DEADLINE, which.statuses.is_empty())?;
    Ok(offered_workflows(lead, &found))
}

/// The newest first: names that one workflow has, then ids.
fn offered_workflows(lead: &str, workflows: &[WorkflowInfo]) -> Vec<Candidate> {
    let newest = || workflows.iter().rev().take(MOST);
    let unique = |name: &str| workflows.iter().filter(|other| other.name == name).count() == 1;
    let candidate = |word: &str, workflow: &WorkflowInfo| {
        let progress = format!("{}/{}", workflow.completedJobs, workflow.totalJobs);
        let about = format!("{} {progress} {}", one_line(&workflow.status), one_line(&workflow.name));
        Candidate { word: format!("{lead}{word}"), about: about.trim_end().to_owned() }
    };
    let last = workflows.last().map(|workflow| candidate("@last", workflow));
    let named = newest().filter(|workflow| is_plain(&workflow.name) && unique(&workflow.name));
    let names = named.map(|workflow| candidate(&workflow.name, workflow));
    let ids = newest().filter(|workflow| is_plain(&workflow.uuid));
    last.into_iter().chain(names).chain(ids.map(|workflow| candidate(&workflow.uuid, workflow))).collect()
}

/// The names of the networks that clients made.
fn networks(values: &Values) -> Result<Vec<String>> {
    let server = server(values)?;
    let request = EmptyRequest::default();
    let found =
        server.ask_networks(DEADLINE, |networks, option| networks.list_networks_opt(&request, option))?;
    let made = found.networks.into_iter().filter(|network| !network.created_time.is_empty());
    Ok(made.map(|network| network.name).collect())
}

/// The names and versions of the runtimes.
fn runtimes(values: &Values) -> Result<Vec<String>> {
    let server = server(values)?;
    let request = EmptyRequest::default();
    let found =
        server.ask_runtimes(DEADLINE, |runtimes, option| runtimes.list_runtimes_opt(&request, option))?;
    let names = found.runtimes.into_iter();
    Ok(names.map(|runtime| format!("{}@{}", runtime.name, runtime.version)).collect())
}

/// The names of the volumes.
fn volumes(values: &Values) -> Result<Vec<String>> {
    let server = server(values)?;
    let request = EmptyRequest::default();
    let found = server.ask_volumes(DEADLINE, |volumes, option| volumes.list_volumes_opt(&request, option))?;
    Ok(found.volumes.into_iter().map(|volume| volume.name).collect())
}

/// The newest first: names that one job has, then ids.
fn offered(jobs: &[Job], taken: &[String]) -> Vec<Candidate> {
    let about = |job: &Job| {
        let line = command_line(&job.command, &job.args);
        format!("{} {}", one_line(&job.status), line.chars().take(60).collect::<String>())
    };
    let newest = || jobs.iter().rev().take(MOST);
    let unique = |name: &str| jobs.iter().filter(|other| other.name == name).count() == 1;
    let named = newest().filter(|job| is_plain(&job.name) && unique(&job.name));
    let names = named.map(|job| Candidate { word: job.name.clone(), about: about(job) });
    let ids = newest().map(|job| Candidate { word: job.uuid.clone(), about: about(job) });
    let mut all: Vec<Candidate> = names.chain(ids.filter(|c| is_plain(&c.word))).collect();
    if let Some(last) = jobs.last() {
        all.insert(0, Candidate { word: "@last".into(), about: about(last) });
    }
    all.retain(|candidate| !taken.contains(&candidate.word));
    all
}

fn nodes(lead: &str, names: Vec<String>) -> Vec<Candidate> {
    let plain = names.into_iter().filter(|name| is_plain(name));
    plain.map(|name| Candidate { word: format!("{lead}{name}"), about: String::new() }).collect()
}

/// Whether a shell reads the word exactly as it stands. Other people choose the names of jobs.
fn is_plain(word: &str) -> bool {
    !word.is_empty()
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.+-".contains(&b))
        && !word.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(uuid: &str, name: &str) -> Job {
        let (status, command) = ("RUNNING".into(), "sleep".into());
        Job { uuid: uuid.into(), name: name.into(), status, command, ..Default::default() }
    }

    fn words(jobs: &[Job], taken: &[String]) -> Vec<String> {
        offered(jobs, taken).into_iter().map(|c| c.word).collect()
    }

    #[test]
    fn names_come_before_ids_and_given_jobs_are_left_out() {
        let jobs = [job("1111", "a"), job("2222", ""), job("3333", "b"), job("4444", "b")];
        assert_eq!(words(&jobs, &[]), ["@last", "a", "4444", "3333", "2222", "1111"]);
        assert_eq!(words(&jobs, &["a".into(), "2222".into()]), ["@last", "4444", "3333", "1111"]);
        assert_eq!(words(&[], &[]), [""; 0]);
    }

    #[test]
    fn workflows_are_offered_by_names_and_ids_behind_their_flag() {
        let workflow = |uuid: &str, name: &str| WorkflowInfo {
            uuid: uuid.into(),
            name: name.into(),
            ..Default::default()
        };
        let all =
            [workflow("1111", "a"), workflow("2222", "b"), workflow("3333", "b"), workflow("4444", "$(x)")];
        let words: Vec<String> = offered_workflows("--x=", &all).into_iter().map(|c| c.word).collect();
        assert_eq!(words, ["--x=@last", "--x=a", "--x=4444", "--x=3333", "--x=2222", "--x=1111"]);
    }

    #[test]
    fn names_that_a_shell_would_read_are_not_offered() {
        for name in ["$(reboot)", "`id`", "a b", "a;b", "-rf", ":files", "a\tb", "\x1b[2J", "é", "a'b", "*"]
        {
            assert_eq!(words(&[job("1111", name)], &[]), ["@last", "1111"], "{name:?}");
        }
        assert_eq!(nodes("--node=", vec!["a-1".into(), "$x".into()])[0].word, "--node=a-1");
        assert_eq!(nodes("", vec!["$x".into()]), []);
    }
}
