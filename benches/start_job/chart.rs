//! The chart for the README: /usr/bin/true, isolated, from request to end, by all ways.

use std::fmt::Write;

use crate::figures::{self, Span};
use crate::report::Report;
use crate::ways;

const CONDITION: &str = "true, idle";
const ROW: usize = 30;
const TOP: usize = 58;
const LEFT: f64 = 240.0;
const WIDTH: f64 = 420.0;
const RIGHT: f64 = 120.0;

/// Bars of medians with a whisker from p50 to p99, shortest first. `None` where none of them was measured.
pub fn svg(report: &Report) -> Option<String> {
    let mut bars: Vec<(&str, f64, f64)> = report
        .series
        .iter()
        .filter(|series| series.condition == CONDITION && !series.samples.is_empty())
        .map(|series| {
            let times = series.times(Span::End, report.rate);
            (series.way, figures::quantile(&times, 0.5) / 1e3, figures::quantile(&times, 0.99) / 1e3)
        })
        .collect();
    bars.sort_by(|a, b| a.1.total_cmp(&b.1));
    let most = |of: fn(&(&str, f64, f64)) -> f64| bars.iter().map(of).fold(f64::NAN, f64::max);
    // One disturbed way must not shrink all bars: a longer whisker ends at the edge, and its figure has the length.
    let longest = most(|bar| bar.2).min(2.0 * most(|bar| bar.1));
    if bars.is_empty() {
        return None;
    }
    let (width, height) = (LEFT + WIDTH + RIGHT, TOP + bars.len() * ROW + 16);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"15\" font-weight=\"bold\" fill=\"#1f2328\">{} from request to end, ms</text>\n\
         <text x=\"16\" y=\"42\" fill=\"#59636e\">bar: median; line: to the 99th percentile; one run, in turn</text>\n",
        ways::TRUE
    );
    for (at, (way, p50, p99)) in bars.into_iter().enumerate() {
        let y = TOP + at * ROW;
        let x = |ms: f64| LEFT + (ms / longest).min(1.0) * WIDTH;
        let colour = if [ways::BARE, ways::COLD].contains(&way) {
            "#9aa4af"
        } else if way.starts_with("joblet") || way == ways::RNX {
            "#1a7f5a"
        } else {
            "#c2763a"
        };
        let (label, middle, end) = (y + 16, y + 11, x(p50) - LEFT);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{label}\" text-anchor=\"end\" fill=\"#1f2328\">{way}</text>\n\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{end:.1}\" height=\"22\" fill=\"{colour}\"/>\n\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"#1f2328\"/>\n\
             <text x=\"{:.1}\" y=\"{label}\" fill=\"#1f2328\">{p50:.2} ({p99:.2})</text>",
            LEFT - 10.0,
            x(p50),
            x(p99),
            x(p99) + 8.0,
        );
    }
    svg.push_str("</svg>\n");
    Some(svg)
}
