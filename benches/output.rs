//! The cost of keeping output: a job that writes lines as fast as it can through a real node until the last one is durable
//! in history, in turn with programs that store the same log.
//!
//! `cargo bench --bench output [-- OPTIONS]`, as root:
//!
//! ```text
//! --quick           about a minute instead of about four
//! --only GROUP      flood, stored, store, waits, starts or queries (may be repeated)
//! --lines N         lines of each flood (2000000)
//! --large N         lines of the log that is queried (5000000)
//! --rounds N        rounds (5)
//! ```
//!
//! * *flood*: one producer of lines of 100 bytes in writes of 4 KiB; its own pace, the time until all is durable, processor
//!   time, memory, writes to the disk; beside `cat`, `zstd -1`, `gzip -1`, `gzip -6` and journald's writer;
//! * *stored*: the bytes that other logs take;
//! * *store*: the store by itself: many small files, trickles;
//! * *waits*: how long a row waits until it is durable;
//! * *starts*: other jobs beside a flood, stored and not;
//! * *queries*: of a large log, over gRPC.
//!
//! All figures that are compared are of one round, in turn. TMPDIR is the directory of the peers' files; the node's is
//! below /tmp.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on panics; figures are printed"
)]
#![allow(unreachable_pub, reason = "a benchmark is the root of its own crate")]

#[path = "../tests/helper/mod.rs"]
#[macro_use]
mod helper;
#[path = "output/figures.rs"]
mod figures;
#[path = "output/floods.rs"]
mod floods;
#[path = "output/node.rs"]
mod node;
#[path = "output/peers.rs"]
mod peers;
#[path = "output/process.rs"]
mod process;
#[path = "output/producer.rs"]
mod producer;
#[path = "output/queries.rs"]
mod queries;
#[path = "output/store.rs"]
mod store;
#[path = "output/targets.rs"]
mod targets;
#[path = "output/waits.rs"]
mod waits;

use std::path::Path;

use figures::{Number, Samples};
use node::Node;
use producer::Corpus;
use targets::Targets;

struct Options {
    only: Vec<String>,
    lines: u64,
    large: u64,
    rounds: usize,
}

fn options() -> Options {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|word| word == "--quick");
    let (lines, large, rounds) = if quick { (500_000, 1_000_000, 2) } else { (2_000_000, 5_000_000, 5) };
    let mut options = Options { only: Vec::new(), lines, large, rounds };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
        match word.as_str() {
            "--only" => options.only.push(value().clone()),
            "--lines" => options.lines = value().parse().expect("a number"),
            "--large" => options.large = value().parse().expect("a number"),
            "--rounds" => options.rounds = value().parse().expect("a number"),
            // cargo adds the second flag.
            "--quick" | "--bench" => {}
            other => panic!("unknown option {other}; benches/output.rs says which there are"),
        }
    }
    options
}

fn main() {
    let options = options();
    let wanted = |group: &str| options.only.is_empty() || options.only.iter().any(|only| only == group);
    let dir = tempfile::tempdir().expect("a directory");
    let mut targets = Targets::default();
    // Lag lowers the level of the first node's history, as it is without a setting.
    let node = Node::start([("ipc.enabled", true.into())]);
    if wanted("flood") {
        let fixed = Node::start([("persist.storage.compression.adaptive", false.into())]);
        floods::measure(&node, &fixed, dir.path(), options.lines, options.rounds, &mut targets);
        if wanted("stored") {
            stored(&fixed, options.lines / 4, &mut targets);
        }
        fixed.end();
    }
    if wanted("store") {
        store_alone(dir.path(), 4 * options.rounds as u64, &mut targets);
    }
    if wanted("waits") {
        let quiet = waits::quiet(&node, 2 * options.rounds);
        let steady = waits::steady(&node, options.rounds as u64);
        println!(
            "\nwait until durable, ms: p50, p99 of {} lines of quiet jobs: {}, {}; of the oldest rows of {} members of a flood at 200000 lines a second: {}, {}",
            quiet.count(),
            Number(quiet.median()),
            Number(quiet.quantile(0.99)),
            steady.count(),
            Number(steady.median()),
            Number(steady.quantile(0.99))
        );
        targets.at_most("wait of a quiet job's row until durable, p99, ms", 2300.0, quiet.quantile(0.99));
        targets.at_most("wait of a flood's rows until durable, p50, ms", 300.0, steady.median());
    }
    if wanted("starts") {
        starts(&node, 20, options.rounds, &mut targets);
    }
    if wanted("queries") {
        query(&node, dir.path(), &options, &mut targets);
    }
    node.end();
    targets.print();
}

/// The bytes of other logs, at a fixed level.
fn stored(node: &Node, lines: u64, targets: &mut Targets) {
    let (job, run, _) = node.flood(Corpus::Access, lines);
    node.delete(&job);
    println!(
        "\nan access log of {} MB, level 6: {} bytes of log a byte stored",
        lines / 10_000,
        Number(run.ratio)
    );
    targets.at_least("access log over stored, level 6", 8.0, run.ratio);
}

fn store_alone(dir: &Path, rounds: u64, targets: &mut Targets) {
    let commits = store::commits(&dir.join("commits"), rounds);
    println!("\ncommit of 200 small files over write and fdatasync of each: {commits}");
    targets.at_most("commit of 200 small files over fdatasync one by one", 0.6, commits.median());
    let log = producer::command(Corpus::App, 600).output().expect("the producer can be executed").stdout;
    let [whole, loose, packed] = store::trickles(&dir.join("trickles"), &log);
    let ratio = |bytes: u64| Number(log.len() as f64 / bytes as f64);
    println!(
        "600 lines, a row each: {} bytes of log a byte stored in one piece, {} two lines a commit, {} packed",
        ratio(whole),
        ratio(loose),
        ratio(packed)
    );
    targets.at_least("packed trickle over the same rows in one piece", 0.9, whole as f64 / packed as f64);
}

fn starts(node: &Node, count: usize, rounds: usize, targets: &mut Targets) {
    let live = Node::start([("ipc.enabled", false.into())]);
    let mut reply: [Samples; 3] = Default::default();
    let mut end: [Samples; 3] = Default::default();
    let (mut over_idle, mut over_live) = (Samples::default(), Samples::default());
    for _ in 0..rounds {
        let turn = [
            waits::starts(node, count),
            waits::starts_beside(&live, count),
            waits::starts_beside(node, count),
        ];
        let [idle, beside_live, beside] = turn.each_ref().map(|starts| starts.end.median());
        over_idle.add(beside / idle);
        over_live.add(beside / beside_live);
        for (n, starts) in turn.into_iter().enumerate() {
            reply[n].add(starts.reply.median());
            end[n].add(starts.end.median());
        }
    }
    live.end();
    println!("\nother jobs (true), ms to the reply of RunJob and to the end of its log, medians of rounds:");
    for (n, name) in
        ["idle node", "beside a flood that is not stored", "beside a flood that is stored"].iter().enumerate()
    {
        println!("  {name}: {}, {}", reply[n], end[n]);
    }
    println!("  stored over idle {over_idle}; stored over not stored {over_live}");
    targets.at_most("other jobs beside a stored flood over one not stored", 1.3, over_live.median());
    targets.at_most("other jobs beside a stored flood over an idle node", 1.3, over_idle.median());
}

fn query(node: &Node, dir: &Path, options: &Options, targets: &mut Targets) {
    let all = queries::measure(node, dir, options.large, options.rounds.min(3));
    println!("\nqueries of {} MB over gRPC:", options.large / 10_000);
    println!(
        "  last 100 lines, ms: cached p50 {}, p99 {}; cold p50 {}, p99 {}",
        Number(all.tail_cached.median()),
        Number(all.tail_cached.quantile(0.99)),
        Number(all.tail_cold.median()),
        Number(all.tail_cold.quantile(0.99))
    );
    println!("  1 % by time {} s, a scan {} s, zcat | grep {} s", all.part, all.scan, all.zcat);
    targets.at_most("last 100 lines over gRPC, cached, p50, ms", 5.0, all.tail_cached.median());
    targets.at_most("last 100 lines over gRPC, cold, p50, ms", 20.0, all.tail_cold.median());
    targets.at_most("1 % by time over a scan", 0.025, all.part_ratio.median());
    targets.at_least("speed of a text scan over zcat | grep -cF", 2.5, all.speed.median());
    targets.at_most("processor time of a text scan over zcat | grep -cF", 0.5, all.processor.median());
}
