//! Completion: the words that may come next on a command line, for the TAB key.
//!
//! The shells' scripts ([`SCRIPTS`]) are a few lines each and know no word of rnx: at every TAB they hand the
//! words typed so far to `rnx __complete`, which answers from the same tables as parser and help. So
//! every shell offers exactly the words that rnx accepts. One candidate a line, with a tab and an explanation behind it;
//! or a line that leaves the word to the shell, alone or behind candidates: `:files`, `:dirs`.

use std::ffi::OsString;

use super::super::command::COMMANDS;
use super::command::{Command, Operands, Values};
use super::flag::{Flag, GLOBALS, Kind, ROOT};
use super::help::TOPICS;
use super::parse::{Typed, typed};

/// The completion script of each shell, by the shell's name.
pub(crate) static SCRIPTS: &[(&str, &str)] = &[("bash", BASH), ("zsh", ZSH), ("fish", FISH)];

/// Words are split here and not taken from COMP_WORDS, which bash cuts at `=` and `:` as well. It replaces
/// only what is behind the last of those, so what is before goes from the candidates. Nothing is expanded:
/// names of jobs are other people's texts.
const BASH: &str = r#"# bash completion of rnx
_rnx() {
    local line cur rest lead mark
    local -a words
    COMPREPLY=()
    line=${COMP_LINE:0:COMP_POINT}
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    cur=${words[${#words[@]} - 1]}
    rest=$cur
    for mark in = :; do
        [[ $COMP_WORDBREAKS == *"$mark"* ]] && rest=${rest##*"$mark"}
    done
    lead=${cur%"$rest"}
    while IFS= read -r line; do
        case $line in
        :files)
            # With candidates beside them, readline does not look for files by itself.
            if ((${#COMPREPLY[@]})); then
                compopt -o nospace 2>/dev/null
                while IFS= read -r line; do COMPREPLY+=("$(printf %q "$line")"); done < <(compgen -f -- "$rest")
            else
                compopt -o default 2>/dev/null
            fi
            ;;
        :dirs) compopt -o dirnames 2>/dev/null ;;
        *) line=${line%%$'\t'*}; COMPREPLY+=("${line#"$lead"}") ;;
        esac
    done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
}
complete -o nosort -F _rnx rnx
"#;

const ZSH: &str = r#"#compdef rnx
# zsh completion of rnx
_rnx() {
    local line
    local -a lines items
    lines=("${(@f)$("${(Q)words[1]}" __complete "${(@Q)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)}")
    for line in $lines; do
        case $line in
        :files)
            (( ${#items} )) && _describe -V rnx items -S ''
            compset -P '*='; _files; return ;;
        :dirs) compset -P '*='; _files -/; return ;;
        *) items+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
        esac
    done
    (( ${#items} )) && _describe -V rnx items
}
if [[ $funcstack[1] == _rnx ]]; then
    _rnx "$@"
else
    compdef _rnx rnx
fi
"#;

const FISH: &str = r#"# fish completion of rnx
function __rnx_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l lead (string match -r '^-[^=]*=' -- $current)
    set -l rest (string replace -- "$lead" '' $current)
    for line in ($words[1] __complete $words[2..] "$current" 2>/dev/null)
        switch $line
            case :files
                printf "$lead%s\n" (__fish_complete_path $rest)
            case :dirs
                printf "$lead%s\n" (__fish_complete_directories $rest)
            case '*'
                echo $line
        end
    end
end
complete -c rnx -f -a '(__rnx_complete)'
"#;

/// A word that fits, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The whole word.
    pub(crate) word: String,
    /// One line, or nothing.
    pub(crate) about: String,
}

/// The candidates for the word under the cursor.
#[derive(Debug)]
pub(crate) enum Offer {
    /// One of these words.
    Words(Vec<Candidate>),
    /// Files, by the shell.
    Files,
    /// Directories, by the shell.
    Directories,
    /// Jobs that this command can be about.
    Jobs(Jobs),
    /// Workflows that this command can be about, with this before each word.
    Workflows {
        /// The typed beginning of the word: the flag and `=`, or nothing.
        lead: String,
        /// The workflows to offer.
        which: Jobs,
    },
    /// Networks of the node, with this before each word.
    Networks {
        /// The typed beginning of the word: the flag and `=`, or nothing.
        lead: String,
        /// Whether a job is to have it: modes without a network count too.
        for_job: bool,
        /// The flags so far: they say which server.
        values: Values,
    },
    /// Runtimes of the node, with this before each word.
    Runtimes {
        /// The text before each word.
        lead: String,
        /// The flags so far.
        values: Values,
    },
    /// Volumes of the node, with this before each word.
    Volumes {
        /// The typed beginning of the word: the flag and `=`, or nothing.
        lead: String,
        /// The flags so far: they say which server.
        values: Values,
    },
    /// Volumes of the node, each with the colon that a path follows, and files.
    Places {
        /// The flags so far: they say which server.
        values: Values,
    },
    /// Nodes of the client configuration, with this before each word.
    Nodes {
        /// The typed beginning of the word: the flag and `=`, or nothing.
        lead: String,
        /// The flags so far.
        values: Values,
    },
}

/// Which jobs or workflows can be offered.
#[derive(Debug)]
pub(crate) struct Jobs {
    /// The flags so far: they say which server.
    pub(crate) values: Values,
    /// The statuses of jobs to offer; empty means every status.
    pub(crate) statuses: &'static [&'static str],
    /// Words that are there already.
    pub(crate) taken: Vec<String>,
}

/// The candidates for the last of these words, and the typed beginning of that word.
pub(crate) fn complete(mut args: Vec<OsString>) -> (Offer, String) {
    let current = args.pop().and_then(|word| word.into_string().ok());
    let (Some(current), Some(line)) = (current, typed(args)) else {
        return (Offer::Words(Vec::new()), String::new());
    };
    let offer = match line.pending {
        Some(flag) => value_of(flag, "", line.values),
        None => next_word(line, &current),
    };
    (offer, current)
}

fn next_word(line: Typed, current: &str) -> Offer {
    let of_job = line.command.is_some_and(|c| match c.operands {
        Operands::JobCommand => line.dashes || !line.operands.is_empty(),
        Operands::JobAndCommand => !line.operands.is_empty(),
        _ => false,
    });
    if of_job {
        // The job's own words: files are the best guess, for its arguments and for the command.
        return Offer::Files;
    }
    let known = || line.command.map_or(&[][..], |c| c.flags).iter().chain(GLOBALS);
    if let Some((name, _)) = current.strip_prefix("--").and_then(|body| body.split_once('=')) {
        let flag = known().find(|f| f.long == name && f.kind != Kind::Switch);
        return match flag {
            Some(flag) => value_of(flag, &format!("--{name}="), line.values),
            None => Offer::Words(Vec::new()),
        };
    }
    if current.starts_with('-') && !line.dashes {
        let root: &[Flag] = if line.words.is_empty() { ROOT } else { &[] };
        return Offer::Words(known().chain(root).filter(|f| !f.hidden).flat_map(spellings).collect());
    }
    match line.command {
        Some(command) => operand(command, line, current),
        None => Offer::Words(commands(&line.words)),
    }
}

/// The next word of commands that begin with these words.
fn commands(words: &[String]) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    for command in COMMANDS {
        let Some((word, after)) = command.path.get(words.len()..).and_then(<[_]>::split_first) else {
            continue;
        };
        if command.path.iter().zip(words).any(|(have, typed)| have != typed) {
            continue;
        }
        let about =
            if after.is_empty() { command.summary.to_string() } else { format!("commands of {word}s") };
        if found.iter().all(|c| c.word != *word) {
            found.push(Candidate { word: word.to_string(), about });
        }
    }
    found
}

fn operand(command: &'static Command, line: Typed, current: &str) -> Offer {
    let room = match command.operands {
        Operands::Nothing => false,
        // The second of two is a word that nobody else knows.
        Operands::One(_) | Operands::Two(..) | Operands::JobAndCommand => line.operands.is_empty(),
        Operands::Many(_) | Operands::Words | Operands::JobCommand => true,
    };
    match command.operands {
        _ if !room => Offer::Words(Vec::new()),
        Operands::JobCommand | Operands::One("file") => Offer::Files,
        // Behind the colon is a path in a volume, which nobody here knows.
        Operands::Many("file") if current.contains(':') && !current.starts_with(['.', '/']) => {
            Offer::Words(Vec::new())
        }
        Operands::Many("file") => Offer::Places { values: line.values },
        Operands::Many("job-file") => Offer::Files,
        Operands::One("job-uuid")
        | Operands::Many("job-uuid")
        | Operands::Two("job-uuid", _)
        | Operands::JobAndCommand => {
            Offer::Jobs(Jobs { values: line.values, statuses: command.statuses, taken: line.operands })
        }
        Operands::One("workflow") => {
            let which = Jobs { values: line.values, statuses: command.statuses, taken: line.operands };
            Offer::Workflows { lead: String::new(), which }
        }
        Operands::One("network") => {
            Offer::Networks { lead: String::new(), for_job: false, values: line.values }
        }
        Operands::One("runtime") => Offer::Runtimes { lead: String::new(), values: line.values },
        Operands::One("volume") => Offer::Volumes { lead: String::new(), values: line.values },
        Operands::One(choices) | Operands::Many(choices) | Operands::Two(choices, _) => {
            Offer::Words(choice(choices, ""))
        }
        Operands::Words | Operands::Nothing => {
            let topics = TOPICS.iter().filter(|_| line.operands.is_empty());
            let mut words = commands(&line.operands);
            words.extend(topics.map(|t| Candidate { word: t.0.into(), about: t.1.into() }));
            Offer::Words(words)
        }
    }
}

/// The candidates for a flag's value, by its placeholder.
fn value_of(flag: &Flag, lead: &str, values: Values) -> Offer {
    let Kind::Value(what) = flag.kind else { return Offer::Words(Vec::new()) };
    match what {
        "FILE" | "PATH" => Offer::Files,
        "DIR" => Offer::Directories,
        "STATUS" => {
            Offer::Words(choice("SCHEDULED|INITIALIZING|RUNNING|COMPLETED|FAILED|STOPPED|CANCELED", lead))
        }
        "NETWORK" => Offer::Networks { lead: lead.to_string(), for_job: true, values },
        "VOLUME" => Offer::Volumes { lead: lead.to_string(), values },
        "NAME" if flag.long == "node" => Offer::Nodes { lead: lead.to_string(), values },
        "WORKFLOW" => {
            let which = Jobs { values, statuses: &[], taken: Vec::new() };
            Offer::Workflows { lead: lead.to_string(), which }
        }
        // In `N|all` the capital stands for something, and only the rest can be typed as it is.
        choices if choices.contains('|') => Offer::Words(choice(choices, lead)),
        _ => Offer::Words(Vec::new()),
    }
}

fn choice(choices: &str, lead: &str) -> Vec<Candidate> {
    let literal = |word: &&str| word.len() > 1;
    let words = choices.split('|').filter(literal);
    words.map(|w| Candidate { word: format!("{lead}{w}"), about: String::new() }).collect()
}

fn spellings(flag: &'static Flag) -> impl Iterator<Item = Candidate> {
    let about = || flag.help.lines().next().unwrap_or_default().to_string();
    let long = Candidate { word: format!("--{}", flag.long), about: about() };
    let short = flag.short.map(|letter| Candidate { word: format!("-{letter}"), about: about() });
    std::iter::once(long).chain(short)
}

#[cfg(test)]
mod tests {
    use super::super::{Parsed, parse};
    use super::*;
    use proptest::prelude::*;

    fn offer(line: &str) -> Offer {
        complete(line.split(' ').map(OsString::from).collect()).0
    }

    fn words(line: &str) -> Vec<String> {
        match offer(line) {
            Offer::Words(words) => {
                let beginning = line.rsplit(' ').next().unwrap();
                words.into_iter().map(|c| c.word).filter(|w| w.starts_with(beginning)).collect()
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn words_of_commands_are_offered_one_after_the_other() {
        assert!(words("").contains(&"job".to_string()) && words("").contains(&"version".to_string()));
        assert_eq!(words("jo"), ["job"]);
        assert_eq!(words("job st"), ["status", "stop"]);
        assert_eq!(words("--json job --node x can"), ["cancel"]);
        assert_eq!(words("completion "), ["bash", "zsh", "fish"]);
        assert_eq!(words("completion bash "), [""; 0]);
        assert_eq!(words("help ex"), ["exit-codes"]);
        assert_eq!(words("help job ca"), ["cancel"]);
        for wrong in ["nonsense ", "job nonsense ", "job run --nonsense x ", "version "] {
            assert_eq!(words(wrong), [""; 0], "{wrong}");
        }
    }

    #[test]
    fn completion_offers_exactly_the_flags_that_the_parser_takes() {
        for command in COMMANDS {
            let offered = words(&format!("{} -", command.name()));
            let mut known: Vec<String> = Vec::new();
            for flag in command.all_flags().filter(|f| !f.hidden) {
                known.push(format!("--{}", flag.long));
                known.extend(flag.short.map(|s| format!("-{s}")));
            }
            assert_eq!(offered, known, "{}", command.name());
        }
        assert!(words("--ver").contains(&"--version".to_string()));
        assert_eq!(words("job run --max-m"), ["--max-memory"]);
        assert_eq!(words("job run --work-"), [""; 0], "other spellings are not shown");
    }

    #[test]
    fn values_are_offered_behind_a_blank_and_behind_an_equals_sign() {
        assert_eq!(words("job list -o "), ["table", "wide", "json"]);
        assert_eq!(words("job list --output=w"), ["--output=wide"]);
        assert_eq!(words("job list --status CAN"), ["CANCELED"]);
        assert_eq!(words("job run --name "), [""; 0]);
        assert_eq!(words("job run --wait=x"), [""; 0]);
        assert!(matches!(offer("--config "), Offer::Files));
        assert!(matches!(offer("workflow graph x"), Offer::Files));
        assert!(matches!(offer("job run --upload="), Offer::Files));
        assert!(matches!(offer("job run --upload-dir "), Offer::Directories));
        assert!(matches!(offer("job run --node=d"), Offer::Nodes { lead, .. } if lead == "--node="));
        assert!(matches!(offer("--node d"), Offer::Nodes { lead, .. } if lead.is_empty()));
    }

    #[test]
    fn the_jobs_own_words_are_left_to_the_shell() {
        for line in ["job run ", "job run python3 --ver", "run -q -- -x", "job run -- --help"] {
            assert!(matches!(offer(line), Offer::Files), "{line}");
        }
    }

    #[test]
    fn jobs_are_offered_where_a_job_is_meant() {
        let jobs = |line: &str| match offer(line) {
            Offer::Jobs(jobs) => jobs,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(jobs("job stop ").statuses, ["RUNNING", "INITIALIZING"]);
        assert_eq!(jobs("job status --security ab").statuses, [""; 0]);
        assert_eq!(jobs("job wait a b c").taken, ["a", "b"]);
        assert_eq!(jobs("--node=n job log ").values.last("node").as_deref(), Some("n"));
        assert_eq!(jobs("job stop a ").taken, ["a"]);
        assert_eq!(words("job cancel a "), [""; 0], "there is one already");
        let workflows = |line: &str| match offer(line) {
            Offer::Workflows { lead, which } => (lead, which.statuses.len()),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(workflows("workflow status "), (String::new(), 0));
        assert_eq!(workflows("workflow cancel a"), (String::new(), 2));
        assert_eq!(workflows("job list --workflow=n"), ("--workflow=".to_owned(), 0));
        assert!(matches!(offer("network remove "), Offer::Networks { for_job: false, .. }));
        assert!(matches!(offer("job run --network "), Offer::Networks { for_job: true, .. }));
        assert!(matches!(offer("job run --volume "), Offer::Volumes { .. }));
        assert!(matches!(offer("volume remove "), Offer::Volumes { .. }));
        assert!(matches!(offer("cp "), Offer::Places { .. }));
        assert!(matches!(offer("cp a b da"), Offer::Places { .. }));
        assert!(matches!(offer("cp ./a:b"), Offer::Places { .. }));
        assert!(matches!(offer("cp a data:x"), Offer::Words(words) if words.is_empty()));
    }

    proptest! {
        #[test]
        fn no_words_make_completion_panic(line in prop::collection::vec("(job|run|wait|status|list|help|-o|--|-|--node|--status=|@last|[ -~]{0,6})", 0..8)) {
            let _ = complete(line.into_iter().map(OsString::from).collect());
        }
    }

    /// Every offered flag of a command is a flag that the parser accepts.
    #[test]
    fn every_offered_word_of_a_command_parses() {
        for command in COMMANDS {
            for word in words(&format!("{} --", command.name())) {
                let mut line: Vec<OsString> = command.path.iter().map(OsString::from).collect();
                line.push(word.clone().into());
                let refused = parse(line).err().map(|r| r.error.to_string()).unwrap_or_default();
                assert!(!refused.starts_with("unknown"), "{} {word}: {refused}", command.name());
            }
        }
        assert!(matches!(parse(vec!["__complete".into(), "".into()]), Ok(Parsed::Complete(_))));
    }
}
