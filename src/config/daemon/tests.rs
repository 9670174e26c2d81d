use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use super::*;
use crate::job::{Controller, Enforcement};

const REFERENCE: &str = include_str!("../../../vendor-config/joblet-config.yml");
const KEYS: &str = "security: {serverCert: CERT, serverKey: KEY-TEXT, caCert: CA}\n";

fn load(text: &str, mode: u32, env: &[(&str, &str)]) -> Result<Loaded<DaemonConfig>, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("joblet-config.yml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let lookup = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string());
    DaemonConfig::load_with(Some(&path), &lookup)
}

fn refusal(text: &str) -> String {
    load(&format!("{KEYS}{text}"), 0o600, &[]).unwrap_err().to_string()
}

#[test]
fn reference_daemon_file_has_exactly_the_keys_and_defaults() {
    let (config, warnings) = DaemonConfig::parse(REFERENCE).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config, DaemonConfig::default());
    range::check(&config).unwrap();
    let written = check::paths(&serde_yaml::from_str(REFERENCE).unwrap());
    for key in check::paths(&known()).into_iter().filter(|key| !key.ends_with(".*")) {
        assert!(written.contains(&key), "{key} is missing in vendor-config/joblet-config.yml");
    }
}

#[test]
fn effective_configuration_reads_back_and_hides_the_private_key() {
    let config = load(KEYS, 0o600, &[]).unwrap().config;
    let shown = config.effective();
    assert!(shown.contains("serverKey: '***'") && !shown.contains("KEY-TEXT"), "{shown}");
    assert!(!format!("{config:?}").contains("KEY-TEXT"));
    let (again, warnings) = DaemonConfig::parse(&shown).unwrap();
    assert!(warnings.is_empty());
    assert_eq!(again.joblet, config.joblet);
    assert_eq!(again.effective(), shown);
}

#[test]
fn values_are_read_in_their_units() {
    let text = "version: 3.1\nserver: {port: 6000}\njoblet: {jobTimeout: 2h30m, stopGracePeriod: 0}\ncgroup: \
                {enforcement: best-effort, enableControllers: [pids]}\nfilesystem: {workQuota: 64M, allowedMounts: \
                [/usr]}\nlogging: {level: warn, format: json, output: /var/log/joblet.log}\n";
    let config = load(&format!("{KEYS}{text}"), 0o600, &[]).unwrap().config;
    assert_eq!(config.server.port, 6000);
    assert_eq!(config.joblet.job_timeout, Duration::from_secs(9000));
    assert_eq!(config.joblet.stop_grace_period, Duration::ZERO);
    assert_eq!(config.cgroup.enforcement, Enforcement::BestEffort);
    assert_eq!(config.cgroup.enable_controllers, [Controller::Pids]);
    assert_eq!(config.filesystem.work_quota, 64 << 20);
    assert_eq!(config.filesystem.allowed_mounts, Some(vec!["/usr".into()]));
    assert_eq!(config.logging.level, LogLevel::Warn);
    assert_eq!(config.logging.output, LogOutput::File("/var/log/joblet.log".into()));
}

#[test]
fn an_empty_section_has_its_defaults() {
    let config = load(&format!("{KEYS}server:\njoblet:\ncgroup:\n"), 0o600, &[]).unwrap().config;
    assert_eq!(config.joblet, Joblet::default());
}

#[test]
fn keys_of_features_not_built_load_with_a_warning() {
    let text = "persist: {storage: {type: local, compression: {enabled: true}}}\njoblet: {isolation: none}\n\
                volumes: {base_path: /opt/joblet/volumes}\n";
    let warnings = load(&format!("{KEYS}{text}"), 0o600, &[]).unwrap().warnings;
    assert_eq!(
        warnings,
        ["persist.storage.compression.enabled", "joblet.isolation", "volumes.base_path"]
            .map(|k| format!("{k} has no effect in this version of joblet"))
    );
}

#[test]
fn paths_of_history_follow_the_data_directory() {
    let persist = |text: &str| load(&format!("{KEYS}{text}"), 0o600, &[]).unwrap().config;
    let c = persist("dataDir: /srv/j\n");
    assert_eq!(c.ipc.socket, Path::new("/srv/j/run/persist-ipc.sock"));
    assert_eq!(c.persist.server.grpc_socket, Path::new("/srv/j/run/persist-grpc.sock"));
    assert_eq!(c.persist.storage.local.logs.directory, Path::new("/srv/j/logs"));
    assert_eq!(c.runtime.base_path, Path::new("/srv/j/runtimes"));
    let c = persist("persist: {storage: {base_dir: /big}, ipc: {socket: /run/x.sock}}\n");
    assert_eq!(c.ipc.socket, Path::new("/run/x.sock"));
    assert_eq!(c.persist.storage.local.metrics.directory, Path::new("/big/metrics"));
}

#[test]
fn dimensions_of_metrics_have_any_name() {
    let text = "persist: {storage: {cloudwatch: {metric_dimensions: {Cluster: main}}}}\n";
    let loaded = load(&format!("{KEYS}{text}"), 0o600, &[]).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.config.persist.storage.cloudwatch.metric_dimensions["Cluster"], "main");
}

#[test]
fn ids_that_do_not_suffice_for_jobs_are_refused_by_name() {
    for (text, word) in [
        ("process: {idsPerJob: 2}", "process.idsPerJob: 2 is neither 1 nor 65536"),
        (
            "process: {allowContainerProfile: true}",
            "process.allowContainerProfile: true needs process.idsPerJob: 65536",
        ),
        (
            "process: {idsPerJob: 65536}",
            "process.subidCount: 65536 ids have 1 times 65536 for a job in them, too few for joblet.maxConcurrentJobs \
             (100) and joblet.warmSandboxes (8): write 7077888, or lower these",
        ),
        (
            "process: {idsPerJob: 65536, subidCount: 65535}",
            "process.subidCount: 65535 is out of range 65536..268304384",
        ),
    ] {
        let error = refusal(text);
        assert!(error.contains(word), "{text}: {error}");
    }
    let enough = "process: {idsPerJob: 65536, allowContainerProfile: true, subidCount: 7077888}";
    assert!(load(&format!("{KEYS}{enough}"), 0o600, &[]).is_ok());
}

#[test]
fn wrong_values_of_builds_are_refused_by_name() {
    for (text, expected) in [
        ("{network: host}", "runtime.build.network: host is no network of builds"),
        ("{network: A/B}", "runtime.build.network"),
        ("{allow: ['https://x']}", "runtime.build.allow: egress entry \"https://x\": it is a URL"),
        ("{allow: ['preset:x']}", "runtime.build.allow: egress preset"),
        ("{timeout: 10ms}", "runtime.build.timeout is below 1s"),
        ("{memory: 1}", "runtime.build.memory: 1 is out of range 4.."),
    ] {
        let error = load(&format!("{KEYS}runtime: {{build: {text}}}"), 0o600, &[]).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn volumes_have_one_of_three_backends() {
    for word in ["auto", "quota", "image"] {
        let text = format!("{KEYS}volumes: {{backend: {word}}}\n");
        assert!(load(&text, 0o600, &[]).unwrap().warnings.is_empty(), "{word}");
    }
    let why = refusal("volumes: {backend: disk}");
    assert!(why.contains("volumes.backend") && why.contains("quota"), "{why}");
}

#[test]
fn wrong_values_are_refused_by_name() {
    for (text, expected) in [
        ("version: 2.0", "version \"2.0\" is not supported; this joblet reads 3.x"),
        ("server: {port: 70000}", "invalid server port: 70000 (1..65535)"),
        ("runtime: {base_path: here}", "runtime.base_path must be absolute path: here"),
        ("server: {port: 0}", "invalid server port: 0"),
        ("joblet: {spoolLimit: 65535}", "joblet.spoolLimit is below 64KiB"),
        ("joblet: {jobSpoolLimit: 1K}", "joblet.jobSpoolLimit is below 64KiB"),
        ("joblet: {spoolPolicy: wait}", "spoolPolicy"),
        ("server: {nodeId: 'a\\nb c'}", "server.nodeId has a blank"),
        ("joblet: {defaultCpuLimit: 10001}", "joblet.defaultCpuLimit: 10001 is out of range 0..10000"),
        ("joblet: {defaultCpuLimit: -1}", "joblet.defaultCpuLimit: invalid type: integer `-1`"),
        ("joblet: {defaultMemoryLimit: 3}", "joblet.defaultMemoryLimit: 3 is out of range 4.."),
        ("joblet: {maxConcurrentJobs: 0}", "joblet.maxConcurrentJobs: 0 is out of range 1..65528"),
        ("joblet: {jobTimeout: 30}", "joblet.jobTimeout: cannot read \"30\" as a duration"),
        ("joblet: {jobTimeout: 200000h}", "joblet.jobTimeout is longer than ten years"),
        ("process: {subidBase: 0}", "process.subidBase: 0 is out of range"),
        ("process: {defaultUser: nobody}", "unknown variant `nobody`, expected `root` or `job`"),
        ("process: {subidBase: 4294967000}", "process.subidBase: 4294967000 is out of range"),
        ("cgroup: {baseDir: sys/fs}", "cgroup base directory must be absolute path: sys/fs"),
        ("cgroup: {enforcement: lax}", "unknown variant `lax`, expected `strict` or `best-effort`"),
        ("cgroup: {enableControllers: [devices]}", "unknown variant `devices`"),
        ("filesystem: {workBackend: nfs}", "expected one of `auto`, `disk`, `tmpfs`"),
        ("filesystem: {allowedMounts: [/usr/../etc]}", "filesystem.allowedMounts must be absolute path"),
        ("filesystem: {extraMounts: [srv]}", "filesystem.extraMounts must be absolute path"),
        (
            "filesystem: {extraMounts: [/run/x]}",
            "filesystem.extraMounts: /run/x is refused: jobs have a /run of",
        ),
        (
            "filesystem: {allowedMounts: [/var]}",
            "filesystem.allowedMounts: /var is refused: jobs have a /var/run",
        ),
        ("network: {default_network: lab}", "\"lab\" is no mode"),
        ("network: {default_network: host}", "needs network.allow_host: true"),
        ("logging: {level: loud}", "invalid log level: loud"),
        ("logging: {output: log.txt}", "neither stdout, stderr nor an absolute path"),
        ("network: {egress: {default: [a b]}}", "network.egress.default: egress entry \"a b\""),
        (
            "network: {egress: {maximum: ['preset:x']}}",
            "network.egress.maximum: egress preset \"x\" does not exist",
        ),
        (
            "network: {egress: {default: [b.org], maximum: [a.org]}}",
            "network.egress.default: egress entry b.org is beyond",
        ),
        (
            "network: {rate: {up: 1K, down: 100}}",
            "network.rate.down: 100 is out of range 1024..1099511627776",
        ),
        ("network: {rate: {up: fast}}", "cannot read \"fast\" as a size"),
        ("joblet: {liveBuffer: 1K}", "joblet.liveBuffer: 1KiB is out of range 64KiB..1GiB"),
        ("persist: {storage: {type: s3}}", "unknown variant `s3`, expected `local` or `cloudwatch`"),
        ("persist: {storage: {type: cloudwatch}}", "cloudwatch needs server.nodeId"),
        ("ipc: {socket: /a}\npersist: {ipc: {socket: /b}}", "/b and ipc.socket is /a: they are one socket"),
        ("persist: {server: {grpc_address: ':50052'}}", "persist.server.grpc_address is not supported"),
        ("persist: {server: {tls: {enabled: true}}}", "persist.server.tls.enabled: true is not supported"),
        (
            "persist: {storage: {retention: {logs_days: 0}}}",
            "retention.logs_days: 0 is out of range 1..36500",
        ),
        ("persist: {storage: {local: {commit_delay: 1ms}}}", "commit_delay: 1ms is out of range 10ms..10m"),
        ("persist: {storage: {local: {logs: {format: csv}}}}", "unknown variant `csv`"),
        ("ipc: {buffer_size: 0}", "ipc.buffer_size: 0 is out of range 1..100000"),
        (
            "server: {nodeId: n}\npersist: {storage: {type: cloudwatch, cloudwatch: {log_retention_days: 2}}}",
            "log_retention_days: 2 is none of -1 (for ever), 0 (7 days), 1, 3, 5",
        ),
        ("joblet: {jobTimeout: 1h, jobTimeout: 2h}", "duplicate"),
        ("server: [", "did not find expected node content"),
    ] {
        let error = refusal(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn old_key_name_is_read_as_the_new_one_without_a_warning() {
    let loaded = load(&format!("{KEYS}joblet: {{readyBerths: 3, jobTimeuot: 1h}}"), 0o600, &[]).unwrap();
    assert_eq!(loaded.config.joblet.warm_sandboxes, 3);
    let unknown = "unknown key joblet.jobTimeuot is ignored; did you mean joblet.jobTimeout?";
    assert_eq!(loaded.warnings, [unknown]);
    let shown = loaded.config.effective();
    assert!(shown.contains("warmSandboxes: 3") && !shown.contains("readyBerths"), "{shown}");
}

#[test]
fn both_names_of_a_key_are_a_load_error_that_names_both() {
    let error = refusal("joblet: {readyBerths: 3, warmSandboxes: 3}");
    let expected = "joblet.readyBerths is the old name of joblet.warmSandboxes, and the file has both";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn wrong_value_under_an_old_name_is_refused_by_the_new_name() {
    for (value, expected) in [
        ("-1", "joblet.warmSandboxes: invalid type: integer `-1`, expected u32"),
        ("257", "joblet.warmSandboxes: 257 is out of range 0..256"),
    ] {
        let error = refusal(&format!("joblet: {{readyBerths: {value}}}"));
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let env = [
        ("JOBLET_SERVER_ADDRESS", "127.0.0.1"),
        ("JOBLET_SERVER_PORT", "6001"),
        ("JOBLET_NODE_ID", "n7"),
        ("JOBLET_MAX_JOBS", "3"),
        ("JOBLET_LOG_LEVEL", "DEBUG"),
        ("JOBLET_LOG_FORMAT", "json"),
    ];
    let config = load(KEYS, 0o600, &env).unwrap().config;
    assert_eq!(config.server, Server { address: "127.0.0.1".into(), port: 6001, node_id: "n7".into() });
    assert_eq!(config.joblet.max_concurrent_jobs, 3);
    assert_eq!((config.logging.level, config.logging.format), (LogLevel::Debug, LogFormat::Json));
    for (name, value) in [
        ("JOBLET_SERVER_PORT", "x"),
        ("JOBLET_MAX_JOBS", "-1"),
        ("JOBLET_LOG_LEVEL", "?"),
        ("JOBLET_LOG_FORMAT", "x"),
    ] {
        let error = load(KEYS, 0o600, &[(name, value)]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("environment variable {name}: ")), "{error}");
    }
}

#[test]
fn a_private_key_that_others_can_read_is_refused() {
    for mode in [0o644, 0o640, 0o620, 0o601] {
        let error = load(KEYS, mode, &[]).unwrap_err().to_string();
        assert!(error.contains("run: chmod 600 /"), "{mode:o}: {error}");
    }
    assert!(load(KEYS, 0o400, &[]).is_ok());
}

#[test]
fn credential_files_must_be_as_protected_as_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let (cert, key, ca) = (write("c", "CERT", 0o644), write("k", "KEY-TEXT", 0o600), write("a", "CA", 0o644));
    let text = format!("security: {{serverCert: {cert}, serverKey: {key}, caCert: {ca}}}\n");
    let security = load(&text, 0o644, &[]).unwrap().config.security;
    assert_eq!((security.server_cert.as_str(), security.server_key.expose()), ("CERT", "KEY-TEXT"));
    assert_eq!(security.ca_cert, "CA");
    let refused = |expected: &str| {
        let error = load(&text, 0o644, &[]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    write("k", "KEY-TEXT", 0o640);
    refused("/k holds a private key, but others have access to it (mode 0640); run: chmod 600 /");
    write("k", "KEY-TEXT", 0o600);
    write("a", "CA", 0o646);
    refused("/a decides who comes in, but others can change it (mode 0646); run: chmod go-w /");
    fs::remove_file(&ca).unwrap();
    refused("cannot read security.caCert from /");
    assert!(load(&text, 0o666, &[]).unwrap_err().to_string().contains("decides who comes in"));
}

#[test]
fn key_in_a_world_writable_directory_is_refused_also_by_symlink() {
    let dir = tempfile::tempdir().unwrap();
    let open = dir.path().join("open");
    fs::create_dir(&open).unwrap();
    let file = open.join("c.yml");
    fs::write(&file, KEYS).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let link = dir.path().join("link.yml");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    assert!(DaemonConfig::load_with(Some(&link), &|_| None).is_ok());
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    for path in [&file, &link] {
        let error = DaemonConfig::load_with(Some(path), &|_| None).unwrap_err().to_string();
        assert!(error.contains("everybody can replace it; run: chmod o-w"), "{error}");
    }
    fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(DaemonConfig::load_with(Some(&file), &|_| None).is_ok());
}

#[test]
fn configuration_without_certificates_is_refused_with_a_remedy() {
    let error = load("server: {port: 1}", 0o644, &[]).unwrap_err().to_string();
    assert!(error.contains("server certificates are not configured in security section"), "{error}");
    assert!(error.contains("joblet setup"), "{error}");
}

#[test]
fn a_missing_huge_or_binary_file_is_an_error_that_names_it() {
    let missing = DaemonConfig::load_with(Some(Path::new("/nowhere/x.yml")), &|_| None).unwrap_err();
    assert!(
        missing.to_string().starts_with("cannot read configuration /nowhere/x.yml: No such file"),
        "{missing}"
    );
    let zero = DaemonConfig::load_with(Some(Path::new("/dev/zero")), &|_| None).unwrap_err().to_string();
    assert!(zero.contains("larger than 4MiB"), "{zero}");
    assert!(DaemonConfig::load_with(Some(Path::new("/")), &|_| None).is_err());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(
        text in ".{0,60}",
        key in "(server|joblet|cgroup|logging|ipc|persist): *[{]?[a-zA-Z]{0,8}: *.{0,12}[}]?\n",
    ) {
        for text in [text, key] {
            let _ = DaemonConfig::parse(&text);
        }
    }
}
