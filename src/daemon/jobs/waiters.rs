//! Calls that wait for a job. Each is answered once: whoever takes it answers it.

use futures_channel::oneshot;

use crate::daemon::command::BuiltTree;
use crate::daemon::command::request::{Answer, CommandError};
use crate::job::{JobId, JobView};

/// Calls that wait for a job.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Waiters {
    // RunJob calls, which wait for the start.
    starters: Vec<Answer<JobView>>,
    // StopJob and CancelJob calls, which wait for the end.
    stoppers: Vec<Answer<JobView>>,
    // TestRuntime calls, which wait for the end and the output.
    testers: Vec<Answer<(JobView, String)>>,
    // The build that gets its /work when its last process is gone.
    builder: Option<oneshot::Sender<BuiltTree>>,
    // Whether a failed start is a shortage of the node (RESOURCE_EXHAUSTED) rather than a fault.
    shortage: bool,
}

impl Waiters {
    /// A RunJob call waits for the start.
    pub(in crate::daemon) fn await_start(&mut self, starter: Answer<JobView>) {
        self.starters.push(starter);
    }

    /// Whether one does.
    pub(in crate::daemon) fn await_any_start(&self) -> bool {
        !self.starters.is_empty()
    }

    /// The calls that wait for the start.
    pub(in crate::daemon) fn take_starters(&mut self) -> Vec<Answer<JobView>> {
        std::mem::take(&mut self.starters)
    }

    /// A StopJob or CancelJob call waits for the end.
    pub(in crate::daemon) fn await_end(&mut self, stopper: Answer<JobView>) {
        self.stoppers.push(stopper);
    }

    /// The calls that wait for the end.
    pub(in crate::daemon) fn take_stoppers(&mut self) -> Vec<Answer<JobView>> {
        std::mem::take(&mut self.stoppers)
    }

    /// A TestRuntime call, or a build, waits for the end and the output.
    pub(in crate::daemon) fn await_output(&mut self, tester: Answer<(JobView, String)>) {
        self.testers.push(tester);
    }

    /// The calls that wait for the output.
    pub(in crate::daemon) fn take_testers(&mut self) -> Vec<Answer<(JobView, String)>> {
        std::mem::take(&mut self.testers)
    }

    /// A build gets its /work.
    pub(in crate::daemon) fn await_work(&mut self, builder: oneshot::Sender<BuiltTree>) {
        self.builder = Some(builder);
    }

    /// The build that gets its /work.
    pub(in crate::daemon) fn take_builder(&mut self) -> Option<oneshot::Sender<BuiltTree>> {
        self.builder.take()
    }

    /// Its start has failed: whether because the node has too little of something now.
    pub(in crate::daemon) fn set_shortage(&mut self, is_shortage: bool) {
        self.shortage = is_shortage;
    }

    /// The error for a RunJob caller whose job could not be started.
    pub(super) fn refusal(&self, why: String) -> CommandError {
        if self.shortage { CommandError::Exhausted(why) } else { CommandError::SetUp(why) }
    }

    /// Tells all of them that the job was deleted. They would hear that the daemon shuts down.
    pub(in crate::daemon) fn dismiss(&mut self, id: JobId) {
        let gone = CommandError::NotFound(format!("{id} (it was deleted)"));
        for caller in self.take_starters().into_iter().chain(self.take_stoppers()) {
            let _ = caller.send(Err(gone.clone()));
        }
        for tester in self.take_testers() {
            let _ = tester.send(Err(gone.clone()));
        }
    }
}
