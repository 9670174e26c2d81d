//! The command line. Two tables ([`flag`], [`command`]) say everything about it once; [`mod@parse`], [`mod@help`]
//! and their tests are written against the tables and name no flag themselves. [`value`] and [`time`] read
//! what flags carry.

mod command;
mod complete;
mod flag;
mod help;
mod man;
mod parse;
mod suggest;
pub(crate) mod time;
pub(crate) mod value;

pub(crate) use command::Action;
pub(crate) use complete::{Candidate, Jobs, Offer, SCRIPTS, complete};
pub(crate) use help::help;
pub(crate) use man::man;
pub(crate) use parse::{Invocation, Parsed, Values, parse};
