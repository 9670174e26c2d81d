//! Running jobs by what they use, as a picture and as a table.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde_json::{Value, json};

use super::super::full_screen::{Picture, leaves};
use super::super::terminal::one_line;
use super::fit::{aligned, cut};
use super::metrics::{ABSENT, bytes, percent, rate};
use super::span::{between, took};
use super::text::start_of;
use super::words::{command_line, short};
use crate::pb::joblet::{Job, JobMetricsSample};

/// By what jobs are sorted; those that use most come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Cpu,
    Memory,
    Io,
    Network,
    Time,
}

impl Order {
    /// All orders, with the word of each flag and the key of the picture.
    const ALL: [(Order, &'static str, u8); 5] = [
        (Order::Cpu, "cpu", b'c'),
        (Order::Memory, "memory", b'm'),
        (Order::Io, "io", b'i'),
        (Order::Network, "network", b'n'),
        (Order::Time, "time", b't'),
    ];

    /// The order of a word.
    pub(crate) fn of(word: &str) -> Option<Order> {
        Self::ALL.iter().find(|(_, name, _)| *name == word).map(|(order, _, _)| *order)
    }

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(order, _, _)| *order == self).map_or("", |(_, name, _)| name)
    }

    fn number(self, sample: Option<&JobMetricsSample>) -> f64 {
        let sample = sample.map(Usage::of).unwrap_or_default();
        let number = match self {
            Order::Cpu => sample.cpu,
            Order::Memory => sample.memory,
            Order::Io => sum(sample.read, sample.write),
            Order::Network => sum(sample.received, sample.sent),
            Order::Time => None,
        };
        number.filter(|number| number.is_finite()).unwrap_or(-1.0)
    }
}

fn sum(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    Some(one? + other?)
}

/// The numbers of a sample that the table has.
#[derive(Debug, Default)]
struct Usage {
    cpu: Option<f64>,
    memory: Option<f64>,
    read: Option<f64>,
    write: Option<f64>,
    received: Option<f64>,
    sent: Option<f64>,
    processes: Option<u64>,
}

impl Usage {
    fn of(sample: &JobMetricsSample) -> Usage {
        Usage {
            cpu: sample.cpu.as_ref().and_then(|cpu| cpu.usagePercent),
            memory: sample.memory.as_ref().map(|memory| memory.current as f64),
            read: sample.io.as_ref().and_then(|io| io.readBPS),
            write: sample.io.as_ref().and_then(|io| io.writeBPS),
            received: sample.network.as_ref().and_then(|net| net.rxBPS),
            sent: sample.network.as_ref().and_then(|net| net.txBPS),
            processes: sample.process.as_ref().and_then(|process| process.current),
        }
    }
}

/// A change of what is shown.
#[derive(Debug)]
pub(crate) enum Update {
    /// The running jobs that are shown, and the number of all of them.
    Jobs(Vec<Job>, usize),
    /// The newest sample of a job.
    Sample(Box<JobMetricsSample>),
}

/// The state of the picture.
#[derive(Debug)]
pub(crate) struct Top {
    jobs: Vec<Job>,
    /// Running jobs, also those that are not shown.
    running: usize,
    samples: HashMap<String, JobMetricsSample>,
    order: Order,
    /// Only jobs with this text in their id, name or command.
    filter: String,
    /// Whether keys go into the filter.
    types: bool,
}

impl Top {
    pub(crate) fn new(order: Order, filter: String) -> Top {
        Top { jobs: Vec::new(), running: 0, samples: HashMap::new(), order, filter, types: false }
    }

    /// Whether every job has been measured.
    pub(crate) fn is_complete(&self) -> bool {
        self.jobs.iter().all(|job| self.samples.contains_key(&job.uuid))
    }

    /// The jobs that are shown, in their order.
    fn shown(&self) -> Vec<&Job> {
        let fits = |job: &&Job| {
            self.filter.is_empty()
                || job.uuid.contains(&self.filter)
                || job.name.contains(&self.filter)
                || command_line(&job.command, &job.args).contains(&self.filter)
        };
        let mut shown: Vec<&Job> = self.jobs.iter().filter(fits).collect();
        let started = |job: &Job| start_of(job).unwrap_or_default().to_owned();
        shown.sort_by(|a, b| {
            let number = |job: &Job| self.order.number(self.samples.get(&job.uuid));
            let by_number = number(b).partial_cmp(&number(a)).unwrap_or(Ordering::Equal);
            // The oldest first where nothing else tells them apart.
            by_number.then_with(|| started(a).cmp(&started(b))).then_with(|| a.uuid.cmp(&b.uuid))
        });
        shown
    }

    /// The heading and a line for each job; `now` as RFC 3339.
    pub(crate) fn table(&self, now: &str) -> String {
        let head =
            ["ID", "NAME", "CPU", "MEMORY", "READ", "WRITE", "RECEIVED", "SENT", "PROCS", "TIME", "COMMAND"];
        let row = |job: &&Job| {
            let usage = self.samples.get(&job.uuid).map(Usage::of).unwrap_or_default();
            let shown = |number: Option<f64>, words: fn(f64) -> String| {
                number.map_or_else(|| ABSENT.to_owned(), words)
            };
            [
                one_line(short(&job.uuid)),
                if job.name.is_empty() { "-".to_owned() } else { one_line(&job.name) },
                shown(usage.cpu, percent),
                shown(usage.memory, bytes),
                shown(usage.read, rate),
                shown(usage.write, rate),
                shown(usage.received, rate),
                shown(usage.sent, rate),
                usage.processes.map_or_else(|| ABSENT.to_owned(), |number| number.to_string()),
                start_of(job).and_then(|start| between(start, now)).map_or_else(|| "-".to_owned(), took),
                one_line(&command_line(&job.command, &job.args)),
            ]
        };
        aligned(std::iter::once(head.map(str::to_owned)).chain(self.shown().iter().map(row)).collect())
    }

    /// The sums over all jobs that are known.
    pub(crate) fn sums(&self) -> String {
        let all = || self.jobs.iter().filter_map(|job| self.samples.get(&job.uuid)).map(Usage::of);
        let cpu: f64 = all().filter_map(|usage| usage.cpu).sum();
        let memory: f64 = all().filter_map(|usage| usage.memory).sum();
        let more = match self.running - self.jobs.len().min(self.running) {
            0 => String::new(),
            more => format!(" ({more} of them not shown)"),
        };
        let jobs = if self.running == 1 { "job" } else { "jobs" };
        format!("{} running {jobs}{more}, CPU {}, memory {}", self.running, percent(cpu), bytes(memory))
    }

    /// The shown jobs with their numbers; what is not measured is absent.
    pub(crate) fn json(&self) -> Value {
        let object = |job: &&Job| {
            let usage = self.samples.get(&job.uuid).map(Usage::of).unwrap_or_default();
            let mut value = json!({
                "uuid": job.uuid, "name": job.name, "command": job.command, "args": job.args,
                "cpuPercent": usage.cpu, "memoryBytes": usage.memory, "readBPS": usage.read,
                "writeBPS": usage.write, "rxBPS": usage.received, "txBPS": usage.sent,
                "processes": usage.processes,
            });
            if let Some(fields) = value.as_object_mut() {
                fields.retain(|_, value| !value.is_null());
            }
            value
        };
        self.shown().iter().map(object).collect()
    }
}

impl Picture for Top {
    type Update = Update;

    fn add(&mut self, update: Update) {
        match update {
            Update::Jobs(jobs, running) => {
                self.samples.retain(|uuid, _| jobs.iter().any(|job| job.uuid == *uuid));
                (self.jobs, self.running) = (jobs, running);
            }
            Update::Sample(sample) => {
                self.samples.insert(sample.jobId.clone(), *sample);
            }
        }
    }

    fn lines(&self, width: usize, _rows: usize) -> Vec<String> {
        let typed = if self.types { "_" } else { "" };
        let filter = match (self.types, self.filter.is_empty()) {
            (false, true) => String::new(),
            _ => format!("   filter: {}{typed}", one_line(&self.filter)),
        };
        let mut lines = vec![
            self.sums(),
            format!(
                "by {}{filter}   (c cpu, m memory, i io, n network, t time, / filter, q leaves)",
                self.order.word()
            ),
            String::new(),
        ];
        lines.extend(self.table(&jiff::Timestamp::now().to_string()).lines().map(str::to_owned));
        lines.iter().map(|line| cut(line, width)).collect()
    }

    fn key(&mut self, key: u8) -> bool {
        if self.types {
            match key {
                b'\r' | b'\n' => self.types = false,
                0x1b => (self.types, self.filter) = (false, String::new()),
                0x7f | 8 => drop(self.filter.pop()),
                // Ctrl-C and Ctrl-D, which are no letters.
                3 | 4 => return true,
                b' '..=b'~' => self.filter.push(key.into()),
                _ => {}
            }
            return false;
        }
        match key {
            key if leaves(key) => return true,
            b'/' => (self.types, self.filter) = (true, String::new()),
            0x1b => self.filter.clear(),
            key => {
                if let Some((order, _, _)) = Order::ALL.iter().find(|(_, _, of)| *of == key) {
                    self.order = *order;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::fit::width;
    use super::*;
    use crate::pb::joblet::{JobCPUMetrics, JobMemoryMetrics};
    use protobuf::MessageField;

    fn top() -> Top {
        let mut top = Top::new(Order::Cpu, String::new());
        let job = |uuid: &str, name: &str| Job {
            uuid: uuid.into(),
            name: name.into(),
            command: "sleep".into(),
            startTime: "2024-01-15T10:30:00Z".into(),
            status: "RUNNING".into(),
            ..Job::default()
        };
        let jobs = vec![job("aaaaaaaa-1", "one"), job("bbbbbbbb-2", "two"), job("cccccccc-3", "\u{1b}[2J")];
        top.add(Update::Jobs(jobs, 5));
        for (uuid, cpu, memory) in [("aaaaaaaa-1", 10.0, 1 << 30), ("bbbbbbbb-2", 90.0, 1 << 20)] {
            top.add(Update::Sample(Box::new(JobMetricsSample {
                jobId: uuid.into(),
                cpu: MessageField::some(JobCPUMetrics { usagePercent: Some(cpu), ..Default::default() }),
                memory: MessageField::some(JobMemoryMetrics { current: memory, ..Default::default() }),
                ..Default::default()
            })));
        }
        top
    }

    fn ids(top: &Top) -> Vec<char> {
        top.shown().iter().map(|job| job.uuid.chars().next().unwrap()).collect()
    }

    #[test]
    fn keys_sort_filter_and_leave() {
        let mut top = top();
        assert!(!top.is_complete());
        assert_eq!(ids(&top), ['b', 'a', 'c'], "what is not measured is last");
        assert!(!top.key(b'm'));
        assert_eq!(ids(&top), ['a', 'b', 'c']);
        for key in *b"/twoq" {
            assert!(!top.key(key), "q is a letter here");
        }
        assert_eq!(ids(&top), ['_'; 0]);
        top.key(0x7f);
        assert!(ids(&top) == ['b'] && top.lines(80, 24)[1].contains("filter: two_"), "{top:?}");
        top.key(b'\r');
        assert!(!top.key(0x1b) && ids(&top).len() == 3 && top.key(b'q'));
    }

    #[test]
    fn table_has_what_is_measured_and_no_line_is_too_wide() {
        let top = top();
        let text = top.table("2024-01-15T11:30:00Z");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("ID        NAME"), "{text}");
        assert!(lines[1].starts_with("bbbbbbbb  two") && lines[1].contains("90.0%"), "{text}");
        assert!(lines[2].contains("1GB") && lines[3].contains("n/a"), "{text}");
        assert!(!text.contains('\u{1b}'));
        assert_eq!(top.sums(), "5 running jobs (2 of them not shown), CPU 100.0%, memory 1GB");
        assert_eq!(top.json()[1]["memoryBytes"], 1_073_741_824.0);
        for columns in [0, 1, 20, 80] {
            assert!(top.lines(columns, 24).iter().all(|line| width(line) <= columns));
        }
    }
}
