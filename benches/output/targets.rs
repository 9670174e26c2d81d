//! The targets of storing output, and how far the figures are from them.

use super::figures::Number;

/// On which side of the limit a figure is to be.
#[derive(Debug, Clone, Copy)]
pub enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

struct Row {
    name: String,
    wanted: Wanted,
    measured: f64,
}

/// The table at the end.
#[derive(Default)]
pub struct Targets {
    rows: Vec<Row>,
    missing: Vec<String>,
}

impl Targets {
    pub fn at_least(&mut self, name: &str, limit: f64, measured: f64) {
        self.rows.push(Row { name: name.into(), wanted: Wanted::AtLeast(limit), measured });
    }

    pub fn at_most(&mut self, name: &str, limit: f64, measured: f64) {
        self.rows.push(Row { name: name.into(), wanted: Wanted::AtMost(limit), measured });
    }

    /// A figure that this host or these options do not give.
    pub fn missing(&mut self, name: &str) {
        self.missing.push(name.into());
    }

    pub fn print(&self) {
        println!("\ntargets:");
        for Row { name, wanted, measured } in &self.rows {
            let (sign, limit, is_met) = match wanted {
                Wanted::AtLeast(limit) => (">=", *limit, measured >= limit),
                Wanted::AtMost(limit) => ("<=", *limit, measured <= limit),
            };
            let verdict = if is_met {
                "met".to_owned()
            } else {
                format!("MISSED, {} times the limit", Number(measured / limit))
            };
            println!("  {name:<62} {sign} {:<8} {:<9} {verdict}", Number(limit), Number(*measured));
        }
        for name in &self.missing {
            println!("  {name:<62} not measured");
        }
    }
}
