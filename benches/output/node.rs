//! A real node whose jobs write logs.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use joblet::pb::joblet::{
    DeleteJobReq, FileUpload, GetJobLogsReq, GetJobStatusReq, OutputStream, RunJobRequest, StopJobReq,
};
use joblet::pb::joblet_grpc::JobServiceClient;

use super::helper::TestDaemon;
use super::helper::wait::{holds, within};
use super::process::{Process, Used};
use super::producer::{self, Corpus, LINE, Run};

/// The longest time that one job is waited for.
const PATIENCE: Duration = Duration::from_secs(300);

/// A daemon, its history process and a channel to it.
pub struct Node {
    daemon: TestDaemon,
    client: JobServiceClient,
    program: Vec<u8>,
}

/// The node's own use for one job, without the job itself.
pub struct Cost {
    pub daemon: Used,
    pub history: Used,
    /// Growth of their memory in MiB at its peak.
    pub daemon_grown: f64,
    pub history_grown: f64,
}

impl Node {
    /// A node with these keys of its configuration.
    pub fn start<const N: usize>(keys: [(&str, serde_yaml::Value); N]) -> Node {
        let daemon = TestDaemon::with(keys);
        let client = daemon.client("default");
        let program = fs::read(producer::program()).expect("the producer");
        Node { daemon, client, program }
    }

    pub fn end(self) {
        self.daemon.leave();
    }

    pub fn client(&self) -> &JobServiceClient {
        &self.client
    }

    pub fn daemon(&self) -> Process {
        Process(self.daemon.pid())
    }

    /// The history process.
    pub fn history(&self) -> Process {
        self.daemon().child("persist").expect("the node has a history process")
    }

    /// The directory of a job's output in history.
    pub fn logs(&self, job: &str) -> PathBuf {
        self.daemon.dir().join("logs").join(job)
    }

    /// The size of what history has of a job, its index left out.
    pub fn stored(&self, job: &str) -> u64 {
        ["stdout.log.gz", "stderr.log.gz"].iter().map(|name| producer::size(&self.logs(job).join(name))).sum()
    }

    pub fn run(&self, command: &str, args: &[&str], uploads: Vec<FileUpload>) -> String {
        let args = args.iter().map(|word| (*word).to_owned()).collect();
        let request = RunJobRequest { command: command.into(), args, uploads, ..Default::default() };
        self.client.run_job(&request).expect("the job starts").jobUuid
    }

    /// Starts the producer as a job.
    pub fn produce(&self, corpus: Corpus, lines: u64, pace: Option<u64>) -> String {
        let file = |path: &str, content: Vec<u8>, mode| FileUpload {
            path: path.into(),
            content,
            mode,
            ..Default::default()
        };
        let mut uploads = vec![file("log_lines", self.program.clone(), 0o755)];
        if corpus == Corpus::Access {
            uploads.push(file("access.log", fs::read(producer::access_log()).expect("the log"), 0o644));
        }
        let kind = if corpus == Corpus::App { "app" } else { "access.log" };
        let (lines, pace) = (lines.to_string(), pace.map(|pace| pace.to_string()));
        let words = [Some(kind), Some(lines.as_str()), pace.as_deref()];
        let words: Vec<&str> = words.into_iter().flatten().collect();
        self.run("./log_lines", &words, uploads)
    }

    /// Runs the producer as a job until history has all of it.
    pub fn flood(&self, corpus: Corpus, lines: u64) -> (String, Run, Cost) {
        let processes = [self.daemon(), self.history()];
        let used = processes.map(Process::used);
        let resident = processes.map(|process| process.memory("VmRSS:"));
        processes.into_iter().for_each(Process::forget_peak);
        let job = self.produce(corpus, lines, None);
        let end = self.logs(&job).join("job.json");
        within(PATIENCE, || holds(end.exists())).expect("history has the job");
        let durable = producer::now();
        let [daemon, history] = [0, 1].map(|n| processes[n].used().since(&used[n]));
        let [daemon_grown, history_grown] = [0, 1].map(|n| processes[n].memory("VmHWM:") - resident[n]);
        let said = self.log(&job, OutputStream::OUTPUT_STREAM_STDERR);
        let times = producer::times(&String::from_utf8_lossy(&said)).expect("the producer says its times");
        let processor = daemon.processor() + history.processor();
        let run = Run::new(lines, times, durable, processor, self.stored(&job));
        (job, run, Cost { daemon, history, daemon_grown, history_grown })
    }

    /// All of one stream.
    pub fn log(&self, job: &str, stream: OutputStream) -> Vec<u8> {
        self.read(&GetJobLogsReq {
            uuid: job.to_owned(),
            stream: stream.into(),
            no_follow: true,
            ..Default::default()
        })
    }

    /// The bytes that a query yields.
    pub fn read(&self, request: &GetJobLogsReq) -> Vec<u8> {
        let mut stream = self.client.get_job_logs(request).expect("the log can be read");
        futures_executor::block_on(async {
            let mut bytes = Vec::new();
            while let Some(chunk) = stream.next().await {
                bytes.extend(chunk.expect("the log ends well").payload);
            }
            bytes
        })
    }

    /// Stops a job, if it runs, and waits for its end.
    pub fn stop(&self, job: &str) {
        let request = StopJobReq { uuid: job.to_owned(), ..Default::default() };
        // A job that has ended by itself is as good.
        let _ = self.client.stop_job(&request);
        let request = GetJobStatusReq { uuid: job.to_owned(), ..Default::default() };
        within(PATIENCE, || {
            let status = self.client.get_job_status(&request).ok()?.status;
            holds(["STOPPED", "COMPLETED", "FAILED"].contains(&status.as_str()))
        })
        .expect("the job ends");
    }

    /// Deletes a job that has ended, with its history.
    pub fn delete(&self, job: &str) {
        let request = DeleteJobReq { uuid: job.to_owned(), ..Default::default() };
        // History may have all of a job before its end is recorded.
        within(PATIENCE, || self.client.delete_job(&request).ok()).expect("the job can be deleted");
        within(PATIENCE, || holds(!self.logs(job).exists())).expect("its history goes");
    }
}

/// GB of a log.
pub fn gigabytes(lines: u64) -> f64 {
    (lines * LINE) as f64 / 1e9
}
