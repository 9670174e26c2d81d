//! The messages about commands in running jobs.

use super::Refusal;
use super::reply::time;
use super::request::{invalid, job, short, variables};
use crate::job::exec::{ExecSpec, ExecView};
use crate::job::{JobRef, Status, spec, units};
use crate::pb::joblet::{ExecInfo, ExecInfos, ExecRef, SignalExecReq, StartExecReq};

/// The job and the command that a client asks for; `strict`: as `joblet.validateCommands` has it.
///
/// # Errors
/// Those of [`job`]; a command, a variable, a directory or a timeout that no job could have either.
pub(in crate::api) fn start(request: StartExecReq, strict: bool) -> Result<(JobRef, Box<ExecSpec>), Refusal> {
    let job = job(&request.uuid)?;
    spec::check_command(&request.command, &request.args, strict)?;
    short("workDir", &request.workDir)?;
    let work_dir = match request.workDir.as_str() {
        "" => None,
        text => Some(spec::work_dir(text)?),
    };
    let timeout = match request.timeout.as_str() {
        "" => None,
        text => {
            short("timeout", text)?;
            match units::parse_duration(text) {
                Ok(timeout) if !timeout.is_zero() => Some(timeout),
                Ok(_) => return invalid(format!("invalid timeout \"{text}\": it must be longer than 0")),
                Err(why) => return invalid(format!("invalid timeout: {why}")),
            }
        }
    };
    let (environment, secrets) = variables(request.environment, request.secret_environment);
    let (command, args, stdin) = (request.command, request.args, request.stdin);
    spec::check_exec((&command, &args), &environment, &secrets)?;
    Ok((job, Box::new(ExecSpec { command, args, environment, secrets, work_dir, timeout, stdin })))
}

/// The job and the command that a message names.
///
/// # Errors
/// Those of [`job`]; no command.
pub(in crate::api) fn named(request: &ExecRef) -> Result<(JobRef, String), Refusal> {
    Ok((job(&request.uuid)?, command(&request.exec)?))
}

/// The job, the command and the signal for it.
///
/// # Errors
/// Those of [`named`]; no standard signal.
pub(in crate::api) fn signal(request: &SignalExecReq) -> Result<(JobRef, String, i32), Refusal> {
    if !(1..=31).contains(&request.signal) {
        return invalid(format!("invalid signal {}: 1 to 31", request.signal));
    }
    Ok((job(&request.uuid)?, command(&request.exec)?, request.signal))
}

/// The id of a command, or its beginning.
fn command(text: &str) -> Result<String, Refusal> {
    short("exec", text)?;
    match text.trim() {
        "" => invalid("exec is required: the id of a command, or the beginning of it".to_owned()),
        text => Ok(text.to_ascii_lowercase()),
    }
}

/// A command for a client.
pub(in crate::api) fn info(view: ExecView) -> ExecInfo {
    let (ended_ns, end) = view.end.unzip();
    let of = |f: fn(&crate::job::exec::ExecEnd) -> i32| end.as_ref().map_or(0, f);
    ExecInfo {
        uuid: view.job.to_string(),
        exec: view.id.to_string(),
        number: view.number,
        status: end.as_ref().map_or(Status::Running, |end| end.status()).as_str().to_owned(),
        exit_code: of(|end| end.code()),
        exit_reason: end.as_ref().map_or("", |end| end.reason()).to_owned(),
        signal: of(|end| end.signal()),
        message: end.as_ref().map_or("", |end| end.message()).to_owned(),
        start_time: time(Some(view.started_ns)),
        end_time: time(ended_ns),
        command: view.command,
        args: view.args,
        last_seq: view.rows,
        ..ExecInfo::default()
    }
}

/// The commands of a job for a client.
pub(in crate::api) fn infos(views: Vec<ExecView>) -> ExecInfos {
    ExecInfos { execs: views.into_iter().map(info).collect(), ..ExecInfos::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(change: impl FnOnce(&mut StartExecReq)) -> Result<ExecSpec, Refusal> {
        let mut request = StartExecReq {
            uuid: "f47ac10b-58cc-4372-a567-0e02b2c3d479".into(),
            command: "true".into(),
            ..StartExecReq::default()
        };
        change(&mut request);
        start(request, true).map(|(_, spec)| *spec)
    }

    #[test]
    fn command_of_a_job_is_checked_as_its_payload() {
        let plain = asked(|_| {}).unwrap();
        assert_eq!((plain.work_dir, plain.timeout), (None, None));
        let full = asked(|r| (r.workDir, r.timeout) = ("sub".into(), "5s".into())).unwrap();
        assert_eq!((full.work_dir.as_deref(), full.timeout.unwrap().as_secs()), (Some("/work/sub"), 5));
        asked(|r| r.command = String::new()).unwrap_err();
        asked(|r| r.args = vec!["a\0".into()]).unwrap_err();
        asked(|r| r.workDir = "/proc/self".into()).unwrap_err();
        asked(|r| r.timeout = "0s".into()).unwrap_err();
        asked(|r| drop(r.environment.insert("JOB_ID".into(), "x".into()))).unwrap_err();
        asked(|r| r.uuid = String::new()).unwrap_err();
    }

    #[test]
    fn signal_is_a_standard_one_for_a_named_command() {
        let request = |exec: &str, signal| SignalExecReq {
            uuid: "f47ac10b".into(),
            exec: exec.into(),
            signal,
            ..SignalExecReq::default()
        };
        assert_eq!(signal(&request("AB", 2)).unwrap().1, "ab");
        for wrong in [request("", 2), request("ab", 0), request("ab", 32), request("ab", -9)] {
            signal(&wrong).unwrap_err();
        }
    }
}
