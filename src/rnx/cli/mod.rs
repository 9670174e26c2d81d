//! The command line. Each command describes itself once, with its flags, in a [`Command`] beside its code, and
//! [`COMMANDS`](super::command::COMMANDS) lists them; [`mod@parse`], [`mod@help`], [`mod@complete`] and
//! [`mod@man`] read that list and name no command or flag themselves. [`value`] and [`time`] read the values of
//! flags.

mod command;
mod complete;
pub(crate) mod flag;
mod help;
mod man;
mod parse;
mod suggest;
pub(crate) mod time;
pub(crate) mod value;

pub(crate) use command::{Command, Invocation, Operands, Run, Values};
pub(crate) use complete::{Candidate, Jobs, Offer, SCRIPTS, complete};
pub(crate) use flag::Flag;
pub(crate) use help::help;
pub(crate) use man::man;
pub(crate) use parse::{Parsed, parse};
