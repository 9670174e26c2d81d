//! `rnx job list`

use std::io::{self, IsTerminal};

use super::super::cli::{Invocation, value};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::table::{Style, table};
use super::super::render::{json, text};
use super::super::server::Server;
use super::{QUERY, connect};
use crate::pb::joblet::{EmptyRequest, Job};

enum Form {
    Lines,
    Table { wide: bool },
    Json,
}

/// Prints every job.
pub(super) fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let form = match invocation.values.last("output").as_deref() {
        _ if out.json => Form::Json,
        None => Form::Lines,
        Some("json") => Form::Json,
        Some("table") => Form::Table { wide: false },
        Some("wide") => Form::Table { wide: true },
        Some(other) => return Err(value::invalid("output", other, "it is table, wide or json")),
    };
    let jobs = all_jobs(&connect(&invocation.values, out)?)?;
    match form {
        Form::Lines => out.text(&text::list(&jobs, out.colour)),
        Form::Json => out.value(&jobs.iter().map(json::listed).collect::<Vec<_>>()),
        Form::Table { wide } => {
            let cut = io::stdout().is_terminal();
            out.text(&table(&jobs, Style { wide, colour: out.colour, cut }))
        }
    }
}

/// Page after page: one reply holds as much as a message may.
fn all_jobs(server: &Server) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    let mut request = EmptyRequest::default();
    loop {
        let page = server.ask(QUERY, |stub, option| stub.list_jobs_opt(&request, option))?;
        jobs.extend(page.jobs);
        if page.next_page_token.is_empty() {
            return Ok(jobs);
        }
        if page.next_page_token == request.page_token {
            // Asking again would go on for ever.
            let text = format!("the server at {} repeats a page of the list", server.address());
            return Err(Error::Call(grpcio::RpcStatusCode::INTERNAL, text.into()));
        }
        request.page_token = page.next_page_token;
    }
}
