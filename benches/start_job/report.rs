//! All measurements, as tables, csv and a chart.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::clock;
use crate::counts::Count;
use crate::figures::{self, Figure, Rounds, Series, Span};
use crate::rates::{CONCURRENCY, Rate};
use crate::{chart, targets, ways};

/// The results of one run.
pub struct Report {
    pub series: Vec<Series>,
    pub rates: Vec<Rate>,
    pub counts: Vec<Count>,
    pub rate: clock::Rate,
    realtime: bool,
}

impl Report {
    pub fn new(realtime: bool) -> Report {
        let (series, rates, counts) = (Vec::new(), Vec::new(), Vec::new());
        Report { series, rates, counts, rate: clock::Rate::calibrate(), realtime }
    }

    pub fn add(&mut self, series: Vec<Series>) {
        self.series.extend(series);
    }

    pub fn find(&self, condition: &str, way: &str) -> Option<&Series> {
        self.series.iter().find(|s| s.condition == condition && s.way == way && !s.samples.is_empty())
    }

    /// Times of a way that was measured under this condition.
    pub fn times(&self, condition: &str, way: &str, span: Span) -> Option<Vec<f64>> {
        self.find(condition, way).map(|series| series.times(span, self.rate))
    }

    /// The text of all tables.
    pub fn text(&self) -> String {
        let policy = if self.realtime {
            "everything but joblet's daemons under SCHED_RR"
        } else {
            "ordinary scheduling"
        };
        let mut text = format!("{policy}; 95 % intervals of a bootstrap over rounds in brackets\n\n");
        let mut conditions: Vec<&str> = self.series.iter().map(|s| s.condition.as_str()).collect();
        conditions.dedup();
        for condition in conditions {
            for span in Span::ALL {
                text.push_str(&self.latencies(condition, span));
            }
        }
        text.push_str(&self.rates());
        text.push_str(&self.counts());
        text.push_str(&targets::table(self));
        text
    }

    /// The times of one condition up to one moment. Only a daemon reports a start.
    fn latencies(&self, condition: &str, span: Span) -> String {
        let all = self.series.iter().filter(|s| s.condition == condition);
        let all = all.filter(|s| span != Span::Told || s.way.starts_with(ways::OURS));
        let all: Vec<(&Series, Vec<f64>)> = all
            .map(|series| (series, series.times(span, self.rate)))
            .filter(|(_, times)| times.iter().any(|t| !t.is_nan()))
            .collect();
        let Some((series, _)) = all.first() else { return String::new() };
        let floors: Vec<&(&Series, Vec<f64>)> =
            all.iter().filter(|(series, _)| ways::FLOORS.contains(&series.way)).collect();
        let mut text = format!("{condition}: {}, us, {} rounds\n", span.name(), series.samples.len());
        let _ = write!(text, "  {:<34}{:>26}{:>26}{:>26}", "", "p50", "p90", "p99");
        for at in 1..=floors.len() {
            let _ = write!(text, "{:>22}", format!("p50 / row {at}"));
        }
        for (series, times) in &all {
            let _ = write!(text, "\n  {:<34}", series.way);
            for figure in figures::quantiles(times, [0.5, 0.9, 0.99]) {
                let _ = write!(text, "{:>26}", brackets(figure, 0));
            }
            for (_, floor) in &floors {
                let ratio = figures::ratio((times, 0.5), (floor, 0.5), Rounds::Same);
                let _ = write!(text, "{:>22}", brackets(ratio, 2));
            }
            if series.failed() > 0 {
                let _ = write!(text, "  {} failed", series.failed());
            }
        }
        text + "\n\n"
    }

    fn rates(&self) -> String {
        let mut text = String::new();
        let mut ways: Vec<&str> = Vec::new();
        self.rates.iter().for_each(|r| {
            if !ways.contains(&r.way) {
                ways.push(r.way)
            }
        });
        if !ways.is_empty() {
            let _ = writeln!(text, "{} a second, by how many at a time (median of turns)", ways::TRUE);
            let heads: String = CONCURRENCY.iter().map(|c| format!(" {c:>8}")).collect();
            let _ = writeln!(text, "  {:<34}{heads}", "");
        }
        for way in ways {
            let cells: String = CONCURRENCY
                .iter()
                .filter_map(|c| self.rates.iter().find(|r| r.way == way && r.concurrency == *c))
                .map(|r| format!(" {:>8.0}", r.median()))
                .collect();
            let _ = writeln!(text, "  {way:<34}{cells}");
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }

    fn counts(&self) -> String {
        let mut text = String::new();
        if !self.counts.is_empty() {
            text.push_str("system calls of a start, with the payload's own (strace -f -c), and instructions in user mode\n");
        }
        for count in &self.counts {
            let instructions = count.instructions.map_or("-".into(), |n| format!("{:.1} M", n / 1e6));
            let _ = writeln!(text, "  {:<34} {:>8.0} {instructions:>10}", count.way, count.calls);
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }

    /// report.txt, latencies.csv, rates.csv, counts.csv, and start_job.svg where there is something to draw.
    pub fn write(&self, out: &Path) {
        let mut latencies = "condition,way,round,first_us,told_us,end_us\n".to_owned();
        for series in &self.series {
            for (round, sample) in series.samples.iter().enumerate() {
                let [first, told, end] = Span::ALL.map(|span| cell(span.of(sample, self.rate)));
                let (condition, way) = (&series.condition, series.way);
                let _ = writeln!(latencies, "\"{condition}\",\"{way}\",{round},{first},{told},{end}");
            }
        }
        let mut rates = "way,concurrency,turn,jobs_per_second\n".to_owned();
        for rate in &self.rates {
            for (turn, jobs) in rate.jobs_a_second.iter().enumerate() {
                let _ = writeln!(rates, "\"{}\",{},{turn},{jobs:.1}", rate.way, rate.concurrency);
            }
        }
        let mut counts = "way,syscalls,instructions\n".to_owned();
        for count in &self.counts {
            let instructions = count.instructions.map_or(String::new(), |n| format!("{n:.0}"));
            let _ = writeln!(counts, "\"{}\",{:.1},{instructions}", count.way, count.calls);
        }
        let put = |name: &str, text: &str| {
            fs::write(out.join(name), text).expect("the directory of --out can be written");
        };
        put("report.txt", &self.text());
        put("latencies.csv", &latencies);
        put("rates.csv", &rates);
        put("counts.csv", &counts);
        if let Some(svg) = chart::svg(self) {
            put("start_job.svg", &svg);
        }
    }
}

/// A missing value is an empty cell.
fn cell(us: f64) -> String {
    if us.is_nan() { String::new() } else { format!("{us:.2}") }
}

/// `1.23 (1.20..1.27)`; `-` for a value that was not measured, and no interval where there is none.
pub fn brackets(figure: Figure, digits: usize) -> String {
    let Figure { value, low, high } = figure;
    match (value.is_finite(), low.is_finite() && high.is_finite()) {
        (false, _) => "-".to_owned(),
        (true, false) => format!("{value:.digits$}"),
        (true, true) => format!("{value:.digits$} ({low:.digits$}..{high:.digits$})"),
    }
}
