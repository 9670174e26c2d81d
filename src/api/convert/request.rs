//! From messages to the types of a job. A field that breaks a rule is refused here by its name.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{Refusal, Rules, given};
use crate::daemon::command::{EgressWish, Page};
use crate::job::egress::List;
use crate::job::limits::{CoreSet, CpuPercent, IoBytes, Limits, MemoryMib};
use crate::job::publish::{self, Published};
use crate::job::units;
use crate::job::{
    ClientId, GpuWish, InvalidField, JobRef, JobSpec, NetRate, NetworkMode, Profile, RunAs, RuntimeSpec,
    Secret, Status, User, spec, volume,
};
use crate::metrics::How;
use crate::metrics::SampleQuery;
use crate::output::lines::Needle;
use crate::output::{LogQuery, Stream};
use crate::pb::joblet::{
    ChangeEgressReq, EmptyRequest, FileUpload, GetJobLogsReq, JobMetricsRequest, OutputStream, RunJobRequest,
    StopJobReq,
};
use crate::upload::{self, Upload};

/// Bytes of the longest text in a short field (cpuCores, network, timeout). A core set of single numbers for the largest
/// machine stays below it.
const SHORT: usize = 4096;
/// Bytes of the longest filter of a log.
const FILTER: usize = 1024;
/// Most characters of a text that an error repeats.
const REPEATED: usize = 64;

/// Converts a whole request to run a job.
///
/// # Errors
/// The first field that is not supported, not allowed to clients, or breaks a rule.
pub(in crate::api) fn run(
    request: RunJobRequest,
    rules: &Rules,
) -> Result<(Box<JobSpec>, Vec<Upload>), Refusal> {
    supported(&request)?;
    spec::check_name(&request.name)?;
    let runtime = runtime(&request.runtime)?;
    // That of the runtime, if it has one: the loop knows.
    let has_command = runtime.is_none() || !request.command.is_empty() || !request.args.is_empty();
    if has_command {
        spec::check_command(&request.command, &request.args, rules.validate_commands)?;
    }
    let limits = limits(&request, rules)?;
    short("workDir", &request.workDir)?;
    let work_dir = match &runtime {
        Some(_) if request.workDir.is_empty() => String::new(),
        _ => spec::work_dir(&request.workDir)?,
    };
    let network = network(&request.network, rules)?;
    let egress = egress(&request.egress, &network, rules)?;
    let rate = rate(&request, &network, rules)?;
    let publish = publish(&request.publish, &network, rules)?;
    let volumes = volume::parse_uses(&request.volumes)?;
    let gpus = GpuWish::new(request.gpu_count, request.gpu_memory_mb)?;
    let profile = Profile::parse(&request.profile, &repeated(&request.profile))?;
    rules.check_profile(profile)?;
    let (user, run_as) = user(&request.user, profile, rules)?;
    spec::check_writable(request.writable, runtime.as_ref())?;
    let timeout = timeout(&request.timeout, rules)?;
    let stop_grace = grace("stop_grace", &request.stop_grace, rules)?;
    let not_before_ns = schedule(&request.schedule)?;
    spec::check_request_id(&request.request_id)?;
    let uploads = uploads(request.uploads, rules)?;
    let (environment, secrets) = variables(request.environment, request.secret_environment);
    let spec = Box::new(JobSpec {
        name: request.name,
        command: request.command,
        args: request.args,
        limits,
        work_dir,
        environment,
        secrets,
        network,
        egress,
        rate,
        publish,
        volumes,
        gpus,
        runtime,
        writable: request.writable,
        stdin: request.stdin,
        user,
        run_as,
        profile,
        timeout,
        stop_grace,
        upload_paths: shown_paths(&uploads),
        upload_handles: Vec::new(),
        not_before_ns,
        request_id: request.request_id,
        // The call knows it, not the message.
        client: ClientId::default(),
        part: None,
        build: None,
    });
    spec::check_environment(&spec)?;
    Ok((spec, uploads))
}

/// Refuses fields that the daemon would silently ignore.
fn supported(request: &RunJobRequest) -> Result<(), Refusal> {
    for (field, set) in [
        ("workflowUuid", !request.workflowUuid.is_empty()),
        ("jobUuid", !request.jobUuid.is_empty()),
        ("requirements", !request.requirements.is_empty()),
    ] {
        if set {
            return invalid(format!("field \"{field}\" is set by joblet itself, not by clients"));
        }
    }
    Ok(())
}

pub(super) fn invalid<T>(text: String) -> Result<T, Refusal> {
    Err(InvalidField::new(text).into())
}

/// Refuses a long text before anything copies it into an error.
pub(super) fn short(field: &str, text: &str) -> Result<(), Refusal> {
    if text.len() > SHORT {
        return invalid(format!("{field} has {} bytes, at most {SHORT} are allowed", text.len()));
    }
    Ok(())
}

fn limits(request: &RunJobRequest, rules: &Rules) -> Result<Limits, Refusal> {
    short("cpuCores", &request.cpuCores)?;
    let cores = match request.cpuCores.trim() {
        "" => None,
        text => Some(CoreSet::parse(text)?),
    };
    if let Some(cores) = cores.as_ref().filter(|cores| !cores.is_subset_of(&rules.cores)) {
        return invalid(format!(
            "invalid cpuCores \"{cores}\": jobs on this node can use cores {}",
            rules.cores
        ));
    }
    let memory = given(request.maxMemory.into(), |mib| MemoryMib::new(mib, rules.max_memory_mib))?;
    Ok(Limits {
        cpu: given(request.maxCpu.into(), CpuPercent::new)?.or(rules.cpu),
        memory: memory.or(rules.memory),
        io: given(request.maxIobps.into(), IoBytes::new)?.or(rules.io),
        cores,
        pids: rules.pids,
    })
}

/// The latest start that can be scheduled, in years from now.
const SCHEDULE_YEARS: i64 = 10;

/// The time of the start, ns since the epoch; a past time means at once, like no time.
fn schedule(text: &str) -> Result<Option<i64>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    short("schedule", text)?;
    let bad = |why: &str| invalid(format!("invalid schedule format: \"{}\": {why}", repeated(text)));
    let Ok(at) = text.parse::<Timestamp>() else {
        return bad("give a time as RFC 3339, such as 2026-08-03T15:00:00Z or 2026-08-03T17:00:00+02:00");
    };
    let latest = Timestamp::now().as_second().saturating_add(SCHEDULE_YEARS * 366 * 24 * 3600);
    if at.as_second() > latest {
        return bad(&format!("it is more than {SCHEDULE_YEARS} years from now"));
    }
    match i64::try_from(at.as_nanosecond()) {
        Ok(at) => Ok(Some(at)),
        Err(_) => Ok(Some(0)),
    }
}

pub(super) fn network(asked: &str, rules: &Rules) -> Result<NetworkMode, Refusal> {
    match asked {
        "" => Ok(rules.network.clone()),
        "host" if !rules.host.network => Err(Refusal::Forbidden(
            "network \"host\" is not allowed on this node; its configuration would have to say \
             network.allow_host: true"
                .to_owned(),
        )),
        // Whether there is a network of that name only the loop knows.
        other => Ok(other.parse()?),
    }
}

/// The egress list of the client, or the node's where it gives none; no more than the node allows.
fn egress(asked: &[String], network: &NetworkMode, rules: &Rules) -> Result<Option<List>, Refusal> {
    if asked.is_empty() {
        return Ok(rules.egress.clone().filter(|_| network.is_wired()));
    }
    network.check_egress()?;
    let list = List::parse(asked).map_err(|why| InvalidField::new(why.to_string()))?;
    rules.check_egress(&list)?;
    Ok(Some(list))
}

/// The rate of the job's network: the node's where the client gives none, and no higher one.
fn rate(request: &RunJobRequest, network: &NetworkMode, rules: &Rules) -> Result<NetRate, Refusal> {
    let rate = NetRate::new(request.net_rate_up, request.net_rate_down)?;
    network.check_rate(rate)?;
    if network.is_wired() { Ok(rate.within(rules.net_rate)?) } else { Ok(rate) }
}

/// The ports of the host that the job gets.
fn publish(texts: &[String], network: &NetworkMode, rules: &Rules) -> Result<Vec<Published>, Refusal> {
    let ports = texts.iter().map(|text| Published::parse(text)).collect::<Result<Vec<_>, _>>()?;
    network.check_publish(&ports)?;
    publish::check(&ports)?;
    rules.check_publish(&ports)?;
    Ok(ports)
}

/// The root that the client names. Whether there is such a runtime only the loop knows.
pub(in crate::api) fn runtime(asked: &str) -> Result<Option<RuntimeSpec>, Refusal> {
    short("runtime", asked)?;
    Ok(if asked.is_empty() { None } else { Some(asked.parse()?) })
}

/// The user inside, the node's where the client names none.
/// One of the two users that every job can be, or in a container any that its root knows.
fn user(asked: &str, profile: Profile, rules: &Rules) -> Result<(User, RunAs), Refusal> {
    if asked.is_empty() {
        return Ok((rules.user, RunAs::Unnamed));
    }
    match User::parse(asked, &repeated(asked)) {
        Ok(user) => Ok((user, RunAs::Own)),
        Err(why) if profile.is_strict() => {
            invalid(format!("{}; a job of the profile container can be any user of its root", why.0))
        }
        Err(_) => {
            short("user", asked)?;
            Ok((User::Root, RunAs::Known(asked.parse()?)))
        }
    }
}

/// The client's timeout, or the node's where it gives none. One above the node's is refused: a job that is stopped
/// sooner than its client asked for would look like a fault.
fn timeout(asked: &str, rules: &Rules) -> Result<Option<Duration>, Refusal> {
    if asked.is_empty() {
        return Ok(rules.job_timeout);
    }
    let wanted = time_left(asked)?;
    match rules.job_timeout {
        Some(bound) if wanted > bound => invalid(format!(
            "invalid timeout \"{asked}\": joblet.jobTimeout of this node allows at most {}; ask for less, or raise \
             that key",
            units::format_duration(bound)
        )),
        _ => Ok(Some(wanted)),
    }
}

/// A timeout that is given.
pub(super) fn time_left(asked: &str) -> Result<Duration, Refusal> {
    short("timeout", asked)?;
    match units::parse_duration(asked) {
        Ok(wanted) if wanted.is_zero() => invalid(format!(
            "invalid timeout \"{asked}\": it must be longer than 0; leave it out for the node's own bound"
        )),
        Ok(wanted) => Ok(wanted),
        Err(why) => invalid(format!("invalid timeout: {why}")),
    }
}

/// Time between TERM and KILL; `None`: not given.
fn grace(field: &str, asked: &str, rules: &Rules) -> Result<Option<Duration>, Refusal> {
    if asked.is_empty() {
        return Ok(None);
    }
    short(field, asked)?;
    let grace = match units::parse_duration(asked) {
        Ok(grace) => grace,
        Err(why) => return invalid(format!("invalid {field}: {why}")),
    };
    if grace > rules.max_stop_grace {
        return invalid(format!(
            "invalid {field} \"{}\": at most {} on this node (joblet.maxStopGrace)",
            repeated(asked),
            units::format_duration(rules.max_stop_grace)
        ));
    }
    Ok(Some(grace))
}

pub(super) fn uploads(files: Vec<FileUpload>, rules: &Rules) -> Result<Vec<Upload>, Refusal> {
    let uploads = files.into_iter().map(upload).collect::<Result<Vec<_>, _>>()?;
    upload::check(&uploads, &rules.link_roots).map_err(Refusal::Upload)?;
    Ok(uploads)
}

/// One entry of a request; [`upload::check`] has the rules for it.
pub(super) fn upload(file: FileUpload) -> Result<Upload, Refusal> {
    if !file.path.is_empty() && !file.path_bytes.is_empty() {
        let shown = repeated(&file.path);
        return invalid(format!("upload \"{shown}\" has a path and path_bytes; give one of them"));
    }
    Ok(Upload {
        path: if file.path_bytes.is_empty() { file.path.into_bytes() } else { file.path_bytes },
        content: file.content,
        // Clients in Go send bits of their own beside the permissions.
        mode: file.mode & 0o777,
        is_directory: file.isDirectory,
        target: Some(file.symlink_target).filter(|target| !target.is_empty()),
    })
}

/// Most bytes of upload paths that a job's status repeats.
const SHOWN_PATHS: usize = 64 * 1024;

/// The upload paths that a status shows: all, unless they are so many that they would fill replies.
fn shown_paths(uploads: &[Upload]) -> Vec<String> {
    let mut room = SHOWN_PATHS;
    let mut shown: Vec<String> = Vec::new();
    for upload in uploads {
        let Some(left) = room.checked_sub(upload.path.len() + 2) else {
            shown.push(format!("... and {} more", uploads.len() - shown.len()));
            break;
        };
        room = left;
        shown.push(String::from_utf8_lossy(&upload.path).into_owned());
    }
    shown
}

type Variables = (Vec<(String, String)>, Vec<(String, Secret)>);

/// Both maps, sorted by name, because a map keeps no order. A secret hides the plain variable of its name.
pub(super) fn variables(plain: HashMap<String, String>, secret: HashMap<String, String>) -> Variables {
    let mut plain: Vec<_> = plain.into_iter().filter(|(name, _)| !secret.contains_key(name)).collect();
    plain.sort_unstable();
    let mut secret: Vec<_> = secret.into_iter().map(|(name, value)| (name, Secret::new(value))).collect();
    secret.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    (plain, secret)
}

/// The job that a request names.
///
/// # Errors
/// No id, a prefix that is too short, or a text that is longer than any id.
pub(in crate::api) fn job(uuid: &str) -> Result<JobRef, Refusal> {
    let text = uuid.trim();
    if text.len() > REPEATED {
        return Err(Refusal::NotFound(repeated(text)));
    }
    Ok(JobRef::parse(text)?)
}

/// The job to stop, and the time that it gets.
///
/// # Errors
/// Those of [`job`], and a grace that is no duration or too long.
pub(in crate::api) fn stop(
    request: &StopJobReq,
    rules: &Rules,
) -> Result<(JobRef, Option<Duration>), Refusal> {
    Ok((job(&request.uuid)?, grace("grace", &request.grace, rules)?))
}

/// The job whose egress list is to be changed, and how; no entry: to be shown.
///
/// # Errors
/// Those of [`job`], and more entries than a list has.
pub(in crate::api) fn change_egress(
    request: ChangeEgressReq,
    rules: &Rules,
    client: ClientId,
) -> Result<(JobRef, Box<EgressWish>), Refusal> {
    let ChangeEgressReq { uuid, add, remove, .. } = request;
    let job = job(&uuid)?;
    for (entries, field) in [(&add, "add"), (&remove, "remove")] {
        // An entry that is none is refused here; whether it can be taken out, the loop knows.
        List::parse(entries).map_err(|why| InvalidField::new(format!("invalid {field}: {why}")))?;
    }
    let maximum = rules.egress_maximum.clone();
    Ok((job, Box::new(EgressWish { add, remove, maximum, client })))
}

/// The beginning of a text, as much as an error may repeat.
pub(super) fn repeated(text: &str) -> String {
    let mut start: String = text.chars().take(REPEATED).collect();
    if start.len() < text.len() {
        start += "...";
    }
    start.escape_debug().to_string()
}

/// The job whose output is wanted, and the wanted part of it.
///
/// # Errors
/// Those of [`job`]; an unknown stream, a filter that is too long or has a line break, an end before the
/// start.
pub(in crate::api) fn logs(request: &GetJobLogsReq) -> Result<(JobRef, LogQuery), Refusal> {
    let stream = match request.stream.enum_value() {
        Ok(OutputStream::OUTPUT_STREAM_UNSPECIFIED) => None,
        Ok(OutputStream::OUTPUT_STREAM_STDOUT) => Some(Stream::Stdout),
        Ok(OutputStream::OUTPUT_STREAM_STDERR) => Some(Stream::Stderr),
        Err(number) => {
            return invalid(format!("invalid stream {number}: 1 is stdout, 2 is stderr, 0 is both"));
        }
    };
    let tail = request.tail.map(u64::try_from).transpose();
    let tail = tail.or_else(|_| invalid("tail cannot be negative".to_owned()))?;
    let (since_ns, until_ns) = (moment("since_ns", request.since_ns)?, moment("until_ns", request.until_ns)?);
    if let (Some(since), Some(until)) = (since_ns, until_ns)
        && until < since
    {
        return invalid("until_ns is before since_ns".to_owned());
    }
    let query = LogQuery {
        stream,
        filter: filter(&request.filter)?,
        since_ns,
        until_ns,
        tail,
        no_follow: request.no_follow,
        from_sequence: request.from_seq,
    };
    Ok((job(&request.uuid)?, query))
}

/// A time in ns since the epoch, where 0 means none.
fn moment(field: &str, ns: i64) -> Result<Option<i64>, Refusal> {
    if ns < 0 {
        return invalid(format!("{field} cannot be negative"));
    }
    Ok(Some(ns).filter(|ns| *ns > 0))
}

fn filter(text: &str) -> Result<Option<Needle>, Refusal> {
    if text.len() > FILTER {
        return invalid(format!("filter has {} bytes, at most {FILTER} are allowed", text.len()));
    }
    if text.contains('\n') {
        return invalid("filter has a line break: it is looked for within lines".to_owned());
    }
    Ok((!text.is_empty()).then(|| Needle::new(text.as_bytes())))
}

/// The job whose samples are wanted, and the wanted ones.
///
/// # Errors
/// Those of [`job`]; a negative number, an end before the start, an unknown fold, or an interval without a fold.
pub(in crate::api) fn samples(request: &JobMetricsRequest) -> Result<(JobRef, SampleQuery), Refusal> {
    for (field, negative) in [
        ("since_ns", request.since_ns < 0),
        ("until_ns", request.until_ns < 0),
        ("interval_s", request.interval_s < 0),
        ("start_time", request.start_time < 0),
        ("end_time", request.end_time < 0),
        ("limit", request.limit < 0),
    ] {
        if negative {
            return invalid(format!("{field} cannot be negative"));
        }
    }
    // Two clients' names for one range; 0 is no bound.
    let since_ns = request.since_ns.max(request.start_time);
    let until_ns = [request.until_ns, request.end_time].into_iter().filter(|end| *end != 0).min();
    if until_ns.is_some_and(|until| until < since_ns) {
        let later = request.start_time != 0 || request.end_time != 0;
        let text = if later { "end_time is before start_time" } else { "until_ns is before since_ns" };
        return invalid(text.to_owned());
    }
    let how = match request.aggregate.as_str() {
        "" => None,
        "avg" => Some(How::Average),
        "min" => Some(How::Least),
        "max" => Some(How::Most),
        "sum" => Some(How::Sum),
        other => {
            return invalid(format!("invalid aggregate \"{}\": avg, min, max or sum", repeated(other)));
        }
    };
    if how.is_none() && request.interval_s != 0 {
        return invalid("interval_s needs aggregate: avg, min, max or sum".to_owned());
    }
    let query = SampleQuery {
        since_ns,
        until_ns,
        limit: Some(request.limit.unsigned_abs()).filter(|limit| *limit != 0),
        how,
        interval_s: Some(request.interval_s.unsigned_abs()).filter(|seconds| *seconds != 0),
    };
    Ok((job(&request.uuid)?, query))
}

/// The wanted part of the list; `None` where no job can be in it.
///
/// # Errors
/// A negative limit, an unknown token, or a word that is no status.
pub(in crate::api) fn page(request: &EmptyRequest) -> Result<Option<Page>, Refusal> {
    let (limit, after) = page_bounds(request.limit, &request.page_token)?;
    let statuses: Vec<Option<Status>> =
        request.statuses.iter().map(|word| status(word)).collect::<Result<_, _>>()?;
    let nobody = !statuses.is_empty() && statuses.iter().all(Option::is_none);
    Ok((!nobody).then(|| Page { limit, after, statuses: statuses.into_iter().flatten().collect() }))
}

/// The most entries of a page, and the serial that it begins behind.
///
/// # Errors
/// A negative limit, or an unknown token.
pub(super) fn page_bounds(limit: i32, page_token: &str) -> Result<(usize, u64), Refusal> {
    let Ok(limit) = usize::try_from(limit) else {
        return invalid("limit cannot be negative".to_owned());
    };
    match page_token.parse() {
        _ if page_token.is_empty() => Ok((limit, 0)),
        Ok(serial) if page_token.bytes().all(|b| b.is_ascii_digit()) => Ok((limit, serial)),
        _ => {
            let shown = repeated(page_token);
            invalid(format!("invalid page_token \"{shown}\": give the next_page_token of a reply"))
        }
    }
}

/// The status that a word names; `None` for the one that only jobs of workflows can have.
fn status(word: &str) -> Result<Option<Status>, Refusal> {
    let upper = if word.len() <= REPEATED { word.to_ascii_uppercase() } else { String::new() };
    match Status::ALL.into_iter().find(|status| status.as_str() == upper) {
        Some(status) => Ok(Some(status)),
        None if upper == "PENDING" => Ok(None),
        None => invalid(format!(
            "invalid status \"{}\" in statuses: SCHEDULED, PENDING, INITIALIZING, RUNNING, COMPLETED, FAILED, \
             STOPPED or CANCELED",
            repeated(word)
        )),
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
