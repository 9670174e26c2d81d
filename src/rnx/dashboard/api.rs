//! Questions with one answer, in the JSON of the commands of rnx: a script that reads `rnx --json` reads this as well.
//! Failures have that shape too, with the status of HTTP that fits the node's code.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::super::command::{CHANGE, QUERY, workflow_list};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::text::Sent;
use super::super::render::{
    json as shapes, monitor, monitor_json, network, runtime, security, volume, workflow_json,
};
use super::super::server::Server;
use super::http::{Reply, Request};
use super::pull::{Pull, Pulled};
use super::{Dashboard, form, streams, table};
use crate::pb::joblet::{
    CancelJobReq, CancelWorkflowRequest, DeleteJobReq, EmptyRequest, GetDenialsReq, GetJobStatusReq,
    GetNetworkReq, GetVolumeReq, GetWorkflowStatusRequest, StopJobReq,
};

/// Bytes of output in one answer, and the time for it.
const PART: (usize, Duration) = (1 << 20, Duration::from_secs(10));
/// Deadline of a stop, which is answered when the job has ended: above every grace period.
const STOP: Duration = Duration::from_secs(600);

/// The answer to a question, or to a change.
pub(super) fn answer(dashboard: &Dashboard, path: &[&str], request: &Request) -> Reply {
    let found = match request.method.as_str() {
        "GET" => get(dashboard, path, request),
        _ => post(dashboard.server, path, request),
    };
    match found {
        Ok(Some(value)) => Reply::json("200 OK", &value),
        Ok(None) => Reply::json(
            "404 Not Found",
            &json!({ "code": "NOT_FOUND", "message": "there is no such address" }),
        ),
        Err(why) => failed(&why),
    }
}

/// A failure as an answer.
pub(super) fn failed(why: &Error) -> Reply {
    let status = match why.code() {
        "INVALID_ARGUMENT" | "OUT_OF_RANGE" => "400 Bad Request",
        "PERMISSION_DENIED" => "403 Forbidden",
        "NOT_FOUND" => "404 Not Found",
        "FAILED_PRECONDITION" | "ALREADY_EXISTS" | "ABORTED" => "409 Conflict",
        "RESOURCE_EXHAUSTED" => "429 Too Many Requests",
        "UNIMPLEMENTED" => "501 Not Implemented",
        "UNAVAILABLE" | "UNAUTHENTICATED" => "503 Service Unavailable",
        "DEADLINE_EXCEEDED" => "504 Gateway Timeout",
        _ => "500 Internal Server Error",
    };
    Reply::json(status, &Out::failure_value(why))
}

fn get(dashboard: &Dashboard, path: &[&str], request: &Request) -> Result<Option<Value>> {
    let server = dashboard.server;
    Ok(Some(match path {
        ["session"] => json!({
            "node": server.address(),
            "role": dashboard.role,
            "version": env!("CARGO_PKG_VERSION"),
        }),
        ["jobs"] => jobs(server, request)?,
        ["jobs", id] => job(server, id)?,
        ["jobs", id, "security"] => layers(server, id)?,
        ["jobs", id, "log"] => part(server, id, request)?,
        ["jobs", id, "denials"] => {
            let asked = GetDenialsReq { uuid: (*id).into(), ..Default::default() };
            let found =
                server.ask_networks(QUERY, |networks, option| networks.get_denials_opt(&asked, option))?;
            value(&super::super::render::denials::shown(&found))?
        }
        ["workflows"] => {
            let found = workflow_list::workflows(server, QUERY, true)?;
            value(&found.iter().map(workflow_json::listed).collect::<Vec<_>>())?
        }
        ["workflows", id] => {
            let asked = GetWorkflowStatusRequest { workflowUuid: (*id).into(), ..Default::default() };
            let found = server.ask(QUERY, |jobs, option| jobs.get_workflow_status_opt(&asked, option))?;
            value(&workflow_json::shown(&found, request.query("detail").is_some()))?
        }
        ["node"] => {
            let asked = EmptyRequest::default();
            let found = server.ask_host(QUERY, |host, option| host.get_system_status_opt(&asked, option))?;
            monitor_json::json(&monitor::metrics(&found))
        }
        [kind @ ("networks" | "volumes" | "runtimes"), rest @ ..] => match resource(server, kind, rest)? {
            Some(found) => found,
            None => return Ok(None),
        },
        _ => return Ok(None),
    }))
}

fn resource(server: &Server, kind: &str, rest: &[&str]) -> Result<Option<Value>> {
    let all = EmptyRequest::default();
    Ok(Some(match (kind, rest) {
        ("networks", []) => value(&network::list_json(
            &server.ask_networks(QUERY, |n, option| n.list_networks_opt(&all, option))?,
        ))?,
        ("networks", [name]) => {
            let asked = GetNetworkReq { name: (*name).into(), ..Default::default() };
            value(&network::shown_json(
                &server.ask_networks(QUERY, |n, option| n.get_network_opt(&asked, option))?,
            ))?
        }
        ("volumes", []) => value(&volume::list_json(
            &server.ask_volumes(QUERY, |v, option| v.list_volumes_opt(&all, option))?,
        ))?,
        ("volumes", [name]) => {
            let asked = GetVolumeReq { name: (*name).into(), ..Default::default() };
            value(&volume::shown_json(
                &server.ask_volumes(QUERY, |v, option| v.get_volume_opt(&asked, option))?,
            ))?
        }
        ("runtimes", []) => value(&runtime::list_json(
            &server.ask_runtimes(QUERY, |r, option| r.list_runtimes_opt(&all, option))?,
        ))?,
        _ => return Ok(None),
    }))
}

fn post(server: &Server, path: &[&str], request: &Request) -> Result<Option<Value>> {
    Ok(Some(match path {
        ["jobs"] => {
            let wanted = form::request(&request.body)?;
            let started = server.ask(STOP, |jobs, option| jobs.run_job_opt(&wanted, option))?;
            let sent =
                Sent { files: 0, env: wanted.environment.len(), secrets: wanted.secret_environment.len() };
            value(&shapes::started(&started, sent))?
        }
        ["jobs", id, "stop"] => {
            let wanted =
                StopJobReq { uuid: (*id).into(), grace: grace(&request.body)?, ..Default::default() };
            value(&shapes::stopped(&server.ask(STOP, |jobs, option| jobs.stop_job_opt(&wanted, option))?))?
        }
        ["jobs", id, "cancel"] => {
            let wanted = CancelJobReq { uuid: (*id).into(), ..Default::default() };
            let done = server.ask(QUERY, |jobs, option| jobs.cancel_job_opt(&wanted, option))?;
            value(&shapes::canceled(&done, ""))?
        }
        ["jobs", id, "delete"] => {
            let wanted = DeleteJobReq { uuid: (*id).into(), ..Default::default() };
            value(&shapes::deleted(
                &server.ask(CHANGE, |jobs, option| jobs.delete_job_opt(&wanted, option))?,
            ))?
        }
        ["workflows", id, "cancel"] => {
            let wanted = CancelWorkflowRequest { workflowUuid: (*id).into(), ..Default::default() };
            let done = server.ask(CHANGE, |jobs, option| jobs.cancel_workflow_opt(&wanted, option))?;
            value(&workflow_json::canceled(&done))?
        }
        _ => return Ok(None),
    }))
}

/// The `grace` of a stop; an empty body has none.
fn grace(body: &[u8]) -> Result<String> {
    if body.is_empty() {
        return Ok(String::new());
    }
    let body: Value =
        serde_json::from_slice(body).map_err(|why| Error::usage(format!("cannot read the body: {why}")))?;
    match body.as_object().map(|fields| (fields.len(), fields.get("grace"))) {
        Some((0, _)) => Ok(String::new()),
        Some((1, Some(Value::String(grace)))) => Ok(grace.clone()),
        _ => Err(Error::usage("the body of a stop is {} or {\"grace\": \"10s\"}")),
    }
}

fn value(shape: &impl Serialize) -> Result<Value> {
    serde_json::to_value(shape).map_err(|why| Error::Print(why.into()))
}

/// One page of the list, oldest first.
fn jobs(server: &Server, request: &Request) -> Result<Value> {
    let statuses = request.query("status").unwrap_or_default();
    let wanted = EmptyRequest {
        limit: streams::number(request, "limit")?.unwrap_or_default(),
        page_token: request.query("page").unwrap_or_default().to_owned(),
        statuses: statuses.split(',').filter(|s| !s.is_empty()).map(str::to_ascii_uppercase).collect(),
        ..Default::default()
    };
    let page = server.ask(QUERY, |jobs, option| jobs.list_jobs_opt(&wanted, option))?;
    let name = request.query("name");
    let found = page
        .jobs
        .iter()
        .filter(|job| name.is_none_or(|pattern| super::super::command::glob::matches(pattern, &job.name)));
    let next = (!page.next_page_token.is_empty()).then_some(&page.next_page_token);
    Ok(json!({ "jobs": value(&found.map(shapes::listed).collect::<Vec<_>>())?, "nextPage": next }))
}

fn job(server: &Server, id: &str) -> Result<Value> {
    let asked = GetJobStatusReq { uuid: id.into(), ..Default::default() };
    let job = server.ask(QUERY, |jobs, option| jobs.get_job_status_opt(&asked, option))?;
    let mut shown = value(&shapes::shown(&job))?;
    shown["why"] = table::why(&job).into();
    shown["commandLine"] = super::super::render::command_line(&job.command, &job.args).into();
    Ok(shown)
}

fn layers(server: &Server, id: &str) -> Result<Value> {
    let asked = GetJobStatusReq { uuid: id.into(), security: true, ..Default::default() };
    let job = server.ask(QUERY, |jobs, option| jobs.get_job_status_opt(&asked, option))?;
    value(&job.security_layers.iter().map(security::row).collect::<Vec<_>>())
}

/// A bounded part of an output that is there: the chunks from `from` up to `before`.
fn part(server: &Server, id: &str, request: &Request) -> Result<Value> {
    let mut wanted = streams::output(id, request)?;
    wanted.no_follow = true;
    let before = streams::number(request, "before")?.unwrap_or(u64::MAX);
    let mut pull = Pull::new(server.open_output(&wanted)?);
    let until = Instant::now() + PART.1;
    let (mut chunks, mut bytes, mut next) = (Vec::new(), 0, None);
    loop {
        match pull.next(until.saturating_duration_since(Instant::now())) {
            Pulled::Message(chunk) if chunk.seq >= before => break,
            Pulled::Message(chunk) if bytes >= PART.0 => {
                next = Some(chunk.seq);
                break;
            }
            Pulled::Message(chunk) => {
                bytes += chunk.payload.len();
                if !chunk.payload.is_empty() || chunk.lost_bytes > 0 {
                    chunks.push(value(&shapes::chunk(&chunk))?);
                }
            }
            Pulled::Quiet => {
                let text = String::from("the node is too slow with this output");
                return Err(Error::Call(grpcio::RpcStatusCode::DEADLINE_EXCEEDED, text.into()));
            }
            Pulled::End(Some(why)) => return Err(server.explain(why)),
            Pulled::End(None) => break,
        }
    }
    Ok(json!({ "chunks": chunks, "next": next }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_is_the_only_field_of_a_stop() {
        assert_eq!(grace(b"").unwrap(), "");
        assert_eq!(grace(b"{}").unwrap(), "");
        assert_eq!(grace(br#"{"grace":"5s"}"#).unwrap(), "5s");
        for wrong in ["[]", "x", r#"{"grace":5}"#, r#"{"grace":"5s","x":1}"#, r#"{"x":"y"}"#] {
            assert!(grace(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn failures_have_the_status_of_their_code() {
        let call = |code| failed(&Error::Call(code, String::from("why").into()));
        use grpcio::RpcStatusCode as Code;
        for (code, status) in [
            (Code::PERMISSION_DENIED, "403 Forbidden"),
            (Code::NOT_FOUND, "404 Not Found"),
            (Code::UNAVAILABLE, "503 Service Unavailable"),
            (Code::INTERNAL, "500 Internal Server Error"),
        ] {
            assert_eq!(call(code).status, status);
        }
        let body = failed(&Error::usage("no").hint("try")).body;
        assert_eq!(
            String::from_utf8_lossy(&body),
            r#"{"code":"INVALID_ARGUMENT","details":[{"hint":"try"}],"message":"no"}"#
        );
    }
}
