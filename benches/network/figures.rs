//! Figures of a measurement, and lines about targets.

/// Measured values of one kind.
#[derive(Debug, Default, Clone)]
pub struct Values(Vec<f64>);

impl Values {
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    pub fn p50(&self) -> f64 {
        self.quantile(0.5)
    }

    pub fn p99(&self) -> f64 {
        self.quantile(0.99)
    }

    /// The value below which this share lies; with few values p99 is the largest.
    fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
    }
}

/// Heads a table of [`row`]s.
pub fn head(what: &str, unit: &str) {
    println!("\n{what:<46} {:>12} {:>12}", format!("p50 {unit}"), format!("p99 {unit}"));
}

/// One line of a table.
pub fn row(name: &str, values: &Values) {
    println!("{name:<46} {:>12.1} {:>12.1}", values.p50(), values.p99());
}

/// One line with what was wanted at most, what was measured, and the verdict.
pub fn at_most(what: &str, measured: f64, bound: f64) {
    verdict(what, measured, "<=", bound, measured <= bound);
}

/// The same for a least value.
pub fn at_least(what: &str, measured: f64, bound: f64) {
    verdict(what, measured, ">=", bound, measured >= bound);
}

fn verdict(what: &str, measured: f64, sign: &str, bound: f64, met: bool) {
    let verdict = if met { "met" } else { "MISSED" };
    println!("{what:<60} wanted {sign} {bound:<5} measured {measured:.2}  {verdict}");
}
