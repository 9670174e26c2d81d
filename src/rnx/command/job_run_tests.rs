use super::super::super::cli::{Parsed, parse};
use super::*;

fn invocation(line: &str) -> Invocation {
    match parse(line.split_whitespace().map(Into::into).collect()) {
        Ok(Parsed::Invoke(i)) => i,
        other => panic!("{line}: {other:?}"),
    }
}

fn sent(line: &str) -> Result<(RunJobRequest, Sent)> {
    request(&invocation(line), Uploads::default(), Out { json: false, colour: false }, true)
}

fn why(line: &str) -> String {
    let refused = options(&invocation(line).values).err().or_else(|| sent(line).err());
    refused.map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn every_flag_reaches_the_request() {
    let line = "run --max-cpu 50 --max-memory=1G --max-iobps 4M --cpu-cores 0-1 --timeout 1h30m \
                --network none --name n --request-id r1 --workdir /work/a -e A=1 -s B=2 python3 -u x.py --name y";
    let (r, sent) = sent(line).unwrap();
    assert_eq!((r.maxCpu, r.maxMemory, r.maxIobps), (50, 1024, 4 << 20));
    assert_eq!((r.cpuCores.as_str(), r.timeout.as_str(), r.network.as_str()), ("0-1", "1h30m", "none"));
    assert_eq!((r.name.as_str(), r.workDir.as_str(), r.command.as_str()), ("n", "/work/a", "python3"));
    assert_eq!(r.request_id, "r1");
    assert_eq!(r.args, ["-u", "x.py", "--name", "y"]);
    assert_eq!((r.environment["A"].as_str(), r.secret_environment["B"].as_str()), ("1", "2"));
    assert_eq!((sent.files, sent.env, sent.secrets), (0, 1, 1));
}

#[test]
fn gpus_are_a_number_with_the_memory_of_each() {
    for (text, mb) in [("8GB", 8192), ("1024MB", 1024), ("2048", 2048)] {
        let (r, _) = sent(&format!("run --gpu=2 --gpu-memory={text} true")).unwrap();
        assert_eq!((r.gpu_count, r.gpu_memory_mb), (2, mb), "{text}");
    }
    assert!(why("run --gpu-memory=8GB true").contains("--gpu-memory needs --gpu"));
    for wrong in ["-1", "x", "1.5"] {
        assert!(why(&format!("run --gpu={wrong} true")).contains("for --gpu"), "{wrong}");
    }
}

#[test]
fn a_delay_counts_from_now_and_a_wrong_one_is_refused_here() {
    let before = jiff::Timestamp::now();
    let given = schedule(&invocation("run --schedule 1s --schedule=2h30m true").values).unwrap().unwrap();
    let waits = given.time.duration_since(before);
    assert!((8_999..9_060).contains(&waits.as_secs()), "{waits:?}");
    let refused = schedule(&invocation("run --schedule=soon true").values).unwrap_err();
    assert!(refused.to_string().starts_with("invalid value \"soon\" for --schedule: "));
    assert!(schedule(&invocation("run true").values).unwrap().is_none());
}

#[test]
fn run_without_flags_sends_no_field_so_server_defaults_apply() {
    let (r, _) = sent("run true").unwrap();
    assert_eq!(r, RunJobRequest { command: "true".into(), ..Default::default() });
}

#[test]
fn later_scalars_win_in_both_spellings() {
    assert_eq!(sent("run --max-cpu 1 --max-cpu 2 true").unwrap().0.maxCpu, 2);
    assert_eq!(sent("run --workdir a --work-dir b true").unwrap().0.workDir, "b");
    assert_eq!(sent("run --work-dir b --workdir a true").unwrap().0.workDir, "a");
}

#[test]
fn wrong_run_flags_are_refused_before_any_call_to_the_server() {
    assert!(why("run --max-cpu x true").starts_with("invalid value \"x\" for --max-cpu: "));
    assert!(why("run --timeout soon true").starts_with("invalid value \"soon\" for --timeout: "));
    assert_eq!(why("run --request-id= true"), "invalid value \"\" for --request-id: it is empty");
    assert!(why("run --rm true").starts_with("--rm needs --wait or --follow"));
    assert!(why("run -d -w true").starts_with("--detach and --wait or --follow exclude each other"));
    assert_eq!(why("run --rm --follow true"), "");
}

#[test]
fn events_of_a_followed_job_carry_their_kind() {
    let chunk = DataChunk { payload: b"x".to_vec(), seq: 1, ..Default::default() };
    let line = serde_json::to_string(&Event::<json::Chunk<'_>>::of(&chunk)).unwrap();
    assert_eq!(line, r#"{"event":"output","timestamp":null,"stream":"","seq":1,"data":"x"}"#);
}

#[test]
fn workflow_flag_of_other_clients_names_the_command_of_ours() {
    for line in ["job run --workflow=flow.yaml:build", "run --workflow flow.yaml true"] {
        let refused = refuse_workflow(&invocation(line).values).unwrap_err();
        assert_eq!(refused.hint_text(), Some("rnx workflow run flow.yaml"), "{line}");
    }
    assert!(refuse_workflow(&invocation("run true").values).is_ok());
}
