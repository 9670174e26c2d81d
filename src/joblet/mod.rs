//! The daemon's command line, and the one place where the API and the loop meet.
//!
//! ```text
//!   argv --> a subcommand: setup, certs, doctor, recover,   one file each; it prints and ends
//!            volume, gpus, audit
//!        --> flags: --check-config                          check_config: prints what is in force and ends
//!        --> flags: none of these                           serve: doctor, log pump, loop, gRPC server
//! ```
//!
//! Exit codes: 0, 1 for a failure, 2 for a wrong command line. The reason is the last line on stderr. The room
//! wires the others together, so it may import all of them; no room imports this one.

use std::ffi::OsString;
use std::io::Write;

use crate::{diag, sys};

mod audit;
mod certs;
mod check_config;
mod doctor;
mod flags;
mod gpus;
mod recover;
mod serve;
mod setup;
mod usage;
mod volume;

use flags::Action;
use usage::Usage;

type Failure = Box<dyn std::error::Error>;

/// The whole program `joblet`.
pub fn main() -> ! {
    let args: Vec<String> = std::env::args_os().skip(1).map(lossy).collect();
    let code = match run(&args) {
        Ok(code) => code,
        Err(why) => {
            // The reason is the last line, behind what was logged before.
            diag::flush();
            let _ = writeln!(std::io::stderr(), "joblet: {why}");
            if why.is::<Usage>() { 2 } else { 1 }
        }
    };
    diag::flush();
    let _ = std::io::stdout().flush();
    sys::exit_now(code)
}

fn lossy(arg: OsString) -> String {
    arg.to_string_lossy().into_owned()
}

/// Runs one command line and returns its exit code.
fn run(args: &[String]) -> Result<i32, Failure> {
    if let Some((word, rest)) = args.split_first() {
        match word.as_str() {
            "setup" => return setup::run(rest),
            "certs" => return certs::run(rest),
            "doctor" => return doctor::run(rest),
            "gpus" => return gpus::run(rest),
            "recover" => return recover::run(rest),
            "volume" => return volume::run(rest),
            "audit" => return audit::run(rest),
            _ => {}
        }
    }
    match flags::parse(args)? {
        Action::Print(text) => print(&text),
        Action::CheckConfig(config) => check_config::run(config.as_deref()),
        Action::Serve(config) => serve::run(config.as_deref()),
    }
}

fn print(text: &str) -> Result<i32, Failure> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(0)
}
