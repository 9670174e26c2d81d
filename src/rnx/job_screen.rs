//! `job watch`: status, curves and output of one job on one screen. The drawing is pure ([`Screen`]).

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use super::command::QUERY;
use super::error::Result;
use super::full_screen::{self, Ending, Picture, Signals};
use super::out::Out;
use super::render::fit::cut;
use super::render::{is_terminal_status, text};
use super::server::Server;
use super::terminal::one_line;
use super::watch::{self, View};
use crate::pb::joblet::{
    DataChunk, GetJobLogsReq, GetJobStatusReq, GetJobStatusRes, JobMetricsRequest, JobMetricsSample,
};

/// Lines of output that are kept: more than a terminal has rows.
const KEPT: usize = 500;
/// Longest line of output that is kept, bytes; the rest of it goes on the next one.
const LONGEST: usize = 4096;
/// The time from one question about the status to the next.
const AGAIN: Duration = Duration::from_secs(1);

/// A change of the screen.
enum Update {
    Status(Box<GetJobStatusRes>),
    Sample(Box<JobMetricsSample>),
    Output(DataChunk),
}

/// Shows a job until it ends, the user leaves, or a signal ends us.
pub(crate) fn show(server: &'static Server, uuid: &str, signals: &Signals, out: Out) -> Result<()> {
    let asked = GetJobStatusReq { uuid: uuid.to_owned(), ..Default::default() };
    let job = server.ask(QUERY, |jobs, option| jobs.get_job_status_opt(&asked, option))?;
    let (tell, updates) = channel();
    read_samples(server, uuid, tell.clone())?;
    read_output(server, uuid, tell.clone())?;
    read_status(server, asked, tell)?;
    let mut screen = Screen::new(job, out.colour);
    let ending = full_screen::show(&updates, signals, &mut screen)?;
    match ending {
        Ending::UpdatesEnded => out.text(&text::waited(&screen.job, out.colour)),
        Ending::UserLeft => Ok(()),
    }
}

type Tell = Sender<Result<Update>>;

fn read_samples(server: &'static Server, uuid: &str, tell: Tell) -> Result<()> {
    let request = JobMetricsRequest { uuid: uuid.to_owned(), ..Default::default() };
    let read = move || {
        // A job without samples has a status and output all the same.
        let _ = server.samples(&request, |sample| {
            // A receiver that is gone means that the user has left.
            let _ = tell.send(Ok(Update::Sample(Box::new(sample.clone()))));
            Ok(())
        });
    };
    thread::Builder::new().name("samples".into()).spawn(read)?;
    Ok(())
}

fn read_output(server: &'static Server, uuid: &str, tell: Tell) -> Result<()> {
    let tail = Some(KEPT as i32);
    let request = GetJobLogsReq { uuid: uuid.to_owned(), tail, ..Default::default() };
    let read = move || {
        let ended = server.output(&request, |chunk| {
            let _ = tell.send(Ok(Update::Output(chunk.clone())));
            Ok(())
        });
        if let Err(why) = ended {
            let _ = tell.send(Err(why));
        }
    };
    thread::Builder::new().name("output".into()).spawn(read)?;
    Ok(())
}

/// Asks until the job has ended.
fn read_status(server: &'static Server, asked: GetJobStatusReq, tell: Tell) -> Result<()> {
    let read = move || {
        // Nothing ever comes through it: it measures the time between two questions.
        let (_beat, beats): (Sender<()>, Receiver<()>) = channel();
        loop {
            let job = server.ask(QUERY, |jobs, option| jobs.get_job_status_opt(&asked, option));
            let over = job.as_ref().map_or(true, |job| is_terminal_status(&job.status));
            if tell.send(job.map(|job| Update::Status(Box::new(job)))).is_err() || over {
                return;
            }
            if beats.recv_timeout(AGAIN) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    };
    thread::Builder::new().name("status".into()).spawn(read)?;
    Ok(())
}

/// The state of the screen.
struct Screen {
    job: GetJobStatusRes,
    curves: View,
    output: VecDeque<String>,
    /// A line that has no end yet.
    open: Vec<u8>,
    colour: bool,
}

impl Screen {
    fn new(job: GetJobStatusRes, colour: bool) -> Screen {
        let curves = View::new(watch::about(&job), colour);
        Screen { job, curves, output: VecDeque::new(), open: Vec::new(), colour }
    }

    fn print(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte != b'\n' {
                self.open.push(*byte);
            }
            if *byte == b'\n' || self.open.len() >= LONGEST {
                let line = shown(&self.open);
                self.open.clear();
                self.output.push_back(line);
                if self.output.len() > KEPT {
                    self.output.pop_front();
                }
            }
        }
    }

    fn status(&self) -> String {
        let job = &self.job;
        let mut line = text::status_word(&job.status, self.colour);
        if !job.wait_reason.is_empty() {
            line += &format!("   {}", one_line(&job.wait_reason));
        }
        if is_terminal_status(&job.status) && !job.exit_reason.is_empty() {
            line += &format!("   {}, exit code {}", one_line(&job.exit_reason), job.exitCode);
        }
        line
    }
}

/// A line of a job as a terminal may show it.
fn shown(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    one_line(&String::from_utf8_lossy(line).replace('\t', "    "))
}

impl Picture for Screen {
    type Update = Update;

    fn add(&mut self, update: Update) {
        match update {
            Update::Status(job) => self.job = *job,
            Update::Sample(sample) => self.curves.add(*sample),
            Update::Output(chunk) if chunk.lost_bytes > 0 => {
                self.print(format!("[{} bytes are lost here]\n", chunk.lost_bytes).as_bytes());
            }
            Update::Output(chunk) => self.print(&chunk.payload),
        }
    }

    /// The curves have the upper part, the newest output has what they leave.
    fn lines(&self, width: usize, rows: usize) -> Vec<String> {
        // A word in colour is no wider than the narrowest terminal that can be used.
        let mut lines = vec![if width < 20 { cut(&self.job.status, width) } else { self.status() }];
        lines.extend(self.curves.lines(width, (rows * 3 / 5).saturating_sub(1)));
        lines.truncate(rows.saturating_sub(3).max(1));
        lines.push(cut(&format!("Output {}", "-".repeat(width)), width));
        let open = Some(&self.open).filter(|open| !open.is_empty()).map(|open| shown(open));
        let all: Vec<&String> = self.output.iter().chain(&open).collect();
        let room = rows.saturating_sub(lines.len());
        lines.extend(all[all.len().saturating_sub(room)..].iter().map(|line| cut(line, width)));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::render::fit::width;
    use super::*;

    fn screen(output: &[u8]) -> Screen {
        let job = GetJobStatusRes {
            uuid: "f47ac10b".into(),
            status: "RUNNING".into(),
            command: "sh".into(),
            ..Default::default()
        };
        let mut screen = Screen::new(job, false);
        screen.add(Update::Output(DataChunk { payload: output.to_vec(), ..Default::default() }));
        screen
    }

    #[test]
    fn screen_has_status_curves_and_the_newest_output() {
        let text: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let mut screen = screen(format!("{text}\x1b[2Jopen").as_bytes());
        let lines = screen.lines(80, 24);
        assert_eq!(lines[0], "RUNNING");
        assert!(lines[1].starts_with("waiting for the first sample"), "{lines:?}");
        assert!(lines[2].starts_with("Output ---") && lines.len() == 24, "{lines:?}");
        assert!(lines[22] == "line 99" && lines[23].ends_with("[2Jopen") && !lines[23].contains('\x1b'));
        let mut job = screen.job.clone();
        (job.status, job.exit_reason, job.exitCode) = ("FAILED".into(), "exited".into(), 3);
        screen.add(Update::Status(Box::new(job)));
        assert_eq!(screen.lines(80, 24)[0], "FAILED   exited, exit code 3");
    }

    #[test]
    fn screen_fits_the_terminal_and_output_is_bounded() {
        let mut screen = screen(&b"x".repeat(1 << 20));
        for _ in 0..2 * KEPT {
            screen.print(b"y\n");
        }
        assert_eq!(screen.output.len(), KEPT);
        screen.add(Update::Sample(Box::default()));
        for (columns, rows) in [(80, 24), (20, 5), (1, 2), (300, 100)] {
            let lines = screen.lines(columns, rows);
            assert!(lines.iter().all(|line| width(line) <= columns), "{columns} {lines:?}");
            assert!(lines.len() <= rows, "{rows} {lines:?}");
        }
    }
}
