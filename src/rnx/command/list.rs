//! `rnx job list`

use std::io::{self, IsTerminal};

use super::super::cli::{Invocation, value};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::table::{Style, table};
use super::super::render::{json, text};
use super::{QUERY, connect};
use crate::pb::joblet::{EmptyRequest, Job, Jobs};

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
    let server = connect(&invocation.values, out)?;
    let jobs = all_jobs(|request| server.ask(QUERY, |jobs, option| jobs.list_jobs_opt(request, option)))?;
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
fn all_jobs(mut page: impl FnMut(&EmptyRequest) -> Result<Jobs>) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    let mut request = EmptyRequest::default();
    loop {
        let answer = page(&request)?;
        jobs.extend(answer.jobs);
        if answer.next_page_token.is_empty() {
            return Ok(jobs);
        }
        if answer.next_page_token == request.page_token {
            // Asking again would go on for ever.
            let text = String::from("the server answers one page of the list over and over");
            return Err(Error::Call(grpcio::RpcStatusCode::INTERNAL, text.into()));
        }
        request.page_token = answer.next_page_token;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(uuid: &str, next: &str) -> Jobs {
        Jobs {
            jobs: vec![Job { uuid: uuid.into(), ..Default::default() }],
            next_page_token: next.into(),
            ..Default::default()
        }
    }

    #[test]
    fn every_page_is_fetched_in_order() {
        let jobs = all_jobs(|request| {
            Ok(match request.page_token.as_str() {
                "" => page("a", "2"),
                "2" => page("b", "3"),
                _ => page("c", ""),
            })
        });
        let found: Vec<String> = jobs.unwrap().into_iter().map(|j| j.uuid).collect();
        assert_eq!(found, ["a", "b", "c"]);
    }

    #[test]
    fn a_server_that_repeats_itself_is_not_asked_for_ever() {
        let e = all_jobs(|_| Ok(page("a", "again"))).unwrap_err();
        assert_eq!(e.code(), "INTERNAL");
    }
}
