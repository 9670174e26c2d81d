//! `rnx job cp`

use super::super::cli::{Command, Operands, Run};
use super::super::copy::Owner;
use super::cp;

/// `rnx job cp` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "cp"],
    alias: false,
    usage: "<file>... JOB:[PATH] | JOB:[PATH]... <directory>",
    operands: Operands::Many("job-file"),
    flags: &[],
    summary: "Copy files into the /work of a running job, or out of it",
    about: "As rnx cp does with volumes: directories with all that is in them, links as links, each file under its\n\
            name when all of it has come and its digest is right. What comes into the job belongs to its user. A\n\
            path is one in /work; /work itself may stand before it. A copy that is cut short goes on where it\n\
            was, also when rnx job cp is called again. The job goes on meanwhile: a file that it changes while it\n\
            is copied out is left out with a warning.",
    examples: &["rnx job cp config.json f47ac10b:", "rnx job cp f47ac10b:results ."],
    statuses: &["RUNNING"],
    failure: None,
    run: Run::WithCode(|invocation, out| cp::copy(invocation, Owner::Job, out)),
};
