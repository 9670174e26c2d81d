//! The flood, by the node and by its peers, round by round.

use std::path::{Path, PathBuf};

use super::figures::{Number, Samples};
use super::node::{Node, gigabytes};
use super::peers;
use super::producer::{Corpus, Run};
use super::targets::Targets;

/// The names of the ways through a node.
const BY_LAG: &str = "joblet, level by lag";
const FIXED: &str = "joblet, level 6";
/// journald takes one of so many lines: it needs that many times longer.
const JOURNAL_SHARE: u64 = 20;

/// The runs of one way, one a round.
#[derive(Default)]
struct Way {
    name: &'static str,
    runs: Vec<Run>,
}

impl Way {
    fn all(&self, of: fn(&Run) -> f64) -> Samples {
        self.runs.iter().map(of).collect()
    }

    /// The figures of this way over those of another one, round by round.
    fn over(&self, other: &Way, of: fn(&Run) -> f64) -> Samples {
        self.runs.iter().zip(&other.runs).map(|(own, other)| of(own) / of(other)).collect()
    }
}

/// The node's own use beside the job, one figure a round.
#[derive(Default)]
struct Costs {
    daemon: Samples,
    for_history: Samples,
    release: Samples,
    daemon_grown: Samples,
    history_grown: Samples,
    written: Samples,
    threads: Vec<String>,
}

impl Costs {
    fn add(&mut self, node: &Node, lines: u64, ways: &mut Vec<Run>) {
        let (job, run, cost) = node.flood(Corpus::App, lines);
        let stored = node.stored(&job) as f64;
        node.delete(&job);
        let gigabytes = gigabytes(lines);
        self.daemon.add(cost.daemon.processor() / gigabytes);
        self.for_history.add(cost.daemon.of(&["history"]) / gigabytes);
        self.release.add(cost.daemon.of(&["release"]) / gigabytes);
        self.daemon_grown.add(cost.daemon_grown);
        self.history_grown.add(cost.history_grown);
        self.written.add((cost.daemon.written + cost.history.written) / stored);
        let threads = cost.daemon.threads.iter().chain(&cost.history.threads);
        let threads = threads.filter(|(_, time)| **time / gigabytes >= 0.05);
        let threads: Vec<String> =
            threads.map(|(name, time)| format!("{name} {}", Number(time / gigabytes))).collect();
        self.threads = threads;
        ways.push(run);
    }
}

/// Runs all ways in turn, and prints them.
pub fn measure(node: &Node, fixed: &Node, dir: &Path, lines: u64, rounds: usize, targets: &mut Targets) {
    let mut ways: Vec<Way> = peers::FILTERS
        .iter()
        .filter(|(_, words)| peers::find(words[0]).is_some())
        .map(|(name, _)| Way { name, runs: Vec::new() })
        .collect();
    let journal = peers::find(peers::JOURNAL);
    let entries = dir.join("entries");
    if journal.is_some() {
        peers::export(lines / JOURNAL_SHARE, &entries);
    }
    let mut own = [BY_LAG, FIXED].map(|name| Way { name, runs: Vec::new() });
    let mut costs: [Costs; 2] = Default::default();
    let mut journald = Way { name: "journald's writer", runs: Vec::new() };
    for round in 0..rounds {
        eprintln!("flood, round {}", round + 1);
        for way in &mut ways {
            let words = peers::FILTERS.iter().find(|(name, _)| *name == way.name).expect("a filter").1;
            way.runs.push(peers::filter(words, Corpus::App, lines, &dir.join("peer")));
        }
        for (n, node) in [node, fixed].into_iter().enumerate() {
            costs[n].add(node, lines, &mut own[n].runs);
        }
        journald.runs.extend(run_journal(journal.as_ref(), dir, &entries, lines / JOURNAL_SHARE));
    }
    ways.extend(own);
    if journald.runs.is_empty() {
        println!("{} is not installed, and not compared", peers::JOURNAL);
    } else {
        ways.push(journald);
    }
    print(&ways, lines);
    print_costs(&costs);
    judge(&ways, &costs, targets);
}

fn run_journal(program: Option<&PathBuf>, dir: &Path, entries: &Path, lines: u64) -> Option<Run> {
    program.map(|program| peers::journal(program, entries, lines, &dir.join("peer.journal")))
}

fn print(ways: &[Way], lines: u64) {
    println!(
        "a flood of {} MB in lines of 100 bytes, writes of 4 KiB: median (least..most) of rounds",
        lines / 10_000
    );
    println!(
        "  {:<22} {:>28} {:>28} {:>22} {:>8}",
        "", "job side, 1000 lines/s", "durable, 1000 lines/s", "CPU s/GB", "raw/st."
    );
    for way in ways {
        let rate = |of: fn(&Run) -> f64| way.all(of).to_string();
        println!(
            "  {:<22} {:>28} {:>28} {:>22} {:>8}",
            way.name,
            rate(|run| run.job_side / 1e3),
            rate(|run| run.durable / 1e3),
            rate(|run| run.processor),
            Number(way.all(|run| run.ratio).median())
        );
    }
    let Some(cat) = find(ways, "cat") else { return };
    for name in [BY_LAG, FIXED] {
        let Some(own) = find(ways, name) else { continue };
        println!(
            "  {name} over cat: job side {}, durable {}",
            own.over(cat, |run| run.job_side),
            own.over(cat, |run| run.durable)
        );
    }
}

fn print_costs(costs: &[Costs; 2]) {
    for (name, costs) in [BY_LAG, FIXED].iter().zip(costs) {
        println!(
            "  {name}: CPU s/GB of the daemon {}, of that to tell persist {}, to release the spool {}; memory grows by {} MiB (daemon), {} MiB (persist); written {} times the .gz files",
            costs.daemon,
            costs.for_history,
            costs.release,
            costs.daemon_grown,
            costs.history_grown,
            costs.written
        );
        println!("    threads, CPU s/GB, last round: {}", costs.threads.join(", "));
    }
}

fn find<'a>(ways: &'a [Way], name: &str) -> Option<&'a Way> {
    ways.iter().find(|way| way.name == name)
}

fn judge(ways: &[Way], costs: &[Costs; 2], targets: &mut Targets) {
    let (Some(own), Some(fixed)) = (find(ways, BY_LAG), find(ways, FIXED)) else { return };
    let peer = |name: &str| find(ways, name);
    match peer("cat") {
        Some(cat) => {
            targets.at_least("job side over cat > file", 0.55, own.over(cat, |run| run.job_side).median())
        }
        None => targets.missing("job side over cat > file"),
    }
    targets.at_least("durable, level by lag, lines a second", 600_000.0, own.all(|run| run.durable).median());
    match peer("gzip -1") {
        Some(gzip) => {
            targets.at_least(
                "durable, level by lag, over gzip -1",
                1.3,
                own.over(gzip, |run| run.durable).median(),
            );
            targets.at_most(
                "its processor time over gzip -1",
                0.75,
                own.over(gzip, |run| run.processor).median(),
            );
        }
        None => targets.missing("durable, level by lag, over gzip -1"),
    }
    targets.at_least("durable, level 6, lines a second", 300_000.0, fixed.all(|run| run.durable).median());
    match peer("gzip -6") {
        Some(gzip) => targets.at_least(
            "durable, level 6, over gzip -6",
            1.3,
            fixed.over(gzip, |run| run.durable).median(),
        ),
        None => targets.missing("durable, level 6, over gzip -6"),
    }
    match peer("journald's writer") {
        Some(journal) => {
            let over = |of: fn(&Run) -> f64| own.over(journal, of).median();
            targets.at_least("lines a second over journald's writer", 8.0, over(|run| run.durable));
            targets.at_most("bytes stored over journald's writer", 0.2, over(|run| 1.0 / run.ratio));
            targets.at_most("processor time over journald's writer", 0.1, over(|run| run.processor));
        }
        None => targets.missing("journald's writer"),
    }
    targets.at_least("app log over stored, level 6", 3.0, fixed.all(|run| run.ratio).median());
    targets.at_most("bytes written over the .gz files, level 6", 1.15, costs[1].written.median());
    targets.at_most("bytes written over the .gz files, level by lag", 1.15, costs[0].written.median());
    targets.at_most("daemon's processor time to tell persist, s/GB", 0.05, costs[0].for_history.median());
    targets.at_most("daemon's processor time in all, s/GB", 2.0, costs[0].daemon.median());
    targets.at_most("memory growth of persist, MiB", 32.0, costs[0].history_grown.quantile(1.0));
    targets.at_most("memory growth of the daemon, MiB", 8.0, costs[0].daemon_grown.quantile(1.0));
}
