//! Follows a workflow to its end, silently, as lines, or as a tree on the terminal.
//!
//! The contract has no stream for this, so rnx asks: soon again after a change, less often while nothing changes, and
//! never so often that the answers take more than a small part of a connection.

use std::io;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use protobuf::Message;
use serde::Serialize;

use super::command::QUERY;
use super::error::Result;
use super::full_screen::{self, Ending, Picture, Signals};
use super::out::Out;
use super::reconnect::Watch;
use super::render::workflow_tree::{Style, Tree};
use super::render::{is_terminal_status, workflow, workflow_changes, workflow_json};
use super::screen;
use super::server::Server;
use crate::pb::joblet::{GetWorkflowStatusRequest, GetWorkflowStatusResponse, WorkflowJob};

/// Pause between two questions behind a change.
const SHORTEST: Duration = Duration::from_millis(200);
/// Pause when nothing has changed for some questions.
const LONGEST: Duration = Duration::from_secs(1);
/// Most bytes of answers in a millisecond.
const BYTES_A_MS: u64 = 1024;
/// Rows of the last picture, which stays on the terminal.
const LAST_ROWS: usize = 500;

/// One workflow that is followed.
pub(crate) struct Follow {
    server: &'static Server,
    request: GetWorkflowStatusRequest,
    watch: Watch,
    pause: Duration,
    last: Option<GetWorkflowStatusResponse>,
}

impl Follow {
    /// Sends no question yet.
    pub(crate) fn new(server: &'static Server, uuid: &str) -> Follow {
        let request = GetWorkflowStatusRequest { workflowUuid: uuid.into(), ..Default::default() };
        Follow { server, request, watch: Watch::new(server), pause: SHORTEST, last: None }
    }

    /// The next answer after a pause, the first one at once; `None`: the one before was about a workflow that has ended.
    /// A server that went away is waited for.
    fn next(&mut self) -> Result<Option<GetWorkflowStatusResponse>> {
        if let Some(last) = &self.last {
            if is_terminal_status(&last.workflow.status) {
                return Ok(None);
            }
            // One that returns early asks early, which does no harm.
            thread::park_timeout(self.pause);
        }
        let question = |jobs: &crate::pb::joblet_grpc::JobServiceClient, option| {
            jobs.get_workflow_status_opt(&self.request, option)
        };
        let answer = match self.server.ask(QUERY, question) {
            Err(why) => self.watch.back(why, None, question)?,
            answer => answer?,
        };
        let has_changed = self.last.as_ref() != Some(&answer);
        self.pause = pause(self.pause, has_changed, answer.compute_size());
        self.last = Some(answer.clone());
        Ok(Some(answer))
    }

    /// Waits silently for the end and returns the last answer.
    pub(crate) fn end(mut self) -> Result<GetWorkflowStatusResponse> {
        while self.next()?.is_some() {}
        Ok(self.last.unwrap_or_default())
    }

    /// Prints each change on a line, and the sum when the workflow has ended; returns the last answer.
    pub(crate) fn print(mut self, out: Out) -> Result<GetWorkflowStatusResponse> {
        let mut before: Vec<WorkflowJob> = Vec::new();
        while let Some(now) = self.next()? {
            for job in workflow_changes::changed(&before, &now.jobs) {
                match out.json {
                    true => out.value_line(&Event { event: "job", body: workflow_json::job(job) })?,
                    false => out.text(&workflow_changes::line(job))?,
                }
            }
            before = now.jobs;
        }
        let last = self.last.unwrap_or_default();
        match out.json {
            true => out.value_line(&Event { event: "ended", body: workflow_json::shown(&last, false) })?,
            false => out.text(&format!("{}\n", workflow::summary(&last)))?,
        }
        Ok(last)
    }

    /// Draws the tree until the workflow has ended, the user leaves, or a signal ends us. The last picture stays on the
    /// terminal.
    pub(crate) fn draw(mut self, signals: &Signals, out: Out) -> Result<(GetWorkflowStatusResponse, Ending)> {
        let (tell, answers) = channel();
        let ask = move || loop {
            let answer = match self.next() {
                Ok(Some(answer)) => Ok(answer),
                Ok(None) => return,
                Err(why) => Err(why),
            };
            let is_over = answer.is_err();
            // A receiver that is gone means that the user has left.
            if tell.send(answer).is_err() || is_over {
                return;
            }
        };
        thread::Builder::new().name("workflow".into()).spawn(ask)?;
        let mut view = View { tree: Tree::default(), answer: None, colour: out.colour };
        let ending = full_screen::show(&answers, signals, &mut view)?;
        let lines = view.picture((screen::columns(&io::stdout()), LAST_ROWS), false);
        out.text(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
        Ok((view.answer.unwrap_or_default(), ending))
    }
}

/// The pause before the next question.
fn pause(last: Duration, has_changed: bool, bytes: u64) -> Duration {
    let pause = if has_changed { SHORTEST } else { (last * 3 / 2).min(LONGEST) };
    pause.max(Duration::from_millis(bytes / BYTES_A_MS))
}

/// One line of `--watch --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Event<T> {
    pub(crate) event: &'static str,
    #[serde(flatten)]
    pub(crate) body: T,
}

/// The state of the picture.
struct View {
    tree: Tree,
    answer: Option<GetWorkflowStatusResponse>,
    colour: bool,
}

impl View {
    fn picture(&self, size: (usize, usize), keys: bool) -> Vec<String> {
        let Some(answer) = &self.answer else {
            return vec![super::render::fit::cut("waiting for the first answer   (q leaves)", size.0)];
        };
        // Whole seconds, so that a frame is drawn again once a second and not at every beat.
        let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default();
        self.tree.lines(answer, size, Style { now: &now.to_string(), colour: self.colour, keys })
    }
}

impl Picture for View {
    type Update = GetWorkflowStatusResponse;

    fn add(&mut self, answer: GetWorkflowStatusResponse) {
        if self.answer.as_ref().is_none_or(|old| old.jobs.len() != answer.jobs.len()) {
            self.tree = Tree::of(&answer.jobs);
        }
        self.answer = Some(answer);
    }

    fn lines(&self, width: usize, rows: usize) -> Vec<String> {
        self.picture((width, rows), true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_rare_while_nothing_changes_or_much_is_sent() {
        assert_eq!(pause(LONGEST, true, 100), SHORTEST);
        let mut last = SHORTEST;
        for _ in 0..10 {
            let next = pause(last, false, 100);
            assert!(next > last || next == LONGEST);
            last = next;
        }
        assert_eq!(last, LONGEST);
        assert_eq!(pause(SHORTEST, true, 3 << 20), Duration::from_millis(3 << 10));
    }
}
