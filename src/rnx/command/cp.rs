//! `rnx cp`

use serde::Serialize;

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::copy::{self, Owner, Progress, Remote};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::terminal::one_line;
use super::connect;

/// `rnx cp` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["cp"],
    alias: false,
    usage: "<file>... VOLUME:[PATH] | VOLUME:[PATH]... <directory>",
    operands: Operands::Many("file"),
    flags: &[],
    summary: "Copy files into a volume, or out of one",
    about: "Needs no job. Directories are copied with all that is in them; one that is written with /. at its\n\
            end stands for what is in it. A link is copied as a link, and never followed. FIFOs, sockets and\n\
            devices are left out with a warning. A destination with / at its end is a directory, and is made\n\
            where it is missing. A file appears under its name when all of it has come and its digest is right;\n\
            one that has the name is replaced then. A copy that is cut short goes on where it was, also when\n\
            rnx cp is called again.\n\n\
            A file of this host with a colon in its name is written with ./ before it.",
    examples: &["rnx cp train.csv images data:", "rnx cp data:results .", "rnx cp model/. data:models/v2/"],
    statuses: &[],
    failure: None,
    run: Run::WithCode(run),
};

/// A copy in JSON.
#[derive(Debug, Serialize)]
struct CopiedJson {
    entries: u64,
    bytes: u64,
    skipped: Vec<SkippedJson>,
}

#[derive(Debug, Serialize)]
struct SkippedJson {
    path: String,
    why: String,
}

/// Copies files; exit code 1 where one could not be read.
fn run(invocation: &Invocation, out: Out) -> Result<i32> {
    copy(invocation, Owner::Volume, out)
}

/// Copies files between this host and what has them on the node.
pub(super) fn copy(invocation: &Invocation, owner: Owner, out: Out) -> Result<i32> {
    let (command, what, place) = match owner {
        Owner::Volume => ("cp", "volume", "VOLUME"),
        Owner::Job => ("job cp", "job", "JOB"),
    };
    let missing = || Error::usage(format!("say what to copy, and where: rnx {command} FILE... {place}:PATH"));
    let parse = |word: &String| Remote::parse(owner, word);
    let (to, from) =
        invocation.operands.split_last().filter(|(_, from)| !from.is_empty()).ok_or_else(missing)?;
    let remotes = from.iter().map(parse).collect::<Result<Vec<_>>>()?;
    let progress = match (parse(to)?, remotes.into_iter().collect::<Option<Vec<Remote>>>()) {
        (Some(to), None) if from.iter().all(|word| matches!(parse(word), Ok(None))) => {
            copy::to_node(connect(&invocation.values, out)?, from, &to)?
        }
        (None, Some(from)) => copy::from_node(connect(&invocation.values, out)?, &from, to)?,
        _ => {
            return Err(Error::usage(format!(
                "one side must be a {what}, as in {place}:PATH, and the other one must be files of this host"
            )));
        }
    };
    show(&progress, out)?;
    Ok(i32::from(progress.lacks()))
}

fn show(progress: &Progress, out: Out) -> Result<()> {
    let shown = |path: &[u8]| path.escape_ascii().to_string();
    if out.json {
        let skip = |(path, why): &(Vec<u8>, String)| SkippedJson { path: shown(path), why: why.clone() };
        let skipped = progress.skipped.iter().map(skip).collect();
        return out.value(&CopiedJson { entries: progress.entries, bytes: progress.bytes, skipped });
    }
    for (path, why) in &progress.skipped {
        out.note(&format!("warning: {} is not copied: {}", shown(path), one_line(why)));
    }
    let copied = progress.entries.saturating_sub(progress.skipped.len() as u64);
    let word = if copied == 1 { "entry" } else { "entries" };
    out.text(&format!("Copied {copied} {word}, {} bytes\n", progress.bytes))
}
