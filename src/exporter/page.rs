//! The page: counters and figures in OpenMetrics, or in the older text format of Prometheus.

use std::collections::HashSet;
use std::fmt::{self, Write};
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::{Counts, Figures, GpuFigures, HistoryFigures, JobFigures};
use crate::sys::descriptors::open_descriptors;

/// The text format of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    OpenMetrics,
    /// Version 0.0.4, for readers that ask for nothing newer.
    Prometheus,
}

impl Format {
    /// The format for a request with this `Accept`.
    pub(super) fn of(accept: &str) -> Format {
        if accept.contains("application/openmetrics-text") { Format::OpenMetrics } else { Format::Prometheus }
    }

    /// The type of the page.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The whole page.
pub(super) fn page(counts: &Counts, figures: Figures, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("joblet");
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    registry.register("build", "The daemon's version", Info::new(version));
    counts.register(&mut registry);
    registry.register_collector(Box::new(Now(figures)));
    let mut process = Registry::default();
    process.register_collector(Box::new(Process));
    let mut text = String::new();
    prometheus_client::encoding::text::encode_registry(&mut text, &registry)?;
    encode(&mut text, &process)?;
    match format {
        Format::OpenMetrics => Ok(text),
        Format::Prometheus => older(&text),
    }
}

/// The page in the older format: it knows no units, no end and no type `info`, and a counter has its suffix in its head too.
fn older(text: &str) -> Result<String, fmt::Error> {
    let heads = |kind: &'static str| {
        let of_kind = move |line: &str| {
            let (name, found) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
            (found == kind).then(|| name.to_owned())
        };
        text.lines().filter_map(of_kind).collect::<HashSet<_>>()
    };
    let (counters, infos) = (heads("counter"), heads("info"));
    let mut out = String::new();
    for line in text.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let Some((word, name, rest)) = head(line) else {
            writeln!(out, "{line}")?;
            continue;
        };
        let rest = if word == "TYPE" && rest == "info" { "gauge" } else { rest };
        let suffix = match name {
            name if counters.contains(name) => "_total",
            name if infos.contains(name) => "_info",
            _ => "",
        };
        writeln!(out, "# {word} {name}{suffix} {rest}")?;
    }
    Ok(out)
}

/// The parts of a line `# HELP name text` or `# TYPE name kind`.
fn head(line: &str) -> Option<(&str, &str, &str)> {
    let (word, rest) = line.strip_prefix("# ")?.split_once(' ')?;
    let (name, rest) = rest.split_once(' ')?;
    Some((word, name, rest))
}

/// Writes the gauges.
#[derive(Debug)]
struct Now(Figures);

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let e = &mut encoder;
        let Figures {
            jobs,
            slots,
            warm,
            workflows,
            output,
            audit,
            budgets,
            resolver,
            history,
            running,
            gpus,
        } = &self.0;
        gauges(e, "jobs", "Jobs that the node knows, by status", None, with("status", jobs))?;
        single(e, "job_slots", "Jobs that may run at the same time", None, ConstGauge::new(*slots))?;
        let sandboxes = [("ready", warm.0), ("wanted", warm.1)];
        gauges(e, "warm_sandboxes", "Sandboxes made ahead of jobs", None, with("state", &sandboxes))?;
        gauges(e, "workflows", "Workflows that the node knows", None, with("state", workflows))?;
        let text = "Output in spools of jobs that are not over, and which history does not have yet";
        single(e, "spool", text, Some(&Unit::Bytes), ConstGauge::new(output.spooled))?;
        let text = "Outputs of jobs that wait for room at a limit";
        single(e, "held_pipes", text, None, ConstGauge::new(output.held))?;
        let text = "Output of jobs that was stored";
        single(e, "output", text, Some(&Unit::Bytes), ConstCounter::new(output.stored))?;
        let text = "Output of jobs that was thrown away at a limit";
        single(e, "output_dropped", text, Some(&Unit::Bytes), ConstCounter::new(output.dropped))?;
        let used = budgets.iter().map(|(budget, used, _)| ([("budget", *budget)], *used));
        gauges(e, "budget_used", "Bytes that are used of a limit", Some(&Unit::Bytes), used)?;
        let limits = budgets.iter().map(|(budget, _, limit)| ([("budget", *budget)], *limit));
        gauges(e, "budget_limit", "Limits of bytes", Some(&Unit::Bytes), limits)?;
        single(e, "resolver_up", "Whether names of jobs are answered", None, up(resolver.0))?;
        single(e, "resolver_jobs", "Jobs that may ask for names", None, ConstGauge::new(resolver.1))?;
        if let Some(history) = history {
            of_history(e, history)?;
        }
        if !gpus.is_empty() {
            of_gpus(e, gpus)?;
        }
        if let Some((written, lost)) = audit {
            let text = "Lines of the audit trail that were written";
            single(e, "audit_lines", text, None, ConstCounter::new(*written))?;
            let text = "Lines of the audit trail that could not be written";
            single(e, "audit_lost_lines", text, None, ConstCounter::new(*lost))?;
        }
        if running.is_empty() {
            return Ok(());
        }
        let labels = |job: &JobFigures| vec![("job", job.id.clone()), ("name", job.name.clone())];
        let started = running.iter().map(|job| (labels(job), job.started));
        gauges(e, "job_start_time", "Start of a running job, Unix time", Some(&Unit::Seconds), started)?;
        let rows = running.iter().map(|job| (labels(job), job.rows));
        gauges(e, "job_output_rows", "Pieces of output of a running job", None, rows)
    }
}

/// Whether something works, as a gauge.
fn up(is_up: bool) -> ConstGauge<u64> {
    ConstGauge::new(u64::from(is_up))
}

fn of_history(e: &mut DescriptorEncoder<'_>, history: &HistoryFigures) -> fmt::Result {
    single(e, "history_up", "Whether persist answers and can store output", None, up(history.up))?;
    let text = "Output that persist knows of and has not stored yet";
    single(e, "history_waiting", text, Some(&Unit::Bytes), ConstGauge::new(history.waiting))?;
    let text = "Rows of output and samples that persist has stored";
    single(e, "history_records", text, None, ConstCounter::new(history.records))?;
    let text = "Files that persist has written";
    single(e, "history_stored", text, Some(&Unit::Bytes), ConstCounter::new(history.stored))?;
    let text = "Places in history where output is missing";
    single(e, "history_gaps", text, None, ConstCounter::new(history.gaps.0))?;
    let text = "Output that is missing in history";
    single(e, "history_lost", text, Some(&Unit::Bytes), ConstCounter::new(history.gaps.1))?;
    let text = "Commits and reads of persist that failed";
    single(e, "history_failures", text, None, ConstCounter::new(history.failures))
}

/// One series a GPU and metric; who has it is a label of one of them alone, so that the others go on when it changes hands.
fn of_gpus(e: &mut DescriptorEncoder<'_>, gpus: &[GpuFigures]) -> fmt::Result {
    let label = |gpu: &GpuFigures| vec![("gpu", gpu.index.clone()), ("uuid", gpu.uuid.clone())];
    let with = |gpu: &GpuFigures, more: [(&'static str, &str); 2]| {
        label(gpu).into_iter().chain(more.map(|(name, value)| (name, value.to_owned()))).collect::<Vec<_>>()
    };
    let shown = gpus.iter().map(|gpu| (with(gpu, [("name", &gpu.name), ("state", gpu.state)]), 1_u64));
    gauges(e, "gpu_state", "GPUs that jobs can have, by state", None, shown)?;
    let held = gpus.iter().filter(|gpu| !gpu.job.is_empty());
    let held = held.map(|gpu| ([label(gpu), vec![("job", gpu.job.clone())]].concat(), 1_u64));
    gauges(e, "gpu_job", "The job that has a GPU", None, held)?;
    let figure = |of: fn(&GpuFigures) -> Option<f64>| {
        gpus.iter().filter_map(move |gpu| Some((label(gpu), of(gpu)?))).collect::<Vec<_>>().into_iter()
    };
    let ratio = figure(|gpu| gpu.utilization.map(|percent| percent / 100.0));
    gauges(e, "gpu_utilization", "Use of a GPU", Some(&Unit::Ratios), ratio)?;
    let celsius = figure(|gpu| gpu.temperature);
    gauges(e, "gpu_temperature", "Temperature of a GPU", Some(&Unit::Celsius), celsius)?;
    let watts = Unit::Other("watts".to_owned());
    gauges(e, "gpu_power", "Power that a GPU draws", Some(&watts), figure(|gpu| gpu.power))?;
    let bytes = |which: usize| {
        gpus.iter()
            .filter_map(move |gpu| Some((label(gpu), gpu.memory[which]?)))
            .collect::<Vec<_>>()
            .into_iter()
    };
    gauges(e, "gpu_memory_used", "Memory of a GPU in use", Some(&Unit::Bytes), bytes(0))?;
    gauges(e, "gpu_memory", "All memory of a GPU", Some(&Unit::Bytes), bytes(1))?;
    let xids = gpus.iter().filter_map(|gpu| Some((label(gpu), gpu.xids?)));
    let text = "Errors (Xid) that the driver has reported of a GPU";
    let mut metric =
        e.encode_descriptor("gpu_xid_errors", text, None, ConstCounter::new(0_u64).metric_type())?;
    for (labels, count) in xids {
        ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn with<'a>(
    label: &'static str,
    values: &'a [(&'static str, u64)],
) -> impl Iterator<Item = ([(&'static str, &'static str); 1], u64)> + 'a {
    values.iter().map(move |(value, number)| ([(label, *value)], *number))
}

/// A gauge whose values differ in labels.
fn gauges<L: EncodeLabelSet, N>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    values: impl Iterator<Item = (L, N)>,
) -> fmt::Result
where
    ConstGauge<N>: EncodeMetric,
{
    let mut metric = encoder.encode_descriptor(name, help, unit, ConstGauge::new(0_u64).metric_type())?;
    for (labels, value) in values {
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

/// A metric without labels.
fn single(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: impl EncodeMetric,
) -> fmt::Result {
    let kind = metric.metric_type();
    metric.encode(encoder.encode_descriptor(name, help, unit, kind)?)
}

/// The daemon's own process, by the names that every exporter has.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let e = &mut encoder;
        if let Ok(open) = open_descriptors() {
            single(e, "process_open_fds", "Open descriptors", None, ConstGauge::new(open))?;
        }
        let threads = fs::read_dir("/proc/self/task").map_or(0, |entries| entries.count() as u64);
        single(e, "process_threads", "Threads", None, ConstGauge::new(threads))?;
        let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
        if let Ok(usage) = usage {
            let time = usage.user_time() + usage.system_time();
            let seconds = time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
            let text = "Processor time, of the user and of the kernel";
            single(e, "process_cpu", text, Some(&Unit::Seconds), ConstCounter::new(seconds))?;
        }
        let pages = fs::read_to_string("/proc/self/statm").ok();
        let resident = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
        let Some(resident) = resident else { return Ok(()) };
        let bytes = resident * rustix::param::page_size() as u64;
        single(e, "process_resident_memory", "Resident memory", Some(&Unit::Bytes), ConstGauge::new(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::exporter::Took;
    use crate::output::Totals;

    fn figures() -> Figures {
        Figures {
            jobs: vec![("RUNNING", 2), ("COMPLETED", 5)],
            slots: 4,
            warm: (3, 8),
            workflows: vec![("live", 1)],
            output: Totals { stored: 10, dropped: 1, spooled: 4096, held: 0 },
            audit: Some((12, 0)),
            budgets: vec![("spool", 4096, 1 << 30)],
            resolver: (true, 2),
            history: Some(HistoryFigures { up: true, waiting: 5, ..HistoryFigures::default() }),
            running: vec![JobFigures { id: "f47".into(), name: "a\"\\\nb".into(), started: 1.5, rows: 7 }],
            gpus: vec![GpuFigures {
                index: "1".into(),
                uuid: "GPU-1".into(),
                name: "NVIDIA H200".into(),
                state: "in_use",
                job: "f47".into(),
                utilization: Some(25.0),
                memory: [Some(5), None],
                xids: Some(2),
                ..GpuFigures::default()
            }],
        }
    }

    fn counts() -> Counts {
        let counts = Counts::on();
        counts.queued(Duration::from_micros(20));
        counts.prepared(Took { create: None, configure: Duration::from_micros(80) });
        counts.executed(Duration::from_micros(300));
        counts.ended("exited");
        counts.answered("/joblet.JobService/RunJob", "OK");
        counts.turned(Duration::from_micros(3));
        counts
    }

    #[test]
    fn page_has_counters_and_figures_in_both_formats() {
        let open = page(&counts(), figures(), Format::OpenMetrics).unwrap();
        for line in [
            "# TYPE joblet_jobs gauge",
            "joblet_jobs{status=\"RUNNING\"} 2",
            "# UNIT joblet_job_start_seconds seconds",
            "joblet_job_start_seconds_bucket{le=\"0.00025\",phase=\"configure\"} 1",
            "# TYPE joblet_jobs_ended counter",
            "joblet_jobs_ended_total{reason=\"exited\"} 1",
            "joblet_grpc_calls_total{method=\"joblet.JobService/RunJob\",code=\"OK\"} 1",
            "joblet_output_bytes_total 10",
            "joblet_warm_sandbox_requests_total{outcome=\"hit\"} 1",
            "joblet_gpu_state{gpu=\"1\",uuid=\"GPU-1\",name=\"NVIDIA H200\",state=\"in_use\"} 1",
            "joblet_gpu_job{gpu=\"1\",uuid=\"GPU-1\",job=\"f47\"} 1",
            "joblet_gpu_utilization_ratios{gpu=\"1\",uuid=\"GPU-1\"} 0.25",
            "joblet_gpu_memory_used_bytes{gpu=\"1\",uuid=\"GPU-1\"} 5",
            "joblet_gpu_xid_errors_total{gpu=\"1\",uuid=\"GPU-1\"} 2",
            "joblet_job_output_rows{job=\"f47\",name=\"a\\\"\\\\\\nb\"} 7",
        ] {
            assert!(open.lines().any(|l| l == line), "{line} is not in\n{open}");
        }
        assert!(
            !open.contains("joblet_gpu_temperature_celsius{") && !open.contains("joblet_gpu_memory_bytes{")
        );
        assert!(open.ends_with("# EOF\n") && open.matches("# EOF").count() == 1);
        let old = page(&counts(), figures(), Format::Prometheus).unwrap();
        for line in [
            "# TYPE joblet_jobs_ended_total counter",
            "# TYPE joblet_build_info gauge",
            "joblet_jobs_ended_total{reason=\"exited\"} 1",
            "# TYPE joblet_job_start_seconds histogram",
        ] {
            assert!(old.lines().any(|l| l == line), "{line} is not in\n{old}");
        }
        assert!(!old.contains("# UNIT") && !old.contains("# EOF"));
        assert!(old.contains("process_open_fds ") && old.contains("process_cpu_seconds_total "));
    }

    #[test]
    fn format_is_the_one_that_is_asked_for() {
        let asked = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::of(asked), Format::OpenMetrics);
        assert_eq!(Format::of("*/*"), Format::Prometheus);
        assert_eq!(Format::of(""), Format::Prometheus);
    }

    #[test]
    fn nothing_is_counted_where_the_endpoint_is_off() {
        let counts = Counts::default();
        counts.ended("exited");
        assert!(!counts.is_on());
        assert!(!page(&counts, Figures::default(), Format::OpenMetrics).unwrap().contains("jobs_ended"));
    }
}
