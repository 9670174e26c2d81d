//! `job metrics --watch`: a job's curves in the terminal, drawn anew with each sample. The drawing is pure ([`View`]);
//! [`full_screen`] has the terminal.

use std::sync::mpsc::channel;
use std::thread;

use super::command::QUERY;
use super::error::{Error, Result};
use super::full_screen::{self, Picture, Signals};
use super::out::Out;
use super::render::chart::{AXIS, Chart};
use super::render::fit::cut;
use super::render::metrics::{ABSENT, additions, bytes, percent, rate, time};
use super::render::span::took;
use super::render::{command_line, short};
use super::server::Server;
use super::terminal::one_line;
use crate::pb::joblet::{GetJobStatusReq, GetJobStatusRes, JobMetricsRequest, JobMetricsSample};

/// Samples that are kept for curves: more than a terminal has columns.
const KEPT: usize = 1024;

/// Shows a job until it ends, the user leaves, or a signal ends us. The last picture stays on the terminal.
pub(crate) fn show(
    server: &'static Server,
    request: JobMetricsRequest,
    signals: Signals,
    out: Out,
) -> Result<()> {
    let (tell, samples) = channel();
    let uuid = request.uuid.clone();
    let asked = GetJobStatusReq { uuid: uuid.clone(), ..Default::default() };
    // Only for the first line: whether there are samples is the server's next answer.
    let job = server.ask(QUERY, |jobs, option| jobs.get_job_status_opt(&asked, option));
    let about = job.map(|job| about(&job)).unwrap_or_default();
    let read = move || {
        let ended = server.samples(&request, |sample| {
            // A receiver that is gone means that the user has left.
            let _ = tell.send(Ok(sample.clone()));
            Ok(())
        });
        if let Err(why) = ended {
            let _ = tell.send(Err(why));
        }
    };
    thread::Builder::new().name("samples".into()).spawn(read)?;
    let mut view = View::new(about, out.colour);
    full_screen::show(&samples, &signals, &mut view)?;
    match view.samples.last() {
        Some(last) => out.text(&super::render::metrics::text(last)),
        None => Err(no_samples(&uuid)),
    }
}

/// Name and command of a job on one line.
pub(crate) fn about(job: &GetJobStatusRes) -> String {
    let command = command_line(&job.command, &job.args);
    if job.name.is_empty() { command } else { format!("{}   {command}", one_line(&job.name)) }
}

/// The error for a job without samples, or without any in the range.
pub(crate) fn no_samples(uuid: &str) -> Error {
    let text =
        format!("no metrics available for job {} (metrics collection may not be enabled)", one_line(uuid));
    Error::Follow(text.into()).hint("a job that never ran has none, and --since and --until may leave none")
}

/// The state of the picture.
pub(crate) struct View {
    samples: Vec<JobMetricsSample>,
    /// Name and command of the job, as far as they are known.
    about: String,
    colour: bool,
}

impl View {
    /// Curves of a job that this text names, without samples so far.
    pub(crate) fn new(about: String, colour: bool) -> View {
        View { samples: Vec::new(), about, colour }
    }
}

impl Picture for View {
    type Update = JobMetricsSample;

    fn add(&mut self, sample: JobMetricsSample) {
        if self.samples.len() == KEPT {
            self.samples.remove(0);
        }
        self.samples.push(sample);
    }

    /// The charts share the rows that the texts leave.
    fn lines(&self, width: usize, rows: usize) -> Vec<String> {
        let Some(last) = self.samples.last() else {
            return vec![cut("waiting for the first sample   (q leaves)", width)];
        };
        let every = last.sampleIntervalSeconds;
        let mut lines = vec![
            cut(&format!("{}   {}", one_line(short(&last.jobId)), self.about), width),
            cut(&format!("{}   every {every} s   (q leaves)", time(last.timestamp)), width),
        ];
        let mut below = Vec::new();
        if let Some(net) = last.network.as_ref() {
            below.push(format!("Network    RX {}, TX {}", shown(net.rxBPS, rate), shown(net.txBPS, rate)));
        }
        below.push(additions(last).join(", "));
        // Three headings and the line of times stand between.
        let room = rows.saturating_sub(lines.len() + below.len() + 4) / 3;
        for (heading, number, limit, unit) in curves(last) {
            let values: Vec<Option<f64>> = self.samples.iter().map(number).collect();
            lines.push(cut(&heading, width));
            let chart = Chart { values: &values, limit, unit, colour: self.colour };
            lines.extend(chart.rows(width, room.max(1)));
        }
        lines.push(times(self.samples.len(), every, width));
        lines.extend(below.iter().map(|line| cut(line, width)));
        lines
    }
}

type Number = fn(&JobMetricsSample) -> Option<f64>;

/// Heading, number, limit and unit of a curve.
type Curve = (String, Number, Option<f64>, fn(f64) -> String);

fn curves(last: &JobMetricsSample) -> [Curve; 3] {
    let (cpu, memory, io) = headings(last);
    let positive = |limit: f64| Some(limit).filter(|limit| *limit > 0.0);
    let most_cpu = last.limits.as_ref().and_then(|limits| positive(f64::from(limits.cpu)));
    let most_memory = last.memory.as_ref().and_then(|memory| memory.max).and_then(|max| positive(max as f64));
    [
        (cpu, |s| s.cpu.as_ref().and_then(|cpu| cpu.usagePercent), most_cpu, |share| format!("{share:.0}%")),
        (memory, |s| s.memory.as_ref().map(|memory| memory.current as f64), most_memory, bytes),
        (io, |s| s.io.as_ref().and_then(|io| Some(io.readBPS? + io.writeBPS?)), None, rate),
    ]
}

/// The line below the charts: how long ago the oldest column was, and now.
fn times(samples: usize, every: i32, width: usize) -> String {
    let Some(room) = width.checked_sub(AXIS) else { return String::new() };
    let columns = samples.min(room);
    let seconds = u64::try_from(every).unwrap_or(0) * columns.saturating_sub(1) as u64;
    let (oldest, newest) = (format!("{} ago", took(seconds)), "now");
    let blanks = " ".repeat(AXIS + room - columns);
    match columns.checked_sub(oldest.len() + newest.len() + 1) {
        Some(between) => format!("{blanks}{oldest}{}{newest}", " ".repeat(between + 1)),
        None => format!("{newest:>width$}").chars().take(width).collect(),
    }
}

fn headings(last: &JobMetricsSample) -> (String, String, String) {
    let absent = |what: &str| format!("{what} n/a");
    let limit = |limit: Option<String>| limit.map(|limit| format!(" of {limit}")).unwrap_or_default();
    let cpu = last.cpu.as_ref().map_or_else(
        || absent("CPU       "),
        |cpu| {
            let most = last.limits.as_ref().filter(|l| l.cpu > 0).map(|l| format!("{}%", l.cpu));
            format!("CPU        {}{}", shown(cpu.usagePercent, percent), limit(most))
        },
    );
    let memory = last.memory.as_ref().map_or_else(
        || absent("Memory    "),
        |memory| {
            let most = memory.max.filter(|max| *max > 0).map(|max| bytes(max as f64));
            format!("Memory     {}{}", bytes(memory.current as f64), limit(most))
        },
    );
    let io = last.io.as_ref().map_or_else(
        || absent("I/O       "),
        |io| format!("I/O        read {}, write {}", shown(io.readBPS, rate), shown(io.writeBPS, rate)),
    );
    (cpu, memory, io)
}

/// A number in words, or the mark of an absent one.
fn shown(number: Option<f64>, words: fn(f64) -> String) -> String {
    number.map_or_else(|| ABSENT.to_owned(), words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::joblet::{JobCPUMetrics, JobMemoryMetrics, JobResourceLimits};
    use protobuf::MessageField;

    fn sample(percent: f64) -> JobMetricsSample {
        JobMetricsSample {
            jobId: "f47ac10b-58cc-4372-a567-0e02b2c3d479".into(),
            timestamp: 1_705_314_600,
            sampleIntervalSeconds: 5,
            cpu: MessageField::some(JobCPUMetrics { usagePercent: Some(percent), ..Default::default() }),
            memory: MessageField::some(JobMemoryMetrics {
                current: 1 << 28,
                max: Some(1 << 29),
                ..Default::default()
            }),
            limits: MessageField::some(JobResourceLimits { cpu: 50, ..Default::default() }),
            ..Default::default()
        }
    }

    fn view(samples: Vec<JobMetricsSample>) -> View {
        View { samples, about: "train   python3 train.py".into(), colour: false }
    }

    #[test]
    fn watch_view_shows_charts_and_marks_unmeasured_values() {
        let lines = view(vec![sample(10.0), sample(45.2)]).lines(80, 24);
        assert_eq!(lines[0], "f47ac10b   train   python3 train.py");
        assert_eq!(lines[1], "2024-01-15T10:30:00Z   every 5 s   (q leaves)");
        assert_eq!(lines[2], "CPU        45.2% of 50%");
        // 24 rows less two lines above, one below, three headings and the line of times.
        assert!(lines[3].starts_with("    50% \u{2502}\u{b7}") && lines[7].starts_with("      0 \u{2502}"));
        assert!(lines[7].ends_with("\u{2588}\u{2588}"), "{:?}", lines[7]);
        assert_eq!(lines[8], "Memory     256MB of 512MB");
        assert!(lines[9].starts_with("  512MB \u{2502}"));
        assert_eq!(lines[14], "I/O        n/a");
        assert!(lines[20].ends_with("now"), "{lines:?}");
        assert_eq!(lines.len(), 22);
    }

    #[test]
    fn colours_of_columns_cost_no_columns() {
        let samples: Vec<_> = (0..200).map(|n| sample(f64::from(n % 50))).collect();
        let plain = view(samples.clone()).lines(80, 24);
        let coloured = View { colour: true, ..view(samples) }.lines(80, 24);
        assert!(coloured.iter().any(|line| line.contains("\x1b[31m")));
        let codes = ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"];
        let bare = |line: &String| codes.iter().fold(line.clone(), |line, code| line.replace(code, ""));
        assert_eq!(coloured.iter().map(bare).collect::<Vec<_>>(), plain);
    }

    #[test]
    fn line_of_times_says_how_old_the_oldest_column_is() {
        assert_eq!(times(100, 5, AXIS + 20), format!("{}1m35s ago        now", " ".repeat(AXIS)));
        assert_eq!(times(2, 5, AXIS + 20), format!("{}now", " ".repeat(AXIS + 17)));
        assert_eq!(times(2, 5, 4), "");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_frame_higher() {
        let mut view = view(vec![]);
        for n in 0..2 * KEPT {
            view.add(sample(n as f64));
        }
        assert_eq!(view.samples.len(), KEPT);
        for (columns, rows) in [(80, 24), (7, 3), (1, 1), (300, 2)] {
            let frame = full_screen::frame(&view, (columns, rows));
            let plain = frame.replace("\x1b[H", "").replace("\x1b[K", "").replace("\x1b[J", "");
            assert!(plain.split("\r\n").count() <= usize::from(rows));
            assert!(plain.split("\r\n").all(|line| line.chars().count() <= usize::from(columns)), "{plain}");
            assert!(!plain.contains('\x1b'));
        }
    }
}
