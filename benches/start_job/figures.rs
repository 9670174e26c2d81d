//! From samples to figures: quantiles, ratios, and how sure they are.

use std::fmt::Write;

use crate::clock::{Rate, Ticks};

/// One start.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The request is there.
    pub accepted: Ticks,
    /// Whoever asked for it is told that it runs.
    pub started: Ticks,
    /// The payload's first instruction.
    pub first: Ticks,
    /// Its end has been seen.
    pub ended: Ticks,
    /// Borders of the stages, where the variant has them.
    pub stages: Vec<Ticks>,
}

/// All samples of one variant, one a round.
#[derive(Debug)]
pub struct Variant {
    pub name: &'static str,
    pub samples: Vec<Sample>,
}

/// Which time of a sample.
#[derive(Debug, Clone, Copy)]
pub enum Span {
    Told,
    First,
    End,
}

impl Span {
    pub const ALL: [Span; 3] = [Span::First, Span::Told, Span::End];

    pub fn name(self) -> &'static str {
        match self {
            Span::First => "accepted to first instruction",
            Span::Told => "accepted to start told",
            Span::End => "accepted to end seen",
        }
    }

    pub fn of(self, sample: &Sample, rate: Rate) -> f64 {
        let to = match self {
            Span::First => sample.first,
            Span::Told => sample.started,
            Span::End => sample.ended,
        };
        rate.us(sample.accepted, to)
    }
}

impl Variant {
    pub fn times(&self, span: Span, rate: Rate) -> Vec<f64> {
        self.samples.iter().map(|sample| span.of(sample, rate)).collect()
    }
}

/// The value below which the share `q` of all values lies (nearest rank).
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len()) - 1).copied().unwrap_or(f64::NAN)
}

/// Repetitions of the bootstrap.
const RESAMPLES: usize = 1000;

/// The ratio of two medians with its 95 % interval. Rounds are drawn anew, both variants' samples of a round
/// together: what disturbed a round disturbed both.
pub fn ratio(of: &[f64], to: &[f64]) -> (f64, f64, f64) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64; // always the same draws: the same samples give the same figures
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % of.len() as u64) as usize
    };
    let ratios: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let rounds: Vec<usize> = (0..of.len()).map(|_| draw()).collect();
            let pick = |values: &[f64]| rounds.iter().map(|r| values[*r]).collect::<Vec<_>>();
            quantile(&pick(of), 0.5) / quantile(&pick(to), 0.5)
        })
        .collect();
    (quantile(of, 0.5) / quantile(to, 0.5), quantile(&ratios, 0.025), quantile(&ratios, 0.975))
}

/// One table for a span: every variant's quantiles, and its median's ratio to the first two variants'.
pub fn table(variants: &[Variant], span: Span, rate: Rate) -> String {
    let mut text = format!("{} (us)\n", span.name());
    let peers: Vec<Vec<f64>> = variants.iter().take(2).map(|v| v.times(span, rate)).collect();
    let _ = writeln!(
        text,
        "  {:<42} {:>8} {:>8} {:>8}   {:<22} {:<22}",
        "", "p50", "p90", "p99", "p50 / bare", "p50 / same namespaces"
    );
    for variant in variants {
        let times = variant.times(span, rate);
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|q| quantile(&times, q));
        let _ = write!(text, "  {:<42} {p50:>8.1} {p90:>8.1} {p99:>8.1}", variant.name);
        for peer in &peers {
            let (ratio, low, high) = ratio(&times, peer);
            let _ = write!(text, "   {:<20}", format!("{ratio:.2} ({low:.2}..{high:.2})"));
        }
        text.push('\n');
    }
    text
}

/// Medians of the stages of a variant.
pub fn stages(variant: &Variant, names: &[&str], rate: Rate) -> String {
    let mut text = format!("stages of \"{}\" (us)\n", variant.name);
    for (at, name) in names.iter().enumerate() {
        let times: Vec<f64> =
            variant.samples.iter().map(|s| rate.us(s.stages[at], s.stages[at + 1])).collect();
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|q| quantile(&times, q));
        let _ = writeln!(text, "  {name:<42} {p50:>8.1} {p90:>8.1} {p99:>8.1}");
    }
    text
}

/// Every sample, one a line.
pub fn csv(variants: &[Variant], rate: Rate) -> String {
    let mut text = "variant,round,first_us,started_us,ended_us\n".to_owned();
    for variant in variants {
        for (round, sample) in variant.samples.iter().enumerate() {
            let [first, started, ended] = Span::ALL.map(|span| span.of(sample, rate));
            let _ = writeln!(text, "{},{round},{first:.2},{started:.2},{ended:.2}", variant.name);
        }
    }
    text
}
