//! Every command of rnx, once: its words, flags, operands, help and the exit codes it uses.

use super::flag::{DELETE_ALL, Flag, GLOBALS, LIST, LOG, METRICS, RUN, STATUS, WAIT};

/// What a command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// `job run`
    Run,
    /// `job status`
    Status,
    /// `job list`
    List,
    /// `job log`
    Log,
    /// `job metrics`
    Metrics,
    /// `job wait`
    Wait,
    /// `job cancel`
    Cancel,
    /// `job stop`
    Stop,
    /// `job delete`
    Delete,
    /// `job delete-all`
    DeleteAll,
    /// `nodes`
    Nodes,
    /// `completion`
    Completion,
    /// `man`
    Man,
    /// `version`
    Version,
    /// `help`
    Help,
}

/// The words that a command takes beside its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operands {
    /// None.
    Nothing,
    /// One word with this name.
    One(&'static str),
    /// One word or more, each of this name.
    Many(&'static str),
    /// Any number of words.
    Words,
    /// The job's own command line: from the first word on nothing belongs to rnx.
    JobCommand,
}

/// One command.
#[derive(Debug)]
pub(crate) struct Command {
    /// Its words: `["job", "run"]`.
    pub(crate) path: &'static [&'static str],
    /// What it does.
    pub(crate) action: Action,
    /// Whether its last word alone works too (`rnx run`), as clients of the first versions knew it.
    pub(crate) alias: bool,
    /// Operands as help shows them.
    pub(crate) usage: &'static str,
    /// Operands as the parser takes them.
    pub(crate) operands: Operands,
    /// Its own flags; [`GLOBALS`] come on top.
    pub(crate) flags: &'static [Flag],
    /// One line for the list of commands.
    pub(crate) summary: &'static str,
    /// Paragraphs below the summary.
    pub(crate) about: &'static str,
    /// Example command lines.
    pub(crate) examples: &'static [&'static str],
}

impl Command {
    /// The words with spaces: `job run`.
    pub(crate) fn name(&self) -> String {
        self.path.join(" ")
    }

    /// Its own flags, then the global ones.
    pub(crate) fn all_flags(&self) -> impl Iterator<Item = &'static Flag> + use<> {
        self.flags.iter().chain(GLOBALS.iter())
    }
}

const RUN_ABOUT: &str = "\
Flags end at the first word that is not a flag, or at --. That word and everything after it are the
job's own command line and pass unchanged, also what looks like a flag. The command is executed
directly, without a shell.

Exit codes: 0 when the job was started; with --wait or --follow the job's own code, or
  128+n  killed by signal n          137  out of memory
  124    its timeout was reached     143  stopped by request (job stop, daemon shut down)
  153    it wrote more output than it may
  125    rnx or the daemon failed, the job did not run or its code is not known
  126    the command cannot be executed
  127    the command was not found
  130    Ctrl-C while waiting; the job keeps running";

/// The table.
pub(crate) static COMMANDS: &[Command] = &[
    Command {
        path: &["job", "run"],
        action: Action::Run,
        alias: true,
        usage: "[flags] [--] <command> [args...]",
        operands: Operands::JobCommand,
        flags: RUN,
        summary: "Start a job",
        about: RUN_ABOUT,
        examples: &[
            "rnx job run echo \"hello world\"",
            "rnx job run --max-cpu=50 --max-memory=512 python3 script.py",
            "rnx job run --follow --upload=script.py --upload-dir=./data python3 script.py",
            "rnx job run --wait -e DEBUG=true --secret-env API_KEY node app.js",
            "rnx job run bash -c \"sleep 10 && echo done\"",
        ],
    },
    Command {
        path: &["job", "status"],
        action: Action::Status,
        alias: true,
        usage: "[flags] <job-uuid>",
        operands: Operands::One("job-uuid"),
        flags: STATUS,
        summary: "Show everything about one job",
        about: "The first four characters of the id are enough when no other job shares them.\n\
                With --security: each layer around a running job, as promised and as the kernel shows it:\n\
                namespaces, ids, capabilities, seccomp, limits, mounts. Exit code 1: one is not as promised.",
        examples: &[
            "rnx job status f47ac10b-58cc-4372-a567-0e02b2c3d479",
            "rnx --json job status f47ac10b | jq -r .status",
            "rnx job status --security f47ac10b",
        ],
    },
    Command {
        path: &["job", "list"],
        action: Action::List,
        alias: true,
        usage: "[flags]",
        operands: Operands::Nothing,
        flags: LIST,
        summary: "List all jobs, oldest first",
        about: "",
        examples: &["rnx job list", "rnx job list -o wide"],
    },
    Command {
        path: &["job", "log"],
        action: Action::Log,
        alias: true,
        usage: "[flags] <job-uuid>",
        operands: Operands::One("job-uuid"),
        flags: LOG,
        summary: "Print what a job has written, then follow it to its end",
        about: "Both streams of the job go to stdout; the heading goes to stderr. Ctrl-C ends the command with\n\
                130 and leaves the job alone. Without --filter, --tail and --timestamps the bytes are exact.",
        examples: &[
            "rnx job log f47ac10b-58cc-4372-a567-0e02b2c3d479",
            "rnx job log f47ac10b | grep ERROR",
            "rnx job log --tail=100 --no-follow --timestamps f47ac10b",
            "rnx job log --stream=stderr --filter=ERROR --since=10m f47ac10b",
        ],
    },
    Command {
        path: &["job", "metrics"],
        action: Action::Metrics,
        alias: false,
        usage: "[flags] <job-uuid>",
        operands: Operands::One("job-uuid"),
        flags: METRICS,
        summary: "Print what a job uses, from its start on, then follow it to its end",
        about: "A job is sampled at its start, every few seconds, and at its end. CPU is in percent of one core; rates\n\
                are those since the sample before. n/a: this host cannot tell. With --json one object a line, with the\n\
                names of the API; what the host cannot tell is not there.\n\n\
                With --watch on a terminal: processor, memory and disk as curves; q or Ctrl-C leaves. Elsewhere it\n\
                prints lines. Exit code 1: there are no samples, as of a job that never ran.",
        examples: &[
            "rnx job metrics f47ac10b-58cc-4372-a567-0e02b2c3d479",
            "rnx job metrics --watch train",
            "rnx job metrics --aggregate=max --interval=1m --since=1h f47ac10b",
            "rnx --json job metrics f47ac10b | jq -c '{timestamp, cpu: .cpu.usagePercent, memory: .memory.current}'",
        ],
    },
    Command {
        path: &["job", "wait"],
        action: Action::Wait,
        alias: false,
        usage: "[flags] <job-uuid>...",
        operands: Operands::Many("job-uuid"),
        flags: WAIT,
        summary: "Wait for the end of jobs and exit with their code",
        about: "Prints a line for each job when all of them have ended, in the order of the command line. Why a job\n\
                did not end by itself goes to stderr. A server that is restarted meanwhile is waited for.\n\n\
                Exit codes: the first one that is not 0, as `job run --wait` has it; with --any that of the job\n\
                that ended first. 7: the time of --timeout is over; 130: Ctrl-C. The jobs go on in both cases.",
        examples: &[
            "rnx job wait f47ac10b && echo done",
            "rnx job wait --timeout=10m train evaluate",
            "rnx job wait --any --json f47ac10b 6ba7b810",
        ],
    },
    Command {
        path: &["job", "cancel"],
        action: Action::Cancel,
        alias: false,
        usage: "<job-uuid>",
        operands: Operands::One("job-uuid"),
        flags: &[],
        summary: "Cancel a job that is scheduled and has not started",
        about: "A job that has started is stopped instead: rnx job stop.",
        examples: &["rnx job cancel f47ac10b-58cc-4372-a567-0e02b2c3d479"],
    },
    Command {
        path: &["job", "stop"],
        action: Action::Stop,
        alias: true,
        usage: "<job-uuid>",
        operands: Operands::One("job-uuid"),
        flags: &[],
        summary: "Stop a running job: SIGTERM, then SIGKILL",
        about: "",
        examples: &["rnx job stop f47ac10b-58cc-4372-a567-0e02b2c3d479"],
    },
    Command {
        path: &["job", "delete"],
        action: Action::Delete,
        alias: false,
        usage: "<job-uuid>",
        operands: Operands::One("job-uuid"),
        flags: &[],
        summary: "Delete a finished job with its output",
        about: "It never asks.",
        examples: &["rnx job delete f47ac10b-58cc-4372-a567-0e02b2c3d479"],
    },
    Command {
        path: &["job", "delete-all"],
        action: Action::DeleteAll,
        alias: false,
        usage: "[flags]",
        operands: Operands::Nothing,
        flags: DELETE_ALL,
        summary: "Delete all finished jobs",
        about: "Asks only when stdin and stderr are a terminal.",
        examples: &["rnx job delete-all --yes"],
    },
    Command {
        path: &["nodes"],
        action: Action::Nodes,
        alias: false,
        usage: "",
        operands: Operands::Nothing,
        flags: &[],
        summary: "List the nodes of the client configuration",
        about: "",
        examples: &["rnx nodes"],
    },
    Command {
        path: &["completion"],
        action: Action::Completion,
        alias: false,
        usage: "bash|zsh|fish",
        operands: Operands::One("bash|zsh|fish"),
        flags: &[],
        summary: "Print what makes a shell complete rnx's words",
        about: "Commands, flags, their values, and the ids and names of jobs, for which the server is asked.\n\n  \
                bash   rnx completion bash > /etc/bash_completion.d/rnx, or source <(rnx completion bash)\n  \
                zsh    rnx completion zsh > \"${fpath[1]}/_rnx\"\n  \
                fish   rnx completion fish > ~/.config/fish/completions/rnx.fish",
        examples: &["rnx completion bash"],
    },
    Command {
        path: &["man"],
        action: Action::Man,
        alias: false,
        usage: "",
        operands: Operands::Nothing,
        flags: &[],
        summary: "Print the manual page, for man",
        about: "To read it: rnx man | man -l -   To install it: rnx man > /usr/local/share/man/man1/rnx.1",
        examples: &["rnx man | man -l -"],
    },
    Command {
        path: &["version"],
        action: Action::Version,
        alias: false,
        usage: "",
        operands: Operands::Nothing,
        flags: &[],
        summary: "Print the versions of rnx and of the server",
        about: "Without a client configuration only rnx's own version is printed and nobody is asked.",
        examples: &["rnx version --json"],
    },
    Command {
        path: &["help"],
        action: Action::Help,
        alias: false,
        usage: "[command or topic]",
        operands: Operands::Words,
        flags: &[],
        summary: "Explain a command or a topic",
        about: "",
        examples: &["rnx help job run", "rnx help config"],
    },
];

/// The command that these words name; a hidden alias counts (`run` for `job run`).
pub(crate) fn find(words: &[&str]) -> Option<&'static Command> {
    COMMANDS.iter().find(|c| c.path == words).or_else(|| {
        let [word] = words else { return None };
        COMMANDS.iter().find(|c| c.alias && c.path.last() == Some(word))
    })
}

/// Words of older clients that ask for help on a topic.
pub(crate) fn topic_alias(word: &str) -> Option<&'static str> {
    (word == "config-help").then_some("config")
}

/// Whether commands begin with this word and have another (`job`).
pub(crate) fn is_family(word: &str) -> bool {
    COMMANDS.iter().any(|c| c.path.len() > 1 && c.path[0] == word)
}

#[cfg(test)]
mod tests {
    use super::super::flag::ROOT;
    use super::*;
    use std::collections::HashSet;

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
        assert!(find(&["delete"]).is_none());
        assert!(find(&["job"]).is_none() && is_family("job") && !is_family("nodes"));
    }
}
