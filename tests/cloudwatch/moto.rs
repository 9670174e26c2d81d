//! History in CloudWatch: the store against a real moto server behind the strict proxy of `tests/clients/aws.py`.

use crate::cloudwatch::{
    CloudError, CloudJob, CloudRow, CloudStore, Environment, Fetched, METRICS, Statistics, Stop,
};
use crate::helper::programs::source;
use crate::helper::{eventually, python, wait};
use joblet::config::daemon::persist::CloudWatch;
use joblet::job::JobId;
use joblet::output::Stream;
use joblet::output::history::History;
use joblet::output::spool::{Row, Span};
use joblet::persist::store::{Layout, LocalStore, StoreLimits};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// moto and the AWS CLI, in versions that were tried together.
pub(crate) const PACKAGES: &[&str] = &["moto[server]==5.2.5", "awscli"];

/// A CloudWatch of this test's own.
pub(crate) struct Cloud {
    server: Child,
    port: u16,
    pub(crate) dir: tempfile::TempDir,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

pub(crate) const KEYS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "AKIDTEST"),
    ("AWS_SECRET_ACCESS_KEY", "planted-secret"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
];

impl Cloud {
    pub(crate) fn start() -> Cloud {
        let python = python::environment("aws", PACKAGES).join("bin/python");
        let mut server = Command::new(python)
            .arg(source("tests/clients/aws.py"))
            .env_remove("http_proxy")
            .env_remove("https_proxy")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap_or_else(|_| panic!("no port in {line:?}"));
        Cloud { server, port, dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Sends a request to the proxy itself.
    fn ask(&self, method: &str, body: &str) -> Value {
        let mut peer = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let length = body.len();
        let head = format!(
            "{method} /_control HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        peer.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        peer.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer:?}"))
    }

    pub(crate) fn set(&self, wishes: Value) {
        self.ask("POST", &wishes.to_string());
    }

    pub(crate) fn seen(&self) -> Value {
        self.ask("GET", "")
    }

    pub(crate) fn calls(&self, action: &str) -> u64 {
        self.seen()["actions"][action].as_u64().unwrap_or(0)
    }

    /// Queues faults for the next requests of an action.
    fn fail(&self, action: &str, faults: &[&str]) {
        let faults: Vec<_> = faults.iter().map(|fault| json!({"action": action, "fault": fault})).collect();
        self.set(json!({ "faults": faults }));
    }

    fn config(&self) -> CloudWatch {
        CloudWatch { endpoint: self.url(), region: "us-east-1".into(), ..CloudWatch::default() }
    }

    fn store(&self) -> CloudStore {
        self.store_with(self.config(), &KEYS)
    }

    fn store_with(&self, config: CloudWatch, environment: &[(&str, &str)]) -> CloudStore {
        self.store_of("node-1", config, environment)
    }

    fn store_of(&self, node: &str, config: CloudWatch, environment: &[(&str, &str)]) -> CloudStore {
        config.check(node).unwrap();
        let environment: Environment = environment.iter().copied().collect();
        CloudStore::open(config, node, &self.dir.path().join(node), &environment).unwrap()
    }

    /// Nothing that AWS refuses was sent, and nothing that the shipped policy does not permit.
    pub(crate) fn no_violations(&self) {
        let seen = self.seen();
        assert_eq!(seen["violations"], json!([]));
        let policy = std::fs::read_to_string(source("vendor-config/iam-policy.json")).unwrap();
        for action in seen["actions"].as_object().unwrap().keys() {
            assert!(policy.contains(&format!(":{action}\"")), "{action} is not in the policy");
        }
    }
}

/// Output of a job in memory: both streams' rows.
#[derive(Default)]
struct Output {
    rows: Vec<(Row, Vec<u8>)>,
    ends: [u64; 2],
}

fn now_ns() -> i64 {
    i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap()
}

impl Output {
    fn add(&mut self, stream: Stream, bytes: &[u8]) {
        let end = &mut self.ends[usize::from(stream != Stream::Stdout)];
        let span = Span::Bytes { offset: *end, length: u32::try_from(bytes.len()).unwrap() };
        *end += bytes.len() as u64;
        self.push(stream, span, bytes);
    }

    fn push(&mut self, stream: Stream, span: Span, bytes: &[u8]) {
        let sequence = self.rows.len() as u64 + 1;
        self.rows.push((Row { sequence, time_ns: now_ns(), stream, span }, bytes.to_vec()));
    }

    /// Text, cut letters, bytes, line by line and in large rows, on both streams, with a gap.
    fn mixed(rows: usize) -> Output {
        let mut output = Output::default();
        for n in 0..rows {
            let stream = if n % 5 == 3 { Stream::Stderr } else { Stream::Stdout };
            let text = format!("line {n} grün € \u{1b}[31mred\n");
            match n % 11 {
                4 => output.add(stream, &text.as_bytes()[..text.len() - 12]),
                6 => output.add(stream, &(0..=255).collect::<Vec<u8>>()),
                8 => output.add(stream, text.repeat(400).as_bytes()),
                9 => output.push(stream, Span::Lost(77), b""),
                _ => output.add(stream, text.as_bytes()),
            }
        }
        output
    }

    fn borrowed(&self) -> Vec<CloudRow<'_>> {
        self.rows.iter().map(|(row, bytes)| CloudRow { row: *row, bytes }).collect()
    }

    fn last(&self) -> u64 {
        self.rows.len() as u64
    }
}

/// Repeats a call until all is accepted, as the history process does.
fn put_all(job: &mut CloudJob, output: &Output) {
    let stored = wait::within(wait::PATIENCE, || job.put(&output.borrowed(), &Stop::new()).ok());
    assert_eq!(stored, Some(output.last()));
}

fn fetch(store: &CloudStore, id: JobId) -> (Vec<(Row, Vec<u8>)>, Fetched) {
    let mut rows = Vec::new();
    let found = store.fetch(id, &Stop::new(), |row, bytes| {
        rows.push((row, bytes.to_vec()));
        Ok::<_, CloudError>(())
    });
    (rows, found.unwrap())
}

#[test]
fn output_comes_back_exactly_through_every_fault_of_aws() {
    let cloud = Cloud::start();
    let store = cloud.store();
    let (id, output) = (JobId::random(), Output::mixed(700));
    let faults = ["throttle", "error", "reset", "reset_after", "reject", "header", "portal", "cut", "denied"];
    cloud.fail("PutLogEvents", &faults);
    let mut job = store.job(id).unwrap();
    put_all(&mut job, &output);
    assert_eq!(cloud.seen()["left"], 0);
    cloud.set(json!({"page": 70, "empty_pages": true}));
    cloud.fail("GetLogEvents", &["throttle", "reset", "header"]);
    let (rows, found) = fetch(&store, id);
    assert_eq!(rows.len(), output.rows.len());
    for (got, wanted) in rows.iter().zip(&output.rows) {
        assert_eq!(got, wanted);
    }
    // Stored and then not answered, rejected in part and sent again whole: doubles on the wire, none in what is read.
    assert!(found.doubles > 0, "{found:?}");
    let figures = store.figures();
    assert!(figures.rejected > 0 && figures.retries >= 7 && figures.lost_bytes == 0, "{figures:?}");
    assert_eq!(cloud.seen()["retention"]["/joblet/node-1/jobs"], 7);
    cloud.no_violations();
}

#[test]
fn an_outage_loses_nothing_and_a_restart_goes_on_where_it_was() {
    let cloud = Cloud::start();
    let (id, output) = (JobId::random(), Output::mixed(400));
    let (first, rest) = (output.borrowed()[..150].to_vec(), output.borrowed());
    let store = cloud.store();
    let mut job = store.job(id).unwrap();
    assert_eq!(job.put(&first, &Stop::new()).unwrap(), 150);
    cloud.set(json!({"outage": true}));
    let stop = Stop::new();
    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| job.put(&rest, &stop));
        let before = cloud.calls("PutLogEvents");
        eventually("the store tries again", || wait::holds(cloud.calls("PutLogEvents") > before + 1));
        stop.set();
        assert!(matches!(waiting.join().unwrap(), Err(CloudError::Stopped)));
    });
    drop((job, store));
    cloud.set(json!({"outage": false}));
    let store = cloud.store();
    let mut job = store.job(id).unwrap();
    assert_eq!(job.accepted().through, 150);
    put_all(&mut job, &output);
    let (rows, found) = fetch(&store, id);
    assert!(rows == output.rows);
    assert_eq!(found.doubles, 0);
    is_read_like_local_history(&cloud, &store, id, &output);
    cloud.no_violations();
}

#[test]
fn a_crash_between_the_answer_and_the_note_doubles_nothing() {
    let cloud = Cloud::start();
    let store = cloud.store();
    let (id, output) = (JobId::random(), Output::mixed(200));
    let mut job = store.job(id).unwrap();
    job.put(&output.borrowed()[..50], &Stop::new()).unwrap();
    let note = cloud.dir.path().join("node-1/cloudwatch").join(id.to_string());
    let before = std::fs::read(&note).unwrap();
    job.put(&output.borrowed()[..120], &Stop::new()).unwrap();
    drop(job);
    std::fs::write(&note, before).unwrap();
    let mut job = store.job(id).unwrap();
    assert_eq!(job.accepted().through, 50);
    put_all(&mut job, &output);
    let (rows, found) = fetch(&store, id);
    assert!(rows == output.rows && found.doubles >= 70);
    cloud.no_violations();
}

/// Fetches a job twice into local files and reads those.
fn is_read_like_local_history(cloud: &Cloud, store: &CloudStore, id: JobId, output: &Output) {
    let local = LocalStore::new(Layout::below(&cloud.dir.path().join("fetched")), StoreLimits::default());
    for _ in 0..2 {
        store.fetch_into(id, &local, &Stop::new()).unwrap();
    }
    let mut history = local.history(id).unwrap().unwrap();
    assert_eq!(history.through().unwrap(), output.last());
    for (row, bytes) in &output.rows {
        assert_eq!(history.row(row.sequence).unwrap(), Some(*row));
        if let Span::Bytes { offset, .. } = row.span {
            assert_eq!(&history.bytes(row.stream, offset, bytes.len()).unwrap(), bytes);
        }
    }
}

#[test]
fn a_peer_that_hangs_is_left_when_the_process_stops() {
    let cloud = Cloud::start();
    let (store, output, stop) = (cloud.store(), Output::mixed(20), Stop::new());
    let mut job = store.job(JobId::random()).unwrap();
    cloud.fail("PutLogEvents", &["hang"]);
    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| job.put(&output.borrowed(), &stop));
        eventually("the request hangs", || wait::holds(cloud.seen()["left"] == 0));
        stop.set();
        assert!(matches!(waiting.join().unwrap(), Err(CloudError::Stopped)));
    });
    put_all(&mut job, &output);
    cloud.no_violations();
}

#[test]
fn refused_text_becomes_a_counted_gap_and_the_rest_is_exact() {
    let cloud = Cloud::start();
    let store = cloud.store();
    let mut output = Output::mixed(60);
    output.add(Stream::Stdout, b"this is the POISON pill\n");
    for (row, bytes) in Output::mixed(60).rows {
        if !bytes.is_empty() {
            output.add(row.stream, &bytes);
        }
    }
    cloud.set(json!({"poison": "POISON"}));
    let id = JobId::random();
    put_all(&mut store.job(id).unwrap(), &output);
    assert_eq!(store.figures().lost_bytes, 24);
    let (rows, found) = fetch(&store, id);
    assert_eq!((found.lost_bytes, rows.len()), (24 + 5 * 77, output.rows.len()));
    assert_eq!(rows[60].0.span, Span::Lost(24));
    for ((got, bytes), (wanted, content)) in rows.iter().zip(&output.rows) {
        assert_eq!((got.sequence, got.stream), (wanted.sequence, wanted.stream));
        assert!(got.sequence == 61 || bytes == content);
    }
    cloud.no_violations();
}

#[test]
fn a_deleted_group_is_made_again_and_a_deleted_job_is_gone() {
    let cloud = Cloud::start();
    let store = cloud.store();
    let (id, output) = (JobId::random(), Output::mixed(40));
    let mut job = store.job(id).unwrap();
    job.put(&output.borrowed()[..10], &Stop::new()).unwrap();
    cloud.set(json!({"delete_group": "/joblet/node-1/jobs"}));
    put_all(&mut job, &output);
    assert_eq!(cloud.calls("PutRetentionPolicy"), 2);
    let (rows, found) = fetch(&store, id);
    let gone: usize = output.rows[..10].iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!((rows[0].0.sequence, found.lost_bytes), (10, gone as u64 + 2 * 77));
    assert!(rows[1..].iter().map(|(_, bytes)| bytes).eq(output.rows[10..].iter().map(|(_, bytes)| bytes)));
    store.delete(id, &Stop::new()).unwrap();
    store.delete(id, &Stop::new()).unwrap();
    assert_eq!(fetch(&store, id), (Vec::new(), Fetched::default()));
    assert_eq!(store.job(id).unwrap().accepted().through, 0);
    cloud.no_violations();
}

#[test]
fn old_output_and_a_clock_that_went_back_are_accepted() {
    let cloud = Cloud::start();
    let store = cloud.store();
    let (id, mut output) = (JobId::random(), Output::mixed(50));
    let day = 86_400_000_000_000;
    for (n, (row, _)) in output.rows.iter_mut().enumerate() {
        row.time_ns += [-30 * day, -3 * day, 0, 5 * day, -day / 2][n % 5];
    }
    put_all(&mut store.job(id).unwrap(), &output);
    assert!(fetch(&store, id).0 == output.rows);
    assert!(store.figures().times_adjusted > 0);
    cloud.no_violations();
}

/// Lines of samples every five seconds from this second on.
fn samples(from_s: i64, count: i64) -> Vec<String> {
    let line = |n: i64| {
        let value = json!({
            "version": 1, "timestamp": (from_s + 5 * n) * 1_000_000_000,
            "cpu": {"usage_usec": n, "usage_percent": n},
            "memory": {"current": (n + 1) * 1_048_576},
            "io": {"rbytes": n, "wbytes": 2 * n, "rios": 3 * n, "wios": 4 * n},
        });
        value.to_string()
    };
    (0..count).map(line).collect()
}

#[test]
fn metrics_come_back_as_statistics_of_each_minute() {
    let cloud = Cloud::start();
    let config = CloudWatch {
        metric_dimensions: [("Environment".to_owned(), "produktion & tests=1".to_owned())].into(),
        ..cloud.config()
    };
    let store = cloud.store_with(config, &KEYS);
    let from_s = (now_ns() / 1_000_000_000 - 3600) / 60 * 60;
    let lines = samples(from_s, 40);
    let lines: Vec<_> = lines.iter().map(String::as_bytes).collect();
    let id = JobId::random();
    cloud.fail("PutMetricData", &["throttle", "reset", "header"]);
    let mut job = store.job(id).unwrap();
    // The fourth minute is open until the job ends.
    assert_eq!(job.put_samples(1, &lines, false, &Stop::new()).unwrap(), 36);
    drop(job);
    let mut job = store.job(id).unwrap();
    assert_eq!(job.put_samples(1, &lines, true, &Stop::new()).unwrap(), 40);
    cloud.fail("GetMetricStatistics", &["throttle"]);
    let points = store.metrics(id, from_s - 3 * 86_400, from_s + 86_400, &Stop::new()).unwrap();
    let times: Vec<_> = points.iter().map(|point| point.time_s - from_s).collect();
    assert_eq!(times, [0, 60, 120, 180]);
    let cpu = points[1].values[0].unwrap();
    assert_eq!((cpu.minimum, cpu.maximum, cpu.count), (0.12, 0.23, 12.0));
    let memory = points[3].values[1].unwrap();
    assert_eq!(memory, Statistics { minimum: 37.0, maximum: 40.0, sum: 154.0, count: 4.0 });
    // Zeros are sent too, so all nine are there.
    assert!(points.iter().all(|point| point.values.iter().all(Option::is_some)) && METRICS.len() == 9);
    assert_eq!(store.figures().data, 36);
    cloud.no_violations();
}

#[test]
fn ended_credentials_of_container_and_instance_are_renewed() {
    let cloud = Cloud::start();
    let served = |id: &str, token: &str| json!({"AccessKeyId": id, "SecretAccessKey": "planted-secret", "Token": token, "Expiration": "2099-01-01T00:00:00Z"});
    let keys = |id: &str, token: &str| json!({ id: ["planted-secret", token] });
    cloud.set(json!({"served": served("A1", "t1"), "keys": keys("A1", "t1"), "container_token": "tok"}));
    let url = cloud.url() + "/container";
    let container = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "tok"),
        ("AWS_REGION", "us-east-1"),
    ];
    let base = cloud.url();
    let instance = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", base.as_str())];
    let output = Output::mixed(30);
    for (source, environment) in [("container", &container[..]), ("instance", &instance[..])] {
        cloud.set(json!({"served": served("A1", "t1"), "keys": keys("A1", "t1")}));
        let store = cloud.store_with(CloudWatch { region: String::new(), ..cloud.config() }, environment);
        assert_eq!(store.credentials().unwrap(), source);
        let mut job = store.job(JobId::random()).unwrap();
        job.put(&output.borrowed()[..10], &Stop::new()).unwrap();
        cloud.set(json!({"served": served("A2", "t2"), "keys": keys("A2", "t2")}));
        put_all(&mut job, &output);
    }
    cloud.no_violations();
}

#[test]
fn a_wrong_clock_is_named_and_loses_nothing() {
    let cloud = Cloud::start();
    let store = cloud.store();
    let (output, stop) = (Output::mixed(30), Stop::new());
    cloud.set(json!({"clock": 3 * 3600}));
    let id = JobId::random();
    let error = store.delete(id, &stop).unwrap_err().to_string();
    assert!(error.contains("the clock of this host differs from AWS's by 10"), "{error}");
    let mut job = store.job(id).unwrap();
    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| job.put(&output.borrowed(), &stop));
        eventually("the store tries again", || wait::holds(cloud.calls("CreateLogGroup") > 2));
        cloud.set(json!({"clock": 0}));
        assert_eq!(waiting.join().unwrap().unwrap(), output.last());
    });
    assert!(fetch(&store, id).0 == output.rows);
}

/// The environment variable that makes the next test do its work: where the server is, and the directory.
const CHILD: &str = "JOBLET_TEST_CLOUD";

#[test]
fn no_secret_is_in_the_log_at_its_most_detailed_level() {
    if let Ok(place) = std::env::var(CHILD) {
        let (url, dir) = place.split_once(' ').unwrap();
        log_in_detail(url, Path::new(dir));
        return;
    }
    let cloud = Cloud::start();
    cloud.set(json!({"keys": {"AKIDTEST": ["planted-secret", "planted-token"]}}));
    cloud.fail("PutLogEvents", &["denied", "throttle"]);
    let test = "moto::no_secret_is_in_the_log_at_its_most_detailed_level";
    let run = |clock: i64| {
        cloud.set(json!({ "clock": clock }));
        let out = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--quiet"])
            .env(CHILD, format!("{} {}", cloud.url(), cloud.dir.path().display()))
            .env("RUST_LOG", "trace")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(!text.contains("planted-"), "{text}");
        assert!(!text.contains("Signature="), "{text}");
        text
    };
    let text = run(0);
    assert!(text.contains("a request to CloudWatch failed") && text.contains("stored 20"), "{text}");
    // AWS's answer to an expired signature repeats the signed header.
    let text = run(3 * 3600);
    assert!(text.contains("Signature expired"), "{text}");
}

/// The work of the child of the test above.
fn log_in_detail(url: &str, dir: &Path) {
    let settings = joblet::diag::Settings {
        level: joblet::diag::LevelFilter::Trace,
        format: joblet::diag::Format::Text,
        output: joblet::diag::Output::Stdout,
    };
    joblet::diag::start(&settings).unwrap();
    let config = CloudWatch { endpoint: url.into(), region: "us-east-1".into(), ..CloudWatch::default() };
    let environment = KEYS.into_iter().chain([("AWS_SESSION_TOKEN", "planted-token")]).collect();
    let store = CloudStore::open(config, "node-1", dir, &environment).unwrap();
    let (id, output) = (JobId::random(), Output::mixed(20));
    if let Err(e) = store.delete(id, &Stop::new()) {
        println!("{e}");
        return;
    }
    let stored = store.job(id).unwrap().put(&output.borrowed(), &Stop::new()).unwrap();
    joblet::diag::flush();
    println!("stored {stored} of {environment:?}");
}

#[test]
fn the_aws_command_line_finds_logs_and_metrics() {
    let cloud = Cloud::start();
    let store = cloud.store();
    let (id, mut output) = (JobId::random(), Output::default());
    output.add(Stream::Stdout, b"all is well\n");
    output.add(Stream::Stdout, b"ERROR: disk is full\n");
    let mut job = store.job(id).unwrap();
    put_all(&mut job, &output);
    let from_s = (now_ns() / 1_000_000_000 - 600) / 60 * 60;
    let lines = samples(from_s, 12);
    let lines: Vec<_> = lines.iter().map(String::as_bytes).collect();
    job.put_samples(1, &lines, true, &Stop::new()).unwrap();
    let program = python::environment("aws", PACKAGES).join("bin/aws");
    let aws = |arguments: &str| {
        let mut command = Command::new(&program);
        command.args(["--endpoint-url", &cloud.url(), "--region", "us-east-1", "--output", "json"]);
        command
            .args(arguments.replace("JOB", &id.to_string()).split(' '))
            .envs(KEYS)
            .env("HOME", cloud.dir.path());
        let out = command.env_remove("http_proxy").env_remove("https_proxy").output().unwrap();
        assert!(out.status.success(), "{arguments}: {}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice::<Value>(&out.stdout).unwrap()
    };
    let found = aws("logs get-log-events --log-group-name /joblet/node-1/jobs --log-stream-name JOB-stdout");
    assert_eq!(found["events"].as_array().unwrap().len(), 2);
    assert!(found["events"][0]["message"].as_str().unwrap().contains(r#""log":"all is well\n""#), "{found}");
    let found = aws("logs filter-log-events --log-group-name /joblet/node-1/jobs --filter-pattern ERROR");
    assert_eq!(found["events"].as_array().unwrap().len(), 1, "{found}");
    let found = aws("cloudwatch list-metrics --namespace Joblet/Jobs --dimensions Name=JobID,Value=JOB");
    assert_eq!(found["Metrics"].as_array().unwrap().len(), 9, "{found}");
    let (start, end) = (from_s - 60, from_s + 300);
    let found = aws(&format!(
        "cloudwatch get-metric-statistics --namespace Joblet/Jobs --metric-name CPUUsage --dimensions Name=JobID,Value=JOB \
         Name=NodeID,Value=node-1 --start-time {start} --end-time {end} --period 60 --statistics Average Maximum"
    ));
    assert_eq!(found["Datapoints"][0]["Maximum"], 0.11, "{found}");
}

#[test]
fn jobs_of_two_nodes_stay_apart_under_one_id() {
    let cloud = Cloud::start();
    let id = JobId::random();
    let from_s = (now_ns() / 1_000_000_000 - 600) / 60 * 60;
    let nodes = ["node-1", "node-2"].map(|node| {
        let store = cloud.store_of(node, cloud.config(), &KEYS);
        let mut output = Output::default();
        output.add(Stream::Stdout, format!("from {node}\n").as_bytes());
        let mut job = store.job(id).unwrap();
        put_all(&mut job, &output);
        let lines = samples(from_s, if node == "node-1" { 12 } else { 6 });
        let lines: Vec<_> = lines.iter().map(String::as_bytes).collect();
        job.put_samples(1, &lines, true, &Stop::new()).unwrap();
        (store, output)
    });
    for ((store, output), samples) in nodes.iter().zip([12.0, 6.0]) {
        assert!(fetch(store, id).0 == output.rows);
        let points = store.metrics(id, from_s - 60, from_s + 300, &Stop::new()).unwrap();
        assert_eq!(points[0].values[0].unwrap().count, samples);
    }
    nodes[0].0.delete(id, &Stop::new()).unwrap();
    assert_eq!(fetch(&nodes[0].0, id).0, []);
    assert_eq!(fetch(&nodes[1].0, id).0.len(), 1, "another node's output is gone");
    cloud.no_violations();
}

#[test]
fn shipped_policy_has_the_documented_actions_and_no_other() {
    let policy = std::fs::read_to_string(source("vendor-config/iam-policy.json")).unwrap();
    let policy: Value = serde_json::from_str(&policy).unwrap();
    let mut actions: Vec<&str> = Vec::new();
    for statement in policy["Statement"].as_array().unwrap() {
        assert_eq!(statement["Effect"], "Allow");
        actions.extend(statement["Action"].as_array().unwrap().iter().map(|action| action.as_str().unwrap()));
    }
    let logs = [
        "CreateLogGroup",
        "CreateLogStream",
        "PutLogEvents",
        "PutRetentionPolicy",
        "DescribeLogStreams",
        "GetLogEvents",
        "FilterLogEvents",
        "DeleteLogGroup",
        "DeleteLogStream",
    ];
    let others = ["cloudwatch:PutMetricData", "cloudwatch:GetMetricStatistics", "cloudwatch:ListMetrics"];
    let mut wanted: Vec<String> = logs.iter().map(|action| format!("logs:{action}")).collect();
    wanted.extend(others.iter().chain(["ec2:DescribeRegions"].iter()).map(ToString::to_string));
    actions.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(actions, wanted);
}
