//! Processes: `/proc/<pid>/stat`, `status` and `cmdline` (proc(5)).

/// Processes that one reading looks at.
pub const SCANNED: usize = 32_768;
/// Processes that are shown of each order.
pub const TOP: usize = 10;
/// Most bytes of a command line that is shown.
const COMMAND: usize = 256;

/// The state of a process in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It runs or is ready to run.
    Running,
    /// It waits, for a disk too.
    Sleeping,
    /// It was stopped by a signal or a tracer.
    Stopped,
    /// It has ended, and its parent has not waited for it.
    Zombie,
}

impl Doing {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Doing::Running => "running",
            Doing::Sleeping => "sleeping",
            Doing::Stopped => "stopped",
            Doing::Zombie => "zombie",
        }
    }
}

/// The contents of `/proc/<pid>/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The number of the process.
    pub pid: i32,
    /// Its name, 15 bytes at most.
    pub name: String,
    /// The state of its first thread.
    pub doing: Doing,
    /// The number of its parent.
    pub parent: i32,
    /// Ticks in programs and in the kernel.
    pub ticks: u64,
    /// The number of its threads.
    pub threads: u64,
    /// Its start, in ticks since the boot. With the number it tells processes apart for good.
    pub started: u64,
    /// Pages in memory.
    pub pages: u64,
}

/// Parses `/proc/<pid>/stat`. The name may have any byte, so the last parenthesis ends it.
pub fn stat(text: &str) -> Option<Stat> {
    let (pid, rest) = text.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    // Up to the last one that is wanted.
    let words: Vec<&str> = rest.split_ascii_whitespace().take(22).collect();
    // The third field of proc(5) is the first one here.
    let number = |field: usize| words.get(field - 3)?.parse::<u64>().ok();
    let doing = match words.first()?.chars().next()? {
        'R' => Doing::Running,
        'T' | 't' => Doing::Stopped,
        'Z' | 'X' => Doing::Zombie,
        _ => Doing::Sleeping,
    };
    Some(Stat {
        pid: pid.trim().parse().ok()?,
        name: name.to_owned(),
        doing,
        parent: words.get(1)?.parse().ok()?,
        ticks: number(14)?.saturating_add(number(15)?),
        threads: number(20)?,
        started: number(22)?,
        pages: number(24)?,
    })
}

/// The command of `/proc/<pid>/cmdline` for people: words apart by blanks, cut; the name in brackets where it is empty, as
/// that of a kernel thread is.
pub fn command(cmdline: &[u8], name: &str) -> String {
    let words = cmdline.strip_suffix(b"\0").unwrap_or(cmdline);
    if words.is_empty() {
        return format!("[{name}]");
    }
    let shown = &words[..words.len().min(COMMAND)];
    let bytes: Vec<u8> = shown.iter().map(|byte| if *byte == 0 { b' ' } else { *byte }).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The name of a user in `/etc/passwd`, or the number.
pub fn user(passwd: &str, uid: u32) -> String {
    let named = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| uid.to_string())
}

/// A process in the lists.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// Number, name, parent and state.
    pub stat: Stat,
    /// The command line, cut.
    pub command: String,
    /// The name of the user that it runs as, or the number.
    pub user: String,
    /// Processor time of the interval, percent of one core.
    pub cpu_percent: f64,
    /// Resident memory, bytes.
    pub memory: u64,
    /// Its start, in seconds since the epoch.
    pub started: i64,
}

/// All processes in numbers, and those that use most.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Processes {
    /// All of them.
    pub total: usize,
    /// Those that run or are ready to.
    pub running: usize,
    /// Those that wait.
    pub sleeping: usize,
    /// Those that were stopped.
    pub stopped: usize,
    /// Those that have ended.
    pub zombies: usize,
    /// The threads of all of them.
    pub threads: u64,
    /// Those with most processor time, the first one first.
    pub by_cpu: Vec<Shown>,
    /// Those with most memory, the first one first.
    pub by_memory: Vec<Shown>,
}

impl Processes {
    /// Counts the states.
    pub fn count(stats: &[Stat]) -> Processes {
        let number = |doing| stats.iter().filter(|stat| stat.doing == doing).count();
        Processes {
            total: stats.len(),
            running: number(Doing::Running),
            sleeping: number(Doing::Sleeping),
            stopped: number(Doing::Stopped),
            zombies: number(Doing::Zombie),
            threads: stats.iter().map(|stat| stat.threads).sum(),
            ..Processes::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(name: &str, state: &str) -> String {
        format!("42 ({name}) {state} 7 42 42 0 -1 0 0 0 0 0 30 12 0 0 20 0 3 0 999 1000000 250 0 0\n")
    }

    #[test]
    fn stat_is_read_whatever_the_name_is() {
        for name in ["sh", "a) R 1 (b", "", "with space", "x\ny"] {
            let found = stat(&line(name, "S")).unwrap();
            assert_eq!((found.pid, found.name.as_str(), found.parent), (42, name, 7));
            assert_eq!((found.ticks, found.threads, found.started, found.pages), (42, 3, 999, 250));
        }
        for (state, doing) in
            [("R", Doing::Running), ("D", Doing::Sleeping), ("t", Doing::Stopped), ("Z", Doing::Zombie)]
        {
            assert_eq!(stat(&line("x", state)).unwrap().doing, doing);
        }
        assert_eq!(stat("42 (x) S 7"), None);
        assert!(stat(&std::fs::read_to_string("/proc/self/stat").unwrap()).is_some());
    }

    #[test]
    fn commands_are_words_and_kernel_threads_have_brackets() {
        assert_eq!(command(b"sh\0-c\0echo hi\0", "sh"), "sh -c echo hi");
        assert_eq!(command(b"", "kthreadd"), "[kthreadd]");
        assert_eq!(command(&[b'x'; 1000], "x").len(), COMMAND);
        assert_eq!(command(b"\xff\0", "x"), "\u{fffd}");
    }

    #[test]
    fn users_have_names_where_the_host_knows_them() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\njoblet:x:998:998::/:/bin/false\n";
        assert_eq!((user(passwd, 998), user(passwd, 100_000)), ("joblet".to_owned(), "100000".to_owned()));
    }

    #[test]
    fn states_are_counted() {
        let all: Vec<Stat> =
            ["R", "S", "D", "T", "Z"].iter().filter_map(|state| stat(&line("x", state))).collect();
        let counted = Processes::count(&all);
        assert_eq!((counted.total, counted.running, counted.sleeping), (5, 1, 2));
        assert_eq!((counted.stopped, counted.zombies, counted.threads), (1, 1, 15));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parsers(text in "[0-9]{0,3} ?[(]?[a-z() ]{0,8}[)]? ?[A-Z0-9 -]{0,90}", bytes in any::<Vec<u8>>()) {
            let _ = (stat(&text), command(&bytes, &text), user(&text, 0));
        }
    }
}
