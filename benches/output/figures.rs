//! Samples of one figure, and what is said of them.

use std::fmt;

/// The samples of one figure.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn add(&mut self, sample: f64) {
        let at = self.0.partition_point(|other| *other < sample);
        self.0.insert(at, sample);
    }

    /// The sample below which this part of all lies; not a number where there is none.
    pub fn quantile(&self, part: f64) -> f64 {
        let at = (part * self.0.len().saturating_sub(1) as f64).round() as usize;
        self.0.get(at).copied().unwrap_or(f64::NAN)
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<T: IntoIterator<Item = f64>>(all: T) -> Samples {
        let mut samples = Samples::default();
        all.into_iter().for_each(|sample| samples.add(sample));
        samples
    }
}

/// The median, and the range of all rounds.
impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [least, median, most] = [0.0, 0.5, 1.0].map(|part| Number(self.quantile(part)));
        write!(f, "{median} ({least}..{most})")
    }
}

/// A number with three digits that count.
#[derive(Debug, Clone, Copy)]
pub struct Number(pub f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.0.abs() {
            value if value >= 100.0 => 0,
            value if value >= 10.0 => 1,
            value if value >= 0.1 => 2,
            _ => 4,
        };
        f.pad(&format!("{:.digits$}", self.0))
    }
}
