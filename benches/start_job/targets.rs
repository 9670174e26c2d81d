//! The promises about starts, and whether they hold.

use std::fmt::Write;

use crate::figures::{self, Figure, Rounds, Span};
use crate::gpus;
use crate::networks;
use crate::peers;
use crate::report::{Report, brackets};
use crate::runtimes;
use crate::volumes;
use crate::ways;

const IDLE: &str = "first, idle";
const HOGS: &str = "first, hogs";
const TRUE: &str = "true, idle";

/// One promise with its measurement.
struct Target {
    what: String,
    wanted: Wanted,
    measured: Option<Figure>,
}

enum Wanted {
    AtMost(f64),
    AtLeast(f64),
}

/// A table with one row a target: wanted, measured, and by how much the target is missed.
pub fn table(report: &Report) -> String {
    let mut text = format!("{:<70} {:>8} {:>24}\n", "target", "wanted", "measured");
    for target in all(report) {
        let (sign, bound) = match target.wanted {
            Wanted::AtMost(bound) => ("<=", bound),
            Wanted::AtLeast(bound) => (">=", bound),
        };
        let (measured, verdict) = match target.measured {
            Some(figure) if figure.value.is_finite() => {
                (brackets(figure, 2), verdict(&target.wanted, figure.value))
            }
            _ => ("not measured".into(), String::new()),
        };
        let _ =
            writeln!(text, "{:<70} {:>8} {measured:>24}  {verdict}", target.what, format!("{sign} {bound}"));
    }
    text
}

fn verdict(wanted: &Wanted, value: f64) -> String {
    let short = match wanted {
        Wanted::AtMost(bound) => value / bound,
        Wanted::AtLeast(bound) => bound / value,
    };
    if short <= 1.0 { "met".into() } else { format!("MISSED by {:.0} %", (short - 1.0) * 100.0) }
}

fn all(report: &Report) -> Vec<Target> {
    let mut all = Vec::new();
    let mut at_most = |what: &str, bound, measured| {
        all.push(Target { what: what.into(), wanted: Wanted::AtMost(bound), measured });
    };
    let none = (networks::CONDITION, networks::NONE, Span::First, 0.5);
    let first = |way| (IDLE, way, Span::First, 0.5);
    let end = |way| (TRUE, way, Span::End, 0.5);
    for way in insides(report) {
        at_most(
            &format!("{way}: first instruction / pooled floor"),
            2.5,
            quotient(report, first(way), first(ways::POOLED)),
        );
        let tail = |condition| (condition, way, Span::First, 0.99);
        at_most(&format!("{way}: p99 / p50, idle"), 2.0, quotient(report, tail(IDLE), first(way)));
        at_most(&format!("{way}: p99 with hogs / p99 idle"), 2.0, quotient(report, tail(HOGS), tail(IDLE)));
        let live = |jobs| (jobs, way, Span::First, 0.5);
        let live = quotient(report, live("first, 1000 live"), live("first, 0 live"));
        at_most(&format!("{way}: first instruction with 1000 live jobs / with none"), 1.2, live);
    }
    let without = (volumes::CONDITION, volumes::NONE, Span::First, 0.5);
    let with = |way| quotient(report, (volumes::CONDITION, way, Span::First, 0.5), without);
    if let Some(image) = with(volumes::IMAGE) {
        at_most("first instruction with a volume on disk, warm / without", 1.3, Some(image));
        at_most("first instruction with a volume in memory, warm / without", 1.3, with(volumes::MEMORY));
    }
    let without = (gpus::CONDITION, gpus::NONE, Span::First, 0.5);
    let with = |way| quotient(report, (gpus::CONDITION, way, Span::First, 0.5), without);
    if let Some(one) = with(gpus::ONE) {
        at_most("first instruction with a GPU, warm / without", 1.2, Some(one));
        at_most("first instruction with two GPUs, warm / without", 1.2, with(gpus::TWO));
    }
    in_roots(report, &mut at_most);
    let networked = |way| quotient(report, (networks::CONDITION, way, Span::First, 0.5), none);
    if let Some(bridge) = networked(networks::BRIDGE) {
        at_most("first instruction in bridge, warm / in none", 1.05, Some(bridge));
        at_most("first instruction in another network, warm / in none", 1.2, networked(networks::OTHER));
        at_most("first instruction with a rate, warm / in none", 1.2, networked(networks::RATED));
        let part = network_part(report).map(exact);
        at_most("no warm sandbox: network part of a start / network namespace", 2.2, part);
    }
    at_most("rnx job run --wait true / crun run", 1.5, quotient(report, end(ways::RNX), end("crun")));
    let mut at_least = |what: String, bound, measured| {
        all.push(Target { what, wanted: Wanted::AtLeast(bound), measured });
    };
    for way in insides(report).into_iter().chain([ways::GRPC]) {
        for (peer, times) in [("bwrap", 4.0), ("crun", 6.0), ("runc", 25.0)] {
            at_least(
                format!("{way}: {peer} / true to its end"),
                times,
                quotient(report, end(peer), end(way)),
            );
        }
    }
    let best = |way| best(report, way);
    if let Some((wired, none)) = best(networks::BRIDGE).zip(best(networks::NONE)) {
        at_least("best jobs/s in bridge / in none".into(), 0.55, Some(exact(wired.value / none.value)));
    }
    let share = best(ways::INSIDE).zip(best(ways::COLD)).map(|(ours, floor)| ours.value / floor.value);
    at_least("networks used once: best jobs/s / best of the cold floor".into(), 0.7, share.map(exact));
    at_least("networks reused: best jobs/s".into(), 1500.0, best(ways::REUSE));
    all
}

/// Those about the roots of runtimes.
fn in_roots(report: &Report, at_most: &mut impl FnMut(&str, f64, Option<Figure>)) {
    let rooted = |condition, way| {
        let host = (condition, runtimes::HOST, Span::First, 0.5);
        quotient(report, (condition, way, Span::First, 0.5), host)
    };
    if let Some(image) = rooted(runtimes::CONDITION, runtimes::IMAGE) {
        at_most("first instruction in an image, warm / in the host's root", 1.15, Some(image));
        let parts = rooted(runtimes::CONDITION, runtimes::PARTS);
        at_most("first instruction in parts over the host's root, warm / in the host's root", 1.15, parts);
        let writable = rooted(runtimes::CONDITION, runtimes::WRITABLE);
        at_most("first instruction in a writable image, warm / in the host's root", 1.15, writable);
        let first_use = rooted(runtimes::NOT_WARM, runtimes::FIRST_USE);
        at_most("no warm sandbox: first use of an image for a while / the host's root", 1.5, first_use);
        let written = (runtimes::NOT_WARM, runtimes::WRITABLE, Span::First, 0.5);
        for (peer, what) in [
            (
                peers::IN_IMAGE,
                "no warm sandbox: first instruction in a writable image / by crun in the same layers",
            ),
            (
                peers::ENGINE,
                "no warm sandbox: first instruction in a writable image / by podman in the same layers",
            ),
        ] {
            at_most(what, 1.0, quotient(report, written, (runtimes::NOT_WARM, peer, Span::First, 0.5)));
        }
    }
}

fn insides(report: &Report) -> Vec<&'static str> {
    let measured = |way: &&str| report.series.iter().any(|series| series.way == *way);
    [ways::INSIDE, ways::REUSE].into_iter().filter(|way| *way == ways::INSIDE || measured(way)).collect()
}

type Place<'a> = (&'a str, &'a str, Span, f64);

/// The ratio of two measured quantiles.
fn quotient(report: &Report, of: Place<'_>, to: Place<'_>) -> Option<Figure> {
    let rounds = if of.0 == to.0 { Rounds::Same } else { Rounds::Apart };
    let above = report.times(of.0, of.1, of.2)?;
    let below = report.times(to.0, to.1, to.2)?;
    Some(figures::ratio((&above, of.3), (&below, to.3), rounds))
}

/// The network part of a start without a warm sandbox, in new network namespaces of the floor: a job without a network has
/// one, and the rest is what a job in bridge takes more.
fn network_part(report: &Report) -> Option<f64> {
    let p50 = |way| Some(figures::quantile(&report.times(networks::NOT_WARM, way, Span::First)?, 0.5));
    let namespace = p50(ways::COLD)? - p50(ways::POOLED)?;
    Some(1.0 + (p50(networks::BRIDGE)? - p50(networks::NONE)?) / namespace)
}

/// The best rate of a way over all concurrencies.
fn best(report: &Report, way: &str) -> Option<Figure> {
    let rates = report.rates.iter().filter(|rate| rate.way == way);
    let best = rates.max_by(|a, b| a.median().total_cmp(&b.median()))?;
    let least = best.jobs_a_second.iter().copied().fold(f64::INFINITY, f64::min);
    let most = best.jobs_a_second.iter().copied().fold(0.0, f64::max);
    Some(Figure { value: best.median(), low: least, high: most })
}

/// A quotient of rates, whose turns are too few for an interval.
fn exact(value: f64) -> Figure {
    Figure { value, low: f64::NAN, high: f64::NAN }
}
