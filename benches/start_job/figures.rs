//! From samples to figures: quantiles, ratios, and their intervals.

use crate::clock::{Rate, Ticks};

/// The moments of one start. A moment that a way cannot see is 0.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// The moment of the request.
    pub accepted: Ticks,
    /// The moment of the answer that the job runs.
    pub started: Ticks,
    /// The moment of the payload's first instruction.
    pub first: Ticks,
    /// The moment at which the end is seen.
    pub ended: Ticks,
}

impl Sample {
    /// The sample of a failed start.
    pub const FAILED: Sample = Sample { accepted: 0, started: 0, first: 0, ended: 0 };
}

/// All samples of one way under one condition, one a round.
#[derive(Debug)]
pub struct Series {
    /// The condition: idle, hogs, 0, 100, 1000 live jobs.
    pub condition: String,
    pub way: &'static str,
    pub samples: Vec<Sample>,
}

/// The time that is computed from a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    First,
    Told,
    End,
}

impl Span {
    pub const ALL: [Span; 3] = [Span::First, Span::Told, Span::End];

    pub fn name(self) -> &'static str {
        match self {
            Span::First => "request to first instruction",
            Span::Told => "request to start told",
            Span::End => "request to end seen",
        }
    }

    /// Microseconds; NaN where the way does not see this moment.
    pub fn of(self, sample: &Sample, rate: Rate) -> f64 {
        let to = match self {
            Span::First => sample.first,
            Span::Told => sample.started,
            Span::End => sample.ended,
        };
        if to == 0 { f64::NAN } else { rate.us(sample.accepted, to) }
    }
}

impl Series {
    pub fn times(&self, span: Span, rate: Rate) -> Vec<f64> {
        self.samples.iter().map(|sample| span.of(sample, rate)).collect()
    }

    /// The number of failed starts.
    pub fn failed(&self) -> usize {
        self.samples.iter().filter(|s| s.ended == 0).count()
    }
}

/// A figure and the interval that holds 95 % of a bootstrap over rounds.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// The number of repetitions of the bootstrap.
const RESAMPLES: usize = 1000;

/// The value below which the share `q` of all values lies (nearest rank). NaN values do not count.
pub fn quantile(values: &[f64], q: f64) -> f64 {
    nearest(&sorted(values), q)
}

/// Several quantiles with their intervals.
pub fn quantiles<const N: usize>(values: &[f64], at: [f64; N]) -> [Figure; N] {
    let all = sorted(values);
    let mut draws: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(RESAMPLES));
    let mut dice = Dice::new(all.len());
    for _ in 0..if all.is_empty() { 0 } else { RESAMPLES } {
        // Ranks of the sorted values are drawn: sorted ranks are sorted values.
        let mut ranks: Vec<usize> = all.iter().map(|_| dice.roll()).collect();
        ranks.sort_unstable();
        let drawn: Vec<f64> = ranks.into_iter().map(|r| all[r]).collect();
        for (which, q) in at.iter().enumerate() {
            draws[which].push(nearest(&drawn, *q));
        }
    }
    std::array::from_fn(|n| interval(nearest(&all, at[n]), &draws[n]))
}

/// The ratio of two quantiles. Samples of the same `rounds` are drawn together: a disturbance of a round affects
/// both.
pub fn ratio(of: (&[f64], f64), to: (&[f64], f64), rounds: Rounds) -> Figure {
    let value = quantile(of.0, of.1) / quantile(to.0, to.1);
    let (some, others) = match rounds {
        Rounds::Same => (of.0.len().min(to.0.len()), of.0.len().min(to.0.len())),
        Rounds::Apart => (of.0.len(), to.0.len()),
    };
    if some == 0 || others == 0 {
        return interval(f64::NAN, &[]);
    }
    let (mut dice, mut other_dice) = (Dice::new(some), Dice::new(others));
    let draw = |dice: &mut Dice, n: usize| (0..n).map(|_| dice.roll()).collect::<Vec<_>>();
    let pick = |values: &[f64], drawn: &[usize]| drawn.iter().map(|r| values[*r]).collect::<Vec<_>>();
    // Another start value, because draws of the same length would be equal otherwise.
    other_dice.state ^= 0x5bd1_e995_9d1f_3c4b;
    let draws: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let drawn = draw(&mut dice, some);
            let other = match rounds {
                Rounds::Same => drawn.clone(),
                Rounds::Apart => draw(&mut other_dice, others),
            };
            quantile(&pick(of.0, &drawn), of.1) / quantile(&pick(to.0, &other), to.1)
        })
        .collect();
    interval(value, &draws)
}

/// Whether two series were sampled in turn, or one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounds {
    Same,
    Apart,
}

fn interval(value: f64, draws: &[f64]) -> Figure {
    Figure { value, low: quantile(draws, 0.025), high: quantile(draws, 0.975) }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

fn nearest(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

/// A generator with fixed draws: the same samples give the same figures.
struct Dice {
    state: u64,
    sides: u64,
}

impl Dice {
    fn new(sides: usize) -> Dice {
        Dice { state: 0x9e37_79b9_7f4a_7c15, sides: sides as u64 }
    }

    fn roll(&mut self) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state % self.sides) as usize
    }
}
