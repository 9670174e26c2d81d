use proptest::prelude::*;

use super::*;
use crate::config::daemon::DaemonConfig;
use crate::pb::joblet::{JobRequirement, OutputStream};

/// A change that makes a valid message invalid.
type Change<M> = fn(&mut M);

fn rules_of(config: &DaemonConfig) -> Rules {
    Rules::new(config, CoreSet::parse("0-3").unwrap(), 1024).unwrap()
}

fn rules() -> Rules {
    rules_of(&DaemonConfig::default())
}

fn request() -> RunJobRequest {
    RunJobRequest { command: "true".into(), ..Default::default() }
}

fn accepted(request: RunJobRequest) -> (JobSpec, Vec<Upload>) {
    let (spec, uploads) = run(request, &rules()).unwrap();
    (*spec, uploads)
}

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The kind and the text of a refusal.
fn refused(request: RunJobRequest) -> (char, String) {
    refused_by(request, &rules())
}

fn refused_by(request: RunJobRequest, rules: &Rules) -> (char, String) {
    kind(&run(request, rules).unwrap_err())
}

fn kind(refusal: &Refusal) -> (char, String) {
    let kind = match refusal {
        Refusal::Missing(_) => 'm',
        Refusal::Invalid(_) | Refusal::Upload(_) => 'i',
        Refusal::Forbidden(_) => 'f',
        Refusal::NotFound(_) => 'n',
        Refusal::Exhausted(_) => 'e',
    };
    (kind, refusal.to_string())
}

#[test]
fn a_bare_command_gets_the_nodes_defaults() {
    let (spec, uploads) = accepted(request());
    assert_eq!(spec.limits.cpu.unwrap().get(), 100);
    assert_eq!(spec.limits.memory.unwrap().mib(), 512);
    assert_eq!((spec.limits.io, spec.limits.cores, spec.limits.pids), (None, None, 4096));
    assert_eq!(spec.work_dir, "/work");
    assert_eq!((spec.network, spec.user), (NetworkMode::Bridge, User::Root));
    assert_eq!(spec.timeout, Some(Duration::from_secs(3600)));
    assert!(uploads.is_empty() && spec.upload_paths.is_empty());
}

#[test]
fn every_requested_field_arrives_in_the_spec_unchanged() {
    let (spec, uploads) = accepted(RunJobRequest {
        name: "nightly".into(),
        command: "./run.sh".into(),
        args: vec![String::new(), "a && b".into(), "-x".into()],
        maxCpu: 250,
        cpuCores: " 0-2 ".into(),
        maxMemory: 64,
        maxIobps: 10_000_000,
        uploads: vec![
            FileUpload { path: "d".into(), isDirectory: true, mode: 0x8000_01ed, ..Default::default() },
            FileUpload { path: "d/f".into(), content: vec![0, 255], mode: 0o4755, ..Default::default() },
        ],
        network: "none".into(),
        workDir: "d".into(),
        environment: map(&[("B", "2"), ("A", "1"), ("BOTH", "plain")]),
        secret_environment: map(&[("TOKEN", "hunter2"), ("BOTH", "secret")]),
        timeout: "30s".into(),
        ..Default::default()
    });
    assert_eq!((spec.name.as_str(), spec.command.as_str()), ("nightly", "./run.sh"));
    assert_eq!(spec.args, ["", "a && b", "-x"]);
    assert_eq!(spec.limits.cpu.unwrap().get(), 250);
    assert_eq!(spec.limits.cores.unwrap().to_string(), "0-2");
    assert_eq!(spec.limits.memory.unwrap().mib(), 64);
    assert_eq!(spec.limits.io.unwrap().get(), 10_000_000);
    assert_eq!((uploads[0].mode, uploads[0].is_directory), (0o755, true));
    assert_eq!((uploads[1].mode, uploads[1].content.as_slice()), (0o755, &[0, 255][..]));
    assert_eq!(spec.upload_paths, ["d", "d/f"]);
    assert_eq!(spec.work_dir, "/work/d");
    assert_eq!(spec.environment, [("A".into(), "1".into()), ("B".into(), "2".into())]);
    assert_eq!(
        spec.secrets,
        [("BOTH".into(), Secret::new("secret")), ("TOKEN".into(), Secret::new("hunter2"))]
    );
    assert_eq!(spec.timeout, Some(Duration::from_secs(30)));
}

#[test]
fn gpus_of_a_job_are_a_number_and_perhaps_memory() {
    let asked = |gpu_count, gpu_memory_mb| RunJobRequest { gpu_count, gpu_memory_mb, ..request() };
    let wish = |request| run(request, &rules_of(&DaemonConfig::default())).unwrap().0.gpus;
    assert_eq!(wish(asked(0, 0)), None);
    assert_eq!(wish(asked(2, 8192)).map(|wish| (wish.count, wish.memory_mib)), Some((2, 8192)));
    for (request, word) in [
        (asked(-1, 0), "invalid GPU count: -1"),
        (asked(1, -1), "invalid GPU memory"),
        (asked(0, 1), "gpu_count"),
    ] {
        let (kind, text) = refused(request);
        assert!(kind == 'i' && text.contains(word), "{kind}: {text}");
    }
}

#[test]
fn volumes_of_a_job_are_names_each_once() {
    let ask = |volumes: &[&str]| {
        let volumes = volumes.iter().map(|text| (*text).to_owned()).collect();
        run(RunJobRequest { volumes, ..request() }, &rules_of(&DaemonConfig::default()))
    };
    let texts = |spec: JobSpec| spec.volumes.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(*ask(&["data", "models:ro"]).unwrap().0), ["data", "models:ro"]);
    for (volumes, why) in [
        (&["data:rw"][..], "is no way to use it"),
        (&["../data"], "letters, digits"),
        (&["data", "data:ro"], "stands twice"),
        (&[""], "1 to 63 characters"),
    ] {
        let refused = ask(volumes).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn egress_list_is_the_clients_or_the_nodes_within_its_maximum() {
    let mut config = DaemonConfig::default();
    let ask = |config: &DaemonConfig, network: &str, egress: &[&str]| {
        let egress = egress.iter().map(|entry| (*entry).to_owned()).collect();
        let asked = RunJobRequest { network: network.into(), egress, ..request() };
        let spec = run(asked, &rules_of(config)).map(|(spec, _)| spec.egress);
        spec.map(|list| list.map(|list| list.texts().join(","))).map_err(|e| kind(&e))
    };
    assert_eq!(ask(&config, "bridge", &[]), Ok(None));
    assert_eq!(ask(&config, "bridge", &["A.org", "a.org"]), Ok(Some("a.org".into())));
    assert_eq!(ask(&config, "", &["a.org"]), Ok(Some("a.org".into())));
    let (kind, text) = ask(&config, "none", &["a.org"]).unwrap_err();
    assert!(kind == 'i' && text.contains("use network isolated or bridge"), "{text}");
    let (kind, text) = ask(&config, "bridge", &["a b"]).unwrap_err();
    assert!(kind == 'i' && text.starts_with("egress entry \"a b\""), "{text}");
    config.network.egress.maximum = vec!["*.a.org".into()];
    assert_eq!(ask(&config, "isolated", &[]), Ok(Some("*.a.org".into())));
    assert_eq!(ask(&config, "none", &[]), Ok(None));
    let (kind, text) = ask(&config, "isolated", &["x.a.org", "b.org"]).unwrap_err();
    assert!(kind == 'f' && text.contains("entry b.org is beyond"), "{text}");
    config.network.egress.default = vec!["x.a.org".into()];
    assert_eq!(ask(&config, "isolated", &[]), Ok(Some("x.a.org".into())));
}

#[test]
fn rate_is_the_clients_or_the_nodes_and_never_above() {
    let mut config = DaemonConfig::default();
    config.network.rate.up = 1 << 20;
    let ask = |network: &str, up, down| {
        let asked =
            RunJobRequest { network: network.into(), net_rate_up: up, net_rate_down: down, ..request() };
        let spec = run(asked, &rules_of(&config)).map(|(spec, _)| (spec.rate.up, spec.rate.down));
        spec.map_err(|e| kind(&e))
    };
    assert_eq!(ask("bridge", 0, 0), Ok((1 << 20, 0)));
    assert_eq!(ask("lab", 4096, 1 << 30), Ok((4096, 1 << 30)));
    assert_eq!(ask("none", 0, 0), Ok((0, 0)), "it has no wire");
    let (kind, text) = ask("isolated", 2 << 20, 0).unwrap_err();
    assert!(kind == 'i' && text.contains("above network.rate.up of this node, 1048576"), "{text}");
}

#[test]
fn a_schedule_is_an_rfc_3339_time_within_ten_years() {
    let at = |text: &str| {
        let mut request = request();
        request.schedule = text.into();
        run(request, &rules()).map(|(spec, _)| spec.not_before_ns).map_err(|e| e.to_string())
    };
    assert_eq!(at("1970-01-01T01:00:01.5+01:00"), Ok(Some(1_500_000_000)));
    assert_eq!(at(""), Ok(None));
    for bad in ["soon", "2026-01-01", "2026-02-30T00:00:00Z", "9999-01-01T00:00:00Z", "2026-01-01T00:00:00"] {
        let why = at(bad).unwrap_err();
        assert!(why.starts_with(&format!("invalid schedule format: \"{bad}\": ")), "{why}");
    }
}

#[test]
fn a_request_id_is_short_and_printable() {
    for (id, ok) in [("x", true), ("a b", false), ("\n", false), (&"x".repeat(129), false), ("é", false)] {
        let mut request = request();
        request.request_id = id.into();
        assert_eq!(run(request, &rules()).is_ok(), ok, "{id:?}");
    }
}

#[test]
fn field_that_joblet_sets_is_refused_from_clients() {
    let set: [(&str, Change<RunJobRequest>); 3] = [
        ("workflowUuid", |r| r.workflowUuid = "x".into()),
        ("jobUuid", |r| r.jobUuid = "x".into()),
        ("requirements", |r| r.requirements = vec![JobRequirement::default()]),
    ];
    for (field, change) in set {
        let mut request = request();
        change(&mut request);
        assert_eq!(
            refused(request),
            ('i', format!("field \"{field}\" is set by joblet itself, not by clients"))
        );
    }
}

#[test]
fn hostile_values_are_refused_with_the_name_of_their_field() {
    let set: [(&str, Change<RunJobRequest>); 19] = [
        ("command is required", |r| r.command.clear()),
        ("command contains dangerous characters", |r| r.command = "ls;id".into()),
        ("NUL", |r| r.command = "ls\0".into()),
        ("args[0]", |r| r.args = vec!["\0".into()]),
        ("name", |r| r.name = "\u{1b}[2J".into()),
        ("maxCPU cannot be negative", |r| r.maxCpu = -1),
        ("maxCPU 10001", |r| r.maxCpu = 10_001),
        ("maxMemory cannot be negative", |r| r.maxMemory = i32::MIN),
        ("job creation failed: maxMemory exceeds system limits", |r| r.maxMemory = 1025),
        ("maxIOBPS 1 ", |r| r.maxIobps = 1),
        ("cpuCores", |r| r.cpuCores = "a".into()),
        ("cpuCores \"4\": jobs on this node can use cores 0-3", |r| r.cpuCores = "4".into()),
        ("cpuCores has", |r| r.cpuCores = "0,".repeat(1 << 20)),
        ("workDir", |r| r.workDir = "/proc/self/fd/7".into()),
        ("workDir has", |r| r.workDir = "\u{1b}".repeat(1 << 20)),
        ("upload path", |r| {
            r.uploads = vec![FileUpload { path: "../x".into(), ..Default::default() }];
        }),
        ("JOB_ID", |r| r.environment = map(&[("JOB_ID", "x")])),
        ("name", |r| r.secret_environment = map(&[("A=B", "x")])),
        ("timeout", |r| r.timeout = "-1s".into()),
    ];
    for (part, change) in set {
        let mut request = request();
        change(&mut request);
        let (kind, text) = refused(request);
        assert!(kind == 'i' && text.contains(part) && text.len() < 500, "{part}: {kind} {text}");
    }
}

#[test]
fn a_refusal_never_repeats_a_secret() {
    let request = RunJobRequest { secret_environment: map(&[("T", "hun\0ter2")]), ..request() };
    assert!(!refused(request).1.contains("ter2"));
}

#[test]
fn a_timeout_above_the_nodes_bound_is_refused_and_names_the_key() {
    let timeout = |text: &str| accepted(RunJobRequest { timeout: text.into(), ..request() }).0.timeout;
    assert_eq!(timeout("1h"), Some(Duration::from_secs(3600)));
    let (kind, text) = refused(RunJobRequest { timeout: "90m".into(), ..request() });
    assert_eq!(kind, 'i');
    assert_eq!(
        text,
        "invalid timeout \"90m\": joblet.jobTimeout of this node allows at most 1h; ask for less, or raise that key"
    );
    assert_eq!(timeout("1m30s"), Some(Duration::from_secs(90)));
    for bad in ["0s", "0", "30", "1x", "9999999h"] {
        let (kind, text) = refused(RunJobRequest { timeout: bad.into(), ..request() });
        assert!(kind == 'i' && text.starts_with("invalid timeout"), "{text}");
    }
    let mut config = DaemonConfig::default();
    config.joblet.job_timeout = Duration::ZERO;
    let spec = |request| run(request, &rules_of(&config)).unwrap().0;
    assert_eq!(spec(request()).timeout, None);
    let long = RunJobRequest { timeout: "900h".into(), ..request() };
    assert_eq!(spec(long).timeout, Some(Duration::from_secs(900 * 3600)));
}

#[test]
fn networks_with_bad_names_or_not_allowed_are_named() {
    let ask = |name: &str, rules: &Rules| {
        let request = RunJobRequest { network: name.into(), ..request() };
        run(request, rules).map(|(spec, _)| spec.network).map_err(|e| kind(&e))
    };
    for mode in [NetworkMode::None, NetworkMode::Isolated, NetworkMode::Bridge] {
        assert_eq!(ask(mode.as_str(), &rules()), Ok(mode));
    }
    for name in ["lab", "NONE"] {
        assert_eq!(
            ask(name, &rules()),
            Ok(NetworkMode::Custom(name.parse().unwrap())),
            "the loop looks for it"
        );
    }
    for name in ["bridge ", "a/b", "-x"] {
        let (kind, text) = ask(name, &rules()).unwrap_err();
        assert!(kind == 'i' && text.contains(&format!("\"{name}\" cannot be the name")), "{text}");
    }
    let (kind, text) = ask("host", &rules()).unwrap_err();
    assert!(kind == 'f' && text.contains("network.allow_host"), "{text}");
    let (_, text) = ask(&"x".repeat(1 << 20), &rules()).unwrap_err();
    assert!(text.len() < 300);
    let mut config = DaemonConfig::default();
    config.network.allow_host = true;
    assert_eq!(ask("host", &rules_of(&config)), Ok(NetworkMode::Host));
    assert_eq!(ask("", &rules_of(&config)), Ok(NetworkMode::Bridge));
    config.network.default_network = "host".into();
    assert_eq!(ask("", &rules_of(&config)), Ok(NetworkMode::Host));
}

#[test]
fn user_is_the_clients_or_the_nodes_and_no_other_word() {
    let ask = |name: &str, rules: &Rules| {
        let request = RunJobRequest { user: name.into(), ..request() };
        run(request, rules).map(|(spec, _)| spec.user).map_err(|e| kind(&e))
    };
    assert_eq!(ask("", &rules()), Ok(User::Root));
    assert_eq!(ask("job", &rules()), Ok(User::Job));
    let mut config = DaemonConfig::default();
    config.process.default_user = User::Job;
    assert_eq!(ask("", &rules_of(&config)), Ok(User::Job));
    assert_eq!(ask("root", &rules_of(&config)), Ok(User::Root));
    let long = "x".repeat(1 << 20);
    for wrong in ["nobody", "0", "JOB", " job", long.as_str()] {
        let (kind, text) = ask(wrong, &rules()).unwrap_err();
        assert!(kind == 'i' && text.starts_with("invalid user \"") && text.len() < 300, "{text}");
    }
}

#[test]
fn zero_default_is_no_limit_and_a_small_host_lowers_the_default() {
    let mut config = DaemonConfig::default();
    config.joblet.default_cpu_limit = 0;
    let rules = Rules::new(&config, CoreSet::parse("0").unwrap(), 256).unwrap();
    let (spec, _) = run(request(), &rules).unwrap();
    assert_eq!(spec.limits.cpu, None);
    assert_eq!(spec.limits.memory.unwrap().mib(), 256);
    config.joblet.max_memory_limit = 2048;
    config.joblet.default_memory_limit = 0;
    let rules = rules_of(&config);
    let (spec, _) = run(request(), &rules).unwrap();
    assert_eq!(spec.limits.memory, None);
    let ask = |mib| run(RunJobRequest { maxMemory: mib, ..request() }, &rules);
    assert!(ask(2048).is_ok() && ask(2049).is_err());
}

#[test]
fn the_paths_of_very_many_uploads_do_not_fill_replies() {
    let file = |i| FileUpload { path: format!("{i:0>100}"), ..Default::default() };
    let uploads = (0..5000).map(file).collect();
    let (spec, uploads) = accepted(RunJobRequest { uploads, ..request() });
    assert_eq!(uploads.len(), 5000);
    let bytes: usize = spec.upload_paths.iter().map(String::len).sum();
    assert!(bytes <= SHOWN_PATHS + 100, "{bytes}");
    let last = spec.upload_paths.last().unwrap();
    assert_eq!(*last, format!("... and {} more", 5001 - spec.upload_paths.len()));
}

#[test]
fn a_job_is_named_by_an_id_or_a_prefix_and_long_texts_name_none() {
    assert_eq!(job(" F47AC10B ").unwrap(), JobRef::Prefix("f47ac10b".into()));
    assert_eq!(kind(&job("").unwrap_err()), ('i', "uuid is required".into()));
    assert_eq!(kind(&job("f4").unwrap_err()).0, 'i');
    let (kind, text) = kind(&job(&"\u{1b}".repeat(1 << 20)).unwrap_err());
    assert!(kind == 'n' && text.starts_with("job not found: ") && text.len() < 500, "{text}");
}

#[test]
fn log_request_is_converted_and_invalid_fields_refused_by_name() {
    let plain = GetJobLogsReq { uuid: "f47a".into(), ..Default::default() };
    assert_eq!(logs(&plain).unwrap(), (JobRef::Prefix("f47a".into()), LogQuery::default()));
    let all = GetJobLogsReq {
        stream: OutputStream::OUTPUT_STREAM_STDERR.into(),
        filter: "x".repeat(FILTER),
        since_ns: 5,
        until_ns: 5,
        tail: Some(0),
        no_follow: true,
        from_seq: 7,
        ..plain.clone()
    };
    let query = LogQuery {
        stream: Some(Stream::Stderr),
        filter: Some(Needle::new("x".repeat(FILTER).as_bytes())),
        since_ns: Some(5),
        until_ns: Some(5),
        tail: Some(0),
        no_follow: true,
        from_sequence: 7,
    };
    assert_eq!(logs(&all).unwrap().1, query);
    let wrong: [(&str, Change<GetJobLogsReq>); 7] = [
        ("invalid stream 3: 1 is stdout", |r| r.stream = protobuf::EnumOrUnknown::from_i32(3)),
        ("filter has 1025 bytes, at most 1024", |r| r.filter = "x".repeat(FILTER + 1)),
        ("filter has a line break", |r| r.filter = "a\nb".into()),
        ("since_ns cannot be negative", |r| r.since_ns = -1),
        ("until_ns cannot be negative", |r| r.until_ns = i64::MIN),
        ("until_ns is before since_ns", |r| (r.since_ns, r.until_ns) = (2, 1)),
        ("tail cannot be negative", |r| r.tail = Some(-1)),
    ];
    for (expected, change) in wrong {
        let mut request = plain.clone();
        change(&mut request);
        let (kind, text) = kind(&logs(&request).unwrap_err());
        assert!(kind == 'i' && text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn page_request_is_converted_and_invalid_values_are_refused() {
    let ask = |limit, token: &str, statuses: &[&str]| {
        page(&EmptyRequest {
            limit,
            page_token: token.into(),
            statuses: statuses.iter().map(|s| (*s).to_owned()).collect(),
            ..Default::default()
        })
        .map_err(|e| kind(&e))
    };
    assert_eq!(ask(0, "", &[]), Ok(Some(Page::default())));
    assert_eq!(
        ask(10, "42", &["running", "CANCELED"]),
        Ok(Some(Page { limit: 10, after: 42, statuses: vec![Status::Running, Status::Canceled] }))
    );
    // An empty filter means all, so a filter that no job can pass must not become one.
    assert_eq!(ask(0, "", &["PENDING"]), Ok(None));
    for (limit, token, statuses) in [
        (-1, "", &[][..]),
        (0, "x", &[]),
        (0, "+1", &[]),
        (0, "99999999999999999999", &[]),
        (0, "", &["DONE"]),
    ] {
        assert_eq!(ask(limit, token, statuses).unwrap_err().0, 'i');
    }
}

proptest! {
    #[test]
    fn conversion_of_a_run_request_never_panics_or_accepts_a_nul(
        command in ".{0,20}", arg in any::<String>(), work in any::<String>(), cores in "[0-9,\\- ]{0,12}",
        timeout in "[0-9hms.]{0,8}", name in any::<String>(), value in any::<String>(), path in any::<String>(),
        numbers in any::<(i32, i32, i32, u32)>(),
    ) {
        let request = RunJobRequest {
            command, args: vec![arg], workDir: work, cpuCores: cores, timeout,
            maxCpu: numbers.0, maxMemory: numbers.1, maxIobps: numbers.2,
            environment: [(name, value)].into(),
            uploads: vec![FileUpload { path, mode: numbers.3, ..Default::default() }],
            ..Default::default()
        };
        if let Ok((spec, uploads)) = run(request, &rules()) {
            prop_assert!(!uploads[0].path.contains(&0));
            let texts = spec.args.iter().chain([&spec.command, &spec.work_dir]);
            for text in texts.chain(spec.environment.iter().flat_map(|(name, value)| [name, value])) {
                prop_assert!(!text.contains('\0'));
            }
        }
    }
}
