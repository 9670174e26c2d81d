//! The selection of jobs that a list, a name or a completion asks for.

use super::cli::{Values, value};
use super::command::glob;
use super::error::{Error, Result};
use crate::pb::joblet::{EmptyRequest, Job, Jobs};

/// The selection of jobs for a list; by default all of them.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// In capitals; empty means every status.
    statuses: Vec<String>,
    /// The client filters by name and workflow, because the server does not.
    name: Option<Name>,
    /// The whole id of a workflow.
    pub(crate) workflow: Option<String>,
    limit: Option<i32>,
    /// The newest so many. The server lists from the oldest on, so the client reads them all and keeps these.
    last: Option<usize>,
    newest_first: bool,
}

/// A name that is looked for.
#[derive(Debug)]
enum Name {
    /// This name. A command that changes a job never takes a pattern for its name.
    Exact(String),
    /// Every name of this pattern.
    Pattern(String),
}

impl Name {
    fn takes(&self, name: &str) -> bool {
        match self {
            Name::Exact(exact) => name == exact,
            Name::Pattern(pattern) => glob::matches(pattern, name),
        }
    }
}

impl Wanted {
    /// Jobs of this name.
    pub(crate) fn named(name: &str) -> Self {
        Wanted { name: Some(Name::Exact(name.to_string())), ..Default::default() }
    }

    /// Jobs in one of these statuses, or all where none is given.
    pub(crate) fn in_statuses(statuses: &[&str]) -> Self {
        Wanted { statuses: statuses.iter().map(|s| s.to_string()).collect(), ..Default::default() }
    }

    /// The newest so many jobs.
    pub(crate) fn newest(most: usize) -> Self {
        Wanted { last: Some(most), ..Default::default() }
    }

    /// The selection that the flags of `rnx job list` make; a workflow is looked up by the caller.
    ///
    /// # Errors
    /// A value that is none.
    pub(crate) fn of(values: &Values) -> Result<Self> {
        let given = values.all("status");
        let words = given.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|w| !w.is_empty());
        let statuses: Vec<String> = words.map(str::to_ascii_uppercase).collect();
        if statuses.is_empty() && !given.is_empty() {
            let why = "name one status or more, such as RUNNING,FAILED";
            return Err(value::invalid("status", &given.concat(), why));
        }
        let number = |flag: &str| {
            let number = values.last(flag).map(|text| match text.parse::<i32>() {
                Ok(n @ 1..) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(n),
                _ => Err(value::invalid(flag, &text, "give how many jobs, a whole number from 1 on")),
            });
            number.transpose()
        };
        let (limit, last) = (number("limit")?, number("last")?);
        if limit.is_some() && last.is_some() {
            return Err(Error::usage("--limit and --last exclude each other: the oldest, or the newest"));
        }
        Ok(Wanted {
            statuses,
            name: values.last("name").map(Name::Pattern),
            workflow: None,
            limit,
            last: last.and_then(|n| usize::try_from(n).ok()),
            newest_first: values.is("reverse"),
        })
    }

    /// The jobs in the wanted order, page after page: one reply holds as much as a message may.
    pub(crate) fn jobs(&self, page: impl FnMut(&EmptyRequest) -> Result<Jobs>) -> Result<Vec<Job>> {
        let mut jobs = self.oldest_first(page)?;
        if self.newest_first {
            jobs.reverse();
        }
        Ok(jobs)
    }

    fn oldest_first(&self, mut page: impl FnMut(&EmptyRequest) -> Result<Jobs>) -> Result<Vec<Job>> {
        let most = self.limit.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        let mut request = EmptyRequest { statuses: self.statuses.clone(), ..Default::default() };
        if self.name.is_none() && self.workflow.is_none() {
            request.limit = self.limit.unwrap_or_default();
        }
        let mut jobs = Vec::new();
        loop {
            let answer = page(&request)?;
            let fits = |job: &Job| {
                self.name.as_ref().is_none_or(|name| name.takes(&job.name))
                    && self.workflow.as_ref().is_none_or(|uuid| *uuid == job.workflowUuid)
            };
            jobs.extend(answer.jobs.into_iter().filter(fits).take(most - jobs.len()));
            if let Some(last) = self.last {
                // No more is held than these and one page.
                jobs.drain(..jobs.len().saturating_sub(last));
            }
            if answer.next_page_token.is_empty() || jobs.len() == most {
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
}

#[cfg(test)]
mod tests {
    use super::super::cli::{Parsed, parse};
    use super::*;

    fn job(uuid: &str, name: &str) -> Job {
        Job { uuid: uuid.into(), name: name.into(), ..Default::default() }
    }

    fn page(jobs: Vec<Job>, next: &str) -> Jobs {
        Jobs { jobs, next_page_token: next.into(), ..Default::default() }
    }

    fn wanted(line: &str) -> Result<Wanted> {
        match parse(line.split_whitespace().map(Into::into).collect()) {
            Ok(Parsed::Invoke(i)) => Wanted::of(&i.values),
            other => panic!("{line}: {other:?}"),
        }
    }

    /// Three pages of two; returns the names found and the requests.
    fn ask(wanted: &Wanted) -> (Vec<String>, Vec<EmptyRequest>) {
        let mut asked = Vec::new();
        let jobs = wanted.jobs(|request| {
            asked.push(request.clone());
            Ok(match request.page_token.as_str() {
                "" => page(vec![job("a", "x"), job("b", "")], "2"),
                "2" => page(vec![job("c", "x"), job("d", "y")], "3"),
                _ => page(vec![job("e", "x"), job("f", "x")], ""),
            })
        });
        (jobs.unwrap().into_iter().map(|j| j.uuid).collect(), asked)
    }

    #[test]
    fn every_page_is_fetched_in_order() {
        let (found, asked) = ask(&Wanted::default());
        assert_eq!(found, ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(asked[0], EmptyRequest::default());
    }

    #[test]
    fn the_server_selects_by_status_and_number_and_rnx_by_name() {
        let by_status = wanted("job list --status running,FAILED --status stopped --limit 3").unwrap();
        let (found, asked) = ask(&by_status);
        assert_eq!(found, ["a", "b", "c"]);
        assert_eq!(asked.len(), 2, "no page is asked for beyond the limit");
        assert!(asked.iter().all(|r| r.limit == 3 && r.statuses == ["RUNNING", "FAILED", "STOPPED"]));
        let (found, asked) = ask(&wanted("job list --name x --limit=3").unwrap());
        assert_eq!(found, ["a", "c", "e"]);
        assert!(asked.iter().all(|r| r.limit == 0), "the server's limit would count other names");
        assert_eq!(ask(&wanted("job list --name z").unwrap()).0, Vec::<String>::new());
    }

    #[test]
    fn jobs_of_one_workflow_are_found_on_every_page() {
        let of = |uuid: &str, workflow: &str| Job { workflowUuid: workflow.into(), ..job(uuid, "") };
        let wanted = Wanted { workflow: Some("w".into()), limit: Some(2), ..Default::default() };
        let mut limits = Vec::new();
        let jobs = wanted.jobs(|request| {
            limits.push(request.limit);
            Ok(match request.page_token.as_str() {
                "" => page(vec![of("a", "w"), of("b", "")], "2"),
                _ => page(vec![of("c", "v"), of("d", "w"), of("e", "w")], ""),
            })
        });
        assert_eq!(jobs.unwrap().into_iter().map(|j| j.uuid).collect::<Vec<_>>(), ["a", "d"]);
        assert_eq!(limits, [0, 0]);
    }

    #[test]
    fn the_newest_are_kept_and_come_first_on_request() {
        let found = |line: &str| ask(&wanted(line).unwrap()).0;
        assert_eq!(found("job list --last 3"), ["d", "e", "f"]);
        assert_eq!(found("job list --last 3 --reverse"), ["f", "e", "d"]);
        assert_eq!(found("job list -r --limit 2"), ["b", "a"]);
        assert_eq!(found("job list --last 2 --name x"), ["e", "f"]);
        assert_eq!(found("job list --last 100"), ["a", "b", "c", "d", "e", "f"]);
        let (_, asked) = ask(&wanted("job list --last 3").unwrap());
        assert!(asked.iter().all(|r| r.limit == 0), "the server's limit counts from the oldest on");
        let e = wanted("job list --last 3 --limit 3").unwrap_err();
        assert!(e.to_string().contains("exclude each other"), "{e}");
    }

    #[test]
    fn a_listed_name_may_be_a_pattern_and_a_looked_up_name_is_none() {
        assert_eq!(ask(&wanted("job list --name [xy]").unwrap()).0, ["a", "c", "d", "e", "f"]);
        assert_eq!(ask(&Wanted::named("[xy]")).0, [""; 0]);
        assert_eq!(ask(&Wanted::named("*")).0, [""; 0]);
    }

    #[test]
    fn a_limit_is_a_number_from_one_on_and_a_status_is_a_word() {
        for line in [
            "--limit 0",
            "--limit x",
            "--limit +3",
            "--limit=-1",
            "--limit 99999999999",
            "--status ,",
            "--last 0",
            "--last x",
        ] {
            let e = wanted(&format!("job list {line}")).unwrap_err();
            assert!(e.to_string().starts_with("invalid value "), "{line}: {e}");
        }
    }

    #[test]
    fn server_that_repeats_a_page_token_ends_the_list_with_an_error() {
        let e = Wanted::default().jobs(|_| Ok(page(vec![job("a", "")], "again"))).unwrap_err();
        assert_eq!(e.code(), "INTERNAL");
    }
}
